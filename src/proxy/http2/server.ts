// Owns: one downstream HTTP/2 connection: its session, its streams, their reuse, and its end. Never routes or answers: the exchanges of its streams do.
// States: open -> draining (GOAWAY) -> lingering (our FIN is out or waits) -> closed. Closed swallows late events.

import { judge, subject } from "../authz/judge.ts";
import type { Cluster } from "../balance/cluster.ts";
import type { ChainMember, ChainSlot, CompiledChain, HttpChain } from "../chain/chain.ts";
import type { HostPort } from "../config.ts";
import type { DownstreamHalf, RequestSink } from "../http/halves.ts";
import { type HostMemo, hostOf, noHost } from "../http/host-memo.ts";
import { writeReply } from "../http/reply.ts";
import type { HttpLimits } from "../http1/limits.ts";
import { closeGently, Outbox, type Wire } from "../net/outbox.ts";
import type { Timed } from "../resilience/ticker.ts";
import type { CompiledHost, TableSlot } from "../route/table.ts";
import type { Core, Downstream } from "../runtime/core.ts";
import type { RequestCounters } from "../telemetry/request.ts";
import type { Peer } from "../tls/peer.ts";
import { noError } from "./errors.ts";
import { http2Failures } from "./failures.ts";
import { defaultWindow, largestWindow } from "./frame.ts";
import { found } from "./head-reader.ts";
import { limits } from "./limits.ts";
import type { DefenceReason, Http2Metrics } from "./metrics.ts";
import { enter, leave } from "./output.ts";
import { ServerStream, type StreamHome, sendReply } from "./server-stream.ts";
import { Session } from "./session.ts";
import type { SessionStream, StreamUser } from "./session-stream.ts";
import type { SessionOwner } from "./session-words.ts";

/** Makes the exchange of a stream. One for a process; `chain` is the connection's when the stream is first used. */
export type MakeSink = (half: DownstreamHalf, chain: CompiledChain) => RequestSink;

/** Streams with their exchanges that a connection keeps for its next requests; a burst's are left to the collector. */
const keptStreams = 32;
/** An idle connection lets them go after this. */
const thinMs = 5_000;
const never = Number.POSITIVE_INFINITY;

export class Http2ServerConnection implements Downstream, ChainMember, Timed, StreamHome, SessionOwner {
  readonly core: Core;
  readonly chainSlot: ChainSlot;
  readonly peer: Peer | null;
  readonly out = new Outbox();
  readonly session: Session;
  readonly #make: MakeSink;
  readonly #metrics: Http2Metrics;
  #free: ServerStream[] = [];
  #requests = 0;
  #oldAtMs = never;
  #lingerAtMs = never;
  #idleUntilMs = never;
  #over = false;
  slot = -1;
  #host: HostMemo = noHost;
  counters: RequestCounters | null = null;
  countersOf: Cluster | null = null;

  /** `wire` is open, its handshake (if any) done and judged. Says SETTINGS at once; the client's preface comes by `received`. */
  constructor(core: Core, slot: ChainSlot, wire: Wire, peer: Peer | null, nowMs: number, make: MakeSink) {
    this.core = core;
    this.chainSlot = slot;
    this.peer = peer;
    this.out.wire = wire;
    this.#make = make;
    this.#metrics = core.http2;
    const http = slot.current.terminal as HttpChain;
    const streamWindow = http.http2.initialStreamWindow ?? limits.streamWindow;
    const connectionWindow = http.http2.initialConnectionWindow ?? limits.connectionWindow;
    this.session = new Session({
      server: true,
      owner: this,
      out: this.out,
      time: core.ticker,
      metrics: this.#metrics,
      random: core.random,
      maxStreams: http.http2.maxConcurrentStreams ?? limits.concurrentStreams,
      streamWindow: Math.min(streamWindow, largestWindow),
      // RFC 9113 6.9.2: it can only be made larger.
      connectionWindow: Math.min(Math.max(connectionWindow, defaultWindow), largestWindow),
      startTimeoutMs: http.limits.headTimeoutMs,
      keepaliveMs: http.http2.keepalive?.intervalMs ?? 0,
      pingTimeoutMs: http.http2.keepalive?.timeoutMs ?? limits.pingTimeoutMs,
      keepaliveJitter: http.http2.keepalive?.jitter ?? 0,
      reuseStreams: true,
    });
    if (http.limits.connectionDurationMs > 0) this.#oldAtMs = nowMs + http.limits.connectionDurationMs;
    this.#metrics.downstreamConnections.value++;
    core.open.add(this);
    slot.members.add(this);
    core.ticker.add(this);
  }

  #http(): HttpChain {
    return this.chainSlot.current.terminal as HttpChain;
  }

  // ---- socket events ---------------------------------------------------------------------------------------------------------------------------

  received(bytes: Uint8Array): void {
    if (this.#over || this.#lingerAtMs !== never) return;
    enter();
    try {
      this.session.receive(bytes as Buffer);
    } finally {
      leave();
    }
  }

  drained(): void {
    if (this.#over || !this.out.drain()) return;
    if (this.#lingerAtMs !== never) return;
    enter();
    try {
      this.session.drained();
    } finally {
      leave();
    }
  }

  /** The client sends no more: whatever it has asked for, it cannot say that it takes it (no WINDOW_UPDATE, no acknowledgement). */
  ended(): void {
    if (this.#over) return;
    if (this.#lingerAtMs !== never || this.session.active === 0) {
      this.session.lost("the client closed the connection");
      this.#leave();
    } else {
      this.session.lost("the client closed the connection");
      this.destroy();
    }
  }

  /** The socket is gone. */
  lost(): void {
    this.out.wire = null;
    this.#close();
  }

  get deadlineMs(): number {
    if (this.#lingerAtMs !== never) return this.#lingerAtMs;
    return this.session.deadlineMs < this.#oldAtMs ? this.session.deadlineMs : this.#oldAtMs;
  }

  onDeadline(nowMs: number): void {
    if (this.#lingerAtMs !== never) {
      this.destroy();
      return;
    }
    if (this.#oldAtMs <= nowMs) {
      this.#oldAtMs = never;
      this.session.drain("the connection is old");
    }
    this.session.onDeadline(nowMs);
  }

  // ---- what the session asks -------------------------------------------------------------------------------------------------------------------

  httpLimits(): HttpLimits {
    return this.#http().limits;
  }

  accept(): StreamUser | null {
    if (this.session.active === 0) this.session.idleAt(never);
    const most = this.#http().limits.requestsPerConnection;
    if (most > 0 && ++this.#requests === most)
      queueMicrotask(() => this.session.drain("the connection has carried its number of requests"));
    return this.#take();
  }

  #take(): ServerStream {
    return this.#free.pop() ?? new ServerStream(this, (half) => this.#make(half, this.chainSlot.current));
  }

  /** A stream is over and its exchange has let go of it. */
  free(stream: ServerStream): void {
    if (!this.#over && this.#free.length < keptStreams) this.#free.push(stream);
  }

  answerFault(stream: SessionStream, status: number, why: string): void {
    this.malformed(why, false);
    this.#count(status, why);
    sendReply(this.session, stream, writeReply(status, "DPE", why, false, found.isHead, false));
    this.session.stopReceiving(stream);
  }

  malformed(why: string, head: boolean): void {
    this.core.malformed.value++;
    if (head) this.#count(400, why);
    if (this.core.mayLog()) this.core.log.info({ listener: this.chainSlot.current.name, reason: why }, "A malformed request was refused.");
  }

  /** A request that no exchange has seen is counted and logged like any other. */
  #count(status: number, why: string): void {
    const stream = this.#take();
    stream.sink.refuse(this.chainSlot.current, http2Failures.malformed, status, why);
    this.free(stream);
  }

  settled(first: boolean): void {
    if (first) this.#idle();
  }

  goneAway(): void {}

  streamClosed(): void {
    if (this.session.active === 0) this.#idle();
  }

  #idle(): void {
    const limit = this.#http().limits.idleTimeoutMs;
    this.#idleUntilMs = limit > 0 ? this.core.ticker.nowMs + limit : never;
    this.session.idleAt(Math.min(this.#idleUntilMs, this.core.ticker.nowMs + thinMs));
  }

  idle(): void {
    if (this.core.ticker.nowMs >= this.#idleUntilMs) this.session.drain("the connection was idle");
    else {
      this.#free = [];
      this.session.idleAt(this.#idleUntilMs);
    }
  }

  /** GOAWAY is in the outbox or out: FIN after it, and a moment for the peer to read it (RFC 9112 9.6 says why). */
  sessionEnded(code: number, why: string, defence: DefenceReason | null): void {
    if (code !== noError && this.core.mayLog())
      this.core.log.info(
        { listener: this.chainSlot.current.name, remote: this.out.wire?.remoteAddress ?? "", reason: why, defence },
        "An HTTP/2 connection was closed.",
      );
    if (this.#over || this.out.wire === null) {
      this.#close();
      return;
    }
    this.#lingerAtMs = this.core.ticker.nowMs + limits.lingerMs;
    this.out.finish();
  }

  // ---- what exchanges ask ------------------------------------------------------------------------------------------------------------------------

  get wire(): Wire | null {
    return this.out.wire;
  }

  findHost(slot: TableSlot, bytes: Uint8Array, from: number, to: number): CompiledHost | null {
    const table = slot.current;
    if (table === null) return null;
    const memo = hostOf(this.#host, table, bytes, from, to);
    if (memo !== this.#host) this.#host = memo;
    return memo.host;
  }

  remote(): HostPort {
    const wire = this.out.wire;
    return wire === null ? { host: "", port: 0 } : { host: wire.remoteAddress ?? "", port: wire.remotePort ?? 0 };
  }

  local(): HostPort {
    const wire = this.out.wire;
    return wire === null ? { host: "", port: this.chainSlot.current.port } : { host: wire.localAddress ?? "", port: wire.localPort ?? 0 };
  }

  // ---- ends ------------------------------------------------------------------------------------------------------------------------------------

  retire(): void {
    this.session.drain("the listener changes or stops");
  }

  /** Accepted while the listener was closing: what the client has sent is still answered. */
  goodbye(): void {
    this.retire();
  }

  rejudge(): void {
    const chain: CompiledChain = this.chainSlot.current;
    if (chain.terminal.kind !== "http" || chain.networkRbac.length === 0) return;
    subject.head = null;
    subject.client = null;
    subject.peer = this.peer;
    subject.wire = this.out.wire;
    subject.port = chain.port;
    if (judge(chain.networkRbac) === null) this.destroy();
  }

  /** Both sides are done: the socket closes by itself. */
  #leave(): void {
    const wire = this.out.wire;
    this.#close();
    this.out.wire = null;
    if (wire !== null) closeGently(wire);
  }

  destroy(): void {
    const wire = this.out.wire;
    this.out.wire = null;
    this.#close();
    wire?.terminate();
  }

  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.session.lost("the connection was closed");
    this.#free = [];
    this.out.clear();
    this.#metrics.downstreamConnections.value--;
    this.core.ticker.remove(this);
    this.chainSlot.members.delete(this);
    this.core.closed(this);
  }
}
