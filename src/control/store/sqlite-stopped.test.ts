// What is changed in the file while no process has it open is named at the next start, or when it is read: no changed row is ever taken for what was written.

import { Database } from "bun:sqlite";
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { key, must, object } from "./contract.ts";
import { readSqliteDump, writeSqliteDump } from "./dump.ts";
import { openSqliteStore } from "./sqlite.ts";
import { openDatabase } from "./sqlite-file.ts";
import { CompactedError, StoreFailure } from "./store.ts";

setDefaultTimeout(60_000);

const folder = mkdtempSync(join(tmpdir(), "weft-stopped-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let made = 0;
const next = () => join(folder, `${++made}.db`);

/** Forty objects, the first of them written twice, one deleted; closed. */
async function filled(fill = ""): Promise<string> {
  const path = next();
  const store = openSqliteStore(path);
  const body = (at: number) => ({ ...object(`n${at}`, at), spec: { value: at, fill } });
  await Promise.all(Array.from({ length: 40 }, (_, at) => store.create(key(`n${at}`), body(at), "alice")));
  await Promise.all(Array.from({ length: 10 }, (_, at) => store.update(key(`n${at}`), body(at + 100), undefined, "bob")));
  must(await store.delete(key("n39"), undefined));
  await store.close();
  return path;
}

function change(path: string, ...sql: readonly string[]): void {
  const db = new Database(path);
  for (const each of sql) db.run(each);
  db.close();
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(StoreFailure);
    return (error as Error).message;
  }
  throw new Error("expected a StoreFailure");
}

const newest = "revision = (SELECT max(revision) FROM history WHERE name = 'n20')";
/** What is done to the file, and what the start says about it. */
const damages: readonly (readonly [name: string, sql: string, said: RegExp])[] = [
  [
    "a letter of an object that is there",
    `UPDATE history SET body = replace(body, '"value":20', '"value":21') WHERE ${newest}`,
    /the row of revision 21 is not the one that was written \(it is now of httproutes\S+ shop\/n20\)/,
  ],
  [
    "a letter of an older state",
    `UPDATE history SET body = replace(body, '"value":3', '"value":4') WHERE revision = 4`,
    /the row of revision 4 is not the one/,
  ],
  ["who wrote it", "UPDATE history SET author = 'eve' WHERE revision = 5", /the row of revision 5 is not the one/],
  ["when it was written", "UPDATE history SET at = at + 1 WHERE revision = 5", /the row of revision 5 is not the one/],
  ["a row's own checksum", "UPDATE history SET sum = sum + 1 WHERE revision = 6", /the row of revision 6 is not the one/],
  [
    "a name, in both tables",
    "UPDATE history SET name = 'm20' WHERE name = 'n20'; UPDATE objects SET name = 'm20' WHERE name = 'n20'",
    /the row of revision 21 is not the one that was written \(it is now of httproutes\S+ shop\/m20\)/,
  ],
  [
    "a body that is no text any more",
    "UPDATE history SET body = CAST(body AS BLOB) WHERE revision = 7",
    /the row of revision 7 is not the one/,
  ],
  [
    "an object that is gone from the list",
    "DELETE FROM objects WHERE name = 'n20'",
    /httproutes\S+ shop\/n20 is missing among the objects, it was written at revision 21/,
  ],
  [
    "an object that stands on its state before the last",
    "UPDATE objects SET revision = 4 WHERE name = 'n3'",
    /httproutes\S+ shop\/n3 is missing among the objects, it was written at revision 44/,
  ],
  [
    "an object that is gone with its history",
    "DELETE FROM objects WHERE name = 'n20'; DELETE FROM history WHERE name = 'n20'",
    /the list of objects is not the one that was written \(39 then, 38 now\); the row of revision 21 is missing/,
  ],
  [
    "a deleted object that is there again",
    "INSERT INTO objects SELECT resource, namespace, name, 1000 FROM history WHERE name = 'n39' LIMIT 1",
    /shop\/n39 stands among the objects at revision 1000, which did not write it/,
  ],
  ["the newest writes", "DELETE FROM history WHERE revision > 49", /the row of revision 50 is missing/],
  ["the revision counter", "UPDATE state SET revision = revision - 1", /the revision counter \(now 50\) is not the one/],
  ["the end of history", "UPDATE state SET oldest = oldest + 1", /the revision counter .* is not the one/],
  ["no revision counter at all", "DELETE FROM state", /the revision counter is missing/],
];

describe("a file that was damaged while no process had it open", () => {
  for (const [name, sql, said] of damages)
    test(`is refused at the start, and names it: ${name}`, async () => {
      const path = await filled();
      change(path, ...sql.split("; "));
      const before = await Bun.file(path).bytes();
      const words = refusal(() => openSqliteStore(path));
      expect(words).toMatch(/\.db is damaged and was left as it is\. .*weft restore FILE --data FOLDER/);
      expect(words).toMatch(said);
      expect(refusal(() => readSqliteDump(path))).toMatch(said);
      expect(Buffer.compare(await Bun.file(path).bytes(), before)).toBe(0);
    });

  test("one byte of a row, on the disk itself, in a file that SQLite finds nothing wrong with", async () => {
    const path = await filled("every letter counts");
    const bytes = Buffer.from(await Bun.file(path).arrayBuffer());
    const text = '"value":20,"fill":"every letter counts';
    // Also where SQLite has moved it away from.
    for (let at = bytes.indexOf(text); at !== -1; at = bytes.indexOf(text, at + 1)) bytes.write("Every", at + text.indexOf("every"));
    await Bun.write(path, bytes);
    const db = new Database(path);
    expect(db.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
    db.close();
    expect(refusal(() => openSqliteStore(path))).toMatch(/the row of revision 21 is not the one that was written/);
  });

  test("several are named, the rest counted", async () => {
    const path = await filled();
    change(path, "UPDATE history SET author = 'eve'");
    expect(refusal(() => openSqliteStore(path))).toMatch(
      /revision 1 is not .*; .*revision 2 is not .*; .*revision 3 is not .*; and 48 more\.$/,
    );
  });

  test("a file too large to be read whole at the start: each row is checked when it is read, and in turn", async () => {
    const path = await filled("x".repeat(400_000));
    expect(statSync(path).size).toBeGreaterThan(16 * 1024 * 1024);
    change(path, "UPDATE history SET author = 'eve' WHERE revision IN (5, 21)");
    const told: string[] = [];
    const store = openSqliteStore(path, { onDamage: (why) => told.push(why) });
    expect((await store.get(key("n1")))?.spec).toMatchObject({ value: 101 });
    for (let n = 0; n < 10; n++) store.look();
    expect(told[0]).toMatch(/the row of revision 5 is not the one that was written/);
    await expect(store.get(key("n20"))).rejects.toThrow(/the row of revision 21 is not the one that was written/);
    await expect(store.update(key("n1"), object("n1", 1), undefined)).rejects.toThrow(/Nothing more is written/);
    expect(told).toHaveLength(1);
    await store.close();
  });
});

/** As the format before wrote it. */
function toFormat2(path: string): void {
  change(
    path,
    "ALTER TABLE history DROP COLUMN sum",
    "ALTER TABLE state DROP COLUMN entries",
    "ALTER TABLE state DROP COLUMN digest",
    "ALTER TABLE state DROP COLUMN sum",
    "PRAGMA user_version = 2",
  );
}

describe("a file without checksums", () => {
  test("gets them at the first start, all at once, and loses nothing", async () => {
    const path = await filled();
    const kept = join(folder, "kept.db");
    copyFileSync(path, kept);
    const before = readSqliteDump(kept);
    toFormat2(path);
    const store = openSqliteStore(path);
    expect(await store.history({ limit: 1_000 })).toHaveLength(51);
    must(await store.update(key("n1"), object("n1", 1), undefined));
    await store.close();
    const after = readSqliteDump(path);
    expect(after.rows.slice(0, -1)).toEqual([...before.rows]);
    change(path, "UPDATE history SET author = 'eve' WHERE revision = 5");
    expect(refusal(() => openSqliteStore(path))).toMatch(/the row of revision 5 is not the one that was written/);
  });

  test("that is seen to be damaged is not taken over, and stays as it is", async () => {
    const path = await filled();
    toFormat2(path);
    change(path, "UPDATE history SET body = '{' WHERE revision = 51");
    expect(refusal(() => openSqliteStore(path))).toMatch(/the row of revision 51 holds no object \(it is of httproutes\S+ shop\/n39\)/);
    const db = new Database(path);
    // Every other row had its sum by then.
    expect(db.query("PRAGMA user_version").get()).toEqual({ user_version: 2 });
    expect(
      db
        .query<{ name: string }, []>("SELECT name FROM pragma_table_info('history')")
        .all()
        .map(({ name }) => name),
    ).not.toContain("sum");
    db.close();
  });

  test("is taken over from a process that was killed in the middle of it: before or after, never between", async () => {
    const path = await filled("y".repeat(20_000));
    toFormat2(path);
    const whole = readFormat2(path);
    const program = `import { openDatabase } from ${JSON.stringify(join(import.meta.dir, "sqlite-file.ts"))};
      process.stdout.write("go"); openDatabase(process.argv[1]).close();`;
    const child = Bun.spawn({ cmd: [process.execPath, "-e", program, path], stdout: "pipe", stderr: "inherit" });
    await child.stdout.getReader().read();
    child.kill("SIGKILL");
    await child.exited;
    const db = new Database(path);
    const version = db.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version;
    db.close();
    if (version === 2) expect(readFormat2(path)).toEqual(whole);
    openDatabase(path).close();
    expect(readSqliteDump(path).rows.map(({ revision, body }) => ({ revision, body }))).toEqual(whole);
  });

  test("of format 1 gets them too", async () => {
    const path = await filled();
    toFormat2(path);
    change(
      path,
      "DROP INDEX history_by_key",
      "ALTER TABLE history DROP COLUMN at",
      "ALTER TABLE history DROP COLUMN author",
      "ALTER TABLE history DROP COLUMN tx",
      "PRAGMA user_version = 1",
    );
    const store = openSqliteStore(path);
    expect((await store.listAll()).items).toHaveLength(39);
    await expect(store.watch(3, undefined, () => {})).rejects.toBeInstanceOf(CompactedError);
    await store.close();
    await openSqliteStore(path).close();
    change(path, "UPDATE history SET name = 'x' WHERE name = 'n5'");
    expect(refusal(() => openSqliteStore(path))).toMatch(/is not the one that was written/);
  });
});

function readFormat2(path: string): { revision: number; body: string }[] {
  const db = new Database(path);
  const rows = db.query<{ revision: number; body: string }, []>("SELECT revision, body FROM history ORDER BY revision").all();
  db.close();
  return rows;
}

test("checksums go along: trimmed, copied, backed up, written from a dump", async () => {
  const path = await filled();
  const store = openSqliteStore(path);
  await store.compact(30);
  must(await store.delete(key("n0"), undefined));
  await store.backup(`${path}.copy`);
  await store.close();
  await openSqliteStore(path).close();
  await openSqliteStore(`${path}.copy`).close();
  const dump = readSqliteDump(path);
  await writeSqliteDump(`${path}.dump`, dump);
  expect(readSqliteDump(`${path}.dump`)).toEqual(dump);
  change(`${path}.dump`, "UPDATE history SET at = 0 WHERE revision = 40");
  expect(refusal(() => readSqliteDump(`${path}.dump`))).toMatch(/the row of revision 40 is not the one/);
});
