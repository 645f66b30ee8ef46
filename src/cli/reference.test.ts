import { expect, test } from "bun:test";
import { reference, referencePath } from "./reference.ts";

test("docs/reference/cli.md is what the table of verbs says (bun src/cli/reference.ts)", async () => {
  expect(await Bun.file(referencePath).text()).toBe(reference());
});
