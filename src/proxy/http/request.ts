// Owns: the first half of a request's life, in order: what it is, where its route leads, whether it may go there, and its body as it comes in.

import { denial, judge, judgePath, subject } from "../authz/judge.ts";
import type { Permit } from "../authz/permit.ts";
import type { CompiledChain, HttpChain } from "../chain/chain.ts";
import { form, Head, parseRequest } from "../http1/head.ts";
import { limits as bounds } from "../http1/limits.ts";
import { filterTrailers } from "../http1/trailers.ts";
import { scratch } from "../net/outbox.ts";
import { isIdempotent } from "../resilience/retry.ts";
import { applyEdits } from "../route/edit.ts";
import { type CompiledHash, hashesSource, keyOf } from "../route/hash.ts";
import type { OnDemand } from "../route/on-demand.ts";
import { type CompiledForward, type CompiledHost, type CompiledRoute, chooseTarget, findRoute, hostNamed } from "../route/table.ts";
import { attempt } from "./attempt.ts";
import { equals, equalsIgnoreCase, latin1, text } from "./bytes.ts";
import { clientOf, trustedClient } from "./client-address.ts";
import { expectedMs } from "./deadline.ts";
import type { Exchange } from "./exchange.ts";
import { failures } from "./failure.ts";
import { answered, closesAfter, cut, reply } from "./finish.ts";
import { pauseDown, touch } from "./flow.ts";
import { cameSecurely, tellForwarded, toldHead } from "./forwarded.ts";
import { grpcTimeoutMs, isGrpc } from "./grpc.ts";
import { GrpcCall } from "./grpc-call.ts";
import { grpcHead, webCallOf, webHalf } from "./grpc-web.ts";
import { phase } from "./phase.ts";
import { writeDirect, writeRedirect } from "./reply.ts";
import { rewriteTarget } from "./rewrite-target.ts";
import { answerStages, runEarly, runStages, stagesFor } from "./staged.ts";
import { readTarget, target } from "./target.ts";

const headMethod = latin1("HEAD");

let tokens: typeof import("./tokens.ts") | null = null;
let copying: typeof import("../chain/mirror.ts") | null = null;
/** Of a request that was held. */
const heldHead = new Head();
/** Of a request that was translated; valid until the next one. */
const webHead = new Head();

export function beginRequest(
  x: Exchange,
  chain: CompiledChain,
  http: HttpChain,
  bytes: Uint8Array,
  head: Head,
  bodyFrom: number,
  bodyTo: number,
  done: boolean,
  nowMs: number,
): void {
  if (http.forwards) {
    const made = tellForwarded(bytes, head, http, x.down.remote().host, chain.tls !== null);
    if (made === null) {
      note(x, chain, http, bytes, head, bodyTo > bodyFrom, done, nowMs);
      reply(x, failures.noRoomForAddress, "");
      return;
    }
    const whole = bodyTo > bodyFrom ? Buffer.concat([made, bytes.subarray(bodyFrom, bodyTo)]) : made;
    beginTold(x, chain, http, whole, toldHead, made.length, whole.length, done, nowMs);
  } else beginTold(x, chain, http, bytes, head, bodyFrom, bodyTo, done, nowMs);
}

/** What is said of the client stands in the head. */
function beginTold(
  x: Exchange,
  chain: CompiledChain,
  http: HttpChain,
  bytes: Uint8Array,
  head: Head,
  bodyFrom: number,
  bodyTo: number,
  done: boolean,
  nowMs: number,
): void {
  const web = http.grpcWeb ? webCallOf(bytes, head) : null;
  x.web = web;
  if (web === null) {
    begin(x, chain, http, bytes, head, bodyFrom, bodyTo, done, nowMs);
    return;
  }
  x.half = webHalf(x.ownHalf, web);
  const made = grpcHead(web, bytes, head, webHead);
  const body = web.decode(bytes, bodyFrom, bodyTo);
  const whole = Buffer.concat([made, body ?? new Uint8Array(0)]);
  begin(x, chain, http, whole, webHead, made.length, whole.length, done, nowMs);
  if (body === null || (done && web.torn)) badWebBody(x);
}

function badWebBody(x: Exchange): void {
  if (x.answering) cut(x, failures.malformed);
  else if (!x.isIdle) reply(x, failures.malformed, "the body is not base64, which application/grpc-web-text announces");
}

function begin(
  x: Exchange,
  chain: CompiledChain,
  http: HttpChain,
  bytes: Uint8Array,
  head: Head,
  bodyFrom: number,
  bodyTo: number,
  done: boolean,
  nowMs: number,
): void {
  note(x, chain, http, bytes, head, bodyTo > bodyFrom, done, nowMs);
  if (http.trustedHops > 0) x.client = trustedClient(x, http, bytes, head);
  if (x.isConnect && !http.connect) {
    reply(x, failures.connectNotAllowed, "");
    return;
  }
  if (http.viaLine !== null && passedHere(http.viaLine, bytes, head)) {
    reply(x, failures.loop, "");
    return;
  }
  // What the policies judge is what is routed and forwarded.
  if (!readTarget(http, bytes, head, x.isConnect)) {
    reply(x, failures.badPath, "");
    return;
  }
  if (target.changed) x.path = target.bytes;
  // The route is found first, as Envoy does, so that a refusal is counted for the service it was meant for; but a refusal comes before "no route".
  const host = x.down.findHost(http.table, bytes, head.authorityFrom, head.authorityTo);
  const route =
    host === null
      ? null
      : findRoute(host, bytes, head, target.bytes, target.from, target.to, target.queryTo, x.isConnect, x.down.core.random);
  if (http.stages !== null && route !== null) {
    x.stages = stagesFor(http, route);
    x.route = route;
    if (x.stages !== null && !runEarly(x, bytes, head, nowMs)) return;
  }
  let seenBytes = bytes;
  let seen = head;
  if (http.jwt !== null) {
    // Loaded with the first of them: few proxies ask for tokens.
    tokens ??= require("./tokens.ts") as typeof import("./tokens.ts");
    const checked = tokens.checkTokens(x, http, http.jwt, route, bytes, head);
    if (checked === null) return;
    seen = checked;
    seenBytes = x.bytes;
  }
  const permit = authorize(x, http, route, seenBytes, seen);
  if (permit === null) return;
  x.permit = permit;
  x.body.length = 0;
  x.bodySize = 0;
  x.bodyKept = true;
  if (bodyTo > bodyFrom) {
    x.body.push(bytes.subarray(bodyFrom, bodyTo));
    x.bodySize = bodyTo - bodyFrom;
    if (x.grpc !== null) x.grpc.received.scan(bytes, bodyFrom, bodyTo);
  }
  if (http.onDemand !== null && host !== null) host.usedMs = nowMs;
  if (route === null) {
    withoutRoute(x, http, host, seenBytes, seen);
    return;
  }
  x.route = route;
  if (x.stages !== null && !runStages(x, seenBytes, seen, nowMs)) return;
  forwardIt(x, http, seenBytes, seen, nowMs);
}

function withoutRoute(x: Exchange, http: HttpChain, host: CompiledHost | null, bytes: Uint8Array, head: Head): void {
  const name = host === null ? text(bytes, head.authorityFrom, head.authorityTo) : "";
  if (http.onDemand !== null && host === null) {
    switch (http.onDemand.hold(x, http.table, bytes, head)) {
      case "held":
        return;
      case "absent":
        reply(x, failures.unknownHost, `no service of the mesh is called ${name}`);
        return;
      case "full":
        reply(x, failures.demandOverflow, "");
        return;
      case "no":
        break;
    }
  }
  reply(x, failures.noRoute, host === null ? `no route for the host ${name}` : "");
}

/** A request that was held for its host: the table has it now, or says that there is none, or the time is over. */
function routeAgain(x: Exchange, http: HttpChain, onDemand: OnDemand, bytes: Uint8Array, head: Head, nowMs: number): void {
  // As before: `target` is what the last request left there.
  if (!readTarget(http, bytes, head, x.isConnect)) {
    reply(x, failures.badPath, "");
    return;
  }
  if (target.changed) x.path = target.bytes;
  const table = http.table.current;
  const name = text(bytes, head.authorityFrom, head.authorityTo).toLowerCase();
  const host = table === null ? null : hostNamed(table, name);
  const absent = table?.absent.has(name) === true;
  onDemand.went(host !== null, absent);
  if (host === null) {
    if (absent) reply(x, failures.unknownHost, `no service of the mesh is called ${name}`);
    else reply(x, failures.lateHost, "");
    return;
  }
  host.usedMs = nowMs;
  const route = findRoute(host, bytes, head, target.bytes, target.from, target.to, target.queryTo, x.isConnect, x.down.core.random);
  if (route === null) {
    reply(x, failures.noRoute, "");
    return;
  }
  if (http.stages !== null) {
    x.stages = stagesFor(http, route);
    x.route = route;
    if (x.stages !== null && !runEarly(x, bytes, head, nowMs)) return;
  }
  // Policies may have changed meanwhile.
  const permit = authorize(x, http, route, bytes, head);
  if (permit === null) return;
  x.permit = permit;
  x.route = route;
  if (x.stages !== null && !runStages(x, bytes, head, nowMs)) return;
  forwardIt(x, http, bytes, head, nowMs);
}

/** A held request goes on where it stood. */
export function goOn(x: Exchange): void {
  const http = x.chain.terminal as HttpChain;
  const nowMs = x.down.core.ticker.nowMs;
  heldHead.limits = http.limits;
  parseRequest(x.bytes, x.headFrom, x.headTo, heldHead);
  if (x.route === null && http.onDemand !== null) {
    routeAgain(x, http, http.onDemand, x.bytes, heldHead, nowMs);
    return;
  }
  if (runStages(x, x.bytes, heldHead, nowMs)) forwardIt(x, http, x.bytes, heldHead, nowMs);
}

/** Everything has let it pass: on to the first attempt. */
function forwardIt(x: Exchange, http: HttpChain, bytes: Uint8Array, head: Head, nowMs: number): void {
  const core = x.down.core;
  const route = x.route as CompiledRoute;
  const forward = route.forward;
  if (forward === null) {
    answerHere(x, http, route, bytes, head);
    return;
  }
  x.forward = forward;
  // A stage that counts by cluster has drawn already.
  const to = x.target ?? chooseTarget(forward, core.random);
  x.target = to;
  const cluster = to.slot.current;
  if (cluster === null) {
    reply(x, forward.missingCluster, "");
    return;
  }
  x.cluster = cluster;
  if (cluster.activeRequests >= cluster.config.limits.maxRequests) {
    x.cluster = null;
    x.refusedBy = cluster;
    cluster.refused("max_requests");
    reply(x, failures.overflow, `the cluster is at its limit of ${cluster.config.limits.maxRequests} requests`);
    return;
  }
  cluster.activeRequests++;
  if (forward.pathRewrite !== null || forward.hostFrom !== null) {
    const why = rewriteTarget(x, forward, bytes, head);
    if (why !== "") {
      reply(x, failures.badPath, why);
      return;
    }
  }
  if (forward.timeoutMs > 0 && nowMs + forward.timeoutMs < x.timeoutAtMs) x.timeoutAtMs = nowMs + forward.timeoutMs;
  if (forward.idleTimeoutMs > 0) {
    x.idleLimitMs = forward.idleTimeoutMs;
    x.idleAtMs = nowMs + forward.idleTimeoutMs;
  }
  const retry = forward.retry;
  x.retriesLeft = retry === null ? 0 : retry.attempts;
  x.idempotent = retry !== null && isIdempotent(bytes, head.from, head.methodTo);
  if (head.upgrade >= 0) {
    x.upgrade = upgradeAllowed(http, forward, bytes, head);
    // An HTTP/1 client is answered without the upgrade (RFC 9110 7.8). Over HTTP/2 a 200 would say that the tunnel is open (RFC 8441 5).
    if (!x.upgrade && x.ownHalf.version === 2) {
      reply(x, failures.upgradeNotAllowed, "");
      return;
    }
  }
  if (x.isConnect && !forward.terminateConnect) {
    reply(x, failures.connectNotAllowed, "CONNECT to this route is not terminated here");
    return;
  }
  if (x.grpc !== null) {
    const limit = grpcTimeoutMs(bytes, head);
    if (limit >= 0 && nowMs + limit < x.timeoutAtMs) x.timeoutAtMs = nowMs + limit;
  } else {
    const limit = expectedMs(x, bytes, head);
    if (limit >= 0 && nowMs + limit < x.timeoutAtMs) x.timeoutAtMs = nowMs + limit;
  }
  if (forward.mirrors !== null) {
    // Loaded with the first copy: few proxies make any.
    copying ??= require("../chain/mirror.ts") as typeof import("../chain/mirror.ts");
    copying.mirror(x, forward.mirrors);
  }
  if (forward.hash !== null) findKey(x, http, forward.hash, bytes, head);
  attempt(x, nowMs, null, head);
}

function findKey(x: Exchange, http: HttpChain, policies: readonly CompiledHash[], bytes: Uint8Array, head: Head): void {
  const moved = x.path !== null;
  const path = x.path ?? bytes;
  const { random } = x.down.core;
  const source = hashesSource(policies) ? clientOf(x, http, bytes, head) : "";
  const key = keyOf(policies, bytes, head, path, moved ? 0 : head.pathFrom, moved ? path.length : head.pathTo, source, random);
  x.hashed = key.found;
  x.hash = key.hash;
  x.keyCookie = key.cookie;
}

/** Forgets the last request and notes what this one is. */
function note(
  x: Exchange,
  chain: CompiledChain,
  http: HttpChain,
  bytes: Uint8Array,
  head: Head,
  hasBody: boolean,
  done: boolean,
  nowMs: number,
): void {
  const core = x.down.core;
  core.activeRequests++;
  x.chain = chain;
  x.serial++;
  x.state = phase.waiting;
  x.bytes = bytes;
  x.headFrom = head.from;
  x.headTo = head.to;
  x.startMs = nowMs;
  x.route = null;
  x.forward = null;
  x.target = null;
  x.bodyWanted = 0;
  x.cluster = null;
  x.refusedBy = null;
  x.endpoint = null;
  x.stick = null;
  x.keyCookie = null;
  x.status = 0;
  x.flag = null;
  x.details = "";
  x.attempts = 0;
  x.requestBytes = 0;
  x.responseBytes = 0;
  x.opaque = false;
  x.requestDone = done;
  x.answerDone = false;
  x.sent = false;
  x.path = null;
  x.newPath = null;
  x.newHost = null;
  x.upgrade = false;
  x.minor = head.minor;
  x.teTrailers = head.teTrailers;
  x.downClose = head.minor === 1 ? head.close : !head.keepAlive || head.close;
  // Other spellings are refused (http1/head.ts).
  x.isHead = head.methodTo - head.from === 4 && equals(bytes, head.from, head.methodTo, headMethod);
  x.client = null;
  x.claims = null;
  x.isConnect = head.form === form.authority;
  // Also a body that came whole with its head: without a length HTTP/1 would take it for the next request.
  x.unsized = head.chunked || (x.half.version === 2 && (!done || hasBody) && head.contentLength < 0);
  x.framed = head.chunked && !core.unchunkRequests;
  x.timeoutAtMs = http.limits.streamDurationMs > 0 ? nowMs + http.limits.streamDurationMs : Number.POSITIVE_INFINITY;
  x.tryAtMs = Number.POSITIVE_INFINITY;
  const limits = http.limits;
  x.idleLimitMs = limits.streamIdleTimeoutMs;
  x.idleAtMs = limits.streamIdleTimeoutMs > 0 ? nowMs + limits.streamIdleTimeoutMs : Number.POSITIVE_INFINITY;
  x.upstreamPeer = null;
  if (x.half.version === 2 && isGrpc(bytes, head)) noteGrpc(x, bytes, head);
  else x.grpc = null;
  x.addedId = http.generateRequestId && head.requestId < 0;
  if (x.addedId) {
    x.id0 = (core.random() * 0x1_0000_0000) | 0;
    x.id1 = (core.random() * 0x1_0000_0000) | 0;
    x.id2 = (core.random() * 0x1_0000_0000) | 0;
    x.id3 = (core.random() * 0x1_0000_0000) | 0;
  }
}

function noteGrpc(x: Exchange, bytes: Uint8Array, head: Head): void {
  x.grpc = new GrpcCall(x.down.core.requests.method(bytes, head.pathFrom, head.pathTo));
}

function authorize(x: Exchange, http: HttpChain, route: CompiledRoute | null, bytes: Uint8Array, head: Head): Permit | null {
  const filters = http.rbac;
  if (filters.length === 0) return judge(filters);
  subject.head = head;
  subject.bytes = bytes;
  subject.claims = x.claims;
  subject.peer = x.down.peer;
  subject.wire = x.down.wire;
  subject.port = x.chain.port;
  subject.client = http.readsClient ? clientOf(x, http, bytes, head) : null;
  const permit = http.readsPath ? judgePath(filters) : judge(filters);
  if (permit === null) {
    x.details = denial.details;
    if (route !== null && route.forward !== null) x.refusedBy = chooseTarget(route.forward, x.down.core.random).slot.current;
    reply(x, failures.denied, denial.reason);
  }
  return permit;
}

function upgradeAllowed(http: HttpChain, forward: CompiledForward, bytes: Uint8Array, head: Head): boolean {
  if (http.upgrades.length === 0 && forward.upgrades.length === 0) return false;
  const token = text(bytes, head.valueFrom[head.upgrade] as number, head.valueTo[head.upgrade] as number).toLowerCase();
  return http.upgrades.includes(token) || forward.upgrades.includes(token);
}

const viaName = latin1("via");

/** RFC 9110 7.6.3: our own pseudonym in Via says that the request goes in a circle. */
function passedHere(line: Uint8Array, bytes: Uint8Array, head: Head): boolean {
  // `via: 1.1 NAME CRLF`
  const own = line.subarray(9, line.length - 2);
  for (let i = 0; i < head.count; i++) {
    if (!equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, viaName)) continue;
    let at = head.valueFrom[i] as number;
    const to = head.valueTo[i] as number;
    while (at < to) {
      let end = at;
      while (end < to && bytes[end] !== 44) end++;
      // `[protocol-name "/"] protocol-version RWS received-by [RWS comment]`
      while (at < end && bytes[at] === 32) at++;
      while (at < end && bytes[at] !== 32) at++;
      while (at < end && bytes[at] === 32) at++;
      let last = at;
      while (last < end && bytes[last] !== 32) last++;
      if (equals(bytes, at, last, own)) return true;
      at = end + 1;
    }
  }
  return false;
}

/** Redirects and direct answers. */
function answerHere(x: Exchange, http: HttpChain, route: CompiledRoute, bytes: Uint8Array, head: Head): void {
  const close = closesAfter(x, false) || (!x.requestDone && x.half.version === 1);
  let size = 0;
  if (route.direct !== null) {
    x.status = route.direct.status;
    if (x.stages !== null) answerStages(x, null, null);
    size = writeDirect(
      route.direct,
      text(bytes, head.authorityFrom, head.authorityTo),
      route.responseEdits === null ? null : applyEdits(x, route.responseEdits, null, null, true),
      x.isHead,
      close,
      x.answerLines,
    );
    x.details = "direct_response";
  } else if (route.redirect !== null) {
    x.status = route.redirect.action.status;
    if (x.stages !== null) answerStages(x, null, null);
    const edits = route.responseEdits === null ? null : applyEdits(x, route.responseEdits, null, null, true);
    size = writeRedirect(
      route.redirect,
      route.matchedSize,
      bytes,
      head,
      edits,
      close,
      x.answerLines,
      cameSecurely(http, x.chain.tls !== null, bytes, head),
    );
    x.details = "direct_response";
  }
  x.half.sendReply(size);
  answered(x);
}

// ---- the body ------------------------------------------------------------------------------------------------------------

/** More of the request's body, to be passed on as it is. */
export function moreBody(x: Exchange, bytes: Uint8Array, from: number, to: number, done: boolean): void {
  if (x.web === null) {
    passBody(x, bytes, from, to, done);
    return;
  }
  const body = x.web.decode(bytes, from, to);
  if (body === null || (done && x.web.torn)) badWebBody(x);
  else passBody(x, body, 0, body.length, done);
}

function passBody(x: Exchange, bytes: Uint8Array, from: number, to: number, done: boolean): void {
  x.requestDone = done;
  touch(x);
  if (x.state !== phase.waiting && x.state !== phase.answering) return;
  if ((to === from && !done) || x.answerDone) return;
  if (x.tap !== null) {
    x.tap.more(bytes, from, to);
    if (done) x.tap.done(null);
  }
  if (x.grpc !== null && to > from) x.grpc.received.scan(bytes, from, to);
  const half = x.up;
  const ready = x.sent && half !== null;
  if (to > from && (!ready || (x.bodyKept && x.state === phase.waiting))) keepBody(x, bytes, from, to, ready);
  if (ready && !half.sendBody(bytes, from, to, done)) pauseDown(x);
  if (!ready && x.bodySize >= (x.bodyWanted > bounds.replay ? x.bodyWanted : bounds.replay)) pauseDown(x);
  if (x.bodyWanted > 0 && x.held && (done || x.bodySize >= x.bodyWanted)) x.resume(x.serial);
}

/** The request ends with trailer fields. */
export function trailersOfRequest(x: Exchange, bytes: Uint8Array, from: number, to: number): void {
  x.requestDone = true;
  touch(x);
  if ((x.state !== phase.waiting && x.state !== phase.answering) || x.answerDone) return;
  const lines = filterTrailers(bytes.subarray(from, to) as Buffer);
  const half = x.up;
  const ready = x.sent && half !== null;
  // Kept for an attempt that is still to come; the bytes are the reader's own, so a copy.
  const needed = lines.length > 0 || x.framed;
  x.tap?.done(needed ? Buffer.from(lines) : null);
  if (needed && (!ready || x.bodyKept)) x.requestTrailerLines = Buffer.from(lines);
  if (x.bodyWanted > 0 && x.held) {
    x.resume(x.serial);
    return;
  }
  if (!ready) return;
  // With chunk framing kept, the reader has left the end to us.
  if (needed) half.sendTrailers(lines, 0, lines.length);
  else half.sendBody(scratch, 0, 0, true);
}

/** Keeps body bytes for an attempt to come. Over the bound they are given up, and with them the retry. */
function keepBody(x: Exchange, bytes: Uint8Array, from: number, to: number, ready: boolean): void {
  const size = to - from;
  if (ready && (x.retriesLeft === 0 || x.bodySize + size > (x.forward?.retry?.bodyBytes ?? 0))) {
    x.bodyKept = false;
    x.body.length = 0;
    x.bodySize = 0;
    return;
  }
  x.body.push(bytes.subarray(from, to));
  x.bodySize += size;
}
