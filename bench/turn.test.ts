import { expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { takeTurn } from "./turn.ts";

const file = join(tmpdir(), `weft-bench-${userInfo().uid}.pid`);

test.skipIf(existsSync(file))("a turn left behind by a bench that is dead is taken over, and a turn given back is free", async () => {
  writeFileSync(file, "999999999");
  const said: string[] = [];
  const leave = await takeTurn((line) => said.push(line), 1000);
  expect(existsSync(file)).toBe(true);
  leave();
  expect(existsSync(file)).toBe(false);
  expect(said).toEqual([]);
});
