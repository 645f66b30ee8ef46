// Owns: Maglev's table (Eisenbud et al., NSDI 2016), weighted and seeded as Envoy's: the same endpoints give the same table in any order and in Envoy. It
// depends on the set of endpoints alone, never on its history, so that all proxies agree. Decides how it is made: from nothing (maglev-build.ts), or, where
// few of many endpoints of equal weight have come or gone, by changing the last one (maglev-picks.ts).

import type { Endpoint } from "./endpoint.ts";
import { buildTable } from "./maglev-build.ts";
import { permutationOf } from "./maglev-permutation.ts";
import { Picks, type Way } from "./maglev-picks.ts";

/** Where changing a table is worth it. Tests alone have others than `usual`. */
export interface Worth {
  /** Memory for what changes need, in bytes for each endpoint. */
  readonly bytesEach: number;
  /** Picks that come and go at once, as a share of the table: beyond it, a new table is quicker. */
  readonly share: number;
}

const usual: Worth = { bytesEach: 1_024, share: 1 / 256 };

export class Maglev {
  readonly #worth: Worth;
  #owners = new Int32Array(0);
  /** By the numbers in `#owners`. */
  #members: (Endpoint | undefined)[] = [];
  /** Numbers by key. */
  #order = new Int32Array(0);
  /** Who was in it at last, in this order. */
  #last: readonly Endpoint[] = [];
  /** All were of one weight, and no two of one address: such a table can be changed. */
  #even = false;
  #weight = 0;
  /** What changes need: made with the first of them. */
  #picks: Picks | null = null;

  constructor(worth: Worth = usual) {
    this.#worth = worth;
  }

  /** Number of places; 0 before the first update. */
  get size(): number {
    return this.#owners.length;
  }

  /** Whose place it is. `place` is below `size`. */
  ownerAt(place: number): Endpoint {
    return this.#members[this.#owners[place] as number] as Endpoint;
  }

  /**
   * `members` must not be empty; `size` is a prime. Only those of [from, to) may have another weight than at the last update, or not have been there. Says
   * whether the last table was changed, rather than made from nothing.
   */
  update(
    members: readonly Endpoint[],
    weights: (endpoint: Endpoint) => number,
    size: number,
    from = 0,
    to: number = members.length,
  ): boolean {
    let even = this.#even && size === this.size;
    for (let i = from; even && i < to; i++) even = weights(members[i] as Endpoint) === this.#weight;
    const changed = even && this.#change(members);
    if (!changed) this.#build(members, Float64Array.from(members, weights), size);
    this.#last = members;
    return changed;
  }

  #build(members: readonly Endpoint[], weights: Float64Array, size: number): void {
    const { owners, order } = buildTable(members, weights, size);
    this.#owners = owners;
    this.#order = order;
    this.#members = members.slice();
    this.#picks = null;
    this.#weight = weights[0] as number;
    this.#even = weights.every((weight) => weight === this.#weight);
    for (let rank = 1; rank < order.length && this.#even; rank++)
      this.#even = this.#keyOf(order[rank - 1] as number) !== this.#keyOf(order[rank] as number);
  }

  /** Only who stands between the same beginning and the same end as before is looked at. */
  #change(members: readonly Endpoint[]): boolean {
    const last = this.#last;
    const { size } = this;
    let from = 0;
    let tail = 0;
    const most = Math.min(last.length, members.length);
    while (from < most && last[from] === members[from]) from++;
    while (tail < most - from && last[last.length - 1 - tail] === members[members.length - 1 - tail]) tail++;
    const old = new Set(last.slice(from, last.length - tail));
    const came: Endpoint[] = [];
    for (let i = from; i < members.length - tail; i++) if (!old.delete(members[i] as Endpoint)) came.push(members[i] as Endpoint);
    if (came.length === 0 && old.size === 0) return true;
    if ((came.length + old.size) * Math.ceil(size / members.length) > size * this.#worth.share) return false;
    const picks = this.#picksOf(last.length);
    return picks !== null && this.#replace(picks, old, came);
  }

  #picksOf(count: number): Picks | null {
    if (this.#picks !== null) return this.#picks;
    if (!Picks.fits(this.size, count) || Picks.bytes(this.size, count) > count * this.#worth.bytesEach) return null;
    // Nothing has changed since this table was made: numbers are places in `members`, without a gap.
    const ways = this.#members.map((member) => permutationOf(member as Endpoint, this.size));
    this.#picks = new Picks(this.#owners, this.#order, ways);
    return this.#picks;
  }

  /** False: not possible, and all has to be made from nothing. */
  #replace(picks: Picks, old: ReadonlySet<Endpoint>, came: readonly Endpoint[]): boolean {
    const members = this.#members;
    let order = this.#order;
    const gone: number[] = [];
    for (const endpoint of old) {
      const rank = this.#rankOf(permutationOf(endpoint, this.size).key, order);
      gone.push(order[rank] as number);
      order = spliced(order, rank, 1, null);
    }
    const unused = gone.slice();
    for (const id of gone) members[id] = undefined;
    for (let id = 0; id < picks.capacity && unused.length < came.length; id++)
      if (members[id] === undefined && !gone.includes(id)) unused.push(id);
    if (unused.length < came.length) return false;
    const ways = new Map<number, Way>();
    for (const endpoint of came) {
      const id = unused.shift() as number;
      const way = permutationOf(endpoint, this.size);
      members[id] = endpoint;
      ways.set(id, way);
      const rank = this.#rankOf(way.key, order);
      if (rank < order.length && this.#keyOf(order[rank] as number) === way.key) return false;
      order = spliced(order, rank, 0, id);
    }
    this.#order = order;
    return picks.change(gone, ways, order);
  }

  #keyOf(id: number): string {
    return permutationOf(this.#members[id] as Endpoint, this.size).key;
  }

  /** How many keys are smaller. */
  #rankOf(key: string, order: Int32Array): number {
    let low = 0;
    let high = order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#keyOf(order[middle] as number) >= key) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** `list` without `less` numbers at `at`, or with one more. */
function spliced(list: Int32Array, at: number, less: number, more: number | null): Int32Array<ArrayBuffer> {
  const made = new Int32Array(list.length - less + (more === null ? 0 : 1));
  made.set(list.subarray(0, at));
  if (more !== null) made[at] = more;
  made.set(list.subarray(at + less), at + (more === null ? 0 : 1));
  return made;
}

/** Envoy: the size must be a prime of at most 5 000 011. */
export const largestTable = 5_000_011;

export function isPrime(number: number): boolean {
  if (number < 2 || (number % 2 === 0 && number !== 2)) return false;
  for (let i = 3; i * i <= number; i += 2) if (number % i === 0) return false;
  return true;
}
