// Owns: finding a stream to an endpoint. The pool itself is the endpoint's `shared` list: the endpoint and its transport are the key, so connections that
// differ in address, TLS settings or expected identity never meet; those of an older secret generation take no new streams.

import type { Endpoint } from "../balance/endpoint.ts";
import { failures } from "../http/failure.ts";
import type { UpstreamHalf, UpstreamOwner } from "../http/halves.ts";
import type { Core } from "../runtime/core.ts";
import { limits } from "./limits.ts";
import { Http2Upstream } from "./upstream.ts";
import type { UpstreamStream } from "./upstream-stream.ts";

/** A connection that takes one more stream, or null. The oldest first, so that those of a burst fall idle and go. */
function connectionOf(endpoint: Endpoint): Http2Upstream | null {
  const tls = endpoint.transport.tls;
  const generation = tls === null ? 0 : tls.generation;
  const shared = endpoint.shared;
  for (let i = 0; i < shared.length; i++) {
    const one = shared[i];
    if (one instanceof Http2Upstream && one.accepts(generation)) return one;
  }
  // Those of an older generation finish what they have.
  for (const one of [...shared]) if (one.generation !== generation) one.dispose();
  return null;
}

/** Where HTTP/1.1 and HTTP/2 will both do: is HTTP/2 tried? Not after ALPN has said HTTP/1.1; but a new connection, where one is needed, asks again now and then. */
export function offersHttp2(endpoint: Endpoint, nowMs: number): boolean {
  if (endpoint.agreed !== "http/1.1") return true;
  return endpoint.idle.length === 0 && endpoint.agreedAtMs + limits.askAgainMs <= nowMs;
}

/** May the cluster have one more connection? */
function mayConnect(endpoint: Endpoint): boolean {
  const { connections, config } = endpoint.cluster;
  if (config.endpointLimits !== undefined && endpoint.connections >= config.endpointLimits.maxConnections) return false;
  return connections < config.limits.maxConnections;
}

function connect(core: Core, endpoint: Endpoint, nowMs: number): Http2Upstream {
  const made = new Http2Upstream(core, endpoint, nowMs, (stream) => moveOn(core, endpoint, stream));
  made.connect();
  return made;
}

/** A stream that waited for a connection whose peer allows fewer than was assumed. */
function moveOn(core: Core, endpoint: Endpoint, stream: UpstreamStream): void {
  const other = connectionOf(endpoint);
  if (other !== null) {
    other.join(stream);
    if (stream.open) stream.ready();
  } else if (mayConnect(endpoint)) connect(core, endpoint, core.ticker.nowMs).join(stream);
  else stream.failed(failures.overflow, "every connection is full");
}

/**
 * A stream to the endpoint for `owner`: `open` when it can be sent to at once; otherwise the owner hears `onUpstreamReady` or `onUpstreamFailed` later,
 * never within this call. null: every connection is full, and the cluster is at its limit of connections; `cluster.wakeOne` comes when that changes.
 */
export function acquireStream(core: Core, endpoint: Endpoint, owner: UpstreamOwner, nowMs: number): UpstreamHalf | null {
  const known = connectionOf(endpoint);
  if (known !== null) return known.take(owner);
  return mayConnect(endpoint) ? connect(core, endpoint, nowMs).take(owner) : null;
}
