// Owns: what the process knows of the rows in its store's file, so that bytes that somebody else has changed there are never taken for an answer: a checksum
// of each row that was written or read, and which revision of each object is there. Never reads the file.

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
}

/** What is in the file is not what was put there; the message says which row. */
export class DamageError extends Error {
  override readonly name = "DamageError";
}

type Names = Map<string, Revision>;

export class Witness {
  /** By revision. Some sixty bytes for each row of history. */
  readonly #sums = new Map<Revision, number>();
  /** The revision of each object that is there: by resource, namespace and name. */
  readonly #there = new Map<string, Map<string, Names>>();
  /** Changes since `begin`, newest last. */
  #undo: { readonly key: ObjectKey; readonly before: Revision | undefined; readonly revision: Revision }[] = [];

  /** An object that the file had when it was opened. */
  found(key: ObjectKey, revision: Revision): void {
    this.#set(key, revision);
  }

  /** What is noted from now on can be taken back until the next `begin`. */
  begin(): void {
    this.#undo = [];
  }

  rollback(): void {
    for (const { key, before, revision } of this.#undo.reverse()) {
      this.#sums.delete(revision);
      this.#set(key, before);
    }
    this.#undo = [];
  }

  written(row: WitnessedRow): void {
    this.#undo.push({ key: row, before: this.#there.get(row.resource)?.get(row.namespace)?.get(row.name), revision: row.revision });
    this.#sums.set(row.revision, sumOf(row));
    this.#set(row, row.type === "deleted" ? undefined : row.revision);
  }

  /** Rows below `bound` that no object stands on are gone from the file. */
  trimmed(bound: Revision): void {
    const kept = new Set<Revision>();
    for (const namespaces of this.#there.values()) for (const names of namespaces.values()) for (const at of names.values()) kept.add(at);
    for (const revision of this.#sums.keys()) if (revision < bound && !kept.has(revision)) this.#sums.delete(revision);
  }

  /** The row is what it was when it was written, or first read. Throws DamageError. */
  check(row: WitnessedRow): void {
    const sum = sumOf(row);
    const known = this.#sums.get(row.revision);
    if (known === undefined) this.#sums.set(row.revision, sum);
    else if (known !== sum) throw new DamageError(`the row of revision ${row.revision} is not the one that was written`);
  }

  /** What was found of one object; null = nothing. Throws DamageError. */
  checkObject(key: ObjectKey, row: WitnessedRow | null): void {
    const known = this.#there.get(key.resource)?.get(key.namespace)?.get(key.name);
    if (known !== row?.revision)
      throw new DamageError(`${textOf(key)} should be at revision ${known ?? "none"}, found ${row?.revision ?? "none"}`);
    if (row !== null) this.check(row);
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
  }
}

/** A seventh of a microsecond for a kilobyte. Against accidents, not against somebody who means it. */
function sumOf({ revision, type, resource, namespace, name, body, at, author, tx }: WitnessedRow): number {
  const head = Bun.hash.crc32(`${revision} ${type} ${resource} ${namespace} ${name} ${at} ${author} ${tx}`);
  return (Bun.hash.crc32(body) ^ Math.imul(head, 0x9e3779b1)) >>> 0;
}

function textOf({ resource, namespace, name }: ObjectKey): string {
  return `${resource} ${namespace === "" ? name : `${namespace}/${name}`}`;
}
