// Owns: building outgoing heads into the scratch buffer by copying byte ranges of the incoming head (rule 3: no strings, one write).
// Fields that are kept stay in their order and spelling; neighbours are copied in one go.

import { equals, latin1 } from "../http/bytes.ts";
import { reasonPhrase } from "../http/failure.ts";
import { scratch } from "../net/outbox.ts";
import type { CompiledEdits } from "../route/edit.ts";
import { field, form, type Head } from "./head.ts";

const requestVersion = latin1(" HTTP/1.1\r\n");
const answerVersion = latin1("HTTP/1.1");
const hostName = latin1("Host: ");
const crlf = latin1("\r\n");
const requestIdName = latin1("x-request-id: ");
const connectionUpgrade = latin1("Connection: Upgrade\r\n");
const connectionClose = latin1("Connection: close\r\n");
const connectionKeep = latin1("Connection: keep-alive\r\n");
const transferChunked = latin1("Transfer-Encoding: chunked\r\n");
const noLength = latin1("Content-Length: 0\r\n");
const slash = latin1("/");
const asterisk = latin1("*");
const optionsName = latin1("OPTIONS");
const takesTrailers = latin1("TE: trailers\r\nConnection: TE\r\n");
/** `1`, the minor version that we write. */
const ourMinor = 49;

/** What is to be different about a forwarded request. One object, reused. */
export class RequestPlan {
  edits: CompiledEdits | null = null;
  /** The whole target path with query in its new form; null = as it came. */
  path: Uint8Array | null = null;
  pathSize = 0;
  /** Replaces Host. */
  host: Uint8Array | null = null;
  /** Random words of a new x-request-id; `addId` false = none is added. */
  addId = false;
  id0 = 0;
  id1 = 0;
  id2 = 0;
  id3 = 0;
  keepUpgrade = false;
  /** A whole Via line to add; null = none. */
  viaLine: Uint8Array | null = null;
  /** More whole lines to add; null = none. */
  lines: Uint8Array | null = null;
  /** The body comes without framing or length, so the head announces chunks. */
  addChunks = false;
  /** Our client takes trailer fields, and so can we (RFC 9110 10.1.4). */
  takesTrailers = false;
}

// The run of source bytes that waits to be copied, and where the next byte goes. Module state, as the builders are never re-entered.
let source: Uint8Array = scratch;
let runFrom = 0;
let runTo = 0;
let cursor = 0;

function keep(from: number, to: number): void {
  if (from !== runTo) {
    flush();
    runFrom = from;
  }
  runTo = to;
}

function flush(): void {
  if (runTo > runFrom) cursor = copy(source, runFrom, runTo, cursor);
  runFrom = 0;
  runTo = 0;
}

/** Copies to the scratch buffer and returns the new position. Short ranges by hand: a native call costs more than 32 bytes do. */
function copy(bytes: Uint8Array, from: number, to: number, at: number): number {
  if (to - from <= 32) {
    for (let i = from; i < to; i++) scratch[at++] = bytes[i] as number;
    return at;
  }
  (bytes as Buffer).copy(scratch, at, from, to);
  return at + to - from;
}

function put(constant: Uint8Array): void {
  flush();
  const size = constant.length;
  for (let i = 0; i < size; i++) scratch[cursor + i] = constant[i] as number;
  cursor += size;
}

/** Writes the request head to the scratch buffer; returns its size. `bytes` must be the Buffer the head was parsed from. */
export function writeRequest(bytes: Uint8Array, head: Head, plan: RequestPlan): number {
  source = bytes;
  runFrom = 0;
  runTo = 0;
  cursor = 0;
  const absolute = head.form === form.absolute;
  if (plan.path !== null || absolute || bytes[head.targetTo + 8] !== ourMinor) {
    keep(head.from, head.methodTo + 1);
    if (plan.path !== null) {
      flush();
      cursor = plan.pathSize <= 32 ? copy(plan.path, 0, plan.pathSize, cursor) : putLong(plan.path, plan.pathSize);
    } else {
      // RFC 9110 7.1: an empty path becomes `/`, also before a query; RFC 9112 3.2.4: but `*` for OPTIONS.
      if (head.pathFrom === head.pathTo) put(equals(bytes, head.from, head.methodTo, optionsName) ? asterisk : slash);
      else if (bytes[head.pathFrom] === 63) put(slash);
      keep(head.pathFrom, head.pathTo);
    }
    put(requestVersion);
  } else keep(head.from, head.targetTo + requestVersion.length);
  const host = plan.host;
  // RFC 9112 3.2.2: the authority of an absolute target replaces Host.
  const replaceHost = host !== null || absolute;
  if (host !== null) {
    put(hostName);
    put(host);
    put(crlf);
  } else if (absolute) {
    put(hostName);
    keep(head.authorityFrom, head.authorityTo);
    put(crlf);
  }
  const edits = plan.edits;
  const last = head.count - 1;
  const end = head.to - 2;
  for (let i = 0; i <= last; i++) {
    const kind = head.kind[i] as number;
    if (kind >= field.dropFrom || (replaceHost && kind === field.host)) continue;
    keep(head.nameFrom[i] as number, i === last ? end : (head.nameFrom[i + 1] as number));
  }
  if (plan.addId) {
    put(requestIdName);
    cursor = putUuid(scratch, cursor, plan.id0, plan.id1, plan.id2, plan.id3);
    put(crlf);
  }
  if (plan.keepUpgrade) {
    put(connectionUpgrade);
    const i = head.upgrade;
    keep(head.nameFrom[i] as number, i === last ? end : (head.nameFrom[i + 1] as number));
  } else if (plan.takesTrailers) put(takesTrailers);
  if (plan.viaLine !== null) put(plan.viaLine);
  if (plan.lines !== null) put(plan.lines);
  // From HTTP/2: an HTTP/1 head that was chunked says so itself.
  if (plan.addChunks && !head.chunked) put(transferChunked);
  if (edits !== null && edits.append.length > 0) {
    flush();
    scratch.set(edits.append, cursor);
    cursor += edits.append.length;
  }
  put(crlf);
  return cursor;
}

/** What the downstream connection is told. */
export const persistence = { silent: 0, close: 1, keepAlive: 2, upgrade: 3 } as const;

/** `HTTP/1.1 200 ` */
const bareLine = 13;
const reasons = new Map<number, Uint8Array>();

/** ` PHRASE CRLF`; the space alone where we know no phrase. */
function reasonBytes(status: number): Uint8Array {
  let bytes = reasons.get(status);
  if (bytes === undefined) {
    bytes = latin1(` ${reasonPhrase(status)}\r\n`);
    reasons.set(status, bytes);
  }
  return bytes;
}

/** What an HTTP/2 answer's head lacks for HTTP/1. */
export const lacks = { nothing: 0, chunks: 1, length: 2 } as const;

/** Writes the head of an answer to the scratch buffer; returns its size. `dropFraming`: the chunked coding was undone. `missing`: one of `lacks`. */
export function writeAnswer(
  bytes: Uint8Array,
  head: Head,
  edits: CompiledEdits | null,
  connection: number,
  keepReason: boolean,
  dropFraming: boolean,
  missing: number,
  viaLine: Uint8Array | null,
  lines: Uint8Array | null = null,
): number {
  source = bytes;
  runFrom = 0;
  runTo = 0;
  cursor = 0;
  if (head.lineTo - head.from <= bareLine) {
    // HTTP/2 has no reason phrase, and some clients of HTTP/1 do not read a line without one, or without the space before it (RFC 9112 4).
    put(answerVersion);
    keep(head.from + 8, head.from + bareLine - 1);
    put(reasonBytes(head.status));
  } else if (bytes[head.from + 7] === ourMinor) keep(head.from, head.lineTo + 2);
  else {
    put(answerVersion);
    keep(head.from + 8, head.lineTo + 2);
  }
  // RFC 9110 8.6, RFC 9112 6.1: neither has a body, and there are readers that believe the length.
  const noContent = head.status < 200 || head.status === 204;
  const last = head.count - 1;
  const end = head.to - 2;
  for (let i = 0; i <= last; i++) {
    const kind = head.kind[i] as number;
    if (kind >= field.dropFrom && !(keepReason && kind === field.reason)) continue;
    if (kind !== field.plain && (noContent || dropFraming) && isFraming(kind, noContent)) continue;
    keep(head.nameFrom[i] as number, i === last ? end : (head.nameFrom[i + 1] as number));
  }
  if (viaLine !== null) put(viaLine);
  if (lines !== null) put(lines);
  if (missing === lacks.chunks) put(transferChunked);
  else if (missing === lacks.length) put(noLength);
  if (connection === persistence.close) put(connectionClose);
  else if (connection === persistence.keepAlive) put(connectionKeep);
  else if (connection === persistence.upgrade) {
    put(connectionUpgrade);
    const i = head.upgrade;
    if (i >= 0) keep(head.nameFrom[i] as number, i === last ? end : (head.nameFrom[i + 1] as number));
  }
  if (edits !== null && edits.append.length > 0) {
    flush();
    scratch.set(edits.append, cursor);
    cursor += edits.append.length;
  }
  put(crlf);
  return cursor;
}

/** Fields that go with the chunked coding, and with a body that there is not. */
function isFraming(kind: number, noContent: boolean): boolean {
  return kind === field.transferEncoding || kind === field.trailer || (noContent && kind === field.contentLength);
}

function putLong(bytes: Uint8Array, size: number): number {
  scratch.set(size === bytes.length ? bytes : bytes.subarray(0, size), cursor);
  return cursor + size;
}

const hex = latin1("0123456789abcdef");

/** A version 4 UUID (RFC 9562 5.4) from four random 32-bit words; returns the position after it. */
export function putUuid(out: Uint8Array, from: number, a: number, b: number, c: number, d: number): number {
  let at = putHex(out, from, a, 8);
  out[at++] = 45;
  at = putHex(out, at, b >>> 16, 4);
  out[at++] = 45;
  at = putHex(out, at, (b & 0x0fff) | 0x4000, 4);
  out[at++] = 45;
  at = putHex(out, at, ((c >>> 16) & 0x3fff) | 0x8000, 4);
  out[at++] = 45;
  at = putHex(out, at, c & 0xffff, 4);
  return putHex(out, at, d, 8);
}

function putHex(out: Uint8Array, from: number, word: number, digits: number): number {
  for (let i = 0; i < digits; i++) out[from + i] = hex[(word >>> ((digits - 1 - i) * 4)) & 15] as number;
  return from + digits;
}
