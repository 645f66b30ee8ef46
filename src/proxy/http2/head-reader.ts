// Owns: turning a header block into the text of an HTTP/1.1 head (or of trailer lines), and refusing every section that RFC 9113 section 8 calls malformed.
// A block is always decoded to its end, since the table belongs to the connection. Results are module state: reading never waits, and what was read is
// taken before the next block. Never parses what it wrote: `http1/head.ts` does, and so judges targets, authorities and lengths once for both versions.

import { equals, latin1 } from "../http/bytes.ts";
import { fieldClass } from "./field-class.ts";
import type { HpackDecoder } from "./hpack-decoder.ts";
import { entryOverhead } from "./hpack-table.ts";

export const section = { request: 0, answer: 1, trailers: 2 } as const;

/** Why a section is malformed (a stream error PROTOCOL_ERROR), too large (431) or not supported (501). 0: it is good. */
export const fault = {
  none: 0,
  fieldBytes: 1,
  connectionField: 2,
  pseudoInTrailers: 3,
  pseudoAfterField: 4,
  pseudoTwice: 5,
  pseudoUnknown: 6,
  pseudoMissing: 7,
  scheme: 8,
  path: 9,
  hostAtOdds: 10,
  authority: 11,
  connect: 12,
  status: 13,
  /** The first of those that are answered rather than reset. */
  tooLarge: 14,
  tooMany: 15,
  protocol: 16,
} as const;

const sentences = [
  "",
  "a field name or value holds a byte that none may hold, or upper case (RFC 9113 8.2.1)",
  "a field that belongs to HTTP/1.1 connections (RFC 9113 8.2.2)",
  "a pseudo-header field in trailers (RFC 9113 8.1)",
  "a pseudo-header field after a regular one (RFC 9113 8.3)",
  "a pseudo-header field is repeated (RFC 9113 8.3)",
  "an unknown pseudo-header field (RFC 9113 8.3)",
  "a pseudo-header field is missing (RFC 9113 8.3.1)",
  "the scheme is neither http nor https",
  "the path is empty or does not begin with / (RFC 9113 8.3.1)",
  "host is at odds with :authority (RFC 9113 8.3.1)",
  "there is no authority (RFC 9113 8.3.1)",
  "CONNECT with :scheme or :path, or :protocol without CONNECT (RFC 9113 8.5, RFC 8441 4)",
  ":status is no status (RFC 9113 8.3.2)",
  "the header section is too large",
  "there are too many headers",
  "the :protocol is not supported; only websocket is",
];
export function explainFault(code: number): string {
  return sentences[code] ?? "the head is malformed";
}

/** What the last section was. */
export const found = {
  /** A request for a tunnel: CONNECT, plain or extended. */
  connect: false,
  websocket: false,
  /** A content-length field was there. */
  length: false,
  /** HEAD. */
  isHead: false,
  status: 0,
};

/** A block is bounded (`limits.continuations`, the listener's head), and Huffman makes at most 8/5 of it. */
const textSize = 192 * 1024;
let text: Buffer | null = null;
let regularFrom = 0;
let regularTo = 0;
/** Crumbs of cookies, already joined (RFC 9113 8.2.3). */
let crumbs: Buffer | null = null;
let crumbSize = 0;
/** Where the values of the pseudo-header fields are in `text`: from, to by class. */
const pseudoFrom = new Int32Array(16);
const pseudoTo = new Int32Array(16);
let present = 0;
const bit = (kind: number): number => 1 << kind;
const methodBit = bit(fieldClass.method);
const pathBit = bit(fieldClass.path);
const schemeBit = bit(fieldClass.scheme);
const authorityBit = bit(fieldClass.authority);
const statusBit = bit(fieldClass.status);
const protocolBit = bit(fieldClass.protocol);

/** Sizes that a caller's block may have: what decodes from it must fit the text buffer with all that may be before it. */
export const largestBlock = 72 * 1024;

/**
 * Reads the block buf[from, end). Answers a `fault` (0: good, take it), or the negative of a connection error. `maxBytes` bounds the section's size
 * (names and values).
 */
export function readSection(
  decoder: HpackDecoder,
  buf: Uint8Array,
  from: number,
  end: number,
  kind: number,
  maxBytes: number,
  maxFields: number,
): number {
  text ??= Buffer.allocUnsafeSlow(textSize);
  const out = text;
  let problem: number = fault.none;
  let at = from;
  let to = 0;
  let fields = 0;
  let seen = 0;
  let listBytes = 0;
  let hostFrom = -1;
  let hostTo = -1;
  regularFrom = -1;
  present = 0;
  crumbSize = 0;
  found.length = false;
  found.isHead = false;
  while (at < end) {
    // After a fault nothing is kept: every line overwrites the one before.
    if (problem !== fault.none) to = 0;
    at = decoder.next(buf, at, end, out, to, seen === 0);
    if (at < 0) return at;
    const written = decoder.written;
    if (written === 0) continue;
    seen++;
    const name = decoder.kind;
    listBytes += decoder.nameSize + decoder.valueSize + entryOverhead;
    if (problem !== fault.none) continue;
    if (listBytes - seen * entryOverhead > maxBytes) {
      problem = fault.tooLarge;
      continue;
    }
    if (name >= fieldClass.pseudo) {
      if (kind === section.trailers) problem = fault.pseudoInTrailers;
      else if (regularFrom >= 0) problem = fault.pseudoAfterField;
      else if (name === fieldClass.unknownPseudo || (name === fieldClass.status) !== (kind === section.answer))
        problem = fault.pseudoUnknown;
      else if ((present & bit(name)) !== 0) problem = fault.pseudoTwice;
      present |= bit(name);
      pseudoFrom[name] = decoder.valueFrom;
      pseudoTo[name] = decoder.valueFrom + decoder.valueSize;
      // Noted at once: an answer to a head with a fault must not have a body either.
      if (name === fieldClass.method) found.isHead = pseudoIs(out, name, words.head);
      to += written;
      continue;
    }
    if (regularFrom < 0) regularFrom = to;
    switch (name) {
      case fieldClass.plain:
        break;
      case fieldClass.contentLength:
        found.length = true;
        break;
      case fieldClass.malformed:
        problem = fault.fieldBytes;
        continue;
      case fieldClass.connection:
        problem = fault.connectionField;
        continue;
      case fieldClass.host:
        if (hostFrom >= 0) problem = fault.hostAtOdds;
        hostFrom = decoder.valueFrom;
        hostTo = hostFrom + decoder.valueSize;
        if (kind === section.request && (present & authorityBit) !== 0) {
          // 8.3.1: it says what :authority says, or the request is ambiguous. Compared now, as its line is overwritten.
          if (!sameHost(out, hostFrom, hostTo)) problem = fault.hostAtOdds;
          continue;
        }
        break;
      case fieldClass.cookie:
        if (kind === section.request) {
          addCrumb(out, decoder.valueFrom, decoder.valueSize);
          continue;
        }
        break;
    }
    if (++fields > maxFields) {
      problem = fault.tooMany;
      continue;
    }
    to += written;
  }
  if (regularFrom < 0) regularFrom = to;
  regularTo = to;
  if (problem !== fault.none || kind === section.trailers) return problem;
  return kind === section.request ? checkRequest(out, hostFrom >= 0 && hostTo > hostFrom) : checkAnswer(out);
}

function sameHost(out: Buffer, from: number, to: number): boolean {
  const start = pseudoFrom[fieldClass.authority] as number;
  if (to - from !== (pseudoTo[fieldClass.authority] as number) - start) return false;
  for (let i = 0; i < to - from; i++) {
    const a = out[from + i] as number;
    const b = out[start + i] as number;
    // Host names are case-insensitive (RFC 3986 3.2.2).
    if (a !== b && ((a ^ b) !== 32 || (a | 32) < 97 || (a | 32) > 122)) return false;
  }
  return true;
}

function addCrumb(out: Buffer, from: number, size: number): void {
  // All crumbs together are within the head's size, which fits.
  crumbs ??= Buffer.allocUnsafeSlow(textSize);
  if (crumbSize > 0) {
    crumbs[crumbSize++] = 59;
    crumbs[crumbSize++] = 32;
  }
  out.copy(crumbs, crumbSize, from, from + size);
  crumbSize += size;
}

const words = {
  head: latin1("HEAD"),
  http: latin1("http"),
  https: latin1("https"),
  connect: latin1("CONNECT"),
  options: latin1("OPTIONS"),
  websocket: latin1("websocket"),
};

function pseudoIs(out: Buffer, kind: number, word: Uint8Array): boolean {
  return equals(out, pseudoFrom[kind] as number, pseudoTo[kind] as number, word);
}

/** 8.3.1, 8.5, and RFC 8441 section 4. */
function checkRequest(out: Buffer, host: boolean): number {
  found.websocket = false;
  found.connect = false;
  if ((present & methodBit) === 0 || pseudoFrom[fieldClass.method] === pseudoTo[fieldClass.method]) return fault.pseudoMissing;
  const authority = (present & authorityBit) !== 0;
  if (authority && pseudoFrom[fieldClass.authority] === pseudoTo[fieldClass.authority]) return fault.authority;
  const isConnect = pseudoIs(out, fieldClass.method, words.connect);
  const extended = (present & protocolBit) !== 0;
  if (isConnect && !extended) {
    if ((present & (schemeBit | pathBit)) !== 0) return fault.connect;
    if (!authority) return fault.authority;
    found.connect = true;
    return fault.none;
  }
  if (extended && !isConnect) return fault.connect;
  if ((present & schemeBit) === 0 || (present & pathBit) === 0) return fault.pseudoMissing;
  if (!pseudoIs(out, fieldClass.scheme, words.http) && !pseudoIs(out, fieldClass.scheme, words.https)) return fault.scheme;
  const pathFrom = pseudoFrom[fieldClass.path] as number;
  const pathTo = pseudoTo[fieldClass.path] as number;
  if (pathFrom === pathTo) return fault.path;
  if (out[pathFrom] !== 47 && !(out[pathFrom] === 42 && pathTo - pathFrom === 1 && pseudoIs(out, fieldClass.method, words.options)))
    return fault.path;
  if (!authority && !host) return fault.authority;
  if (extended) {
    if (!authority) return fault.authority;
    if (!pseudoIs(out, fieldClass.protocol, words.websocket)) return fault.protocol;
    found.websocket = true;
    found.connect = true;
  }
  return fault.none;
}

function checkAnswer(out: Buffer): number {
  if ((present & statusBit) === 0) return fault.pseudoMissing;
  const from = pseudoFrom[fieldClass.status] as number;
  if ((pseudoTo[fieldClass.status] as number) - from !== 3) return fault.status;
  let status = 0;
  for (let i = 0; i < 3; i++) {
    const digit = (out[from + i] as number) - 48;
    if (digit < 0 || digit > 9) return fault.status;
    status = status * 10 + digit;
  }
  // 8.6: 101 does not exist here.
  if (status < 100 || status === 101) return fault.status;
  found.status = status;
  return fault.none;
}

// ---- taking what was read ------------------------------------------------------------------------------------------------------------

const pieces = {
  get: latin1("GET"),
  version: latin1(" HTTP/1.1\r\n"),
  host: latin1("Host: "),
  crlf: latin1("\r\n"),
  cookie: latin1("cookie: "),
  answer: latin1("HTTP/1.1 "),
  answerEnd: latin1(" \r\n"),
  upgrade: latin1("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
  key: latin1("Sec-WebSocket-Key: "),
};
const keySize = 24;

let made: Buffer;
let cursor = 0;

/** Heads lie one behind the other in slabs: a buffer for each would be a fifth of a small call's memory traffic. A slab lives as long as the last request in it. */
const slabSize = 16_384;
/** Larger ones get a buffer of their own, so that one long request does not hold a slab for its neighbours' sake. */
const largestShared = 2_048;
let slab: Buffer | null = null;
let slabAt = 0;

/** Sets `made` and `cursor` to `size` free bytes. */
function makeRoom(size: number): void {
  if (size > largestShared) {
    made = Buffer.allocUnsafeSlow(size);
    cursor = 0;
  } else {
    if (slab === null || slabAt + size > slabSize) {
      slab = Buffer.allocUnsafeSlow(slabSize);
      slabAt = 0;
    }
    made = slab;
    cursor = slabAt;
    slabAt += size;
  }
  headFrom = cursor;
}

function put(bytes: Uint8Array, from: number, to: number): void {
  for (let i = from; i < to; i++) made[cursor++] = bytes[i] as number;
}

function putAll(bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) made[cursor++] = bytes[i] as number;
}

/** What `takeRequest`, `takeAnswer` and `takeTrailers` made is [headFrom, headTo) of the buffer they answer; the room behind it is for the caller. */
export let headFrom = 0;
export let headTo = 0;

/** The request as an HTTP/1.1 head, with room for `extra` bytes after it. `random` makes the key of a WebSocket. */
export function takeRequest(extra: number, random: () => number): Buffer {
  const source = text as Buffer;
  const authority = (present & authorityBit) !== 0;
  const target = found.connect && !found.websocket ? fieldClass.authority : fieldClass.path;
  const methodFrom = pseudoFrom[fieldClass.method] as number;
  const methodTo = pseudoTo[fieldClass.method] as number;
  const targetFrom = pseudoFrom[target] as number;
  const targetTo = pseudoTo[target] as number;
  const authorityFrom = pseudoFrom[fieldClass.authority] as number;
  const authorityTo = pseudoTo[fieldClass.authority] as number;
  let size = methodTo - methodFrom + 1 + targetTo - targetFrom + pieces.version.length + regularTo - regularFrom + 2;
  if (authority) size += pieces.host.length + authorityTo - authorityFrom + 2;
  if (crumbSize > 0) size += pieces.cookie.length + crumbSize + 2;
  // The key of HTTP/1.1 has no place in HTTP/2 (RFC 8441 section 5), but the next hop may be HTTP/1.1.
  const key = found.websocket && !source.subarray(regularFrom, regularTo).includes("sec-websocket-key:");
  if (found.websocket) size += pieces.upgrade.length;
  if (key) size += pieces.key.length + keySize + 2;
  makeRoom(size + extra);
  if (found.websocket) putAll(pieces.get);
  else put(source, methodFrom, methodTo);
  made[cursor++] = 32;
  put(source, targetFrom, targetTo);
  putAll(pieces.version);
  if (authority) {
    putAll(pieces.host);
    put(source, authorityFrom, authorityTo);
    putAll(pieces.crlf);
  }
  putFields(source);
  if (crumbSize > 0) {
    putAll(pieces.cookie);
    cursor += (crumbs as Buffer).copy(made, cursor, 0, crumbSize);
    putAll(pieces.crlf);
  }
  if (found.websocket) putAll(pieces.upgrade);
  if (key) {
    putAll(pieces.key);
    // RFC 6455 4.1: sixteen random bytes in base64; a nonce.
    const nonce = Buffer.alloc(16);
    for (let i = 0; i < 16; i++) nonce[i] = Math.floor(random() * 256);
    cursor += made.write(nonce.toString("base64"), cursor, "latin1");
    putAll(pieces.crlf);
  }
  putAll(pieces.crlf);
  headTo = cursor;
  return made;
}

/** The answer as an HTTP/1.1 head, likewise. */
export function takeAnswer(extra: number): Buffer {
  const source = text as Buffer;
  makeRoom(pieces.answer.length + 3 + pieces.answerEnd.length + regularTo - regularFrom + 2 + extra);
  putAll(pieces.answer);
  const status = pseudoFrom[fieldClass.status] as number;
  put(source, status, status + 3);
  putAll(pieces.answerEnd);
  putFields(source);
  putAll(pieces.crlf);
  headTo = cursor;
  return made;
}

/** The lines of a trailer section, without the empty line. */
export function takeTrailers(): Buffer {
  makeRoom(regularTo - regularFrom);
  putFields(text as Buffer);
  headTo = cursor;
  return made;
}

function putFields(source: Buffer): void {
  if (regularTo - regularFrom <= 64) put(source, regularFrom, regularTo);
  else cursor += source.copy(made, cursor, regularFrom, regularTo);
}

/** The size of the section that was read last, roughly: for deciding what else to put behind it. */
export function sectionSize(): number {
  return regularTo + crumbSize + 256;
}
