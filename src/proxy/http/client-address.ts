// Owns: which address is a request's client (Envoy's `use_remote_address` and `xff_num_trusted_hops`): the connection's, or the one that the last proxy
// which is believed wrote into X-Forwarded-For. What rules, keys, limits and logs take for the client is asked here. Never believes more proxies than
// the listener is told of; an entry that is no address leaves the connection's.

import { parseAddress } from "../authz/address.ts";
import type { HttpChain } from "../chain/chain.ts";
import type { HostPort } from "../config.ts";
import type { Head } from "../http1/head.ts";
import { formatIp } from "../net/address.ts";
import { equalsIgnoreCase, latin1, text } from "./bytes.ts";
import type { Exchange } from "./exchange.ts";

const COMMA = 44;
const SPACE = 32;
const TAB = 9;
const forName = latin1("x-forwarded-for");
/** An IPv6 address that ends in the form of IPv4. */
const longestAddress = 45;

/**
 * The client of a request whose head is in `bytes`, without port, as text (RFC 5952). An edge that believes nobody has the connection's; a listener that
 * is no edge takes the last entry of X-Forwarded-For, as Envoy does: its callers are taken at their word.
 */
export function clientOf(x: Exchange, http: HttpChain, bytes: Uint8Array, head: Head): string {
  if (x.client !== null) return x.client;
  return (http.forwards ? null : claimedAddress(bytes, head, 0)) ?? plainAddress(x.down.remote().host);
}

/** What logs and header values call the client. `head` null: the request's is not at hand. */
export function loggedClient(x: Exchange, bytes: Uint8Array, head: Head | null): HostPort {
  const remote = x.down.remote();
  const http = x.chain.terminal as HttpChain;
  if (x.client === null && (http.forwards || head === null)) return remote;
  const client = head === null ? x.client : clientOf(x, http, bytes, head);
  // An entry of X-Forwarded-For has no port.
  return client === null || client === plainAddress(remote.host) ? remote : { host: client, port: 0 };
}

/** Where proxies are believed; the head says by now what this proxy adds to it. */
export function trustedClient(x: Exchange, http: HttpChain, bytes: Uint8Array, head: Head): string {
  const past = http.forwards && !http.appends ? http.trustedHops - 1 : http.trustedHops;
  return claimedAddress(bytes, head, past) ?? plainAddress(x.down.remote().host);
}

/** The entry of X-Forwarded-For with `past` entries behind it; several lines are one list (RFC 9110 5.3), empty ones nothing. null: there is none, or it is no address. */
export function claimedAddress(bytes: Uint8Array, head: Head, past: number): string | null {
  let left = past;
  for (let i = head.count - 1; i >= 0; i--) {
    const name = head.nameFrom[i] as number;
    const nameTo = head.nameTo[i] as number;
    if (nameTo - name !== forName.length || !equalsIgnoreCase(bytes, name, nameTo, forName)) continue;
    const from = head.valueFrom[i] as number;
    let to = head.valueTo[i] as number;
    if (from === to) continue;
    for (let at = to; at >= from; at--) {
      if (at > from && bytes[at - 1] !== COMMA) continue;
      if (left === 0) return addressIn(bytes, at, to);
      left--;
      to = at - 1;
    }
  }
  return null;
}

function addressIn(bytes: Uint8Array, start: number, end: number): string | null {
  let from = start;
  let to = end;
  while (from < to && (bytes[from] === SPACE || bytes[from] === TAB)) from++;
  while (to > from && (bytes[to - 1] === SPACE || bytes[to - 1] === TAB)) to--;
  if (to - from > longestAddress) return null;
  const words = text(bytes, from, to);
  // A zone has a meaning on one machine only.
  const address = words.includes("%") ? null : parseAddress(words);
  return address === null ? null : formatIp(address, 0, address.length);
}

/** A client of IPv4 at a socket for both families has an address of its own all the same. */
export function plainAddress(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice("::ffff:".length) : address;
}
