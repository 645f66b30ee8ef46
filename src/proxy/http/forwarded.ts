// Owns: what an edge proxy says about the client it has met (Envoy's `use_remote_address`): its address at the end of X-Forwarded-For, and the scheme it
// came by in X-Forwarded-Proto, whatever the client says of it, unless that is a proxy that is believed. Both stand in the head before anything reads it, so
// that routes, policies, logs and instances see the same. Never decides who the client is (client-address.ts): what was written before is a claim.

import { Head, parseRequest } from "../http1/head.ts";
import type { HttpLimits } from "../http1/limits.ts";
import { equalsIgnoreCase, latin1, text } from "./bytes.ts";
import { plainAddress } from "./client-address.ts";

const forName = latin1("x-forwarded-for");
const protoName = latin1("x-forwarded-proto");
const [http, https] = [latin1("http"), latin1("https")];
/** An address, both names and what is between. */
const mostAdded = 128;

/** Of the request that was told last; valid until the next one. */
export const toldHead = new Head();

/** What of a listener says how it tells. */
export interface Telling {
  readonly limits: HttpLimits;
  readonly trustedHops: number;
  readonly appends: boolean;
}

/**
 * The request's head with both fields; `toldHead` is filled for it. null: with them it would be above the listener's limits, which hold for the head as it
 * goes on. `address` is the connection's, without port. A proxy that is believed keeps its word on the scheme, where it has said one.
 */
export function tellForwarded(
  bytes: Uint8Array,
  head: Head,
  { limits, trustedHops, appends }: Telling,
  address: string,
  secure: boolean,
): Uint8Array | null {
  const made = Buffer.allocUnsafe(head.to - head.from + head.count * 2 + mostAdded);
  // The parser takes no line end but CRLF, so that whole stretches between the fields that are replaced go on as they are.
  const end = head.to - 2;
  let run = head.from;
  let to = 0;
  let claimed = "";
  let scheme = false;
  for (let i = 0; i < head.count; i++) {
    const from = head.nameFrom[i] as number;
    const nameTo = head.nameTo[i] as number;
    if (appends && nameTo - from === forName.length && equalsIgnoreCase(bytes, from, nameTo, forName)) {
      const value = text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
      // RFC 9110 5.3: several lines of a list are one.
      if (value !== "") claimed += `${value}, `;
    } else if (nameTo - from === protoName.length && equalsIgnoreCase(bytes, from, nameTo, protoName)) {
      scheme = trustedHops > 0;
      if (scheme) continue;
    } else continue;
    made.set(bytes.subarray(run, from), to);
    to += from - run;
    run = i + 1 < head.count ? (head.nameFrom[i + 1] as number) : end;
  }
  made.set(bytes.subarray(run, end), to);
  to += end - run;
  const told = appends ? `x-forwarded-for: ${claimed}${plainAddress(address)}\r\n` : "";
  to += made.write(scheme ? `${told}\r\n` : `${told}x-forwarded-proto: ${secure ? "https" : "http"}\r\n\r\n`, to, "latin1");
  if (to > limits.headBytes) return null;
  toldHead.limits = limits;
  toldHead.openBody = head.openBody;
  return parseRequest(made, 0, to, toldHead) > 0 ? made.subarray(0, to) : null;
}

/**
 * Whether the client came by https: as X-Forwarded-Proto says where whoever wrote it is believed, else as the connection did. `secure`: that one is TLS.
 * `forwards`: the listener is an edge, which believes nobody but so many proxies before it.
 */
export function cameSecurely(
  { trustedHops, forwards }: { readonly trustedHops: number; readonly forwards: boolean },
  secure: boolean,
  bytes: Uint8Array,
  head: Head,
): boolean {
  return trustedHops > 0 || !forwards ? toldScheme(bytes, head, secure) : secure;
}

/** Whether X-Forwarded-Proto says https; `otherwise` where it is neither scheme, or not there. */
export function toldScheme(bytes: Uint8Array, head: Head, otherwise: boolean): boolean {
  for (let i = 0; i < head.count; i++) {
    const from = head.nameFrom[i] as number;
    const to = head.nameTo[i] as number;
    if (to - from !== protoName.length || !equalsIgnoreCase(bytes, from, to, protoName)) continue;
    const [valueFrom, valueTo] = [head.valueFrom[i] as number, head.valueTo[i] as number];
    if (valueTo - valueFrom === https.length && equalsIgnoreCase(bytes, valueFrom, valueTo, https)) return true;
    if (valueTo - valueFrom === http.length && equalsIgnoreCase(bytes, valueFrom, valueTo, http)) return false;
  }
  return otherwise;
}
