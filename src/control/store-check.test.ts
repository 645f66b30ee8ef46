// `weft store check` and `weft store cut-log` beside what a whole process shows of them (test/e2e/damaged-log.test.ts): files that are somebody else's, many faults at
// once, and words that are not known.

import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lockFolder } from "./lock.ts";
import { key, must, object } from "./store/contract.ts";
import { openSqliteStore } from "./store/sqlite.ts";
import { checkFolder, cutLog, main } from "./store-check.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});
function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "weft-store-check-"));
  folders.push(made);
  return made;
}

async function store(changes: number): Promise<string> {
  const dir = folder();
  const made = openSqliteStore(join(dir, "weft.db"));
  for (let at = 0; at < changes; at++) must(await made.create(key(`n${at}`), object(`n${at}`, at)));
  await made.close();
  return dir;
}

test("a whole store has nothing wrong, and nothing is cut", async () => {
  const dir = await store(5);
  expect(checkFolder(dir)).toEqual([]);
  expect(() => cutLog(dir)).toThrow("is not damaged; nothing was done");
});

test("of many faults the first are named and the others counted", async () => {
  const dir = await store(60);
  const db = new Database(join(dir, "weft.db"));
  db.run("UPDATE history SET body = replace(body, 'n', 'm')");
  db.close();
  const found = checkFolder(dir);
  expect(found).toHaveLength(21);
  expect(found[0]).toMatchObject({
    level: "error",
    about: `store ${join(dir, "weft.db")}`,
    fix: expect.stringContaining("weft restore FILE"),
  });
  expect(found[0]?.message).toMatch(/^the row of revision 1 is not the one that was written/);
  expect(found.at(-1)?.message).toBe("and 40 more like these");
});

test("what is no store of ours is said to be that", async () => {
  const garbage = folder();
  writeFileSync(join(garbage, "weft.db"), crypto.getRandomValues(new Uint8Array(9_000)));
  expect(checkFolder(garbage)).toMatchObject([{ level: "error", message: expect.stringContaining("not a database") }]);
  const foreign = folder();
  const db = new Database(join(foreign, "weft.db"), { create: true });
  db.run("CREATE TABLE t (a)");
  db.close();
  expect(() => checkFolder(foreign)).toThrow("is an SQLite database of another program");
  const none = folder();
  expect(() => checkFolder(none)).toThrow("holds no store (weft.db)");
  mkdirSync(join(none, "weft.db"));
  expect(() => checkFolder(none)).toThrow("is no file");
});

test("one that somebody uses is left alone, and words that are not known are refused", async () => {
  const dir = await store(1);
  const lock = lockFolder(dir);
  expect(() => checkFolder(dir)).toThrow("is in use by process");
  expect(() => cutLog(dir)).toThrow("is in use by process");
  lock.release();
  expect(await main(["check", "--data"])).toBe(2);
  expect(await main(["check", "--online", "x"])).toBe(2);
  expect(await main(["check", "--output", "yaml", "--data", dir])).toBe(2);
  expect(await main(["cut-log", "--output", "json", "--data", dir])).toBe(2);
  expect(await main(["cut-log", "--data", dir])).toBe(1);
});
