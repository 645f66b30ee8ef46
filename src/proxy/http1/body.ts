// Owns: finding the end of an HTTP/1 body, and what of it is passed on. Works in place on the bytes of one read: what is kept is moved
// to the front, so that chunk extensions and trailers (and all framing, for an HTTP/1.0 client) vanish without a second buffer.
// Never buffers, never decodes more than framing.

import { fieldByte, hexValue, tchar } from "../http/bytes.ts";
import { limits, refusal } from "./limits.ts";

/** How a body ends. */
export const framing = { none: 0, length: 1, chunked: 2, untilClose: 3 } as const;

/** Where in a chunked body the reader stands. Each arm of `scan` names where it may go. */
const at = {
  sizeFirst: 0,
  size: 1,
  extension: 2,
  sizeLf: 3,
  data: 4,
  dataCr: 5,
  dataLf: 6,
  lineStart: 7,
  trailerName: 8,
  trailerValue: 9,
  trailerLf: 10,
  endLf: 11,
} as const;

const CR = 13;
const LF = 10;

/** One body being read. Reused by its connection. */
export class BodyReader {
  framing = 0;
  done = true;
  /** Payload bytes seen so far, without framing. */
  bytes = 0;
  /** After `scan`: what is to be passed on is [from, keptTo). */
  keptTo = 0;
  /** Drop the chunked framing (for a client that does not know it). */
  unchunk = false;
  #state = 0;
  #left = 0;
  #digits = 0;
  #overhead = 0;

  /** `length` counts for `framing.length` only. */
  begin(kind: number, length: number, unchunk: boolean): void {
    this.framing = kind;
    this.bytes = 0;
    this.#state = at.sizeFirst;
    this.#left = kind === framing.length ? length : 0;
    this.#digits = 0;
    this.#overhead = 0;
    this.unchunk = unchunk;
    this.done = kind === framing.none || (kind === framing.length && length === 0);
  }

  /** Reads bytes[from, to). Returns how many belong to this body, or a negative refusal; sets `keptTo` and `done`. */
  scan(bytes: Uint8Array, from: number, to: number): number {
    if (this.done) {
      this.keptTo = from;
      return 0;
    }
    if (this.framing === framing.length) {
      const size = to - from < this.#left ? to - from : this.#left;
      this.#left -= size;
      this.bytes += size;
      this.done = this.#left === 0;
      this.keptTo = from + size;
      return size;
    }
    if (this.framing === framing.untilClose) {
      this.bytes += to - from;
      this.keptTo = to;
      return to - from;
    }
    return this.#scanChunked(bytes, from, to);
  }

  #scanChunked(bytes: Uint8Array, from: number, to: number): number {
    const keepFraming = !this.unchunk;
    let read = from;
    let kept = from;
    let state = this.#state;
    while (read < to) {
      const byte = bytes[read] as number;
      switch (state) {
        // to: size
        case at.sizeFirst:
          if (hexValue[byte] === 255) return -refusal.chunk;
          this.#left = 0;
          this.#digits = 0;
          this.#overhead = 0;
          state = at.size;
          break;
        // to: sizeLf, extension
        case at.size: {
          const digit = hexValue[byte] as number;
          if (digit !== 255) {
            // RFC 9112 7.1: anticipate overflow; 13 digits stay below 2^53.
            if (++this.#digits > 13) return -refusal.chunk;
            this.#left = this.#left * 16 + digit;
          } else if (byte === CR) state = at.sizeLf;
          else if (byte === 59) {
            state = at.extension;
            this.#overhead = 0;
            read++;
            break;
          } else return -refusal.chunk;
          if (keepFraming) bytes[kept++] = byte;
          read++;
          break;
        }
        // to: sizeLf. RFC 9112 7.1.1: extensions are ignored, and are for this hop alone.
        case at.extension:
          if (byte === CR) {
            state = at.sizeLf;
            if (keepFraming) bytes[kept++] = byte;
          } else if (fieldByte[byte] !== 1 || ++this.#overhead > limits.chunkLine) return -refusal.chunk;
          read++;
          break;
        // to: data, lineStart
        case at.sizeLf:
          if (byte !== LF) return -refusal.chunk;
          if (keepFraming) bytes[kept++] = byte;
          read++;
          this.#overhead = 0;
          state = this.#left === 0 ? at.lineStart : at.data;
          break;
        // to: dataCr
        case at.data: {
          const size = to - read < this.#left ? to - read : this.#left;
          if (kept !== read) bytes.copyWithin(kept, read, read + size);
          kept += size;
          read += size;
          this.#left -= size;
          this.bytes += size;
          if (this.#left === 0) state = at.dataCr;
          break;
        }
        // to: dataLf
        case at.dataCr:
          if (byte !== CR) return -refusal.chunk;
          if (keepFraming) bytes[kept++] = byte;
          read++;
          state = at.dataLf;
          break;
        // to: sizeFirst
        case at.dataLf:
          if (byte !== LF) return -refusal.chunk;
          if (keepFraming) bytes[kept++] = byte;
          read++;
          state = at.sizeFirst;
          break;
        // to: endLf, trailerName
        case at.lineStart:
          if (byte === CR) {
            if (keepFraming) bytes[kept++] = byte;
            read++;
            state = at.endLf;
          } else if (tchar[byte] === 1) state = at.trailerName;
          else return -refusal.trailers;
          break;
        // to: trailerValue
        case at.trailerName:
          if (++this.#overhead > limits.trailers) return -refusal.trailers;
          if (byte === 58) state = at.trailerValue;
          else if (tchar[byte] !== 1) return -refusal.trailers;
          read++;
          break;
        // to: trailerLf
        case at.trailerValue:
          if (++this.#overhead > limits.trailers) return -refusal.trailers;
          if (byte === CR) state = at.trailerLf;
          else if (fieldByte[byte] !== 1) return -refusal.trailers;
          read++;
          break;
        // to: lineStart
        case at.trailerLf:
          if (byte !== LF) return -refusal.trailers;
          read++;
          state = at.lineStart;
          break;
        // the end
        case at.endLf:
          if (byte !== LF) return -refusal.trailers;
          if (keepFraming) bytes[kept++] = byte;
          read++;
          this.done = true;
          this.#state = at.sizeFirst;
          this.keptTo = kept;
          return read - from;
      }
    }
    this.#state = state;
    this.keptTo = kept;
    return read - from;
  }
}
