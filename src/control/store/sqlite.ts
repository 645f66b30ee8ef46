// Owns: the store on one machine: objects and their history in one SQLite file, durable at every acknowledged write.
// Never knows kinds, and never acknowledges before the commit has been synced.

import type { Database, Statement } from "bun:sqlite";
import type { KubeObject } from "../../api/meta.ts";
import { failure, openDatabase } from "./sqlite-file.ts";
import {
  CompactedError,
  maxObjectBytes,
  type ObjectKey,
  ObjectTooLargeError,
  type Revision,
  type Store,
  type StoreEvent,
  StoreFailure,
  type WatchHandle,
  type WriteResult,
} from "./store.ts";
import { Watchers } from "./watchers.ts";

export interface SqliteStoreOptions {
  /** How many revisions of history are kept for watches; default 10 000. */
  readonly keepRevisions?: number;
  /** Hears of what nobody awaits: a watcher that threw, a compaction that failed. Default: ignored. */
  readonly onError?: (error: unknown) => void;
}

/** History is trimmed each time this many revisions have been written, so that a write seldom pays for it. */
const compactEvery = 1000;
const historyPage = 256;

interface Row {
  readonly revision: number;
  readonly type: StoreEvent["type"];
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly body: string;
}

interface PendingWrite {
  readonly verb: "create" | "update" | "delete";
  readonly key: ObjectKey;
  /** JSON without resourceVersion; empty for a deletion. */
  readonly body: string;
  readonly expected: Revision | undefined;
  readonly resolve: (result: WriteResult) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Opens the store in `path` (made if missing; `:memory:` for tests). Throws StoreFailure, see `sqlite-file.ts`.
 * Events reach watchers in this process before the promise of the write that made them resolves.
 */
export function openSqliteStore(path: string, options: SqliteStoreOptions = {}): Store {
  return new SqliteStore(path, options);
}

class SqliteStore implements Store {
  readonly #path: string;
  readonly #db: Database;
  readonly #sql: ReturnType<typeof statements>;
  readonly #watchers: Watchers;
  readonly #keepRevisions: number;
  readonly #onError: (error: unknown) => void;
  #revision: Revision;
  #oldest: Revision;
  #pending: PendingWrite[] = [];
  #open: boolean = true;

  constructor(path: string, options: SqliteStoreOptions) {
    this.#path = path;
    this.#keepRevisions = options.keepRevisions ?? 10_000;
    this.#onError = options.onError ?? (() => {});
    this.#db = openDatabase(path);
    this.#sql = statements(this.#db);
    this.#watchers = new Watchers((after, resource) => this.#history(after, resource), this.#onError);
    const state = this.#reading(() => this.#sql.state.get());
    if (state === null) throw new StoreFailure(`${path} has no revision counter: it is damaged. Put a copy of it back.`);
    this.#revision = state.revision;
    this.#oldest = state.oldest;
  }

  async revision(): Promise<Revision> {
    return this.#revision;
  }

  async get(key: ObjectKey): Promise<KubeObject | undefined> {
    const row = this.#reading(() => this.#sql.get.get(key.resource, key.namespace, key.name));
    return row === null ? undefined : parse(row.body, row.revision);
  }

  async list(resource: string, namespace?: string): Promise<{ items: readonly KubeObject[]; revision: Revision }> {
    const rows = this.#reading(() =>
      namespace === undefined ? this.#sql.list.all(resource) : this.#sql.listNamespace.all(resource, namespace),
    );
    return { items: rows.map((row) => parse(row.body, row.revision)), revision: this.#revision };
  }

  async listAll(): Promise<{ items: readonly { key: ObjectKey; object: KubeObject }[]; revision: Revision }> {
    const rows = this.#reading(() => this.#sql.listAll.all());
    return { items: rows.map((row) => ({ key: keyOf(row), object: parse(row.body, row.revision) })), revision: this.#revision };
  }

  create(key: ObjectKey, object: KubeObject): Promise<WriteResult> {
    return this.#enqueue("create", key, object, undefined);
  }

  update(key: ObjectKey, object: KubeObject, expected: Revision | undefined): Promise<WriteResult> {
    return this.#enqueue("update", key, object, expected);
  }

  delete(key: ObjectKey, expected: Revision | undefined): Promise<WriteResult> {
    return this.#enqueue("delete", key, undefined, expected);
  }

  async watch(from: Revision, resource: string | undefined, onEvent: (event: StoreEvent) => void): Promise<WatchHandle> {
    if (!this.#open) throw this.#closed();
    if (from + 1 < this.#oldest) throw new CompactedError(this.#oldest);
    return this.#watchers.add(from, resource, onEvent);
  }

  async compact(before: Revision): Promise<void> {
    if (!this.#open) throw this.#closed();
    this.#compact(before);
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#flush();
    this.#open = false;
    this.#watchers.clear();
    for (const statement of Object.values(this.#sql)) statement.finalize();
    this.#db.close();
  }

  async #enqueue(
    verb: PendingWrite["verb"],
    key: ObjectKey,
    object: KubeObject | undefined,
    expected: Revision | undefined,
  ): Promise<WriteResult> {
    if (!this.#open) throw this.#closed();
    const body = object === undefined ? "" : serialise(object);
    // A JSON string is at least as many bytes as UTF-16 units, and at most three times as many: only the middle needs counting.
    if (body.length * 3 > maxObjectBytes) {
      const sizeBytes = Buffer.byteLength(body);
      if (sizeBytes > maxObjectBytes) throw new ObjectTooLargeError(key, sizeBytes);
    }
    return new Promise((resolve, reject) => {
      this.#pending.push({ verb, key, body, expected, resolve, reject });
      // Group commit: whatever is asked for in one turn of the loop shares one transaction and one sync.
      if (this.#pending.length === 1) setImmediate(() => this.#flush());
    });
  }

  #flush(): void {
    const writes = this.#pending;
    if (writes.length === 0) return;
    this.#pending = [];
    const events: StoreEvent[] = [];
    const results: WriteResult[] = [];
    const revisionBefore = this.#revision;
    try {
      this.#sql.begin.run();
      for (const write of writes) results.push(this.#apply(write, events));
      if (events.length > 0) this.#sql.setRevision.run(this.#revision);
      this.#sql.commit.run();
    } catch (error) {
      this.#revision = revisionBefore;
      this.#rollback();
      const failed = failure(error, this.#path, "written");
      for (const write of writes) write.reject(failed);
      return;
    }
    this.#watchers.publish(events);
    for (const [at, write] of writes.entries()) write.resolve(results[at] as WriteResult);
    this.#maybeCompact(revisionBefore);
  }

  #apply(write: PendingWrite, events: StoreEvent[]): WriteResult {
    const { key, verb } = write;
    const current = this.#sql.get.get(key.resource, key.namespace, key.name);
    if (verb === "create" && current !== null) return { ok: false, reason: "exists" };
    if (verb !== "create") {
      if (current === null) return { ok: false, reason: "missing" };
      if (write.expected !== undefined && write.expected !== current.revision) {
        return { ok: false, reason: "conflict", current: current.revision };
      }
    }
    const revision = ++this.#revision;
    const type = verb === "create" ? "added" : verb === "update" ? "modified" : "deleted";
    const body = verb === "delete" ? (current?.body ?? "{}") : write.body;
    this.#sql.append.run(revision, type, key.resource, key.namespace, key.name, body);
    if (verb === "delete") this.#sql.forget.run(key.resource, key.namespace, key.name);
    else this.#sql.point.run(key.resource, key.namespace, key.name, revision);
    events.push({ type, key: { ...key }, object: parse(body, revision), revision });
    // Parsed again: the event's object is shared by all watchers, this one belongs to the writer.
    return { ok: true, object: parse(body, revision), revision };
  }

  // A failed write may or may not have ended the transaction already; both are fine.
  #rollback(): void {
    try {
      if (this.#db.inTransaction) this.#db.run("ROLLBACK");
    } catch (error) {
      this.#onError(error);
    }
  }

  #maybeCompact(revisionBefore: Revision): void {
    if (Math.floor(this.#revision / compactEvery) === Math.floor(revisionBefore / compactEvery)) return;
    const before = this.#revision - this.#keepRevisions + 1;
    if (before <= this.#oldest) return;
    try {
      this.#compact(before);
    } catch (error) {
      // The writes themselves are safe; the next round trims more.
      this.#onError(error);
    }
  }

  #compact(before: Revision): void {
    // Whoever is still reading history keeps what he has not read; and the newest event always stays.
    const bound = Math.min(before, this.#watchers.oldestNeeded() + 1, this.#revision);
    if (bound <= this.#oldest) return;
    try {
      this.#sql.begin.run();
      this.#sql.trim.run(bound);
      this.#sql.setOldest.run(bound);
      this.#sql.commit.run();
    } catch (error) {
      this.#rollback();
      throw failure(error, this.#path, "written");
    }
    this.#oldest = bound;
  }

  #history(after: Revision, resource: string | undefined): readonly StoreEvent[] {
    const rows = this.#reading(() =>
      resource === undefined ? this.#sql.history.all(after, historyPage) : this.#sql.historyOf.all(after, resource, historyPage),
    );
    return rows.map((row) => ({ type: row.type, key: keyOf(row), object: parse(row.body, row.revision), revision: row.revision }));
  }

  #reading<T>(run: () => T): T {
    if (!this.#open) throw this.#closed();
    try {
      return run();
    } catch (error) {
      throw failure(error, this.#path, "read");
    }
  }

  #closed(): StoreFailure {
    return new StoreFailure(`the store ${this.#path} is closed`);
  }
}

// Prepared once: parsing SQL costs more than running it here.
function statements(db: Database) {
  const live = "SELECT h.* FROM objects o JOIN history h ON h.revision = o.revision";
  return {
    begin: db.prepare("BEGIN IMMEDIATE") as Statement<unknown, []>,
    commit: db.prepare("COMMIT") as Statement<unknown, []>,
    state: db.prepare<{ revision: number; oldest: number }, []>("SELECT revision, oldest FROM state WHERE id = 1"),
    get: db.prepare<Row, [string, string, string]>(`${live} WHERE o.resource = ? AND o.namespace = ? AND o.name = ?`),
    list: db.prepare<Row, [string]>(`${live} WHERE o.resource = ? ORDER BY o.namespace, o.name`),
    listNamespace: db.prepare<Row, [string, string]>(`${live} WHERE o.resource = ? AND o.namespace = ? ORDER BY o.name`),
    listAll: db.prepare<Row, []>(`${live} ORDER BY o.resource, o.namespace, o.name`),
    history: db.prepare<Row, [number, number]>("SELECT * FROM history WHERE revision > ? ORDER BY revision LIMIT ?"),
    historyOf: db.prepare<Row, [number, string, number]>(
      "SELECT * FROM history WHERE revision > ? AND resource = ? ORDER BY revision LIMIT ?",
    ),
    append: db.prepare<unknown, [number, string, string, string, string, string]>("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)"),
    point: db.prepare<unknown, [string, string, string, number]>(
      "INSERT INTO objects VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET revision = excluded.revision",
    ),
    forget: db.prepare<unknown, [string, string, string]>("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?"),
    setRevision: db.prepare<unknown, [number]>("UPDATE state SET revision = ?"),
    setOldest: db.prepare<unknown, [number]>("UPDATE state SET oldest = ?"),
    trim: db.prepare<unknown, [number]>("DELETE FROM history WHERE revision < ? AND revision NOT IN (SELECT revision FROM objects)"),
  };
}

function keyOf(row: Row): ObjectKey {
  return { resource: row.resource, namespace: row.namespace, name: row.name };
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
