// Owns: one health check of one endpoint, over the same kind of connection that requests take: the same TLS, the same identity expected, the same pool.
// Ends exactly once, with null for good or a sentence. Never decides what the result means: checker.ts does.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import type { HealthCheckConfig } from "../config.ts";
import type { Failure } from "../http/failure.ts";
import { grpcStatusIn, grpcStatusOf } from "../http/grpc.ts";
import type { RequestNeeds, UpstreamHalf, UpstreamOwner } from "../http/halves.ts";
import { Upstream } from "../http1/client.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { takeIdle } from "../http1/pool.ts";
import { RequestPlan } from "../http1/write.ts";
import { http2Failures } from "../http2/failures.ts";
import { acquireStream } from "../http2/pool.ts";
import type { Core } from "../runtime/core.ts";

/** Of an answer's body: what comes after it is not waited for, and the connection not kept. */
const mostBody = 65_536;
/** A HealthCheckResponse is two bytes and its prefix five. */
const mostMessage = 64;

const head = new Head();
const plan = new RequestPlan();

/** Starts a check; `done` is called later, never within this call. Answers how to give it up, after which `done` is not called. */
export function probe(
  core: Core,
  clock: Clock,
  endpoint: Endpoint,
  check: HealthCheckConfig,
  done: (problem: string | null) => void,
): () => void {
  const running = new Probe(core, clock, endpoint, check, done);
  running.start();
  return () => running.abandon();
}

class Probe implements UpstreamOwner {
  readonly #core: Core;
  readonly #endpoint: Endpoint;
  readonly #check: HealthCheckConfig;
  readonly #done: (problem: string | null) => void;
  readonly #timer: Timer;
  #half: UpstreamHalf | null = null;
  #over = false;
  #status = 0;
  #body = 0;
  #grpcStatus = -1;
  #message: Buffer = Buffer.alloc(0);
  #received = "";

  constructor(core: Core, clock: Clock, endpoint: Endpoint, check: HealthCheckConfig, done: (problem: string | null) => void) {
    this.#core = core;
    this.#endpoint = endpoint;
    this.#check = check;
    this.#done = done;
    this.#timer = clock.after(check.timeoutMs, () => this.#fail(`no answer within ${check.timeoutMs} ms`));
  }

  start(): void {
    const now = this.#core.ticker.now();
    const endpoint = this.#endpoint;
    if (this.#check.kind.type !== "tcp" && speaksHttp2(endpoint)) {
      const stream = acquireStream(this.#core, endpoint, this, now);
      this.#half = stream;
      if (stream === null) queueMicrotask(() => this.#fail("the cluster is at its limit of connections"));
      else if (stream.open) this.#send(stream);
      return;
    }
    const idle = this.#check.kind.type === "tcp" ? null : takeIdle(endpoint);
    if (idle !== null) {
      idle.take(this);
      this.#half = idle;
      this.#send(idle);
      return;
    }
    const made = new Upstream(this.#core, endpoint, this, now);
    this.#half = made;
    made.connect();
  }

  abandon(): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer.cancel();
    this.#drop();
  }

  #send(half: UpstreamHalf): void {
    const { kind } = this.#check;
    if (kind.type === "tcp") {
      if (kind.send.length === 0 && kind.receive.length === 0) {
        this.#good();
        return;
      }
      half.becomeRaw();
      if (kind.send.length > 0) half.sendRaw(kind.send, 0, kind.send.length);
      return;
    }
    const [text, body] = kind.type === "http" ? [httpRequest(kind, this.#endpoint), null] : grpcRequest(kind, this.#endpoint);
    const bytes = Buffer.from(text, "latin1");
    if (parseRequest(bytes, 0, bytes.length, head) <= 0) {
      this.#fail("the request of the health check cannot be written");
      return;
    }
    const needs: RequestNeeds = {
      isHead: kind.type === "http" && kind.method === "HEAD",
      allowSwitch: false,
      unchunk: true,
      addChunks: false,
      end: true,
      endsWithData: false,
    };
    half.sendRequest(bytes, head, plan, needs, body === null ? [] : [body]);
  }

  #good(): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer.cancel();
    this.#drop();
    this.#done(null);
  }

  #fail(problem: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer.cancel();
    this.#drop();
    this.#done(problem);
  }

  #drop(): void {
    const half = this.#half;
    this.#half = null;
    if (half === null) return;
    half.owner = null;
    half.dispose();
  }

  /** The whole answer is here: the connection goes back to its pool. */
  #complete(half: UpstreamHalf): void {
    this.#half = null;
    half.owner = null;
    half.release(true, this.#core.ticker.now());
    const problem = this.#judge();
    if (problem === null) this.#good();
    else this.#fail(problem);
  }

  #judge(): string | null {
    const { kind } = this.#check;
    if (kind.type === "http") {
      const status = this.#status;
      return kind.statuses.some(({ first, last }) => status >= first && status <= last) ? null : `it answers ${status}`;
    }
    if (this.#status !== 200) return `it answers ${this.#status} instead of gRPC`;
    if (this.#grpcStatus !== 0)
      return this.#grpcStatus < 0 ? "it answers without a gRPC status" : `it answers gRPC status ${this.#grpcStatus}`;
    const message = this.#message.subarray(5);
    // HealthCheckResponse.status = 1: SERVING.
    const serving = message.length >= 2 && message[0] === 0x08 && message[1] === 1;
    return serving ? null : `it says ${servingWords[message[1] ?? 0] ?? "nothing that gRPC knows"}`;
  }

  // ---- what the half reports --------------------------------------------------------------------------------------------

  onUpstreamReady(half: UpstreamHalf): void {
    if (half === this.#half && !this.#over) this.#send(half);
  }

  onUpstreamFailed(half: UpstreamHalf, failure: Failure, why: string): void {
    if (half !== this.#half) return;
    this.#half = null;
    // ALPN has just said which version it is: the same check once more.
    if (failure === http2Failures.http1Only && !this.#over) this.start();
    else this.#fail(why === "" ? failure.sentence : `${failure.sentence}: ${why}`);
  }

  onInterim(): void {}

  onAnswer(half: UpstreamHalf, bytes: Uint8Array, answer: Head, from: number, to: number, done: boolean): void {
    if (half !== this.#half) return;
    this.#status = answer.status;
    if (this.#check.kind.type === "grpc") this.#grpcStatus = grpcStatusOf(bytes, answer);
    this.#take(half, bytes, from, to, done);
  }

  onAnswerBody(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number, done: boolean): void {
    if (half === this.#half) this.#take(half, bytes, from, to, done);
  }

  #take(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number, done: boolean): void {
    this.#body += to - from;
    if (this.#check.kind.type === "grpc" && this.#message.length < mostMessage)
      this.#message = Buffer.concat([this.#message, bytes.subarray(from, Math.min(to, from + mostMessage))]);
    if (done) this.#complete(half);
    else if (this.#body > mostBody) {
      const problem = this.#judge();
      if (problem === null) this.#good();
      else this.#fail(problem);
    }
  }

  onAnswerTrailers(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number): void {
    if (half !== this.#half) return;
    if (this.#check.kind.type === "grpc") this.#grpcStatus = grpcStatusIn(bytes, from, to);
    this.#complete(half);
  }

  onSwitch(half: UpstreamHalf): void {
    if (half === this.#half) this.#fail("it switches protocols, which nobody asked for");
  }

  onUpstreamLost(half: UpstreamHalf, failure: Failure, why: string): void {
    if (half !== this.#half) return;
    this.#half = null;
    this.#fail(why === "" ? failure.sentence : `${failure.sentence}: ${why}`);
  }

  onUpstreamDrained(): void {}

  onRawBytes(half: UpstreamHalf, bytes: Uint8Array): void {
    if (half !== this.#half || this.#check.kind.type !== "tcp") return;
    this.#received = (this.#received + Buffer.from(bytes).toString("latin1")).slice(-mostBody);
    let at = 0;
    for (const part of this.#check.kind.receive) {
      const found = this.#received.indexOf(Buffer.from(part).toString("latin1"), at);
      if (found < 0) return;
      at = found + part.length;
    }
    this.#good();
  }

  onRawEnd(half: UpstreamHalf): void {
    if (half === this.#half) this.#fail("it closed the connection before it said what was expected");
  }
}

const servingWords: Readonly<Record<number, string>> = { 0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN" };

/** As attempts have it (http/attempt.ts); a check has no client whose version it could follow. */
function speaksHttp2({ transport, agreed }: Endpoint): boolean {
  if (transport.protocol === "http2") return true;
  return transport.protocol === "auto" && transport.tls !== null && agreed !== "http/1.1";
}

function httpRequest(kind: HealthCheckConfig["kind"] & { type: "http" }, endpoint: Endpoint): string {
  const host = kind.host === "" ? hostOf(endpoint) : kind.host;
  const fields = kind.headers.map(({ name, value }) => `${name}: ${value}\r\n`).join("");
  return `${kind.method} ${kind.path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: Weft/HC\r\n${fields}\r\n`;
}

/** grpc.health.v1.Health/Check. */
function grpcRequest(kind: HealthCheckConfig["kind"] & { type: "grpc" }, endpoint: Endpoint): [string, Uint8Array] {
  const name = Buffer.from(kind.service, "utf8").subarray(0, 127);
  const message = name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
  const body = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);
  const host = kind.authority === "" ? hostOf(endpoint) : kind.authority;
  const text = `POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: Weft/HC\r\ncontent-type: application/grpc\r\nte: trailers\r\ncontent-length: ${body.length}\r\n\r\n`;
  return [text, body];
}

/** Envoy names the cluster, which no HTTP server expects to have `|` in it. */
function hostOf(endpoint: Endpoint): string {
  const { service, name } = endpoint.cluster.config;
  return service?.host ?? (/^[A-Za-z0-9._:-]+$/.test(name) ? name : "health-check");
}
