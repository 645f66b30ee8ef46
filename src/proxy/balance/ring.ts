// Owns: the ring of consistent hashing (ketama). Points are hashed as Envoy's are, but their number for an endpoint does not depend on how many endpoints there
// are: in Envoy it does, and an endpoint that goes moves about as many keys of others as of its own. When endpoints come and go the points of those that
// stay are kept and merged: the cost of a change is a pass over the ring, without sorting.

import type { Endpoint } from "./endpoint.ts";
import { addressText, hash64 } from "./wanted.ts";

/** Points are compared by the upper 53 bits of their hash: two of them that agree in these are once in 10^8 rings. */
const dropped = 11n;

/** An endpoint of the least weight has this part of the ring's smallest size in points: from 8 endpoints on the ring has its size. */
const lightest = 8;
/** Points beyond this do not make shares more even, only changes dearer; past it they are divided, and 1 000 endpoints share the noise of one. */
const largestRing = 131_072;

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
  /** Index into `members` for each point: numbers are copied in stretches, references are not. */
  owners: Int32Array = new Int32Array(0);
  /** Places of endpoints that have gone are taken by those that come. */
  readonly #members: (Endpoint | undefined)[] = [];
  readonly #places = new Map<Endpoint, number>();
  readonly #free: number[] = [];
  /** How many points each endpoint has in it. */
  #counts = new Map<Endpoint, number>();

  /** `weights` go with `members`. */
  update(members: readonly Endpoint[], weights: (endpoint: Endpoint) => number, minSize: number, maxSize: number): void {
    const counts = new Map<Endpoint, number>();
    let sum = 0;
    let least = Number.POSITIVE_INFINITY;
    for (const member of members) {
      const weight = weights(member);
      sum += weight;
      if (weight < least) least = weight;
    }
    let each = Math.ceil(minSize / lightest);
    const most = Math.min(maxSize, largestRing);
    if ((each * sum) / least > most) each = (most * least) / sum;
    let made = 0;
    let target = 0;
    for (const member of members) {
      target += (each * weights(member)) / least;
      let count = 0;
      // Running sums, so that the rounding of one is made up for by the next. 1e-9: sums of fractions that should be whole.
      while (made < target - 1e-9) {
        count++;
        made++;
      }
      counts.set(member, count);
    }
    const before = this.#counts;
    const changes: Change[] = [];
    for (const [member, count] of before) {
      const keep = counts.get(member) ?? 0;
      const own = pointsOf(member, count);
      for (let i = keep; i < count; i++) changes.push({ key: own[i] as number, owner: member, comes: false });
    }
    for (const [member, count] of counts) {
      const had = before.get(member) ?? 0;
      if (count <= had) continue;
      const own = pointsOf(member, count);
      for (let i = had; i < count; i++) changes.push({ key: own[i] as number, owner: member, comes: true });
    }
    this.#counts = counts;
    for (const member of counts.keys()) if (!before.has(member)) this.#settle(member);
    if (changes.length > 0)
      this.#splice(
        changes.sort((x, y) => x.key - y.key),
        made,
      );
    for (const member of before.keys()) if (!counts.has(member)) this.#leave(member);
  }

  #settle(member: Endpoint): void {
    const place = this.#free.pop() ?? this.#members.length;
    this.#members[place] = member;
    this.#places.set(member, place);
  }

  #leave(member: Endpoint): void {
    const place = this.#places.get(member) as number;
    this.#members[place] = undefined;
    this.#places.delete(member);
    this.#free.push(place);
  }

  ownerAt(index: number): Endpoint {
    return this.#members[this.owners[index] as number] as Endpoint;
  }

  /** Whole stretches between two changes are copied at once. */
  #splice(changes: readonly Change[], size: number): void {
    const { keys: oldKeys, owners: oldOwners } = this;
    const keys = new Float64Array(size);
    const owners = new Int32Array(size);
    let at = 0;
    let from = 0;
    const copy = (to: number): void => {
      if (to <= from) return;
      keys.set(oldKeys.subarray(from, to), at);
      owners.set(oldOwners.subarray(from, to), at);
      at += to - from;
      from = to;
    };
    for (const { key, owner, comes } of changes) {
      const own = this.#places.get(owner) as number;
      let place = lowerBound(oldKeys, key);
      if (comes) {
        copy(place);
        keys[at] = key;
        owners[at++] = own;
      } else {
        while (oldOwners[place] !== own) place++;
        copy(place);
        from = place + 1;
      }
    }
    copy(oldKeys.length);
    this.keys = keys;
    this.owners = owners;
  }

  /** Index of the first point at or behind the key; the ring is closed. */
  find(key: number): number {
    const found = lowerBound(this.keys, key);
    return found === this.keys.length ? 0 : found;
  }
}

interface Change {
  readonly key: number;
  readonly owner: Endpoint;
  readonly comes: boolean;
}

/** The first index whose key is not smaller. */
function lowerBound(keys: Float64Array, key: number): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((keys[middle] as number) >= key) high = middle;
    else low = middle + 1;
  }
  return low;
}
