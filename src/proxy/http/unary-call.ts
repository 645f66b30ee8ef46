// Owns: a small call that this proxy makes itself to a cluster, for a stage that holds a request meanwhile (chain/stage.ts): one request that is known
// whole, one answer that is gathered up to a limit; as plain HTTP (`startCall`) or as a unary gRPC call (`callUnary`). Ends exactly once. Bounded by
// the cluster's own limits: a call that finds no room ends with `overflow` and never queues. Never decides what an answer means.

import type { Permit } from "../authz/permit.ts";
import type { Cluster, ClusterSlot } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { whyNobody } from "../balance/nobody.ts";
import { pick } from "../balance/pick.ts";
import { Upstream } from "../http1/client.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { takeIdle } from "../http1/pool.ts";
import { RequestPlan } from "../http1/write.ts";
import { http2Failures } from "../http2/failures.ts";
import { acquireStream, offersHttp2 } from "../http2/pool.ts";
import type { Timed } from "../resilience/ticker.ts";
import type { Core } from "../runtime/core.ts";
import { text } from "./bytes.ts";
import type { Failure } from "./failure.ts";
import type { RequestNeeds, UpstreamHalf, UpstreamOwner } from "./halves.ts";

const head = new Head();
const plan = new RequestPlan();

/** What is sent, and how much is taken back. */
export interface CallRequest {
  readonly slot: ClusterSlot;
  /**
   * The whole head as HTTP/1.1 text with `Host`, and `content-length` where `body` is not empty: `POST /check HTTP/1.1\r\nhost: a\r\n\r\n`.
   * It is parsed with the limits of a request; what does not parse ends the call with `failed`.
   */
  readonly head: Uint8Array;
  /** Not copied: the caller leaves it alone until the end. */
  readonly body: Uint8Array;
  /** Over HTTP/2 whatever the cluster would take else; it fails where the cluster is HTTP/1. */
  readonly http2: boolean;
  /** The method is HEAD: the answer has no body whatever it says. */
  readonly isHead?: boolean;
  /** For all of it, connecting included. */
  readonly timeoutMs: number;
  /** Body of the answer; more ends the call with `too_large`. */
  readonly maxAnswerBytes: number;
}

/** `failed`: no connection, it broke, or the answer is not HTTP. */
export type CallProblem = "no_cluster" | "no_endpoint" | "overflow" | "timeout" | "too_large" | "failed";

export type CallEnd =
  | {
      readonly ok: true;
      readonly status: number;
      /** Header fields in their order, names in lower case. */
      readonly fields: readonly (readonly [name: string, value: string])[];
      readonly body: Uint8Array;
      /** As `fields`. */
      readonly trailers: readonly (readonly [name: string, value: string])[];
    }
  | { readonly ok: false; readonly problem: CallProblem; readonly sentence: string };

/** A call under way. */
export interface Call {
  /** Gives it up; `done` is not called any more. Idempotent. */
  abandon(): void;
}

/**
 * Starts a call. `done` comes once, later, never within this function. What certainly reached nobody (a connection that could not be made, a stream that
 * was refused) is tried at one more endpoint. `permit`: of the request on whose behalf it is made (DESIGN rule 12).
 */
export function startCall(core: Core, permit: Permit, request: CallRequest, done: (end: CallEnd) => void): Call {
  const call = new RunningCall(core, permit, request, done);
  call.begin();
  return call;
}

class RunningCall implements Call, UpstreamOwner, Timed {
  readonly #core: Core;
  readonly #permit: Permit;
  readonly #request: CallRequest;
  readonly #done: (end: CallEnd) => void;
  #cluster: Cluster | null = null;
  #half: UpstreamHalf | null = null;
  #over = false;
  #triesLeft = 1;
  #startMs = 0;
  #status = 0;
  #fields: [string, string][] = [];
  #body: Uint8Array[] = [];
  #size = 0;
  deadlineMs = Number.POSITIVE_INFINITY;
  slot = -1;

  constructor(core: Core, permit: Permit, request: CallRequest, done: (end: CallEnd) => void) {
    this.#core = core;
    this.#permit = permit;
    this.#request = request;
    this.#done = done;
  }

  begin(): void {
    const core = this.#core;
    const { slot, timeoutMs } = this.#request;
    const cluster = slot.current;
    if (cluster === null) return this.#failSoon("no_cluster", `the cluster ${slot.name} is not configured`);
    const most = cluster.config.limits.maxRequests;
    if (cluster.activeRequests >= most) {
      cluster.refused("max_requests");
      return this.#failSoon("overflow", `the cluster ${slot.name} is at its limit of ${most} requests`);
    }
    cluster.activeRequests++;
    this.#cluster = cluster;
    const nowMs = core.ticker.now();
    this.deadlineMs = nowMs + timeoutMs;
    core.ticker.exact.add(this, nowMs);
    this.#attempt(null);
  }

  abandon(): void {
    if (this.#over) return;
    this.#drop();
    this.#leave();
  }

  onDeadline(): void {
    this.#fail("timeout", `no answer within ${this.#request.timeoutMs} ms`);
  }

  #attempt(not: Endpoint | null): void {
    const core = this.#core;
    const cluster = this.#cluster as Cluster;
    const nowMs = core.ticker.now();
    const endpoint = pick(cluster, this.#permit, nowMs, core.random, not);
    if (endpoint === null || cluster.config.proxyProtocol !== undefined) {
      const full = endpoint === null && cluster.full;
      if (full) cluster.refused("instances");
      const why = full ? "every instance is at its limit" : whyNobody(cluster, nowMs) || "no healthy instance is known";
      return this.#failSoon(full ? "overflow" : "no_endpoint", `${why} in ${cluster.config.name}`);
    }
    const { protocol, tls } = endpoint.transport;
    if (this.#request.http2 && protocol === "http1")
      return this.#failSoon("failed", `the cluster ${cluster.config.name} speaks HTTP/1.1, and gRPC needs HTTP/2`);
    const over2 = this.#request.http2 || protocol === "http2" || (protocol === "auto" && tls !== null && offersHttp2(endpoint, nowMs));
    const half = over2 ? acquireStream(core, endpoint, this, nowMs) : this.#connection(endpoint, nowMs);
    if (half === null) {
      cluster.refused("max_connections");
      return this.#failSoon("overflow", `the cluster ${cluster.config.name} is at its limit of connections`);
    }
    this.#half = half;
    this.#startMs = nowMs;
    endpoint.active++;
    if (half.open) this.#send(half);
  }

  #connection(endpoint: Endpoint, nowMs: number): UpstreamHalf | null {
    const idle = takeIdle(endpoint);
    if (idle !== null) {
      idle.take(this);
      return idle;
    }
    const cluster = endpoint.cluster;
    if (cluster.connections >= cluster.config.limits.maxConnections) return null;
    const made = new Upstream(this.#core, endpoint, this, nowMs);
    made.connect();
    return made;
  }

  #send(half: UpstreamHalf): void {
    const request = this.#request;
    if (parseRequest(request.head, 0, request.head.length, head) !== request.head.length) {
      this.#fail("failed", "the call's own head cannot be written");
      return;
    }
    half.sendRequest(
      request.head,
      head,
      plan,
      request.isHead === true ? needsOfHead : needs,
      request.body.length === 0 ? [] : [request.body],
    );
  }

  #failSoon(problem: CallProblem, sentence: string): void {
    queueMicrotask(() => this.#fail(problem, sentence));
  }

  #fail(problem: CallProblem, sentence: string): void {
    if (this.#over) return;
    this.#drop();
    this.#leave();
    this.#done({ ok: false, problem, sentence });
  }

  /** Lets go of a half that is of no use any more. */
  #drop(): void {
    const half = this.#half;
    if (half === null) return;
    this.#half = null;
    half.endpoint.active--;
    half.owner = null;
    half.dispose();
  }

  #leave(): void {
    this.#over = true;
    this.#core.ticker.exact.remove(this);
    if (this.#cluster !== null) this.#cluster.activeRequests--;
  }

  #complete(half: UpstreamHalf, trailers: readonly (readonly [string, string])[]): void {
    this.#half = null;
    const endpoint = half.endpoint;
    endpoint.active--;
    const now = this.#core.ticker.now();
    endpoint.observer?.answered(this.#status, now - this.#startMs, now);
    half.owner = null;
    half.release(true, now);
    this.#leave();
    const body = this.#body.length === 1 ? (this.#body[0] as Uint8Array) : Buffer.concat(this.#body);
    this.#done({ ok: true, status: this.#status, fields: this.#fields, body, trailers });
  }

  #take(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number, done: boolean): void {
    this.#size += to - from;
    if (this.#size > this.#request.maxAnswerBytes) {
      this.#fail("too_large", `the answer is larger than ${this.#request.maxAnswerBytes} bytes`);
      return;
    }
    if (to > from) this.#body.push(Buffer.from(bytes.subarray(from, to)));
    if (done) this.#complete(half, []);
  }

  #ended(half: UpstreamHalf, failure: Failure, why: string): void {
    this.#half = null;
    const endpoint = half.endpoint;
    endpoint.active--;
    // ALPN has said which version it is, and nothing was sent: no failure of anybody.
    const otherVersion = failure === http2Failures.http1Only && !this.#request.http2;
    if (!otherVersion) {
      const now = this.#core.ticker.now();
      endpoint.observer?.failed(failure.kind === "reset" ? "reset" : "connect", now - this.#startMs, now);
    }
    const stale = failure.kind === "reset" && this.#status === 0 && half instanceof Upstream && half.used;
    if ((failure.retry === "safe" || stale || otherVersion) && this.#status === 0 && (otherVersion || this.#triesLeft-- > 0)) {
      this.#attempt(otherVersion ? null : endpoint);
      return;
    }
    this.#fail("failed", why === "" ? failure.sentence : `${failure.sentence}: ${why}`);
  }

  // ---- what the half reports --------------------------------------------------------------------------------------------

  onUpstreamReady(half: UpstreamHalf): void {
    if (half === this.#half) this.#send(half);
  }

  onUpstreamFailed(half: UpstreamHalf, failure: Failure, why: string): void {
    if (half === this.#half) this.#ended(half, failure, why);
  }

  onUpstreamLost(half: UpstreamHalf, failure: Failure, why: string): void {
    if (half === this.#half) this.#ended(half, failure, why);
  }

  onInterim(): void {}

  onAnswer(half: UpstreamHalf, bytes: Uint8Array, answer: Head, from: number, to: number, done: boolean): void {
    if (half !== this.#half) return;
    this.#status = answer.status;
    for (let i = 0; i < answer.count; i++) {
      const name = text(bytes, answer.nameFrom[i] as number, answer.nameTo[i] as number).toLowerCase();
      this.#fields.push([name, text(bytes, answer.valueFrom[i] as number, answer.valueTo[i] as number)]);
    }
    this.#take(half, bytes, from, to, done);
  }

  onAnswerBody(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number, done: boolean): void {
    if (half === this.#half) this.#take(half, bytes, from, to, done);
  }

  onAnswerTrailers(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number): void {
    if (half === this.#half) this.#complete(half, linesOf(text(bytes, from, to)));
  }

  onSwitch(half: UpstreamHalf): void {
    if (half === this.#half) this.#fail("failed", "it switches protocols, which nobody asked for");
  }

  onUpstreamDrained(): void {}

  onRawBytes(): void {}

  onRawEnd(): void {}
}

const needs: RequestNeeds = { isHead: false, allowSwitch: false, unchunk: true, addChunks: false, end: true, endsWithData: false };
const needsOfHead: RequestNeeds = { ...needs, isHead: true };

/** Field lines, each with its CRLF. */
function linesOf(lines: string): [string, string][] {
  return lines.split("\r\n").flatMap((line): [string, string][] => {
    const colon = line.indexOf(":");
    return colon <= 0 ? [] : [[line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]];
  });
}

// ---- gRPC ------------------------------------------------------------------------------------------------------------------

/** A method of a service, as it is called again and again; make one for a configuration and keep it. */
export interface UnaryMethod {
  readonly slot: ClusterSlot;
  /** As `CallRequest` has it. */
  readonly head: Uint8Array;
  readonly timeoutMs: number;
  /** Of the answer's message. */
  readonly maxAnswerBytes: number;
}

/**
 * `path`: `/package.Service/Method`. `authority`: Envoy takes the cluster's name, which few servers would take with `|` in it; what is none becomes
 * `standIn`. The deadline travels as `grpc-timeout`.
 */
export function unaryMethod(
  slot: ClusterSlot,
  path: string,
  authority: string,
  standIn: string,
  metadata: readonly { readonly name: string; readonly value: string }[],
  timeoutMs: number,
  maxAnswerBytes: number,
): UnaryMethod {
  const wanted = authority === "" ? slot.name : authority;
  const host = /^[A-Za-z0-9._:[\]-]+$/.test(wanted) ? wanted : standIn;
  const timeout = Math.max(1, Math.ceil(timeoutMs));
  const fields = metadata.map(({ name, value }) => `${name}: ${value}\r\n`).join("");
  const text = `POST ${path} HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/grpc\r\nte: trailers\r\ngrpc-timeout: ${timeout}m\r\nuser-agent: weft\r\n${fields}\r\n`;
  return { slot, head: Buffer.from(text, "latin1"), timeoutMs, maxAnswerBytes };
}

/** `status`: it was answered, with a gRPC code (google.rpc.Code) that is not 0, or with something that is no gRPC (code 2 or 13). */
export type UnaryEnd =
  | { readonly ok: true; readonly message: Uint8Array }
  | { readonly ok: false; readonly problem: CallProblem | "status"; readonly code: number; readonly sentence: string };

/** gRPC codes of what went wrong here. */
const codes: Readonly<Record<CallProblem, number>> = {
  no_cluster: 14,
  no_endpoint: 14,
  overflow: 8,
  timeout: 4,
  too_large: 8,
  failed: 14,
};

/**
 * One unary call (grpc PROTOCOL-HTTP2.md). `message` is the encoded request. `done` comes once, later, never within this function; the message of
 * the answer is the receiver's to keep.
 */
export function callUnary(core: Core, permit: Permit, method: UnaryMethod, message: Uint8Array, done: (end: UnaryEnd) => void): Call {
  const body = Buffer.allocUnsafe(5 + message.length);
  body[0] = 0;
  body.writeUInt32BE(message.length, 1);
  body.set(message, 5);
  const request: CallRequest = {
    slot: method.slot,
    head: method.head,
    body,
    http2: true,
    timeoutMs: method.timeoutMs,
    maxAnswerBytes: method.maxAnswerBytes + 5,
  };
  return startCall(core, permit, request, (end) => done(unaryEnd(end)));
}

function unaryEnd(end: CallEnd): UnaryEnd {
  if (!end.ok) return { ok: false, problem: end.problem, code: codes[end.problem], sentence: end.sentence };
  const said = fieldOf(end.trailers, "grpc-status") ?? fieldOf(end.fields, "grpc-status");
  const wrong = (code: number, sentence: string): UnaryEnd => ({ ok: false, problem: "status", code, sentence });
  if (said === undefined) {
    if (end.status !== 200) return wrong(end.status === 404 ? 12 : 14, `it answers HTTP status ${end.status} instead of gRPC`);
    return wrong(2, "it answers without a gRPC status");
  }
  const code = /^\d{1,2}$/.test(said) ? Number(said) : 2;
  if (code !== 0) {
    const why = fieldOf(end.trailers, "grpc-message") ?? fieldOf(end.fields, "grpc-message") ?? "";
    return wrong(code, `it answers gRPC status ${code}${why === "" ? "" : `: ${decoded(why)}`}`);
  }
  const { body } = end;
  if (body.length < 5 || body[0] !== 0 || new DataView(body.buffer, body.byteOffset).getUint32(1) !== body.length - 5)
    return wrong(13, "its answer is not one whole, uncompressed message");
  return { ok: true, message: body.subarray(5) };
}

/** grpc-message is percent-encoded UTF-8; what is not is shown as it came. */
function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}

function fieldOf(fields: readonly (readonly [string, string])[], name: string): string | undefined {
  return fields.find(([key]) => key === name)?.[1];
}
