// Owns: the way from a change in the store to every stream: watch, wait a moment for the rest of a burst, compile, hand over what is new,
// write statuses. Keeps the last good snapshots when compiling fails. Never blocks on a stream, never writes a status that says the same.

import type { KubeObject } from "../../api/meta.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { pushOrder, type XdsSnapshot, type XdsType } from "../../wire/xds-types.ts";
import type { ObjectKey, Store, StoreEvent, WatchHandle } from "../store/store.ts";
import type { SnapshotSource } from "../xds/session.ts";
import { changedNames, emptyResources } from "../xds/versions.ts";
import { mergeStatus } from "./status.ts";

export interface StatusPatch {
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly status: Record<string, unknown>;
}

/** The compiler, as the publisher sees it. */
export interface Compiler<W> {
  buildWorld(objects: Iterable<KubeObject>): W;
  compile(world: W): { readonly snapshots: ReadonlyMap<string, XdsSnapshot>; readonly statuses: readonly StatusPatch[] };
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

export class Publisher<W> implements SnapshotSource {
  readonly #deps: PublisherDeps<W>;
  readonly #objects = new Map<string, KubeObject>();
  readonly #followers = new Map<string, Set<(snapshot: XdsSnapshot) => void>>();
  #snapshots: ReadonlyMap<string, XdsSnapshot> = new Map();
  #world: W | undefined;
  #watch: WatchHandle | undefined;
  #timer: Timer | undefined;
  #firstEventMs = 0;
  #lastCompileMs = 0;
  #round = 0;
  #waiting = 0;
  #wroteStatuses: Promise<void> = Promise.resolve();
  #stopped = false;

  private constructor(deps: PublisherDeps<W>) {
    this.#deps = deps;
  }

  /** Reads the store, compiles once, and follows from there. */
  static async start<W>(deps: PublisherDeps<W>): Promise<Publisher<W>> {
    const publisher = new Publisher(deps);
    const { items, revision } = await deps.store.listAll();
    for (const { key, object } of items) if (deps.ignores?.(key.resource) !== true) publisher.#objects.set(textKey(key), object);
    publisher.#firstEventMs = deps.clock.mono();
    publisher.#watch = await deps.store.watch(revision, undefined, (event) => publisher.#onEvent(event));
    publisher.#publish();
    return publisher;
  }

  get(key: string): XdsSnapshot | undefined {
    return this.#snapshots.get(key);
  }

  follow(key: string, onSnapshot: (snapshot: XdsSnapshot) => void): () => void {
    const set = this.#followers.get(key) ?? new Set();
    this.#followers.set(key, set.add(onSnapshot));
    return () => {
      set.delete(onSnapshot);
      if (set.size === 0 && this.#followers.get(key) === set) this.#followers.delete(key);
    };
  }

  /** The objects as they are now, compiled into the compiler's indices; what admission judges a candidate against. */
  world(): W {
    this.#world ??= this.#deps.compiler.buildWorld(this.#objects.values());
    return this.#world;
  }

  /** The objects as they are now, but for some, by `RESOURCE/NAMESPACE/NAME`: undefined = without it. */
  *with(changed: ReadonlyMap<string, KubeObject | undefined>): Generator<KubeObject> {
    for (const [key, object] of this.#objects) if (!changed.has(key)) yield object;
    for (const [key, object] of changed) {
      if (object !== undefined && this.#deps.ignores?.(key.slice(0, key.indexOf("/"))) !== true) yield object;
    }
  }

  /** An object as last seen; no more than a store event behind. */
  object(resource: string, namespace: string, name: string): KubeObject | undefined {
    return this.#objects.get(textKey({ resource, namespace, name }));
  }

  /** All objects of a resource. */
  objects(resource: string): KubeObject[] {
    const prefix = `${resource}/`;
    const found: KubeObject[] = [];
    for (const [key, object] of this.#objects) if (key.startsWith(prefix)) found.push(object);
    return found;
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
    await this.#wroteStatuses;
  }

  #onEvent(event: StoreEvent): void {
    if (this.#stopped || this.#deps.ignores?.(event.key.resource) === true) return;
    const key = textKey(event.key);
    const before = this.#objects.get(key);
    if (event.type === "deleted") this.#objects.delete(key);
    else this.#objects.set(key, event.object);
    this.#deps.onEvent(event);
    if (event.type === "modified" && before !== undefined && sameButStatus(before, event.object)) return;
    this.#world = undefined;
    this.#waiting++;
    if (this.#timer !== undefined) return;
    this.#firstEventMs = this.#deps.clock.mono();
    this.#timer = this.#deps.clock.after(Math.min(mostSettleMs, Math.max(settleMs, this.#lastCompileMs)), () => {
      this.#timer = undefined;
      this.#publish();
    });
  }

  #publish(): void {
    const { clock, log, compiler } = this.#deps;
    const startedMs = clock.mono();
    this.#waiting = 0;
    let compiled: ReturnType<Compiler<W>["compile"]>;
    try {
      compiled = compiler.compile(this.world());
    } catch (cause) {
      // A bug of ours. What runs goes on running with what it has; the next change gives the compiler another chance.
      log.error(
        { cause, stack: cause instanceof Error ? cause.stack : undefined },
        "The configuration could not be compiled; the last good one stays in force",
      );
      this.#deps.onCompileFailed(cause instanceof Error ? cause.message : String(cause));
      return;
    }
    this.#lastCompileMs = clock.mono() - startedMs;
    const before = this.#snapshots;
    const next = new Map<string, XdsSnapshot>();
    const changed: string[] = [];
    const names: Record<XdsType, Set<string>> = { cluster: new Set(), endpoint: new Set(), listener: new Set(), route: new Set() };
    for (const [key, snapshot] of compiled.snapshots) {
      const old = before.get(key);
      let differs = old === undefined;
      for (const type of pushOrder) {
        const differences = changedNames(old?.resources[type] ?? emptyResources, snapshot.resources[type]);
        if (differences.length === 0) continue;
        differs = true;
        for (const name of differences) names[type].add(name);
      }
      // An equal snapshot keeps its identity, so that nobody looks at it again.
      next.set(key, differs || old === undefined ? snapshot : old);
      if (differs) changed.push(key);
    }
    this.#snapshots = next;
    for (const key of changed) {
      const snapshot = next.get(key);
      if (snapshot !== undefined) for (const follower of [...(this.#followers.get(key) ?? [])]) this.#tell(key, follower, snapshot);
    }
    this.#deps.onPublished({
      workloads: changed,
      changed: { cluster: names.cluster.size, endpoint: names.endpoint.size, listener: names.listener.size, route: names.route.size },
      waitMs: startedMs - this.#firstEventMs,
      compileMs: this.#lastCompileMs,
      pushMs: clock.mono() - this.#firstEventMs,
    });
    const round = ++this.#round;
    this.#wroteStatuses = this.#wroteStatuses.then(() => this.#writeStatuses(round, compiled.statuses));
  }

  #tell(key: string, follower: (snapshot: XdsSnapshot) => void, snapshot: XdsSnapshot): void {
    try {
      follower(snapshot);
    } catch (cause) {
      this.#deps.log.error({ cause, workload: key }, "A stream failed on a new snapshot");
    }
  }

  async #writeStatuses(round: number, patches: readonly StatusPatch[]): Promise<void> {
    const { store, clock, log } = this.#deps;
    for (const patch of patches) {
      // A newer round has the better word.
      if (this.#stopped || round !== this.#round) return;
      const key: ObjectKey = { resource: patch.resource, namespace: patch.namespace, name: patch.name };
      const object = this.#objects.get(textKey(key));
      if (object === undefined) continue;
      const status = mergeStatus(patch.status, object.status, clock.now());
      if (status === undefined) continue;
      try {
        // Lost races are no loss: whoever won made an event, and that makes another round.
        await store.update(key, { ...object, status }, Number(object.metadata.resourceVersion));
      } catch (cause) {
        log.error({ cause, ...key }, "A status could not be written; it is tried again with the next change");
        return;
      }
    }
  }
}

function textKey(key: ObjectKey): string {
  return `${key.resource}/${key.namespace}/${key.name}`;
}

/** Nothing but the status turned, and it is not a status that the compiler reads. Our own writes end here. */
function sameButStatus(before: KubeObject, after: KubeObject): boolean {
  if (before.kind === "WorkloadEntry") return Bun.deepEquals(visible(before, true), visible(after, true));
  return Bun.deepEquals(visible(before, false), visible(after, false));
}

function visible(object: KubeObject, withHealth: boolean): unknown {
  const { metadata, status, ...rest } = object;
  const { resourceVersion: _version, managedFields: _fields, ...meta } = metadata;
  return { ...rest, meta, health: withHealth ? healthOf(status) : undefined };
}

/** Of an entry's status the compiler reads the condition Healthy, and of that what it says. */
function healthOf(status: unknown): unknown {
  const conditions = (status as { conditions?: { type?: unknown; status?: unknown }[] } | undefined)?.conditions;
  return Array.isArray(conditions) ? conditions.find((c) => c?.type === "Healthy")?.status : undefined;
}
