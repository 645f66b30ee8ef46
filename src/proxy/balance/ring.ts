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
  /** Who was in it at last, in this order, and how many points each has. */
  #order: readonly Endpoint[] = [];
  #counts = new Int32Array(0);

  /** `weights` go with `members`. */
  update(members: readonly Endpoint[], weights: (endpoint: Endpoint) => number, minSize: number, maxSize: number): void {
    const counts = new Int32Array(members.length);
    const weighed = new Float64Array(members.length);
    let sum = 0;
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < weighed.length; i++) {
      const weight = weights(members[i] as Endpoint);
      weighed[i] = weight;
      sum += weight;
      if (weight < least) least = weight;
    }
    let each = Math.ceil(minSize / lightest);
    const most = Math.min(maxSize, largestRing);
    if ((each * sum) / least > most) each = (most * least) / sum;
    let made = 0;
    let target = 0;
    for (let i = 0; i < counts.length; i++) {
      target += (each * (weighed[i] as number)) / least;
      // Running sums, so that the rounding of one is made up for by the next. 1e-9: sums of fractions that should be whole.
      const upTo = Math.max(made, Math.ceil(target - 1e-9));
      counts[i] = upTo - made;
      made = upTo;
    }
    this.#change(members, counts, made);
  }

  /** Only who stands between the same beginning and the same end as before is looked at. */
  #change(members: readonly Endpoint[], counts: Int32Array<ArrayBuffer>, made: number): void {
    const old = this.#order;
    const had = this.#counts;
    let from = 0;
    let tail = 0;
    const most = Math.min(old.length, members.length);
    while (from < most && old[from] === members[from] && had[from] === counts[from]) from++;
    for (let i = old.length - 1, j = members.length - 1; tail < most - from && old[i] === members[j] && had[i] === counts[j]; i--, j--)
      tail++;
    const before = new Map<Endpoint, number>();
    for (let i = from; i < old.length - tail; i++) before.set(old[i] as Endpoint, had[i] as number);
    const now = new Map<Endpoint, number>();
    for (let i = from; i < members.length - tail; i++) now.set(members[i] as Endpoint, counts[i] as number);
    const changes: Change[] = [];
    for (const [member, count] of before) {
      const keep = now.get(member) ?? 0;
      if (keep >= count) continue;
      const own = pointsOf(member, count);
      for (let i = keep; i < count; i++) changes.push({ key: own[i] as number, owner: member, comes: false });
    }
    for (const [member, count] of now) {
      const kept = before.get(member) ?? 0;
      if (count <= kept) continue;
      const own = pointsOf(member, count);
      for (let i = kept; i < count; i++) changes.push({ key: own[i] as number, owner: member, comes: true });
    }
    this.#order = members;
    this.#counts = counts;
    for (const member of now.keys()) if (!before.has(member)) this.#settle(member);
    if (changes.length > 0)
      this.#splice(
        changes.sort((x, y) => x.key - y.key),
        made,
      );
    for (const member of before.keys()) if (!now.has(member)) this.#leave(member);
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
    if (size === oldKeys.length) {
      this.#replace(changes);
      return;
    }
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

  /** As many points come as go, as where one endpoint stands in the place of another: within the same arrays, as new ones of a megabyte cost more than their filling. */
  #replace(changes: readonly Change[]): void {
    const { keys, owners } = this;
    let end = -1;
    let from = 0;
    const close = (to: number): void => {
      if (end < 0) end = to;
      else {
        keys.copyWithin(end, from, to);
        owners.copyWithin(end, from, to);
        end += to - from;
      }
    };
    for (const { key, owner, comes } of changes) {
      if (comes) continue;
      const own = this.#places.get(owner) as number;
      // What lies behind `from` has not been moved yet.
      let place = lowerBound(keys, key, from);
      while (owners[place] !== own) place++;
      close(place);
      from = place + 1;
    }
    close(keys.length);
    let to = keys.length;
    for (let i = changes.length - 1; i >= 0; i--) {
      const { key, owner, comes } = changes[i] as Change;
      if (!comes) continue;
      const place = lowerBound(keys, key, 0, end);
      keys.copyWithin(to - (end - place), place, end);
      owners.copyWithin(to - (end - place), place, end);
      to -= end - place;
      end = place;
      keys[--to] = key;
      owners[to] = this.#places.get(owner) as number;
    }
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

/** The first index within [low, high) whose key is not smaller. */
function lowerBound(keys: Float64Array, key: number, low = 0, high = keys.length): number {
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((keys[middle] as number) >= key) high = middle;
    else low = middle + 1;
  }
  return low;
}
