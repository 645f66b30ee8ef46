// Owns: looking through a whole SQLite file of the store for what is not what was written: every row by its checksum, the list of objects, the revision counter,
// and rows that are missing. Names what it finds. Never writes.

import type { Database } from "bun:sqlite";
import type { ObjectKey, Revision } from "./store.ts";
import { checkRow, DamageError, stateSum, textOf, Witness, type WitnessedRow, type WitnessedState } from "./witness.ts";

export interface FileState extends WitnessedState {
  readonly sum: number;
}

interface Entry extends ObjectKey {
  readonly revision: Revision;
}

const pageRows = 256;

/** The row of state. Throws DamageError where there is none, or another than was written. */
export function readState(db: Database): FileState {
  const state = db.query<FileState, []>("SELECT revision, oldest, entries, digest, sum FROM state WHERE id = 1").get();
  if (state === null) throw new DamageError("the revision counter is missing");
  if (stateSum(state) !== state.sum)
    throw new DamageError(`the row of the revision counter (now ${state.revision}) is not the one that was written`);
  return state;
}

/** Which objects are there, into a new Witness. Throws DamageError where they are not those that were written. */
export function readEntries(db: Database, state: WitnessedState): Witness {
  const witness = new Witness();
  const all = db.query<Entry, []>("SELECT resource, namespace, name, revision FROM objects").all();
  for (const { revision, ...key } of all) witness.found(key, revision);
  if (witness.entries === state.entries && witness.digest === state.digest) return witness;
  throw new DamageError(wrongEntry(db) ?? `the list of objects is not the one that was written (${state.entries} then, ${all.length} now)`);
}

/** Which one it is, as far as history tells. */
function wrongEntry(db: Database): string | undefined {
  const same = "h.resource = o.resource AND h.namespace = o.namespace AND h.name = o.name";
  const lost = db
    .query<
      Entry,
      []
    >(`SELECT h.* FROM history h WHERE h.type <> 'deleted' AND NOT EXISTS (SELECT 1 FROM objects o WHERE ${same} AND h.revision = o.revision)
      AND NOT EXISTS (SELECT 1 FROM history o WHERE ${same} AND o.revision > h.revision) LIMIT 1`)
    .get();
  if (lost !== null) return `${textOf(lost)} is missing among the objects, it was written at revision ${lost.revision}`;
  const foreign = db
    .query<Entry, []>(
      `SELECT o.* FROM objects o WHERE NOT EXISTS (SELECT 1 FROM history h WHERE ${same} AND h.revision = o.revision) LIMIT 1`,
    )
    .get();
  return foreign === null
    ? undefined
    : `${textOf(foreign)} stands among the objects at revision ${foreign.revision}, which did not write it`;
}

/** All that is wrong with a file, each in a few words; ends early where nothing more can be read. Reads every row: some 3 µs each. */
export function* wrongs(db: Database): Generator<string> {
  const state = yield* said(() => readState(db));
  if (state === undefined) return;
  yield* said(() => readEntries(db, state));
  const page = db.prepare<WitnessedRow, [number, number]>("SELECT * FROM history WHERE revision > ? ORDER BY revision LIMIT ?");
  try {
    let expected = state.oldest + 1;
    for (let at = -1; ; ) {
      const rows = page.all(at, pageRows);
      for (const row of rows) {
        if (row.revision > state.oldest) {
          if (row.revision !== expected) yield `the row of revision ${expected} is missing`;
          expected = row.revision + 1;
        }
        yield* said(() => checkRow(row));
      }
      if (rows.length < pageRows) break;
      at = rows.at(-1)?.revision ?? at;
    }
    if (expected <= state.revision) yield `the row of revision ${expected} is missing`;
  } finally {
    page.finalize();
  }
  const headless = db
    .query<Entry, [number]>(`SELECT * FROM history h WHERE h.revision > ? AND h.type <> 'added' AND NOT EXISTS (SELECT 1 FROM history b
      WHERE b.resource = h.resource AND b.namespace = h.namespace AND b.name = h.name AND b.revision < h.revision) LIMIT 1`)
    .get(state.oldest);
  if (headless !== null) yield `the state of ${textOf(headless)} before revision ${headless.revision} is missing`;
}

/** Throws DamageError with the first few wrongs of a file. */
export function checkWhole(db: Database): void {
  const found: string[] = [];
  let more = 0;
  for (const wrong of wrongs(db)) {
    if (found.length < 3) found.push(wrong);
    else more++;
  }
  if (found.length > 0) throw new DamageError(`${found.join("; ")}${more === 0 ? "" : `; and ${more} more`}`);
}

function* said<T>(run: () => T): Generator<string, T | undefined> {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    yield error.message;
    return undefined;
  }
}
