// Owns: a dynamic table of RFC 7541 section 2.3.2 as bytes: entries in the order of their insertion, evicted from the oldest. Used by both coders, which
// decide what the bytes of an entry are. Holds nothing until the first insertion, so that idle connections cost nothing.

/** RFC 7541 section 4.1: what an entry costs beyond its name and value. */
export const entryOverhead = 32;
const stride = 4;

export class DynamicTable {
  /** Entries' bytes; entry `n` (counted from the first insertion ever) is at `from(n)`. */
  bytes: Uint8Array = nothing;
  #slots: Int32Array = noSlots;
  #mask = -1;
  /** Insertions ever. The newest entry is `inserted - 1`. */
  inserted = 0;
  /** Entries now. */
  count = 0;
  /** As section 4.1 counts. */
  size = 0;
  #limit: number;
  #end = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get limit(): number {
    return this.#limit;
  }

  /** Section 4.3. */
  resize(limit: number): void {
    this.#limit = limit;
    this.#evict(0);
  }

  from(n: number): number {
    return this.#slots[(n & this.#mask) * stride] as number;
  }

  nameSize(n: number): number {
    return this.#slots[(n & this.#mask) * stride + 1] as number;
  }

  valueSize(n: number): number {
    return this.#slots[(n & this.#mask) * stride + 2] as number;
  }

  /** The coder's own word about an entry. */
  mark(n: number): number {
    return this.#slots[(n & this.#mask) * stride + 3] as number;
  }

  /**
   * Section 4.4: adds bytes[from, to) as an entry whose name and value have these sizes; what is too large empties the table and is not added.
   * The bytes may hold separators, as long as those are fewer than `entryOverhead`. True: it was added.
   */
  insert(bytes: Uint8Array, from: number, to: number, nameSize: number, valueSize: number, mark: number): boolean {
    const cost = nameSize + valueSize + entryOverhead;
    this.#evict(cost);
    if (cost > this.#limit) return false;
    if (this.count === this.#mask + 1) this.#growSlots();
    const at = this.#place(to - from);
    const own = this.bytes;
    for (let i = from, o = at; i < to; i++) own[o++] = bytes[i] as number;
    const slot = (this.inserted & this.#mask) * stride;
    this.#slots[slot] = at;
    this.#slots[slot + 1] = nameSize;
    this.#slots[slot + 2] = valueSize;
    this.#slots[slot + 3] = mark;
    this.inserted++;
    this.count++;
    this.size += cost;
    this.#end = at + to - from;
    return true;
  }

  #evict(room: number): void {
    while (this.count > 0 && this.size + room > this.#limit) {
      const oldest = this.inserted - this.count;
      this.size -= this.nameSize(oldest) + this.valueSize(oldest) + entryOverhead;
      this.count--;
    }
    if (this.count === 0) {
      this.size = 0;
      this.#end = 0;
    }
  }

  /** Room for `size` bytes after the newest entry: by moving the living to the front, or by growing to at most twice the limit. */
  #place(size: number): number {
    const own = this.bytes;
    if (this.#end + size <= own.length) return this.#end;
    const live = this.count === 0 ? this.#end : this.from(this.inserted - this.count);
    const used = this.#end - live;
    let target = own;
    if ((used + size) * 2 > own.length) {
      let capacity = own.length === 0 ? 512 : own.length;
      while (capacity < (used + size) * 2) capacity *= 2;
      target = new Uint8Array(capacity);
      target.set(own.subarray(live, this.#end));
      this.bytes = target;
    } else own.copyWithin(0, live, this.#end);
    for (let n = this.inserted - this.count; n < this.inserted; n++) {
      const slot = (n & this.#mask) * stride;
      this.#slots[slot] = (this.#slots[slot] as number) - live;
    }
    this.#end = used;
    return used;
  }

  #growSlots(): void {
    const before = this.#slots;
    const oldMask = this.#mask;
    const capacity = oldMask < 0 ? 16 : (oldMask + 1) * 2;
    const next = new Int32Array(capacity * stride);
    const mask = capacity - 1;
    for (let n = this.inserted - this.count; n < this.inserted; n++)
      for (let i = 0; i < stride; i++) next[(n & mask) * stride + i] = before[(n & oldMask) * stride + i] as number;
    this.#slots = next;
    this.#mask = mask;
  }
}

const nothing = new Uint8Array(0);
const noSlots = new Int32Array(0);
