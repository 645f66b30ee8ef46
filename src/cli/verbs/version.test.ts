import { expect, test } from "bun:test";
import { version } from "./version.ts";

test("the version is package.json's", async () => {
  const { version: written } = (await Bun.file(new URL("../../../package.json", import.meta.url)).json()) as { version: string };
  expect(version).toBe(written);
});
