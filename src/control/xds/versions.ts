// Owns: telling maps of resources apart: which names differ between two, and one version for a whole map. Both are remembered per map, so
// that a thousand streams which hold the same map pay once. Never changes a map.

import { JoinedMap } from "../../compile/snapshot.ts";
import type { XdsResource } from "../../wire/xds-types.ts";

export type ResourceMap = ReadonlyMap<string, XdsResource>;

export const emptyResources: ResourceMap = new Map();

const sums = new WeakMap<ResourceMap, bigint>();
const mask = (1n << 96n) - 1n;

/** A hash over names and versions; equal contents have equal versions, whatever the order and however the map is put together. */
export function versionOf(resources: ResourceMap): string {
  return sumOf(resources).toString(16).padStart(24, "0");
}

const hashes = new WeakMap<XdsResource, bigint>();

/** Remembered by resource: thousands of maps, one for each proxy, are made of the same few. */
function hashOf(resource: XdsResource): bigint {
  let hash = hashes.get(resource);
  if (hash === undefined) {
    const digest = new Bun.CryptoHasher("sha256").update(`${resource.name}\u0000${resource.version}`).digest("hex");
    hash = BigInt(`0x${digest.slice(0, 24)}`);
    hashes.set(resource, hash);
  }
  return hash;
}

/** Sums of entries' hashes add up, so a map joined of two is known by its parts. */
function sumOf(resources: ResourceMap): bigint {
  let sum = sums.get(resources);
  if (sum !== undefined) return sum;
  sum = 0n;
  if (resources instanceof JoinedMap) for (const part of resources.parts as readonly ResourceMap[]) sum = (sum + sumOf(part)) & mask;
  else {
    for (const resource of resources.values()) sum = (sum + hashOf(resource)) & mask;
  }
  sums.set(resources, sum);
  return sum;
}

const differences = new WeakMap<ResourceMap, WeakMap<ResourceMap, readonly string[]>>();

/** Names that are in only one of the two, or in both with different versions. A name may stand there twice. */
export function changedNames(before: ResourceMap, after: ResourceMap): readonly string[] {
  if (before === after) return [];
  let byAfter = differences.get(before);
  if (byAfter === undefined) {
    byAfter = new WeakMap();
    differences.set(before, byAfter);
  }
  let names = byAfter.get(after);
  if (names === undefined) {
    names = compare(before, after);
    byAfter.set(after, names);
  }
  return names;
}

function compare(before: ResourceMap, after: ResourceMap): readonly string[] {
  if (before instanceof JoinedMap && after instanceof JoinedMap) {
    // The large part is the same object for all workloads: it is compared once.
    const [a, b] = [before.parts, after.parts] as readonly (readonly ResourceMap[])[];
    return a!.flatMap((part, at) => changedNames(part, b![at] as ResourceMap));
  }
  const found: string[] = [];
  for (const [name, resource] of after) {
    const old = before.get(name);
    if (old !== resource && old?.version !== resource.version) found.push(name);
  }
  for (const name of before.keys()) if (!after.has(name)) found.push(name);
  return found;
}
