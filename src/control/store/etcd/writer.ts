// Owns: writing: what is asked for in one turn of the loop shares one transaction of etcd; each compares the head and sets it, so that of several control
// planes one writes at a time and the others look again. A write whose answer was lost is cleared up before anything else is written: never twice, never
// said to have failed when it may have happened. Never hands events on: the tail does.

import { toBinary } from "@bufbuild/protobuf";
import type { Compare, RequestOp, TxnResponse } from "../../../wire/gen/etcd/etcdserverpb/rpc_pb.ts";
import { TxnRequestSchema } from "../../../wire/gen/etcd/etcdserverpb/rpc_pb.ts";
import { type Fence, FencedError } from "../fence.ts";
import type { Guard, Revision, TransactionResult, Write } from "../store.ts";
import { StoreFailure } from "../store.ts";
import { EtcdError } from "./connection.ts";
import { type Body, type HistoryRow, type ObjectRow, readHistory, readObject, writeHistory, writeObject } from "./layout.ts";
import { keepForGood, madeAt, put, remove, transaction, writtenAt } from "./requests.ts";
import { headOf, type Rows } from "./rows.ts";

/** One write as it waits; `body` is JSON without resourceVersion, empty for a deletion. */
export interface PendingWrite {
  readonly verb: Write["verb"];
  readonly key: Write["key"];
  readonly body: string;
  readonly expected: Revision | undefined;
}

/** What is written together: a write alone, or a transaction. */
export interface Pending {
  readonly writes: readonly PendingWrite[];
  readonly author: string;
  readonly fence: Fence | undefined;
  readonly guard: Guard | undefined;
  readonly resolve: (result: Written) => void;
  readonly reject: (error: unknown) => void;
}

export type Written =
  | { readonly ok: true; readonly rows: readonly HistoryRow[]; readonly texts: readonly string[] }
  | Extract<TransactionResult, { ok: false }>;

export interface WriterOptions {
  readonly rows: Rows;
  readonly random: () => number;
  readonly nowMs: () => number;
  /** For time limits: it never steps. */
  readonly monoMs: () => number;
  /** What one request of etcd may hold (its --max-request-bytes). */
  readonly maxRequestBytes: number;
  /** A write that others keep coming before, or whose outcome stays unknown, is given up after it. */
  readonly giveUpMs: number;
  /** Told of what was written, before it is answered; resolves when watchers here have seen it. */
  readonly written: (rows: readonly HistoryRow[], texts: readonly string[]) => Promise<void>;
}

/** Writes that share a transaction of etcd at most. */
const mostTogether = 50;
/** A body beyond it is kept in pieces of its own: rows stay small to read and watch. */
const largestInlineBytes = 48 * 1024;
const pieceBytes = 512 * 1024;
/** Pieces of a write that never came about vanish after it. */
const pieceLifeSeconds = 60;
/** etcd counts more than what is encoded here. */
const slackBytes = 16 * 1024;
/** Beside its body: keys, JSON head, protobuf. */
const rowBytes = 420;
/** Before a write is sent again of which nobody knows whether it was carried out. */
const unsurePauseMs = 50;

export class Writer {
  readonly #options: WriterOptions;
  #pending: Pending[] = [];
  #running = false;
  #idle: Promise<void> = Promise.resolve();
  #serial = 0;
  readonly #session: string;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#session = Math.floor(options.random() * 2 ** 40).toString(36) + options.nowMs().toString(36);
  }

  submit(pending: Pending): void {
    this.#pending.push(pending);
    if (this.#running) return;
    this.#running = true;
    // Whatever is asked for in one turn of the loop shares one transaction.
    this.#idle = new Promise<void>((resolve) => setImmediate(resolve)).then(() => this.#run());
  }

  /** When all that was submitted has been answered. */
  async settled(): Promise<void> {
    while (this.#running) await this.#idle;
  }

  async #run(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        const groups = this.#next();
        try {
          await this.#commit(groups);
        } catch (error) {
          for (const group of groups)
            group.reject(error instanceof StoreFailure ? error : new StoreFailure(String(error), { cause: error }));
        }
      }
    } finally {
      this.#running = false;
    }
  }

  /** What is written next: groups that fit in one request and stand under the same fence. A large one goes alone. */
  #next(): readonly Pending[] {
    const [first] = this.#pending as [Pending, ...Pending[]];
    let count = 0;
    let bytes = 0;
    let writes = 0;
    // What a write replaces must stand in etcd already: one batch never writes an object twice.
    const seen = new Set<string>();
    for (const group of this.#pending) {
      // A guard is asked about a state that stands in etcd, not about what a write before it would leave.
      if (count > 0 && group.guard !== undefined) break;
      if (group.writes.some(({ key }) => seen.has(this.#options.rows.layout.object(key)))) break;
      for (const { key } of group.writes) seen.add(this.#options.rows.layout.object(key));
      const size = group.writes.reduce((sum, { body }) => sum + rowBytes + 2 * Math.min(body.length, largestInlineBytes), 0);
      if (
        count > 0 &&
        (group.fence !== first.fence || bytes + size > this.#options.maxRequestBytes / 2 || writes + group.writes.length > mostTogether)
      )
        break;
      count++;
      bytes += size;
      writes += group.writes.length;
    }
    return this.#pending.splice(0, count);
  }

  async #commit(together: readonly Pending[]): Promise<void> {
    let groups = together;
    const { rows, monoMs, random } = this.#options;
    const { layout } = rows;
    const giveUpAt = monoMs() + this.#options.giveUpMs;
    const [{ fence } = { fence: undefined }] = groups;
    const pieces = new Map<PendingWrite, Body>();
    const keys = new Map<string, ObjectRow | undefined>();
    for (const group of groups) for (const { key } of group.writes) keys.set(layout.object(key), undefined);
    for (let attempt = 1; ; attempt++) {
      const [head, oldest, ...found] = await rows.several([
        { from: layout.head },
        { from: layout.oldest },
        ...[...keys.keys()].map((from) => ({ from })),
      ]);
      const at = headOf(head as NonNullable<typeof head>, oldest as NonNullable<typeof oldest>);
      for (const [number, key] of [...keys.keys()].entries()) {
        const kv = found[number]?.kvs[0];
        keys.set(key, kv === undefined ? undefined : readObject(kv.value));
      }
      if (!(await this.#stands(groups[0], at.revision))) {
        groups = groups.slice(1);
        if (groups.length === 0) return;
      }
      const id = `${this.#session}.${++this.#serial}`;
      const judged = this.#judge(groups, new Map(keys), at.revision, id);
      if (judged.rows.length === 0) return this.#answer(groups, judged);
      await this.#spill(judged, pieces);
      const operations = this.#operations(judged, pieces);
      const compare: Compare[] = [writtenAt(layout.head, at.writtenAt)];
      if (fence !== undefined) compare.push(madeAt(fence.key, fence.token));
      const last = judged.rows.at(-1)?.row.revision as Revision;
      const request = transaction(compare, [put(layout.head, String(last)), ...operations], []);
      const size = toBinary(TxnRequestSchema, request).length + slackBytes;
      if (size > this.#options.maxRequestBytes)
        throw new StoreFailure(
          `${judged.rows.length} writes at once are ${size} bytes for etcd, which takes ${this.#options.maxRequestBytes} in one request; nothing was written. Write them in smaller parts, or raise --max-request-bytes of etcd and --etcd-max-request-bytes here.`,
        );
      let outcome: "written" | "lost" | "pieces-gone";
      try {
        outcome = await this.#send(request, judged.rows[0]?.row.revision as Revision, id, giveUpAt);
      } catch (cause) {
        if (!(cause instanceof EtcdError && /key not found/.test(cause.message)) || pieces.size === 0) throw cause;
        // The lease of the pieces ran out before the write came about.
        outcome = "pieces-gone";
        pieces.clear();
      }
      if (outcome === "written") {
        await this.#options.written(
          judged.rows.map(({ row }) => row),
          judged.rows.map(({ text }) => text),
        );
        return this.#answer(groups, judged);
      }
      if (fence !== undefined && !(await this.#holds(fence))) throw new FencedError(fence.name);
      if (monoMs() >= giveUpAt)
        throw new StoreFailure(
          `others kept writing to the store for ${this.#options.giveUpMs} ms before this write could be made; nothing was written. Try again.`,
        );
      // Whoever lost looks again soon, not all at once.
      await Bun.sleep(random() * Math.min(40, 2 * attempt));
    }
  }

  /** Whether the first of a batch may be written upon `head`; else it has been answered. */
  async #stands(first: Pending | undefined, head: Revision): Promise<boolean> {
    if (first?.guard === undefined) return true;
    try {
      if (await first.guard(head)) return true;
      first.resolve({ ok: false, key: first.writes[0]!.key, reason: "refused" });
    } catch (error) {
      first.reject(error);
    }
    return false;
  }

  async #holds(fence: Fence): Promise<boolean> {
    const [found] = await this.#options.rows.several([{ from: fence.key }]);
    return found?.kvs[0]?.createRevision === fence.token;
  }

  /** Sends until it is known what became of it. Comparing the head, etcd can carry out one of several tries at most. */
  async #send(request: ReturnType<typeof transaction>, first: Revision, id: string, giveUpAt: number): Promise<"written" | "lost"> {
    const { rows, monoMs } = this.#options;
    let unsure: EtcdError | undefined;
    for (;;) {
      let answer: TxnResponse;
      try {
        answer = await rows.connection.txn(request, false);
      } catch (cause) {
        if (!(cause instanceof EtcdError) || !cause.trouble.unknownOutcome) throw cause;
        unsure = cause;
        if (monoMs() >= giveUpAt) {
          throw new StoreFailure(`${cause.message} It is not known whether the write was made: look before you try again.`, { cause });
        }
        await Bun.sleep(unsurePauseMs);
        continue;
      }
      if (answer.succeeded) return "written";
      if (unsure === undefined) return "lost";
      // An earlier try may be what changed the head: the row tells whose it is.
      const [found] = await rows.several([{ from: rows.layout.at(first) }]);
      const kv = found?.kvs[0];
      return kv !== undefined && readHistory(kv.value).attempt === id ? "written" : "lost";
    }
  }

  // Every condition of a group first, then its writes: no object stands twice in a group. A later group sees what an earlier one leaves.
  #judge(groups: readonly Pending[], state: Map<string, ObjectRow | undefined>, from: Revision, attempt: string): Judged {
    const { layout } = this.#options.rows;
    const results: (Extract<TransactionResult, { ok: false }> | { from: number; to: number })[] = [];
    const rows: JudgedRow[] = [];
    let revision = from;
    for (const { writes, author } of groups) {
      const refused = refusal(writes, (key) => state.get(layout.object(key)));
      if (refused !== undefined) {
        results.push(refused);
        continue;
      }
      const start = rows.length;
      const first = revision + 1;
      for (const write of writes) {
        revision++;
        const { verb, key, body } = write;
        const path = layout.object(key);
        const before = state.get(path);
        const type = verb === "create" ? "added" : verb === "update" ? "modified" : "deleted";
        const row = {
          revision,
          type,
          key,
          atMs: this.#options.nowMs(),
          by: author,
          transaction: first,
          previous: before?.revision ?? 0,
          previousBlob: before !== undefined && "blob" in before.body ? before.body.blob : undefined,
          attempt,
          // Filled in when it is known which bodies stand in pieces.
          body: verb === "delete" ? (before?.body ?? { text: "{}" }) : { text: body },
        } satisfies HistoryRow;
        rows.push({ row, write, text: body });
        state.set(path, verb === "delete" ? undefined : { revision, key, body: row.body });
      }
      results.push({ from: start, to: rows.length });
    }
    return { results, rows };
  }

  /** Moves bodies into pieces: those that are large, and, when all together are too much for one request, the largest first. */
  async #spill({ rows }: Judged, pieces: Map<PendingWrite, Body>): Promise<void> {
    const size = (text: string) => Buffer.byteLength(text);
    let total = 0;
    const inline: { row: JudgedRow; bytes: number }[] = [];
    for (const each of rows) {
      const deleted = each.write.verb === "delete";
      const bytes = "text" in each.row.body ? size(each.row.body.text) : 0;
      total += rowBytes + (deleted ? bytes : 2 * bytes);
      if (!deleted && !pieces.has(each.write)) inline.push({ row: each, bytes });
    }
    inline.sort((a, b) => b.bytes - a.bytes);
    const budget = this.#options.maxRequestBytes - slackBytes;
    const chosen = inline.filter(({ bytes }) => {
      if (bytes <= largestInlineBytes && (total <= budget || bytes < 256)) return false;
      total -= 2 * bytes;
      return true;
    });
    if (chosen.length > 0) {
      const { connection, layout } = this.#options.rows;
      const lease = await connection.grantLease(pieceLifeSeconds);
      let waiting: RequestOp[] = [];
      let bytes = 0;
      const flush = async () => {
        if (waiting.length > 0) await connection.txn(transaction([], waiting, []), true);
        waiting = [];
        bytes = 0;
      };
      for (const { row } of chosen) {
        const blob = `${this.#session}.${++this.#serial}`;
        const body = Buffer.from(row.text);
        const count = Math.max(1, Math.ceil(body.length / pieceBytes));
        for (let at = 0; at < count; at++) {
          const piece = body.subarray(at * pieceBytes, (at + 1) * pieceBytes);
          if (bytes + piece.length > pieceBytes || waiting.length >= 100) await flush();
          waiting.push(put(layout.blob(blob, at), piece, lease));
          bytes += piece.length;
        }
        pieces.set(row.write, { blob, pieces: count });
      }
      await flush();
    }
  }

  #operations({ rows }: Judged, pieces: ReadonlyMap<PendingWrite, Body>): RequestOp[] {
    const { layout } = this.#options.rows;
    const operations: RequestOp[] = [];
    /** One put a key: etcd refuses two in a transaction. */
    const objects = new Map<string, RequestOp>();
    for (const judged of rows) {
      const { row, write } = judged;
      const spilled = pieces.get(write);
      const body = spilled ?? row.body;
      judged.row = { ...row, body };
      if (spilled !== undefined && "blob" in spilled)
        for (let at = 0; at < spilled.pieces; at++) operations.push(keepForGood(layout.blob(spilled.blob, at)));
      operations.push(put(layout.at(row.revision), writeHistory(judged.row)));
      const path = layout.object(row.key);
      objects.set(path, row.type === "deleted" ? remove(path) : put(path, writeObject({ revision: row.revision, key: row.key, body })));
    }
    return [...operations, ...objects.values()];
  }

  #answer(groups: readonly Pending[], { results, rows }: Judged): void {
    for (const [at, group] of groups.entries()) {
      const result = results[at] as Judged["results"][number];
      if ("ok" in result) group.resolve(result);
      else {
        const mine = rows.slice(result.from, result.to);
        group.resolve({ ok: true, rows: mine.map(({ row }) => row), texts: mine.map(({ text }) => text) });
      }
    }
  }
}

interface JudgedRow {
  row: HistoryRow;
  readonly write: PendingWrite;
  readonly text: string;
}

interface Judged {
  /** For each group: why not, or which rows are its. */
  readonly results: readonly (Extract<TransactionResult, { ok: false }> | { readonly from: number; readonly to: number })[];
  readonly rows: readonly JudgedRow[];
}

function refusal(
  writes: readonly PendingWrite[],
  find: (key: Write["key"]) => ObjectRow | undefined,
): Extract<TransactionResult, { ok: false }> | undefined {
  for (const { key, verb, expected } of writes) {
    const current = find(key);
    if (verb === "create") {
      if (current !== undefined) return { ok: false, key, reason: "exists" };
    } else if (current === undefined) return { ok: false, key, reason: "missing" };
    else if (expected !== undefined && expected !== current.revision)
      return { ok: false, key, reason: "conflict", current: current.revision };
  }
  return undefined;
}
