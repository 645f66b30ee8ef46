// Owns: writing header blocks (RFC 7541) straight from bytes. Fields that were seen before on this connection go into the dynamic table, so what differs
// in every message (ids, dates) does not push out what repeats. Strings are never Huffman coded: between sidecars and on a loopback the time to code and
// decode costs more than the fourth of the bytes it saves. Secrets are written as never indexed (section 7.1.3).

import { equals, latin1, lower } from "../http/bytes.ts";
import { DynamicTable, entryOverhead } from "./hpack-table.ts";
import { limits } from "./limits.ts";
import { staticTable } from "./static-table.ts";

const staticCount = 61;
const firstRegular = 15;
/** Slots of the index into the table, and of the memory of what was seen once. Powers of two. */
const indexSlots = 256;
const seenSlots = 64;

const secrets = {
  cookie: latin1("cookie"),
  setCookie: latin1("set-cookie"),
  authorization: latin1("authorization"),
  proxyAuthorization: latin1("proxy-authorization"),
};

/** Static names by a hash of their size and ends; chains are probed. Built with the first block. */
let staticSlots: Uint8Array | null = null;
let staticNames: readonly Uint8Array[] = [];
let staticValues: readonly Uint8Array[] = [];

function staticHash(size: number, first: number, last: number, middle: number): number {
  return (size * 5 + first * 3 + last * 7 + middle * 11) & 127;
}

function buildStatic(): Uint8Array {
  staticNames = staticTable.map(([name]) => latin1(name));
  staticValues = staticTable.map(([, value]) => latin1(value));
  const slots = new Uint8Array(128);
  for (let i = firstRegular; i <= staticCount; i++) {
    const name = staticNames[i - 1] as Uint8Array;
    const size = name.length;
    let slot = staticHash(size, name[0] as number, name[size - 1] as number, name[size >> 1] as number);
    while (slots[slot] !== 0) slot = (slot + 1) & 127;
    slots[slot] = i;
  }
  staticSlots = slots;
  return slots;
}

/** Indexes of the static table that are written by number. */
export const staticIndex = { authority: 1, methodGet: 2, methodPost: 3, pathRoot: 4, schemeHttp: 6, schemeHttps: 7, status200: 8 } as const;

export class HpackEncoder {
  readonly table = new DynamicTable(limits.headerTable);
  /** Where the block goes; set by whoever begins one. The room must be there: a field takes at most its line's size and four bytes. */
  out: Uint8Array = nothing;
  at = 0;
  #index: Int32Array | null = null;
  #seen: Int32Array | null = null;
  /** Table sizes still to be said at the start of the next block (4.2); -1 = none. */
  #lowest = -1;
  #final = -1;

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. We use at most our own bound of it. */
  resize(offered: number): void {
    const size = offered < limits.headerTable ? offered : limits.headerTable;
    if (size === this.table.limit && this.#final < 0) return;
    this.table.resize(size);
    if (this.#lowest < 0 || size < this.#lowest) this.#lowest = size;
    this.#final = size;
  }

  begin(out: Uint8Array, at: number): void {
    this.out = out;
    this.at = at;
    if (this.#final < 0) return;
    if (this.#lowest < this.#final) this.#integer(0x20, 5, this.#lowest);
    this.#integer(0x20, 5, this.#final);
    this.#lowest = -1;
    this.#final = -1;
  }

  /** 6.1, a static entry. */
  indexed(index: number): void {
    this.out[this.at++] = 0x80 | index;
  }

  /** A pseudo-header field whose name has this static index. */
  pseudo(index: number, bytes: Uint8Array, from: number, to: number): void {
    if (staticSlots === null) buildStatic();
    const name = staticNames[index - 1] as Uint8Array;
    this.#write(name, 0, name.length, bytes, from, to, index, false);
  }

  /** Any other field. The name is written in lower case. `never`: it came as one that must not be indexed (6.2.3). */
  field(bytes: Uint8Array, nameFrom: number, nameTo: number, valueFrom: number, valueTo: number, never: boolean): void {
    this.#write(bytes, nameFrom, nameTo, bytes, valueFrom, valueTo, 0, never);
  }

  #write(
    nameBytes: Uint8Array,
    nameFrom: number,
    nameTo: number,
    bytes: Uint8Array,
    from: number,
    to: number,
    known: number,
    never: boolean,
  ): void {
    const nameSize = nameTo - nameFrom;
    const valueSize = to - from;
    const first = lower[nameBytes[nameFrom] as number] as number;
    const last = lower[nameBytes[nameTo - 1] as number] as number;
    const middle = lower[nameBytes[nameFrom + (nameSize >> 1)] as number] as number;
    // A few bytes tell most fields apart; a hit is compared in full.
    let hash = (nameSize * 31 + first) * 31 + middle * 7 + last;
    hash = hash * 31 + valueSize;
    if (valueSize > 0) {
      hash = (hash * 31 + (bytes[from] as number)) | 0;
      hash = (hash * 31 + (bytes[from + (valueSize >> 2)] as number)) | 0;
      hash = (hash * 31 + (bytes[from + (valueSize >> 1)] as number)) | 0;
      hash = (hash * 31 + (bytes[to - 1 - (valueSize >> 2)] as number)) | 0;
      hash = (hash * 31 + (bytes[to - 1] as number)) | 0;
    }
    hash = (hash ^ (hash >>> 15) ^ (hash >>> 7)) | 0;
    const table = this.table;
    if (table.count > 0) {
      const n = ((this.#index as Int32Array)[hash & (indexSlots - 1)] as number) - 1;
      if (n >= table.inserted - table.count && this.#same(n, nameBytes, nameFrom, nameSize, bytes, from, valueSize)) {
        this.#integer(0x80, 7, staticCount + table.inserted - n);
        return;
      }
    }
    let name = known;
    if (name === 0) {
      name = staticName(nameBytes, nameFrom, nameTo, first, middle, last);
      if (name !== 0) {
        const value = staticValues[name - 1] as Uint8Array;
        if (value.length > 0 && equals(bytes, from, to, value)) {
          this.indexed(name);
          return;
        }
      }
      if (!never) never = isSecret(nameBytes, nameFrom, nameTo, first);
    }
    let pattern = 0x00;
    let prefix = 4;
    if (never) pattern = 0x10;
    else if (nameSize + valueSize + entryOverhead <= table.limit >> 1 && this.#seenBefore(hash)) {
      pattern = 0x40;
      prefix = 6;
    }
    this.#integer(pattern, prefix, name);
    const out = this.out;
    if (name === 0) {
      this.#integer(0x00, 7, nameSize);
      let at = this.at;
      for (let i = nameFrom; i < nameTo; i++) out[at++] = lower[nameBytes[i] as number] as number;
      this.at = at;
    }
    this.#integer(0x00, 7, valueSize);
    let at = this.at;
    for (let i = from; i < to; i++) out[at++] = bytes[i] as number;
    this.at = at;
    if (pattern === 0x40) this.#insert(hash, nameBytes, nameFrom, nameTo, bytes, from, to);
  }

  #insert(hash: number, nameBytes: Uint8Array, nameFrom: number, nameTo: number, bytes: Uint8Array, from: number, to: number): void {
    let size = 0;
    for (let i = nameFrom; i < nameTo; i++) entry[size++] = lower[nameBytes[i] as number] as number;
    for (let i = from; i < to; i++) entry[size++] = bytes[i] as number;
    if (!this.table.insert(entry, 0, size, nameTo - nameFrom, to - from, 0)) return;
    this.#index ??= new Int32Array(indexSlots);
    this.#index[hash & (indexSlots - 1)] = this.table.inserted;
  }

  /** Remembers a field that comes for the first time. */
  #seenBefore(hash: number): boolean {
    this.#seen ??= new Int32Array(seenSlots);
    const slot = (hash >>> 8) & (seenSlots - 1);
    if (this.#seen[slot] === hash) return true;
    this.#seen[slot] = hash;
    return false;
  }

  #same(n: number, nameBytes: Uint8Array, nameFrom: number, nameSize: number, bytes: Uint8Array, from: number, valueSize: number): boolean {
    const table = this.table;
    if (table.nameSize(n) !== nameSize || table.valueSize(n) !== valueSize) return false;
    const own = table.bytes;
    let at = table.from(n);
    for (let i = 0; i < nameSize; i++) if (own[at++] !== lower[nameBytes[nameFrom + i] as number]) return false;
    for (let i = 0; i < valueSize; i++) if (own[at++] !== bytes[from + i]) return false;
    return true;
  }

  /** 5.1 */
  #integer(pattern: number, prefix: number, value: number): void {
    const out = this.out;
    const mask = (1 << prefix) - 1;
    if (value < mask) {
      out[this.at++] = pattern | value;
      return;
    }
    out[this.at++] = pattern | mask;
    let rest = value - mask;
    while (rest > 0x7f) {
      out[this.at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    out[this.at++] = rest;
  }
}

function staticName(bytes: Uint8Array, from: number, to: number, first: number, middle: number, last: number): number {
  const slots = staticSlots ?? buildStatic();
  const size = to - from;
  let slot = staticHash(size, first, last, middle);
  for (let index = slots[slot] as number; index !== 0; index = slots[slot] as number) {
    const name = staticNames[index - 1] as Uint8Array;
    if (name.length === size) {
      let i = 0;
      while (i < size && name[i] === lower[bytes[from + i] as number]) i++;
      if (i === size) return index;
    }
    slot = (slot + 1) & 127;
  }
  return 0;
}

function isSecret(bytes: Uint8Array, from: number, to: number, first: number): boolean {
  switch (to - from) {
    case 6:
      return first === 99 && equalsLower(bytes, from, secrets.cookie);
    case 10:
      return first === 115 && equalsLower(bytes, from, secrets.setCookie);
    case 13:
      return first === 97 && equalsLower(bytes, from, secrets.authorization);
    case 19:
      return first === 112 && equalsLower(bytes, from, secrets.proxyAuthorization);
    default:
      return false;
  }
}

function equalsLower(bytes: Uint8Array, from: number, word: Uint8Array): boolean {
  for (let i = 0; i < word.length; i++) if (lower[bytes[from + i] as number] !== word[i]) return false;
  return true;
}

const nothing = new Uint8Array(0);
/** An entry being made; an entry is at most half the table. */
const entry = new Uint8Array(limits.headerTable);
