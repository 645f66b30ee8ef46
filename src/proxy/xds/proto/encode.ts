// Owns: writing the protobuf wire format over the descriptors of message.ts. Reading is binary.ts.

import { isPackable, wireType } from "./binary.ts";
import { type FieldDesc, findMessage, type MessageDesc, type MessageType, messageDesc } from "./message.ts";

const encoder = new TextEncoder();

/**
 * Encodes one message. Absent and default values are left out, as proto3 has it (a member of a oneof is written even at its default).
 * Fields go in the order of the .proto file, map entries in the order of the object.
 */
export function encodeBinary<T>(type: MessageType<T>, message: Partial<T> | object): Uint8Array {
  const out = new Writer();
  writeMessage(out, messageDesc(type.name), message as Record<string, unknown>);
  return out.finish();
}

function writeMessage(out: Writer, desc: MessageDesc, message: Record<string, unknown>): void {
  for (const field of desc.fields) {
    if (field.oneof !== "") {
      const chosen = message[field.oneof] as { case?: string; value?: unknown } | undefined;
      if (chosen?.case === field.local && chosen.value !== undefined) writeField(out, field, chosen.value);
      continue;
    }
    const value = message[field.local];
    if (value === undefined || value === null) continue;
    if (field.label === "list") writeList(out, field, value as readonly unknown[]);
    else if (field.label === "map") {
      for (const [key, item] of Object.entries(value)) {
        const entry = new Writer();
        entry.tag(1, 2).bytes(encoder.encode(key));
        writeField(entry, { ...field, label: "one", number: 2 }, item);
        out.tag(field.number, 2).bytes(entry.finish());
      }
    } else if (!isDefault(field, value)) writeField(out, field, value);
  }
}

function writeList(out: Writer, field: FieldDesc, list: readonly unknown[]): void {
  if (list.length === 0) return;
  if (!isPackable(field)) {
    for (const item of list) writeField(out, field, item);
    return;
  }
  const packed = new Writer();
  for (const item of list) writeScalar(packed, field.kind, item);
  out.tag(field.number, 2).bytes(packed.finish());
}

function isDefault(field: FieldDesc, value: unknown): boolean {
  switch (field.kind) {
    case "s":
      return value === "";
    case "b":
      return value === false;
    case "y":
      return (value as Uint8Array).length === 0;
    case "u":
    case "i":
    case "e":
      return value === 0;
    case "d":
      return Object.is(value, 0);
    case "U":
    case "I":
      return value === 0n;
    default:
      return false;
  }
}

function writeField(out: Writer, field: FieldDesc, value: unknown): void {
  out.tag(field.number, wireType(field));
  switch (field.kind) {
    case "m": {
      const inner = new Writer();
      writeMessage(inner, messageDesc(field.ref), value as Record<string, unknown>);
      out.bytes(inner.finish());
      return;
    }
    case "A": {
      out.bytes(anyBytes(value as { typeUrl: string; value: Uint8Array; parsed?: Record<string, unknown> }));
      return;
    }
    case "D":
    case "T": {
      const time = value as { seconds?: bigint; nanos?: number };
      const inner = new Writer();
      if (time.seconds) inner.tag(1, 0).varint(BigInt.asUintN(64, time.seconds));
      if (time.nanos) inner.tag(2, 0).varint(BigInt.asUintN(64, BigInt(time.nanos)));
      out.bytes(inner.finish());
      return;
    }
    case "w": {
      const inner = new Writer();
      const scalar = field.ref as FieldDesc["kind"];
      if (value !== 0 && value !== 0n && value !== false) writeScalar(inner.tag(1, 0), scalar, value);
      out.bytes(inner.finish());
      return;
    }
    case "S":
      out.bytes(structBytes(value as Record<string, unknown>));
      return;
    default:
      writeScalar(out, field.kind, value);
  }
}

function writeScalar(out: Writer, kind: FieldDesc["kind"], value: unknown): void {
  switch (kind) {
    case "s":
      out.bytes(encoder.encode(value as string));
      return;
    case "y":
      out.bytes(value as Uint8Array);
      return;
    case "b":
      out.small(value ? 1 : 0);
      return;
    case "u":
      out.small(value as number);
      return;
    case "i":
    case "e":
      if ((value as number) >= 0) out.small(value as number);
      else out.varint(BigInt.asUintN(64, BigInt(value as number)));
      return;
    case "U":
    case "I":
      out.varint(BigInt.asUintN(64, value as bigint));
      return;
    case "d":
      out.double(value as number);
      return;
    default:
      throw new Error(`kind ${kind} is no scalar`);
  }
}

function anyBytes(any: { typeUrl: string; value: Uint8Array; parsed?: Record<string, unknown> }): Uint8Array {
  const desc = any.parsed === undefined ? undefined : findMessage(any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1));
  const value = desc === undefined || any.parsed === undefined ? any.value : encodeBinary({ name: desc.name }, any.parsed);
  const out = new Writer();
  if (any.typeUrl !== "") out.tag(1, 2).bytes(encoder.encode(any.typeUrl));
  if (value.length > 0) out.tag(2, 2).bytes(value);
  return out.finish();
}

function structBytes(object: Record<string, unknown>): Uint8Array {
  const out = new Writer();
  for (const [key, value] of Object.entries(object)) {
    const entry = new Writer();
    entry.tag(1, 2).bytes(encoder.encode(key)).tag(2, 2).bytes(structValueBytes(value));
    out.tag(1, 2).bytes(entry.finish());
  }
  return out.finish();
}

function structValueBytes(value: unknown): Uint8Array {
  const out = new Writer();
  if (value === null || value === undefined) out.tag(1, 0).small(0);
  else if (typeof value === "number") out.tag(2, 1).double(value);
  else if (typeof value === "string") out.tag(3, 2).bytes(encoder.encode(value));
  else if (typeof value === "boolean") out.tag(4, 0).small(value ? 1 : 0);
  else if (Array.isArray(value)) {
    const list = new Writer();
    for (const item of value) list.tag(1, 2).bytes(structValueBytes(item));
    out.tag(6, 2).bytes(list.finish());
  } else out.tag(5, 2).bytes(structBytes(value as Record<string, unknown>));
  return out.finish();
}

class Writer {
  #bytes = new Uint8Array(64);
  #at = 0;

  tag(field: number, wire: number): this {
    return this.small(((field << 3) | wire) >>> 0);
  }

  small(value: number): this {
    this.#room(5);
    let rest = value >>> 0;
    while (rest > 0x7f) {
      this.#bytes[this.#at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[this.#at++] = rest;
    return this;
  }

  varint(value: bigint): this {
    this.#room(10);
    let rest = value;
    while (rest > 0x7fn) {
      this.#bytes[this.#at++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.#bytes[this.#at++] = Number(rest);
    return this;
  }

  double(value: number): this {
    this.#room(8);
    new DataView(this.#bytes.buffer).setFloat64(this.#at, value, true);
    this.#at += 8;
    return this;
  }

  /** A length and the bytes. */
  bytes(value: Uint8Array): this {
    this.small(value.length);
    this.#room(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
    return this;
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  #room(count: number): void {
    if (this.#at + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#at + count));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }
}
