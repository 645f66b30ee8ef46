// Owns: how a store's file vouches for itself, so that bytes that somebody else has changed there are never taken for an answer: the checksum that stands beside
// each row, the one over which revision of each object is there, and what the process knows of that. Never reads the file.

import type { ObjectKey, Revision, StoreEvent } from "./store.ts";

/** A row of history, as far as a checksum goes over it. */
export interface WitnessedRow {
  readonly revision: Revision;
  readonly type: StoreEvent["type"];
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly body: string;
  readonly at: number;
  readonly author: string;
  readonly tx: number;
  /** As it stands in the file. */
  readonly sum: number;
}

/** The one row beside history and objects, as far as a checksum goes over it. */
export interface WitnessedState {
  readonly revision: Revision;
  readonly oldest: Revision;
  /** How many objects are there. */
  readonly entries: number;
  /** Over all of them with their revisions, in any order. */
  readonly digest: number;
}

/** What is in the file is not what was put there; the message says which row. */
export class DamageError extends Error {
  override readonly name = "DamageError";
}

type Names = Map<string, Revision>;

export class Witness {
  /** The revision of each object that is there: by resource, namespace and name. */
  readonly #there = new Map<string, Map<string, Names>>();
  #entries = 0;
  #digest = 0;
  /** Changes since `begin`, newest last. */
  #undo: { readonly key: ObjectKey; readonly before: Revision | undefined }[] = [];

  get entries(): number {
    return this.#entries;
  }

  get digest(): number {
    return this.#digest;
  }

  /** An object that the file had when it was opened. */
  found(key: ObjectKey, revision: Revision): void {
    this.#set(key, revision);
  }

  /** What is noted from now on can be taken back until the next `begin`. */
  begin(): void {
    this.#undo = [];
  }

  rollback(): void {
    for (const { key, before } of this.#undo.reverse()) this.#set(key, before);
    this.#undo = [];
  }

  written(key: ObjectKey, type: StoreEvent["type"], revision: Revision): void {
    this.#undo.push({ key, before: this.#there.get(key.resource)?.get(key.namespace)?.get(key.name) });
    this.#set(key, type === "deleted" ? undefined : revision);
  }

  /** What was found of one object; null = nothing. Throws DamageError. */
  checkObject(key: ObjectKey, row: WitnessedRow | null): void {
    const known = this.#there.get(key.resource)?.get(key.namespace)?.get(key.name);
    if (known !== row?.revision)
      throw new DamageError(`${textOf(key)} should be at revision ${known ?? "none"}, found ${row?.revision ?? "none"}`);
    if (row !== null) checkRow(row);
  }

  /** What was found of a resource, of one namespace or all, or (without either) of everything. Throws DamageError. */
  checkObjects(rows: readonly WitnessedRow[], resource?: string, namespace?: string): void {
    for (const row of rows) this.checkObject(row, row);
    let expected = 0;
    for (const [each, namespaces] of this.#there) {
      if (resource !== undefined && each !== resource) continue;
      for (const [other, names] of namespaces) if (namespace === undefined || other === namespace) expected += names.size;
    }
    if (rows.length !== expected)
      throw new DamageError(`of ${resource ?? "all resources"} there should be ${expected} objects, found ${rows.length}`);
  }

  #set(key: ObjectKey, revision: Revision | undefined): void {
    let namespaces = this.#there.get(key.resource);
    let names = namespaces?.get(key.namespace);
    const before = names?.get(key.name);
    if (before !== undefined) {
      this.#entries--;
      this.#digest = (this.#digest + modulus - entrySum(key, before)) % modulus;
    }
    if (revision === undefined) {
      names?.delete(key.name);
      return;
    }
    if (namespaces === undefined) {
      namespaces = new Map();
      this.#there.set(key.resource, namespaces);
    }
    if (names === undefined) {
      names = new Map();
      namespaces.set(key.namespace, names);
    }
    names.set(key.name, revision);
    this.#entries++;
    this.#digest = (this.#digest + entrySum(key, revision)) % modulus;
  }
}

/** The row is what was written. Throws DamageError. */
export function checkRow(row: WitnessedRow): void {
  if (sumOf(row) !== row.sum)
    throw new DamageError(`the row of revision ${row.revision} is not the one that was written (it is now of ${textOf(row)})`);
}

// XXH64 has a specification and never changes, so that the sums of today are those of any later runtime; `witness.test.ts` holds it to that. 48 bits of it are
// an exact number both here and in SQLite, and so is the sum of two.
const modulus = 2 ** 48;
const mask = 0xffff_ffff_ffffn;

/** Of a row of history: a fifth of a microsecond for a kilobyte. Against accidents, not against somebody who means it: whoever can write the file can write the sum too. */
export function sumOf({ revision, type, resource, namespace, name, body, at, author, tx }: Omit<WitnessedRow, "sum">): number {
  // A damaged header of the row makes another type of its value.
  if (typeof body !== "string") return -1;
  const head = Bun.hash.xxHash64(`${revision}\0${type}\0${resource}\0${namespace}\0${name}\0${at}\0${author}\0${tx}`);
  return Number(Bun.hash.xxHash64(body, head) & mask);
}

/** Of the row of state. As weak as `sumOf`. */
export function stateSum({ revision, oldest, entries, digest }: WitnessedState): number {
  return Number(Bun.hash.xxHash64(`${revision}\0${oldest}\0${entries}\0${digest}`) & mask);
}

function entrySum({ resource, namespace, name }: ObjectKey, revision: Revision): number {
  return Number(Bun.hash.xxHash64(`${resource}\0${namespace}\0${name}\0${revision}`) & mask);
}

export function textOf({ resource, namespace, name }: ObjectKey): string {
  return `${resource} ${namespace === "" ? name : `${namespace}/${name}`}`;
}
