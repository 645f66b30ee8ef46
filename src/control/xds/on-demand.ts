// Owns: what a proxy is given beyond its own part of the mesh, because it asked by name (delta xDS, clusters on demand): the cluster, those its routes lead
// to, and their endpoints. Pure. Never widens what may be asked for: any proxy of the mesh may know any service of it.

import { JoinedMap } from "../../compile/snapshot.ts";
import type { XdsSnapshot } from "../../wire/xds-types.ts";
import type { ResourceMap } from "./versions.ts";

export type MoreResources = Pick<XdsSnapshot["resources"], "cluster" | "endpoint">;

/** `base` and, of the names that are not in it, what `more` has. The same object where there is nothing to add. */
export function withDemanded(base: XdsSnapshot, names: Iterable<string>, more: (names: readonly string[]) => MoreResources): XdsSnapshot {
  const missing: string[] = [];
  for (const name of names) if (!base.resources.cluster.has(name)) missing.push(name);
  if (missing.length === 0) return base;
  const found = more(missing);
  const cluster = beside(found.cluster, base.resources.cluster);
  if (cluster === base.resources.cluster) return base;
  return { ...base, resources: { ...base.resources, cluster, endpoint: beside(found.endpoint, base.resources.endpoint) } };
}

function beside(more: ResourceMap, base: ResourceMap): ResourceMap {
  const own = new Map([...more].filter(([name]) => !base.has(name)));
  return own.size === 0 ? base : new JoinedMap(own, base);
}
