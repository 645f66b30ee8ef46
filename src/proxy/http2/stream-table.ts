// Owns: which streams of a session are open, by their number. A table of its own because every request passes it four times: numbers go up by two, so the
// number itself is the hash, and nothing is allocated once the table has its size. Never knows what a stream is.

/** Places of a table's first use; always a power of two. */
const firstPlaces = 16;

export class StreamTable<T> {
  /** Open addressing: a number's place, or one of those after it. 0: free, as no stream has that number. */
  #ids = new Int32Array(0);
  #items: (T | null)[] = [];
  #mask = -1;
  /** Entries now. */
  size = 0;

  get(id: number): T | null {
    if (this.size === 0) return null;
    const ids = this.#ids;
    const mask = this.#mask;
    let at = (id >>> 1) & mask;
    for (let there = ids[at] as number; there !== 0; there = ids[at] as number) {
      if (there === id) return this.#items[at] as T;
      at = (at + 1) & mask;
    }
    return null;
  }

  /** `id` is not in it. */
  add(id: number, item: T): void {
    // At most half full: a search ends soon, also where a peer picks numbers that fall together.
    if (this.size * 2 >= this.#mask) this.#grow();
    this.#put(id, item);
    this.size++;
  }

  #put(id: number, item: T): void {
    const ids = this.#ids;
    const mask = this.#mask;
    let at = (id >>> 1) & mask;
    while (ids[at] !== 0) at = (at + 1) & mask;
    ids[at] = id;
    this.#items[at] = item;
  }

  /** False: it was not in it. */
  delete(id: number): boolean {
    if (this.size === 0) return false;
    const ids = this.#ids;
    const items = this.#items;
    const mask = this.#mask;
    let at = (id >>> 1) & mask;
    while (ids[at] !== id) {
      if (ids[at] === 0) return false;
      at = (at + 1) & mask;
    }
    // Those behind it that a search would not reach over the gap move up.
    for (let next = (at + 1) & mask; ids[next] !== 0; next = (next + 1) & mask) {
      const home = ((ids[next] as number) >>> 1) & mask;
      if (((next - home) & mask) < ((next - at) & mask)) continue;
      ids[at] = ids[next] as number;
      items[at] = items[next] as T;
      at = next;
    }
    ids[at] = 0;
    items[at] = null;
    this.size--;
    return true;
  }

  /** A copy, in no order: entries may come and go while it is read. */
  list(): T[] {
    return this.size === 0 ? [] : this.#items.filter((item) => item !== null);
  }

  #grow(): void {
    const ids = this.#ids;
    const items = this.#items;
    const places = ids.length === 0 ? firstPlaces : ids.length * 2;
    this.#ids = new Int32Array(places);
    this.#items = new Array<T | null>(places).fill(null);
    this.#mask = places - 1;
    for (let at = 0; at < ids.length; at++) if (ids[at] !== 0) this.#put(ids[at] as number, items[at] as T);
  }
}
