// Owns: what the proxy knows of gRPC over HTTP/2 (the gRPC project's PROTOCOL-HTTP2): telling it by its content type, its time-out, its status
// codes, counting its messages, and saying our own failures as trailers-only answers. Never buffers a message.

import { notDeliveredHeader, reasonHeader } from "../../wire/names.ts";
import type { Head } from "../http1/head.ts";
import { scratch } from "../net/outbox.ts";
import { equalsIgnoreCase, latin1, text } from "./bytes.ts";

const contentType = latin1("content-type");
const grpcType = latin1("application/grpc");
const timeoutName = latin1("grpc-timeout");
const statusName = latin1("grpc-status");

/** The value of `name` (lower case) as an index into the head's fields; -1: none. */
export function fieldNamed(bytes: Uint8Array, head: Head, name: Uint8Array): number {
  for (let i = 0; i < head.count; i++) {
    const from = head.nameFrom[i] as number;
    const to = head.nameTo[i] as number;
    if (to - from === name.length && equalsIgnoreCase(bytes, from, to, name)) return i;
  }
  return -1;
}

/** `application/grpc`, alone or with `+proto`, `+json`, parameters; not `application/grpc-web`. */
export function isGrpc(bytes: Uint8Array, head: Head): boolean {
  const i = fieldNamed(bytes, head, contentType);
  if (i < 0) return false;
  const from = head.valueFrom[i] as number;
  const to = head.valueTo[i] as number;
  if (to - from < grpcType.length || !equalsIgnoreCase(bytes, from, from + grpcType.length, grpcType)) return false;
  const next = from + grpcType.length;
  return next === to || bytes[next] === 43 || bytes[next] === 59 || bytes[next] === 32;
}

const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 0.001, n: 0.000_001 };

/** `grpc-timeout` in ms (at most 8 digits and a unit); -1: none or not valid, which the server judges. */
export function grpcTimeoutMs(bytes: Uint8Array, head: Head): number {
  const i = fieldNamed(bytes, head, timeoutName);
  if (i < 0) return -1;
  const from = head.valueFrom[i] as number;
  const last = (head.valueTo[i] as number) - 1;
  if (last - from < 1 || last - from > 8) return -1;
  let value = 0;
  for (let at = from; at < last; at++) {
    const digit = (bytes[at] as number) - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  const unit = unitMs[String.fromCharCode(bytes[last] as number)];
  return unit === undefined ? -1 : value * unit;
}

/** `grpc-status` of a head (trailers-only answer); -1: none. */
export function grpcStatusOf(bytes: Uint8Array, head: Head): number {
  const i = fieldNamed(bytes, head, statusName);
  return i < 0 ? -1 : number(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
}

/** `grpc-status` among complete field lines in bytes[from, to); -1: none. */
export function grpcStatusIn(bytes: Uint8Array, from: number, to: number): number {
  let at = from;
  while (at < to) {
    let end = at;
    while (end < to && bytes[end] !== 13) end++;
    const colon = at + statusName.length;
    if (colon < end && bytes[colon] === 58 && equalsIgnoreCase(bytes, at, colon, statusName)) {
      let value = colon + 1;
      while (value < end && bytes[value] === 32) value++;
      return number(bytes, value, end);
    }
    at = end + 2;
  }
  return -1;
}

function number(bytes: Uint8Array, from: number, to: number): number {
  if (to === from || to - from > 4) return -1;
  let value = 0;
  for (let at = from; at < to; at++) {
    const digit = (bytes[at] as number) - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

/** Counts length-prefixed messages as their bytes go by. */
export class MessageCounter {
  messages = 0;
  #left = 0;
  #prefix = 0;
  #size = 0;

  reset(): void {
    this.messages = 0;
    this.#left = 0;
    this.#prefix = 0;
    this.#size = 0;
  }

  scan(bytes: Uint8Array, from: number, to: number): void {
    let at = from;
    while (at < to) {
      if (this.#left > 0) {
        const size = to - at < this.#left ? to - at : this.#left;
        this.#left -= size;
        at += size;
        if (this.#left === 0) this.messages++;
        continue;
      }
      // One byte of flags, four of length.
      if (this.#prefix > 0) this.#size = this.#size * 256 + (bytes[at] as number);
      at++;
      if (++this.#prefix < 5) continue;
      this.#prefix = 0;
      this.#left = this.#size;
      this.#size = 0;
      if (this.#left === 0) this.messages++;
    }
  }
}

/** Percent-encoding of grpc-message: printable ASCII but `%` stays. */
function encodeMessage(sentence: string): string {
  let out = "";
  for (const byte of Buffer.from(sentence.slice(0, 1_024), "utf8"))
    out += byte >= 32 && byte <= 126 && byte !== 37 ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return out;
}

/** A local reply to a gRPC call: trailers-only, HTTP status 200 as the protocol wants. Written to scratch; returns the size. */
export function writeGrpcReply(
  code: number,
  flag: string,
  sentence: string,
  undelivered: boolean,
  lines: Uint8Array | null = null,
): number {
  const message = encodeMessage(sentence);
  return scratch.write(
    `HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: ${code}\r\ngrpc-message: ${message}\r\n${reasonHeader}: ${flag} ${message}\r\n` +
      `${undelivered ? `${notDeliveredHeader}: 1\r\n` : ""}${lines === null ? "" : text(lines, 0, lines.length)}\r\n`,
    0,
    "latin1",
  );
}

/** Trailer lines that end an answer of gRPC which has begun. */
export function grpcTrailers(code: number, sentence: string): Buffer {
  return Buffer.from(`grpc-status: ${code}\r\ngrpc-message: ${encodeMessage(sentence)}\r\n`, "latin1");
}

/** Service and method of a path `/package.Service/Method`; null when it has another form. */
export function methodOf(bytes: Uint8Array, from: number, to: number): { readonly service: string; readonly method: string } | null {
  const path = text(bytes, from, to);
  const slash = path.indexOf("/", 1);
  if (path[0] !== "/" || slash < 2 || slash === path.length - 1 || path.indexOf("/", slash + 1) >= 0) return null;
  return { service: path.slice(1, slash), method: path.slice(slash + 1) };
}
