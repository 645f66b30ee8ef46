// Owns: a store as a list of rows, by which it moves from one medium to another: reading one out of an SQLite file, writing one as such a file, and the
// hash by which two are told to be the same. Never opens a store in use.

import { rmSync, writeFileSync } from "node:fs";
import { checkWhole, readState } from "./sqlite-check.ts";
import { damage, failure, isDamage, openDatabase, writeState } from "./sqlite-file.ts";
import type { Revision, StoreEvent } from "./store.ts";
import { sumOf, Witness } from "./witness.ts";

/** A row of history as every medium has it. */
export interface DumpRow {
  readonly revision: Revision;
  readonly type: StoreEvent["type"];
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  /** JSON without resourceVersion. */
  readonly body: string;
  readonly at: number;
  readonly author: string;
  /** First revision of its transaction. */
  readonly tx: Revision;
}

export interface Dump {
  readonly revision: Revision;
  readonly oldest: Revision;
  /** By revision: all from `oldest` on, and of each object its newest state before that. */
  readonly rows: readonly DumpRow[];
}

/** What a dump holds, for people and for comparison. */
export interface DumpFacts {
  readonly revision: Revision;
  readonly objects: number;
  readonly historyRows: number;
  /** SHA-256 over every row, in hex. */
  readonly hash: string;
}

/** Leaves out what no list at a kept revision needs, so that two media that trim in different steps hold the same. */
export function makeDump(revision: Revision, oldest: Revision, rows: readonly DumpRow[]): Dump {
  const newest = new Map<string, Revision>();
  for (const row of rows) if (row.revision <= oldest) newest.set(pathOf(row), row.revision);
  const kept = rows.filter((row) => row.revision >= oldest || (newest.get(pathOf(row)) === row.revision && row.type !== "deleted"));
  return { revision, oldest, rows: kept.map((row) => (row.tx === 0 ? { ...row, tx: row.revision } : row)) };
}

/** The newest row of each object that is there. */
export function liveRows(dump: Dump): DumpRow[] {
  const newest = new Map<string, DumpRow>();
  for (const row of dump.rows) newest.set(pathOf(row), row);
  return [...newest.values()].filter((row) => row.type !== "deleted");
}

export function factsOf(dump: Dump): DumpFacts {
  const hash = new Bun.CryptoHasher("sha256");
  for (const { revision, type, resource, namespace, name, body, at, author, tx } of dump.rows)
    hash.update(`${JSON.stringify([revision, type, resource, namespace, name, at, author, tx, body])}\n`);
  return { revision: dump.revision, objects: liveRows(dump).length, historyRows: dump.rows.length, hash: hash.digest("hex") };
}

/** Reads a store's file. Throws StoreFailure, also when a control plane has it open. */
export function readSqliteDump(path: string): Dump {
  const db = openDatabase(path);
  try {
    // A copy of damage is worth nothing, and looks as if it were.
    checkWhole(db);
    const state = readState(db);
    const rows = db
      .query<DumpRow, []>("SELECT revision, type, resource, namespace, name, body, at, author, tx FROM history ORDER BY revision")
      .all();
    return makeDump(state.revision, state.oldest, rows);
  } catch (cause) {
    throw isDamage(cause) ? damage(cause, path) : failure(cause, path, "read");
  } finally {
    db.close();
  }
}

/** Writes a dump as a new file (mode 0600) that a store opens. Nothing is left behind when it fails. */
export async function writeSqliteDump(path: string, dump: Dump): Promise<void> {
  let made = false;
  try {
    writeFileSync(path, "", { mode: 0o600, flag: "wx" });
    made = true;
    const db = openDatabase(path);
    try {
      db.run("BEGIN");
      const add = db.prepare<unknown, [number, string, string, string, string, string, number, string, number, number]>(
        "INSERT INTO history (revision, type, resource, namespace, name, body, at, author, tx, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      );
      for (const row of dump.rows)
        add.run(row.revision, row.type, row.resource, row.namespace, row.name, row.body, row.at, row.author, row.tx, sumOf(row));
      const point = db.prepare<unknown, [string, string, string, number]>("INSERT INTO objects VALUES (?, ?, ?, ?)");
      const witness = new Witness();
      for (const row of liveRows(dump)) {
        point.run(row.resource, row.namespace, row.name, row.revision);
        witness.found(row, row.revision);
      }
      writeState(db, { revision: dump.revision, oldest: dump.oldest, entries: witness.entries, digest: witness.digest });
      add.finalize();
      point.finalize();
      db.run("COMMIT");
      // One file, without a log beside it.
      db.run("PRAGMA journal_mode = DELETE");
    } finally {
      db.close();
    }
  } catch (cause) {
    if (made) rmSync(path, { force: true });
    throw failure(cause, path, "written");
  }
}

function pathOf(row: DumpRow): string {
  return `${row.resource}\n${row.namespace}\n${row.name}`;
}
