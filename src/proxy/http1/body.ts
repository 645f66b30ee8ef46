// Owns: finding the end of an HTTP/1 body, and what of it is passed on. Works in place on the bytes of one read: what is kept is moved
// to the front, so that chunk extensions (and all framing, for an HTTP/1.0 client) vanish without a second buffer. Trailers vanish too, or are
// set aside for the exchange. Never buffers a body, never decodes more than framing.

import { fieldByte, hexValue, tchar } from "../http/bytes.ts";
import { defaultLimits, type HttpLimits, limits, refusal } from "./limits.ts";

/** How a body ends. */
export const framing = { none: 0, length: 1, chunked: 2, untilClose: 3 } as const;

/** Where in a chunked body the reader stands. Each arm of `scan` names where it may go. */
const at = {
  sizeFirst: 0,
  size: 1,
  extensionStart: 2,
  extensionName: 12,
  extensionNameSpace: 13,
  extensionValueStart: 14,
  extensionValue: 15,
  extensionValueSpace: 16,
  extensionQuoted: 17,
  extensionEscape: 18,
  extensionQuoteEnd: 19,
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
const SP = 32;
const HTAB = 9;
const SEMICOLON = 59;
const EQUALS = 61;
const QUOTE = 34;
const BACKSLASH = 92;

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
  /**
   * Set trailer fields aside in `trailers` instead of dropping them. When there are any and framing is kept, [from, keptTo) then ends after the line
   * of the last chunk (`0 CRLF`): whoever writes adds what it forwards of them and the empty line. Without trailers nothing changes.
   */
  keepTrailers = false;
  /** Complete lines, each with its CRLF, as they came: for `filterTrailers`. Set once `done`; null when there are none. */
  trailers: Buffer | null = null;
  /** Bounds. The reader of answers leaves the default, which knows none for the size of a body. */
  limits: HttpLimits = defaultLimits;
  #state = 0;
  #left = 0;
  #digits = 0;
  #overhead = 0;
  #excess = 0;
  #lines = 0;
  #aside: Buffer | null = null;

  /** `length` counts for `framing.length` only. */
  begin(kind: number, length: number, unchunk: boolean): void {
    this.framing = kind;
    this.bytes = 0;
    this.#state = at.sizeFirst;
    this.#left = kind === framing.length ? length : 0;
    this.#digits = 0;
    this.#overhead = 0;
    this.#excess = 0;
    this.#lines = 0;
    this.#aside = null;
    this.trailers = null;
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
    const bounds = this.limits;
    // Where the trailer bytes of this read begin that are to be set aside.
    let aside = this.keepTrailers && state >= at.lineStart && state <= at.trailerLf && this.#lines > 0 ? from : -1;
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
        // to: sizeLf, extensionStart
        case at.size: {
          const digit = hexValue[byte] as number;
          if (digit !== 255) {
            // RFC 9112 7.1: anticipate overflow; 13 digits stay below 2^53.
            if (++this.#digits > limits.chunkDigits) return -refusal.chunk;
            this.#left = this.#left * 16 + digit;
          } else if (byte === CR) state = at.sizeLf;
          else if (byte === SEMICOLON) {
            state = at.extensionStart;
            read++;
            break;
          } else return -refusal.chunk;
          if (keepFraming) bytes[kept++] = byte;
          read++;
          break;
        }
        // to: sizeLf, another of them. RFC 9112 7.1.1: extensions are ignored, and are for this hop alone; but malformed ones are what smuggling hides in.
        case at.extensionStart:
        case at.extensionName:
        case at.extensionNameSpace:
        case at.extensionValueStart:
        case at.extensionValue:
        case at.extensionValueSpace:
        case at.extensionQuoted:
        case at.extensionEscape:
        case at.extensionQuoteEnd:
          if (byte === CR && (state === at.extensionName || state === at.extensionValue || state === at.extensionQuoteEnd)) {
            state = at.sizeLf;
            if (keepFraming) bytes[kept++] = byte;
          } else {
            state = nextExtension(state, byte);
            if (state < 0 || ++this.#overhead > bounds.chunkLineBytes) return -refusal.chunk;
          }
          read++;
          break;
        // to: data, lineStart
        case at.sizeLf:
          if (byte !== LF) return -refusal.chunk;
          if (keepFraming) bytes[kept++] = byte;
          read++;
          this.#excess += this.#digits + this.#overhead - 16 - 2 * this.#left;
          if (this.#excess < 0) this.#excess = 0;
          else if (this.#excess > bounds.chunkExcessBytes) return -refusal.chunk;
          if (bounds.bodyBytes > 0 && this.bytes + this.#left > bounds.bodyBytes) return -refusal.bodyTooLarge;
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
            if (this.#lines > 0 && this.keepTrailers) {
              this.#setAside(bytes, aside, read);
              aside = -1;
            } else if (keepFraming) bytes[kept++] = byte;
            read++;
            state = at.endLf;
          } else if (tchar[byte] === 1) {
            if (++this.#lines > bounds.fields) return -refusal.trailersTooLarge;
            if (this.keepTrailers && aside < 0) aside = read;
            state = at.trailerName;
          } else return -refusal.trailers;
          break;
        // to: trailerValue
        case at.trailerName:
          if (++this.#overhead > bounds.trailerBytes) return -refusal.trailersTooLarge;
          if (byte === 58) state = at.trailerValue;
          else if (tchar[byte] !== 1) return -refusal.trailers;
          read++;
          break;
        // to: trailerLf
        case at.trailerValue:
          if (++this.#overhead > bounds.trailerBytes) return -refusal.trailersTooLarge;
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
          if (this.#aside !== null) {
            this.trailers = this.#aside;
            this.#aside = null;
          } else if (keepFraming) bytes[kept++] = byte;
          read++;
          this.done = true;
          this.#state = at.sizeFirst;
          this.keptTo = kept;
          return read - from;
      }
    }
    this.#state = state;
    this.keptTo = kept;
    if (aside >= 0) this.#setAside(bytes, aside, to);
    return read - from;
  }

  /** Copies: the bytes of a read are its owner's. Bounded by `trailerBytes` and `fields`. */
  #setAside(bytes: Uint8Array, from: number, to: number): void {
    const part = bytes.subarray(from, to);
    this.#aside = this.#aside === null ? Buffer.from(part) : Buffer.concat([this.#aside, part]);
  }
}

/** `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 7.1.1): the state after this byte, -1 where it may not be. CR is the caller's. */
function nextExtension(state: number, byte: number): number {
  const isSpace = byte === SP || byte === HTAB;
  switch (state) {
    case at.extensionStart:
      return isSpace ? state : tchar[byte] === 1 ? at.extensionName : -1;
    case at.extensionName:
      if (tchar[byte] === 1) return state;
      if (isSpace) return at.extensionNameSpace;
      return byte === EQUALS ? at.extensionValueStart : byte === SEMICOLON ? at.extensionStart : -1;
    case at.extensionNameSpace:
      if (isSpace) return state;
      return byte === EQUALS ? at.extensionValueStart : byte === SEMICOLON ? at.extensionStart : -1;
    case at.extensionValueStart:
      if (isSpace) return state;
      return byte === QUOTE ? at.extensionQuoted : tchar[byte] === 1 ? at.extensionValue : -1;
    case at.extensionValue:
      if (tchar[byte] === 1) return state;
      return isSpace ? at.extensionValueSpace : byte === SEMICOLON ? at.extensionStart : -1;
    case at.extensionQuoted:
      if (byte === QUOTE) return at.extensionQuoteEnd;
      return byte === BACKSLASH ? at.extensionEscape : fieldByte[byte] === 1 ? state : -1;
    case at.extensionEscape:
      return fieldByte[byte] === 1 ? at.extensionQuoted : -1;
    default:
      // After a quoted value, or the space after any.
      return isSpace ? at.extensionValueSpace : byte === SEMICOLON ? at.extensionStart : -1;
  }
}
