// Owns: following what any control plane writes: one watch on the history in etcd, each revision handed on once and in order, and the watchers behind
// it. A watch that breaks, is compacted away or goes silent is replaced by reading on from where it was. Never writes.

import { create } from "@bufbuild/protobuf";
import type { Clock, Timer } from "../../../base/clock.ts";
import { WatchCreateRequest_FilterType as Filter, WatchRequestSchema } from "../../../wire/gen/etcd/etcdserverpb/rpc_pb.ts";
import { Event_EventType as EventType } from "../../../wire/gen/etcd/mvccpb/kv_pb.ts";
import type { Revision, StoreEvent, WatchHandle } from "../store.ts";
import type { WatchStream } from "./connection.ts";
import { afterPrefix, type HistoryRow, readHistory } from "./layout.ts";
import type { Rows } from "./rows.ts";

export interface TailOptions {
  readonly rows: Rows;
  readonly clock: Clock;
  readonly random: () => number;
  readonly toEvent: (row: HistoryRow) => Promise<StoreEvent>;
  /** Hears of what nobody awaits. */
  readonly onError: (error: unknown) => void;
  /** What had to be read next is no longer kept, or etcd was put back to an older state: this store cannot be followed any further. Called once. */
  readonly onLost: (why: string) => void;
}

/** The head is asked for so often: a watch that has gone silent is noticed, and whether etcd answers at all is known. */
export const probeMs = 2_000;
/** After a watch broke; with jitter, so that control planes do not come back in one wave. */
const retryMs = 200;
/** Newest events kept in memory, so that a watch that begins a little in the past reads nothing. */
export const recentEvents = 1_024;

interface Watcher {
  readonly resource: string | undefined;
  readonly onEvent: (event: StoreEvent) => void;
  cursor: Revision;
  state: "catching-up" | "live" | "stopped";
}

export class Tail {
  readonly #options: TailOptions;
  readonly #watchers = new Set<Watcher>();
  readonly #recent: StoreEvent[] = [];
  readonly #waiting = new Set<{ readonly revision: Revision; readonly done: () => void }>();
  readonly #probe: Timer;
  #cursor: Revision;
  #watch: WatchStream | undefined;
  /** Of the connection that is made or in use; what an older one says is not heard. */
  #turn = 0;
  #busy: Promise<void> = Promise.resolve();
  #retry: Timer | undefined;
  #stopped = false;
  #probing = false;
  #lastAnswerMs: number;
  #problem = "";

  constructor(from: Revision, options: TailOptions) {
    this.#options = options;
    this.#cursor = from;
    this.#lastAnswerMs = options.clock.mono();
    this.#probe = options.clock.every(probeMs, () => void this.#look());
    this.#connect();
  }

  /** Everything up to here has been handed on. */
  get cursor(): Revision {
    return this.#cursor;
  }

  /** Since when etcd has not answered, ms, and why; 0 while it answers. */
  get silence(): { readonly forMs: number; readonly problem: string } {
    const forMs = this.#problem === "" ? 0 : this.#options.clock.mono() - this.#lastAnswerMs;
    return { forMs, problem: this.#problem };
  }

  /** What was just written here: handed on at once when nothing is missing before it, else when the watch brings it. */
  offer(events: readonly StoreEvent[]): void {
    const [first] = events;
    if (this.#stopped || first === undefined || first.revision !== this.#cursor + 1) return;
    this.#publish(events);
  }

  /** Resolves when everything up to `revision` was handed on, or after `limitMs`. */
  async reached(revision: Revision, limitMs: number): Promise<void> {
    if (this.#cursor >= revision || this.#stopped) return;
    await new Promise<void>((resolve) => {
      const waiting = {
        revision,
        done: () => {
          timer.cancel();
          this.#waiting.delete(waiting);
          resolve();
        },
      };
      const timer = this.#options.clock.after(limitMs, waiting.done);
      this.#waiting.add(waiting);
    });
  }

  add(from: Revision, resource: string | undefined, onEvent: (event: StoreEvent) => void): WatchHandle {
    const watcher: Watcher = { resource, onEvent, cursor: from, state: "catching-up" };
    this.#watchers.add(watcher);
    void this.#catchUp(watcher);
    return {
      stop: () => {
        watcher.state = "stopped";
        this.#watchers.delete(watcher);
      },
    };
  }

  stop(): void {
    this.#stopped = true;
    this.#probe.cancel();
    this.#retry?.cancel();
    this.#watch?.cancel();
    for (const watcher of this.#watchers) watcher.state = "stopped";
    this.#watchers.clear();
    for (const waiting of [...this.#waiting]) waiting.done();
  }

  // ---- the watch ---------------------------------------------------------------------------------------------------------------------------

  #connect(): void {
    const turn = ++this.#turn;
    this.#watch?.cancel();
    this.#watch = undefined;
    this.#busy = this.#busy.then(async () => {
      if (this.#stopped || turn !== this.#turn) return;
      try {
        const etcd = await this.#readOn(turn);
        if (this.#stopped || turn !== this.#turn) return;
        const { rows } = this.#options;
        const key = Buffer.from(rows.layout.history);
        const request = create(WatchRequestSchema, {
          requestUnion: {
            case: "createRequest",
            value: { key, rangeEnd: afterPrefix(rows.layout.history), startRevision: etcd + 1n, filters: [Filter.NODELETE] },
          },
        });
        const watch = await rows.connection.watch(request, {
          message: (message) => {
            if (turn !== this.#turn) return;
            if (message.canceled) this.#again(`etcd ended the watch (${message.cancelReason || "compacted"})`);
            const found = message.events.filter((event) => event.type === EventType.PUT && event.kv !== undefined);
            if (found.length > 0) this.#later(turn, () => this.#take(found.map((event) => readHistory(event.kv?.value as Uint8Array))));
          },
          ended: (why) => {
            if (turn === this.#turn) this.#again(why);
          },
        });
        // The turn may have passed while it was made.
        if (this.#stopped || turn !== this.#turn) watch.cancel();
        else this.#watch = watch;
      } catch (cause) {
        if (turn === this.#turn) this.#again(cause instanceof Error ? cause.message : String(cause));
      }
    });
  }

  /** Reads everything behind the cursor; answers etcd's revision up to which nothing is missing. */
  async #readOn(turn: number): Promise<bigint> {
    const { rows } = this.#options;
    for (;;) {
      const head = await rows.head();
      this.#answered();
      if (head.revision < this.#cursor) {
        this.#lost(
          `the store in etcd is at revision ${head.revision}, but revision ${this.#cursor} was seen before: it was put back to an older state`,
        );
        return head.etcd;
      }
      if (head.oldest > this.#cursor + 1) {
        this.#lost(`revision ${this.#cursor + 1} is needed next, but history is kept from ${head.oldest} on only`);
        return head.etcd;
      }
      const page = await rows.historyPage(this.#cursor);
      if (turn !== this.#turn || this.#stopped) return head.etcd;
      await this.#take(page.rows);
      if (!page.more) return page.etcd;
    }
  }

  async #take(found: readonly HistoryRow[]): Promise<void> {
    this.#answered();
    const events: StoreEvent[] = [];
    let next = this.#cursor + 1;
    for (const row of found) {
      if (row.revision < next) continue;
      if (row.revision > next) {
        // Never happens while nothing is lost; reading on from the cursor finds out.
        this.#publishFresh(events);
        this.#again(`revision ${next} is missing before ${row.revision}`);
        return;
      }
      events.push(await this.#options.toEvent(row));
      next++;
    }
    this.#publishFresh(events);
  }

  /** Those that were not handed on while bodies were fetched. */
  #publishFresh(events: readonly StoreEvent[]): void {
    if (!this.#stopped) this.#publish(events.filter((event) => event.revision > this.#cursor));
  }

  #later(turn: number, run: () => Promise<void>): void {
    this.#busy = this.#busy
      .then(() => (turn === this.#turn && !this.#stopped ? run() : undefined))
      .catch((cause: unknown) => {
        this.#options.onError(cause);
        if (turn === this.#turn) this.#again(cause instanceof Error ? cause.message : String(cause));
      });
  }

  #again(why: string): void {
    if (this.#stopped) return;
    this.#problem = why;
    this.#turn++;
    this.#watch?.cancel();
    this.#watch = undefined;
    this.#retry?.cancel();
    const { clock, random } = this.#options;
    this.#retry = clock.after(retryMs * (0.5 + random()), () => this.#connect());
  }

  #lost(why: string): void {
    if (this.#stopped) return;
    this.stop();
    this.#options.onLost(why);
  }

  #answered(): void {
    this.#lastAnswerMs = this.#options.clock.mono();
    this.#problem = "";
  }

  async #look(): Promise<void> {
    if (this.#probing || this.#stopped) return;
    this.#probing = true;
    const turn = this.#turn;
    const before = this.#cursor;
    try {
      const head = await this.#options.rows.head();
      if (this.#stopped || turn !== this.#turn) return;
      if (this.#watch !== undefined) this.#answered();
      if (head.revision <= this.#cursor && head.revision >= before) return;
      // Time for what is on its way.
      await this.reached(head.revision, probeMs / 2);
      if (this.#stopped || turn !== this.#turn || (this.#cursor >= head.revision && head.revision >= before)) return;
      this.#options.rows.connection.moveOn();
      this.#again("the watch on etcd has gone silent");
    } catch (cause) {
      this.#problem = cause instanceof Error ? cause.message : String(cause);
    } finally {
      this.#probing = false;
    }
  }

  // ---- watchers ----------------------------------------------------------------------------------------------------------------------------

  #publish(events: readonly StoreEvent[]): void {
    for (const event of events) {
      this.#cursor = event.revision;
      this.#recent.push(event);
    }
    if (this.#recent.length > recentEvents) this.#recent.splice(0, this.#recent.length - recentEvents);
    // A copy: a callback may add or stop watchers.
    for (const watcher of [...this.#watchers]) if (watcher.state === "live") for (const event of events) this.#deliver(watcher, event);
    for (const waiting of [...this.#waiting]) if (this.#cursor >= waiting.revision) waiting.done();
  }

  async #catchUp(watcher: Watcher): Promise<void> {
    // Delivery is never inside the call that asked for it.
    await Promise.resolve();
    while (watcher.state === "catching-up") {
      if (watcher.cursor >= this.#cursor) {
        watcher.state = "live";
        return;
      }
      const [first] = this.#recent;
      let page: readonly StoreEvent[];
      if (first !== undefined && first.revision <= watcher.cursor + 1) page = this.#recent.slice(watcher.cursor + 1 - first.revision);
      else {
        try {
          const { rows } = await this.#options.rows.historyPage(watcher.cursor);
          if (rows[0] !== undefined && rows[0].revision > watcher.cursor + 1)
            return this.#lost(`revision ${watcher.cursor + 1} is needed next, but history is kept from ${rows[0].revision} on only`);
          page = await Promise.all(rows.map((row) => this.#options.toEvent(row)));
        } catch (cause) {
          this.#options.onError(cause);
          await Bun.sleep(retryMs);
          continue;
        }
      }
      for (const event of page) this.#deliver(watcher, event);
      if (page.length === 0) await Bun.sleep(1);
    }
  }

  #deliver(watcher: Watcher, event: StoreEvent): void {
    if (watcher.state === "stopped" || event.revision <= watcher.cursor) return;
    watcher.cursor = event.revision;
    if (watcher.resource !== undefined && watcher.resource !== event.key.resource) return;
    try {
      watcher.onEvent(event);
    } catch (error) {
      this.#options.onError(error);
    }
  }
}
