// Owns: taking an idle upstream connection that may still be used. The pool itself is the endpoint's `idle` list: the endpoint and its transport
// are the key, so connections that differ in address, TLS settings or expected identity never meet; the secret generation is checked here.

import type { Endpoint } from "../balance/endpoint.ts";
import { Upstream, upstreamState } from "./client.ts";

/** The connection used last, or null. Those of an older secret generation are let go. */
export function takeIdle(endpoint: Endpoint): Upstream | null {
  const idle = endpoint.idle;
  if (idle.length === 0) return null;
  const tls = endpoint.transport.tlsHttp1;
  const generation = tls === null ? 0 : tls.generation;
  for (;;) {
    const connection = idle.pop();
    if (connection === undefined) return null;
    if (!(connection instanceof Upstream) || connection.state !== upstreamState.idle) continue;
    if (connection.generation === generation) return connection;
    connection.dispose();
  }
}
