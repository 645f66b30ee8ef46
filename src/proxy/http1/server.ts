// Owns: one downstream HTTP/1 connection: its head and body framing, keep-alive, pipelining (one request at a time, in order), its end.
// States: handshake -> head -> body -> waiting -> head …; any -> tunnel, linger, closed. Closed swallows late events.
// Never routes or answers: its exchange does.

import { judge, subject } from "../authz/judge.ts";
import type { Cluster } from "../balance/cluster.ts";
import type { ChainMember, ChainSlot, CompiledChain, HttpChain } from "../chain/chain.ts";
import type { HostPort } from "../config.ts";
import { type Failure, failures } from "../http/failure.ts";
import type { AnswerPlan, DownstreamConnection, DownstreamHalf } from "../http/halves.ts";
import { type HostMemo, hostOf, noHost } from "../http/host-memo.ts";
import { writeReply } from "../http/reply.ts";
import { closeGently, Outbox, scratch, type Wire } from "../net/outbox.ts";
import type { Timed } from "../resilience/ticker.ts";
import type { CompiledEdits } from "../route/edit.ts";
import type { CompiledHost, TableSlot } from "../route/table.ts";
import type { Core, Downstream } from "../runtime/core.ts";
import type { RequestCounters } from "../telemetry/request.ts";
import type { Peer } from "../tls/peer.ts";
import { framing } from "./body.ts";
import { chunkFits, putChunk, writeChunk, writeTrailers } from "./chunks.ts";
import { findEnd, Head, parseRequest } from "./head.ts";
import { explainRefusal, type HttpLimits, refusal } from "./limits.ts";
import { giveBack, type Turn, takeTurn } from "./turn.ts";
import { lacks, persistence, writeAnswer } from "./write.ts";

const state = { head: 0, body: 1, waiting: 2, tunnel: 3, linger: 4, closed: 5 } as const;

/** How long a connection is read on after its last answer, so that the answer is not lost to a reset (RFC 9112 9.6). */
const lingerMs = 2_000;

/** Reused by every connection, as parsing never waits. */
const requestHead = new Head();

export class ServerConnection implements Downstream, ChainMember, Timed, DownstreamHalf, DownstreamConnection {
  readonly version = 1;
  readonly core: Core;
  readonly slot_: ChainSlot;
  readonly out = new Outbox();
  readonly peer: Peer | null;
  #state: number = state.head;
  /** The request under way; null between requests. */
  #turn: Turn | null = null;
  /** Bytes read but not used yet: part of a head, or the next requests. */
  #stash: Uint8Array | null = null;
  /** How far the stash was searched for the end of a head. */
  #searched = 0;
  #pauses = 0;
  #stashPaused = false;
  /** Close after the answer under way. */
  closing = false;
  #count = 0;
  /** When the connection is old enough to be replaced. */
  #oldAtMs = Number.POSITIVE_INFINITY;
  /** When the request under way must have come whole. */
  #requestDueMs = Number.POSITIVE_INFINITY;
  /** The client's FIN has come. */
  inputEnded = false;
  #nextWaitsForDrain = false;
  deadlineMs = Number.POSITIVE_INFINITY;
  slot = -1;
  #host: HostMemo = noHost;
  /** The answer's body has chunks, so trailers may follow. */
  #mayTrail = false;
  /** The answer's body is put into chunks here. */
  #addChunks = false;
  counters: RequestCounters | null = null;
  countersOf: Cluster | null = null;

  /** `wire` is open, its handshake (if any) done and judged. */
  constructor(core: Core, slot: ChainSlot, wire: Wire, peer: Peer | null, nowMs: number) {
    this.core = core;
    this.slot_ = slot;
    this.peer = peer;
    this.out.wire = wire;
    this.deadlineMs = headDeadline(this.#http().limits, nowMs);
    const old = this.#http().limits.connectionDurationMs;
    if (old > 0) this.#oldAtMs = nowMs + old;
    core.open.add(this);
    slot.members.add(this);
    core.ticker.add(this);
  }

  #http(): HttpChain {
    return this.slot_.current.terminal as HttpChain;
  }

  // ---- socket events -----------------------------------------------------------------------------------------------------

  received(bytes: Uint8Array): void {
    switch (this.#state) {
      case state.head:
        this.#readHead(bytes);
        break;
      case state.body:
        this.#readBody(bytes, 0);
        break;
      case state.waiting:
        this.#keepForLater(bytes);
        break;
      case state.tunnel:
        this.#turn?.exchange.tunnelBytes(bytes);
        break;
      default:
    }
  }

  drained(): void {
    if (this.#state === state.closed) return;
    if (!this.out.drain()) {
      if (this.#nextWaitsForDrain) this.#waitForDrain();
      return;
    }
    if (this.#state === state.linger) {
      if (this.inputEnded) this.#leave();
      else this.deadlineMs = this.core.ticker.nowMs + lingerMs;
      return;
    }
    this.#turn?.exchange.downDrained();
    if (this.#nextWaitsForDrain) {
      this.#nextWaitsForDrain = false;
      this.#next();
    }
  }

  /** The client sends no more. */
  ended(): void {
    this.inputEnded = true;
    switch (this.#state) {
      case state.tunnel:
        this.#turn?.exchange.tunnelEnd();
        break;
      case state.body:
      case state.waiting:
        // As Envoy, nginx and Go: a client that closes its side mid-request has gone; work for it stops.
        this.#turn?.exchange.abandon(failures.gone);
        this.destroy();
        break;
      case state.closed:
        break;
      default:
        if (this.out.waiting > 0) this.#finishOutput();
        else this.#leave();
    }
  }

  /** The socket is gone. */
  lost(): void {
    this.out.wire = null;
    this.#close();
  }

  onDeadline(nowMs: number): void {
    switch (this.#state) {
      case state.head: {
        // An idle connection goes quietly; a head that was begun is told why.
        if (this.#betweenRequests) this.#linger();
        else this.#fail(failures.headTimeout);
        break;
      }
      case state.linger:
        this.destroy();
        break;
      case state.closed:
        break;
      case state.body:
        if (this.#requestDueMs <= nowMs && this.#turn?.exchange.answering === false) {
          this.#fail(failures.slowRequest);
          break;
        }
        this.#requestDueMs = Number.POSITIVE_INFINITY;
        this.#turn?.exchange.onDeadline(nowMs);
        this.arm();
        break;
      default:
        // The client has not taken the rest of an answer for too long.
        if (this.#turn === null) this.destroy();
        else {
          this.#turn.exchange.onDeadline(nowMs);
          this.arm();
        }
    }
  }

  /** Takes the exchange's next deadline for the connection's. */
  arm(): void {
    const turn = this.#turn;
    if (turn === null) return;
    if (this.#state === state.body) this.deadlineMs = Math.min(turn.exchange.deadlineMs, this.#requestDueMs);
    else if (this.#state === state.waiting || this.#state === state.tunnel) this.deadlineMs = turn.exchange.deadlineMs;
  }

  // ---- reading -----------------------------------------------------------------------------------------------------------

  #readHead(chunk: Uint8Array): void {
    let bytes = chunk;
    if (this.#stash !== null) {
      bytes = Buffer.concat([this.#stash, chunk]);
      this.#stash = null;
      // A head that drips in is searched for its end, not parsed again and again.
      const end = findEnd(bytes, this.#searched > 3 ? this.#searched - 3 : 0);
      if (end < 0) {
        this.#wait(bytes, 0);
        return;
      }
    }
    this.#requests(bytes, 0);
  }

  /** Takes requests from bytes[at, …) until one has to wait. */
  #requests(bytes: Uint8Array, from: number): void {
    let at = from;
    while (this.#state === state.head) {
      if (at === bytes.length) return;
      const http = this.#http();
      requestHead.limits = http.limits;
      const used = parseRequest(bytes, at, bytes.length, requestHead);
      if (used <= 0) {
        if (used === 0) this.#wait(bytes, at);
        else this.#malformed(used);
        return;
      }
      if (used > http.limits.headBytes) {
        this.#malformed(-refusal.headTooLarge);
        return;
      }
      at += used;
      const turn = takeTurn(this, this.slot_.current);
      const body = turn.body;
      const head = requestHead;
      body.limits = http.limits;
      body.keepTrailers = true;
      if (head.chunked) body.begin(framing.chunked, 0, this.core.unchunkRequests);
      else body.begin(framing.length, head.contentLength, false);
      let kept = at;
      const bodyFrom = at;
      if (!body.done) {
        const size = body.scan(bytes, at, bytes.length);
        if (size < 0) {
          this.#malformed(size);
          return;
        }
        at += size;
        kept = body.keptTo;
      }
      this.#turn = turn;
      this.#searched = 0;
      this.#state = body.done ? state.waiting : state.body;
      this.deadlineMs = Number.POSITIVE_INFINITY;
      const now = this.core.ticker.now();
      const trailers = body.done ? body.trailers : null;
      this.#countRequest(http.limits, now, body.done);
      turn.exchange.begin(this.slot_.current, http, bytes, head, bodyFrom, kept, body.done && trailers === null, now);
      if (trailers !== null) this.#turn?.exchange.requestTrailers(trailers, 0, trailers.length);
      // The exchange may be over already (a local reply), and then this connection is in another state.
      if (this.#after === state.body || this.#after === state.waiting) this.arm();
    }
    if (at < bytes.length) this.#leftover(bytes, at);
  }

  /** Read through a getter, as the compiler would take the state for what it was before the call. */
  get #after(): number {
    return this.#state;
  }

  /** What this request changes about the connection's own limits. */
  #countRequest(limits: HttpLimits, nowMs: number, whole: boolean): void {
    if (limits.requestsPerConnection > 0 && ++this.#count >= limits.requestsPerConnection) this.closing = true;
    if (nowMs >= this.#oldAtMs) this.closing = true;
    this.#requestDueMs = whole || limits.requestTimeoutMs === 0 ? Number.POSITIVE_INFINITY : nowMs + limits.requestTimeoutMs;
  }

  #leftover(bytes: Uint8Array, at: number): void {
    if (this.#state === state.waiting) this.#keepForLater(bytes.subarray(at));
    else if (this.#state === state.tunnel) this.#turn?.exchange.tunnelBytes(bytes.subarray(at));
  }

  /** No byte of a head has come; an empty line before it is none (RFC 9112 2.2). */
  get #betweenRequests(): boolean {
    return this.#stash === null || this.#searched === 0;
  }

  /** Part of a head: wait for the rest. */
  #wait(bytes: Uint8Array, at: number): void {
    const http = this.#http();
    if (bytes.length - at > http.limits.headBytes) {
      this.#malformed(-refusal.headTooLarge);
      return;
    }
    if (this.inputEnded) {
      this.destroy();
      return;
    }
    this.#stash = at === 0 ? bytes : bytes.subarray(at);
    // The clock of the head starts with its first byte.
    if (isEmptyLine(this.#stash)) return;
    if (this.#searched === 0) this.deadlineMs = headDeadline(http.limits, this.core.ticker.nowMs);
    this.#searched = this.#stash.length;
  }

  #readBody(bytes: Uint8Array, from: number): void {
    const turn = this.#turn;
    if (turn === null) return;
    const { body, exchange } = turn;
    const used = body.scan(bytes, from, bytes.length);
    if (used < 0) {
      this.#malformed(used);
      return;
    }
    if (body.done) this.#state = state.waiting;
    const done = body.done;
    const trailers = done ? body.trailers : null;
    if (trailers === null) exchange.requestBody(bytes, from, body.keptTo, done);
    else {
      if (body.keptTo > from) exchange.requestBody(bytes, from, body.keptTo, false);
      // It may be over within that call.
      if (this.#turn === turn) exchange.requestTrailers(trailers, 0, trailers.length);
    }
    const at = from + used;
    if (at < bytes.length && done) {
      if (this.#after === state.head) this.#requests(bytes, at);
      else this.#leftover(bytes, at);
    }
  }

  /** Bytes of the next requests while this one is under way. Reading stops at the limit until their turn comes. */
  #keepForLater(bytes: Uint8Array): void {
    this.#stash = this.#stash === null ? bytes : Buffer.concat([this.#stash, bytes]);
    if (!this.#stashPaused && this.#stash.length >= this.#http().limits.pipelinedBytes) {
      this.#stashPaused = true;
      this.pauseReading();
    }
  }

  // ---- what the exchange asks for ------------------------------------------------------------------------------------------

  get connection(): DownstreamConnection {
    return this;
  }

  get wire(): Wire | null {
    return this.out.wire;
  }

  sendInterim(bytes: Uint8Array, head: Head): void {
    const size = writeAnswer(bytes, head, null, persistence.silent, false, true, lacks.nothing, null);
    this.out.write(scratch, 0, size);
  }

  /** Head and body in one write as far as the scratch buffer reaches. */
  sendAnswer(bytes: Uint8Array, head: Head, how: AnswerPlan, from: number, to: number, end: boolean): boolean {
    this.#addChunks = how.addChunks;
    this.#mayTrail = how.addChunks || !how.dropFraming;
    const missing = how.addChunks ? lacks.chunks : how.needsLength ? lacks.length : lacks.nothing;
    let size = writeAnswer(bytes, head, how.edits, how.persistence, how.keepReason, how.dropFraming, missing, how.viaLine, how.lines);
    const out = this.out;
    const bodySize = to - from;
    if (how.addChunks) {
      if (chunkFits(bodySize, size)) return out.write(scratch, 0, putChunk(bytes, from, to, end, size));
      out.write(scratch, 0, size);
      return writeChunk(out, bytes, from, to, end);
    }
    if (bodySize === 0) return out.write(scratch, 0, size);
    if (size + bodySize > scratch.length) {
      out.write(scratch, 0, size);
      return out.write(bytes, from, to);
    }
    if (bodySize <= 32) for (let i = from; i < to; i++) scratch[size++] = bytes[i] as number;
    else {
      (bytes as Buffer).copy(scratch, size, from, to);
      size += bodySize;
    }
    return out.write(scratch, 0, size);
  }

  sendBody(bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
    if (this.#addChunks) return to > from || end ? writeChunk(this.out, bytes, from, to, end) : this.out.waiting === 0;
    return to === from || this.out.write(bytes, from, to);
  }

  sendTrailers(bytes: Uint8Array, from: number, to: number): void {
    if (this.#mayTrail) writeTrailers(this.out, bytes, from, to, !this.#addChunks);
  }

  sendReply(size: number): void {
    this.out.write(scratch, 0, size);
  }

  sendSwitch(bytes: Uint8Array | null, head: Head | null, edits: CompiledEdits | null): void {
    if (bytes === null || head === null) this.out.write(established, 0, established.length);
    else {
      const size = writeAnswer(bytes, head, edits, persistence.upgrade, false, true, lacks.nothing, null);
      this.out.write(scratch, 0, size);
    }
  }

  sendRaw(bytes: Uint8Array, from: number, to: number): boolean {
    return this.out.write(bytes, from, to);
  }

  finishRaw(): void {
    this.out.finish();
  }

  cut(_failure: Failure): void {
    this.destroy();
  }

  /** Payload bytes of the request so far. */
  get requestBytes(): number {
    return this.#turn === null ? 0 : this.#turn.body.bytes;
  }

  /** The answer is written; the next request may come. */
  exchangeDone(close: boolean, _complete: boolean): void {
    const turn = this.#turn;
    this.#turn = null;
    if (turn !== null) giveBack(turn);
    if (this.#state === state.closed) return;
    if (close || this.closing) {
      this.#linger();
      return;
    }
    if (this.out.waiting > 0) {
      this.#nextWaitsForDrain = true;
      this.#waitForDrain();
      return;
    }
    this.#next();
  }

  /** For the rest of an answer to be taken, as long as a stream may be idle. */
  #waitForDrain(): void {
    const most = this.#http().limits.streamIdleTimeoutMs;
    this.deadlineMs = most > 0 ? this.core.ticker.nowMs + most : Number.POSITIVE_INFINITY;
  }

  #next(): void {
    this.#state = state.head;
    this.#searched = 0;
    const idle = this.#http().limits.idleTimeoutMs;
    const idleUntilMs = idle > 0 ? this.core.ticker.nowMs + idle : Number.POSITIVE_INFINITY;
    this.deadlineMs = Math.min(idleUntilMs, this.#oldAtMs);
    const stash = this.#stash;
    if (stash === null) return;
    this.#stash = null;
    // Not from within the answer's event: a long pipeline would grow the stack.
    queueMicrotask(() => this.#continue(stash));
  }

  #continue(stash: Uint8Array): void {
    if (this.#state !== state.head) return;
    const later = this.#stash;
    this.#stash = null;
    this.#requests(later === null ? stash : Buffer.concat([stash, later]), 0);
    // Part of a head may be left in the stash, and needs more reading; a whole later request keeps reading off.
    if (this.#stash === null || this.#after !== state.waiting) this.#resumeStash();
  }

  /** The virtual host of an authority; the last answer is remembered. */
  findHost(slot: TableSlot, bytes: Uint8Array, from: number, to: number): CompiledHost | null {
    const table = slot.current;
    if (table === null) return null;
    const memo = hostOf(this.#host, table, bytes, from, to);
    if (memo !== this.#host) this.#host = memo;
    return memo.host;
  }

  pauseReading(): void {
    if (this.#pauses++ === 0) {
      this.core.pauses.value++;
      this.out.wire?.pause();
    }
  }

  resumeReading(): void {
    if (this.#pauses > 0 && --this.#pauses === 0) this.out.wire?.resume();
  }

  becomeTunnel(): void {
    this.#state = state.tunnel;
    this.arm();
    // What an eager client sent before it was told to.
    const early = this.#stash;
    this.#stash = null;
    if (early !== null) this.#turn?.exchange.tunnelBytes(early);
    this.#resumeStash();
  }

  #resumeStash(): void {
    if (!this.#stashPaused) return;
    this.#stashPaused = false;
    this.resumeReading();
  }

  /** Both sides of a tunnel are done. */
  tunnelDone(): void {
    this.#linger();
  }

  remote(): HostPort {
    const wire = this.out.wire;
    return wire === null ? { host: "", port: 0 } : { host: wire.remoteAddress ?? "", port: wire.remotePort ?? 0 };
  }

  local(): HostPort {
    const wire = this.out.wire;
    return wire === null ? { host: "", port: this.slot_.current.port } : { host: wire.localAddress ?? "", port: wire.localPort ?? 0 };
  }

  // ---- ends --------------------------------------------------------------------------------------------------------------

  /** The request cannot go on: said to the client, counted, closed. */
  #fail(failure: Failure): void {
    const { status, sentence } = failure;
    const turn = this.#turn;
    if (turn === null || turn.exchange.isIdle) this.#countRefused(failure, status, sentence);
    else {
      turn.exchange.status = status;
      turn.exchange.abandon(failure);
    }
    this.#refuse(status, sentence);
  }

  #malformed(code: number): void {
    this.core.malformed.value++;
    const { status, sentence } = explainRefusal(code);
    // A body that goes wrong ends the request it belongs to; a head that does is counted as a request of its own.
    const exchange = this.#turn === null ? null : this.#turn.exchange;
    if (exchange === null || exchange.isIdle) this.#countRefused(failures.malformed, status, sentence);
    else if (exchange.answering) {
      this.destroy();
      return;
    } else {
      exchange.status = status;
      exchange.abandon(failures.malformed);
    }
    if (this.core.mayLog())
      this.core.log.info({ listener: this.slot_.current.name, status, reason: sentence }, "A malformed request was refused.");
    this.#refuse(status, sentence);
  }

  /** A request that no exchange has seen is counted and logged like any other. */
  #countRefused(failure: Failure, status: number, sentence: string): void {
    const chain = this.slot_.current;
    const turn = takeTurn(this, chain);
    turn.exchange.refuse(chain, failure, status, sentence);
    giveBack(turn);
  }

  /** Answers without an exchange, and closes. */
  #refuse(status: number, sentence: string): void {
    if (this.#state === state.closed || this.#state === state.linger) return;
    const size = writeReply(status, "DPE", sentence, false, false, true);
    this.out.write(scratch, 0, size);
    this.#linger();
  }

  /** Sends FIN after what waits, and reads on for a moment so that the client sees the answer and not a reset. */
  #linger(): void {
    if (this.#state === state.closed) return;
    this.#state = state.linger;
    this.#stash = null;
    while (this.#pauses > 0) this.resumeReading();
    this.deadlineMs = this.core.ticker.nowMs + lingerMs + (this.out.waiting > 0 ? 30_000 : 0);
    if (this.inputEnded && this.out.waiting === 0) this.#leave();
    else this.#finishOutput();
  }

  #finishOutput(): void {
    this.#state = state.linger;
    this.deadlineMs = this.core.ticker.nowMs + lingerMs + (this.out.waiting > 0 ? 30_000 : 0);
    this.out.finish();
  }

  /** The next answer says `Connection: close`; an idle connection stays, as its next request may be on its way already. */
  goodbye(): void {
    this.closing = true;
  }

  retire(): void {
    this.closing = true;
    if (this.#state === state.head && this.#betweenRequests) this.#linger();
  }

  rejudge(): void {
    // Network policies of an HTTP chain guard the connection; HTTP ones are asked with each request anyway.
    const chain: CompiledChain = this.slot_.current;
    if (chain.terminal.kind !== "http" || chain.networkRbac.length === 0) return;
    subject.head = null;
    subject.client = null;
    subject.peer = this.peer;
    subject.wire = this.out.wire;
    subject.port = chain.port;
    if (judge(chain.networkRbac) === null) {
      this.#turn?.exchange.abandon(failures.denied);
      this.destroy();
    }
  }

  /** Both sides are done: the socket closes by itself. */
  #leave(): void {
    const wire = this.out.wire;
    this.#close();
    this.out.wire = null;
    if (wire !== null) closeGently(wire);
  }

  /** Breaks off: the client sees a reset, never an answer cut short that looks whole. */
  destroy(): void {
    const wire = this.out.wire;
    this.#close();
    this.out.wire = null;
    wire?.terminate();
  }

  #close(): void {
    if (this.#state === state.closed) return;
    this.#turn?.exchange.abandon(failures.gone);
    this.#turn = null;
    this.#state = state.closed;
    this.#stash = null;
    this.out.clear();
    this.core.ticker.remove(this);
    this.slot_.members.delete(this);
    this.core.closed(this);
  }
}

/** CRLF, or as much of it as has come. */
function isEmptyLine(bytes: Uint8Array): boolean {
  return bytes[0] === 13 && (bytes.length === 1 || (bytes.length === 2 && bytes[1] === 10));
}

/** When a head that begins now must have come. */
function headDeadline(limits: HttpLimits, nowMs: number): number {
  return limits.headTimeoutMs > 0 ? nowMs + limits.headTimeoutMs : Number.POSITIVE_INFINITY;
}

const established = Buffer.from("HTTP/1.1 200 Connection Established\r\n\r\n", "latin1");
