// Owns: for each place of a Maglev table, which endpoints have come to it on their ways, as far as these are noted here. Never decides who gets a place.

/** Two bytes each: how many are noted, then their numbers. The n-th pick of a table of `size` places comes to size / (size - n) of them: 5 or 6 at a place. */
const width = 12;
const room = width - 1;

export class Passed {
  readonly #size: number;
  /** Of each endpoint, by number: where its way begins, and its step. */
  readonly #offsets: Int32Array;
  readonly #skips: Int32Array;
  /** How many steps of its way are noted. */
  readonly #noted: Int32Array;
  /** `width` of them for each place. */
  readonly #notes: Uint16Array;
  /** By place, those for whom there was no room: at one of a hundred places. */
  readonly #others = new Map<number, number[]>();
  /** Filled by `collect`. */
  found = new Uint16Array(64);

  /** Bytes that it takes, about. */
  static bytes(size: number): number {
    return size * (2 * width + 1);
  }

  /** `offsets` and `skips` of an endpoint may change while nothing of its way is noted. */
  constructor(size: number, offsets: Int32Array, skips: Int32Array) {
    this.#size = size;
    this.#offsets = offsets;
    this.#skips = skips;
    this.#noted = new Int32Array(offsets.length);
    this.#notes = new Uint16Array(size * width);
  }

  /** Notes the first `way` steps of an endpoint, if that is more than is noted. */
  reach(id: number, way: number): void {
    const noted = this.#noted[id] as number;
    if (way <= noted) return;
    this.#noted[id] = way;
    const notes = this.#notes;
    const size = this.#size;
    const skip = this.#skips[id] as number;
    let place = this.#placeAt(id, noted);
    for (let left = way - noted; left > 0; left--) {
      const at = place * width;
      const count = notes[at] as number;
      if (count < room) {
        notes[at + count + 1] = id;
        notes[at] = count + 1;
      } else this.#squeeze(place, id);
      place += skip;
      if (place >= size) place -= size;
    }
  }

  /** Forgets all but the first `way` steps of an endpoint. */
  retreat(id: number, way: number): void {
    const noted = this.#noted[id] as number;
    if (way >= noted) return;
    this.#noted[id] = way;
    const notes = this.#notes;
    const size = this.#size;
    const skip = this.#skips[id] as number;
    let place = this.#placeAt(id, way);
    for (let left = noted - way; left > 0; left--) {
      const first = place * width;
      const last = first + (notes[first] as number);
      let at = last;
      while (at > first && notes[at] !== id) at--;
      if (at > first) {
        notes[at] = notes[last] as number;
        notes[first] = last - first - 1;
      } else this.#release(place, id);
      place += skip;
      if (place >= size) place -= size;
    }
  }

  #placeAt(id: number, step: number): number {
    return ((this.#offsets[id] as number) + step * (this.#skips[id] as number)) % this.#size;
  }

  #squeeze(place: number, id: number): void {
    const others = this.#others.get(place);
    if (others === undefined) this.#others.set(place, [id]);
    else others.push(id);
  }

  #release(place: number, id: number): void {
    const others = this.#others.get(place) as number[];
    others.splice(others.indexOf(id), 1);
    if (others.length === 0) this.#others.delete(place);
  }

  /** Puts who has come to the place into `found`; returns their number. */
  collect(place: number): number {
    const first = place * width;
    const count = this.#notes[first] as number;
    const others = this.#others.get(place);
    const all = others === undefined ? count : count + others.length;
    if (all > this.found.length) this.found = new Uint16Array(all * 2);
    for (let i = 0; i < count; i++) this.found[i] = this.#notes[first + 1 + i] as number;
    for (let i = count; i < all; i++) this.found[i] = others?.[i - count] as number;
    return all;
  }
}
