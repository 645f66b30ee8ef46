// Owns: the SQLite file of the store: opening it, telling it from somebody else's, its tables, and putting SQLite's errors into words.
// Never reads or writes objects: that is `sqlite.ts`.

import { Database, SQLiteError } from "bun:sqlite";
import { chmodSync, existsSync, statSync } from "node:fs";
import { StoreFailure } from "./store.ts";
import { DamageError } from "./witness.ts";

/** "Weft" in ASCII: stands in the file's header, so that another program's database is never taken for ours. */
const applicationId = 0x57656674;
/** 2: when, by whom and in which transaction; and an index to find the states of one object. */
const formatVersion = 2;

/** Checking every page costs about 2 ms a MiB; a larger file would eat into the 300 ms in which `weft up` has to answer; SQLite still notices damage when it reads it. */
const fullCheckLimitBytes = 16 * 1024 * 1024;

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
    tx INTEGER NOT NULL DEFAULT 0
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
  CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, oldest INTEGER NOT NULL);
  INSERT INTO state VALUES (1, 0, 1);
`;

// History as format 1 trimmed it cannot tell the state at an old revision, so it begins anew here: watchers list again once.
const fromFormat1 = `
  ALTER TABLE history ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE history ADD COLUMN author TEXT NOT NULL DEFAULT '';
  ALTER TABLE history ADD COLUMN tx INTEGER NOT NULL DEFAULT 0;
  CREATE INDEX history_by_key ON history (resource, namespace, name, revision);
  DELETE FROM history WHERE revision NOT IN (SELECT revision FROM objects);
  UPDATE state SET oldest = max(oldest, revision);
`;

/**
 * Opens or creates the file (mode 0600). `:memory:` keeps everything in memory.
 * Throws StoreFailure when it is not ours, damaged, held by another process, or cannot be written.
 */
export function openDatabase(path: string): Database {
  let db: Database | undefined;
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
    // Takes the lock now, not at the first write, and makes the tables in one step with the marks in the header.
    db.run("BEGIN IMMEDIATE");
    const made = db.query<{ n: number }, []>("SELECT count(*) AS n FROM sqlite_schema").get()?.n ?? 0;
    if (made === 0) {
      db.run(tables);
      db.run(`PRAGMA application_id = ${applicationId}`);
      db.run(`PRAGMA user_version = ${formatVersion}`);
    } else if (pragma(db, "user_version") === 1) {
      db.run(fromFormat1);
      db.run(`PRAGMA user_version = ${formatVersion}`);
    }
    db.run("COMMIT");
    return db;
  } catch (error) {
    db?.close();
    throw failure(error, path, "opened");
  }
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
  if (version !== formatVersion && version !== 1) {
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

/** Of a file that was good when it was opened. */
export function damage(error: unknown, path: string): StoreFailure {
  const said = error instanceof Error ? error.message : String(error);
  return new StoreFailure(`${damaged(path)} It was changed while it was in use: ${said}.`, { cause: error });
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
