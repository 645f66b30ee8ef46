// Owns: a backup of the whole control plane as one file, made while it runs, and putting one back: the store with its history, and the keys
// without which the mesh would be another. The file is an SQLite database, so that it can be checked whole; it holds secrets (mode 0600).
// Never writes into a folder that holds a mesh.

import { Database } from "bun:sqlite";
import { closeSync, copyFileSync, existsSync, fstatSync, openSync, readSync, renameSync, rmSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { createFileOnce, ensureFolder, privateMode, publicMode, readIfThere, writeFileAtomic } from "./identity/files.ts";
import { lockFolder } from "./lock.ts";
import { wrongs } from "./store/sqlite-check.ts";
import { openDatabase } from "./store/sqlite-file.ts";
import type { Store } from "./store/store.ts";

/** What makes the mesh this mesh, besides the store. The rest (the server's certificate, the lock) is made anew. */
const files: Readonly<Record<string, number>> = {
  "ca.crt": publicMode,
  "ca.key": privateMode,
  "ca.rotation": privateMode,
  "ca.retired": publicMode,
  "signing.key": privateMode,
  "admin.token": privateMode,
  "ports.json": privateMode,
};

const tables = `
  CREATE TABLE backup_files (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE backup_about (made_at TEXT NOT NULL, revision INTEGER NOT NULL, version TEXT NOT NULL);
`;

export interface BackupFacts {
  readonly madeAt: string;
  readonly revision: number;
  /** Of the Weft that made it. */
  readonly version: string;
}

/** Sentences for the user. */
export class BackupError extends Error {
  override readonly name = "BackupError";
}

/** Writes a backup to `path`, which must not exist. */
export async function writeBackup(
  store: Store,
  dir: string,
  path: string,
  about: { readonly madeAt: string; readonly version: string },
): Promise<BackupFacts> {
  const { revision } = await store.backup(path);
  const db = new Database(path, { readwrite: true, strict: true });
  try {
    db.run("BEGIN");
    db.run(tables);
    const add = db.prepare<unknown, [string, string]>("INSERT INTO backup_files VALUES (?, ?)");
    for (const name of Object.keys(files)) {
      const body = readIfThere(join(dir, name));
      if (body !== undefined) add.run(name, body);
    }
    db.prepare<unknown, [string, number, string]>("INSERT INTO backup_about VALUES (?, ?, ?)").run(about.madeAt, revision, about.version);
    db.run("COMMIT");
  } finally {
    db.close();
  }
  return { ...about, revision };
}

const chunkBytes = 256 * 1024;

/** The file's bytes; its name is gone at once, so that nothing stays behind whatever becomes of the reader. */
export function streamAndForget(path: string): { readonly body: ReadableStream<Uint8Array>; readonly sizeBytes: number } {
  const fd = openSync(path, "r");
  unlinkSync(path);
  const sizeBytes = fstatSync(fd).size;
  let at = 0;
  let open = true;
  const close = () => {
    if (open) closeSync(fd);
    open = false;
  };
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const chunk = new Uint8Array(Math.min(chunkBytes, sizeBytes - at));
      const read = chunk.length === 0 ? 0 : readSync(fd, chunk, 0, chunk.length, at);
      at += read;
      if (read > 0) controller.enqueue(chunk.subarray(0, read));
      if (read === 0 || at >= sizeBytes) {
        close();
        controller.close();
      }
    },
    cancel: close,
  });
  return { body, sizeBytes };
}

/** Puts a backup into a folder that holds no mesh (made if missing). Throws BackupError, LockedError. */
export function restoreBackup(path: string, dir: string): BackupFacts {
  if (!existsSync(path)) throw new BackupError(`there is no file ${path}`);
  const { about, bodies } = readBackup(path);
  ensureFolder(dir);
  for (const name of ["weft.db", "ca.key"]) {
    if (existsSync(join(dir, name)))
      throw new BackupError(`${dir} holds a mesh already (${name}); restore into another folder with --data, or move that one away`);
  }
  const lock = lockFolder(dir);
  const making = join(dir, "weft.db.restoring");
  try {
    rmSync(making, { force: true });
    copyFileSync(path, making);
    // Opened as a store: takes over older formats, and makes it the owner's alone.
    const db = openDatabase(making);
    try {
      for (const wrong of wrongs(db)) throw new BackupError(`${path} is damaged (${wrong}); take another backup`);
      db.run("DROP TABLE backup_files");
      db.run("DROP TABLE backup_about");
      db.run("PRAGMA journal_mode = DELETE");
      db.run("VACUUM");
    } finally {
      db.close();
    }
    // Keys before the store: a restore cut short leaves a folder that the next one refuses by name, never a store with other keys.
    for (const [name, body] of bodies) {
      if (files[name] === privateMode && name.endsWith(".key")) createFileOnce(join(dir, name), body, privateMode);
      else writeFileAtomic(join(dir, name), body, files[name] ?? privateMode);
    }
    renameSync(making, join(dir, "weft.db"));
    return about;
  } finally {
    rmSync(making, { force: true });
    lock.release();
  }
}

function readBackup(path: string): { readonly about: BackupFacts; readonly bodies: ReadonlyMap<string, string> } {
  let db: Database | undefined;
  try {
    db = new Database(path, { readonly: true, strict: true });
    const verdict = db.query<{ quick_check: string }, []>("PRAGMA quick_check(1)").get()?.quick_check;
    if (verdict !== "ok") throw new BackupError(`${path} is damaged (${verdict}); take another backup`);
    const named = db
      .query<{ n: number }, []>("SELECT count(*) AS n FROM sqlite_schema WHERE name IN ('backup_files', 'backup_about')")
      .get()?.n;
    if (named !== 2) throw new BackupError(`${path} is no backup of Weft`);
    const about = db.query<{ made_at: string; revision: number; version: string }, []>("SELECT * FROM backup_about").get();
    const rows = db.query<{ name: string; body: string }, []>("SELECT name, body FROM backup_files").all();
    const bodies = new Map(rows.filter(({ name }) => Object.hasOwn(files, name)).map(({ name, body }) => [name, body]));
    if (about === null || !bodies.has("ca.crt")) throw new BackupError(`${path} lacks the mesh's keys; take another backup`);
    return { about: { madeAt: about.made_at, revision: about.revision, version: about.version }, bodies };
  } catch (cause) {
    if (cause instanceof BackupError) throw cause;
    const code = (cause as { code?: string }).code ?? "";
    if (code === "SQLITE_NOTADB" || code.startsWith("SQLITE_CORRUPT")) throw new BackupError(`${path} is no backup of Weft, or is damaged`);
    throw new BackupError(`${path} cannot be read (${code || String(cause)})`);
  } finally {
    db?.close();
  }
}
