// Owns: writing a body in the chunked coding (RFC 9112 7.1) where it arrives without framing of its own: from HTTP/2, or from a reader that undid it.
// One write for each piece as far as the scratch buffer reaches.

import { latin1 } from "../http/bytes.ts";
import { type Outbox, scratch } from "../net/outbox.ts";

const crlf = latin1("\r\n");
const lastChunk = latin1("0\r\n\r\n");
const lastSize = latin1("0\r\n");
const hex = latin1("0123456789abcdef");

/** Largest size line and line ends around a chunk. */
const overhead = 24;

function put(bytes: Uint8Array, at: number): number {
  scratch.set(bytes, at);
  return at + bytes.length;
}

/** The size line of a chunk at scratch[at, …); returns the position after it. */
function putSize(size: number, at: number): number {
  let digits = 1;
  for (let rest = Math.floor(size / 16); rest > 0; rest = Math.floor(rest / 16)) digits++;
  let left = size;
  for (let i = digits - 1; i >= 0; i--) {
    scratch[at + i] = hex[left % 16] as number;
    left = Math.floor(left / 16);
  }
  return put(crlf, at + digits);
}

/** Appends bytes[from, to) as a chunk (none when empty), and the end when `end`, to scratch[at, …). The caller has made sure that it fits. */
export function putChunk(bytes: Uint8Array, from: number, to: number, end: boolean, at: number): number {
  let cursor = at;
  if (to > from) {
    cursor = putSize(to - from, cursor);
    (bytes as Buffer).copy(scratch, cursor, from, to);
    cursor = put(crlf, cursor + to - from);
  }
  return end ? put(lastChunk, cursor) : cursor;
}

/** May a chunk of `size` bytes be put after `at`? */
export function chunkFits(size: number, at: number): boolean {
  return at + size + overhead <= scratch.length;
}

/** Writes bytes[from, to) as a chunk, and the end when `end`. False: not everything was taken. */
export function writeChunk(out: Outbox, bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
  if (chunkFits(to - from, 0)) {
    const size = putChunk(bytes, from, to, end, 0);
    return out.write(scratch, 0, size);
  }
  out.write(scratch, 0, putSize(to - from, 0));
  out.write(bytes, from, to);
  const size = end ? put(lastChunk, put(crlf, 0)) : put(crlf, 0);
  return out.write(scratch, 0, size);
}

/** The last chunk and trailer fields (complete lines in bytes[from, to)). `sizeOut`: the last chunk's own line is out already. */
export function writeTrailers(out: Outbox, bytes: Uint8Array, from: number, to: number, sizeOut: boolean): void {
  let cursor = sizeOut ? 0 : put(lastSize, 0);
  // A listener may set `trailerBytes` above what the scratch buffer holds.
  if (!chunkFits(to - from, cursor)) {
    out.write(scratch, 0, cursor);
    out.write(bytes, from, to);
    out.write(crlf, 0, crlf.length);
    return;
  }
  cursor = put(bytes.subarray(from, to), cursor);
  out.write(scratch, 0, put(crlf, cursor));
}
