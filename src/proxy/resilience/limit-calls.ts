// Owns: asking a rate limit service (`envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`): one unary gRPC call over a stream of the connections that
// requests to its cluster take: the same TLS, the same identity, the same pool. Each call ends exactly once, with an answer or a sentence. Decides nothing.
// rule 3: an answer is read with the generic decoder and told in text, since each has cost a round trip by then.

import type { Timer } from "../../base/clock.ts";
import type { RateLimitResponse } from "../../wire/gen/envoy/service/ratelimit/v3/rls_pb.ts";
import type { Permit } from "../authz/permit.ts";
import type { Cluster, ClusterSlot } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { pick } from "../balance/pick.ts";
import type { Failure } from "../http/failure.ts";
import { grpcStatusIn, grpcStatusOf } from "../http/grpc.ts";
import type { RequestNeeds, UpstreamHalf, UpstreamOwner } from "../http/halves.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { RequestPlan } from "../http1/write.ts";
import { acquireStream } from "../http2/pool.ts";
import type { Core } from "../runtime/core.ts";
import { decodeBinary } from "../xds/proto/binary.ts";
import { encodeBinary } from "../xds/proto/encode.ts";
import { RateLimitRequest, RateLimitResponse as ResponseType } from "../xds/proto/types.ts";

/** Calls under way in one process: at 20 ms each that is 50 000 requests a second. More are not made, and count as failures. */
export const mostLimitCalls = 1_024;
/** Of an answer: a status a descriptor, and some headers. */
export const mostAnswerBytes = 65_536;

export interface LimitAnswer {
  readonly over: boolean;
  /** `x-ratelimit-…` (draft-polli-ratelimit-headers-03); empty = the service named no limit. */
  readonly limitLines: string;
  /** Of the limit that is nearest; Infinity = the service named none. */
  readonly remaining: number;
  /** Until the limit that is nearest begins anew; 0 = not told. */
  readonly resetSeconds: number;
  /** What the service adds to the answer and to the request. */
  readonly answerLines: string;
  readonly requestLines: string;
}

/** A service as a stage asks it. */
export interface LimitService {
  readonly slot: ClusterSlot;
  readonly head: Buffer;
  readonly timeoutMs: number;
}

const path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

export function limitService(
  slot: ClusterSlot,
  authority: string,
  metadata: readonly { readonly name: string; readonly value: string }[],
  timeoutMs: number,
): LimitService {
  const fields = metadata.map(({ name, value }) => `${name}: ${value}\r\n`).join("");
  const host = authority === "" ? slot.name : authority;
  const timeout = `${Math.max(1, Math.round(timeoutMs))}m`;
  const text = `POST ${path} HTTP/1.1\r\nHost: ${/^[A-Za-z0-9._:[\]-]+$/.test(host) ? host : "rate-limits"}\r\ncontent-type: application/grpc\r\nte: trailers\r\ngrpc-timeout: ${timeout}\r\nuser-agent: weft\r\n${fields}\r\n`;
  return { slot, head: Buffer.from(text, "latin1"), timeoutMs };
}

/** A RateLimitRequest with gRPC's five bytes before it. */
export function encodeRequest(
  domain: string,
  descriptors: readonly (readonly { readonly key: string; readonly value: string }[])[],
): Buffer {
  const message = encodeBinary(RateLimitRequest, { domain, descriptors: descriptors.map((entries) => ({ entries })) });
  const framed = Buffer.allocUnsafe(5 + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, 5);
  return framed;
}

/** Who asks: told once, later than the call that asked. A sentence: there is no answer, and why. */
export interface LimitAsker {
  limitKnown(answer: LimitAnswer | string): void;
}

/** The calls of one process, and the one timer that ends those which take too long. */
export class LimitCalls {
  readonly #under = new Set<LimitCall>();
  #timer: Timer | null = null;
  #timerAtMs = Number.POSITIVE_INFINITY;

  /** The call that is under way, or why there is none. */
  ask(core: Core, service: LimitService, permit: Permit, message: Buffer, asker: LimitAsker): LimitCall | string {
    const cluster = service.slot.current;
    if (cluster === null) return `there is no cluster ${service.slot.name}`;
    if (this.#under.size >= mostLimitCalls) return `${mostLimitCalls} requests wait for a rate limit service already`;
    const nowMs = core.ticker.now();
    const endpoint = pick(cluster, permit, nowMs, core.random, null);
    if (endpoint === null) return `cluster ${service.slot.name} has no instance`;
    if (!speaksHttp2(endpoint)) return `cluster ${service.slot.name} does not speak HTTP/2, which gRPC needs`;
    const call = new LimitCall(this, core, cluster, endpoint, service, message, asker);
    if (!call.start(nowMs)) return `cluster ${service.slot.name} is at its limit of connections`;
    this.#under.add(call);
    this.#arm(core, call.deadlineMs, nowMs);
    return call;
  }

  /** For the call itself. */
  ended(call: LimitCall): void {
    this.#under.delete(call);
  }

  #arm(core: Core, deadlineMs: number, nowMs: number): void {
    if (deadlineMs >= this.#timerAtMs) return;
    this.#timer?.cancel();
    this.#timerAtMs = deadlineMs;
    this.#timer = core.ticker.after(Math.max(1, deadlineMs - nowMs), () => this.#expire(core));
  }

  #expire(core: Core): void {
    this.#timer = null;
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const nowMs = core.ticker.now();
    let next = Number.POSITIVE_INFINITY;
    for (const call of [...this.#under]) {
      if (call.deadlineMs <= nowMs + 1) call.expire();
      else if (call.deadlineMs < next) next = call.deadlineMs;
    }
    if (next < Number.POSITIVE_INFINITY) this.#arm(core, next, nowMs);
  }
}

const head = new Head();
const plan = new RequestPlan();
const needs: RequestNeeds = { isHead: false, allowSwitch: false, unchunk: true, addChunks: false, end: true, endsWithData: false };

/** One question. It ends by itself, or is given up. */
export class LimitCall implements UpstreamOwner {
  readonly deadlineMs: number;
  readonly #calls: LimitCalls;
  readonly #core: Core;
  readonly #cluster: Cluster;
  readonly #endpoint: Endpoint;
  readonly #service: LimitService;
  readonly #message: Buffer;
  readonly #asker: LimitAsker;
  #half: UpstreamHalf | null = null;
  #over = false;
  #status = 0;
  #grpcStatus = -1;
  #body: Buffer[] = [];
  #size = 0;

  constructor(
    calls: LimitCalls,
    core: Core,
    cluster: Cluster,
    endpoint: Endpoint,
    service: LimitService,
    message: Buffer,
    asker: LimitAsker,
  ) {
    this.#calls = calls;
    this.#core = core;
    this.#cluster = cluster;
    this.#endpoint = endpoint;
    this.#service = service;
    this.#message = message;
    this.#asker = asker;
    this.deadlineMs = core.ticker.nowMs + service.timeoutMs;
  }

  start(nowMs: number): boolean {
    const half = acquireStream(this.#core, this.#endpoint, this, nowMs);
    if (half === null) return false;
    this.#half = half;
    this.#cluster.activeRequests++;
    this.#endpoint.active++;
    if (half.open) this.#send(half);
    return true;
  }

  /** Ends it without a word. */
  giveUp(): void {
    if (this.#leave()) this.#drop();
  }

  expire(): void {
    if (!this.#leave()) return;
    this.#drop();
    this.#asker.limitKnown(`no answer within ${this.#service.timeoutMs} ms`);
  }

  #send(half: UpstreamHalf): void {
    const bytes = this.#service.head;
    parseRequest(bytes, 0, bytes.length, head);
    half.sendRequest(bytes, head, plan, needs, [this.#message]);
  }

  /** False: it is over already. */
  #leave(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#calls.ended(this);
    this.#cluster.activeRequests--;
    this.#endpoint.active--;
    return true;
  }

  #drop(): void {
    const half = this.#half;
    this.#half = null;
    if (half === null) return;
    half.owner = null;
    half.dispose();
  }

  #fail(why: string): void {
    if (!this.#leave()) return;
    this.#drop();
    this.#asker.limitKnown(why);
  }

  #complete(half: UpstreamHalf): void {
    this.#half = null;
    half.owner = null;
    half.release(true, this.#core.ticker.nowMs);
    if (!this.#leave()) return;
    this.#asker.limitKnown(this.#judge());
  }

  #judge(): LimitAnswer | string {
    if (this.#status !== 200) return `it answers ${this.#status} instead of gRPC`;
    if (this.#grpcStatus !== 0)
      return this.#grpcStatus < 0 ? "it answers without a gRPC status" : `it answers gRPC status ${this.#grpcStatus}`;
    const bytes = this.#body.length === 1 ? (this.#body[0] as Buffer) : Buffer.concat(this.#body);
    if (bytes.length < 5 || bytes[0] !== 0 || bytes.readUInt32BE(1) !== bytes.length - 5) return "it answers with no whole message";
    try {
      return readAnswer(decodeBinary(ResponseType, bytes.subarray(5), ignore));
    } catch (error) {
      return `its answer is no RateLimitResponse: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  onUpstreamReady(half: UpstreamHalf): void {
    if (half === this.#half && !this.#over) this.#send(half);
  }

  onUpstreamFailed(half: UpstreamHalf, failure: Failure, why: string): void {
    if (half !== this.#half) return;
    this.#half = null;
    this.#fail(why === "" ? failure.sentence : `${failure.sentence}: ${why}`);
  }

  onUpstreamLost(half: UpstreamHalf, failure: Failure, why: string): void {
    if (half !== this.#half) return;
    this.#half = null;
    this.#fail(why === "" ? failure.sentence : `${failure.sentence}: ${why}`);
  }

  onInterim(): void {}

  onAnswer(half: UpstreamHalf, bytes: Uint8Array, answer: Head, from: number, to: number, done: boolean): void {
    if (half !== this.#half) return;
    this.#status = answer.status;
    this.#grpcStatus = grpcStatusOf(bytes, answer);
    this.#take(half, bytes, from, to, done);
  }

  onAnswerBody(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number, done: boolean): void {
    if (half === this.#half) this.#take(half, bytes, from, to, done);
  }

  #take(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number, done: boolean): void {
    if (to > from) {
      this.#size += to - from;
      if (this.#size > mostAnswerBytes) {
        this.#fail(`its answer is larger than ${mostAnswerBytes} bytes`);
        return;
      }
      this.#body.push(Buffer.from(bytes.subarray(from, to)));
    }
    if (done) this.#complete(half);
  }

  onAnswerTrailers(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number): void {
    if (half !== this.#half) return;
    this.#grpcStatus = grpcStatusIn(bytes, from, to);
    this.#complete(half);
  }

  onSwitch(half: UpstreamHalf): void {
    if (half === this.#half) this.#fail("it switches protocols, which nobody asked for");
  }

  onUpstreamDrained(): void {}

  onRawBytes(): void {}

  onRawEnd(half: UpstreamHalf): void {
    if (half === this.#half) this.#fail("its connection ended");
  }
}

const ignore = (): void => {};

/** As attempts have it; gRPC takes HTTP/2 where either will do. */
function speaksHttp2({ transport, agreed }: Endpoint): boolean {
  if (transport.protocol === "http2" || transport.protocol === "downstream") return true;
  return transport.protocol === "auto" && transport.tls !== null && agreed !== "http/1.1";
}

const overLimit = 2;
/** Seconds by RateLimit.Unit. */
const unitSeconds = [0, 1, 60, 3_600, 86_400, 2_592_000, 31_536_000, 604_800];

function readAnswer(response: RateLimitResponse): LimitAnswer {
  let nearest: RateLimitResponse["statuses"][number] | null = null;
  let windows = "";
  for (const status of response.statuses) {
    const limit = status.currentLimit;
    if (limit === undefined) continue;
    if (nearest === null || status.limitRemaining < nearest.limitRemaining) nearest = status;
    const seconds = unitSeconds[limit.unit] ?? 0;
    if (seconds > 0) windows += `, ${limit.requestsPerUnit};w=${seconds}${limit.name === "" ? "" : `;name="${clean(limit.name)}"`}`;
  }
  const reset = nearest?.durationUntilReset;
  const resetSeconds = reset === undefined ? 0 : Number(reset.seconds) + (reset.nanos > 0 ? 1 : 0);
  return {
    over: response.overallCode === overLimit,
    limitLines:
      nearest === null
        ? ""
        : `x-ratelimit-limit: ${nearest.currentLimit?.requestsPerUnit ?? 0}${windows}\r\nx-ratelimit-remaining: ${nearest.limitRemaining}\r\nx-ratelimit-reset: ${resetSeconds}\r\n`,
    remaining: nearest === null ? Number.POSITIVE_INFINITY : nearest.limitRemaining,
    resetSeconds,
    answerLines: linesOf(response.responseHeadersToAdd),
    requestLines: linesOf(response.requestHeadersToAdd),
  };
}

function linesOf(headers: readonly { readonly key: string; readonly value: string }[]): string {
  let out = "";
  // What could break out of its line, or says how the message is framed, is not passed on.
  for (const { key, value } of headers)
    if (headerName.test(key) && !framing.has(key.toLowerCase())) out += `${key.toLowerCase()}: ${clean(value)}\r\n`;
  return out;
}

const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const framing = new Set(["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"]);

function clean(value: string): string {
  let out = "";
  for (let i = 0; i < value.length && out.length < 1_024; i++) {
    const code = value.charCodeAt(i);
    out += code < 32 || code > 126 ? "?" : value[i];
  }
  return out;
}
