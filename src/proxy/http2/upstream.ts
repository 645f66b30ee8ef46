// Owns: one upstream HTTP/2 connection: connecting, its handshake, the requests that wait for it, and its end. Shared by many requests at once.
// States: connecting -> handshake -> greeting (the peer's SETTINGS are awaited) -> open -> leaving (no new streams) -> closed. Closed swallows late events.
// Never decides about retries or answers: the owners of its streams do.

import type { Endpoint, Pooled } from "../balance/endpoint.ts";
import { type DialedSocket, type Dialing, dial, judgeDialed } from "../http/dial.ts";
import { type Failure, failures } from "../http/failure.ts";
import type { UpstreamOwner } from "../http/halves.ts";
import { defaultLimits, type HttpLimits } from "../http1/limits.ts";
import { closeGently, Outbox, type Wire } from "../net/outbox.ts";
import type { Timed } from "../resilience/ticker.ts";
import type { Core } from "../runtime/core.ts";
import type { Peer } from "../tls/peer.ts";
import type { ResumableSocket } from "../tls/session.ts";
import { noError } from "./errors.ts";
import { http2Failures } from "./failures.ts";
import { defaultWindow, largestWindow } from "./frame.ts";
import { limits } from "./limits.ts";
import type { DefenceReason } from "./metrics.ts";
import { enter, leave } from "./output.ts";
import { Session } from "./session.ts";
import type { StreamUser } from "./session-stream.ts";
import type { SessionOwner } from "./session-words.ts";
import { type UpstreamHome, UpstreamStream } from "./upstream-stream.ts";

const state = { connecting: 0, handshake: 1, greeting: 2, open: 3, leaving: 4, closed: 5 } as const;
const never = Number.POSITIVE_INFINITY;

export class Http2Upstream implements Dialing, Pooled, Timed, SessionOwner, UpstreamHome {
  readonly core: Core;
  readonly endpoint: Endpoint;
  readonly out = new Outbox();
  generation = 0;
  session: Session | null = null;
  peer: Peer | null = null;
  slot = -1;
  #state: number = state.connecting;
  /** Until the peer's SETTINGS are here; then when it has been there for as long as it may. */
  #endAtMs: number;
  readonly #waiting: UpstreamStream[] = [];
  /** Finds another connection for a stream that waits and has no room here. */
  readonly #moveOn: (stream: UpstreamStream) => void;

  constructor(core: Core, endpoint: Endpoint, nowMs: number, moveOn: (stream: UpstreamStream) => void) {
    this.core = core;
    this.endpoint = endpoint;
    this.#endAtMs = nowMs + endpoint.cluster.config.connectTimeoutMs;
    this.#moveOn = moveOn;
  }

  /** Takes one more request, of this secret generation? */
  accepts(generation: number): boolean {
    if (generation !== this.generation) return false;
    if (this.#state === state.open) {
      const session = this.session as Session;
      return session.hasRoom && !session.crowded;
    }
    if (this.#state > state.open) return false;
    const most = this.endpoint.cluster.config.connections?.maxRequests ?? limits.assumedStreams;
    return this.#waiting.length < (most < limits.assumedStreams ? most : limits.assumedStreams);
  }

  /** A stream for `owner`; open at once when the connection is. */
  take(owner: UpstreamOwner): UpstreamStream {
    const stream = new UpstreamStream(this, owner);
    this.join(stream);
    return stream;
  }

  join(stream: UpstreamStream): void {
    stream.home = this;
    if (this.#state === state.open) stream.open = true;
    else this.#waiting.push(stream);
  }

  forget(stream: UpstreamStream): void {
    const at = this.#waiting.indexOf(stream);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /** Starts connecting. Waiting owners hear of the outcome later, never within this call. */
  connect(): void {
    const endpoint = this.endpoint;
    endpoint.connections++;
    endpoint.cluster.connections++;
    endpoint.shared.push(this);
    this.core.ticker.add(this);
    this.generation = dial(this, endpoint.transport.tls, (failure, why) => this.#fail(failure, why));
  }

  // ---- socket events -----------------------------------------------------------------------------------------------------------------------------

  opened(wire: Wire): void {
    if (this.#state !== state.connecting) {
      // Given up while it was being made.
      wire.terminate();
      return;
    }
    this.out.wire = wire;
    if (this.endpoint.transport.tls === null) this.#greet();
    else {
      this.#state = state.handshake;
      this.endpoint.tlsSession.offer(wire as unknown as ResumableSocket, this.generation);
    }
  }

  handshaken(socket: DialedSocket, failed: Error | null): void {
    if (this.#state !== state.handshake) return;
    const material = this.endpoint.transport.tls;
    if (material === null) return;
    const peer = judgeDialed(this, socket, material, failed);
    if (typeof peer === "string") {
      this.#fail(failures.tls, peer);
      return;
    }
    this.peer = peer;
    const agreed = socket.alpnProtocol;
    if (agreed !== "h2") {
      if (this.endpoint.transport.protocol === "auto") {
        this.endpoint.agreed = "http/1.1";
        this.endpoint.agreedAtMs = this.core.ticker.nowMs;
        // No fault of the endpoint's: it is up, and the next attempt speaks its version.
        this.endpoint.connected();
        this.#end(http2Failures.http1Only, "");
        return;
      }
      // Where nothing was said back, the configuration's word counts (RFC 9113 3.3 calls it prior knowledge).
      if (typeof agreed === "string" && agreed !== "") {
        this.#fail(failures.tls, `it agreed on ${agreed} by ALPN, and the cluster is configured for HTTP/2`);
        return;
      }
    }
    this.endpoint.agreed = "h2";
    this.#greet();
  }

  /** A ticket for the next connection. Before the peer is accepted it is worth nothing. */
  ticket(session: Uint8Array): void {
    if (this.peer !== null) this.endpoint.tlsSession.keep(session, this.generation);
  }

  received(bytes: Uint8Array): void {
    const session = this.session;
    if (session === null || this.#state === state.closed) return;
    enter();
    try {
      session.receive(bytes as Buffer);
    } finally {
      leave();
    }
  }

  drained(): void {
    const session = this.session;
    if (session === null || !this.out.drain()) return;
    enter();
    try {
      session.drained();
    } finally {
      leave();
    }
  }

  /** The peer sends no more. */
  ended(): void {
    if (this.#state === state.closed) return;
    this.#finish("the peer closed the connection");
  }

  /** The socket is gone. */
  lost(error: Error | null): void {
    this.out.wire = null;
    if (this.#state === state.closed) return;
    if (this.#state === state.handshake)
      this.#fail(
        failures.tls,
        error === null ? "the peer closed the connection within the handshake; does it accept our certificate?" : error.message,
      );
    else this.#finish(error === null ? "the connection was closed" : error.message);
  }

  refused(error: Error & { code?: string }): void {
    if (this.#state === state.closed) return;
    this.#fail(failures.connect, error.code === "ECONNREFUSED" ? "connection refused; is it running?" : error.message);
  }

  #finish(why: string): void {
    if (this.#state < state.open) {
      this.#fail(
        failures.connect,
        this.#state === state.greeting ? `${why}; does it speak HTTP/2${this.peer === null ? "" : ", and accept our certificate"}?` : why,
      );
      return;
    }
    enter();
    this.session?.lost(why);
    leave();
    this.#close();
  }

  // ---- time --------------------------------------------------------------------------------------------------------------------------------------

  get deadlineMs(): number {
    const session = this.session;
    if (session === null || this.#endAtMs < session.deadlineMs) return this.#endAtMs;
    return session.deadlineMs;
  }

  onDeadline(nowMs: number): void {
    if (this.#endAtMs <= nowMs && this.#state >= state.open) {
      this.#endAtMs = never;
      this.dispose();
      return;
    }
    if (this.#endAtMs <= nowMs) {
      const why =
        this.#state === state.greeting
          ? "no SETTINGS within the connect timeout; does it speak HTTP/2?"
          : "no connection within the connect timeout";
      this.#fail(failures.connectTimeout, why);
      return;
    }
    enter();
    this.session?.onDeadline(nowMs);
    leave();
  }

  // ---- the session ---------------------------------------------------------------------------------------------------------------------------------

  #greet(): void {
    const { http2, connections: rules } = this.endpoint.cluster.config;
    const keepalive = http2?.keepalive;
    this.#state = state.greeting;
    this.session = new Session({
      server: false,
      owner: this,
      out: this.out,
      time: this.core.ticker,
      metrics: this.core.http2,
      random: this.core.random,
      maxStreams: 0,
      streamWindow: Math.min(http2?.initialStreamWindow ?? limits.streamWindow, largestWindow),
      // RFC 9113 6.9.2: it can only be made larger.
      connectionWindow: Math.min(Math.max(http2?.initialConnectionWindow ?? limits.connectionWindow, defaultWindow), largestWindow),
      startTimeoutMs: 0,
      keepaliveMs: keepalive?.intervalMs ?? 0,
      pingTimeoutMs: keepalive?.timeoutMs ?? limits.pingTimeoutMs,
      keepaliveJitter: keepalive?.jitter ?? 0,
      idlePingMs: keepalive?.idleMs ?? 0,
      mostStreams: http2?.maxConcurrentStreams ?? limits.upstreamStreams,
      ...(rules?.maxRequests === undefined ? {} : { mostRequests: rules.maxRequests }),
      reuseStreams: true,
    });
    this.core.http2.upstreamConnections.value++;
  }

  httpLimits(): HttpLimits {
    return defaultLimits;
  }

  settled(first: boolean): void {
    if (!first || this.#state !== state.greeting) return;
    this.#state = state.open;
    const age = this.endpoint.cluster.config.connections?.maxAgeMs;
    this.#endAtMs = age === undefined ? never : this.core.ticker.nowMs + age;
    this.endpoint.connected();
    const session = this.session as Session;
    const waiting = this.#waiting.splice(0);
    for (const stream of waiting) {
      if (session.hasRoom) stream.ready();
      else if (session.peer.maxStreams < 1) stream.failed(http2Failures.refusedStream, "the instance allows no streams");
      else this.#moveOn(stream);
    }
    if (session.active === 0) this.#idle();
  }

  accept(): StreamUser | null {
    return null;
  }

  answerFault(): void {}

  malformed(why: string): void {
    this.core.malformedAnswers.value++;
    if (this.core.mayLog())
      this.core.log.warn(
        { cluster: this.endpoint.cluster.config.name, endpoint: `${this.endpoint.host}:${this.endpoint.port}`, reason: why },
        "An upstream answer is malformed.",
      );
  }

  goneAway(): void {
    this.#leavePool();
  }

  streamClosed(): void {
    const session = this.session as Session;
    if (session.active === 0) this.#idle();
    const material = this.endpoint.transport.tls;
    if (session.spent || this.endpoint.retired || (material !== null && material.generation !== this.generation)) this.dispose();
    else if (this.endpoint.cluster.waiting.length > 0) this.endpoint.cluster.wakeOne();
  }

  #idle(): void {
    const own = this.endpoint.cluster.config.connections?.idleMs ?? limits.upstreamIdleMs;
    this.session?.idleAt(own === 0 ? never : this.core.ticker.nowMs + own);
  }

  idle(): void {
    if (this.session?.active === 0) this.dispose();
  }

  sessionEnded(code: number, why: string, defence: DefenceReason | null): void {
    if (code !== noError && this.core.mayLog())
      this.core.log.warn(
        { cluster: this.endpoint.cluster.config.name, endpoint: `${this.endpoint.host}:${this.endpoint.port}`, reason: why, defence },
        "An upstream HTTP/2 connection was closed.",
      );
    if (this.#state < state.open) this.#fail(failures.connect, why);
    else this.#close();
  }

  // ---- ends ----------------------------------------------------------------------------------------------------------------------------------------

  /** No new streams; closes with the last one. */
  dispose(): void {
    if (this.#state === state.closed) return;
    this.#leavePool();
    if (this.#state < state.open) {
      if (this.#waiting.length === 0) this.#end(failures.connect, "given up");
      return;
    }
    this.#state = state.leaving;
    this.session?.drain("not needed any more");
  }

  #leavePool(): void {
    const at = this.endpoint.shared.indexOf(this);
    if (at >= 0) this.endpoint.shared.splice(at, 1);
  }

  #fail(failure: Failure, why: string): void {
    if (this.#state === state.closed) return;
    this.core.connectFailures.value++;
    this.endpoint.connectFailed(this.core.ticker.nowMs, why);
    this.#end(failure, why);
  }

  #end(failure: Failure, why: string): void {
    const waiting = this.#waiting.splice(0);
    this.#close();
    for (const stream of waiting) stream.failed(failure, why);
  }

  #close(): void {
    if (this.#state === state.closed) return;
    this.#state = state.closed;
    this.#leavePool();
    this.core.ticker.remove(this);
    const session = this.session;
    if (session !== null) {
      this.core.http2.upstreamConnections.value--;
      session.lost("the connection was closed");
    }
    const wire = this.out.wire;
    // GOAWAY may still wait: it goes before the FIN, or with the socket.
    if (wire !== null) {
      if (this.out.waiting > 0) {
        this.out.finish();
        wire.timeout(5);
      } else {
        this.out.wire = null;
        closeGently(wire);
      }
    }
    this.endpoint.connections--;
    const cluster = this.endpoint.cluster;
    cluster.connections--;
    if (cluster.waiting.length > 0) cluster.wakeOne();
  }
}
