// Owns: the whole way from objects to what every proxy should hold, and to what every object's status should say: at once, or in rounds that
// answer for what changed since the last. Pure: no clock, no I/O; the same objects in any order give the same bytes, and a compiler that has lived
// through any history says what a new one would.

import type { KubeObject } from "../api/meta.ts";
import type { XdsSnapshot } from "../wire/xds-types.ts";
import type { Cell } from "./graph.ts";
import { resourcesFor, snapshotOf } from "./layout.ts";
import type { Taken } from "./objects.ts";
import { grpcKey, grpcSnapshotOf } from "./proxyless.ts";
import { type StatusPatch, statuses, statusKey, statusOf } from "./status.ts";
import { LiveWorld, type World } from "./world.ts";

export type { StatusPatch } from "./status.ts";
export { buildWorld, type World } from "./world.ts";

export interface Compiled {
  /** By `NS/NAME` of the WorkloadEntry. */
  readonly snapshots: ReadonlyMap<string, XdsSnapshot>;
  readonly statuses: readonly StatusPatch[];
}

/** Everything that a world says. Throws OpenSnapshotError only for a bug of the compiler itself. */
export function compileAll(world: World): Compiled {
  const snapshots = new Map<string, XdsSnapshot>();
  for (const key of world.workloads.keys()) {
    const snapshot = snapshotOf(world, key);
    if (snapshot !== undefined) snapshots.set(key, snapshot);
  }
  return { snapshots, statuses: statuses(world) };
}

/** What is different since the last round. */
export interface Round {
  /** Of held workloads; undefined = the workload is gone. */
  readonly snapshots: ReadonlyMap<string, XdsSnapshot | undefined>;
  readonly statuses: readonly StatusPatch[];
  /** What could not be made, a bug of ours: what was there before stays in force, and the next round tries again. */
  readonly failures: readonly { readonly what: string; readonly cause: unknown }[];
}

type Watched = { readonly kind: "snapshot" | "status"; readonly key: string };

/** A mesh that changes. Work is done for who is held, and for statuses; cost grows with what a change reaches. */
export class MeshCompiler {
  readonly #live: LiveWorld;
  readonly #watched = new Map<Cell<unknown>, Watched>();
  readonly #told = new Map<string, XdsSnapshot | undefined>();
  /** Failed in the last round. */
  #again: Cell<unknown>[] = [];

  constructor(trustDomain: string) {
    this.#live = new LiveWorld(trustDomain);
  }

  /** As it is now, the last `put` and `remove` included. */
  get world(): World {
    return this.#live;
  }

  /** Values computed so far: what a change costs, whatever the machine. */
  get computations(): number {
    return this.#live.graph.computations;
  }

  put(object: KubeObject): Taken {
    const taken = this.#live.put(object);
    const key = taken === "changed" ? statusKey(object) : undefined;
    if (key !== undefined) this.#watch(statusOf.cell(this.#live, key) as Cell<unknown>, { kind: "status", key });
    return taken;
  }

  remove(object: KubeObject): Taken {
    const key = statusKey(object);
    if (key !== undefined) this.#unwatch(statusOf.cell(this.#live, key) as Cell<unknown>);
    return this.#live.remove(object);
  }

  /** From now on rounds tell of this workload's snapshot, until `drop`. Returns it as it is; undefined = there is no such workload. */
  hold(workload: string): XdsSnapshot | undefined {
    const cell = this.#snapshotCell(workload);
    this.#watch(cell as Cell<unknown>, { kind: "snapshot", key: workload });
    const now = cell.read();
    this.#told.set(workload, now);
    return now;
  }

  drop(workload: string): void {
    this.#unwatch(this.#snapshotCell(workload) as Cell<unknown>);
    this.#told.delete(workload);
    this.#live.demand(workload, undefined);
  }

  /**
   * The names that a held workload's forward proxy uses (`HOST` or `HOST:PORT`): it is given these services and its upstreams, and no others.
   * undefined = its proxy cannot ask for more, so it is given all. Takes effect with the next round. Forgotten with `drop`.
   */
  demand(workload: string, names: Iterable<string> | undefined): void {
    this.#live.demand(workload, names === undefined ? undefined : [...new Set(names)].sort());
  }

  /** What a workload's proxy calls itself, where it is not one of Weft's; undefined = it is, or it is gone. For statuses; takes effect with the next round. */
  foreign(workload: string, agent: string | undefined): void {
    this.#live.setForeign(workload, agent);
  }

  /** Computed on the spot where nobody holds it. */
  snapshot(workload: string): XdsSnapshot | undefined {
    return this.#snapshotCell(workload).read();
  }

  /** Of a proxy by its workload, of a gRPC program by `grpcKey` and its own. */
  #snapshotCell(key: string): Cell<XdsSnapshot | undefined> {
    return key.startsWith(grpcKey)
      ? (grpcSnapshotOf.cell(this.#live, key.slice(grpcKey.length)) as Cell<XdsSnapshot | undefined>)
      : snapshotOf.cell(this.#live, key);
  }

  /** What names need that a proxy asks for by name: a cluster's, or `HOST[:PORT]` as its forward proxy has it. Made on the spot. */
  resourcesFor(workload: string, names: Iterable<string>): ReturnType<typeof resourcesFor> {
    return resourcesFor(this.#live, workload, names);
  }

  /** What an object should be told; undefined = nothing. */
  status(object: KubeObject): StatusPatch | undefined {
    const key = statusKey(object);
    return key === undefined ? undefined : statusOf(this.#live, key);
  }

  round(): Round {
    const { graph } = this.#live;
    const snapshots = new Map<string, XdsSnapshot | undefined>();
    const found: StatusPatch[] = [];
    const failures: { what: string; cause: unknown }[] = [];
    const work = new Set([...graph.touched, ...this.#again]);
    graph.touched.clear();
    this.#again = [];
    for (const cell of work) {
      const watched = this.#watched.get(cell);
      if (watched === undefined) continue;
      const { kind, key } = watched;
      try {
        const value = cell.peek();
        if (kind === "status") {
          if (value !== undefined) found.push(value as StatusPatch);
        } else if (this.#told.get(key) !== value) {
          this.#told.set(key, value as XdsSnapshot | undefined);
          snapshots.set(key, value as XdsSnapshot | undefined);
        }
      } catch (cause) {
        this.#again.push(cell);
        failures.push({ what: `${kind} of ${key}`, cause });
      }
    }
    graph.sweep();
    return { snapshots, statuses: found, failures };
  }

  #watch(cell: Cell<unknown>, watched: Watched): void {
    if (this.#watched.has(cell)) return;
    this.#watched.set(cell, watched);
    cell.watch();
  }

  #unwatch(cell: Cell<unknown>): void {
    this.#watched.delete(cell);
    cell.unwatch();
  }
}
