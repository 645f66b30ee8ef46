// Owns: the store that several control planes share, in etcd: the contract of `store.ts` over `writer.ts`, `tail.ts` and `rows.ts`. Reads are of what
// etcd has agreed on, never of what this process remembers. Never knows kinds.

import { randomBytes } from "node:crypto";
import type { KubeObject } from "../../../api/meta.ts";
import { type Clock, systemClock } from "../../../base/clock.ts";
import { writeSqliteDump } from "../dump.ts";
import type { Fence } from "../fence.ts";
import {
  CompactedError,
  type Guard,
  type HistoryEntry,
  type HistoryQuery,
  maxObjectBytes,
  type ObjectKey,
  ObjectTooLargeError,
  type Revision,
  type Store,
  type StoreEvent,
  StoreFailure,
  type TransactionResult,
  type WatchHandle,
  type Write,
  type WriteResult,
} from "../store.ts";
import { type EtcdAddress, EtcdConnection } from "./connection.ts";
import { dumpEtcd } from "./dump.ts";
import { afterPrefix, formatMark, type HistoryRow, Layout, type ObjectRow, readHistory, readObject } from "./layout.ts";
import { madeAt, put, range, remove, transaction, writtenAt } from "./requests.ts";
import { type Head, Rows } from "./rows.ts";
import { Tail } from "./tail.ts";
import { Writer } from "./writer.ts";

export interface EtcdStoreOptions {
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Hears of what nobody awaits: a watcher that threw, a watch that broke. Default: ignored. */
  readonly onError?: (error: unknown) => void;
  /** This store cannot be followed any further (see `TailOptions`): whoever holds what he read of it must begin anew. */
  readonly onLost?: (why: string) => void;
  /** etcd's --max-request-bytes; default 1.5 MiB, etcd's own. */
  readonly maxRequestBytes?: number;
  /** See `ConnectionOptions`; for tests. */
  readonly callTimeoutMs?: number;
  readonly totalTimeoutMs?: number;
}

/** etcd's default for --max-request-bytes. */
export const defaultRequestBytes = 1.5 * 1024 * 1024;
const giveUpMs = 10_000;
/** A write is answered so much later at most when watchers here are behind: it is safe, whoever has seen it. */
const seenLimitMs = 3_000;
/** Rows looked through at once for `history`. */
const historyPage = 200;
const sweepBatch = 100;

export interface EtcdStore extends Store {
  readonly rows: Rows;
  /** The same store, whose writes are refused once the fence's lease has ended. */
  fenced(fence: Fence): Store;
  /** Since when etcd has not answered, ms, and why; 0 while it answers. */
  readonly silence: { readonly forMs: number; readonly problem: string };
}

/** Connects, checks that what stands below the prefix is ours, and follows it. Throws StoreFailure in words for the user. */
export async function openEtcdStore(address: EtcdAddress, options: EtcdStoreOptions = {}): Promise<EtcdStore> {
  const limits = {
    ...(options.callTimeoutMs !== undefined && { callTimeoutMs: options.callTimeoutMs }),
    ...(options.totalTimeoutMs !== undefined && { totalTimeoutMs: options.totalTimeoutMs }),
    ...(options.random !== undefined && { random: options.random }),
  };
  const connection = new EtcdConnection(address, limits);
  try {
    const rows = new Rows(connection, new Layout(address.prefix));
    return new SharedStore(rows, await takePrefix(rows), options);
  } catch (cause) {
    connection.close();
    throw cause;
  }
}

/** Marks an empty prefix as ours, or makes sure that it is. */
async function takePrefix(rows: Rows): Promise<Head> {
  const { layout, connection } = rows;
  const [format, anything] = await rows.several([
    { from: layout.format },
    { from: `${layout.prefix}/`, to: afterPrefix(`${layout.prefix}/`), limit: 1, keysOnly: true },
  ]);
  const mark = format?.kvs[0] === undefined ? undefined : new TextDecoder().decode(format.kvs[0].value);
  if (mark === undefined && anything?.kvs[0] !== undefined)
    throw new StoreFailure(
      `etcd holds keys of another program below ${layout.prefix} (${new TextDecoder().decode(anything.kvs[0].key)}). Name another prefix: --store etcd://HOST:PORT/PREFIX.`,
    );
  if (mark !== undefined && mark !== formatMark) throw new StoreFailure(wrongMark(mark, layout.prefix));
  if (mark === undefined) {
    const request = transaction(
      [writtenAt(layout.format, 0n)],
      [put(layout.format, formatMark), put(layout.head, "0"), put(layout.oldest, "1 1")],
      [],
    );
    // Of several that start at once one makes it; all find it made.
    await connection.txn(request, true);
  }
  return rows.head();
}

export function wrongMark(mark: string, prefix: string): string {
  if (mark.endsWith("loading"))
    return `a copy into etcd below ${prefix} was cut short or is under way; make it again (weft store copy), or name another prefix.`;
  return `etcd holds the store format ${JSON.stringify(mark)} below ${prefix}; this version of Weft knows ${JSON.stringify(formatMark)} only. Use the Weft that wrote it, or another prefix.`;
}

type Done = Extract<WriteResult, { ok: true }>;

class SharedStore implements EtcdStore {
  readonly rows: Rows;
  readonly #tail: Tail;
  readonly #writer: Writer;
  #open = true;

  constructor(rows: Rows, head: Head, options: EtcdStoreOptions) {
    this.rows = rows;
    const random = options.random ?? (() => randomBytes(4).readUInt32LE() / 2 ** 32);
    const clock = options.clock ?? systemClock;
    this.#tail = new Tail(head.revision, {
      rows,
      clock,
      random,
      onError: options.onError ?? (() => {}),
      onLost: options.onLost ?? (() => {}),
      toEvent: async (row) => eventOf(row, await rows.bodyOf(row.body)),
    });
    this.#writer = new Writer({
      rows,
      random,
      nowMs: () => clock.now(),
      monoMs: () => clock.mono(),
      maxRequestBytes: options.maxRequestBytes ?? defaultRequestBytes,
      giveUpMs,
      written: async (written, texts) => {
        const events: StoreEvent[] = [];
        for (const [at, row] of written.entries())
          events.push(eventOf(row, row.type === "deleted" ? await rows.bodyOf(row.body) : (texts[at] as string)));
        this.#tail.offer(events);
        await this.#tail.reached(written.at(-1)?.revision ?? 0, seenLimitMs);
      },
    });
  }

  get silence(): { readonly forMs: number; readonly problem: string } {
    return this.#tail.silence;
  }

  async revision(): Promise<Revision> {
    this.#check();
    return (await this.rows.head()).revision;
  }

  async get(key: ObjectKey): Promise<KubeObject | undefined> {
    this.#check();
    const { kvs } = await this.rows.connection.range(range({ from: this.rows.layout.object(key) }));
    return kvs[0] === undefined ? undefined : this.#object(readObject(kvs[0].value));
  }

  async list(resource: string, namespace?: string): Promise<{ items: readonly KubeObject[]; revision: Revision }> {
    this.#check();
    const { kvs, head } = await this.rows.snapshot(this.rows.layout.under(resource, namespace));
    const found = kvs.map((kv) => readObject(kv.value)).sort(inOrder);
    return { items: await Promise.all(found.map((row) => this.#object(row))), revision: head.revision };
  }

  async listAll(): Promise<{ items: readonly { key: ObjectKey; object: KubeObject }[]; revision: Revision }> {
    this.#check();
    const { kvs, head } = await this.rows.snapshot(this.rows.layout.objects);
    const found = kvs.map((kv) => readObject(kv.value)).sort(inOrder);
    const items = await Promise.all(found.map(async (row) => ({ key: row.key, object: await this.#object(row) })));
    return { items, revision: head.revision };
  }

  async listAt(
    revision: Revision,
    resource: string,
    namespace?: string,
    after?: { readonly namespace: string; readonly name: string },
  ): Promise<{ items: readonly KubeObject[] }> {
    const found = await this.#past(revision, this.rows.layout.under(resource, namespace));
    const wanted = found.filter(({ key }) => key.resource === resource && (namespace === undefined || key.namespace === namespace));
    const rest =
      after === undefined
        ? wanted
        : wanted.filter(
            ({ key }) => compare(key.namespace, after.namespace) > 0 || (key.namespace === after.namespace && key.name > after.name),
          );
    return { items: await Promise.all(rest.map((row) => this.#object(row))) };
  }

  async listAllAt(revision: Revision): Promise<{ items: readonly { key: ObjectKey; object: KubeObject }[] }> {
    const found = await this.#past(revision, this.rows.layout.objects);
    return { items: await Promise.all(found.map(async (row) => ({ key: row.key, object: await this.#object(row) }))) };
  }

  async history(query: HistoryQuery): Promise<readonly HistoryEntry[]> {
    this.#check();
    const { resource, namespace, name, before = Number.MAX_SAFE_INTEGER, withAuthor = false, limit } = query;
    const { layout, connection } = this.rows;
    const head = await this.rows.head();
    const found: HistoryRow[] = [];
    const from = layout.at(head.oldest);
    let to: Uint8Array = Buffer.from(layout.at(Math.min(before, head.revision + 1)));
    while (found.length < limit) {
      const page = await connection.range(range({ from, to, limit: historyPage, descending: true }));
      for (const kv of page.kvs) {
        const row = readHistory(kv.value);
        if (found.length >= limit) break;
        if (withAuthor && row.by === "") continue;
        if (resource !== undefined && row.key.resource !== resource) continue;
        if (namespace !== undefined && row.key.namespace !== namespace) continue;
        if (name !== undefined && row.key.name !== name) continue;
        found.push(row);
      }
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) break;
      to = last.key;
    }
    return Promise.all(
      found.map(
        async (row): Promise<HistoryEntry> => ({
          revision: row.revision,
          transaction: row.transaction,
          atMs: row.atMs,
          by: row.by,
          type: row.type,
          key: row.key,
          object: parse(await this.rows.bodyOf(row.body), row.revision),
        }),
      ),
    );
  }

  async oldest(): Promise<Revision> {
    this.#check();
    return (await this.rows.head()).oldest;
  }

  create(key: ObjectKey, object: KubeObject, by?: string, guard?: Guard): Promise<WriteResult> {
    return this.#single({ verb: "create", key, object }, by, undefined, guard);
  }

  update(key: ObjectKey, object: KubeObject, expected: Revision | undefined, by?: string, guard?: Guard): Promise<WriteResult> {
    return this.#single({ verb: "update", key, object, expected }, by, undefined, guard);
  }

  delete(key: ObjectKey, expected: Revision | undefined, by?: string, guard?: Guard): Promise<WriteResult> {
    return this.#single({ verb: "delete", key, expected }, by, undefined, guard);
  }

  transact(writes: readonly Write[], by?: string, guard?: Guard): Promise<TransactionResult> {
    return this.#transact(writes, by, undefined, guard);
  }

  fenced(fence: Fence): Store {
    const store: Store = {
      revision: () => this.revision(),
      get: (key) => this.get(key),
      list: (resource, namespace) => this.list(resource, namespace),
      listAll: () => this.listAll(),
      listAt: (...asked) => this.listAt(...asked),
      listAllAt: (revision) => this.listAllAt(revision),
      history: (query) => this.history(query),
      oldest: () => this.oldest(),
      create: (key, object, by, guard) => this.#single({ verb: "create", key, object }, by, fence, guard),
      update: (key, object, expected, by, guard) => this.#single({ verb: "update", key, object, expected }, by, fence, guard),
      delete: (key, expected, by, guard) => this.#single({ verb: "delete", key, expected }, by, fence, guard),
      transact: (writes, by, guard) => this.#transact(writes, by, fence, guard),
      backup: (path) => this.backup(path),
      watch: (...asked) => this.watch(...asked),
      compact: (before) => this.#compact(before, fence),
      close: async () => undefined,
    };
    return store;
  }

  async backup(path: string): Promise<{ revision: Revision }> {
    this.#check();
    const dump = await dumpEtcd(this.rows);
    await writeSqliteDump(path, dump);
    return { revision: dump.revision };
  }

  async watch(from: Revision, resource: string | undefined, onEvent: (event: StoreEvent) => void): Promise<WatchHandle> {
    this.#check();
    const { oldest } = await this.rows.head();
    this.#check();
    if (from + 1 < oldest) throw new CompactedError(oldest);
    return this.#tail.add(from, resource, onEvent);
  }

  compact(before: Revision): Promise<void> {
    return this.#compact(before, undefined);
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#writer.settled();
    this.#tail.stop();
    this.rows.connection.close();
  }

  // ---- writing -----------------------------------------------------------------------------------------------------------------------------

  async #single(write: Write, by: string | undefined, fence: Fence | undefined, guard?: Guard): Promise<WriteResult> {
    const result = await this.#enqueue([write], by, fence, guard);
    if (result.ok) return result.results[0] as Done;
    if (result.reason !== "conflict") return { ok: false, reason: result.reason };
    return { ok: false, reason: "conflict", current: result.current ?? 0 };
  }

  async #transact(writes: readonly Write[], by: string | undefined, fence: Fence | undefined, guard?: Guard): Promise<TransactionResult> {
    const seen = new Set<string>();
    for (const { key } of writes) {
      const path = this.rows.layout.object(key);
      if (seen.has(path)) throw new RangeError(`one transaction names ${key.resource} ${key.namespace}/${key.name} twice`);
      seen.add(path);
    }
    return writes.length === 0 ? { ok: true, results: [] } : this.#enqueue(writes, by, fence, guard);
  }

  async #enqueue(writes: readonly Write[], by = "", fence: Fence | undefined, guard?: Guard): Promise<TransactionResult> {
    this.#check();
    const pending = writes.map((write) => {
      const { verb, key } = write;
      const body = verb === "delete" ? "" : serialise(write.object);
      if (body.length * 3 > maxObjectBytes) {
        const sizeBytes = Buffer.byteLength(body);
        if (sizeBytes > maxObjectBytes) throw new ObjectTooLargeError(key, sizeBytes);
      }
      return { verb, key: { ...key }, body, expected: verb === "create" ? undefined : write.expected };
    });
    const written = await new Promise<Parameters<Parameters<Writer["submit"]>[0]["resolve"]>[0]>((resolve, reject) => {
      this.#writer.submit({ writes: pending, author: by, fence, guard, resolve, reject });
    });
    if (!written.ok) return written;
    const results: Done[] = [];
    for (const [at, row] of written.rows.entries()) {
      const text = row.type === "deleted" ? await this.rows.bodyOf(row.body) : (written.texts[at] as string);
      results.push({ ok: true, object: parse(text, row.revision), revision: row.revision });
    }
    return { ok: true, results };
  }

  // ---- the past ----------------------------------------------------------------------------------------------------------------------------

  /** What stood below a prefix at a revision: what stands there now, with what was written since taken back. */
  async #past(revision: Revision, prefix: string): Promise<ObjectRow[]> {
    this.#check();
    const { layout } = this.rows;
    const { kvs, head } = await this.rows.snapshot(prefix);
    if (revision < head.oldest && revision < head.revision) throw new CompactedError(head.oldest);
    const state = new Map(kvs.map((kv) => [Buffer.from(kv.key).toString(), readObject(kv.value)]));
    if (revision < head.revision) {
      // The first write after the revision says what was there before.
      const since = new Map<string, Revision>();
      for (const kv of await this.rows.all(layout.at(revision + 1), afterPrefix(layout.history), head.etcd)) {
        const { key, previous } = readHistory(kv.value);
        const path = layout.object(key);
        if (path.startsWith(prefix) && !since.has(path)) since.set(path, previous);
      }
      for (const [path, previous] of since) {
        const then = previous === 0 ? undefined : await this.#rowAt(previous, head.etcd);
        if (then === undefined) state.delete(path);
        else state.set(path, { revision: then.revision, key: then.key, body: then.body });
      }
    }
    return [...state.values()].sort(inOrder);
  }

  async #rowAt(revision: Revision, etcd: bigint): Promise<HistoryRow> {
    const { kvs } = await this.rows.connection.range(range({ from: this.rows.layout.at(revision), revision: etcd }));
    if (kvs[0] === undefined)
      throw new StoreFailure(`the store in etcd lacks the history of revision ${revision}: it is damaged. Put a backup back.`);
    return readHistory(kvs[0].value);
  }

  async #compact(before: Revision, fence: Fence | undefined): Promise<void> {
    this.#check();
    const { layout, connection } = this.rows;
    const head = await this.rows.head();
    const bound = Math.min(before, head.revision);
    const guard = fence === undefined ? [] : [madeAt(fence.key, fence.token)];
    const oldest = Math.max(bound, head.oldest);
    if (oldest === head.oldest && head.swept >= oldest) return;
    const mark = (swept: Revision) => put(layout.oldest, `${oldest} ${swept}`);
    // Said before it is done: nobody begins to read what is about to go.
    if (oldest > head.oldest) {
      const said = await connection.txn(
        transaction([...guard, writtenAt(layout.oldest, head.oldestWrittenAt)], [mark(head.swept)], []),
        true,
      );
      // Another control plane trims, or the lease is gone: either way this is not ours to do.
      if (!said.succeeded && (await this.rows.head()).oldest < oldest)
        throw new StoreFailure("the history is being trimmed by another control plane");
    }
    // Needed from the bound on: each object's newest state up to it. A row says which state it replaced.
    let gone: ReturnType<typeof remove>[] = [];
    const flush = async () => {
      if (gone.length > 0) {
        const done = await connection.txn(transaction(guard, gone, []), true);
        if (!done.succeeded) throw new StoreFailure("the history is being trimmed by another control plane");
      }
      gone = [];
    };
    let from: string | Uint8Array = layout.at(head.swept);
    const to = Buffer.from(layout.at(oldest + 1));
    for (;;) {
      const page = await connection.range(range({ from, to, limit: 500 }));
      for (const kv of page.kvs) {
        const row = readHistory(kv.value);
        if (row.previous > 0) gone.push(remove(layout.at(row.previous)));
        if (row.previousBlob !== undefined) {
          const pieces = `${layout.blobs}${row.previousBlob}/`;
          gone.push(remove(pieces, afterPrefix(pieces)));
        }
        if (row.type === "deleted" && row.revision < oldest) gone.push(remove(layout.at(row.revision)));
        if (gone.length >= sweepBatch) await flush();
      }
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) break;
      from = Buffer.concat([last.key, new Uint8Array(1)]);
    }
    gone.push(mark(oldest));
    await flush();
  }

  async #object(row: ObjectRow): Promise<KubeObject> {
    return parse(await this.rows.bodyOf(row.body), row.revision);
  }

  #check(): void {
    if (!this.#open) throw new StoreFailure("the store in etcd is closed");
  }
}

function eventOf(row: HistoryRow, body: string): StoreEvent {
  return { type: row.type, key: row.key, object: parse(body, row.revision), revision: row.revision };
}

function serialise(object: KubeObject): string {
  const { resourceVersion: _, ...metadata } = object.metadata;
  return JSON.stringify({ ...object, metadata });
}

function parse(body: string, revision: Revision): KubeObject {
  const object = JSON.parse(body) as KubeObject;
  object.metadata.resourceVersion = String(revision);
  return object;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function inOrder(a: ObjectRow, b: ObjectRow): number {
  return compare(a.key.resource, b.key.resource) || compare(a.key.namespace, b.key.namespace) || compare(a.key.name, b.key.name);
}
