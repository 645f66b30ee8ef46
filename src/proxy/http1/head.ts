// Owns: reading an HTTP/1 head into offsets (rule 4: positive = bytes used, zero = more, negative = a reason of `limits.refusal`).
// Never keeps bytes, never makes strings, never guesses: ambiguous framing is refused with the RFC section in `limits.ts`.

import { equalsIgnoreCase, fieldByte, latin1, lower, targetByte, tchar } from "../http/bytes.ts";
import { limits, refusal } from "./limits.ts";

/** What a field is to a proxy. Everything from `dropFrom` on is never forwarded as it came (RFC 9110 7.6.1 and our own headers). */
export const field = {
  plain: 0,
  host: 1,
  contentLength: 2,
  requestId: 3,
  /** Forwarded as it is unless chunked must be undone. */
  transferEncoding: 4,
  expect: 5,
  dropFrom: 10,
  connection: 10,
  keepAlive: 11,
  proxyConnection: 12,
  te: 13,
  trailer: 14,
  upgrade: 15,
  proxyAuth: 16,
  /** Our own local-reply headers: only a sidecar may set them. */
  reason: 17,
  notDelivered: 18,
  /** `x-forwarded-client-cert`: Envoy's default is to remove it, since an application may trust it. */
  clientCert: 19,
  /** Named by Connection (RFC 9110 7.6.1). */
  nominated: 20,
  /** Removed or replaced by a route's header edits. */
  edited: 21,
} as const;

const names = {
  te: latin1("te"),
  host: latin1("host"),
  expect: latin1("expect"),
  trailer: latin1("trailer"),
  upgrade: latin1("upgrade"),
  connection: latin1("connection"),
  keepAlive: latin1("keep-alive"),
  requestId: latin1("x-request-id"),
  reason: latin1("x-weft-reason"),
  contentLength: latin1("content-length"),
  proxyConnection: latin1("proxy-connection"),
  transferEncoding: latin1("transfer-encoding"),
  proxyAuthenticate: latin1("proxy-authenticate"),
  proxyAuthorization: latin1("proxy-authorization"),
  notDelivered: latin1("x-weft-not-delivered"),
  clientCert: latin1("x-forwarded-client-cert"),
};
const tokens = {
  close: latin1("close"),
  keepAlive: latin1("keep-alive"),
  upgrade: latin1("upgrade"),
  chunked: latin1("chunked"),
  continue100: latin1("100-continue"),
};
const http = latin1("http://");

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
  count = 0;
  readonly nameFrom = new Int32Array(limits.fields);
  readonly nameTo = new Int32Array(limits.fields);
  readonly valueFrom = new Int32Array(limits.fields);
  readonly valueTo = new Int32Array(limits.fields);
  readonly kind = new Uint8Array(limits.fields);
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
  expectContinue = false;
  /** Index of x-request-id, else -1. */
  requestId = -1;
  /** Index of x-weft-not-delivered, else -1. */
  notDelivered = -1;
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
  if (at - head.targetFrom > limits.target) return -refusal.targetTooLong;
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
  const refused = checkTarget(bytes, head);
  if (refused !== 0) return refused;
  // RFC 9112 6.3: a request without framing has no body.
  if (!head.chunked && head.contentLength < 0) head.contentLength = 0;
  return at - from;
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
  let encodings = 0;
  let hosts = 0;
  let nominated = false;
  let upgradeToken = false;
  let upgradeField = -1;
  head.contentLength = -1;
  head.chunked = false;
  head.close = false;
  head.keepAlive = false;
  head.upgrade = -1;
  head.expectContinue = false;
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
    if (count === limits.fields) return -refusal.fields;
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
    switch (kind) {
      case field.plain:
        break;
      case field.host:
        // RFC 9112 3.2: more than one Host is refused.
        if (++hosts > 1) return -refusal.host;
        head.authorityFrom = valueFrom;
        head.authorityTo = valueTo;
        break;
      case field.contentLength: {
        // RFC 9112 6.3 (5): a repeated length may be refused even when the values agree.
        if (head.contentLength >= 0) return -refusal.contentLength;
        const length = parseLength(bytes, valueFrom, valueTo);
        if (length < 0) return -refusal.contentLength;
        head.contentLength = length;
        break;
      }
      case field.transferEncoding:
        if (++encodings > 1 || !equalsIgnoreCase(bytes, valueFrom, valueTo, tokens.chunked)) return -refusal.coding;
        head.chunked = true;
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
        head.expectContinue = equalsIgnoreCase(bytes, valueFrom, valueTo, tokens.continue100);
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
  if (nominated) markNominated(bytes, head);
  return at;
}

function classify(bytes: Uint8Array, from: number, to: number): number {
  const first = lower[bytes[from] as number];
  switch (to - from) {
    case 2:
      return equalsIgnoreCase(bytes, from, to, names.te) ? field.te : field.plain;
    case 4:
      return first === 104 && equalsIgnoreCase(bytes, from, to, names.host) ? field.host : field.plain;
    case 6:
      return first === 101 && equalsIgnoreCase(bytes, from, to, names.expect) ? field.expect : field.plain;
    case 7:
      if (first === 117) return equalsIgnoreCase(bytes, from, to, names.upgrade) ? field.upgrade : field.plain;
      return first === 116 && equalsIgnoreCase(bytes, from, to, names.trailer) ? field.trailer : field.plain;
    case 10:
      if (first === 99) return equalsIgnoreCase(bytes, from, to, names.connection) ? field.connection : field.plain;
      return first === 107 && equalsIgnoreCase(bytes, from, to, names.keepAlive) ? field.keepAlive : field.plain;
    case 12:
      return first === 120 && equalsIgnoreCase(bytes, from, to, names.requestId) ? field.requestId : field.plain;
    case 13:
      return first === 120 && equalsIgnoreCase(bytes, from, to, names.reason) ? field.reason : field.plain;
    case 14:
      return first === 99 && equalsIgnoreCase(bytes, from, to, names.contentLength) ? field.contentLength : field.plain;
    case 16:
      return equalsIgnoreCase(bytes, from, to, names.proxyConnection) ? field.proxyConnection : field.plain;
    case 17:
      return first === 116 && equalsIgnoreCase(bytes, from, to, names.transferEncoding) ? field.transferEncoding : field.plain;
    case 18:
      return equalsIgnoreCase(bytes, from, to, names.proxyAuthenticate) ? field.proxyAuth : field.plain;
    case 19:
      return equalsIgnoreCase(bytes, from, to, names.proxyAuthorization) ? field.proxyAuth : field.plain;
    case 20:
      return first === 120 && equalsIgnoreCase(bytes, from, to, names.notDelivered) ? field.notDelivered : field.plain;
    case 23:
      return first === 120 && equalsIgnoreCase(bytes, from, to, names.clientCert) ? field.clientCert : field.plain;
    default:
      return field.plain;
  }
}

/** RFC 9112 6.2: 1*DIGIT. -1 for anything else and for what a double cannot count exactly. */
function parseLength(bytes: Uint8Array, from: number, to: number): number {
  if (from === to || to - from > 15) return -1;
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
function markNominated(bytes: Uint8Array, head: Head): void {
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
      for (let i = 0; i < head.count; i++) {
        // Framing and Host are end to end: naming them must not remove them (RFC 9110 7.6.1: not for fields meant for all recipients).
        const kind = head.kind[i] as number;
        if ((kind === field.plain || kind === field.requestId || kind === field.expect) && sameName(bytes, at, last, head, i))
          head.kind[i] = field.nominated;
      }
      at = end + 1;
    }
  }
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
  const isConnect = head.methodTo - head.from === 7 && equalsIgnoreCase(bytes, head.from, head.methodTo, connect);
  if (isConnect) {
    // RFC 9112 3.2.3: only authority-form, and the port is not optional (RFC 9110 9.3.6).
    head.form = form.authority;
    head.authorityFrom = from;
    head.authorityTo = to;
    head.pathFrom = to;
    head.pathTo = to;
    // RFC 9110 9.3.6: CONNECT has no content; framing fields have no meaning and are what smuggling would use.
    if (head.chunked || head.contentLength > 0) return -refusal.bothFramings;
    return checkAuthority(bytes, from, to, true) ? 0 : -refusal.target;
  }
  if (head.minor === 1 && head.authorityTo === 0 && !hasHost(head)) return -refusal.host;
  const first = bytes[from];
  if (first === 47) {
    head.form = form.origin;
    head.pathFrom = from;
    head.pathTo = to;
  } else if (first === 42 && to - from === 1) {
    // RFC 9112 3.2.4: only for OPTIONS.
    if (!equalsIgnoreCase(bytes, head.from, head.methodTo, options)) return -refusal.target;
    head.form = form.asterisk;
    head.pathFrom = from;
    head.pathTo = to;
  } else {
    if (to - from <= 7 || !equalsIgnoreCase(bytes, from, from + 7, http)) return -refusal.target;
    head.form = form.absolute;
    let at = from + 7;
    while (at < to && bytes[at] !== 47 && bytes[at] !== 63) at++;
    head.authorityFrom = from + 7;
    head.authorityTo = at;
    head.pathFrom = at;
    head.pathTo = to;
    if (!checkAuthority(bytes, head.authorityFrom, head.authorityTo, false)) return -refusal.target;
    return 0;
  }
  if (head.authorityTo > head.authorityFrom && !checkAuthority(bytes, head.authorityFrom, head.authorityTo, false)) return -refusal.host;
  return 0;
}
const connect = latin1("connect");
const options = latin1("options");

/** An empty Host is legal (RFC 9112 3.2: when the target has no authority). */
function hasHost(head: Head): boolean {
  for (let i = 0; i < head.count; i++) if (head.kind[i] === field.host) return true;
  return false;
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

/** 1: unreserved, sub-delims and `%` (RFC 3986 3.2.2); 2: `:` inside an IP literal. */
const hostByte = new Uint8Array(256);
for (let i = 0; i < 256; i++) {
  const c = String.fromCharCode(i);
  if ((i >= 48 && i <= 57) || (i >= 65 && i <= 90) || (i >= 97 && i <= 122) || "-._~!$&'()*+,;=%".includes(c)) hostByte[i] = 1;
}
hostByte[COLON] = 2;
