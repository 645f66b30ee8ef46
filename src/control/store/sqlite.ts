// Owns: the store on one machine: objects and their history in one SQLite file, durable at every acknowledged write.
// Never knows kinds, and never acknowledges before the commit has been synced.

import type { Database, Statement } from "bun:sqlite";
import { statSync, writeFileSync } from "node:fs";
import type { KubeObject } from "../../api/meta.ts";
import { type Keep, withDefaults } from "./keep.ts";
import { checkWhole, readEntries, readState } from "./sqlite-check.ts";
import { damage, failure, fullCheckLimitBytes, isDamage, openDatabase } from "./sqlite-file.ts";
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
} from "./store.ts";
import { Watchers } from "./watchers.ts";
import { checkRow, DamageError, stateSum, sumOf, type Witness, type WitnessedState } from "./witness.ts";

export interface SqliteStoreOptions {
  /** How much history is kept; trimmed each time 1 000 revisions have been written. */
  readonly keep?: Keep;
  /** Hears of what nobody awaits: a watcher that threw, a compaction that failed. Default: ignored. */
  readonly onError?: (error: unknown) => void;
  /** The file is not what was written to it; called once, with the words for the user. Default: ignored. */
  readonly onDamage?: (why: string) => void;
  /** The last change in the file was not whole and has been dropped, in words for the user. Called once, while it is opened. Default: ignored. */
  readonly onDoubt?: (why: string) => void;
  /** The time that goes into the history; default the system's. */
  readonly nowMs?: () => number;
}

/** History is trimmed each time this many revisions have been written, so that a write seldom pays for it. */
const compactEvery = 1000;
const historyPage = 256;
/** Rows that `look` reads at once: with the largest objects some 24 MiB. */
const lookRows = 16;
/** A guarded write is overtaken only by other guarded ones, of which one comes through each time. */
const mostAttempts = 1_000;

interface Row {
  readonly revision: number;
  readonly type: StoreEvent["type"];
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly body: string;
  readonly at: number;
  readonly author: string;
  readonly tx: number;
  readonly sum: number;
}

interface PendingWrite {
  readonly verb: "create" | "update" | "delete";
  readonly key: ObjectKey;
  /** JSON without resourceVersion; empty for a deletion. */
  readonly body: string;
  readonly expected: Revision | undefined;
}

/** What is written together: a write alone, or a transaction. */
interface Pending {
  readonly writes: readonly PendingWrite[];
  readonly author: string;
  /** Of a guarded write: the revision that its guard was asked about. */
  readonly follows: Revision | undefined;
  readonly resolve: (result: TransactionResult | "moved") => void;
  readonly reject: (error: unknown) => void;
}

type Done = Extract<WriteResult, { ok: true }>;

export interface FileStore extends Store {
  /** Why nothing is written any more: the file is not what was written to it. undefined = it is, as far as is known. */
  readonly damage: string | undefined;
  /** Reads some rows that nobody may have asked for in a long time, the next ones each time, so that damage is noticed. Never throws. */
  look(): void;
}

/**
 * Opens the store in `path` (made if missing; `:memory:` for tests). Throws StoreFailure, see `sqlite-file.ts`.
 * Events reach watchers in this process before the promise of the write that made them resolves.
 */
export function openSqliteStore(path: string, options: SqliteStoreOptions = {}): FileStore {
  return new SqliteStore(path, options);
}

class SqliteStore implements FileStore {
  readonly #path: string;
  readonly #db: Database;
  readonly #sql: ReturnType<typeof statements>;
  readonly #watchers: Watchers;
  readonly #keep: Required<Keep>;
  /** JSON list of the resources that do not count; empty: all do. */
  readonly #transient: string;
  readonly #onError: (error: unknown) => void;
  readonly #onDamage: (why: string) => void;
  readonly #nowMs: () => number;
  readonly #witness: Witness;
  #damage: string | undefined;
  /** The revision that `look` has come to. */
  #looked: Revision = 0;
  #revision: Revision;
  #oldest: Revision;
  #pending: Pending[] = [];
  #open: boolean = true;

  constructor(path: string, options: SqliteStoreOptions) {
    this.#path = path;
    this.#keep = withDefaults(options.keep);
    this.#transient = this.#keep.transient.size === 0 ? "" : JSON.stringify([...this.#keep.transient]);
    this.#onError = options.onError ?? (() => {});
    this.#onDamage = options.onDamage ?? (() => {});
    this.#nowMs = options.nowMs ?? Date.now;
    this.#db = openDatabase(path, options.onDoubt);
    this.#watchers = new Watchers((after, resource) => this.#history(after, resource), this.#onError);
    let state: WitnessedState;
    try {
      // As SQLite's own check: a larger file is read in turn (`look`), and what is asked for at once.
      if (path !== ":memory:" && statSync(path).size <= fullCheckLimitBytes) checkWhole(this.#db);
      state = readState(this.#db);
      this.#witness = readEntries(this.#db, state);
      this.#sql = statements(this.#db);
    } catch (error) {
      this.#db.close();
      throw isDamage(error) ? damage(error, path) : failure(error, path, "opened");
    }
    this.#revision = state.revision;
    this.#oldest = state.oldest;
  }

  get damage(): string | undefined {
    return this.#damage;
  }

  look(): void {
    if (!this.#open || this.#damage !== undefined) return;
    try {
      this.#looked = this.#reading(() => this.#checkPage(this.#looked, lookRows));
      if (this.#looked >= this.#revision) this.#looked = 0;
    } catch (error) {
      this.#onError(error);
    }
  }

  async revision(): Promise<Revision> {
    return this.#revision;
  }

  async get(key: ObjectKey): Promise<KubeObject | undefined> {
    return this.#reading(() => {
      const row = this.#sql.get.get(key.resource, key.namespace, key.name);
      this.#witness.checkObject(key, row);
      return row === null ? undefined : parse(row.body, row.revision);
    });
  }

  async list(resource: string, namespace?: string): Promise<{ items: readonly KubeObject[]; revision: Revision }> {
    return this.#reading(() => {
      const rows = namespace === undefined ? this.#sql.list.all(resource) : this.#sql.listNamespace.all(resource, namespace);
      this.#witness.checkObjects(rows, resource, namespace);
      return { items: rows.map((row) => parse(row.body, row.revision)), revision: this.#revision };
    });
  }

  async listAll(): Promise<{ items: readonly { key: ObjectKey; object: KubeObject }[]; revision: Revision }> {
    return this.#reading(() => {
      const rows = this.#sql.listAll.all();
      this.#witness.checkObjects(rows);
      return { items: rows.map((row) => ({ key: keyOf(row), object: parse(row.body, row.revision) })), revision: this.#revision };
    });
  }

  async listAt(
    revision: Revision,
    resource: string,
    namespace?: string,
    after?: { readonly namespace: string; readonly name: string },
  ): Promise<{ items: readonly KubeObject[] }> {
    if (revision < this.#oldest && revision < this.#revision) throw new CompactedError(this.#oldest);
    const { namespace: fromNamespace, name: fromName } = after ?? { namespace: "", name: "" };
    const rows = this.#past(() =>
      namespace === undefined
        ? this.#sql.listAt.all(resource, revision, fromNamespace, fromName)
        : this.#sql.listNamespaceAt.all(resource, revision, namespace, fromName),
    );
    return { items: rows.map(([, object]) => object) };
  }

  async listAllAt(revision: Revision): Promise<{ items: readonly { key: ObjectKey; object: KubeObject }[] }> {
    if (revision < this.#oldest && revision < this.#revision) throw new CompactedError(this.#oldest);
    const rows = this.#past(() => this.#sql.listAllAt.all(revision));
    return { items: rows.map(([row, object]) => ({ key: keyOf(row), object })) };
  }

  async history(query: HistoryQuery): Promise<readonly HistoryEntry[]> {
    const any = (text: string | undefined) => text ?? null;
    const { resource, namespace, name, before = Number.MAX_SAFE_INTEGER, withAuthor = false, limit } = query;
    const rows = this.#past(() =>
      this.#sql.past.all(before, any(resource), any(namespace), any(name), withAuthor ? 1 : 0, this.#oldest, limit),
    );
    return rows.map(([row, object]) => ({
      revision: row.revision,
      transaction: row.tx === 0 ? row.revision : row.tx,
      atMs: row.at,
      by: row.author,
      type: row.type,
      key: keyOf(row),
      object,
    }));
  }

  async oldest(): Promise<Revision> {
    return this.#oldest;
  }

  create(key: ObjectKey, object: KubeObject, by?: string, guard?: Guard): Promise<WriteResult> {
    return this.#single({ verb: "create", key, object }, by, guard);
  }

  update(key: ObjectKey, object: KubeObject, expected: Revision | undefined, by?: string, guard?: Guard): Promise<WriteResult> {
    return this.#single({ verb: "update", key, object, expected }, by, guard);
  }

  delete(key: ObjectKey, expected: Revision | undefined, by?: string, guard?: Guard): Promise<WriteResult> {
    return this.#single({ verb: "delete", key, expected }, by, guard);
  }

  async transact(writes: readonly Write[], by?: string, guard?: Guard): Promise<TransactionResult> {
    const seen = new Set<string>();
    for (const { key } of writes) {
      const text = JSON.stringify([key.resource, key.namespace, key.name]);
      if (seen.has(text)) throw new RangeError(`one transaction names ${key.resource} ${key.namespace}/${key.name} twice`);
      seen.add(text);
    }
    return writes.length === 0 ? { ok: true, results: [] } : this.#enqueue(writes, by, guard);
  }

  async backup(path: string): Promise<{ revision: Revision }> {
    if (!this.#open) throw this.#closed();
    this.#flush();
    // A copy of damage is worth nothing, and looks as if it were. All rows, a page a turn of the loop.
    for (let at = 0; at < this.#revision; await nextTurn()) {
      if (!this.#open) throw this.#closed();
      at = this.#reading(() => this.#checkPage(at, historyPage));
    }
    await this.listAll();
    if (this.#damage !== undefined) throw new StoreFailure(this.#damage);
    const revision = this.#revision;
    try {
      // Made empty first: SQLite fills an empty file, and keeps its mode.
      writeFileSync(path, "", { mode: 0o600, flag: "wx" });
      this.#sql.copy.run(path);
      return { revision };
    } catch (error) {
      throw failure(error, path, "written");
    }
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

  async #single(write: Write, by: string | undefined, guard?: Guard): Promise<WriteResult> {
    const result = await this.#enqueue([write], by, guard);
    if (result.ok) return result.results[0] as Done;
    if (result.reason !== "conflict") return { ok: false, reason: result.reason };
    return { ok: false, reason: "conflict", current: result.current ?? 0 };
  }

  async #enqueue(writes: readonly Write[], by = "", guard?: Guard): Promise<TransactionResult & { readonly current?: Revision }> {
    this.#checkWritable();
    const pending = writes.map((write): PendingWrite => {
      const { verb, key } = write;
      const body = verb === "delete" ? "" : serialise(write.object);
      // A JSON string is at least as many bytes as UTF-16 units, and at most three times as many: only the middle needs counting.
      if (body.length * 3 > maxObjectBytes) {
        const sizeBytes = Buffer.byteLength(body);
        if (sizeBytes > maxObjectBytes) throw new ObjectTooLargeError(key, sizeBytes);
      }
      return { verb, key, body, expected: verb === "create" ? undefined : write.expected };
    });
    for (let attempt = 1; attempt <= mostAttempts; attempt++) {
      const head = this.#revision;
      if (guard !== undefined) {
        const verdict = guard(head);
        if (!(typeof verdict === "boolean" ? verdict : await verdict)) return { ok: false, key: pending[0]!.key, reason: "refused" };
        this.#checkWritable();
        if (this.#revision !== head) continue;
      }
      const result = await new Promise<TransactionResult | "moved">((resolve, reject) => {
        const group = { writes: pending, author: by, follows: guard === undefined ? undefined : head, resolve, reject };
        // Before those that ask nothing, so that they do not take from under it the state that it was judged on.
        if (guard === undefined) this.#pending.push(group);
        else this.#pending.unshift(group);
        // Group commit: whatever is asked for in one turn of the loop shares one transaction and one sync.
        if (this.#pending.length === 1) setImmediate(() => this.#flush());
      });
      if (result !== "moved") return result;
    }
    throw new StoreFailure(`others kept writing to ${this.#path} before this write could be made; nothing was written. Try again.`);
  }

  #flush(): void {
    const groups = this.#pending;
    if (groups.length === 0) return;
    this.#pending = [];
    const events: StoreEvent[] = [];
    const results: (TransactionResult | "moved")[] = [];
    const revisionBefore = this.#revision;
    this.#witness.begin();
    try {
      // Asked for before the damage was seen.
      this.#checkWritable();
      this.#sql.begin.run();
      for (const group of groups) results.push(this.#apply(group, events));
      if (events.length > 0) this.#putState(this.#oldest);
      this.#sql.commit.run();
    } catch (error) {
      this.#revision = revisionBefore;
      this.#witness.rollback();
      this.#rollback();
      const failed = this.#failed(error, "written");
      for (const group of groups) group.reject(failed);
      return;
    }
    this.#watchers.publish(events);
    for (const [at, group] of groups.entries()) group.resolve(results[at] as TransactionResult | "moved");
    this.#maybeCompact(revisionBefore);
  }

  // Every condition first, then every write: no object stands twice in a group, so that no write can change another's condition.
  #apply({ writes, author, follows }: Pending, events: StoreEvent[]): TransactionResult | "moved" {
    if (follows !== undefined && follows !== this.#revision) return "moved";
    const before: (Row | null)[] = [];
    for (const { key, verb, expected } of writes) {
      const current = this.#sql.get.get(key.resource, key.namespace, key.name);
      this.#witness.checkObject(key, current);
      before.push(current);
      if (verb === "create" && current !== null) return { ok: false, key, reason: "exists" };
      if (verb === "create") continue;
      if (current === null) return { ok: false, key, reason: "missing" };
      if (expected !== undefined && expected !== current.revision) return { ok: false, key, reason: "conflict", current: current.revision };
    }
    const transaction = this.#revision + 1;
    const atMs = this.#nowMs();
    const results = writes.map(({ key, verb, body: written }, at): Done => {
      const revision = ++this.#revision;
      const type = verb === "create" ? "added" : verb === "update" ? "modified" : "deleted";
      const body = verb === "delete" ? (before[at]?.body ?? "{}") : written;
      const { resource, namespace, name } = key;
      const sum = sumOf({ revision, type, resource, namespace, name, body, at: atMs, author, tx: transaction });
      this.#sql.append.run(revision, type, resource, namespace, name, body, atMs, author, transaction, sum);
      this.#witness.written(key, type, revision);
      if (verb === "delete") this.#sql.forget.run(key.resource, key.namespace, key.name);
      else this.#sql.point.run(key.resource, key.namespace, key.name, revision);
      events.push({ type, key: { ...key }, object: parse(body, revision), revision });
      // Parsed again: the event's object is shared by all watchers, this one belongs to the writer.
      return { ok: true, object: parse(body, revision), revision };
    });
    return { ok: true, results };
  }

  /** Part of the transaction under way. */
  #putState(oldest: Revision): void {
    const { entries, digest } = this.#witness;
    const revision = this.#revision;
    this.#sql.setState.run(revision, oldest, entries, digest, stateSum({ revision, oldest, entries, digest }));
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
    if (this.#revision - this.#keep.revisions + 1 <= this.#oldest) return;
    try {
      this.#compact(this.#bound());
    } catch (error) {
      // The writes themselves are safe; the next round trims more.
      this.#onError(error);
    }
  }

  /** The oldest revision to keep. */
  #bound(): Revision {
    const { revisions, all } = this.#keep;
    if (this.#transient === "") return this.#revision - revisions + 1;
    const floor = Math.max(this.#oldest, this.#revision - all + 1);
    const found = this.#reading(() => this.#sql.counted.get(floor, this.#transient, revisions - 1));
    return found?.revision ?? floor;
  }

  #compact(before: Revision): void {
    // Whoever is still reading history keeps what he has not read; and the newest event always stays.
    const bound = Math.min(before, this.#watchers.oldestNeeded() + 1, this.#revision);
    if (bound <= this.#oldest) return;
    this.#checkWritable();
    try {
      this.#sql.begin.run();
      this.#sql.trim.run(bound);
      this.#putState(bound);
      this.#sql.commit.run();
    } catch (error) {
      this.#rollback();
      throw this.#failed(error, "written");
    }
    this.#oldest = bound;
  }

  #history(after: Revision, resource: string | undefined): readonly StoreEvent[] {
    return this.#reading(() => {
      for (let from = after; ; ) {
        // Filtered here and not by SQLite: a row whose resource was damaged must not pass for one of another.
        const rows = this.#sql.history.all(from, historyPage);
        this.#checkHistory(from, rows, historyPage);
        const wanted = resource === undefined ? rows : rows.filter((row) => row.resource === resource);
        const last = rows.at(-1);
        if (last !== undefined && wanted.length === 0) from = last.revision;
        else
          return wanted.map((row) => ({ type: row.type, key: keyOf(row), object: parse(row.body, row.revision), revision: row.revision }));
      }
    });
  }

  /** What stood at some time. */
  #past(run: () => readonly Row[]): [Row, KubeObject][] {
    return this.#reading(() =>
      run().map((row): [Row, KubeObject] => {
        checkRow(row);
        return [row, parse(row.body, row.revision)];
      }),
    );
  }

  /** One page of history from behind `after`; answers how far it went. Throws DamageError. */
  #checkPage(after: Revision, most: number): Revision {
    const rows = this.#sql.history.all(after, most);
    this.#checkHistory(after, rows, most);
    return rows.length < most ? this.#revision : (rows.at(-1)?.revision ?? this.#revision);
  }

  /** Each revision from the oldest on has its row. Throws DamageError. */
  #checkHistory(after: Revision, rows: readonly Row[], most: number): void {
    let last = Math.max(after, this.#oldest);
    for (const row of rows) {
      checkRow(row);
      if (row.revision <= this.#oldest) continue;
      if (row.revision !== last + 1) throw new DamageError(`the row of revision ${last + 1} is missing`);
      last = row.revision;
    }
    if (rows.length < most && last < this.#revision) throw new DamageError(`the row of revision ${last + 1} is missing`);
  }

  #reading<T>(run: () => T): T {
    if (!this.#open) throw this.#closed();
    try {
      return run();
    } catch (error) {
      throw this.#failed(error, "read");
    }
  }

  /** In words for the user; what is damage is remembered. */
  #failed(error: unknown, done: "read" | "written"): StoreFailure {
    if (!isDamage(error)) return failure(error, this.#path, done);
    const failed = damage(error, this.#path);
    if (this.#damage === undefined) {
      this.#damage = failed.message;
      this.#onDamage(failed.message);
    }
    return failed;
  }

  #checkWritable(): void {
    if (!this.#open) throw this.#closed();
    if (this.#damage !== undefined) throw new StoreFailure(`${this.#damage} Nothing more is written.`);
  }

  #closed(): StoreFailure {
    return new StoreFailure(`the store ${this.#path} is closed`);
  }
}

/** The state at a revision (parameter `at`): each object's newest row up to it, unless that is a deletion. */
function past(which: string, at: number): string {
  return `SELECT h.* FROM history h WHERE ${which} AND h.type <> 'deleted' AND h.revision = (SELECT max(m.revision) FROM history m
    WHERE m.resource = h.resource AND m.namespace = h.namespace AND m.name = h.name AND m.revision <= ?${at})`;
}

// Prepared once: parsing SQL costs more than running it here.
function statements(db: Database) {
  const live = "SELECT h.* FROM objects o JOIN history h ON h.revision = o.revision";
  return {
    begin: db.prepare("BEGIN IMMEDIATE") as Statement<unknown, []>,
    commit: db.prepare("COMMIT") as Statement<unknown, []>,
    get: db.prepare<Row, [string, string, string]>(`${live} WHERE o.resource = ? AND o.namespace = ? AND o.name = ?`),
    list: db.prepare<Row, [string]>(`${live} WHERE o.resource = ? ORDER BY o.namespace, o.name`),
    listNamespace: db.prepare<Row, [string, string]>(`${live} WHERE o.resource = ? AND o.namespace = ? ORDER BY o.name`),
    listAll: db.prepare<Row, []>(`${live} ORDER BY o.resource, o.namespace, o.name`),
    history: db.prepare<Row, [number, number]>("SELECT * FROM history WHERE revision > ? ORDER BY revision LIMIT ?"),
    listAt: db.prepare<Row, [string, number, string, string]>(
      `${past("h.resource = ?1", 2)} AND (h.namespace, h.name) > (?3, ?4) ORDER BY h.namespace, h.name`,
    ),
    listNamespaceAt: db.prepare<Row, [string, number, string, string]>(
      `${past("h.resource = ?1 AND h.namespace = ?3 AND h.name > ?4", 2)} ORDER BY h.name`,
    ),
    listAllAt: db.prepare<Row, [number]>(`${past("1", 1)} ORDER BY h.resource, h.namespace, h.name`),
    past: db.prepare<Row, [number, string | null, string | null, string | null, number, number, number]>(
      `SELECT * FROM history WHERE revision < ?1 AND revision >= ?6 AND (?2 IS NULL OR resource = ?2) AND (?3 IS NULL OR namespace = ?3)
       AND (?4 IS NULL OR name = ?4) AND (?5 = 0 OR author <> '') ORDER BY revision DESC LIMIT ?7`,
    ),
    copy: db.prepare<unknown, [string]>("VACUUM INTO ?"),
    append: db.prepare<unknown, [number, string, string, string, string, string, number, string, number, number]>(
      "INSERT INTO history (revision, type, resource, namespace, name, body, at, author, tx, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ),
    point: db.prepare<unknown, [string, string, string, number]>(
      "INSERT INTO objects VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET revision = excluded.revision",
    ),
    forget: db.prepare<unknown, [string, string, string]>("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?"),
    // Each row's head alone is read: some 20 ms for 100 000 of them, once in 1 000 writes.
    counted: db.prepare<{ readonly revision: number }, [number, string, number]>(
      "SELECT revision FROM history WHERE revision >= ? AND resource NOT IN (SELECT value FROM json_each(?)) ORDER BY revision DESC LIMIT 1 OFFSET ?",
    ),
    setState: db.prepare<unknown, [number, number, number, number, number]>(
      "UPDATE state SET revision = ?, oldest = ?, entries = ?, digest = ?, sum = ?",
    ),
    // What is needed to tell the state at any revision from the bound on stays: each object's newest row up to the bound.
    trim: db.prepare<unknown, [number]>(
      `DELETE FROM history WHERE revision < ?1 AND (type = 'deleted' OR EXISTS (SELECT 1 FROM history n WHERE n.resource = history.resource
       AND n.namespace = history.namespace AND n.name = history.name AND n.revision > history.revision AND n.revision <= ?1))`,
    ),
  };
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function keyOf(row: ObjectKey): ObjectKey {
  return { resource: row.resource, namespace: row.namespace, name: row.name };
}

function serialise(object: KubeObject): string {
  const { resourceVersion: _, ...metadata } = object.metadata;
  return JSON.stringify({ ...object, metadata });
}

function parse(body: string, revision: Revision): KubeObject {
  let object: KubeObject;
  try {
    object = JSON.parse(body) as KubeObject;
  } catch {
    // Its checksum is right: it was written so, or taken over so.
    throw new DamageError(`the row of revision ${revision} holds no object`);
  }
  object.metadata.resourceVersion = String(revision);
  return object;
}
