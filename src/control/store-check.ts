// Owns: the commands `weft store check` and `weft store cut-log`, for a folder whose control plane is stopped: what is wrong with the file of its store, and going on
// with what stands before a damage of its log. Never changes rows, and cuts nothing that is whole.

import { Database } from "bun:sqlite";
import { closeSync, constants, copyFileSync, existsSync, fsyncSync, ftruncateSync, openSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { errorCode } from "./identity/files.ts";
import { LockedError, lockFolder } from "./lock.ts";
import { wrongs } from "./store/sqlite-check.ts";
import { applicationId, cutLogWords, doubtWords, failure, formatVersion, isDamage, logDamage, logOf } from "./store/sqlite-file.ts";
import { readLog } from "./store/sqlite-wal.ts";
import { StoreFailure } from "./store/store.ts";

/** As `weft check` prints them. */
export interface StoreFinding {
  readonly level: "error" | "warning";
  readonly about: string;
  readonly message: string;
  readonly fix: string;
}

/** Of a damaged file thousands of rows may be wrong; the first tell what there is to know. */
const mostShown = 20;
const restore = "restore the last backup: move the folder away, then weft restore FILE --data FOLDER";

/** Resolves to the exit status: 0 nothing is wrong, or done; 1 otherwise; 2 wrong usage. */
export async function main(argv: readonly string[]): Promise<number> {
  const [verb = "", ...rest] = argv;
  const say = (text: string) => process.stderr.write(`weft store ${verb}: ${text}\n`);
  let data = process.env.WEFT_DATA ?? (process.env.HOME === undefined ? undefined : `${process.env.HOME}/.weft`);
  let json = false;
  for (let at = 0; at < rest.length; at++) {
    const word = rest[at] as string;
    const [, name, inline] = /^(--data|--output|-o)(?:=(.*))?$/s.exec(word) ?? [];
    const value = inline ?? rest[++at];
    if (name === undefined || (name !== "--data" && verb === "cut-log")) {
      say(`there is no ${word} here; weft store --help has flags and examples`);
      return 2;
    }
    if (value === undefined || value === "") {
      say(`${name} needs a value`);
      return 2;
    }
    if (name === "--data") data = value;
    else if (value !== "text" && value !== "json") {
      say(`${name} is text or json, not ${JSON.stringify(value)}`);
      return 2;
    } else json = value === "json";
  }
  if (data === undefined) {
    say("no folder: name one with --data DIR or $WEFT_DATA");
    return 2;
  }
  try {
    if (verb === "cut-log") {
      process.stdout.write(`${cutLog(resolve(data))}\n`);
      return 0;
    }
    const found = checkFolder(resolve(data));
    if (json) process.stdout.write(`${JSON.stringify({ findings: found }, undefined, 2)}\n`);
    else {
      for (const { level, about, message, fix } of found)
        process.stdout.write(`${level === "error" ? "ERROR  " : "WARNING"} ${about}: ${message}\n        fix: ${fix}\n`);
      process.stdout.write(found.length === 0 ? "every row is the one that was written\n" : "");
    }
    return found.some(({ level }) => level === "error") ? 1 : 0;
  } catch (cause) {
    const known = cause instanceof StoreFailure || cause instanceof LockedError;
    say(known ? cause.message : `${data} cannot be looked at (${errorCode(cause) ?? String(cause)})`);
    return 1;
  }
}

/** All that is wrong with the store in a folder. Throws LockedError while a control plane uses it, StoreFailure where there is none. */
export function checkFolder(dir: string): StoreFinding[] {
  const path = join(dir, "weft.db");
  return locked(path, () => {
    const about = `store ${path}`;
    const error = (message: string, fix: string): StoreFinding => ({ level: "error", about, message, fix });
    const log = readLog(logOf(path));
    const wrong = log === undefined ? undefined : logDamage(path, log);
    // SQLite would merge what it takes for good, and delete the rest.
    if (wrong !== undefined) return [error(wrong, `${restore}. ${cutLogWords(path)}`)];
    const found: StoreFinding[] = [];
    if (log?.doubt === true)
      found.push({ level: "warning", about, message: doubtWords(path), fix: `if there was no power cut, ${restore}` });
    let more = 0;
    try {
      for (const message of rowsOf(path)) {
        if (found.length < mostShown) found.push(error(message, restore));
        else more++;
      }
    } catch (cause) {
      if (!isDamage(cause)) throw failure(cause, path, "read");
      found.push(error(cause instanceof Error ? cause.message : String(cause), restore));
    }
    if (more > 0) found.push(error(`and ${more} more like these`, restore));
    return found;
  });
}

// Opened for writing: a log can be merged only so. Nothing else is written, nor is an older format taken over.
function* rowsOf(path: string): Generator<string> {
  const db = new Database(path, { readwrite: true, strict: true });
  try {
    db.run("PRAGMA locking_mode = EXCLUSIVE");
    const [id] = db.query<{ application_id: number }, []>("PRAGMA application_id").all();
    if (id?.application_id !== applicationId)
      throw new StoreFailure(`${path} is an SQLite database of another program; name the folder of a control plane`);
    const [verdict] = db.query<{ quick_check: string }, []>("PRAGMA quick_check(1)").all();
    if (verdict?.quick_check !== "ok") yield `SQLite says: ${verdict?.quick_check}`;
    const [version] = db.query<{ user_version: number }, []>("PRAGMA user_version").all();
    // Older ones have no checksums.
    if (version?.user_version === formatVersion) yield* wrongs(db);
  } finally {
    db.close();
  }
}

/** Puts the damaged log aside and keeps of it what stands before the damage. Answers what was done. Throws StoreFailure where nothing is damaged. */
export function cutLog(dir: string): string {
  const path = join(dir, "weft.db");
  return locked(path, () => {
    const log = readLog(logOf(path));
    if (log?.damage === undefined) {
      const wrong = log === undefined ? undefined : logDamage(path, log);
      if (wrong !== undefined) throw new StoreFailure(`${path}: ${wrong}; there is nothing to go on with, so ${restore}`);
      throw new StoreFailure(`the log of ${path} is not damaged; nothing was done`);
    }
    const aside = `${logOf(path)}.damaged-${new Date().toISOString().replace(/[:.]/g, "-")}`;
    copyFileSync(logOf(path), aside, constants.COPYFILE_EXCL);
    const file = openSync(logOf(path), "r+");
    try {
      ftruncateSync(file, log.bytes);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    const lost = log.lost === 0 ? "those behind are lost" : `${log.lost} or more behind it are lost`;
    return `${log.transactions} changes of the log are kept, ${lost}; the log as it was is in ${aside}\nlook at what is there: weft store check --data ${dir}; then start it: weft up --data ${dir}`;
  });
}

function locked<T>(path: string, run: () => T): T {
  const dir = join(path, "..");
  if (!existsSync(path)) throw new StoreFailure(`${dir} holds no store (weft.db)`);
  if (!statSync(path).isFile()) throw new StoreFailure(`${path} is no file`);
  const lock = lockFolder(dir);
  try {
    return run();
  } catch (cause) {
    throw cause instanceof StoreFailure || cause instanceof LockedError ? cause : failure(cause, path, "read");
  } finally {
    lock.release();
  }
}
