// Owns: which trailer fields are passed on (RFC 9110 6.5.1). Works on field lines, as the body reader sets them aside and as HTTP/2 writes them out.
// Never reads a value: what a field is called decides.

import { latin1, lower, text } from "../http/bytes.ts";

/**
 * Fields that mean something before the body is read, so that in trailers they come too late, or are merged into the head by servers that do not
 * know better. RFC 9110 6.5.1 names the groups; `x-forwarded-` and our own are there because applications trust what a sidecar has let through.
 */
const forbidden = [
  // Framing and connection (RFC 9110 7.6.1).
  ["content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "http2-settings"],
  // Routing.
  ["host", "forwarded", "via", "max-forwards", "x-request-id", "x-real-ip"],
  // Request modifiers: controls and conditions.
  ["cache-control", "expect", "pragma", "range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"],
  // Authentication.
  ["authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate", "authentication-info", "proxy-authentication-info"],
  ["cookie", "set-cookie"],
  // Response control.
  ["age", "date", "expires", "location", "retry-after", "vary", "warning"],
  // What the content is.
  ["content-encoding", "content-type", "content-range", "content-language", "content-location"],
].flat();
const prefixes = ["x-forwarded-", "x-weft-", "x-envoy-"].map(latin1);

const grpc = latin1("grpc-");

/** `_` counts as `-`, as gateways in the manner of CGI have it. */
const nameByte = lower.slice();
nameByte[95] = 45;
const names = new Set(forbidden);
const longest = Math.max(...forbidden.map((name) => name.length));

/**
 * The lines of `lines` that may be forwarded as trailers, in order and as they came; the same Buffer when that is all of them, an empty one when none.
 * `lines`: complete field lines, each with its CRLF, names known to be tokens. Pure: `lines` is left as it is.
 */
export function filterTrailers(lines: Buffer): Buffer {
  let out: Buffer | null = null;
  let size = 0;
  let from = 0;
  while (from < lines.length) {
    const to = lineEnd(lines, from);
    if (isForbidden(lines, from)) {
      if (out === null) {
        out = Buffer.from(lines);
        size = from;
      }
    } else if (out !== null) {
      lines.copy(out, size, from, to);
      size += to - from;
    }
    from = to;
  }
  return out === null ? lines : out.subarray(0, size);
}

/** Just after the LF of the line at `from`. */
function lineEnd(lines: Uint8Array, from: number): number {
  let at = from;
  while (at < lines.length && lines[at] !== 10) at++;
  return at < lines.length ? at + 1 : at;
}

function isForbidden(lines: Uint8Array, from: number): boolean {
  let colon = from;
  while (colon < lines.length && lines[colon] !== 58) colon++;
  // Every gRPC answer ends with these, and none is forbidden.
  if (startsWithName(lines, from, colon, grpc)) return false;
  for (const prefix of prefixes) if (startsWithName(lines, from, colon, prefix)) return true;
  if (colon - from > longest) return false;
  return names.has(text(lines, from, colon).toLowerCase().replaceAll("_", "-"));
}

function startsWithName(lines: Uint8Array, from: number, to: number, prefix: Uint8Array): boolean {
  if (to - from < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (nameByte[lines[from + i] as number] !== prefix[i]) return false;
  return true;
}
