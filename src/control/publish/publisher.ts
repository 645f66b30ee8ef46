// Owns: the way from a change in the store to every stream: watch, wait a moment for the rest of a burst, compile, hand over what is new,
// write statuses. Keeps the last good snapshots when compiling fails. Never blocks on a stream, never writes a status that says the same.

import type { KubeObject } from "../../api/meta.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { pushOrder, type XdsSnapshot, type XdsType } from "../../wire/xds-types.ts";
import { type ObjectKey, type Revision, type Store, type StoreEvent, StoreFailure, type WatchHandle } from "../store/store.ts";
import type { SnapshotSource } from "../xds/session.ts";
import { changedNames, emptyResources } from "../xds/versions.ts";
import { mergeStatus } from "./status.ts";

export interface StatusPatch {
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly status: Record<string, unknown>;
}

/** The compiler, as the publisher sees it: it is told of every change, and asked in rounds what is different. */
export interface Compiler<W> {
  /** Never older than the last `put` or `remove`. */
  readonly world: W;
  /** `same` and `unread`: nothing that could be compiled differently. */
  put(object: KubeObject): "unread" | "same" | "changed";
  remove(object: KubeObject): "unread" | "same" | "changed";
  /** Rounds tell of this workload's snapshot until it is dropped. Returns what it is now. */
  hold(workload: string): XdsSnapshot | undefined;
  drop(workload: string): void;
  /** See `Publisher.demand`. */
  demand(workload: string, names: Iterable<string> | undefined): void;
  /** See `Publisher.foreign`. */
  foreign(workload: string, agent: string | undefined): void;
  snapshot(workload: string): XdsSnapshot | undefined;
  resourcesFor(workload: string, names: Iterable<string>): Pick<XdsSnapshot["resources"], "cluster" | "endpoint">;
  status(object: KubeObject): StatusPatch | undefined;
  round(): {
    readonly snapshots: ReadonlyMap<string, XdsSnapshot | undefined>;
    readonly statuses: readonly StatusPatch[];
    readonly failures: readonly { readonly what: string; readonly cause: unknown }[];
  };
}

/** One round, for metrics and the event log. */
export interface Publication {
  /** Workloads whose snapshot changed. */
  readonly workloads: readonly string[];
  /** Distinct resources that are new, changed or gone. */
  readonly changed: Readonly<Record<XdsType, number>>;
  /** From the first store event of the burst until it was compiled for. */
  readonly waitMs: number;
  readonly compileMs: number;
  /** From the first store event of the burst until every open stream had been handed its part. */
  readonly pushMs: number;
}

/** `published to 5 workloads: 1 cluster, 2 routes` */
export function describePublication(publication: Publication): string {
  const parts = pushOrder
    .filter((type) => publication.changed[type] > 0)
    .map((type) => `${publication.changed[type]} ${type}${publication.changed[type] === 1 ? "" : "s"}`);
  const count = publication.workloads.length;
  return `published to ${count} workload${count === 1 ? "" : "s"}: ${parts.join(", ")}`;
}

export interface PublisherDeps<W> {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly compiler: Compiler<W>;
  /** Resources that the compiler does not read (Events): they are neither kept nor compiled for. */
  readonly ignores?: (resource: string) => boolean;
  readonly onPublished: (publication: Publication) => void;
  readonly onCompileFailed: (reason: string) => void;
  /** Each store event, after the publisher has taken it in. */
  readonly onEvent: (event: StoreEvent) => void;
}

/** A burst (`weft apply -f` of a folder) is compiled once: so long after its first event. Short beside the 200 ms that a route change may take. */
const settleMs = 2;
/** With a compile that takes long, at most half of the time goes into compiling. */
const mostSettleMs = 100;

/** A write that rests on what the store holds waits so long at most until it has been seen here. */
const seenLimitMs = 3_000;

/** A store that could take no status is asked again after so long: an etcd that is away, or a full disk, ends without an event. */
const statusRetryMs = 5_000;

/** Statuses in one go: what a store is asked for in one turn of the loop shares one sync of the disk. */
const writtenTogether = 64;

export class Publisher<W> implements SnapshotSource {
  readonly #deps: PublisherDeps<W>;
  /** By resource, then by `NAMESPACE/NAME`. */
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #followers = new Map<string, Set<(snapshot: XdsSnapshot) => void>>();
  /** The names that streams ask for, by workload and by who asks. */
  readonly #demands = new Map<string, Map<object, readonly string[]>>();
  /** Of workloads that somebody follows: what was published last. */
  readonly #published = new Map<string, XdsSnapshot>();
  /** Statuses that may have to be written, by object. */
  readonly #unwritten = new Map<string, ObjectKey>();
  /** The newest revision that `world` knows of. */
  #seen: Revision = 0;
  readonly #awaited = new Set<{ readonly revision: Revision; readonly done: () => void }>();
  #watch: WatchHandle | undefined;
  #timer: Timer | undefined;
  #firstEventMs = 0;
  #lastCompileMs = 0;
  #waiting = 0;
  #writing: Promise<void> | undefined;
  #writeAgain: Timer | undefined;
  #stopped = false;

  private constructor(deps: PublisherDeps<W>) {
    this.#deps = deps;
  }

  /** Reads the store, compiles once, and follows from there. */
  static async start<W>(deps: PublisherDeps<W>): Promise<Publisher<W>> {
    const publisher = new Publisher(deps);
    const { items, revision } = await deps.store.listAll();
    for (const { key, object } of items) {
      if (deps.ignores?.(key.resource) === true) continue;
      publisher.#keep(key, object);
      deps.compiler.put(object);
    }
    publisher.#firstEventMs = deps.clock.mono();
    publisher.#seen = revision;
    publisher.#watch = await deps.store.watch(revision, undefined, (event) => publisher.#onEvent(event));
    publisher.#publish();
    return publisher;
  }

  get(key: string): XdsSnapshot | undefined {
    return this.#published.get(key) ?? this.#guarded(`snapshot of ${key}`, () => this.#deps.compiler.snapshot(key));
  }

  /** While somebody follows a workload its snapshot is kept up to date; for others it is made when it is asked for. */
  follow(key: string, onSnapshot: (snapshot: XdsSnapshot) => void): () => void {
    let set = this.#followers.get(key);
    if (set === undefined) {
      set = new Set();
      this.#followers.set(key, set);
      const now = this.#guarded(`snapshot of ${key}`, () => this.#deps.compiler.hold(key));
      if (now !== undefined) this.#published.set(key, now);
    }
    const followers = set.add(onSnapshot);
    return () => {
      followers.delete(onSnapshot);
      if (followers.size > 0 || this.#followers.get(key) !== followers) return;
      this.#followers.delete(key);
      this.#published.delete(key);
      this.#demands.delete(key);
      this.#deps.compiler.drop(key);
    };
  }

  /**
   * The names (`HOST` or `HOST:PORT`) that the forward proxy of a followed workload uses: all it has asked for so far, or was seen to call. From the
   * next round on it is given those services and its upstreams only; undefined = it cannot ask, and is given the whole mesh. Ends with the last follower.
   * `by`: who asks, where several do for one workload (a proxy and its successor, for a while): each is given what any of them asks for; an empty list
   * takes its own back.
   */
  demand(key: string, names: Iterable<string> | undefined, by?: object): void {
    if (!this.#followers.has(key)) return;
    if (by === undefined) this.#deps.compiler.demand(key, names);
    else {
      const all = this.#demands.get(key) ?? new Map<object, readonly string[]>();
      const list = [...(names ?? [])];
      if (list.length === 0 && !all.has(by)) return;
      if (list.length === 0) all.delete(by);
      else all.set(by, list);
      if (all.size === 0) this.#demands.delete(key);
      else this.#demands.set(key, all);
      this.#deps.compiler.demand(key, all.size === 0 ? undefined : [...all.values()].flat());
    }
    this.#soon();
  }

  /** What the proxy of a workload calls itself, where it is not one of Weft's: statuses tell what it does not enforce. undefined = it is gone. */
  foreign(key: string, agent: string | undefined): void {
    this.#deps.compiler.foreign(key, agent);
    this.#soon();
  }

  /** Clusters and endpoints that a proxy asks for by name (a cluster's, or `HOST[:PORT]`), made on the spot; changes of them are not told. */
  resourcesFor(key: string, names: Iterable<string>): Pick<XdsSnapshot["resources"], "cluster" | "endpoint"> {
    const none = { cluster: emptyResources, endpoint: emptyResources };
    return this.#guarded(`resources for ${key}`, () => this.#deps.compiler.resourcesFor(key, names)) ?? none;
  }

  /** What admission judges a candidate against; never older than the last event. */
  world(): W {
    return this.#deps.compiler.world;
  }

  /** The newest revision that `world` knows of. */
  get seen(): Revision {
    return this.#seen;
  }

  /** Resolves when `world` knows of `revision`. Rejects with StoreFailure when that takes too long, or the publisher is stopped. */
  async reached(revision: Revision): Promise<void> {
    if (this.#seen >= revision) return;
    await new Promise<void>((resolve) => {
      const waiting = {
        revision,
        done: () => {
          limit.cancel();
          this.#awaited.delete(waiting);
          resolve();
        },
      };
      const limit = this.#deps.clock.after(seenLimitMs, waiting.done);
      this.#awaited.add(waiting);
    });
    if (this.#seen < revision)
      throw new StoreFailure(
        `this control plane has seen the store up to revision ${this.#seen} only, and what is to be written must be judged against revision ${revision}; nothing was written. Try again.`,
      );
  }

  /** The objects as they are now, but for some, by `RESOURCE/NAMESPACE/NAME`: undefined = without it. */
  *with(changed: ReadonlyMap<string, KubeObject | undefined>): Generator<KubeObject> {
    for (const [resource, objects] of this.#objects)
      for (const [key, object] of objects) if (!changed.has(`${resource}/${key}`)) yield object;
    for (const [key, object] of changed) {
      if (object !== undefined && this.#deps.ignores?.(key.slice(0, key.indexOf("/"))) !== true) yield object;
    }
  }

  /** An object as last seen; no more than a store event behind. */
  object(resource: string, namespace: string, name: string): KubeObject | undefined {
    return this.#objects.get(resource)?.get(`${namespace}/${name}`);
  }

  /** All objects of a resource. */
  objects(resource: string): KubeObject[] {
    return [...(this.#objects.get(resource)?.values() ?? [])];
  }

  /** Changes that have come since the last compile. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Ends the watch and waits for a status write under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#watch?.stop();
    this.#timer?.cancel();
    this.#writeAgain?.cancel();
    for (const waiting of [...this.#awaited]) waiting.done();
    await this.#writing;
    this.#writeAgain?.cancel();
  }

  #keep(key: ObjectKey, object: KubeObject | undefined): void {
    const name = `${key.namespace}/${key.name}`;
    let objects = this.#objects.get(key.resource);
    if (objects === undefined) {
      objects = new Map();
      this.#objects.set(key.resource, objects);
    }
    if (object === undefined) objects.delete(name);
    else objects.set(name, object);
  }

  #onEvent(event: StoreEvent): void {
    if (this.#stopped) return;
    try {
      this.#take(event);
    } finally {
      this.#seen = event.revision;
      for (const waiting of [...this.#awaited]) if (waiting.revision <= event.revision) waiting.done();
    }
  }

  #take(event: StoreEvent): void {
    const { compiler } = this.#deps;
    if (this.#deps.ignores?.(event.key.resource) === true) return;
    const gone = event.type === "deleted";
    this.#keep(event.key, gone ? undefined : event.object);
    const taken = gone ? compiler.remove(event.object) : compiler.put(event.object);
    this.#deps.onEvent(event);
    if (taken !== "changed") {
      // Somebody else may have written over a status of ours. Our own writes end here: they say what is wanted.
      if (!gone && taken === "same" && this.#guarded("status", () => compiler.status(event.object)) !== undefined) this.#toWrite(event.key);
      return;
    }
    this.#waiting++;
    this.#soon();
  }

  #soon(): void {
    const { clock } = this.#deps;
    if (this.#timer !== undefined) return;
    this.#firstEventMs = clock.mono();
    this.#timer = clock.after(Math.min(mostSettleMs, Math.max(settleMs, this.#lastCompileMs)), () => {
      this.#timer = undefined;
      this.#publish();
    });
  }

  #publish(): void {
    const { clock, compiler } = this.#deps;
    const startedMs = clock.mono();
    this.#waiting = 0;
    const round = this.#guarded("round", () => compiler.round());
    this.#lastCompileMs = clock.mono() - startedMs;
    if (round === undefined) return;
    for (const { what, cause } of round.failures) this.#failed(what, cause);
    const names: Record<XdsType, Set<string>> = { cluster: new Set(), endpoint: new Set(), listener: new Set(), route: new Set() };
    const changed: string[] = [];
    for (const [key, snapshot] of round.snapshots) {
      // A workload that is gone: its proxy keeps what it has until it goes too.
      if (snapshot === undefined || !this.#followers.has(key)) continue;
      const before = this.#published.get(key);
      for (const type of pushOrder)
        for (const name of changedNames(before?.resources[type] ?? emptyResources, snapshot.resources[type])) names[type].add(name);
      this.#published.set(key, snapshot);
      changed.push(key);
    }
    for (const key of changed) {
      const snapshot = this.#published.get(key);
      if (snapshot !== undefined) for (const follower of [...(this.#followers.get(key) ?? [])]) this.#tell(key, follower, snapshot);
    }
    this.#deps.onPublished({
      workloads: changed,
      changed: { cluster: names.cluster.size, endpoint: names.endpoint.size, listener: names.listener.size, route: names.route.size },
      waitMs: startedMs - this.#firstEventMs,
      compileMs: this.#lastCompileMs,
      pushMs: clock.mono() - this.#firstEventMs,
    });
    for (const { resource, namespace, name } of round.statuses) this.#toWrite({ resource, namespace, name });
    this.#startWriting();
  }

  #tell(key: string, follower: (snapshot: XdsSnapshot) => void, snapshot: XdsSnapshot): void {
    try {
      follower(snapshot);
    } catch (cause) {
      this.#deps.log.error({ cause, workload: key }, "A stream failed on a new snapshot");
    }
  }

  /** A bug of ours. What runs goes on running with what it has; the next change gives the compiler another chance. */
  #failed(what: string, cause: unknown): void {
    this.#deps.log.error(
      { what, cause, stack: cause instanceof Error ? cause.stack : undefined },
      "The configuration could not be compiled; the last good one stays in force",
    );
    this.#deps.onCompileFailed(cause instanceof Error ? cause.message : String(cause));
  }

  #guarded<V>(what: string, run: () => V): V | undefined {
    try {
      return run();
    } catch (cause) {
      this.#failed(what, cause);
      return undefined;
    }
  }

  #toWrite(key: ObjectKey): void {
    this.#unwritten.set(textKey(key), key);
    this.#startWriting();
  }

  #startWriting(): void {
    if (this.#unwritten.size === 0) return;
    this.#writing ??= this.#writeStatuses().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Until nothing is unwritten. What is wanted is asked at the last moment, so that a newer round has the better word. */
  async #writeStatuses(): Promise<void> {
    // The streams go first.
    await Promise.resolve();
    while (this.#unwritten.size > 0 && !this.#stopped) {
      const some = [...this.#unwritten].slice(0, writtenTogether);
      for (const [text] of some) this.#unwritten.delete(text);
      const written = await Promise.all(some.map(([text, key]) => this.#writeStatus(text, key)));
      if (!written.includes(false)) continue;
      this.#writeAgain?.cancel();
      this.#writeAgain = this.#deps.clock.after(statusRetryMs, () => this.#startWriting());
      return;
    }
  }

  /** false: the store failed, and the status waits for the next try. */
  async #writeStatus(text: string, key: ObjectKey): Promise<boolean> {
    const { store, clock, log, compiler } = this.#deps;
    const object = this.object(key.resource, key.namespace, key.name);
    const patch = object === undefined ? undefined : this.#guarded("status", () => compiler.status(object));
    const status = object === undefined || patch === undefined ? undefined : mergeStatus(patch.status, object.status, clock.now());
    if (object === undefined || status === undefined) return true;
    try {
      // Whoever won a race made an event, and that has it looked at again.
      await store.update(key, { ...object, status }, Number(object.metadata.resourceVersion));
      return true;
    } catch (cause) {
      this.#unwritten.set(text, key);
      log.error({ cause, ...key }, "A status could not be written; it is tried again");
      return false;
    }
  }
}

function textKey(key: ObjectKey): string {
  return `${key.resource}/${key.namespace}/${key.name}`;
}
