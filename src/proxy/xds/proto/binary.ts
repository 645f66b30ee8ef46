// Owns: reading the protobuf wire format (protobuf.dev/programming-guides/encoding) over the descriptors of message.ts. Decoding reports every field the
// subset does not know; what to make of that is the caller's business. Writing is encode.ts. Never touches JSON.

import { emptyMessage, type FieldDesc, type MessageDesc, type MessageType, messageDesc } from "./message.ts";

/** Bytes that are not a message of the type they claim to be. */
export class WireError extends Error {
  override readonly name = "WireError";
}

/** Called for each unknown field, at any depth: the message's full name, the field number, and where (`filter_chains[0].filters[1]`). */
export type UnknownField = (message: string, field: number, path: string) => void;

/** Protobuf's own default (100): deeper nesting is an attack, not configuration. */
const maxDepth = 100;

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Decodes one message. Throws WireError. Fields later in the bytes win, messages are merged only by replacement, as no writer we know splits them. */
export function decodeBinary<T>(type: MessageType<T>, bytes: Uint8Array, unknown: UnknownField): T {
  const reader = new Reader(bytes, unknown);
  return reader.message(messageDesc(type.name), bytes.length, 0) as T;
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #unknown: UnknownField;
  readonly #path: (string | number)[] = [];
  #at = 0;
  #end: number;

  constructor(bytes: Uint8Array, unknown: UnknownField) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#unknown = unknown;
    this.#end = bytes.length;
  }

  message(desc: MessageDesc, end: number, depth: number): Record<string, unknown> {
    if (depth > maxDepth) throw new WireError(`nested deeper than ${maxDepth} messages`);
    const outer = this.#end;
    this.#end = end;
    const made = emptyMessage(desc);
    while (this.#at < end) {
      const tag = this.#uint32();
      const number = tag >>> 3;
      const wire = tag & 7;
      if (number === 0) throw new WireError(`field number 0 at byte ${this.#at}`);
      const field = desc.byNumber.get(number);
      if (field === undefined) {
        this.#unknown(desc.name, number, this.#where());
        this.#skip(wire);
      } else this.#field(made, desc, field, wire, depth);
    }
    if (this.#at !== end) throw new WireError(`a field runs past the end of ${desc.name}`);
    this.#end = outer;
    return made;
  }

  #field(made: Record<string, unknown>, desc: MessageDesc, field: FieldDesc, wire: number, depth: number): void {
    if (field.label === "list") {
      const list = made[field.local] as unknown[];
      if (wire === 2 && isPackable(field)) {
        const end = this.#length();
        while (this.#at < end) list.push(this.#value(field, depth));
        return;
      }
      this.#expect(desc, field, wire);
      this.#path.push(`${field.name}[${list.length}]`);
      list.push(this.#value(field, depth));
      this.#path.pop();
      return;
    }
    if (field.label === "map") {
      this.#expect(desc, field, wire);
      this.#mapEntry(made[field.local] as Record<string, unknown>, field, depth);
      return;
    }
    this.#expect(desc, field, wire);
    this.#path.push(field.name);
    const value = this.#value(field, depth);
    this.#path.pop();
    if (field.oneof !== "") made[field.oneof] = { case: field.local, value };
    else made[field.local] = value;
  }

  #mapEntry(map: Record<string, unknown>, field: FieldDesc, depth: number): void {
    const end = this.#length();
    let key = "";
    let value: unknown;
    while (this.#at < end) {
      const tag = this.#uint32();
      if (tag === 0x0a) key = this.#string();
      else if (tag >>> 3 === 2) {
        this.#path.push(`${field.name}["${key}"]`);
        value = this.#value(field, depth);
        this.#path.pop();
      } else this.#skip(tag & 7);
    }
    if (value === undefined && field.kind === "m") value = emptyMessage(messageDesc(field.ref));
    Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true });
  }

  #value(field: FieldDesc, depth: number): unknown {
    switch (field.kind) {
      case "s":
        return this.#string();
      case "y":
        return this.#raw().slice();
      case "b":
        return this.#uint64() !== 0n;
      case "u":
        return this.#uint32();
      case "i":
      case "e":
        return Number(BigInt.asIntN(32, this.#uint64()));
      case "U":
        return this.#uint64();
      case "I":
        return BigInt.asIntN(64, this.#uint64());
      case "d":
        return this.#double();
      case "m":
        return this.message(messageDesc(field.ref), this.#length(), depth + 1);
      case "A":
        return this.#any();
      case "D":
      case "T":
        return this.#time();
      case "w":
        return this.#wrapper(field.ref);
      case "S":
        return this.#struct(this.#length(), depth + 1);
    }
  }

  #any(): unknown {
    const end = this.#length();
    let typeUrl = "";
    let value: Uint8Array = new Uint8Array(0);
    while (this.#at < end) {
      const tag = this.#uint32();
      if (tag === 0x0a) typeUrl = this.#string();
      else if (tag === 0x12) value = this.#raw().slice();
      else this.#skip(tag & 7);
    }
    return { typeUrl, value };
  }

  #time(): unknown {
    const end = this.#length();
    let seconds = 0n;
    let nanos = 0;
    while (this.#at < end) {
      const tag = this.#uint32();
      if (tag === 0x08) seconds = BigInt.asIntN(64, this.#uint64());
      else if (tag === 0x10) nanos = Number(BigInt.asIntN(32, this.#uint64()));
      else this.#skip(tag & 7);
    }
    return { seconds, nanos };
  }

  #wrapper(scalar: string): unknown {
    const end = this.#length();
    let value = 0n;
    while (this.#at < end) {
      const tag = this.#uint32();
      if (tag === 0x08) value = this.#uint64();
      else this.#skip(tag & 7);
    }
    if (scalar === "U") return value;
    return scalar === "b" ? value !== 0n : Number(BigInt.asUintN(32, value));
  }

  /** google.protobuf.Struct as a plain JSON object. */
  #struct(end: number, depth: number): Record<string, unknown> {
    if (depth > maxDepth) throw new WireError(`nested deeper than ${maxDepth} messages`);
    const made: Record<string, unknown> = {};
    while (this.#at < end) {
      const tag = this.#uint32();
      if (tag !== 0x0a) {
        this.#skip(tag & 7);
        continue;
      }
      const entryEnd = this.#length();
      let key = "";
      let value: unknown = null;
      while (this.#at < entryEnd) {
        const inner = this.#uint32();
        if (inner === 0x0a) key = this.#string();
        else if (inner === 0x12) value = this.#structValue(this.#length(), depth + 1);
        else this.#skip(inner & 7);
      }
      Object.defineProperty(made, key, { value, enumerable: true, configurable: true, writable: true });
    }
    return made;
  }

  #structValue(end: number, depth: number): unknown {
    let value: unknown = null;
    while (this.#at < end) {
      const tag = this.#uint32();
      switch (tag) {
        case 0x08:
          this.#uint64();
          value = null;
          break;
        case 0x11:
          value = this.#double();
          break;
        case 0x1a:
          value = this.#string();
          break;
        case 0x20:
          value = this.#uint64() !== 0n;
          break;
        case 0x2a:
          value = this.#struct(this.#length(), depth + 1);
          break;
        case 0x32: {
          const listEnd = this.#length();
          const list: unknown[] = [];
          while (this.#at < listEnd) {
            const inner = this.#uint32();
            if (inner === 0x0a) list.push(this.#structValue(this.#length(), depth + 1));
            else this.#skip(inner & 7);
          }
          value = list;
          break;
        }
        default:
          this.#skip(tag & 7);
      }
    }
    return value;
  }

  #expect(desc: MessageDesc, field: FieldDesc, wire: number): void {
    const wanted = field.label === "map" ? 2 : wireType(field);
    if (wire !== wanted) throw new WireError(`${desc.name}.${field.name} has wire type ${wire} instead of ${wanted}`);
  }

  #string(): string {
    const raw = this.#raw();
    try {
      return utf8.decode(raw);
    } catch {
      throw new WireError(`a string at byte ${this.#at - raw.length} is not UTF-8`);
    }
  }

  #raw(): Uint8Array {
    const end = this.#length();
    const from = this.#at;
    this.#at = end;
    return this.#bytes.subarray(from, end);
  }

  /** Reads a length and answers where what it announces ends. */
  #length(): number {
    const length = this.#uint32();
    const end = this.#at + length;
    if (end > this.#end) throw new WireError(`a length of ${length} at byte ${this.#at} runs past the end`);
    return end;
  }

  #double(): number {
    if (this.#at + 8 > this.#end) throw new WireError(`truncated at byte ${this.#at}`);
    const value = this.#view.getFloat64(this.#at, true);
    this.#at += 8;
    return value;
  }

  #uint32(): number {
    const value = this.#byte();
    if (value < 0x80) return value;
    let result = value & 0x7f;
    for (let shift = 7; shift < 70; shift += 7) {
      const next = this.#byte();
      if (shift < 32) result |= (next & 0x7f) << shift;
      if (next < 0x80) return result >>> 0;
    }
    throw new WireError(`a varint longer than 10 bytes at byte ${this.#at}`);
  }

  #uint64(): bigint {
    let result = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const next = this.#byte();
      result |= BigInt(next & 0x7f) << shift;
      if (next < 0x80) return BigInt.asUintN(64, result);
    }
    throw new WireError(`a varint longer than 10 bytes at byte ${this.#at}`);
  }

  #byte(): number {
    if (this.#at >= this.#end) throw new WireError(`truncated at byte ${this.#at}`);
    return this.#bytes[this.#at++] as number;
  }

  #skip(wire: number): void {
    switch (wire) {
      case 0:
        this.#uint64();
        return;
      case 1:
        this.#at += 8;
        break;
      case 2:
        this.#at = this.#length();
        return;
      case 5:
        this.#at += 4;
        break;
      default:
        throw new WireError(`wire type ${wire} at byte ${this.#at}`);
    }
    if (this.#at > this.#end) throw new WireError(`truncated at byte ${this.#end}`);
  }

  #where(): string {
    return this.#path.join(".");
  }
}

/** Scalars that a packed field holds. */
export function isPackable(field: FieldDesc): boolean {
  return "buiUIde".includes(field.kind);
}

/** The wire type of one value. */
export function wireType(field: FieldDesc): number {
  if (field.kind === "d") return 1;
  return isPackable(field) ? 0 : 2;
}
