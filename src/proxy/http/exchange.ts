// Owns: one request as a record of everything that is known about it, and the events that either protocol reports; what happens then stands in its
// neighbours, in the order of a request's life: request.ts (route, permit), attempt.ts (endpoint, retries), answer.ts, tunnel.ts, finish.ts (local
// replies, the count at the end), flow.ts (back pressure). Reused by its downstream half for one request after another; everything a request needs
// is a field (rule 3), nothing is awaited.
// States: idle -> waiting (for a connection or an answer) -> answering -> idle, or -> tunnel. Late events of a finished attempt do not match `up`
// and are swallowed.

import type { Timer } from "../../base/clock.ts";
import type { Permit } from "../authz/permit.ts";
import type { Cluster, Waiter } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import type { Ticket } from "../chain/admission.ts";
import type { CompiledChain, HttpChain } from "../chain/chain.ts";
import type { AuthCheck } from "../chain/ext-authz.ts";
import type { AskedLimit } from "../chain/global-rate-limit.ts";
import type { KnownClaims } from "../chain/jwt.ts";
import type { MirrorTap } from "../chain/mirror.ts";
import type { Stage } from "../chain/stage.ts";
import type { Head } from "../http1/head.ts";
import { scratch } from "../net/outbox.ts";
import type { TokenBucket } from "../resilience/bucket.ts";
import type { CompiledForward, CompiledRoute, CompiledTarget } from "../route/table.ts";
import type { ResponseFlag } from "../telemetry/record.ts";
import { failed, tryTimedOut } from "./again.ts";
import { answer, answerBody, answerTrailers, interim } from "./answer.ts";
import { attempt, send } from "./attempt.ts";
import { type Failure, failures } from "./failure.ts";
import { cut, end, reply } from "./finish.ts";
import { dropAttempt, leaveEndpoint, resumeDown } from "./flow.ts";
import type { GrpcCall } from "./grpc-call.ts";
import type { WebCall } from "./grpc-web.ts";
import type { DownstreamConnection, DownstreamHalf, RequestSink, UpstreamHalf, UpstreamOwner } from "./halves.ts";
import { lostParked, type Parked, standBack, wins } from "./hedge.ts";
import { sawFailure } from "./observe.ts";
import { phase } from "./phase.ts";
import { beginRequest, goOn, moreBody, trailersOfRequest } from "./request.ts";
import { rawBytes, rawEnd, switched, tunnelFromClient, tunnelInputEnded } from "./tunnel.ts";

/** How much earlier than ours a deadline that was passed on may end: rounding at each hop, and the way there and back. */
const earlierMs = 10;

export class Exchange implements RequestSink, UpstreamOwner, Waiter {
  /** Where the answer goes. Not always the protocol's own half: a translation (gRPC-Web) stands before it for one request. */
  half: DownstreamHalf;
  ownHalf: DownstreamHalf;
  down: DownstreamConnection;
  state: number = phase.idle;
  chain: CompiledChain;
  route: CompiledRoute | null = null;
  forward: CompiledForward | null = null;
  /** The cluster of its route that was chosen; set before the first attempt. */
  target: CompiledTarget | null = null;
  cluster: Cluster | null = null;
  endpoint: Endpoint | null = null;
  up: UpstreamHalf | null = null;
  permit: Permit | null = null;
  /** The bytes that hold the request's head, kept for another attempt and for the record. */
  bytes: Uint8Array = scratch;
  headFrom = 0;
  headTo = 0;
  isHead = false;
  isConnect = false;
  minor = 1;
  /** The client takes trailers (RFC 9110 10.1.4). */
  teTrailers = false;
  upgrade = false;
  /** `requestBytes` is counted here and not by the connection's body reader. */
  opaque = false;
  /** The method may be repeated (RFC 9110 9.2.2). */
  idempotent = false;
  /** The downstream connection cannot be used after this answer. */
  downClose = false;
  /** The path in its judged form, when that differs; with query. */
  path: Uint8Array | null = null;
  /** What a route makes of path (with query) and host, where that depends on the request. */
  newPath: Uint8Array | null = null;
  newHost: Uint8Array | null = null;
  /** Whom proxies that are believed say it comes from; null = this listener believes none. */
  client: string | null = null;
  /** What its good tokens say (chain/jwt.ts); null = nothing is known. */
  claims: KnownClaims | null = null;
  addedId = false;
  id0 = 0;
  id1 = 0;
  id2 = 0;
  id3 = 0;
  startMs = 0;
  attempts = 0;
  retriesLeft = 0;
  /** Endpoints that failed this request; null = none yet. */
  tried: Endpoint[] | null = null;
  /** The wait before another attempt; null = none. */
  backOff: Timer | null = null;
  /** Its place with the service (chain/admission.ts); null = none. */
  ticket: Ticket | null = null;
  /** The rate limit that its answer tells of; null = none. */
  rateBucket: TokenBucket | null = null;
  /** Whether it may pass, as somebody is asked or was (chain/ext-authz.ts); null = nobody. */
  authCheck: AuthCheck | null = null;
  /** While it is held: it goes on when so many bytes of its body are here, or all; 0 = it does not wait for them. */
  bodyWanted = 0;
  /** What was asked of a rate limit service, and what it said; null = nothing. */
  askedLimit: AskedLimit | null = null;
  /** Attempts that go on beside the one in `up` (http/hedge.ts); null = none. */
  parked: Parked[] | null = null;
  /** It came as a retry: its id among `core.retried`. */
  markedId: string | null = null;
  /** When this attempt began, and how long its answer's head took; only where the endpoint is observed. */
  tryStartMs = 0;
  tryLatencyMs = 0;
  /** Its key, where its route names one (`forward.hash`). */
  hashed = false;
  hash = 0n;
  /** `host:port` of the endpoint that its session stays with; null = any. */
  stick: string | null = null;
  /** A Set-Cookie line that its key needs; null = none. */
  keyCookie: Uint8Array | null = null;
  retrying = false;
  /** Counted there as another attempt, where its instances have limits. */
  retryAt: Endpoint | null = null;
  status = 0;
  flag: ResponseFlag | null = null;
  details = "";
  reason = "";
  requestBytes = 0;
  responseBytes = 0;
  requestDone = false;
  /** The answer is complete; the request may not be. */
  answerDone = false;
  /** Request body that is not sent yet, or may have to be sent again. */
  readonly body: Uint8Array[] = [];
  bodySize = 0;
  /** Everything of the body so far is in `body`. */
  bodyKept = true;
  /** The request's body carries chunk framing; otherwise, without a length, an HTTP/1 half makes chunks. */
  framed = false;
  /** The request has a body whose length is not in its head. */
  unsized = false;
  /** Trailer fields of the request that wait for their attempt, filtered. */
  requestTrailerLines: Uint8Array | null = null;
  /** The head of this attempt is out: a failure from now on may have reached the application. */
  sent = false;
  downPaused = false;
  upPaused = false;
  /** Request deadline; Infinity = none. */
  timeoutAtMs = Number.POSITIVE_INFINITY;
  tryAtMs = Number.POSITIVE_INFINITY;
  idleAtMs = Number.POSITIVE_INFINITY;
  idleLimitMs = 0;
  /** A cluster that was full, so that no place in it was taken: for the labels. */
  refusedBy: Cluster | null = null;
  /** Upstream principal of the last connection, for the record. */
  upstreamPeer: string | null = null;
  /** A gRPC-Web request; null for any other. */
  web: WebCall | null = null;
  /** What is counted of a gRPC call; null for any other request. */
  grpc: GrpcCall | null = null;
  /** Stages of its chain and route; null = none. */
  stages: readonly Stage[] | null = null;
  /** How many of them were asked. */
  stageAt = 0;
  /** A stage holds it until `resume`, or until `tryAtMs`. */
  held = false;
  /** That stage is asked once more when the request goes on. */
  askAgain = false;
  /** Told apart from the exchange's other requests by those who come back to it later. */
  serial = 0;
  /** Of its injected faults (chain/fault.ts): what has happened, and the bytes a second of a slow answer. */
  faults = 0;
  slowTo = 0;
  /** Takes the body for copies of the request; null = nobody does. */
  tap: MirrorTap | null = null;
  /** Header lines that stages add to the answer and to every attempt. */
  answerLines: Uint8Array | null = null;
  requestLines: Uint8Array | null = null;

  constructor(half: DownstreamHalf, chain: CompiledChain) {
    this.half = half;
    this.ownHalf = half;
    this.down = half.connection;
    this.chain = chain;
  }

  /** For requests of another half; idle only. */
  attach(half: DownstreamHalf, chain: CompiledChain): void {
    this.half = half;
    this.ownHalf = half;
    this.down = half.connection;
    this.chain = chain;
    this.downPaused = false;
    this.upPaused = false;
  }

  get isIdle(): boolean {
    return this.state === phase.idle;
  }

  get answering(): boolean {
    return this.state === phase.answering || this.state === phase.tunnel;
  }

  get deadlineMs(): number {
    return Math.min(this.timeoutAtMs, this.tryAtMs, this.idleAtMs);
  }

  // ---- what the downstream protocol reports --------------------------------------------------------------------------------

  begin(
    chain: CompiledChain,
    http: HttpChain,
    bytes: Uint8Array,
    head: Head,
    bodyFrom: number,
    bodyTo: number,
    done: boolean,
    nowMs: number,
  ): void {
    beginRequest(this, chain, http, bytes, head, bodyFrom, bodyTo, done, nowMs);
  }

  requestBody(bytes: Uint8Array, from: number, to: number, done: boolean): void {
    moreBody(this, bytes, from, to, done);
  }

  requestTrailers(bytes: Uint8Array, from: number, to: number): void {
    trailersOfRequest(this, bytes, from, to);
  }

  abandon(failure: Failure): void {
    if (this.state === phase.idle) return;
    this.flag ??= failure.flag;
    if (this.details === "" || this.state === phase.waiting) this.details = failure.details;
    // A connection that is still being made may serve somebody else.
    dropAttempt(this);
    end(this);
  }

  refuse(chain: CompiledChain, failure: Failure, status: number, reason: string): void {
    this.chain = chain;
    this.down.core.activeRequests++;
    this.bytes = scratch;
    this.headFrom = 0;
    this.headTo = 0;
    this.startMs = this.down.core.ticker.nowMs;
    this.route = null;
    this.cluster = null;
    this.refusedBy = null;
    this.endpoint = null;
    this.status = status;
    this.flag = failure.flag;
    this.details = failure.details;
    this.reason = reason;
    this.attempts = 0;
    this.requestBytes = 0;
    this.responseBytes = 0;
    this.opaque = true;
    this.grpc = null;
    this.stages = null;
    end(this);
  }

  onDeadline(nowMs: number): void {
    if (this.timeoutAtMs <= nowMs) {
      this.timeoutAtMs = Number.POSITIVE_INFINITY;
      if (this.up !== null && !this.answering) sawFailure(this, this.endpoint as Endpoint, failures.timeout);
      this.#giveUp(failures.timeout);
    } else if (this.tryAtMs <= nowMs) {
      this.tryAtMs = Number.POSITIVE_INFINITY;
      if (this.held) {
        this.resume(this.serial);
        return;
      }
      tryTimedOut(this);
    } else if (this.idleAtMs <= nowMs) {
      this.idleAtMs = Number.POSITIVE_INFINITY;
      this.#giveUp(this.requestDone || this.answering ? failures.idle : failures.idleRequest);
    }
  }

  /** The stage that held the request of this number lets go; nothing if that request is over. */
  resume(serial: number): void {
    if (serial !== this.serial || !this.held) return;
    this.held = false;
    this.tryAtMs = Number.POSITIVE_INFINITY;
    if (this.askAgain) {
      this.askAgain = false;
      this.stageAt--;
    }
    goOn(this);
  }

  #giveUp(failure: Failure): void {
    dropAttempt(this);
    if (this.answering) cut(this, failure);
    else reply(this, failure, "");
  }

  downDrained(): void {
    if (!this.upPaused) return;
    this.upPaused = false;
    this.up?.resumeReading();
  }

  tunnelBytes(bytes: Uint8Array): void {
    tunnelFromClient(this, bytes);
  }

  tunnelEnd(): void {
    tunnelInputEnded(this);
  }

  // ---- what the upstream half and the cluster report -------------------------------------------------------------------------

  /** A place in the cluster's queue came up. */
  retryPick(): void {
    if (this.state === phase.waiting && this.up === null) attempt(this, this.down.core.ticker.nowMs, null, null);
    else this.cluster?.wakeOne();
  }

  onUpstreamReady(half: UpstreamHalf): void {
    if (half === this.up) send(this, half, null);
  }

  onUpstreamFailed(half: UpstreamHalf, failure: Failure, why: string): void {
    if (half !== this.up) {
      if (this.parked !== null) lostParked(this, half);
      return;
    }
    leaveEndpoint(this);
    if (this.parked !== null && standBack(this)) return;
    failed(this, failure, why);
  }

  onUpstreamLost(half: UpstreamHalf, failure: Failure, why: string): void {
    if (half !== this.up) {
      if (this.parked !== null) lostParked(this, half);
      return;
    }
    leaveEndpoint(this);
    // The instance keeps the same deadline (grpc-timeout), shortened on its way, and may be a little earlier than our clock: late is late, not lost.
    if (this.timeoutAtMs <= this.down.core.ticker.now() + (this.grpc === null ? 0 : earlierMs)) {
      this.#giveUp(failures.timeout);
      return;
    }
    if (this.answering) cut(this, failure === failures.reset ? failures.truncated : failure);
    else if (this.parked === null || !standBack(this)) failed(this, failure, why);
  }

  onInterim(half: UpstreamHalf, bytes: Uint8Array, head: Head): void {
    if (half === this.up) interim(this, bytes, head);
  }

  onAnswer(half: UpstreamHalf, bytes: Uint8Array, head: Head, from: number, to: number, done: boolean): void {
    if (this.parked !== null && !wins(this, half, head.status)) return;
    if (half === this.up) answer(this, half, bytes, head, from, to, done);
  }

  onAnswerBody(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number, done: boolean): void {
    if (half === this.up) answerBody(this, half, bytes, from, to, done);
  }

  onAnswerTrailers(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number): void {
    if (half === this.up) answerTrailers(this, half, bytes, from, to);
  }

  onSwitch(half: UpstreamHalf, bytes: Uint8Array, head: Head, from: number, to: number): void {
    if (half === this.up) switched(this, half, bytes, head, from, to);
  }

  onUpstreamDrained(half: UpstreamHalf): void {
    if (half === this.up) resumeDown(this);
  }

  onRawBytes(half: UpstreamHalf, bytes: Uint8Array): void {
    if (half === this.up) rawBytes(this, half, bytes);
  }

  onRawEnd(half: UpstreamHalf): void {
    if (half === this.up) rawEnd(this);
  }
}
