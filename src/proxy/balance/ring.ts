// Owns: the ring of consistent hashing (ketama), with Envoy's sizes and hashes: the same endpoints give the same ring as in Envoy.
// When endpoints come and go the points of those that stay are kept and merged: the cost of a change is a pass over the ring, without sorting.

import type { Endpoint } from "./endpoint.ts";
import { addressText, hash64 } from "./wanted.ts";

/** Points are compared by the upper 53 bits of their hash: two of them that agree in these are once in 10^8 rings. */
const dropped = 11n;

export function ringKey(hash: bigint): number {
  return Number(hash >> dropped);
}

/** Points of one endpoint, in the order of their making (not sorted). */
const points = new WeakMap<Endpoint, number[]>();

function pointsOf(endpoint: Endpoint, count: number): readonly number[] {
  let known = points.get(endpoint);
  if (known === undefined) {
    known = [];
    points.set(endpoint, known);
  }
  if (known.length < count) {
    const prefix = `${addressText(endpoint.host, endpoint.port)}_`;
    while (known.length < count) known.push(ringKey(hash64(prefix + known.length)));
  }
  return known;
}

export class Ring {
  keys: Float64Array = new Float64Array(0);
  owners: Endpoint[] = [];
  /** How many points each endpoint has in it. */
  #counts = new Map<Endpoint, number>();

  /** `weights` go with `members`; sizes as Envoy reckons them. */
  update(members: readonly Endpoint[], weights: (endpoint: Endpoint) => number, minSize: number, maxSize: number): void {
    const counts = new Map<Endpoint, number>();
    let sum = 0;
    let least = Number.POSITIVE_INFINITY;
    for (const member of members) {
      const weight = weights(member);
      sum += weight;
      if (weight < least) least = weight;
    }
    const smallest = least / sum;
    const scale = Math.min(Math.ceil(smallest * minSize) / smallest, maxSize);
    let made = 0;
    let target = 0;
    for (const member of members) {
      target += (scale * weights(member)) / sum;
      let count = 0;
      // As Envoy: running sums, so that the rounding of one is made up for by the next. 1e-9: sums of fractions that should be whole.
      while (made < target - 1e-9) {
        count++;
        made++;
      }
      counts.set(member, count);
    }
    const before = this.#counts;
    // What is to be taken out: points from `keep` on of an endpoint that has fewer now.
    const addedKeys: number[] = [];
    const addedOwners: Endpoint[] = [];
    let removed = false;
    for (const [member, count] of before) if (count > (counts.get(member) ?? 0)) removed = true;
    for (const [member, count] of counts) {
      const had = before.get(member) ?? 0;
      if (count <= had) continue;
      const own = pointsOf(member, count);
      for (let i = had; i < count; i++) {
        addedKeys.push(own[i] as number);
        addedOwners.push(member);
      }
    }
    if (!removed && addedKeys.length === 0) return;
    const gone = new Set<number>();
    if (removed) {
      for (const [member, count] of before) {
        const keep = counts.get(member) ?? 0;
        const own = pointsOf(member, count);
        for (let i = keep; i < count; i++) gone.add(own[i] as number);
      }
    }
    const order = addedKeys.map((_key, i) => i).sort((a, b) => (addedKeys[a] as number) - (addedKeys[b] as number));
    const keys = new Float64Array(made);
    const owners: Endpoint[] = new Array(made);
    const { keys: oldKeys, owners: oldOwners } = this;
    let at = 0;
    let next = 0;
    for (let i = 0; i < oldKeys.length; i++) {
      const key = oldKeys[i] as number;
      const owner = oldOwners[i] as Endpoint;
      if (removed && gone.has(key) && this.#isGone(owner, key, counts)) continue;
      while (next < order.length && (addedKeys[order[next] as number] as number) <= key) {
        keys[at] = addedKeys[order[next] as number] as number;
        owners[at++] = addedOwners[order[next++] as number] as Endpoint;
      }
      keys[at] = key;
      owners[at++] = owner;
    }
    while (next < order.length) {
      keys[at] = addedKeys[order[next] as number] as number;
      owners[at++] = addedOwners[order[next++] as number] as Endpoint;
    }
    this.keys = keys;
    this.owners = owners;
    this.#counts = counts;
  }

  #isGone(owner: Endpoint, key: number, counts: ReadonlyMap<Endpoint, number>): boolean {
    const keep = counts.get(owner) ?? 0;
    return pointsOf(owner, this.#counts.get(owner) ?? 0).indexOf(key) >= keep;
  }

  /** Index of the first point at or behind the key; the ring is closed. */
  find(key: number): number {
    const keys = this.keys;
    let low = 0;
    let high = keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((keys[middle] as number) >= key) high = middle;
      else low = middle + 1;
    }
    return low === keys.length ? 0 : low;
  }
}
