// Owns: which endpoint of a cluster of names (names/names.ts) a request is for: by its authority, as the client has written it. Outside the common path:
// only clusters that lead wherever a request says come here.

import type { Endpoint } from "../balance/endpoint.ts";
import type { HttpChain } from "../chain/chain.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { hostAndPort, type Names } from "../names/names.ts";
import { text } from "./bytes.ts";
import type { Exchange } from "./exchange.ts";
import { failures } from "./failure.ts";
import { reply } from "./finish.ts";

const namedHead = new Head();

/** Null: the request waits for an answer of DNS, or has been answered here. */
export function namedEndpoint(x: Exchange, names: Names, nowMs: number, not: Endpoint | null): Endpoint | null {
  namedHead.limits = (x.chain.terminal as HttpChain).limits;
  parseRequest(x.bytes, x.headFrom, x.headTo, namedHead);
  const authority = text(x.bytes, namedHead.authorityFrom, namedHead.authorityTo);
  // RFC 9110 4.2.1: http without a port means 80; a CONNECT always has one.
  const place = hostAndPort(authority, 80);
  if (place === null) {
    reply(x, failures.noEndpoint, "the authority of the request is no host with a port");
    return null;
  }
  const endpoint = names.find(place.host, place.port, nowMs, not, x);
  if (endpoint === null) {
    if (names.problem !== "") reply(x, failures.noEndpoint, names.problem);
    return null;
  }
  const own = x.down.local();
  if (endpoint.port === own.port && (endpoint.host === own.host || isLoopback(endpoint.host))) {
    // It would come back here for ever.
    reply(x, failures.loop, "");
    return null;
  }
  return endpoint;
}

function isLoopback(host: string): boolean {
  return host.startsWith("127.") || host === "::1" || host === "::" || host === "0.0.0.0";
}
