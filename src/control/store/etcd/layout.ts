// Owns: where things stand below the store's prefix in etcd, and how a row is written. Pure.
//
//   PREFIX/format            "weft-store 1"
//   PREFIX/head              the newest revision; every write compares and sets it, so that writes are one after another, whoever makes them
//   PREFIX/oldest            the oldest revision whose history is whole
//   PREFIX/o/RESOURCE/NS/NAME    an object as it is now
//   PREFIX/h/REVISION        what was written at a revision (16 digits, so that the order of keys is the order of time)
//   PREFIX/b/ID/N            a piece of a body that is too large for one request of etcd
//   PREFIX/lease/NAME        who does singleton work (`leases.ts`)
//   PREFIX/member/ID         a control plane that is there
//   PREFIX/usage/ID          what a control plane that is there has counted of global rate limits, told every second or two
//   PREFIX/secret/NAME       keys of the mesh that all control planes share
//
// Revisions are ours, not etcd's: they stay the same when a store is copied elsewhere, a transaction has one for each of its writes, and etcd may
// compact its own history whenever it likes.

import type { ObjectKey, Revision, StoreEvent } from "../store.ts";

export const formatMark = "weft-store 1";

/** A row of history. `body` as in SQLite: JSON without resourceVersion; of a deletion the last state. */
export interface HistoryRow {
  readonly revision: Revision;
  readonly type: StoreEvent["type"];
  readonly key: ObjectKey;
  readonly atMs: number;
  readonly by: string;
  /** First revision of its transaction. */
  readonly transaction: Revision;
  /** Revision of the object's state before; 0 = there was none. */
  readonly previous: Revision;
  /** Pieces of that state, which go with it. */
  readonly previousBlob?: string | undefined;
  /** What tells one attempt to write from another after a broken connection. */
  readonly attempt: string;
  readonly body: Body;
}

/** An object as it is now. */
export interface ObjectRow {
  readonly revision: Revision;
  readonly key: ObjectKey;
  readonly body: Body;
}

/** Text that stands in the row, or pieces under `b/ID/`. */
export type Body = { readonly text: string } | { readonly blob: string; readonly pieces: number };

const text = new TextDecoder();

export class Layout {
  readonly prefix: string;
  constructor(prefix: string) {
    this.prefix = prefix;
  }
  get format(): string {
    return `${this.prefix}/format`;
  }
  get head(): string {
    return `${this.prefix}/head`;
  }
  get oldest(): string {
    return `${this.prefix}/oldest`;
  }
  get objects(): string {
    return `${this.prefix}/o/`;
  }
  get history(): string {
    return `${this.prefix}/h/`;
  }
  get blobs(): string {
    return `${this.prefix}/b/`;
  }
  get members(): string {
    return `${this.prefix}/member/`;
  }
  get usage(): string {
    return `${this.prefix}/usage/`;
  }
  get secrets(): string {
    return `${this.prefix}/secret/`;
  }
  object(key: ObjectKey): string {
    return `${this.under(key.resource, key.namespace)}${encodeURIComponent(key.name)}`;
  }
  /** Prefix of the objects of a resource, or of one namespace of it. */
  under(resource: string, namespace?: string): string {
    const all = `${this.objects}${encodeURIComponent(resource)}/`;
    return namespace === undefined ? all : `${all}${encodeURIComponent(namespace)}/`;
  }
  at(revision: Revision): string {
    return `${this.history}${String(revision).padStart(16, "0")}`;
  }
  blob(id: string, piece: number): string {
    return `${this.blobs}${id}/${String(piece).padStart(4, "0")}`;
  }
  lease(name: string): string {
    return `${this.prefix}/lease/${encodeURIComponent(name)}`;
  }
}

/** The end of the range of all keys that begin with `prefix`. */
export function afterPrefix(prefix: string): Uint8Array {
  const bytes = Buffer.from(prefix);
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) + 1;
  return bytes;
}

/** The key that follows `key` at once. */
export function afterKey(key: Uint8Array): Uint8Array {
  return Buffer.concat([key, new Uint8Array(1)]);
}

// A row is a line of JSON and, behind it, the body as it is: JSON.stringify never writes a line feed.

export function writeObject(row: ObjectRow): Uint8Array {
  const { revision, key } = row;
  return join({ r: revision, k: [key.resource, key.namespace, key.name], ...blobOf(row.body) }, row.body);
}

export function readObject(value: Uint8Array): ObjectRow {
  const { head, body } = split<{ r: number; k: [string, string, string]; i?: string; n?: number }>(value);
  return { revision: head.r, key: keyOf(head.k), body: bodyOf(head, body) };
}

export function writeHistory(row: HistoryRow): Uint8Array {
  const { revision, type, key, atMs, by, transaction, previous, previousBlob, attempt } = row;
  const path = [key.resource, key.namespace, key.name];
  const head = { r: revision, t: type, k: path, m: atMs, w: by, x: transaction, p: previous, q: previousBlob, a: attempt };
  return join({ ...head, ...blobOf(row.body) }, row.body);
}

interface HistoryHead {
  readonly r: number;
  readonly t: StoreEvent["type"];
  readonly k: [string, string, string];
  readonly m: number;
  readonly w: string;
  readonly x: number;
  readonly p: number;
  readonly q?: string;
  readonly a: string;
  readonly i?: string;
  readonly n?: number;
}

export function readHistory(value: Uint8Array): HistoryRow {
  const { head, body } = split<HistoryHead>(value);
  return {
    revision: head.r,
    type: head.t,
    key: keyOf(head.k),
    atMs: head.m,
    by: head.w,
    transaction: head.x,
    previous: head.p,
    previousBlob: head.q,
    attempt: head.a,
    body: bodyOf(head, body),
  };
}

function keyOf([resource, namespace, name]: [string, string, string]): ObjectKey {
  return { resource, namespace, name };
}

function blobOf(body: Body): { i?: string; n?: number } {
  return "blob" in body ? { i: body.blob, n: body.pieces } : {};
}

function bodyOf(head: { readonly i?: string; readonly n?: number }, body: string): Body {
  return head.i === undefined ? { text: body } : { blob: head.i, pieces: head.n ?? 1 };
}

function join(head: unknown, body: Body): Uint8Array {
  return Buffer.from(`${JSON.stringify(head)}\n${"text" in body ? body.text : ""}`);
}

function split<H>(value: Uint8Array): { readonly head: H; readonly body: string } {
  const line = value.indexOf(10);
  return { head: JSON.parse(text.decode(value.subarray(0, line))) as H, body: text.decode(value.subarray(line + 1)) };
}
