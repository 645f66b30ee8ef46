// Owns: one attempt after another at one request: choosing an endpoint, getting a connection or stream to it, and sending. What follows a failure stands in again.ts.

import { pathEnd } from "../authz/path.ts";
import type { Permit } from "../authz/permit.ts";
import type { Cluster } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { whyNobody } from "../balance/nobody.ts";
import { pick } from "../balance/pick.ts";
import { wanted } from "../balance/wanted.ts";
import type { HttpChain } from "../chain/chain.ts";
import type { HostPort } from "../config.ts";
import { Upstream } from "../http1/client.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { takeIdle } from "../http1/pool.ts";
import { RequestPlan } from "../http1/write.ts";
import { acquireStream, offersHttp2 } from "../http2/pool.ts";
import { Budget, budgetDefaults } from "../resilience/budget.ts";
import { attemptCount, markAttempt, requestIdOf } from "../resilience/marks.ts";
import { applyEdits } from "../route/edit.ts";
import { rewritePrefix } from "../route/rewrite.ts";
import type { CompiledForward, CompiledRoute, CompiledTarget } from "../route/table.ts";
import { latin1 } from "./bytes.ts";
import { deadlineLine } from "./deadline.ts";
import type { Exchange } from "./exchange.ts";
import { failures } from "./failure.ts";
import { reply } from "./finish.ts";
import { pauseDown, resumeDown } from "./flow.ts";
import type { RequestNeeds, UpstreamHalf } from "./halves.ts";
import { standBack } from "./hedge.ts";
import { namedEndpoint } from "./named.ts";
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
  if (x.timeoutAtMs <= nowMs) {
    // It waited in a queue, or came so: nobody is there any more for the answer.
    if (!standBack(x)) reply(x, failures.expired, "");
    return;
  }
  if ((x.forward as CompiledForward).hash !== null) {
    wanted.hashed = x.hashed;
    wanted.hash = x.hash;
  }
  if (x.stick !== null) wanted.address = x.stick;
  let endpoint: Endpoint | null;
  if (cluster.names !== null) {
    endpoint = namedEndpoint(x, cluster.names, nowMs, not);
    if (endpoint === null) return;
  } else endpoint = pick(cluster, x.permit as Permit, nowMs, core.random, not);
  if (cluster.names === null && endpoint !== null && x.tried !== null) endpoint = untried(x, endpoint, nowMs, not);
  if (x.parked !== null && (endpoint === null || endpoint === not)) {
    standBack(x);
    return;
  }
  if (endpoint === null) {
    if (cluster.full && waitsForConnection(cluster)) wait(x, cluster, "each instance has all the connections that it may have");
    else if (cluster.full) {
      cluster.refused("instances");
      reply(x, failures.overflow, "every instance is at its limit of connections or requests");
    } else nobody(x, cluster, nowMs);
    return;
  }
  if (cluster.config.proxyProtocol !== undefined) {
    // Its header names one client; a pooled connection serves many.
    reply(x, failures.noneTakes, "the cluster wants a PROXY protocol header, which only opaque TCP can have: use a TCP listener for it");
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
  if (half === null && x.parked !== null) {
    standBack(x);
    return;
  }
  if (half === null) {
    wait(x, cluster, `the cluster is at its limit of ${cluster.config.limits.maxConnections} connections`);
    return;
  }
  x.attempts++;
  x.endpoint = endpoint;
  endpoint.active++;
  if (x.retrying && cluster.limited && x.retryAt === null) {
    x.retryAt = endpoint;
    endpoint.activeRetries++;
  }
  x.up = half;
  x.sent = false;
  if (endpoint.observer !== null) x.tryStartMs = core.ticker.now();
  const retry = (x.forward as CompiledForward).retry;
  if (retry !== null) {
    if (x.attempts === 1) noteRequest(x, nowMs);
    if (retry.perTryTimeoutMs > 0) x.tryAtMs = nowMs + retry.perTryTimeoutMs;
  }
  const own = x.ownHalf;
  if (half.open) send(x, half, head);
  own.arm();
}

function nobody(x: Exchange, cluster: Cluster, nowMs: number): void {
  const why = whyNobody(cluster, nowMs);
  reply(x, why === "" ? failures.noEndpoint : failures.noneTakes, why);
}

function wait(x: Exchange, cluster: Cluster, why: string): void {
  if (cluster.waiting.length < cluster.config.limits.maxPending) cluster.waiting.push(x);
  else {
    cluster.refused("max_pending_requests");
    reply(x, failures.overflow, `${why}, and ${cluster.waiting.length} requests wait for one`);
  }
}

/** All instances are full, but not of requests: a connection that ends or falls idle lets the next one on. */
function waitsForConnection({ usable, config: { endpointLimits } }: Cluster): boolean {
  if (endpointLimits === undefined) return false;
  return usable.some((one) => one.connections >= endpointLimits.maxConnections && one.active < endpointLimits.maxRequests);
}

/** What is left of a deadline is reckoned to the millisecond below this. */
const preciseBelowMs = 2_000;

/** How often an endpoint is drawn again because this request has failed there; Istio's number. */
const redraws = 5;

function untried(x: Exchange, first: Endpoint, nowMs: number, not: Endpoint | null): Endpoint {
  const tried = x.tried as Endpoint[];
  let endpoint: Endpoint = first;
  for (let n = 0; n < redraws && tried.includes(endpoint); n++) {
    const other = pick(x.cluster as Cluster, x.permit as Permit, nowMs, x.down.core.random, not);
    if (other === null) return endpoint;
    endpoint = other;
  }
  return endpoint;
}

/** The first attempt of a request whose route has retries: what later ones are a share of. */
function noteRequest(x: Exchange, nowMs: number): void {
  const cluster = x.cluster as Cluster;
  cluster.retryBudget ??= retryBudgetOf(cluster);
  cluster.retryBudget.note(nowMs);
  if ((x.forward as CompiledForward).retry?.hedge !== true) return;
  cluster.hedgeBudget ??= new Budget(budgetDefaults.hedgePercent, budgetDefaults.hedgesPerSecond);
  cluster.hedgeBudget.note(nowMs);
}

export function retryBudgetOf(cluster: Cluster): Budget {
  return new Budget(cluster.config.limits.retryBudget?.percent ?? budgetDefaults.retryPercent, budgetDefaults.retriesPerSecond);
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
  if (x.attempts > 1) plan.lines = joinLines(plan.lines, markAttempt(x.bytes, head, x.attempts));
  else if (x.chain.inbound && attemptCount(x.bytes, head) > 1) noteMarked(x, head);
  if (x.timeoutAtMs !== Number.POSITIVE_INFINITY || x.tryAtMs !== Number.POSITIVE_INFINITY) {
    const { ticker } = x.down.core;
    // The coarse clock will do where a tick is nothing.
    const nowMs = Math.min(x.timeoutAtMs, x.tryAtMs) - ticker.nowMs > preciseBelowMs ? ticker.nowMs : ticker.now();
    if (x.timeoutAtMs <= nowMs) {
      // Given up with its half, which is of no use to anybody in the middle of a request.
      x.sent = true;
      reply(x, failures.expired, "");
      return;
    }
    const hedges = (x.forward as CompiledForward).retry?.hedge === true;
    const left = (hedges || x.timeoutAtMs < x.tryAtMs ? x.timeoutAtMs : x.tryAtMs) - nowMs;
    const line = left === Number.POSITIVE_INFINITY ? null : deadlineLine(x, x.bytes, head, left > 1 ? left : 1);
    if (line !== null) plan.lines = joinLines(plan.lines, line);
  }
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
  if (x.body.length > 0 && (x.retriesLeft === 0 || x.bodySize > ((x.forward as CompiledForward).retry?.bodyBytes ?? 0))) {
    x.bodyKept = false;
    x.body.length = 0;
    x.bodySize = 0;
  }
  if (all) resumeDown(x);
  else pauseDown(x);
}

function joinLines(before: Uint8Array | null, more: Uint8Array): Uint8Array {
  return before === null ? more : Buffer.concat([before, more]);
}

/** A retry for the application beside us: what that application asks of others meanwhile, under the same id, is part of it. */
function noteMarked(x: Exchange, head: Head): void {
  const id = requestIdOf(x.bytes, head);
  if (id === "") return;
  x.markedId = id;
  x.down.core.retried.add(id);
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
