// Owns: one attempt after another at one request: choosing an endpoint, getting a connection or stream to it, sending, and judging what failed.

import { pathEnd } from "../authz/path.ts";
import type { Permit } from "../authz/permit.ts";
import type { Cluster } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { pick } from "../balance/pick.ts";
import { wanted } from "../balance/wanted.ts";
import type { HttpChain } from "../chain/chain.ts";
import type { HostPort } from "../config.ts";
import { Upstream } from "../http1/client.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { limits } from "../http1/limits.ts";
import { takeIdle } from "../http1/pool.ts";
import { RequestPlan } from "../http1/write.ts";
import { http2Failures } from "../http2/failures.ts";
import { acquireStream, offersHttp2 } from "../http2/pool.ts";
import { retryOn } from "../resilience/retry.ts";
import { applyEdits } from "../route/edit.ts";
import { rewritePrefix } from "../route/rewrite.ts";
import type { CompiledForward, CompiledRoute, CompiledTarget } from "../route/table.ts";
import { latin1 } from "./bytes.ts";
import type { Exchange } from "./exchange.ts";
import { type Failure, failures } from "./failure.ts";
import { reply } from "./finish.ts";
import { leaveEndpoint, pauseDown, resumeDown } from "./flow.ts";
import type { RequestNeeds, UpstreamHalf } from "./halves.ts";
import { sawFailure } from "./observe.ts";
import { phase } from "./phase.ts";
import { endpointHost } from "./rewrite-target.ts";
import { openTunnel } from "./tunnel.ts";

/** For re-parsing a kept request; `parseRequest` of a fresh one has its own in the server connection. */
const againHead = new Head();
const plan = new RequestPlan();
/** One, reused: halves read it within the call. */
const needs: { -readonly [K in keyof RequestNeeds]: RequestNeeds[K] } = {
  isHead: false,
  allowSwitch: false,
  unchunk: false,
  addChunks: false,
  end: true,
  endsWithData: false,
};

/** `head` is the parsed request when this is the first attempt, made at once. */
export function attempt(x: Exchange, nowMs: number, not: Endpoint | null, head: Head | null): void {
  const cluster = x.cluster as Cluster;
  const core = x.down.core;
  if ((x.forward as CompiledForward).hash !== null) {
    wanted.hashed = x.hashed;
    wanted.hash = x.hash;
  }
  if (x.stick !== null) wanted.address = x.stick;
  let endpoint = pick(cluster, x.permit as Permit, nowMs, core.random, not);
  if (endpoint === null) {
    if (cluster.full) reply(x, failures.overflow, "every instance is at its limit of connections or requests");
    else reply(x, failures.noEndpoint, "");
    return;
  }
  if (cluster.config.proxyProtocol !== undefined) {
    // Its header names one client; a pooled connection serves many.
    reply(x, failures.noEndpoint, "the cluster wants a PROXY protocol header, which only opaque TCP can have: use a TCP listener for it");
    return;
  }
  let half: UpstreamHalf | null;
  if (speaksHttp2(x, endpoint, nowMs)) half = acquireStream(core, endpoint, x, nowMs);
  else {
    let idle = takeIdle(endpoint);
    if (idle === null && cluster.connections >= cluster.config.limits.maxConnections) {
      // At the limit any endpoint that has a connection is better than waiting.
      for (const other of cluster.usable) {
        idle = takeIdle(other);
        if (idle === null) continue;
        endpoint = other;
        break;
      }
    }
    half = idle;
    if (idle !== null) idle.take(x);
    else if (cluster.connections < cluster.config.limits.maxConnections) {
      const made = new Upstream(core, endpoint, x, nowMs);
      made.connect();
      half = made;
    }
  }
  if (half === null) {
    if (cluster.waiting.length >= cluster.config.limits.maxPending)
      reply(x, failures.overflow, `the cluster is at its limit of ${cluster.config.limits.maxConnections} connections`);
    else cluster.waiting.push(x);
    return;
  }
  x.attempts++;
  x.endpoint = endpoint;
  endpoint.active++;
  x.up = half;
  x.sent = false;
  if (endpoint.observer !== null) x.tryStartMs = core.ticker.now();
  const perTry = (x.forward as CompiledForward).retry?.perTryTimeoutMs ?? 0;
  if (perTry > 0) x.tryAtMs = nowMs + perTry;
  const own = x.ownHalf;
  if (half.open) send(x, half, head);
  own.arm();
}

/** Opaque bytes (CONNECT terminated here) always have a connection of their own, and so have upgrades where there is a choice. */
function speaksHttp2(x: Exchange, endpoint: Endpoint, nowMs: number): boolean {
  const transport = endpoint.transport;
  if (transport.protocol === "http1" || x.isConnect) return false;
  if (transport.protocol === "http2") return true;
  if (transport.protocol === "downstream") return x.half.version === 2;
  return transport.tls !== null && !x.upgrade && offersHttp2(endpoint, nowMs);
}

/** Writes head and what there is of the body. */
export function send(x: Exchange, half: UpstreamHalf, parsed: Head | null): void {
  if (x.isConnect) {
    openTunnel(x, half);
    return;
  }
  if (x.framed && half.version === 2) {
    // The cluster turned to HTTP/2 while this request was read with its chunks.
    reply(x, failures.reset, "the protocol of the instance changed within the request");
    return;
  }
  let head = parsed;
  if (head === null) {
    head = againHead;
    head.limits = (x.chain.terminal as HttpChain).limits;
    parseRequest(x.bytes, x.headFrom, x.headTo, head);
  }
  fillPlan(x, head);
  needs.isHead = x.isHead;
  needs.allowSwitch = x.upgrade;
  needs.unchunk = x.minor === 0 || x.half.version === 2;
  needs.addChunks = x.unsized && !x.framed;
  needs.end = x.requestDone && x.requestTrailerLines === null;
  needs.endsWithData = x.grpc !== null;
  x.sent = true;
  const all = half.sendRequest(x.bytes, head, plan, needs, x.body);
  const trailers = x.requestTrailerLines;
  if (trailers !== null && x.requestDone) half.sendTrailers(trailers, 0, trailers.length);
  if (x.body.length > 0 && (x.retriesLeft === 0 || x.bodySize > limits.replay)) {
    x.bodyKept = false;
    x.body.length = 0;
    x.bodySize = 0;
  }
  if (all) resumeDown(x);
  else pauseDown(x);
}

/** What the forwarded head differs in. */
function fillPlan(x: Exchange, head: Head): void {
  const route = x.route as CompiledRoute;
  const forward = x.forward as CompiledForward;
  const bytes = x.bytes;
  const to = x.target as CompiledTarget;
  plan.edits = to.requestEdits === null ? null : applyEdits(x, to.requestEdits, bytes, head, false);
  plan.path = x.path;
  plan.pathSize = x.path === null ? 0 : x.path.length;
  if (forward.prefixRewrite !== null) {
    const source = x.path ?? bytes;
    const from = x.path === null ? head.pathFrom : 0;
    const end = x.path === null ? head.pathTo : x.path.length;
    plan.path = rewritePrefix(forward.prefixRewrite, route.matchedSize, source, from, pathEnd(source, from, end), end);
    plan.pathSize = plan.path.length;
  } else if (x.newPath !== null) {
    plan.path = x.newPath;
    plan.pathSize = x.newPath.length;
  }
  plan.host = to.hostRewrite;
  if (forward.hostFrom !== null) plan.host ??= forward.hostFrom.kind === "endpoint" ? endpointHost(x.endpoint as Endpoint) : x.newHost;
  // RFC 9112 3.3: HTTP/1.0 may come without Host, and means whom it has reached; HTTP/1.1 may not go on without.
  if (plan.host === null && head.authorityTo === head.authorityFrom) plan.host = ownAuthority(x.down.local());
  plan.addId = x.addedId;
  plan.id0 = x.id0;
  plan.id1 = x.id1;
  plan.id2 = x.id2;
  plan.id3 = x.id3;
  plan.keepUpgrade = x.upgrade;
  // Who did not ask is spared a header that some applications stumble over; an HTTP/2 client that wants trailers says so too (gRPC does).
  plan.takesTrailers = x.teTrailers && x.minor === 1;
  plan.viaLine = (x.chain.terminal as HttpChain).viaLine;
  plan.lines = x.requestLines;
}

function ownAuthority(local: HostPort): Uint8Array {
  return latin1(local.host.includes(":") ? `[${local.host}]:${local.port}` : `${local.host}:${local.port}`);
}

/** RFC 9110 6.5.1: trailers are for those who said `TE: trailers`; in HTTP/2 nobody has to. */
export function mayTakeTrailers(x: Exchange): boolean {
  return x.half.version === 2 || (x.teTrailers && x.minor === 1);
}

/** An attempt ended without an answer: again, or tell the client. */
export function failed(x: Exchange, failure: Failure, why: string): void {
  const last = x.endpoint;
  // Not a failure of anybody: ALPN has said which version it is, and nothing was sent.
  if (failure === http2Failures.http1Only) {
    x.attempts--;
    attempt(x, x.down.core.ticker.nowMs, null, null);
    return;
  }
  if (last !== null && last.observer !== null) sawFailure(x, last, failure);
  if (mayRetry(x, failure)) again(x, last);
  else reply(x, failure, why);
}

function mayRetry(x: Exchange, failure: Failure): boolean {
  const retry = x.forward?.retry ?? null;
  if (retry === null || x.retriesLeft === 0 || !x.bodyKept || x.state !== phase.waiting || !retryFits(x)) return false;
  if (failure.retry === "safe") return (retry.on & (retryOn.connectFailure | retryOn.refusedStream)) !== 0;
  if (failure.retry === "idempotent") return x.idempotent && (retry.on & retryOn.reset) !== 0;
  return false;
}

/** The cluster's limit of parallel retries. 3 is Envoy's default, and taken for "not set" (Istio lifts it too): three would turn the end of one busy instance into errors. */
export function retryFits(x: Exchange): boolean {
  const cluster = x.cluster as Cluster;
  const most = cluster.config.limits.maxRetries;
  return most === 3 || x.retrying || cluster.activeRetries < most;
}

export function again(x: Exchange, last: Endpoint | null): void {
  x.retriesLeft--;
  if (!x.retrying) {
    x.retrying = true;
    (x.cluster as Cluster).activeRetries++;
  }
  x.down.core.retries.value++;
  x.sent = false;
  x.tryAtMs = Number.POSITIVE_INFINITY;
  attempt(x, x.down.core.ticker.nowMs, last, null);
}

/** The attempt's half goes back (or is given up) for another attempt. */
export function leaveForAnother(x: Exchange, half: UpstreamHalf, done: boolean): void {
  leaveEndpoint(x);
  if (done) half.release(x.requestDone, x.down.core.ticker.nowMs);
  else {
    half.owner = null;
    half.dispose();
  }
}
