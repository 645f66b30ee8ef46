// Owns: the whole way from objects to what every proxy should hold, and to what every object's status should say. Pure: no clock, no I/O;
// the same objects in any order give the same bytes, and a compiler that has lived through any history says what a new one would.

import type { XdsSnapshot } from "../wire/xds-types.ts";
import { snapshotOf } from "./resources.ts";
import { type StatusPatch, statuses } from "./status.ts";
import type { World } from "./world.ts";

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
