// Owns: header compression (RFC 7541): a full decoder with its dynamic table, and an encoder that uses the static table and literals only, so that it
// needs no state and no secret ever sits in a table. Never judges header semantics.

import { compressionError, enhanceYourCalm, refuse } from "./errors.ts";
import { huffmanDecode } from "./huffman.ts";
import { staticTable } from "./static-table.ts";

/** RFC 7541 section 4.1: what an entry costs beyond its bytes. */
const entryOverhead = 32;
/** Our SETTINGS_HEADER_TABLE_SIZE: the default. */
export const decoderTableSize = 4096;
/** Our SETTINGS_MAX_HEADER_LIST_SIZE; more is refused. */
export const maxHeaderListBytes = 65_536;

/** Takes one decoded header field; both parts as latin1. */
export type HeaderSink = (name: string, value: string) => void;

/** Where Huffman strings are decoded to; shared, as decoding never yields. */
const scratch = new Uint8Array(maxHeaderListBytes);

export class HpackDecoder {
  /** Newest first. */
  readonly #names: string[] = [];
  readonly #values: string[] = [];
  #size = 0;
  #limit = decoderTableSize;
  /** Results of #integer and #string, beside the position they return. */
  #number = 0;
  #text = "";
  #listBytes = 0;

  /** Decodes one whole header block. Answers `end - at`, or a refusal; after a refusal the connection is lost (RFC 9113 section 4.3). */
  decode(buf: Uint8Array, from: number, end: number, sink: HeaderSink): number {
    let at = from;
    let fields = 0;
    this.#listBytes = 0;
    while (at < end) {
      const first = buf[at] as number;
      if (first >= 0x80) {
        // 6.1 indexed
        at = this.#integer(buf, at, end, 7);
        if (at < 0) return at;
        if (this.#number === 0 || this.#number > staticTable.length + this.#names.length) return refuse(compressionError);
        fields++;
        if (!this.#emit(sink, this.#nameAt(this.#number), this.#valueAt(this.#number))) return refuse(enhanceYourCalm);
        continue;
      }
      if (first >= 0x20 && first < 0x40) {
        // 6.3 table size update: only at the start of a block (4.2), and never above what we offered.
        at = this.#integer(buf, at, end, 5);
        if (at < 0) return at;
        if (fields > 0 || this.#number > decoderTableSize) return refuse(compressionError);
        this.#limit = this.#number;
        this.#evict(0);
        continue;
      }
      const indexing = first >= 0x40;
      // 6.2.1 with indexing (6-bit index); 6.2.2 and 6.2.3 without (4-bit index)
      at = this.#integer(buf, at, end, indexing ? 6 : 4);
      if (at < 0) return at;
      let name: string;
      if (this.#number === 0) {
        at = this.#string(buf, at, end);
        if (at < 0) return at;
        name = this.#text;
      } else {
        if (this.#number > staticTable.length + this.#names.length) return refuse(compressionError);
        name = this.#nameAt(this.#number);
      }
      at = this.#string(buf, at, end);
      if (at < 0) return at;
      const value = this.#text;
      fields++;
      if (indexing) this.#insert(name, value);
      if (!this.#emit(sink, name, value)) return refuse(enhanceYourCalm);
    }
    return end - from;
  }

  /** Bytes in the dynamic table, as RFC 7541 section 4.1 counts them. */
  get tableSize(): number {
    return this.#size;
  }

  #emit(sink: HeaderSink, name: string, value: string): boolean {
    this.#listBytes += name.length + value.length + entryOverhead;
    if (this.#listBytes > maxHeaderListBytes) return false;
    sink(name, value);
    return true;
  }

  #nameAt(index: number): string {
    return index <= staticTable.length
      ? (staticTable[index - 1] as readonly [string, string])[0]
      : (this.#names[index - staticTable.length - 1] as string);
  }

  #valueAt(index: number): string {
    return index <= staticTable.length
      ? (staticTable[index - 1] as readonly [string, string])[1]
      : (this.#values[index - staticTable.length - 1] as string);
  }

  #insert(name: string, value: string): void {
    const cost = name.length + value.length + entryOverhead;
    this.#evict(cost);
    // 4.4: an entry larger than the table empties it and is not added.
    if (cost > this.#limit) return;
    this.#names.unshift(name);
    this.#values.unshift(value);
    this.#size += cost;
  }

  #evict(room: number): void {
    while (this.#size + room > this.#limit && this.#names.length > 0) {
      this.#size -= (this.#names.pop() as string).length + (this.#values.pop() as string).length + entryOverhead;
    }
  }

  /** 5.1. The block is whole, so running out of bytes is an error. */
  #integer(buf: Uint8Array, from: number, end: number, prefix: number): number {
    const mask = (1 << prefix) - 1;
    let at = from;
    let value = (buf[at++] as number) & mask;
    if (value === mask) {
      let shift = 0;
      for (;;) {
        // Four continuation bytes reach 2^28: beyond every limit we have.
        if (at >= end || shift > 21) return refuse(compressionError);
        const byte = buf[at++] as number;
        value += (byte & 0x7f) << shift;
        if (byte < 0x80) break;
        shift += 7;
      }
    }
    this.#number = value;
    return at;
  }

  /** 5.2 */
  #string(buf: Uint8Array, from: number, end: number): number {
    if (from >= end) return refuse(compressionError);
    const coded = (buf[from] as number) >= 0x80;
    const at = this.#integer(buf, from, end, 7);
    if (at < 0) return at;
    const stop = at + this.#number;
    if (stop > end) return refuse(compressionError);
    if (!coded) {
      this.#text = latin1(buf, at, stop);
      return stop;
    }
    const written = huffmanDecode(buf, at, stop, scratch, 0);
    if (written < 0) return written;
    this.#text = latin1(scratch, 0, written);
    return stop;
  }
}

function latin1(buf: Uint8Array, from: number, end: number): string {
  return Buffer.from(buf.buffer, buf.byteOffset + from, end - from).toString("latin1");
}

/** One field to send. `sensitive` marks it never to be indexed by anybody (RFC 7541 section 7.1.3). */
export interface HeaderField {
  readonly name: string;
  readonly value: string;
  readonly sensitive?: boolean;
}

/** Encodes a header block. Names must be lower case; names and values latin1. */
export function hpackEncode(fields: readonly HeaderField[]): Uint8Array {
  const out: number[] = [];
  for (const field of fields) {
    let nameIndex = 0;
    let whole = 0;
    for (let n = 0; n < staticTable.length && whole === 0; n++) {
      const [name, value] = staticTable[n] as readonly [string, string];
      if (name !== field.name) continue;
      if (nameIndex === 0) nameIndex = n + 1;
      if (value === field.value && !field.sensitive) whole = n + 1;
    }
    if (whole !== 0) {
      pushInteger(out, 0x80, 7, whole);
      continue;
    }
    pushInteger(out, field.sensitive ? 0x10 : 0x00, 4, nameIndex);
    if (nameIndex === 0) pushString(out, field.name);
    pushString(out, field.value);
  }
  return Uint8Array.from(out);
}

function pushInteger(out: number[], pattern: number, prefix: number, value: number): void {
  const mask = (1 << prefix) - 1;
  if (value < mask) {
    out.push(pattern | value);
    return;
  }
  out.push(pattern | mask);
  let rest = value - mask;
  while (rest > 0x7f) {
    out.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  out.push(rest);
}

function pushString(out: number[], text: string): void {
  pushInteger(out, 0x00, 7, text.length);
  for (let n = 0; n < text.length; n++) out.push(text.charCodeAt(n) & 0xff);
}
