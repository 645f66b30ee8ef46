// The write-ahead log is read before SQLite reads it: what a crash leaves is no damage, and damage is not taken for what a crash leaves. Compared with SQLite
// itself, which opens a copy of the same bytes.

import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { key, must, object } from "./contract.ts";
import { openSqliteStore } from "./sqlite.ts";
import { readLog } from "./sqlite-wal.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});
function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "weft-wal-"));
  folders.push(made);
  return made;
}

/** A store of so many changes as a process leaves it that is killed: copied while it is open. */
async function killed(changes: number): Promise<{ path: string; revisions: number; log: Buffer }> {
  const from = folder();
  const store = openSqliteStore(join(from, "weft.db"));
  for (let at = 0; at < changes; at++) must(await store.create(key(`n${at}`), object(`n${at}`, at)));
  const path = join(folder(), "weft.db");
  copyFileSync(join(from, "weft.db"), path);
  copyFileSync(join(from, "weft.db-wal"), `${path}-wal`);
  await store.close();
  return { path, revisions: changes, log: readFileSync(`${path}-wal`) };
}

/** The last revision that SQLite sees in a copy of it. */
function asSqliteSees(path: string): number {
  const copy = join(folder(), "copy.db");
  copyFileSync(path, copy);
  copyFileSync(`${path}-wal`, `${copy}-wal`);
  const db = new Database(copy);
  try {
    const has = db.query<{ n: number }, []>("SELECT count(*) AS n FROM sqlite_schema WHERE name = 'state'").get()?.n ?? 0;
    return has === 0 ? 0 : (db.query<{ revision: number }, []>("SELECT revision FROM state").get()?.revision ?? 0);
  } finally {
    db.close();
  }
}

const frameBytes = 4096 + 24;
const frameAt = (n: number) => 32 + (n - 1) * frameBytes;
function write(path: string, log: Uint8Array): void {
  writeFileSync(`${path}-wal`, log);
}
/** The frames that end a transaction. */
function endsOf(log: Buffer): number[] {
  const ends: number[] = [];
  for (let n = 1; frameAt(n) + frameBytes <= log.length; n++) if (log.readUInt32BE(frameAt(n) + 4) !== 0) ends.push(n);
  return ends;
}

test("a log that was cut anywhere is what a crash leaves: as many changes as SQLite takes, and no word", async () => {
  const { path, log } = await killed(6);
  const cuts = [0, 7, 31, 32, 33, ...Array.from({ length: 40 }, () => Math.floor(Math.random() * log.length)), log.length];
  for (const cut of cuts) {
    write(path, log.subarray(0, cut));
    const state = readLog(`${path}-wal`);
    expect({ cut, damage: state?.damage, doubt: state?.doubt }).toEqual({ cut, damage: undefined, doubt: false });
    // The transaction that makes the tables comes first; it may have been merged.
    expect(state?.transactions ?? 0).toBeGreaterThanOrEqual(asSqliteSees(path));
  }
  write(path, log);
  expect(readLog(`${path}-wal`)).toMatchObject({ frames: endsOf(log).at(-1), transactions: endsOf(log).length, bytes: log.length });
  expect(readLog(join(folder(), "nothing"))).toBeUndefined();
});

test("a byte that is another in a change with others behind it is damage, wherever it is; SQLite alone says nothing", async () => {
  const { path, log, revisions } = await killed(6);
  const ends = endsOf(log);
  // The frame after the last but two ends begins the last but one transaction.
  const safe = frameAt((ends.at(-3) as number) + 1);
  for (let round = 0; round < 60; round++) {
    const at = 32 + Math.floor(Math.random() * (safe - 32));
    const bad = Buffer.from(log);
    bad[at] = (bad[at] as number) ^ 0x10;
    write(path, bad);
    const frame = Math.floor((at - 32) / frameBytes) + 1;
    const state = readLog(`${path}-wal`);
    expect(state?.damage).toBe(`frame ${frame} of its log (-wal) is not the one that was written, and later changes stand behind it`);
    expect(state?.lost).toBeGreaterThanOrEqual(2);
    if (round % 20 === 0) {
      expect(asSqliteSees(path)).toBeLessThan(revisions);
      expect(() => openSqliteStore(path)).toThrow(
        /weft\.db is damaged and was left as it is\..*Frame \d+ of its log \(-wal\) .*: \d+ or more changes that were acknowledged would be lost\. .*weft store cut-log --data /,
      );
      expect(readFileSync(`${path}-wal`).equals(bad)).toBe(true);
    }
  }
  for (const at of [0, 5, 9, 17, 26]) {
    const bad = Buffer.from(log);
    bad[at] = (bad[at] as number) ^ 0x01;
    write(path, bad);
    expect(readLog(`${path}-wal`)?.damage).toBe("the header of its log (-wal) is not the one that was written");
  }
  write(path, log);
  const store = openSqliteStore(path);
  expect(await store.revision()).toBe(revisions);
  // A round of its own for each process.
  expect(statSync(`${path}-wal`).size).toBe(0);
  await store.close();
});

test("a hole in the last change may be a power cut's: it opens, and that is said", async () => {
  const { path, log, revisions } = await killed(6);
  const ends = endsOf(log);
  const first = (ends.at(-2) as number) + 1;
  expect(first).toBeLessThan(ends.at(-1) as number);
  const bad = Buffer.from(log);
  bad.fill(0, frameAt(first), frameAt(first) + frameBytes);
  write(path, bad);
  const said: string[] = [];
  const store = openSqliteStore(path, { onDoubt: (words) => said.push(words) });
  expect(await store.revision()).toBe(revisions - 1);
  expect(said).toEqual([expect.stringContaining("is not whole and is dropped")]);
  await store.close();
});

/** One transaction of so many frames behind frame `after`, as SQLite would write it: other pages, the sums that go on from there. */
function transaction(log: Buffer, after: number, frames: number, filler: number): Buffer {
  const made = Buffer.from(log.subarray(frameAt(after + 1), frameAt(after + 1) + frames * frameBytes));
  let [a, b] = [log.readUInt32BE(frameAt(after) + 16), log.readUInt32BE(frameAt(after) + 20)];
  const add = (from: number, length: number) => {
    for (let at = from; at < from + length; at += 8) {
      a = (a + made.readUInt32LE(at) + b) >>> 0;
      b = (b + made.readUInt32LE(at + 4) + a) >>> 0;
    }
  };
  for (let n = 0; n < frames; n++) {
    const at = n * frameBytes;
    made.writeUInt32BE(n === frames - 1 ? 99 : 0, at + 4);
    made.fill(filler, at + 24, at + frameBytes);
    add(at, 8);
    add(at + 24, frameBytes - 24);
    made.writeUInt32BE(a, at + 16);
    made.writeUInt32BE(b, at + 20);
  }
  return made;
}

test("what was rolled back and left there, one transaction over another, is no damage", async () => {
  const { path, log } = await killed(12);
  const good = endsOf(log).at(2) as number;
  // Written whole and given up twice, as when a sync fails; then a short one that held.
  const layers = Buffer.concat([log.subarray(0, frameAt(good + 1)), transaction(log, good, 20, 0xaa)]);
  transaction(log, good, 12, 0xbb).copy(layers, frameAt(good + 1));
  write(path, layers);
  expect(readLog(`${path}-wal`)).toMatchObject({ frames: good + 12, transactions: 4, damage: undefined });
  transaction(log, good, 5, 0xcc).copy(layers, frameAt(good + 1));
  write(path, layers);
  expect(readLog(`${path}-wal`)).toMatchObject({ frames: good + 5, transactions: 4, damage: undefined });
  // The same with a change behind it, and then a byte of the first: that is.
  const next = transaction(layers, good + 5, 4, 0xdd);
  next.copy(layers, frameAt(good + 6));
  layers.writeUInt8(1, frameAt(good + 2) + 100);
  write(path, layers);
  expect(readLog(`${path}-wal`)).toMatchObject({ frames: good, damage: expect.stringContaining(`frame ${good + 2} of its log`), lost: 2 });
});

test("frames of an earlier round behind the end are none of this one", async () => {
  const from = folder();
  const path = join(from, "weft.db");
  const db = new Database(path, { create: true });
  db.run("PRAGMA journal_mode = WAL");
  db.run("PRAGMA wal_autocheckpoint = 0");
  db.run("CREATE TABLE t (a)");
  for (let at = 0; at < 20; at++) db.run("INSERT INTO t VALUES (randomblob(3000))");
  db.run("PRAGMA wal_checkpoint(PASSIVE)");
  db.run("INSERT INTO t VALUES (1)");
  db.run("INSERT INTO t VALUES (2)");
  const state = readLog(`${path}-wal`);
  expect(state).toMatchObject({ damage: undefined, doubt: false, transactions: 2 });
  expect(statSync(`${path}-wal`).size).toBeGreaterThan(state?.bytes ?? 0);
  db.close();
});

test("a log made by somebody who means harm costs nothing", () => {
  const path = join(folder(), "weft.db-wal");
  for (const pageBytes of [0, 1, 24, 100_000, 0x8000_0000, 0xffff_ffff]) {
    const header = Buffer.alloc(32);
    header.writeUInt32BE(0x377f0682, 0);
    header.writeUInt32BE(3_007_000, 4);
    header.writeUInt32BE(pageBytes, 8);
    let [a, b] = [0, 0];
    for (let at = 0; at < 24; at += 8) {
      a = (a + header.readUInt32LE(at) + b) >>> 0;
      b = (b + header.readUInt32LE(at + 4) + a) >>> 0;
    }
    header.writeUInt32BE(a, 24);
    header.writeUInt32BE(b, 28);
    writeFileSync(path, Buffer.concat([header, crypto.getRandomValues(new Uint8Array(20_000))]));
    expect(readLog(path)?.damage).toContain("the header of its log");
  }
  for (let round = 0; round < 50; round++) {
    writeFileSync(path, crypto.getRandomValues(new Uint8Array(Math.floor(Math.random() * 20_000))));
    const state = readLog(path);
    expect([0, undefined]).toContain(state?.frames);
  }
});

test("an empty file beside a log that is not is not taken for a new store", async () => {
  const { path } = await killed(3);
  writeFileSync(path, "");
  expect(() => openSqliteStore(path)).toThrow(/It is empty, and its log \(-wal\) has \d+ changes/);
  expect(statSync(`${path}-wal`).size).toBeGreaterThan(0);
  const none = join(folder(), "sub");
  mkdirSync(none);
  const store = openSqliteStore(join(none, "weft.db"));
  await store.close();
  expect(existsSync(join(none, "weft.db-wal"))).toBe(false);
});

test("a writer that is killed again and again while it writes leaves nothing that is taken for damage", async () => {
  const path = join(folder(), "weft.db");
  let first = 0;
  let logs = 0;
  for (let round = 0; round < 20; round++) {
    const child = Bun.spawn({
      cmd: [process.execPath, join(import.meta.dir, "crash-writer.ts"), path, String(first)],
      stdout: "pipe",
      stderr: "inherit",
    });
    let rest = "";
    let newest = 0;
    let started = false;
    for await (const chunk of child.stdout) {
      if (!started) setTimeout(() => child.kill("SIGKILL"), 2 + Math.random() * 60);
      started = true;
      const lines = (rest + new TextDecoder().decode(chunk)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const [, name = "", at = "", revision = ""] = line.split(" ");
        if (name !== "") {
          newest = Math.max(newest, Number(revision));
          first = Math.max(first, Number(at) + 1);
        }
      }
    }
    await child.exited;
    const state = readLog(`${path}-wal`);
    if ((state?.transactions ?? 0) > 0) logs++;
    expect(state?.damage).toBeUndefined();
    // Opened by us in every other round, by the next writer in the others.
    if (round % 2 === 0) continue;
    const said: string[] = [];
    const store = openSqliteStore(path, { onDoubt: (words) => said.push(words), onDamage: (words) => said.push(words) });
    expect(await store.revision()).toBeGreaterThanOrEqual(newest);
    expect(said).toEqual([]);
    await store.close();
  }
  expect(logs).toBeGreaterThan(5);
}, 120_000);
