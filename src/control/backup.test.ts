import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BackupError, restoreBackup, streamAndForget, writeBackup } from "./backup.ts";
import { key, must, object } from "./store/contract.ts";
import { openSqliteStore } from "./store/sqlite.ts";
import type { Store } from "./store/store.ts";

let folder: string;
let dir: string;
let store: Store;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "weft-backup-"));
  dir = join(folder, "data");
  mkdirSync(dir);
  for (const name of ["ca.crt", "ca.key", "signing.key", "admin.token", "server.key"])
    writeFileSync(join(dir, name), `${name} of this mesh\n`);
  store = openSqliteStore(join(dir, "weft.db"));
  must(await store.create(key("a"), object("a", 1), "alice"));
});
afterEach(async () => {
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

const about = { madeAt: "2026-11-23T00:00:00.000Z", version: "0.1.0" };
const backup = () => writeBackup(store, dir, join(folder, "b"), about);

test("what is restored is the mesh as it was: objects, history, keys, and nothing beside", async () => {
  expect(await backup()).toEqual({ ...about, revision: 1 });
  must(await store.update(key("a"), object("a", 2), undefined));
  const target = join(folder, "new");
  expect(restoreBackup(join(folder, "b"), target)).toEqual({ ...about, revision: 1 });
  expect(readdirSync(target).sort()).toEqual(["admin.token", "ca.crt", "ca.key", "lock", "signing.key", "weft.db"]);
  expect(readFileSync(join(target, "ca.key"), "utf8")).toBe("ca.key of this mesh\n");
  for (const name of ["ca.key", "signing.key", "admin.token", "weft.db"]) expect(statSync(join(target, name)).mode & 0o777).toBe(0o600);
  const again = openSqliteStore(join(target, "weft.db"));
  expect((await again.get(key("a")))?.spec).toEqual({ value: 1 });
  expect((await again.history({ limit: 5 })).map((entry) => entry.by)).toEqual(["alice"]);
  expect(must(await again.create(key("b"), object("b", 1))).revision).toBe(2);
  await again.close();
});

test("a folder that holds a mesh is refused and left alone", async () => {
  await backup();
  expect(() => restoreBackup(join(folder, "b"), dir)).toThrow(/holds a mesh already/);
  expect((await store.get(key("a")))?.spec).toEqual({ value: 1 });
});

test("what is damaged, cut short, no backup, or not there is refused before anything is written", async () => {
  await backup();
  const target = join(folder, "new");
  const refused = (path: string, why: RegExp) => {
    expect(() => restoreBackup(path, target)).toThrow(BackupError);
    expect(() => restoreBackup(path, target)).toThrow(why);
    expect(existsSync(join(target, "ca.key"))).toBe(false);
  };
  refused(join(folder, "none"), /there is no file/);
  writeFileSync(join(folder, "notes"), "these are my holiday notes, and there are more than a hundred bytes of them\n".repeat(40));
  refused(join(folder, "notes"), /is no backup/);
  await store.backup(join(folder, "plain"));
  refused(join(folder, "plain"), /is no backup/);
  truncateSync(join(folder, "b"), statSync(join(folder, "b")).size - 4096);
  refused(join(folder, "b"), /damaged/);
});

test("the stream gives every byte, and the file's name is gone at once", async () => {
  writeFileSync(join(folder, "big"), Buffer.alloc(700_000, "x"));
  const { body, sizeBytes } = streamAndForget(join(folder, "big"));
  expect(existsSync(join(folder, "big"))).toBe(false);
  expect([sizeBytes, (await new Response(body).bytes()).length]).toEqual([700_000, 700_000]);
});
