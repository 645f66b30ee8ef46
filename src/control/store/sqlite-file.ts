// Owns: the SQLite file of the store: opening it, telling it from somebody else's, its tables, and putting SQLite's errors into words.
// Never reads or writes objects: that is `sqlite.ts`.

import { Database, SQLiteError } from "bun:sqlite";
import { chmodSync, existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { type LogState, readLog } from "./sqlite-wal.ts";
import { type ObjectKey, StoreFailure } from "./store.ts";
import { DamageError, stateSum, sumOf, textOf, Witness, type WitnessedRow, type WitnessedState } from "./witness.ts";

/** "Weft" in ASCII: stands in the file's header, so that another program's database is never taken for ours. */
export const applicationId = 0x57656674;
/** 2: when, by whom and in which transaction; and an index to find the states of one object. 3: checksums (`witness.ts`). */
export const formatVersion = 3;

/** Checking every page costs about 2 ms a MiB; a larger file would eat into the 300 ms in which `weft up` has to answer; SQLite still notices damage when it reads it. */
export const fullCheckLimitBytes = 16 * 1024 * 1024;

// `history` holds every object state since the last compaction and the newest one of each object for ever; `objects` points into it.
// So a write stores its body once.
const tables = `
  CREATE TABLE history (
    revision INTEGER PRIMARY KEY,
    type TEXT NOT NULL CHECK (type IN ('added', 'modified', 'deleted')),
    resource TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL DEFAULT 0,
    author TEXT NOT NULL DEFAULT '',
    tx INTEGER NOT NULL DEFAULT 0,
    sum INTEGER NOT NULL DEFAULT 0
  );
  CREATE INDEX history_by_key ON history (resource, namespace, name, revision);
  CREATE TABLE objects (
    resource TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (resource, namespace, name)
  ) WITHOUT ROWID;
  CREATE UNIQUE INDEX objects_by_revision ON objects (revision);
  CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, oldest INTEGER NOT NULL,
    entries INTEGER NOT NULL DEFAULT 0, digest INTEGER NOT NULL DEFAULT 0, sum INTEGER NOT NULL DEFAULT 0);
`;
const firstState: WitnessedState = { revision: 0, oldest: 1, entries: 0, digest: 0 };
const putState = "INSERT OR REPLACE INTO state (id, revision, oldest, entries, digest, sum) VALUES (1, ?, ?, ?, ?, ?)";

// History as format 1 trimmed it cannot tell the state at an old revision, so it begins anew here: watchers list again once.
const fromFormat1 = `
  ALTER TABLE history ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE history ADD COLUMN author TEXT NOT NULL DEFAULT '';
  ALTER TABLE history ADD COLUMN tx INTEGER NOT NULL DEFAULT 0;
  CREATE INDEX history_by_key ON history (resource, namespace, name, revision);
  DELETE FROM history WHERE revision NOT IN (SELECT revision FROM objects);
  UPDATE state SET oldest = max(oldest, revision);
`;

// What is there is taken for what was written; from then on it is vouched for. Sums are made below.
const fromFormat2 = `
  ALTER TABLE history ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE state ADD COLUMN entries INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE state ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE state ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
`;

/** Rows that get their sums at once. */
const pageRows = 256;

/** The file beside a database that holds what was written last. */
export const logOf = (path: string): string => `${path}-wal`;

/**
 * Reads the log of a file; undefined: there is none. `onDoubt`: its last change is not whole, see `LogState`. Throws StoreFailure when it holds changes that
 * SQLite would drop though they were acknowledged. Before SQLite opens it, which merges what it takes for good and deletes the rest.
 */
function checkLog(path: string, onDoubt: (words: string) => void): LogState | undefined {
  let log: LogState | undefined;
  try {
    log = readLog(logOf(path));
  } catch (error) {
    throw failure(error, logOf(path), "read");
  }
  const wrong = log === undefined ? undefined : logDamage(path, log);
  if (wrong !== undefined) throw new StoreFailure(`${damaged(path)} ${capital(wrong)}. ${cutLogWords(path)}`);
  if (log?.doubt === true) onDoubt(doubtWords(path));
  return log;
}

/** What was acknowledged and would be dropped, in words; undefined: nothing. */
export function logDamage(path: string, log: LogState): string | undefined {
  if (log.damage !== undefined)
    return `${log.damage}: ${log.lost === 0 ? "changes that were acknowledged" : `${log.lost} or more changes that were acknowledged`} would be lost`;
  // SQLite deletes the log of an empty file.
  if (log.transactions > 0 && (!existsSync(path) || statSync(path).size === 0))
    return `it is empty, and its log (-wal) has ${log.transactions} changes of what it held: changes that were acknowledged would be lost`;
  return undefined;
}

export const doubtWords = (path: string): string =>
  `the last change in ${logOf(path)} is not whole and is dropped: after a power cut it was never acknowledged; without one it was, and the file is damaged`;

export const cutLogWords = (path: string): string =>
  `To go on with what stands before the damage and lose what was written after it: weft store cut-log --data ${dirname(path)}.`;

const capital = (text: string): string => text[0]?.toUpperCase() + text.slice(1);

/**
 * Opens or creates the file (mode 0600). `:memory:` keeps everything in memory. `onDoubt`: see `checkLog`.
 * Throws StoreFailure when it is not ours, damaged, held by another process, or cannot be written.
 */
export function openDatabase(path: string, onDoubt: (words: string) => void = () => {}): Database {
  let db: Database | undefined;
  const log = path === ":memory:" ? undefined : checkLog(path, onDoubt);
  try {
    const fresh = !existsSync(path) || statSync(path).size === 0;
    db = new Database(path, { create: true, readwrite: true, strict: true });
    if (path !== ":memory:") chmodSync(path, 0o600);
    // One process owns the file: no shared-memory index beside it, and a second control plane on the same file is refused.
    db.run("PRAGMA locking_mode = EXCLUSIVE");
    if (!fresh) checkOurs(db, path);
    db.run("PRAGMA journal_mode = WAL");
    // FULL syncs the log at every commit: an acknowledged write survives a power cut, not only a crash of this process.
    db.run("PRAGMA synchronous = FULL");
    if (log !== undefined) beginLog(db);
    // Takes the lock now, not at the first write, and makes the tables in one step with the marks in the header.
    db.run("BEGIN IMMEDIATE");
    const made = db.query<{ n: number }, []>("SELECT count(*) AS n FROM sqlite_schema").get()?.n ?? 0;
    if (made === 0) {
      db.run(tables);
      writeState(db, firstState);
      db.run(`PRAGMA application_id = ${applicationId}`);
      db.run(`PRAGMA user_version = ${formatVersion}`);
    } else if (pragma(db, "user_version") !== formatVersion) {
      if (pragma(db, "user_version") === 1) db.run(fromFormat1);
      db.run(fromFormat2);
      addSums(db);
      db.run(`PRAGMA user_version = ${formatVersion}`);
    }
    db.run("COMMIT");
    return db;
  } catch (error) {
    // What was begun and not committed is gone with it.
    db?.close();
    if (error instanceof DamageError) throw damage(error, path);
    throw failure(error, path, "opened");
  }
}

// What was in the log is in the file then, synced, and the log empty: damage of either is from now on what happens to this process's own changes.
function beginLog(db: Database): void {
  try {
    db.run("PRAGMA wal_checkpoint(TRUNCATE)");
  } catch (error) {
    // On a full disk the old round goes on; what is in it is good.
    if (!(error instanceof SQLiteError) || !["SQLITE_FULL", "SQLITE_IOERR_WRITE"].includes(error.code ?? "")) throw error;
  }
}

/** Writes the one row of state, with its checksum. Inside the caller's transaction. */
export function writeState(db: Database, state: WitnessedState): void {
  db.run(putState, [state.revision, state.oldest, state.entries, state.digest, stateSum(state)]);
}

// Sums make today's bytes those that are right for ever: what can be seen to be wrong of them is refused before.
function addSums(db: Database): void {
  const page = db.prepare<Omit<WitnessedRow, "sum">, [number, number]>(
    "SELECT revision, type, resource, namespace, name, body, at, author, tx FROM history WHERE revision > ? ORDER BY revision LIMIT ?",
  );
  const add = db.prepare<unknown, [number, number]>("UPDATE history SET sum = ? WHERE revision = ?");
  try {
    for (let at = -1; ; ) {
      const rows = page.all(at, pageRows);
      for (const row of rows) {
        checkBody(row);
        add.run(sumOf(row), row.revision);
      }
      if (rows.length < pageRows) break;
      at = rows.at(-1)?.revision ?? at;
    }
  } finally {
    // A file with an open statement stays locked, closed or not.
    page.finalize();
    add.finalize();
  }
  const state = db.query<{ revision: number; oldest: number }, []>("SELECT revision, oldest FROM state WHERE id = 1").get();
  if (state === null) throw new DamageError("it has no revision counter");
  const witness = new Witness();
  const entries = db.query<Entry, []>(`SELECT o.resource, o.namespace, o.name, o.revision, h.revision IS NULL AS lost FROM objects o
    LEFT JOIN history h ON h.revision = o.revision AND h.resource = o.resource AND h.namespace = o.namespace AND h.name = o.name`);
  for (const { revision, lost, ...key } of entries.all()) {
    if (lost !== 0) throw new DamageError(`the row of revision ${revision} of ${textOf(key)} is missing`);
    witness.found(key, revision);
  }
  writeState(db, { ...state, entries: witness.entries, digest: witness.digest });
}

interface Entry extends ObjectKey {
  readonly revision: number;
  readonly lost: number;
}

function checkBody(row: Omit<WitnessedRow, "sum">): void {
  let metadata: unknown;
  try {
    metadata = (JSON.parse(row.body) as { metadata?: unknown } | null)?.metadata;
  } catch {
    // Said below.
  }
  if (typeof metadata !== "object" || metadata === null)
    throw new DamageError(`the row of revision ${row.revision} holds no object (it is of ${textOf(row)})`);
}

function checkOurs(db: Database, path: string): void {
  const id = pragma(db, "application_id");
  const version = pragma(db, "user_version");
  const tablesThere = db.query<{ n: number }, []>("SELECT count(*) AS n FROM sqlite_schema").get()?.n ?? 0;
  // A crash between creating the file and its first commit leaves an empty database: nothing was acknowledged, start over.
  if (tablesThere === 0 && id === 0) return;
  if (id !== applicationId) {
    throw new StoreFailure(`${path} is an SQLite database of another program. Name another data folder, or move that file away.`);
  }
  if (version < 1 || version > formatVersion) {
    throw new StoreFailure(
      `${path} has the store format ${version}; this version of Weft knows formats up to ${formatVersion} only. Use the Weft that wrote it, or another data folder.`,
    );
  }
  if (path !== ":memory:" && statSync(path).size <= fullCheckLimitBytes) {
    const verdict = db.query<{ quick_check: string }, []>("PRAGMA quick_check(1)").get()?.quick_check;
    if (verdict !== "ok") throw new StoreFailure(`${damaged(path)} SQLite says: ${verdict}.`);
  }
}

function pragma(db: Database, name: "application_id" | "user_version"): number {
  return db.query<Record<string, number>, []>(`PRAGMA ${name}`).get()?.[name] ?? 0;
}

function damaged(path: string): string {
  return `${path} is damaged and was left as it is. Put a copy of it back: move its folder away and restore a backup there (weft restore FILE --data FOLDER); or move it away to start with an empty store.`;
}

/** What was thrown says that the file is not what was written: nothing may be written to it any more. `:memory:` cannot be. */
export function isDamage(error: unknown): boolean {
  if (error instanceof DamageError) return true;
  const code = error instanceof SQLiteError ? (error.code ?? "") : "";
  return code === "SQLITE_NOTADB" || code.startsWith("SQLITE_CORRUPT") || code === "SQLITE_IOERR_SHORT_READ";
}

/** In words for the user: which file, what is wrong with it, and the way out. */
export function damage(error: unknown, path: string): StoreFailure {
  const said = error instanceof Error ? error.message : String(error);
  return new StoreFailure(`${damaged(path)} What is in it is not what was written to it: ${said}.`, { cause: error });
}

/** Turns what SQLite or the file system threw into a StoreFailure that says what to do. `done` as in "could not be read". */
export function failure(error: unknown, path: string, done: "opened" | "read" | "written"): StoreFailure {
  if (error instanceof StoreFailure) return error;
  const code = error instanceof SQLiteError ? (error.code ?? "") : ((error as { code?: string } | null)?.code ?? "");
  const said = error instanceof Error ? error.message : String(error);
  return new StoreFailure(sentence(code, said, path, done), { cause: error });
}

function sentence(code: string, said: string, path: string, done: string): string {
  if (code === "SQLITE_FULL" || code === "ENOSPC" || code === "SQLITE_IOERR_SHMSIZE") {
    return `the disk that holds ${path} is full; nothing was written. Free some space there, then try again.`;
  }
  if (code === "SQLITE_NOTADB") return `${path} is not an SQLite database. Name another data folder, or move that file away.`;
  if (code.startsWith("SQLITE_CORRUPT")) return damaged(path);
  if (code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED")) {
    return `${path} is in use by another process. Stop that one first, or name another data folder.`;
  }
  if (code.startsWith("SQLITE_READONLY") || code === "EACCES" || code === "EROFS" || code === "EPERM") {
    return `${path} may not be written by this user; nothing was written. Check its owner and mode.`;
  }
  if (code === "SQLITE_CANTOPEN" || code === "ENOENT" || code === "EISDIR") {
    return `${path} cannot be opened as a file. Check that its folder exists and that this user may write there.`;
  }
  return `${path} could not be ${done}${code === "" ? "" : ` (${code})`}: ${said}. Nothing was written.`;
}
