// Owns: writing the heads of HTTP/1.1 text as header blocks, with the same rules of what is dropped, edited and added as `http1/write.ts` has (RFC 9110
// 7.6.1, RFC 9113 8.2.2 and 8.3). Writes through an encoder that was begun; never frames.

import { equals, equalsIgnoreCase, latin1 } from "../http/bytes.ts";
import type { AnswerPlan } from "../http/halves.ts";
import { field, form, type Head } from "../http1/head.ts";
import { putUuid, type RequestPlan } from "../http1/write.ts";
import type { CompiledEdits } from "../route/edit.ts";
import { type HpackEncoder, staticIndex } from "./hpack-encoder.ts";

const get = latin1("get");
const post = latin1("post");
const connect = latin1("CONNECT");
const websocket = latin1("websocket");
const slash = latin1("/");
const asterisk = latin1("*");
const options = latin1("OPTIONS");
const teTrailers = latin1("te: trailers");
const protocolName = latin1(":protocol: websocket");
const requestId = latin1("x-request-id: 00000000-0000-0000-0000-000000000000");
const requestIdName = 12;
const webSocketKey = latin1("sec-websocket-key");
const webSocketAccept = latin1("sec-websocket-accept");
const trailersWord = latin1("trailers");

/** How many bytes a head's block takes at most: a line `n: v CRLF` has four bytes more than name and value, a literal at most seven; the rest is for pseudo-header fields and what a proxy adds (Via, an id). */
export function roomFor(head: Head, edits: CompiledEdits | null, extra: number): number {
  return head.to - head.from + 4 * head.count + 384 + extra + (edits === null ? 0 : edits.append.length * 2);
}

export function roomForRequest(head: Head, plan: RequestPlan): number {
  const via = plan.viaLine === null ? 0 : plan.viaLine.length * 2;
  const lines = plan.lines === null ? 0 : plan.lines.length * 2;
  return roomFor(head, plan.edits, plan.pathSize + (plan.host === null ? 0 : plan.host.length) + via + lines + 64);
}

export function roomForAnswer(head: Head, how: AnswerPlan): number {
  const lines = how.lines === null ? 0 : how.lines.length * 2;
  return roomFor(head, how.edits, lines + (how.viaLine === null ? 0 : how.viaLine.length * 2));
}

/** A value that came without a space after the colon was never to be indexed (hpack-decoder.ts). */
function isNever(head: Head, i: number): boolean {
  return (head.valueFrom[i] as number) - (head.nameTo[i] as number) === 1;
}

function putField(encoder: HpackEncoder, bytes: Uint8Array, head: Head, i: number): void {
  encoder.field(
    bytes,
    head.nameFrom[i] as number,
    head.nameTo[i] as number,
    head.valueFrom[i] as number,
    head.valueTo[i] as number,
    isNever(head, i),
  );
}

/** Complete lines, each `name: value CRLF`; a value may be empty. */
export function putLines(encoder: HpackEncoder, bytes: Uint8Array, from: number, to: number): void {
  let at = from;
  while (at < to) {
    const nameFrom = at;
    while (at < to && bytes[at] !== 58) at++;
    const nameTo = at++;
    while (at < to && (bytes[at] === 32 || bytes[at] === 9)) at++;
    const valueFrom = at;
    while (at < to && bytes[at] !== 13) at++;
    let valueTo = at;
    while (valueTo > valueFrom && (bytes[valueTo - 1] === 32 || bytes[valueTo - 1] === 9)) valueTo--;
    encoder.field(bytes, nameFrom, nameTo, valueFrom, valueTo, valueFrom - nameTo === 1);
    at += 2;
  }
}

/** What a trailer section's lines take at most. */
export function roomForLines(from: number, to: number): number {
  return (to - from) * 2 + 64;
}

/** A request. `extended`: it becomes an extended CONNECT (RFC 8441 section 5). */
export function putRequest(
  encoder: HpackEncoder,
  bytes: Uint8Array,
  head: Head,
  plan: RequestPlan,
  secure: boolean,
  extended: boolean,
): void {
  const methodFrom = head.from;
  const methodTo = head.methodTo;
  const isConnect = head.form === form.authority;
  if (extended) encoder.pseudo(2, connect, 0, connect.length);
  else if (equalsIgnoreCase(bytes, methodFrom, methodTo, get)) encoder.indexed(staticIndex.methodGet);
  else if (equalsIgnoreCase(bytes, methodFrom, methodTo, post)) encoder.indexed(staticIndex.methodPost);
  else encoder.pseudo(2, bytes, methodFrom, methodTo);
  if (!isConnect) {
    encoder.indexed(secure ? staticIndex.schemeHttps : staticIndex.schemeHttp);
    if (plan.path !== null) putPath(encoder, plan.path, 0, plan.pathSize);
    else if (head.pathFrom === head.pathTo && equals(bytes, methodFrom, methodTo, options)) encoder.pseudo(4, asterisk, 0, 1);
    else putPath(encoder, bytes, head.pathFrom, head.pathTo);
  }
  if (plan.host !== null) encoder.pseudo(staticIndex.authority, plan.host, 0, plan.host.length);
  else if (head.authorityTo > head.authorityFrom) encoder.pseudo(staticIndex.authority, bytes, head.authorityFrom, head.authorityTo);
  if (extended) encoder.field(protocolName, 0, 9, 11, protocolName.length, false);
  const count = head.count;
  for (let i = 0; i < count; i++) {
    const kind = head.kind[i] as number;
    if (kind >= field.dropFrom) {
      // RFC 9113 8.2.2: the one value that may stand; gRPC servers look for it, and we do pass trailers on.
      if (kind === field.te && namesTrailers(bytes, head.valueFrom[i] as number, head.valueTo[i] as number))
        encoder.field(teTrailers, 0, 2, 4, teTrailers.length, false);
      continue;
    }
    if (kind === field.host || kind === field.transferEncoding) continue;
    if (extended && equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, webSocketKey)) continue;
    putField(encoder, bytes, head, i);
  }
  if (plan.addId) {
    putUuid(requestId, requestIdName + 2, plan.id0, plan.id1, plan.id2, plan.id3);
    encoder.field(requestId, 0, requestIdName, requestIdName + 2, requestId.length, false);
  }
  if (plan.viaLine !== null) putLines(encoder, plan.viaLine, 0, plan.viaLine.length);
  if (plan.lines !== null) putLines(encoder, plan.lines, 0, plan.lines.length);
  if (plan.edits !== null) putLines(encoder, plan.edits.append, 0, plan.edits.append.length);
}

function putPath(encoder: HpackEncoder, bytes: Uint8Array, from: number, to: number): void {
  if (to - from <= 1 && (from === to || bytes[from] === 47)) {
    encoder.indexed(staticIndex.pathRoot);
    return;
  }
  // RFC 9110 7.1: an empty path becomes `/`, also before a query.
  if (bytes[from] === 63) {
    const whole = new Uint8Array(to - from + 1);
    whole[0] = slash[0] as number;
    whole.set(bytes.subarray(from, to), 1);
    encoder.pseudo(4, whole, 0, whole.length);
    return;
  }
  encoder.pseudo(4, bytes, from, to);
}

function namesTrailers(bytes: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; ) {
    let end = at;
    while (end < to && bytes[end] !== 44) end++;
    let last = end;
    while (at < last && (bytes[at] === 32 || bytes[at] === 9)) at++;
    while (last > at && (bytes[last - 1] === 32 || bytes[last - 1] === 9)) last--;
    if (equalsIgnoreCase(bytes, at, last, trailersWord)) return true;
    at = end + 1;
  }
  return false;
}

/** Is the Upgrade of this head `websocket`? */
export function upgradesToWebSocket(bytes: Uint8Array, head: Head): boolean {
  const i = head.upgrade;
  return i >= 0 && equalsIgnoreCase(bytes, head.valueFrom[i] as number, head.valueTo[i] as number, websocket);
}

export function putStatus(encoder: HpackEncoder, status: number): void {
  switch (status) {
    case 200:
      encoder.indexed(8);
      return;
    case 204:
      encoder.indexed(9);
      return;
    case 206:
      encoder.indexed(10);
      return;
    case 304:
      encoder.indexed(11);
      return;
    case 400:
      encoder.indexed(12);
      return;
    case 404:
      encoder.indexed(13);
      return;
    case 500:
      encoder.indexed(14);
      return;
    default:
      digits[0] = 48 + Math.floor(status / 100);
      digits[1] = 48 + (Math.floor(status / 10) % 10);
      digits[2] = 48 + (status % 10);
      encoder.pseudo(8, digits, 0, 3);
  }
}
const digits = new Uint8Array(3);

/** An interim or final answer. `how` null: only what belongs to the connection is dropped. `tunnel`: it opens one (RFC 8441 section 5). */
export function putAnswer(encoder: HpackEncoder, bytes: Uint8Array, head: Head, how: AnswerPlan | null, tunnel: boolean): void {
  putStatus(encoder, tunnel ? 200 : head.status);
  const keepReason = how?.keepReason === true;
  // RFC 9110 8.6: 1xx and 204 have no content, and so no length.
  const noLength = tunnel || head.status < 200 || head.status === 204;
  const count = head.count;
  for (let i = 0; i < count; i++) {
    const kind = head.kind[i] as number;
    if (kind >= field.dropFrom && !(keepReason && kind === field.reason)) continue;
    if (kind === field.transferEncoding) continue;
    if (noLength && kind === field.contentLength) continue;
    if (tunnel && equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, webSocketAccept)) continue;
    putField(encoder, bytes, head, i);
  }
  const via = how === null ? null : how.viaLine;
  if (via !== null) putLines(encoder, via, 0, via.length);
  const lines = how === null ? null : how.lines;
  if (lines !== null) putLines(encoder, lines, 0, lines.length);
  const edits = how === null ? null : how.edits;
  if (edits !== null) putLines(encoder, edits.append, 0, edits.append.length);
}

/** A reply of our own: everything but what belongs to a connection. */
export function putReply(encoder: HpackEncoder, bytes: Uint8Array, head: Head): void {
  putStatus(encoder, head.status);
  for (let i = 0; i < head.count; i++) {
    const kind = head.kind[i] as number;
    // Our own reason and not-delivered fields are what a reply is made of; they may leave from here.
    if (kind >= field.dropFrom && kind !== field.reason && kind !== field.notDelivered) continue;
    if (kind === field.transferEncoding) continue;
    putField(encoder, bytes, head, i);
  }
}
