// Owns: the Events that the control plane records, and that no Event is kept for ever. An event that comes again is counted.
// Never in the way of what it tells about: recording is fire and forget, bounded, and a write that fails is tried again a few times, then given up in the log.

import type { EventObject } from "../api/kinds/event.ts";
import { lastSeen } from "../api/kinds/event.ts";
import type { KubeObject } from "../api/meta.ts";
import type { Clock, Timer } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { ObjectKey, Store, Write } from "./store/store.ts";

/** Kubernetes keeps events for an hour as well. */
export const eventLifeMs = 3_600_000;
/** All namespaces together; beyond it the oldest go. */
export const maxEvents = 2_000;
const sweepEveryMs = 60_000;
/** The same event within this time is written once, with its count. */
const gatherMs = 1_000;
/** Different events waiting to be written; further ones are left out until the next round. */
const maxWaiting = 500;
const component = "weft";

export interface Happening {
  /** What it happened to; needs kind, apiVersion and metadata only. */
  readonly regarding: Pick<KubeObject, "apiVersion" | "kind" | "metadata">;
  readonly type: "Normal" | "Warning";
  /** One word, CamelCase. */
  readonly reason: string;
  readonly message: string;
}

export interface EventDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly uid: () => string;
  /** By which store old events are deleted; undefined = that is another control plane's work now. Default: `store`. */
  readonly tidier?: () => Store | undefined;
}

/** A store that is away is back within seconds, or nobody waits for an Event: 2, 4, 8 and 8 s after one another. */
export const mostTries = 5;

/** A fleet that connects makes an event for each proxy. */
const writtenTogether = 64;

interface Waiting {
  readonly happening: Happening;
  readonly firstMs: number;
  lastMs: number;
  count: number;
  tries: number;
}

export class EventRecorder {
  readonly #deps: EventDeps;
  readonly #waiting = new Map<string, Waiting>();
  readonly #sweeper: Timer;
  #timer: Timer | undefined;
  /** Rounds in a row in which a write failed. */
  #failures = 0;
  #stopped = false;
  #writing: Promise<void> = Promise.resolve();

  constructor(deps: EventDeps) {
    this.#deps = deps;
    this.#sweeper = deps.clock.every(sweepEveryMs, () => this.#inTurn(() => this.#sweep()));
  }

  record(happening: Happening): void {
    const { kind, metadata } = happening.regarding;
    const id = JSON.stringify([kind, metadata.namespace, metadata.name, metadata.uid, happening.type, happening.reason, happening.message]);
    const now = this.#deps.clock.now();
    const known = this.#waiting.get(id);
    if (known !== undefined) {
      known.count++;
      known.lastMs = now;
    } else if (this.#waiting.size < maxWaiting) this.#waiting.set(id, { happening, firstMs: now, lastMs: now, count: 1, tries: 0 });
    this.#later();
  }

  #later(): void {
    if (this.#stopped) return;
    this.#timer ??= this.#deps.clock.after(gatherMs * 2 ** this.#failures, () => {
      this.#timer = undefined;
      this.#inTurn(() => this.#flush());
    });
  }

  /** Writes what is waiting, once. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#sweeper.cancel();
    this.#timer?.cancel();
    this.#inTurn(() => this.#flush());
    await this.#writing;
  }

  #inTurn(run: () => Promise<void>): void {
    this.#writing = this.#writing.then(run).catch((cause: unknown) => {
      this.#deps.log.error({ cause }, "Events could not be written or tidied up");
    });
  }

  /** Side by side, a few at a time: what a store is asked for in one turn of the loop shares one sync of the disk. */
  async #flush(): Promise<void> {
    const all = [...this.#waiting];
    this.#waiting.clear();
    const failed: [string, Waiting][] = [];
    let cause: unknown;
    for (let from = 0; from < all.length; from += writtenTogether)
      await Promise.all(
        all.slice(from, from + writtenTogether).map(async ([id, waiting]) => {
          try {
            await this.#write(id, waiting);
          } catch (error) {
            cause = error;
            failed.push([id, waiting]);
          }
        }),
      );
    this.#failures = failed.length === 0 ? 0 : Math.min(this.#failures + 1, mostTries - 2);
    if (failed.length > 0) this.#again(failed, cause);
  }

  #again(failed: readonly (readonly [string, Waiting])[], cause: unknown): void {
    let lost = 0;
    for (const [id, waiting] of failed) {
      const tries = waiting.tries + 1;
      const since = this.#waiting.get(id);
      if (since !== undefined)
        this.#waiting.set(id, {
          ...waiting,
          lastMs: since.lastMs,
          count: waiting.count + since.count,
          tries: Math.min(tries, mostTries - 1),
        });
      else if (tries < mostTries && !this.#stopped && this.#waiting.size < maxWaiting) this.#waiting.set(id, { ...waiting, tries });
      else lost++;
    }
    if (lost > 0) this.#deps.log.error({ cause, lost }, "Events could not be written and are given up");
    else this.#deps.log.debug({ cause, failed: failed.length }, "Events could not be written; they are tried again");
    if (this.#waiting.size > 0) this.#later();
  }

  async #write(id: string, { happening, firstMs, lastMs, count }: Waiting): Promise<void> {
    const { store, uid } = this.#deps;
    const { regarding, type, reason, message } = happening;
    const namespace = regarding.metadata.namespace ?? "default";
    const hash = new Bun.CryptoHasher("sha256").update(id).digest("hex").slice(0, 16);
    const name = `${regarding.metadata.name.slice(0, 200)}.${hash}`;
    const key: ObjectKey = { resource: "events", namespace, name };
    const there = (await store.get(key)) as EventObject | undefined;
    if (there !== undefined) {
      const counted = { ...there, count: (there.count ?? 1) + count, lastTimestamp: stamp(lastMs) };
      const updated = await store.update(key, counted, undefined);
      // Tidied up between the two.
      if (!updated.ok) throw new Error(`the Event ${namespace}/${name} is gone`);
      return;
    }
    const { name: about, namespace: within, uid: subject, resourceVersion } = regarding.metadata;
    const event: EventObject = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name, namespace, uid: uid(), creationTimestamp: stamp(firstMs) },
      involvedObject: {
        apiVersion: regarding.apiVersion,
        kind: regarding.kind,
        name: about,
        ...(within !== undefined && { namespace: within }),
        ...(subject !== undefined && { uid: subject }),
        ...(resourceVersion !== undefined && { resourceVersion }),
      },
      reason,
      message: message.slice(0, 1024),
      type,
      count,
      firstTimestamp: stamp(firstMs),
      lastTimestamp: stamp(lastMs),
      source: { component },
      reportingComponent: component,
    };
    const created = await store.create(key, event);
    // Another control plane has told of the same: counted with it.
    if (!created.ok) throw new Error(`the Event ${namespace}/${name} is there already`);
  }

  async #sweep(): Promise<void> {
    const { clock } = this.#deps;
    const store = this.#deps.tidier === undefined ? this.#deps.store : this.#deps.tidier();
    if (store === undefined) return;
    const { items } = await store.list("events");
    const oldest = clock.now() - eventLifeMs;
    const byAge = [...items].sort((a, b) => (lastSeen(a) < lastSeen(b) ? -1 : 1));
    const gone = byAge.filter((event, at) => !(Date.parse(lastSeen(event)) >= oldest) || at < byAge.length - maxEvents);
    if (gone.length === 0) return;
    const writes = gone.map(
      ({ metadata }): Write => ({
        verb: "delete",
        key: { resource: "events", namespace: metadata.namespace ?? "", name: metadata.name },
        expected: Number(metadata.resourceVersion),
      }),
    );
    // One that changed meanwhile makes the whole wait for the next round.
    await store.transact(writes);
  }
}

function stamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
