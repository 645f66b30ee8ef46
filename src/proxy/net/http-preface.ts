// Owns: telling HTTP in plain text from anything else by a connection's first bytes: HTTP/1 by its request line (RFC 9112 3), HTTP/2 with prior
// knowledge by its preface (RFC 9113 3.4). Looks only: the request is parsed by whoever takes the connection.

import { netLimits } from "./limits.ts";

/** What the first bytes are; zero is "more is needed". */
export const firstBytes = { http10: 1, http11: 2, http2: 3, other: -1 } as const;

export const http2Preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** How many bytes of the HTTP/2 preface bytes[from, to) begins with; -1: it is something else. All 24 is a yes. */
export function matchPreface(bytes: Uint8Array, from: number, to: number): number {
  const size = Math.min(to - from, http2Preface.length);
  for (let i = 0; i < size; i++) if (bytes[from + i] !== http2Preface[i]) return -1;
  return size;
}

/** One of `firstBytes`, or 0 while it may still be HTTP. */
export function inspectHttp(bytes: Uint8Array, from: number, to: number): number {
  const preface = matchPreface(bytes, from, to);
  if (preface === http2Preface.length) return firstBytes.http2;
  if (preface >= 0) return 0;
  let at = from;
  while (at < to && isMethod(bytes[at] as number)) at++;
  // The longest registered method has 17 letters.
  if (at - from > 32) return firstBytes.other;
  if (at === to) return 0;
  if (at === from || bytes[at] !== 32) return firstBytes.other;
  at++;
  const target = at;
  // A target has no blanks and no control characters (RFC 9112 3.2).
  while (at < to && (bytes[at] as number) > 32 && bytes[at] !== 127) at++;
  if (at - from > netLimits.requestLineBytes) return firstBytes.other;
  if (at === to) return 0;
  if (at === target || bytes[at] !== 32) return firstBytes.other;
  return version(bytes, at + 1, to);
}

const start = Buffer.from("HTTP/1.", "latin1");

function version(bytes: Uint8Array, from: number, to: number): number {
  for (let i = 0; i < start.length; i++) {
    if (from + i === to) return 0;
    if (bytes[from + i] !== start[i]) return firstBytes.other;
  }
  const at = from + start.length;
  if (at + 1 >= to) return at === to || isDigit(bytes[at] as number) ? 0 : firstBytes.other;
  const minor = bytes[at] as number;
  const end = bytes[at + 1];
  if (!isDigit(minor) || (end !== 13 && end !== 10)) return firstBytes.other;
  return minor === 48 ? firstBytes.http10 : firstBytes.http11;
}

/** Methods in use are upper case, with "-" at most: the whole token set of RFC 9110 5.6.2 would take "hello world" for a beginning. */
function isMethod(byte: number): boolean {
  return (byte >= 65 && byte <= 90) || byte === 45;
}

function isDigit(byte: number): boolean {
  return byte >= 48 && byte <= 57;
}
