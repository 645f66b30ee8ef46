// Owns: changing a Maglev table where some of its endpoints have come or gone, to the last place the table that maglev-build.ts would make. For endpoints of
// equal weight. Never looks at configurations; says `false` where it cannot do it, and the table is then made from nothing.
//
// A table is filled by picks: in each round each endpoint, in the order of keys, picks the first place on its way that is still free. A pick's time is its
// round and its endpoint's rank in that order. So a place belongs to the earliest of all picks that want it, and each pick has the first place on its way
// that no earlier one has: there is exactly one such table, and two steps keep it while picks come and go.
//
// - `#vacate`: a pick goes. Its place falls to the earliest of those picks that had passed over it, which leaves its own, which falls to ..., until nobody
//   has passed over the one that is left.
// - `#settle`: a pick comes. It takes the first place on its way that is free or has a later pick, which goes on along its way, and so on, until one finds
//   a free place.
//
// Example, 5 places, ways A: 0 1 2 3 4, B: 0 2 4 1 3, C: 1 4 2 0 3. Times: A1 B1 C1 A2 B2. A1 takes 0, B1 passes over it and takes 2, C1 takes 1, A2 passes
// over 1 and 2 and takes 3, B2 takes 4. Now A goes. A2: place 3 is left, nobody has passed over it. A1: place 0 is left, B1 has passed over it and takes it;
// 2 is left, B2 wants it before its 4 and takes it; 4 is left and free, as are 3 and 4 for those that come: with B and C alone C2 is the next pick, on its
// way behind 1, and takes 4; then B3, behind its 2: 4 is C2's and earlier, 1 is C1's, it takes 3. Anew: B1 0, C1 1, B2 2, C2 4, B3 3.
//
// Who has passed over a place tells maglev-passed.ts, but for the last picks (`#late` of them), which have passed over most of the table: each of these is
// asked, by reckoning backwards how far along its way the place lies. When they look for a place themselves, the few places that are left to them are asked
// in the same manner.

import { Passed } from "./maglev-passed.ts";
import { inverseModulo, timesModulo } from "./maglev-permutation.ts";

/** Picks of one endpoint: rounds are kept in bytes. */
const mostRounds = 255;
/** Numbers of endpoints are kept in two bytes. */
const mostEndpoints = 65_535;

/** Where an endpoint's way begins, and its step. */
export interface Way {
  readonly offset: number;
  readonly skip: number;
}

export class Picks {
  readonly #size: number;
  /** Number of the endpoint that has a place; -1 = free, while a change is under way. The table itself. */
  readonly #owners: Int32Array;
  /** In which of its rounds it was picked. */
  readonly #rounds: Uint8Array;
  /** Steps along the way to each pick: of endpoint `id` in round `r` at `id * #stride + r`. They grow with `r`. */
  readonly #steps: Int32Array;
  readonly #stride: number;
  /** Number of picks that each has. */
  readonly #counts: Uint8Array;
  /** 1: some pick of it has moved since its way was noted, up to the last of so many picks. */
  readonly #moved: Uint8Array;
  readonly #notedPicks: Uint8Array;
  readonly #offsets: Int32Array;
  readonly #skips: Int32Array;
  /** Of the skip; 0 = not reckoned yet. */
  readonly #inverses: Int32Array;
  /** By rank: number of the endpoint; and the other way round. */
  #order: Int32Array;
  readonly #ranks: Int32Array;
  readonly #free: number[] = [];
  readonly #passed: Passed;
  readonly #late: number;

  /** Can a table of this shape be changed at all? */
  static fits(size: number, count: number): boolean {
    return count > 0 && capacityFor(count) <= mostEndpoints && strideFor(size, count) <= mostRounds;
  }

  /** Bytes that this takes beside the table, at most. */
  static bytes(size: number, count: number): number {
    return Passed.bytes(size) + size + capacityFor(count) * (4 * strideFor(size, count) + 21);
  }

  /** `owners` are numbers into `ways`, in whose `order` they were asked; it is changed in place from now on. */
  constructor(owners: Int32Array, order: Int32Array, ways: readonly Way[]) {
    const size = owners.length;
    const count = ways.length;
    const capacity = capacityFor(count);
    const stride = strideFor(size, count);
    this.#size = size;
    this.#owners = owners;
    this.#order = order;
    this.#stride = stride;
    this.#late = lateFor(size);
    this.#rounds = new Uint8Array(size);
    this.#steps = new Int32Array(capacity * stride);
    this.#counts = new Uint8Array(capacity);
    this.#moved = new Uint8Array(capacity).fill(1);
    this.#notedPicks = new Uint8Array(capacity);
    this.#offsets = new Int32Array(capacity);
    this.#skips = new Int32Array(capacity);
    this.#inverses = new Int32Array(capacity);
    this.#ranks = new Int32Array(capacity);
    for (let id = 0; id < count; id++) {
      const way = ways[id] as Way;
      this.#offsets[id] = way.offset;
      this.#skips[id] = way.skip;
    }
    for (let rank = 0; rank < count; rank++) this.#ranks[order[rank] as number] = rank;
    this.#readTable();
    this.#passed = new Passed(size, this.#offsets, this.#skips);
    this.#notePassed();
  }

  /** With other picks and other ranks, others are among the last, and ways are longer or shorter. */
  #notePassed(): void {
    const order = this.#order;
    const early = this.#due(Math.max(0, this.#size - this.#late));
    for (let rank = 0; rank < order.length; rank++) {
      const id = order[rank] as number;
      const picks = upTo(early, rank);
      if (this.#moved[id] === 0 && this.#notedPicks[id] === picks) continue;
      this.#moved[id] = 0;
      this.#notedPicks[id] = picks;
      const way = this.#way(id, picks);
      this.#passed.reach(id, way);
      this.#passed.retreat(id, way);
    }
  }

  /** An endpoint's picks are its places in the order in which they come on its way. */
  #readTable(): void {
    const owners = this.#owners;
    const steps = this.#steps;
    for (let place = 0; place < this.#size; place++) {
      const id = owners[place] as number;
      const step = this.#stepTo(id, place);
      const first = id * this.#stride;
      let at = first + (this.#counts[id] as number);
      for (; at > first && (steps[at - 1] as number) > step; at--) steps[at] = steps[at - 1] as number;
      steps[at] = step;
      this.#counts[id] = (this.#counts[id] as number) + 1;
    }
    for (let id = 0; id < this.#order.length; id++)
      for (let round = 0; round < (this.#counts[id] as number); round++) this.#rounds[this.#placeOf(id, round)] = round;
  }

  /**
   * The endpoints of the numbers `gone` leave, `come` (number and way) join; `order`: all that are there then, by their keys. A number is below `capacity`
   * and not in use, or among `gone`. False: nothing was changed, as there is no room for so many.
   */
  change(gone: readonly number[], come: ReadonlyMap<number, Way>, order: Int32Array): boolean {
    const count = order.length;
    if (count === 0 || Math.ceil(this.#size / count) > this.#stride) return false;
    // The last first, so that none takes a place that is left a moment later.
    for (const id of gone) {
      while ((this.#counts[id] as number) > 0) this.#vacate(id);
      this.#passed.retreat(id, 0);
    }
    for (const [id, { offset, skip }] of come) {
      this.#offsets[id] = offset;
      this.#skips[id] = skip;
      this.#inverses[id] = 0;
    }
    this.#order = order;
    for (let rank = 0; rank < count; rank++) this.#ranks[order[rank] as number] = rank;
    const due = this.#due(this.#size);
    // Picks that are later than the last place: nobody can have passed over what they leave.
    for (let rank = 0; rank < count; rank++)
      while ((this.#counts[order[rank] as number] as number) > upTo(due, rank)) this.#drop(order[rank] as number);
    for (let rank = 0; rank < count; rank++)
      while ((this.#counts[order[rank] as number] as number) < upTo(due, rank)) this.#settle(order[rank] as number);
    this.#notePassed();
    return true;
  }

  /** Numbers are below this. */
  get capacity(): number {
    return this.#counts.length;
  }

  /** The first `picks` picks of all. */
  #due(picks: number): Due {
    const rounds = Math.floor(picks / this.#order.length);
    return { rounds, more: picks - rounds * this.#order.length };
  }

  /** Length of the way up to the last of an endpoint's first `picks` picks. */
  #way(id: number, picks: number): number {
    const made = this.#counts[id] as number;
    const last = (picks < made ? picks : made) - 1;
    return last < 0 ? 0 : (this.#steps[id * this.#stride + last] as number);
  }

  /** The place of a pick. */
  #placeOf(id: number, round: number): number {
    return this.#placeAt(id, this.#steps[id * this.#stride + round] as number);
  }

  #placeAt(id: number, step: number): number {
    const place = (this.#offsets[id] as number) + timesModulo(step, this.#skips[id] as number, this.#size);
    return place >= this.#size ? place - this.#size : place;
  }

  /** How far along its way an endpoint comes to a place. */
  #stepTo(id: number, place: number): number {
    let inverse = this.#inverses[id] as number;
    if (inverse === 0) {
      inverse = inverseModulo(this.#skips[id] as number, this.#size);
      this.#inverses[id] = inverse;
    }
    const distance = place - (this.#offsets[id] as number);
    return timesModulo(distance < 0 ? distance + this.#size : distance, inverse, this.#size);
  }

  /** The place of an endpoint's last pick becomes free. */
  #drop(id: number): number {
    const round = (this.#counts[id] as number) - 1;
    const place = this.#placeOf(id, round);
    this.#counts[id] = round;
    this.#moved[id] = 1;
    this.#owners[place] = -1;
    this.#free.push(place);
    return place;
  }

  /** An endpoint's last pick goes; see above. */
  #vacate(id: number): void {
    let time = ((this.#counts[id] as number) - 1) * this.#order.length + (this.#ranks[id] as number);
    let place = this.#drop(id);
    this.#free.pop();
    for (;;) {
      time = this.#heirOf(place, time);
      if (time < 0) break;
      const round = Math.floor(time / this.#order.length);
      const heir = this.#order[time - round * this.#order.length] as number;
      const left = this.#placeOf(heir, round);
      this.#put(heir, round, place, this.#stepTo(heir, place));
      place = left;
    }
    this.#owners[place] = -1;
    this.#free.push(place);
  }

  /** Time of the earliest pick that has passed over a place, which a pick of the time `since` had; -1 = none. */
  #heirOf(place: number, since: number): number {
    const count = this.#order.length;
    const late = this.#size - this.#late;
    const candidates = this.#passed.collect(place);
    const { found } = this.#passed;
    let best = late;
    for (let i = 0; i < candidates; i++) {
      const id = found[i] as number;
      const picks = this.#counts[id] as number;
      if (picks === 0) continue;
      const round = this.#firstBehind(id, picks, this.#stepTo(id, place));
      const time = round * count + (this.#ranks[id] as number);
      if (round < picks && time < best) best = time;
    }
    if (best < late) return best;
    return this.#lateHeirOf(place, Math.max(late, since + 1));
  }

  #lateHeirOf(place: number, from: number): number {
    const order = this.#order;
    const counts = this.#counts;
    const steps = this.#steps;
    const stride = this.#stride;
    let round = Math.floor(from / order.length);
    let rank = from - round * order.length;
    for (let time = from; time < this.#size; time++) {
      const id = order[rank] as number;
      if ((counts[id] as number) > round && (steps[id * stride + round] as number) > this.#stepTo(id, place)) return time;
      if (++rank < order.length) continue;
      rank = 0;
      round++;
    }
    return -1;
  }

  /** The first round whose pick lies behind a step. */
  #firstBehind(id: number, picks: number, step: number): number {
    const first = id * this.#stride;
    let low = 0;
    let high = picks;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#steps[first + middle] as number) > step) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** An endpoint picks once more; see above. */
  #settle(id: number): void {
    let picker = id;
    let round = this.#counts[id] as number;
    this.#counts[id] = round + 1;
    let step = round === 0 ? 0 : (this.#steps[id * this.#stride + round - 1] as number) + 1;
    for (;;) {
      const time = round * this.#order.length + (this.#ranks[picker] as number);
      step = time >= this.#size - this.#late ? this.#nearest(picker, time, step) : this.#walk(picker, time, step);
      const place = this.#placeAt(picker, step);
      const loser = this.#owners[place] as number;
      const lost = this.#rounds[place] as number;
      this.#put(picker, round, place, step);
      if (loser < 0) {
        this.#free.splice(this.#free.indexOf(place), 1);
        return;
      }
      picker = loser;
      round = lost;
      step = (this.#steps[picker * this.#stride + round] as number) + 1;
    }
  }

  #put(id: number, round: number, place: number, step: number): void {
    this.#owners[place] = id;
    this.#rounds[place] = round;
    this.#moved[id] = 1;
    this.#steps[id * this.#stride + round] = step;
  }

  /** The first step from `step` on whose place is free or has a pick later than `time`: place by place. */
  #walk(id: number, time: number, step: number): number {
    const owners = this.#owners;
    const rounds = this.#rounds;
    const ranks = this.#ranks;
    const size = this.#size;
    const count = this.#order.length;
    const skip = this.#skips[id] as number;
    let place = this.#placeAt(id, step);
    for (let at = step; at < size; at++) {
      const owner = owners[place] as number;
      if (owner < 0 || (rounds[place] as number) * count + (ranks[owner] as number) > time) return at;
      place += skip;
      if (place >= size) place -= size;
    }
    throw new Error("a Maglev table without a place for a pick");
  }

  /** The same, where few such places are left: each of them is asked. */
  #nearest(id: number, time: number, step: number): number {
    let best = this.#size;
    for (const place of this.#free) {
      const at = this.#stepTo(id, place);
      if (at >= step && at < best) best = at;
    }
    const order = this.#order;
    const counts = this.#counts;
    let round = Math.floor((time + 1) / order.length);
    let rank = time + 1 - round * order.length;
    for (let later = time + 1; later < this.#size; later++) {
      const other = order[rank] as number;
      if ((counts[other] as number) > round) {
        const at = this.#stepTo(id, this.#placeOf(other, round));
        if (at >= step && at < best) best = at;
      }
      if (++rank < order.length) continue;
      rank = 0;
      round++;
    }
    if (best === this.#size) throw new Error("a Maglev table without a place for a pick");
    return best;
  }
}

/** Whole rounds, and one pick more of the first `more` endpoints. */
interface Due {
  readonly rounds: number;
  readonly more: number;
}

/** How many of these picks are of the endpoint of this rank. */
function upTo({ rounds, more }: Due, rank: number): number {
  return rank < more ? rounds + 1 : rounds;
}

/** Endpoints that come before others have gone, and growth. */
function capacityFor(count: number): number {
  return count + Math.max(16, count >> 4);
}

/** Room for one pick more, when endpoints become fewer. */
function strideFor(size: number, count: number): number {
  return Math.ceil(size / count) + 1;
}

/** So many picks are asked one by one: with fewer, ways become long that have to be noted; with more, asking takes longer. */
function lateFor(size: number): number {
  return Math.ceil(2 * Math.sqrt(size));
}
