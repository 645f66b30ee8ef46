// Owns: telling maps of resources apart: which names differ between two, and one version for a whole map. Both are remembered per map, so
// that a thousand streams which hold the same map pay once. Never changes a map.

import type { XdsResource } from "../../wire/xds-types.ts";

export type ResourceMap = ReadonlyMap<string, XdsResource>;

export const emptyResources: ResourceMap = new Map();

const versions = new WeakMap<ResourceMap, string>();

/** A hash over names and versions; equal contents have equal versions, whatever the order. */
export function versionOf(resources: ResourceMap): string {
  let version = versions.get(resources);
  if (version === undefined) {
    const lines = Array.from(resources.values(), (r) => `${r.name}\u0000${r.version}\n`).sort((a, b) => (a < b ? -1 : 1));
    const hasher = new Bun.CryptoHasher("sha256");
    for (const line of lines) hasher.update(line);
    version = hasher.digest("hex").slice(0, 16);
    versions.set(resources, version);
  }
  return version;
}

const differences = new WeakMap<ResourceMap, WeakMap<ResourceMap, readonly string[]>>();

/** Names that are in only one of the two, or in both with different versions. */
export function changedNames(before: ResourceMap, after: ResourceMap): readonly string[] {
  if (before === after) return [];
  let byAfter = differences.get(before);
  if (byAfter === undefined) {
    byAfter = new WeakMap();
    differences.set(before, byAfter);
  }
  let names = byAfter.get(after);
  if (names === undefined) {
    const found: string[] = [];
    for (const [name, resource] of after) if (before.get(name)?.version !== resource.version) found.push(name);
    for (const name of before.keys()) if (!after.has(name)) found.push(name);
    names = found;
    byAfter.set(after, names);
  }
  return names;
}
