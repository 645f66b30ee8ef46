// Owns: reading header blocks (RFC 7541) into text: each field comes out as the line `name: value CRLF`, ready for an HTTP/1.1 head, so that a field that
// is in a table is one copy. A literal that must never be indexed (6.2.3) comes out as `name:value CRLF`: the missing space, which means nothing to
// HTTP/1.1, tells the encoder of the next hop to keep it so. Never judges a message: `head-reader.ts` does.

import { compressionError, refuse } from "./errors.ts";
import { classOfName, fieldClass, valueFits } from "./field-class.ts";
import { DynamicTable } from "./hpack-table.ts";
import { huffmanDecode } from "./huffman.ts";
import { staticTable } from "./static-table.ts";

const staticCount = 61;

/** The static table as lines; built with the first block. */
interface StaticLines {
  readonly bytes: Uint8Array;
  readonly from: Int32Array;
  readonly nameSize: Int32Array;
  readonly valueSize: Int32Array;
  readonly kind: Uint8Array;
}
let staticLines: StaticLines | null = null;

function buildStatic(): StaticLines {
  const from = new Int32Array(staticCount + 1);
  const nameSize = new Int32Array(staticCount + 1);
  const valueSize = new Int32Array(staticCount + 1);
  const kind = new Uint8Array(staticCount + 1);
  const bytes = Buffer.from(staticTable.map(([name, value]) => `${name}: ${value}\r\n`).join(""), "latin1");
  let at = 0;
  staticTable.forEach(([name, value], i) => {
    from[i + 1] = at;
    nameSize[i + 1] = name.length;
    valueSize[i + 1] = value.length;
    const found = classOfName(bytes, at, at + name.length);
    // `te` is not in the table; a value there is always good.
    kind[i + 1] = found;
    at += name.length + value.length + 4;
  });
  staticLines = { bytes, from, nameSize, valueSize, kind };
  return staticLines;
}

export class HpackDecoder {
  readonly table: DynamicTable;
  /** What we offered; a size update may not exceed it. */
  readonly #offered: number;
  /** Of the last field: the line is at `out[from, from + written)`, its value begins at `valueFrom`. `written` 0: it was a size update. */
  written = 0;
  nameSize = 0;
  valueFrom = 0;
  valueSize = 0;
  kind = 0;
  #number = 0;

  constructor(tableSize: number) {
    this.#offered = tableSize;
    this.table = new DynamicTable(tableSize);
  }

  /**
   * Decodes one representation of the block [at, end) and writes its line to `out` at `to`, where the rest of the block fits whatever it is. Answers the
   * position after it, or a refusal (compressionError): the connection is lost then (RFC 9113 section 4.3). `first`: no field came before in this block.
   */
  next(buf: Uint8Array, at: number, end: number, out: Uint8Array, to: number, first: boolean): number {
    const byte = buf[at] as number;
    if (byte >= 0x80) return this.#indexed(buf, at, end, out, to);
    if (byte < 0x40 && byte >= 0x20) {
      // 6.3: only at the start of a block (4.2), and never above what we offered.
      const after = this.#integer(buf, at, end, 5);
      if (after < 0) return after;
      if (!first || this.#number > this.#offered) return refuse(compressionError);
      this.table.resize(this.#number);
      this.written = 0;
      return after;
    }
    return this.#literal(buf, at, end, out, to, byte);
  }

  /** 6.1 */
  #indexed(buf: Uint8Array, from: number, end: number, out: Uint8Array, to: number): number {
    const at = this.#integer(buf, from, end, 7);
    if (at < 0) return at;
    const index = this.#number;
    let source: Uint8Array;
    let start: number;
    if (index > staticCount) {
      const table = this.table;
      const age = index - staticCount;
      if (age > table.count) return refuse(compressionError);
      const n = table.inserted - age;
      source = table.bytes;
      start = table.from(n);
      this.nameSize = table.nameSize(n);
      this.valueSize = table.valueSize(n);
      this.kind = table.mark(n);
    } else {
      if (index === 0) return refuse(compressionError);
      const lines = staticLines ?? buildStatic();
      source = lines.bytes;
      start = lines.from[index] as number;
      this.nameSize = lines.nameSize[index] as number;
      this.valueSize = lines.valueSize[index] as number;
      this.kind = lines.kind[index] as number;
    }
    const size = this.nameSize + this.valueSize + 4;
    for (let i = 0; i < size; i++) out[to + i] = source[start + i] as number;
    this.valueFrom = to + this.nameSize + 2;
    this.written = size;
    return at;
  }

  /** 6.2.1 with indexing (6-bit index); 6.2.2 without and 6.2.3 never (4-bit index). */
  #literal(buf: Uint8Array, from: number, end: number, out: Uint8Array, to: number, byte: number): number {
    const indexing = byte >= 0x40;
    let at = this.#integer(buf, from, end, indexing ? 6 : 4);
    if (at < 0) return at;
    const index = this.#number;
    let name: number;
    let cursor: number;
    if (index === 0) {
      at = this.#string(buf, at, end, out, to);
      if (at < 0) return at;
      cursor = this.#number;
      name = classOfName(out, to, cursor);
    } else {
      let source: Uint8Array;
      let start: number;
      let size: number;
      if (index > staticCount) {
        const table = this.table;
        const age = index - staticCount;
        if (age > table.count) return refuse(compressionError);
        const n = table.inserted - age;
        source = table.bytes;
        start = table.from(n);
        size = table.nameSize(n);
        name = table.mark(n);
        // What was malformed may have been so for its value: judge the name anew.
        if (name === fieldClass.malformed) name = classOfName(source, start, start + size);
      } else {
        const lines = staticLines ?? buildStatic();
        source = lines.bytes;
        start = lines.from[index] as number;
        size = lines.nameSize[index] as number;
        name = lines.kind[index] as number;
      }
      for (let i = 0; i < size; i++) out[to + i] = source[start + i] as number;
      cursor = to + size;
    }
    this.nameSize = cursor - to;
    out[cursor++] = 58;
    if (byte < 0x10 || indexing) out[cursor++] = 32;
    this.valueFrom = cursor;
    at = this.#string(buf, at, end, out, cursor);
    if (at < 0) return at;
    cursor = this.#number;
    this.valueSize = cursor - this.valueFrom;
    if (name !== fieldClass.malformed && !valueFits(out, this.valueFrom, cursor, name)) name = fieldClass.malformed;
    this.kind = name;
    out[cursor++] = 13;
    out[cursor++] = 10;
    this.written = cursor - to;
    if (indexing) this.table.insert(out, to, cursor, this.nameSize, this.valueSize, name);
    return at;
  }

  /** 5.1. The block is whole, so running out of bytes is an error. */
  #integer(buf: Uint8Array, from: number, end: number, prefix: number): number {
    if (from >= end) return refuse(compressionError);
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

  /** 5.2: to `out` at `to`; `#number` is where it ended there. */
  #string(buf: Uint8Array, from: number, end: number, out: Uint8Array, to: number): number {
    if (from >= end) return refuse(compressionError);
    const coded = (buf[from] as number) >= 0x80;
    const at = this.#integer(buf, from, end, 7);
    if (at < 0) return at;
    const stop = at + this.#number;
    if (stop > end) return refuse(compressionError);
    if (coded) {
      const written = huffmanDecode(buf, at, stop, out, to);
      if (written < 0) return written;
      this.#number = written;
      return stop;
    }
    for (let i = at, o = to; i < stop; i++) out[o++] = buf[i] as number;
    this.#number = to + stop - at;
    return stop;
  }
}
