// Owns: the one interface behind which state is kept. `contract.ts` beside it is the suite that every implementation must pass.
// Never knows kinds: a resource is a string such as `httproutes.gateway.networking.k8s.io`.

import type { KubeObject } from "../../api/meta.ts";

export interface ObjectKey {
  readonly resource: string;
  /** Empty string for cluster-scoped objects. */
  readonly namespace: string;
  readonly name: string;
}

/** Revisions are positive integers that grow by at least one with every write in the whole store. */
export type Revision = number;

export type StoreEvent =
  | { readonly type: "added" | "modified"; readonly key: ObjectKey; readonly object: KubeObject; readonly revision: Revision }
  /** `object` is the last state before deletion, with the deletion's resourceVersion. */
  | { readonly type: "deleted"; readonly key: ObjectKey; readonly object: KubeObject; readonly revision: Revision };

export type WriteResult =
  | { readonly ok: true; readonly object: KubeObject; readonly revision: Revision }
  | { readonly ok: false; readonly reason: "exists" | "missing" }
  /** Compare-and-set lost: someone wrote revision `current` in between. */
  | { readonly ok: false; readonly reason: "conflict"; readonly current: Revision }
  /** By the guard of the write. */
  | { readonly ok: false; readonly reason: "refused" };

/**
 * What a write rests on beside the state of its own object: a verdict over other objects. Asked before each attempt with the revision that the write would
 * follow, and the write is made only on the very state of that revision; where others come first it is asked again. false = nothing is written. What it throws
 * goes to the writer, and nothing is written either.
 */
export type Guard = (head: Revision) => boolean | Promise<boolean>;

/** One of several writes that happen together or not at all. `expected` as in `Store.update`; an object that is to be created expects nothing. */
export type Write =
  | { readonly verb: "create"; readonly key: ObjectKey; readonly object: KubeObject }
  | { readonly verb: "update"; readonly key: ObjectKey; readonly object: KubeObject; readonly expected: Revision | undefined }
  | { readonly verb: "delete"; readonly key: ObjectKey; readonly expected: Revision | undefined };

export type TransactionResult =
  | { readonly ok: true; readonly results: readonly Extract<WriteResult, { ok: true }>[] }
  /** Nothing was written, because of this one. */
  | {
      readonly ok: false;
      readonly key: ObjectKey;
      readonly reason: Extract<WriteResult, { ok: false }>["reason"];
      readonly current?: Revision;
    };

/** A write as it is remembered. */
export interface HistoryEntry {
  readonly revision: Revision;
  /** The first revision of the transaction it was part of; its own when it was alone. */
  readonly transaction: Revision;
  /** Wall clock, ms; 0 = written before times were kept. */
  readonly atMs: number;
  /** Who asked for it, as the writer said; empty = the control plane itself, or not known. */
  readonly by: string;
  readonly type: StoreEvent["type"];
  readonly key: ObjectKey;
  /** As it was after the write; of a deletion, before it. */
  readonly object: KubeObject;
}

export interface HistoryQuery {
  readonly resource?: string;
  readonly namespace?: string;
  readonly name?: string;
  /** Only entries with a revision below. */
  readonly before?: Revision;
  /** Leaves out writes by the control plane itself. */
  readonly withAuthor?: boolean;
  /** At most so many, the newest. */
  readonly limit: number;
}

export interface WatchHandle {
  /** Idempotent; no event is delivered after it returns. */
  stop(): void;
}

/** The revision asked for has been compacted away; list again and watch from there (HTTP 410). */
export class CompactedError extends Error {
  override readonly name = "CompactedError";
  readonly oldest: Revision;
  constructor(oldest: Revision) {
    super(`revision is older than the oldest kept, ${oldest}`);
    this.oldest = oldest;
  }
}

/** The largest object a store takes, in bytes of its JSON. Kubernetes' etcd has the same limit for a request. */
export const maxObjectBytes = 1.5 * 1024 * 1024;

/** The object is larger than `maxObjectBytes` (HTTP 413). Nothing was written. */
export class ObjectTooLargeError extends Error {
  override readonly name = "ObjectTooLargeError";
  constructor(key: ObjectKey, sizeBytes: number) {
    const what = key.namespace === "" ? key.name : `${key.namespace}/${key.name}`;
    super(
      `${key.resource} ${what} is ${sizeBytes} bytes of JSON; the limit is ${maxObjectBytes} (1.5 MiB). Split it into several objects.`,
    );
  }
}

/** The medium failed (disk full, file gone). Nothing was written. */
export class StoreFailure extends Error {
  override readonly name = "StoreFailure";
}

export interface Store {
  /** The newest revision written. */
  revision(): Promise<Revision>;
  get(key: ObjectKey): Promise<KubeObject | undefined>;
  /** Sorted by namespace, then name. `revision` is the one the list is true at; watch from it to miss nothing. */
  list(resource: string, namespace?: string): Promise<{ readonly items: readonly KubeObject[]; readonly revision: Revision }>;
  /** Every object of every resource, at one revision. */
  listAll(): Promise<{ readonly items: readonly { readonly key: ObjectKey; readonly object: KubeObject }[]; readonly revision: Revision }>;
  /**
   * As `list`, at an earlier revision; with `after` only what comes behind that object. Throws CompactedError when the revision is older
   * than the history kept; a revision yet to come is the newest.
   */
  listAt(
    revision: Revision,
    resource: string,
    namespace?: string,
    after?: { readonly namespace: string; readonly name: string },
  ): Promise<{ readonly items: readonly KubeObject[] }>;
  /** As `listAll`, at an earlier revision. Throws CompactedError. */
  listAllAt(revision: Revision): Promise<{ readonly items: readonly { readonly key: ObjectKey; readonly object: KubeObject }[] }>;
  /** What was written, newest first, as far back as history is kept. */
  history(query: HistoryQuery): Promise<readonly HistoryEntry[]>;
  /** The oldest revision that `listAt` and `history` know whole. */
  oldest(): Promise<Revision>;
  /** Stores a new object; sets its `metadata.resourceVersion`. Durable when the promise resolves; `by` goes into the history. Rejects with ObjectTooLargeError. */
  create(key: ObjectKey, object: KubeObject, by?: string, guard?: Guard): Promise<WriteResult>;
  /** Replaces an object if its revision is still `expected`; undefined = whatever it is. */
  update(key: ObjectKey, object: KubeObject, expected: Revision | undefined, by?: string, guard?: Guard): Promise<WriteResult>;
  delete(key: ObjectKey, expected: Revision | undefined, by?: string, guard?: Guard): Promise<WriteResult>;
  /** All of them or none, in their order, each with a revision of its own. Throws RangeError when two name the same object. */
  transact(writes: readonly Write[], by?: string, guard?: Guard): Promise<TransactionResult>;
  /** A copy of everything, history included, true at one revision, as a new file (mode 0600) that can be put in the store's place. Taken while the store is in use. */
  backup(path: string): Promise<{ readonly revision: Revision }>;
  /**
   * Delivers every event after `from`, in revision order, each once, asynchronously, until stopped. `resource` undefined = all.
   * Throws CompactedError when `from` is too old. A slow consumer is never dropped silently: delivery is by callback and must not block.
   * The object of an event is shared by all watchers: nobody may change it.
   */
  watch(from: Revision, resource: string | undefined, onEvent: (event: StoreEvent) => void): Promise<WatchHandle>;
  /** Forgets history before `before` (events, not objects). */
  compact(before: Revision): Promise<void>;
  close(): Promise<void>;
}
