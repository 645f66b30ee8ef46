// Owns: reading an HTTP/1 head into offsets (rule 4: positive = bytes used, zero = more, negative = a reason of `limits.refusal`).
// Never keeps bytes, never makes strings, never guesses: ambiguous framing is refused with the RFC section in `limits.ts`.
// Longer than most files: one pass over the bytes is one function, and what it needs stands beside it.

import { equals, equalsIgnoreCase, fieldByte, latin1, lower, targetByte, tchar } from "../http/bytes.ts";
import { defaultLimits, type HttpLimits, limits, refusal } from "./limits.ts";

/** What a field is to a proxy. Everything from `dropFrom` on is never forwarded as it came (RFC 9110 7.6.1 and our own headers). */
export const field = {
  plain: 0,
  host: 1,
  contentLength: 2,
  requestId: 3,
  /** Forwarded as it is unless chunked must be undone. */
  transferEncoding: 4,
  expect: 5,
  /** Announces trailers (RFC 9110 6.6.2): forwarded with them; to be dropped where the chunked coding is undone (RFC 9112 7.1.2). */
  trailer: 6,
  dropFrom: 10,
  connection: 10,
  keepAlive: 11,
  proxyConnection: 12,
  te: 13,
  upgrade: 15,
  proxyAuth: 16,
  /** Our own local-reply headers: only a sidecar may set them. */
  reason: 17,
  notDelivered: 18,
  /** `x-forwarded-client-cert`: Envoy's default is to remove it, since an application may trust it. */
  clientCert: 19,
  /** Named by Connection (RFC 9110 7.6.1), or without meaning in this message. */
  nominated: 20,
  /** Removed or replaced by a route's header edits. */
  edited: 21,
} as const;

/** Every name that means something here, with what it means. No two have the same length and first letter. */
const known: readonly (readonly [string, number])[] = [
  ["te", field.te],
  ["host", field.host],
  ["expect", field.expect],
  ["trailer", field.trailer],
  ["upgrade", field.upgrade],
  ["connection", field.connection],
  ["keep-alive", field.keepAlive],
  ["x-request-id", field.requestId],
  ["x-weft-reason", field.reason],
  ["content-length", field.contentLength],
  ["proxy-connection", field.proxyConnection],
  ["transfer-encoding", field.transferEncoding],
  ["proxy-authenticate", field.proxyAuth],
  ["proxy-authorization", field.proxyAuth],
  ["x-weft-not-delivered", field.notDelivered],
  ["x-forwarded-client-cert", field.clientCert],
  ["proxy-authentication-info", field.proxyAuth],
];
const knownNames = known.map(([name]) => latin1(name));
const knownKinds = known.map(([, kind]) => kind);
/** By length and first letter: one more than the index of the only name that it can be; 0 for none. */
const candidate = new Uint8Array(32 * 32);
for (let i = 0; i < known.length; i++) {
  const name = knownNames[i] as Uint8Array;
  candidate[name.length * 32 + ((name[0] as number) & 31)] = i + 1;
}
const tokens = {
  close: latin1("close"),
  keepAlive: latin1("keep-alive"),
  upgrade: latin1("upgrade"),
  chunked: latin1("chunked"),
  continue100: latin1("100-continue"),
  trailers: latin1("trailers"),
};
/** End-to-end fields that a hop must not be talked out of by naming them in Connection (Envoy refuses the first three so, PR 8862). */
const unnameable = [latin1("x-forwarded-for"), latin1("x-forwarded-host"), latin1("x-forwarded-proto"), latin1("forwarded")];
const http = latin1("http://");
/** Lower case, and `_` as `-`: what CGI-like gateways make of a name, so that `Content_Length` is not overlooked here. */
const nameByte = lower.slice();
nameByte[95] = 45;

const CR = 13;
const LF = 10;
const SP = 32;
const HTAB = 9;
const COLON = 58;

/** Forms of a request target (RFC 9112 3.2). */
export const form = { origin: 0, absolute: 1, authority: 2, asterisk: 3 } as const;

/**
 * Offsets of one head in the bytes it was parsed from. Reused: a parse overwrites everything. Fields `nameFrom[i]..nameTo[i]` and
 * `valueFrom[i]..valueTo[i]` for i < count; `kind[i]` is one of `field`.
 */
export class Head {
  /** The bounds of the next parse; whoever shares a Head between listeners sets it before. */
  limits: HttpLimits = defaultLimits;
  count = 0;
  /** Places for fields; doubled when a head needs more, up to `limits.fields`. */
  capacity = 32;
  nameFrom = new Int32Array(32);
  nameTo = new Int32Array(32);
  valueFrom = new Int32Array(32);
  valueTo = new Int32Array(32);
  kind = new Uint8Array(32);
  /** Start of the start line. */
  from = 0;
  /** Just after the empty line. */
  to = 0;
  /** 0 or 1. */
  minor = 1;
  methodTo = 0;
  targetFrom = 0;
  targetTo = 0;
  form = 0;
  /** Where the path with its query starts; equal to `pathTo` when the target has none (absolute-form without path, CONNECT). */
  pathFrom = 0;
  pathTo = 0;
  /** The authority that decides: of an absolute or authority target, else of Host (RFC 9112 3.2.2). Empty for HTTP/1.0 without Host. */
  authorityFrom = 0;
  authorityTo = 0;
  /** Answers: 100..999, and where the start line's text ends. */
  status = 0;
  lineTo = 0;
  /** -1 = none. */
  contentLength = -1;
  chunked = false;
  close = false;
  keepAlive = false;
  /** Connection names `upgrade` and there is an Upgrade field: its index, else -1. */
  upgrade = -1;
  /** `100-continue` is expected, and the request has a body (RFC 9110 10.1.1); its field is then forwarded. */
  expectContinue = false;
  /** A body may follow that the head does not announce, as in HTTP/2. Set by the owner, once; the parser leaves it. */
  openBody = false;
  /** TE names `trailers`: the client takes trailer fields (RFC 9110 10.1.4). */
  teTrailers = false;
  /** Index of x-request-id, else -1. */
  requestId = -1;
  /** Index of x-weft-not-delivered, else -1. */
  notDelivered = -1;
  /** An Expect that is not `100-continue` alone; a Content-Length with leading zeros. For `parseRequest` only. */
  strangeExpect = false;
  paddedLength = false;

  /** Doubles the places. Happens a few times in a process, for its first large heads. */
  grow(): void {
    this.capacity *= 2;
    this.nameFrom = larger(this.nameFrom);
    this.nameTo = larger(this.nameTo);
    this.valueFrom = larger(this.valueFrom);
    this.valueTo = larger(this.valueTo);
    const kind = new Uint8Array(this.capacity);
    kind.set(this.kind);
    this.kind = kind;
  }
}

function larger(places: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const out = new Int32Array(places.length * 2);
  out.set(places);
  return out;
}

/** Reads a request head in bytes[from, to). */
export function parseRequest(bytes: Uint8Array, from: number, to: number, head: Head): number {
  let at = from;
  // RFC 9112 2.2: a server should ignore an empty line before the request line; one is enough.
  if (at < to && bytes[at] === CR) {
    if (at + 1 === to) return 0;
    if (bytes[at + 1] === LF) at += 2;
  }
  head.from = at;
  const methodFrom = at;
  while (at < to && tchar[bytes[at] as number] === 1) at++;
  if (at - methodFrom > limits.method) return -refusal.method;
  if (at === to) return 0;
  if (bytes[at] !== SP || at === methodFrom) return -refusal.startLine;
  head.methodTo = at++;
  head.targetFrom = at;
  while (at < to && targetByte[bytes[at] as number] === 1) at++;
  if (at - head.targetFrom > head.limits.targetBytes) return -refusal.targetTooLong;
  if (at === to) return 0;
  if (bytes[at] !== SP) return bytes[at] === CR || bytes[at] === LF ? -refusal.startLine : -refusal.target;
  if (at === head.targetFrom) return -refusal.startLine;
  head.targetTo = at++;
  const version = parseVersion(bytes, at, to, head);
  if (version <= 0) return version;
  at += version;
  if (at === to) return 0;
  if (bytes[at] !== CR) return bytes[at] === LF ? -refusal.lineEnd : -refusal.startLine;
  if (at + 1 === to) return 0;
  if (bytes[at + 1] !== LF) return -refusal.lineEnd;
  at = parseFields(bytes, at + 2, to, head);
  if (at <= 0) return at;
  head.to = at;
  // RFC 9112 6.3: a request without framing has no body.
  const length = head.contentLength;
  if (!head.chunked) {
    if (length < 0) head.contentLength = 0;
    else if (length > 0) {
      if (head.limits.bodyBytes > 0 && length > head.limits.bodyBytes) return -refusal.bodyTooLarge;
      // Some read a leading zero as octal. Devices that pad their answers exist; none that pads requests is known.
      if (head.paddedLength) return -refusal.contentLength;
    } else if (head.paddedLength) return -refusal.contentLength;
  }
  const refused = checkTarget(bytes, head);
  if (refused !== 0) return refused;
  if (head.strangeExpect) return -refusal.expectation;
  if (head.chunked || length > 0) {
    // What follows an upgrade is the new protocol or the body, and two readers may not agree which (RFC 9110 7.8 allows to ignore Upgrade).
    head.upgrade = -1;
    if (head.expectContinue && head.minor === 0) dropExpect(head);
  } else if (head.expectContinue && !head.openBody) dropExpect(head);
  return at - from;
}

/** RFC 9110 10.1.1: without meaning in HTTP/1.0 and in a request without content; forwarded, it would make some origins wait or answer twice. */
function dropExpect(head: Head): void {
  head.expectContinue = false;
  for (let i = 0; i < head.count; i++) if (head.kind[i] === field.expect) head.kind[i] = field.nominated;
}

/** Reads the head of an answer in bytes[from, to). Framing that depends on the request (HEAD, CONNECT) is for the caller. */
export function parseAnswer(bytes: Uint8Array, from: number, to: number, head: Head): number {
  head.from = from;
  let at = from;
  const version = parseVersion(bytes, at, to, head);
  if (version <= 0) return version < 0 ? -refusal.statusLine : 0;
  at += version;
  if (to - at < 4) return 0;
  if (bytes[at] !== SP) return -refusal.statusLine;
  let status = 0;
  for (let i = 1; i <= 3; i++) {
    const digit = (bytes[at + i] as number) - 48;
    if (digit < 0 || digit > 9) return -refusal.statusLine;
    status = status * 10 + digit;
  }
  if (status < 100) return -refusal.statusLine;
  head.status = status;
  at += 4;
  if (at === to) return 0;
  // RFC 9112 4: the space is required even when the reason is empty; many servers leave it out, and nothing is ambiguous about it.
  if (bytes[at] !== SP && bytes[at] !== CR) return -refusal.statusLine;
  while (at < to && fieldByte[bytes[at] as number] === 1) at++;
  if (at === to) return 0;
  head.lineTo = at;
  if (bytes[at] !== CR) return -refusal.lineEnd;
  if (at + 1 === to) return 0;
  if (bytes[at + 1] !== LF) return -refusal.lineEnd;
  at = parseFields(bytes, at + 2, to, head);
  if (at <= 0) return at;
  head.to = at;
  return at - from;
}

/**
 * Where a head in bytes[from, …) may end: after an empty line, with CRLF or (so that it is refused at once) without CR. -1: not yet. For a head that
 * drips in: it is searched on for its end, not parsed again and again.
 */
export function findEnd(bytes: Uint8Array, from: number): number {
  for (let i = from; i + 1 < bytes.length; i++) {
    if (bytes[i] !== LF) continue;
    if (bytes[i + 1] === LF) return i + 2;
    if (bytes[i + 1] === CR && i + 2 < bytes.length && bytes[i + 2] === LF) return i + 3;
  }
  return -1;
}

/** `HTTP/1.0` or `HTTP/1.1`: 8, 0 for more, negative for anything else. */
function parseVersion(bytes: Uint8Array, from: number, to: number, head: Head): number {
  const size = to - from < 8 ? to - from : 8;
  for (let i = 0; i < size; i++) {
    const byte = bytes[from + i] as number;
    if (i === 7) {
      if (byte < 48 || byte > 57) return -refusal.startLine;
      // RFC 9110 2.5: a higher minor version is answered as the highest we know.
      head.minor = byte === 48 ? 0 : 1;
    } else if (i === 5) {
      if (byte < 48 || byte > 57) return -refusal.startLine;
      if (byte !== 49) return -refusal.version;
    } else if (byte !== version11[i]) return -refusal.startLine;
  }
  return size === 8 ? 8 : 0;
}
const version11 = latin1("HTTP/1.1");

/** Reads fields up to the empty line; returns the position after it. Framing fields are judged here, once for both directions. */
function parseFields(bytes: Uint8Array, from: number, to: number, head: Head): number {
  let at = from;
  let count = 0;
  let most = head.capacity < head.limits.fields ? head.capacity : head.limits.fields;
  let encodings = 0;
  let hosts = 0;
  let nominated = false;
  let upgradeToken = false;
  let upgradeField = -1;
  let expects = 0;
  head.contentLength = -1;
  head.chunked = false;
  head.close = false;
  head.keepAlive = false;
  head.upgrade = -1;
  head.expectContinue = false;
  head.teTrailers = false;
  head.strangeExpect = false;
  head.paddedLength = false;
  head.requestId = -1;
  head.notDelivered = -1;
  head.authorityFrom = 0;
  head.authorityTo = 0;
  for (;;) {
    if (at === to) return 0;
    const first = bytes[at] as number;
    if (first === CR) {
      if (at + 1 === to) return 0;
      if (bytes[at + 1] !== LF) return -refusal.lineEnd;
      at += 2;
      break;
    }
    if (first === SP || first === HTAB) return -refusal.folding;
    if (count === most) {
      if (count >= head.limits.fields) return -refusal.fields;
      head.grow();
      most = head.capacity < head.limits.fields ? head.capacity : head.limits.fields;
    }
    const nameFrom = at;
    while (at < to && tchar[bytes[at] as number] === 1) at++;
    if (at === to) return 0;
    if (bytes[at] !== COLON || at === nameFrom) return bytes[at] === LF ? -refusal.lineEnd : -refusal.fieldName;
    const nameTo = at++;
    while (at < to && (bytes[at] === SP || bytes[at] === HTAB)) at++;
    const valueFrom = at;
    while (at < to && fieldByte[bytes[at] as number] === 1) at++;
    if (at === to) return 0;
    if (bytes[at] !== CR) return bytes[at] === LF ? -refusal.lineEnd : -refusal.fieldValue;
    if (at + 1 === to) return 0;
    if (bytes[at + 1] !== LF) return -refusal.lineEnd;
    let valueTo = at;
    while (valueTo > valueFrom && (bytes[valueTo - 1] === SP || bytes[valueTo - 1] === HTAB)) valueTo--;
    at += 2;
    head.nameFrom[count] = nameFrom;
    head.nameTo[count] = nameTo;
    head.valueFrom[count] = valueFrom;
    head.valueTo[count] = valueTo;
    const kind = classify(bytes, nameFrom, nameTo);
    head.kind[count] = kind;
    if (kind === field.plain) {
      count++;
      continue;
    }
    // CGI, WSGI and their like know no difference between `_` and `-`: such a name means nothing here and something there.
    if (hasUnderscore(bytes, nameFrom, nameTo)) {
      if (kind !== field.requestId) return -refusal.fieldName;
      head.kind[count++] = field.plain;
      continue;
    }
    switch (kind) {
      case field.host:
        // RFC 9112 3.2: more than one Host is refused.
        if (++hosts > 1) return -refusal.host;
        if (bytes[nameTo + 1] !== SP || valueFrom - nameTo !== 2 || at - valueTo !== 2)
          spaces(bytes, nameTo + 1, valueFrom, valueTo, at - 2);
        head.authorityFrom = valueFrom;
        head.authorityTo = valueTo;
        break;
      case field.contentLength: {
        // RFC 9112 6.3 (5): a repeated length may be refused even when the values agree.
        if (head.contentLength >= 0) return -refusal.contentLength;
        const length = parseLength(bytes, valueFrom, valueTo);
        if (length < 0) return -refusal.contentLength;
        head.contentLength = length;
        head.paddedLength = bytes[valueFrom] === 48 && valueTo - valueFrom > 1;
        if (bytes[nameTo + 1] !== SP || valueFrom - nameTo !== 2 || at - valueTo !== 2)
          spaces(bytes, nameTo + 1, valueFrom, valueTo, at - 2);
        break;
      }
      case field.transferEncoding:
        if (++encodings > 1) return -refusal.codingOrder;
        if (!equalsIgnoreCase(bytes, valueFrom, valueTo, tokens.chunked)) return refusedCoding(bytes, valueFrom, valueTo);
        head.chunked = true;
        if (bytes[nameTo + 1] !== SP || valueFrom - nameTo !== 2 || at - valueTo !== 2)
          spaces(bytes, nameTo + 1, valueFrom, valueTo, at - 2);
        break;
      case field.connection: {
        const found = connectionTokens(bytes, valueFrom, valueTo, head);
        if ((found & 1) !== 0) nominated = true;
        if ((found & 2) !== 0) upgradeToken = true;
        break;
      }
      case field.upgrade:
        upgradeField = count;
        break;
      case field.expect:
        head.expectContinue = ++expects === 1 && equalsIgnoreCase(bytes, valueFrom, valueTo, tokens.continue100);
        if (!head.expectContinue) head.strangeExpect = true;
        break;
      case field.te:
        if (hasMember(bytes, valueFrom, valueTo, tokens.trailers)) head.teTrailers = true;
        break;
      case field.requestId:
        head.requestId = count;
        break;
      case field.notDelivered:
        head.notDelivered = count;
        break;
    }
    count++;
  }
  head.count = count;
  // RFC 9112 6.1: both framings, or a transfer coding in HTTP/1.0, must be treated as an attempt to smuggle.
  if (head.chunked && (head.contentLength >= 0 || head.minor === 0)) return -refusal.bothFramings;
  if (upgradeToken && upgradeField >= 0 && head.minor === 1) head.upgrade = upgradeField;
  if (nominated) {
    const refused = markNominated(bytes, head);
    if (refused !== 0) return refused;
  }
  return at;
}

/** White space around a framing field becomes spaces, in place, so that what is forwarded is read alike by origins that know no tab (OWS, RFC 9110 5.6.3). */
function spaces(bytes: Uint8Array, from: number, valueFrom: number, valueTo: number, to: number): void {
  for (let i = from; i < valueFrom; i++) bytes[i] = SP;
  for (let i = valueTo; i < to; i++) bytes[i] = SP;
}

function hasUnderscore(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] === 95) return true;
  return false;
}

/** RFC 9112 6.3 (4): a request whose last coding is not a single `chunked` has no end (400); one before it is just not known here (501, RFC 9112 6.1). */
function refusedCoding(bytes: Uint8Array, from: number, to: number): number {
  let at = to;
  while (at > from && bytes[at - 1] !== 44) at--;
  const comma = at - 1;
  while (at < to && (bytes[at] === SP || bytes[at] === HTAB)) at++;
  if (!equalsIgnoreCase(bytes, at, to, tokens.chunked) || hasMember(bytes, from, comma, tokens.chunked)) return -refusal.codingOrder;
  return -refusal.coding;
}

/** Is `member` in a comma-separated list, whatever its parameters? */
function hasMember(bytes: Uint8Array, from: number, to: number, member: Uint8Array): boolean {
  let at = from;
  while (at < to) {
    let end = at;
    while (end < to && bytes[end] !== 44) end++;
    let last = at;
    while (last < end && bytes[last] !== 59) last++;
    while (at < last && (bytes[at] === SP || bytes[at] === HTAB)) at++;
    while (last > at && (bytes[last - 1] === SP || bytes[last - 1] === HTAB)) last--;
    if (equalsIgnoreCase(bytes, at, last, member)) return true;
    at = end + 1;
  }
  return false;
}

function classify(bytes: Uint8Array, from: number, to: number): number {
  const size = to - from;
  if (size > 31) return field.plain;
  const index = (candidate[size * 32 + ((bytes[from] as number) & 31)] as number) - 1;
  if (index < 0) return field.plain;
  const name = knownNames[index] as Uint8Array;
  for (let i = 0; i < size; i++) if (nameByte[bytes[from + i] as number] !== name[i]) return field.plain;
  return knownKinds[index] as number;
}

/** RFC 9112 6.2: 1*DIGIT. -1 for anything else and for what a double cannot count exactly. */
function parseLength(bytes: Uint8Array, from: number, to: number): number {
  if (from === to || to - from > limits.lengthDigits) return -1;
  let value = 0;
  for (let i = from; i < to; i++) {
    const digit = (bytes[i] as number) - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

/** Reads Connection's tokens into the head. Bit 1: it names other fields; bit 2: it holds `upgrade`. */
function connectionTokens(bytes: Uint8Array, from: number, to: number, head: Head): number {
  let found = 0;
  let at = from;
  while (at < to) {
    let end = at;
    while (end < to && bytes[end] !== 44) end++;
    let last = end;
    while (at < last && (bytes[at] === SP || bytes[at] === HTAB)) at++;
    while (last > at && (bytes[last - 1] === SP || bytes[last - 1] === HTAB)) last--;
    if (last > at) {
      if (equalsIgnoreCase(bytes, at, last, tokens.keepAlive)) head.keepAlive = true;
      else if (equalsIgnoreCase(bytes, at, last, tokens.close)) head.close = true;
      else if (equalsIgnoreCase(bytes, at, last, tokens.upgrade)) found |= 2;
      else found |= 1;
    }
    at = end + 1;
  }
  return found;
}

/** Second pass, only when Connection names other fields: those are for this hop alone (RFC 9110 7.6.1). */
function markNominated(bytes: Uint8Array, head: Head): number {
  for (let c = 0; c < head.count; c++) {
    if (head.kind[c] !== field.connection) continue;
    let at = head.valueFrom[c] as number;
    const to = head.valueTo[c] as number;
    while (at < to) {
      let end = at;
      while (end < to && bytes[end] !== 44) end++;
      let last = end;
      while (at < last && (bytes[at] === SP || bytes[at] === HTAB)) at++;
      while (last > at && (bytes[last - 1] === SP || bytes[last - 1] === HTAB)) last--;
      for (let i = 0; i < unnameable.length; i++)
        if (equalsIgnoreCase(bytes, at, last, unnameable[i] as Uint8Array)) return -refusal.nominated;
      for (let i = 0; i < head.count; i++) {
        // Framing and Host are end to end: naming them must not remove them (RFC 9110 7.6.1: not for fields meant for all recipients).
        const kind = head.kind[i] as number;
        if (kind !== field.plain && kind !== field.requestId && kind !== field.expect && kind !== field.trailer) continue;
        if (!sameName(bytes, at, last, head, i)) continue;
        head.kind[i] = field.nominated;
        if (kind === field.requestId) head.requestId = -1;
        else if (kind === field.expect) head.expectContinue = false;
      }
      at = end + 1;
    }
  }
  return 0;
}

function sameName(bytes: Uint8Array, from: number, to: number, head: Head, index: number): boolean {
  const start = head.nameFrom[index] as number;
  if (to - from !== (head.nameTo[index] as number) - start) return false;
  for (let i = 0; i < to - from; i++) if (lower[bytes[from + i] as number] !== lower[bytes[start + i] as number]) return false;
  return true;
}

/** Decides the target's form, path and authority (RFC 9112 3.2). */
function checkTarget(bytes: Uint8Array, head: Head): number {
  const from = head.targetFrom;
  const to = head.targetTo;
  const hostFrom = head.authorityFrom;
  const hostTo = head.authorityTo;
  // RFC 9112 3.2: 400 for HTTP/1.1 without Host and for any Host that is invalid, also where the target overrules it. An empty one is: http has no
  // URIs without a host (RFC 9110 4.2.1), and origins differ about it.
  if (hostFrom > 0 ? !checkAuthority(bytes, hostFrom, hostTo, false) : head.minor === 1) return -refusal.host;
  const special = specialMethod(bytes, head);
  if (special < 0) return special;
  if (special === methods.connect) {
    // RFC 9112 3.2.3: only authority-form, and the port is not optional (RFC 9110 9.3.6).
    head.form = form.authority;
    head.authorityFrom = from;
    head.authorityTo = to;
    head.pathFrom = to;
    head.pathTo = to;
    return checkAuthority(bytes, from, to, true) ? 0 : -refusal.target;
  }
  head.pathFrom = from;
  head.pathTo = to;
  const first = bytes[from];
  if (first === 47) {
    head.form = form.origin;
    return 0;
  }
  if (first === 42 && to - from === 1) {
    head.form = form.asterisk;
    // RFC 9112 3.2.4: only for OPTIONS.
    return equals(bytes, head.from, head.methodTo, options) ? 0 : -refusal.target;
  }
  if (to - from <= 7 || !equalsIgnoreCase(bytes, from, from + 7, http)) return -refusal.target;
  head.form = form.absolute;
  let at = from + 7;
  while (at < to && bytes[at] !== 47 && bytes[at] !== 63) at++;
  head.authorityFrom = from + 7;
  head.authorityTo = at;
  head.pathFrom = at;
  return checkAuthority(bytes, head.authorityFrom, at, false) ? 0 : -refusal.target;
}

/**
 * Methods on which the framing depends. RFC 9110 9.1: their case counts, but not every server knows: a `head` that one answers without a body and the
 * other with one would part the two streams, so other spellings are refused. CONNECT and TRACE have no content (RFC 9110 9.3.6, 9.3.8).
 */
function specialMethod(bytes: Uint8Array, head: Head): number {
  const from = head.from;
  const to = head.methodTo;
  switch (to - from) {
    case 4:
      return bytes[from] !== 80 && equalsIgnoreCase(bytes, from, to, methodNames.head) && !equals(bytes, from, to, methodNames.HEAD)
        ? -refusal.method
        : 0;
    case 5:
      if (bytes[from] === 84 && equals(bytes, from, to, methodNames.TRACE)) return hasContent(head) ? -refusal.content : 0;
      return 0;
    case 7:
      if (!equalsIgnoreCase(bytes, from, to, methodNames.connect)) return 0;
      if (!equals(bytes, from, to, methodNames.CONNECT)) return -refusal.method;
      return hasContent(head) ? -refusal.content : methods.connect;
    default:
      return 0;
  }
}
const methods = { connect: 1 } as const;
const methodNames = {
  head: latin1("head"),
  HEAD: latin1("HEAD"),
  TRACE: latin1("TRACE"),
  connect: latin1("connect"),
  CONNECT: latin1("CONNECT"),
};
const options = latin1("OPTIONS");

function hasContent(head: Head): boolean {
  return head.chunked || head.contentLength > 0;
}

/** `host [":" port]` without user information (RFC 9110 4.2.4: reject or it may hide the real host). */
function checkAuthority(bytes: Uint8Array, from: number, to: number, needPort: boolean): boolean {
  let at = from;
  if (bytes[at] === 91) {
    at++;
    while (at < to && (hostByte[bytes[at] as number] as number) >= 1) at++;
    if (at === to || bytes[at] !== 93 || at === from + 1) return false;
    at++;
  } else {
    while (at < to && hostByte[bytes[at] as number] === 1) at++;
    if (at === from) return false;
  }
  if (at === to) return !needPort;
  if (bytes[at] !== COLON) return false;
  at++;
  if (to - at > 5) return false;
  let port = 0;
  const portFrom = at;
  for (; at < to; at++) {
    const digit = (bytes[at] as number) - 48;
    if (digit < 0 || digit > 9) return false;
    port = port * 10 + digit;
  }
  return port <= 65_535 && (!needPort || at > portFrom);
}

/** 1: unreserved, sub-delims and `%` (RFC 3986 3.2.2), but no comma: that is two Hosts made one by somebody; 2: `:` inside an IP literal. */
const hostByte = new Uint8Array(256);
for (let i = 0; i < 256; i++) {
  const c = String.fromCharCode(i);
  if ((i >= 48 && i <= 57) || (i >= 65 && i <= 90) || (i >= 97 && i <= 122) || "-._~!$&'()*+;=%".includes(c)) hostByte[i] = 1;
}
hostByte[COLON] = 2;
