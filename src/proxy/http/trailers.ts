// Owns: which trailer fields may be passed on. RFC 9110 6.5.1: not those that frame, route, authenticate or describe the message they come after, as a
// receiver that merges them into the head would act on them; and nothing that is for one hop.

import { lower } from "./bytes.ts";

const forbidden = new Set([
  "transfer-encoding",
  "content-length",
  "host",
  "te",
  "trailer",
  "connection",
  "keep-alive",
  "proxy-connection",
  "upgrade",
  "authorization",
  "proxy-authenticate",
  "proxy-authorization",
  "www-authenticate",
  "set-cookie",
  "cookie",
  "content-encoding",
  "content-type",
  "content-range",
  "cache-control",
  "expect",
  "max-forwards",
  "pragma",
  "range",
  "age",
  "expires",
  "date",
  "location",
  "retry-after",
  "vary",
  "warning",
  "x-forwarded-client-cert",
  "x-weft-reason",
  "x-weft-not-delivered",
]);

/** The lines of bytes[from, to) (complete, each with its CRLF) that may go on; the same bytes when all may. */
export function filterTrailers(bytes: Uint8Array, from: number, to: number): Uint8Array {
  const kept: Uint8Array[] = [];
  let size = 0;
  let at = from;
  while (at < to) {
    let end = at;
    let colon = -1;
    while (end < to && bytes[end] !== 10) {
      if (colon < 0 && bytes[end] === 58) colon = end;
      end++;
    }
    end++;
    if (colon > at && !forbidden.has(nameOf(bytes, at, colon))) {
      kept.push(bytes.subarray(at, end));
      size += end - at;
    }
    at = end;
  }
  if (size === to - from) return bytes.subarray(from, to);
  return Buffer.concat(kept, size);
}

function nameOf(bytes: Uint8Array, from: number, to: number): string {
  let name = "";
  for (let i = from; i < to; i++) name += String.fromCharCode(lower[bytes[i] as number] as number);
  return name;
}
