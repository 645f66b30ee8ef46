// Owns: reading the ClientHello that opens a TLS connection (RFC 8446 4.1.2, in records of 5.1): server name, ALPN, newest version. Nothing is
// consumed: whoever terminates or forwards the connection gets the same bytes. Must never decide trust: all of it is the client's claim.

import { netLimits } from "./limits.ts";

export const helloFault = { notTls: -1, malformed: -2, tooLarge: -3 } as const;

/** What one ClientHello says; reused from call to call. */
export class ClientHello {
  /** Lower case; empty: none was sent. */
  serverName = "";
  /** In the client's order. */
  alpn: string[] = [];
  /** The newest version offered, as on the wire: 0x0304 is TLS 1.3. */
  version = 0;
}

const handshakeRecord = 22;
const clientHelloType = 1;
/** RFC 8446 5.1: the length of a plain record. */
const largestRecord = 16_384;

/** Could bytes[from, to) open a TLS connection? 1 yes (six bytes are enough), 0 too short to tell, negative no. */
export function startsTls(bytes: Uint8Array, from: number, to: number): number {
  const size = to - from;
  if (size > 0 && bytes[from] !== handshakeRecord) return helloFault.notTls;
  // Every version's records say major 3.
  if (size > 1 && bytes[from + 1] !== 3) return helloFault.notTls;
  if (size > 2 && (bytes[from + 2] as number) > 4) return helloFault.notTls;
  if (size < 6) return 0;
  const length = u16(bytes, from + 3);
  if (length < 4 || length > largestRecord) return helloFault.notTls;
  return bytes[from + 5] === clientHelloType ? 1 : helloFault.notTls;
}

/**
 * Reads the ClientHello in bytes[from, to). Positive: the bytes of its records, and `hello` is filled; zero: more is needed; negative: a `helloFault`.
 * Bounded: more than `netLimits.clientHelloBytes` is refused as soon as the length is announced.
 */
export function parseClientHello(bytes: Uint8Array, from: number, to: number, hello: ClientHello): number {
  const start = startsTls(bytes, from, to);
  if (start <= 0) return start;
  if (to - from < 9) return 0;
  const size = 4 + u24(bytes, from + 6);
  if (size > netLimits.clientHelloBytes) return helloFault.tooLarge;
  const first = u16(bytes, from + 3);
  if (size <= first) {
    const at = from + 5;
    if (to < at + size) return 0;
    return readHello(bytes, at + 4, at + size, hello) ? 5 + first : helloFault.malformed;
  }
  return parseSplit(bytes, from, to, size, hello);
}

/** A message that spans records (RFC 8446 5.1 allows it; some clients do it to pass middleboxes): put together in a buffer of its own. */
function parseSplit(bytes: Uint8Array, from: number, to: number, size: number, hello: ClientHello): number {
  const message = new Uint8Array(size);
  let filled = 0;
  let at = from;
  while (filled < size) {
    if (at - from > 2 * netLimits.clientHelloBytes) return helloFault.tooLarge;
    if (to - at < 5) return 0;
    const length = u16(bytes, at + 3);
    if (bytes[at] !== handshakeRecord || bytes[at + 1] !== 3 || length === 0 || length > largestRecord) return helloFault.malformed;
    const part = Math.min(length, size - filled);
    if (to - at - 5 < part) return 0;
    message.set(bytes.subarray(at + 5, at + 5 + part), filled);
    filled += part;
    at += 5 + length;
  }
  return readHello(message, 4, size, hello) ? at - from : helloFault.malformed;
}

/** The body of the message in [at, end). */
function readHello(bytes: Uint8Array, from: number, end: number, hello: ClientHello): boolean {
  hello.serverName = "";
  hello.alpn = [];
  let at = from + 34;
  if (at >= end) return false;
  hello.version = u16(bytes, from);
  const session = bytes[at] as number;
  if (session > 32) return false;
  at += 1 + session;
  if (at + 2 > end) return false;
  const ciphers = u16(bytes, at);
  if (ciphers === 0 || ciphers % 2 !== 0) return false;
  at += 2 + ciphers;
  if (at >= end || bytes[at] === 0) return false;
  at += 1 + (bytes[at] as number);
  // Without extensions: TLS 1.2 and before.
  if (at === end) return true;
  if (at + 2 > end || at + 2 + u16(bytes, at) !== end) return false;
  at += 2;
  while (at < end) {
    if (at + 4 > end) return false;
    const type = u16(bytes, at);
    const to = at + 4 + u16(bytes, at + 2);
    if (to > end) return false;
    if (type === 0 && !readServerName(bytes, at + 4, to, hello)) return false;
    if (type === 16 && !readAlpn(bytes, at + 4, to, hello)) return false;
    if (type === 43 && !readVersions(bytes, at + 4, to, hello)) return false;
    at = to;
  }
  return true;
}

/** RFC 6066 section 3: one host name. */
function readServerName(bytes: Uint8Array, at: number, to: number, hello: ClientHello): boolean {
  if (hello.serverName !== "" || to - at < 6 || at + 2 + u16(bytes, at) !== to || bytes[at + 2] !== 0) return false;
  if (at + 5 + u16(bytes, at + 3) !== to || to - at - 5 > 255) return false;
  let name = "";
  for (let i = at + 5; i < to; i++) {
    let byte = bytes[i] as number;
    if (byte >= 65 && byte <= 90) byte += 32;
    // Letters, digits, "-", "." and the "_" of the mesh's own names: anything else would be an attempt to look like another name in a log.
    const fine = (byte >= 97 && byte <= 122) || (byte >= 48 && byte <= 57) || byte === 45 || byte === 46 || byte === 95;
    if (!fine) return false;
    name += String.fromCharCode(byte);
  }
  hello.serverName = name;
  return true;
}

/** RFC 7301 section 3.1. */
function readAlpn(bytes: Uint8Array, from: number, to: number, hello: ClientHello): boolean {
  if (to - from < 4 || from + 2 + u16(bytes, from) !== to || hello.alpn.length > 0) return false;
  for (let at = from + 2; at < to; ) {
    const end = at + 1 + (bytes[at] as number);
    if (end === at + 1 || end > to) return false;
    let name = "";
    for (let i = at + 1; i < end; i++) name += String.fromCharCode(bytes[i] as number);
    hello.alpn.push(name);
    at = end;
  }
  return true;
}

/** RFC 8446 4.2.1; GREASE values (RFC 8701) are passed over. */
function readVersions(bytes: Uint8Array, at: number, to: number, hello: ClientHello): boolean {
  if (to - at < 3 || at + 1 + (bytes[at] as number) !== to || (to - at) % 2 === 0) return false;
  let newest = 0;
  for (let i = at + 1; i < to; i += 2) {
    const version = u16(bytes, i);
    if (version >= 0x0300 && version <= 0x0304 && version > newest) newest = version;
  }
  if (newest > 0) hello.version = newest;
  return true;
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function u24(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 16) | u16(bytes, at + 1);
}
