// Owns: one upstream HTTP/1 connection, also the raw one of opaque TCP: connecting, its handshake, the answers it brings, its time in the pool, its end.
// States: connecting -> handshake -> idle <-> busy -> closed, or busy -> raw (opaque bytes, after CONNECT or an upgrade). Closed swallows late events.
// Never decides about retries or answers: its owner does.

import type { Endpoint, Pooled } from "../balance/endpoint.ts";
import type { ConnectionConfig } from "../config.ts";
import { type DialedSocket, type Dialing, dial, judgeDialed } from "../http/dial.ts";
import { type Failure, failures } from "../http/failure.ts";
import type { RequestNeeds, UpstreamHalf, UpstreamOwner } from "../http/halves.ts";
import { closeGently, Outbox, scratch, type Wire } from "../net/outbox.ts";
import type { Timed } from "../resilience/ticker.ts";
import type { Core } from "../runtime/core.ts";
import type { Peer } from "../tls/peer.ts";
import type { ResumableSocket } from "../tls/session.ts";
import { BodyReader, framing } from "./body.ts";
import { chunkFits, putChunk, writeChunk, writeTrailers } from "./chunks.ts";
import { findEnd, Head, parseAnswer } from "./head.ts";
import { explainRefusal, limits, refusal } from "./limits.ts";
import { type RequestPlan, writeRequest } from "./write.ts";

export const upstreamState = { connecting: 0, handshake: 1, idle: 2, busy: 3, raw: 4, closed: 5 } as const;

/** Unless the cluster says otherwise, idle connections are let go after this: less than what most servers allow, so that we close first (Go 90 s, nginx 75 s, Node 5 s closes on us and we see it). */
const idleMs = 60_000;

/** Reused by every connection, as parsing never waits. */
const answerHead = new Head();

export class Upstream implements Dialing, Pooled, Timed, UpstreamHalf {
  readonly version = 1;
  readonly core: Core;
  readonly endpoint: Endpoint;
  readonly out = new Outbox();
  owner: UpstreamOwner | null;
  state: number = upstreamState.connecting;
  generation = 0;
  deadlineMs: number;
  slot = -1;
  /** Verified; null for plain text. */
  peer: Peer | null = null;
  /** Carried a request before: a reset may then be an idle time-out of the peer. */
  used = false;
  /** How many requests were sent. */
  #carried = 0;
  /** The peer has said something since the handshake: it takes us for who we are. */
  #heard = false;
  /** No requests from then on. */
  #endAtMs = Number.POSITIVE_INFINITY;
  /** The request asked for: 1 HEAD, 2 CONNECT-like (no body either way), 0 else. */
  #bodyless = false;
  #allowSwitch = false;
  readonly #body = new BodyReader();
  #stash: Uint8Array | null = null;
  /** How far the stash was searched for the end of a head. */
  #searched = 0;
  #inBody = false;
  #interims = 0;
  #keep = false;
  /** The request's body is put into chunks here. */
  #addChunks = false;
  /** The peer of a raw connection has sent its last byte. */
  #rawEnded = false;
  /** Reading is paused while more than zero parties ask for it. */
  #pauses = 0;

  constructor(core: Core, endpoint: Endpoint, owner: UpstreamOwner, nowMs: number) {
    this.core = core;
    this.endpoint = endpoint;
    this.owner = owner;
    this.deadlineMs = nowMs + endpoint.cluster.config.connectTimeoutMs;
  }

  /** Starts connecting. The owner hears `onUpstreamReady` or `onUpstreamFailed` later, never within this call. */
  connect(): void {
    const endpoint = this.endpoint;
    endpoint.connections++;
    endpoint.cluster.connections++;
    this.core.ticker.add(this);
    this.generation = dial(this, endpoint.transport.tlsHttp1, (failure, why) => this.#fail(failure, why));
  }

  /** Ready for a request of `owner`. */
  take(owner: UpstreamOwner): void {
    this.owner = owner;
    this.state = upstreamState.busy;
    this.deadlineMs = Number.POSITIVE_INFINITY;
  }

  get open(): boolean {
    return this.out.wire !== null && this.state === upstreamState.busy;
  }

  get endsWithConnection(): boolean {
    return this.#body.framing === framing.untilClose;
  }

  get waiting(): number {
    return this.out.waiting;
  }

  /** Head and as much of the body as fits go out in one write. */
  sendRequest(bytes: Uint8Array, head: Head, plan: RequestPlan, needs: RequestNeeds, body: readonly Uint8Array[]): boolean {
    this.#carried++;
    this.#bodyless = needs.isHead;
    this.#allowSwitch = needs.allowSwitch;
    this.#inBody = false;
    this.#interims = 0;
    this.#keep = false;
    this.#unchunk = needs.unchunk;
    this.#addChunks = needs.addChunks;
    plan.addChunks = needs.addChunks;
    let size = writeRequest(bytes, head, plan);
    const out = this.out;
    const count = body.length;
    if (needs.addChunks) return this.#sendChunked(size, body, needs.end);
    if (count === 0) return out.write(scratch, 0, size);
    let next = 0;
    const first = body[0] as Uint8Array;
    if (size + first.length <= scratch.length) {
      scratch.set(first, size);
      size += first.length;
      next = 1;
    }
    let all = out.write(scratch, 0, size);
    for (; next < count; next++) {
      const part = body[next] as Uint8Array;
      all = out.write(part, 0, part.length);
    }
    return all;
  }

  #sendChunked(headSize: number, body: readonly Uint8Array[], end: boolean): boolean {
    const count = body.length;
    let size = headSize;
    let next = 0;
    const first = body[0];
    if (first === undefined) {
      if (end) size = putChunk(scratch, 0, 0, true, size);
    } else if (chunkFits(first.length, size)) {
      size = putChunk(first, 0, first.length, end && count === 1, size);
      next = 1;
    }
    let all = this.out.write(scratch, 0, size);
    for (; next < count; next++) {
      const part = body[next] as Uint8Array;
      all = writeChunk(this.out, part, 0, part.length, end && next === count - 1);
    }
    return all;
  }

  sendBody(bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
    if (this.#addChunks) return to > from || end ? writeChunk(this.out, bytes, from, to, end) : true;
    return this.out.write(bytes, from, to);
  }

  sendTrailers(bytes: Uint8Array, from: number, to: number): void {
    writeTrailers(this.out, bytes, from, to, !this.#addChunks);
  }

  sendRaw(bytes: Uint8Array, from: number, to: number): boolean {
    return this.out.write(bytes, from, to);
  }

  finishRaw(): void {
    this.out.finish();
  }

  /** From now on every byte goes to the owner as it is. */
  becomeRaw(): void {
    this.state = upstreamState.raw;
    this.deadlineMs = Number.POSITIVE_INFINITY;
  }

  /** The answer is complete and so is the request: back to the pool, or closed if it cannot be used again. */
  release(requestComplete: boolean, nowMs: number): void {
    this.owner = null;
    if (this.state === upstreamState.closed) return;
    const material = this.endpoint.transport.tlsHttp1;
    const stale = material !== null && material.generation !== this.generation;
    if (!this.#keep || !requestComplete || stale || this.endpoint.retired || this.out.waiting > 0 || this.#stash !== null) {
      this.dispose();
      return;
    }
    const rules = this.endpoint.cluster.config.connections;
    let until = nowMs + idleMs;
    if (rules !== undefined) {
      until = this.#keptUntil(rules, nowMs);
      if (until <= nowMs) {
        this.dispose();
        return;
      }
    }
    this.state = upstreamState.idle;
    this.used = true;
    this.deadlineMs = until;
    while (this.#pauses > 0) this.resumeReading();
    this.endpoint.idle.push(this);
    if (this.endpoint.cluster.waiting.length > 0) this.endpoint.cluster.wakeOne();
  }

  /** When an idle connection ends by the cluster's own rules; not later than `nowMs`: it is spent. */
  #keptUntil({ idleMs: own = idleMs, maxRequests }: ConnectionConfig, nowMs: number): number {
    if (maxRequests !== undefined && this.#carried >= maxRequests) return nowMs;
    const idle = own === 0 ? Number.POSITIVE_INFINITY : nowMs + own;
    return idle < this.#endAtMs ? idle : this.#endAtMs;
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

  /** Ends it now: with a FIN when nothing is under way, else with a reset, so that the peer stops working on it. */
  dispose(): void {
    const wire = this.out.wire;
    const quiet =
      this.state === upstreamState.idle || this.#rawEnded || (this.state === upstreamState.busy && this.owner === null && this.#body.done);
    this.out.wire = null;
    this.#closed();
    if (wire === null) return;
    if (quiet) closeGently(wire);
    else wire.terminate();
  }

  onDeadline(nowMs: number): void {
    switch (this.state) {
      case upstreamState.connecting:
      case upstreamState.handshake:
        this.#fail(failures.connectTimeout, "no connection within the connect timeout");
        break;
      case upstreamState.idle:
        this.dispose();
        break;
      default:
        this.deadlineMs = nowMs + idleMs;
    }
  }

  opened(wire: Wire): void {
    this.out.wire = wire;
    if (this.state !== upstreamState.connecting) {
      // Given up while it was being made.
      this.out.wire = null;
      wire.terminate();
      return;
    }
    if (this.endpoint.transport.tls !== null) {
      this.state = upstreamState.handshake;
      this.endpoint.tlsSession.offer(wire as unknown as ResumableSocket, this.generation);
      return;
    }
    this.#ready();
  }

  handshaken(socket: DialedSocket, failed: Error | null): void {
    if (this.state !== upstreamState.handshake) return;
    const material = this.endpoint.transport.tlsHttp1;
    if (material === null) return;
    const peer = judgeDialed(this, socket, material, failed);
    if (typeof peer === "string") {
      this.#fail(failures.tls, peer);
      return;
    }
    this.peer = peer;
    this.#ready();
  }

  /** A ticket for the next connection. Before the peer is accepted it is worth nothing. */
  ticket(session: Uint8Array): void {
    this.#heard = true;
    if (this.peer !== null) this.endpoint.tlsSession.keep(session, this.generation);
  }

  received(bytes: Uint8Array): void {
    switch (this.state) {
      case upstreamState.busy:
        this.#heard = true;
        this.#read(bytes);
        break;
      case upstreamState.raw:
        this.owner?.onRawBytes(this, bytes);
        break;
      case upstreamState.idle:
        // Nobody asked: the next request would take it for its answer (rule 7).
        this.core.idleBytes.value++;
        this.dispose();
        break;
      default:
    }
  }

  drained(): void {
    if (this.state === upstreamState.closed) return;
    if (this.out.drain()) this.owner?.onUpstreamDrained(this);
  }

  /** The peer sends no more. */
  ended(): void {
    switch (this.state) {
      case upstreamState.busy:
        this.#lost("the peer closed the connection");
        break;
      case upstreamState.raw:
        this.#rawEnd();
        break;
      case upstreamState.closed:
        break;
      case upstreamState.idle:
        this.dispose();
        break;
      default:
        this.#fail(failures.connect, "the peer closed the connection");
    }
  }

  /** The socket is gone. */
  lost(error: Error | null): void {
    this.out.wire = null;
    switch (this.state) {
      case upstreamState.raw:
        // TLS sockets report a peer that has closed in good order as gone, without an `end` before: its bytes are complete all the same.
        if (error === null) {
          this.#rawEnd();
          this.dispose();
          break;
        }
        this.#lost(error.message);
        break;
      case upstreamState.busy:
        this.#lost(error === null ? "the connection was closed" : error.message);
        break;
      case upstreamState.handshake:
        this.#fail(
          failures.tls,
          error === null ? "the peer closed the connection within the handshake; does it accept our certificate?" : error.message,
        );
        break;
      case upstreamState.connecting:
        this.#fail(failures.connect, error === null ? "the connection was closed" : error.message);
        break;
      default:
        this.#closed();
    }
  }

  refused(error: Error & { code?: string }): void {
    if (this.state === upstreamState.closed) return;
    this.#fail(failures.connect, error.code === "ECONNREFUSED" ? "connection refused; is it running?" : error.message);
  }

  #ready(): void {
    this.endpoint.connected();
    this.state = upstreamState.busy;
    this.deadlineMs = Number.POSITIVE_INFINITY;
    const age = this.endpoint.cluster.config.connections?.maxAgeMs;
    if (age !== undefined) this.#endAtMs = this.core.ticker.nowMs + age;
    const owner = this.owner;
    if (owner === null) {
      // Its request went away meanwhile; somebody else may use it.
      this.#keep = true;
      this.release(true, this.core.ticker.nowMs);
    } else owner.onUpstreamReady(this);
  }

  #fail(failure: Failure, why: string): void {
    if (this.state === upstreamState.closed) return;
    this.core.connectFailures.value++;
    this.endpoint.connectFailed(this.core.ticker.nowMs, why);
    const owner = this.owner;
    this.owner = null;
    this.dispose();
    owner?.onUpstreamFailed(this, failure, why);
  }

  #rawEnd(): void {
    if (this.#rawEnded) return;
    this.#rawEnded = true;
    this.owner?.onRawEnd(this);
  }

  #lost(why: string): void {
    const owner = this.owner;
    const open = this.state === upstreamState.raw || !this.#inBody || this.#body.framing !== framing.untilClose;
    this.#keep = false;
    if (!open && owner !== null) {
      // RFC 9112 6.3 (8): this body ends with its connection.
      this.#body.done = true;
      owner.onAnswerBody(this, empty, 0, 0, true);
      return;
    }
    this.owner = null;
    this.dispose();
    // In TLS 1.3 a server judges our certificate after the handshake is over for us (RFC 8446 4.4.2.4): what it thinks of it is an end without a word.
    const turnedAway = this.peer !== null && !this.#heard && this.#carried <= 1;
    owner?.onUpstreamLost(this, failures.reset, turnedAway ? `${why} right after the handshake; does it accept our certificate?` : why);
  }

  #closed(): void {
    if (this.state === upstreamState.closed) return;
    if (this.state === upstreamState.idle) {
      const at = this.endpoint.idle.lastIndexOf(this);
      if (at >= 0) this.endpoint.idle.splice(at, 1);
    }
    this.state = upstreamState.closed;
    this.out.clear();
    this.#stash = null;
    this.core.ticker.remove(this);
    this.endpoint.connections--;
    const cluster = this.endpoint.cluster;
    cluster.connections--;
    if (cluster.waiting.length > 0) cluster.wakeOne();
  }

  #read(chunk: Uint8Array): void {
    let bytes = chunk;
    let at = 0;
    if (this.#inBody) {
      this.#readBody(bytes, 0);
      return;
    }
    if (this.#stash !== null) {
      bytes = Buffer.concat([this.#stash, chunk]);
      this.#stash = null;
      if (findEnd(bytes, this.#searched > 3 ? this.#searched - 3 : 0) < 0) {
        this.#wait(bytes, 0);
        return;
      }
    }
    for (;;) {
      const owner = this.owner;
      if (owner === null || this.state !== upstreamState.busy) return;
      const used = parseAnswer(bytes, at, bytes.length, answerHead);
      if (used < 0) {
        this.#malformed(used, otherProtocol(bytes, at));
        return;
      }
      if (used === 0) {
        this.#wait(bytes, at);
        return;
      }
      // The head must fit the buffer it is rewritten in.
      if (used > limits.answerHead) {
        this.#malformed(-refusal.headTooLarge);
        return;
      }
      const head = answerHead;
      at += used;
      if (head.status >= 200) {
        this.#final(owner, bytes, head);
        return;
      }
      if (head.status === 101) {
        if (!this.#allowSwitch) {
          this.#malformed(0);
          return;
        }
        this.becomeRaw();
        owner.onSwitch(this, bytes, head, at, bytes.length);
        return;
      }
      // RFC 9110 15.2: any number of interim answers may come; a peer that sends them forever is broken.
      if (++this.#interims > limits.interim) {
        this.#malformed(0);
        return;
      }
      owner.onInterim(this, bytes, head);
      if (at === bytes.length) return;
    }
  }

  /** Part of a head: wait for the rest. */
  #wait(bytes: Uint8Array, at: number): void {
    if (bytes.length - at > limits.answerHead) {
      this.#malformed(-refusal.headTooLarge);
      return;
    }
    this.#stash = at === 0 ? bytes : bytes.subarray(at);
    this.#searched = this.#stash.length;
  }

  /** Framing of a final answer, RFC 9112 6.3. */
  #final(owner: UpstreamOwner, bytes: Uint8Array, head: Head): void {
    const body = this.#body;
    this.#keep = head.minor === 1 ? !head.close : head.keepAlive && !head.close;
    if (this.#bodyless || head.status === 204 || head.status === 304) body.begin(framing.none, 0, false);
    else if (head.chunked) body.begin(framing.chunked, 0, this.#unchunk);
    else if (head.contentLength >= 0) body.begin(framing.length, head.contentLength, false);
    else {
      body.begin(framing.untilClose, 0, false);
      this.#keep = false;
    }
    this.#inBody = true;
    body.keepTrailers = true;
    const from = head.to;
    const used = body.scan(bytes, from, bytes.length);
    if (used < 0) {
      this.#malformed(used);
      return;
    }
    if (body.done && from + used < bytes.length) this.#keep = false;
    const trailers = body.done ? body.trailers : null;
    owner.onAnswer(this, bytes, head, from, body.keptTo, body.done && trailers === null);
    if (trailers !== null) this.owner?.onAnswerTrailers(this, trailers, 0, trailers.length);
  }

  /** The client of the exchange knows no chunked coding. */
  #unchunk = false;

  /** Payload bytes of the answer so far. */
  get answerBytes(): number {
    return this.#body.bytes;
  }

  #readBody(bytes: Uint8Array, from: number): void {
    const body = this.#body;
    const used = body.scan(bytes, from, bytes.length);
    if (used < 0) {
      this.#malformed(used);
      return;
    }
    if (body.done && from + used < bytes.length) this.#keep = false;
    const trailers = body.done ? body.trailers : null;
    if (trailers === null) {
      this.owner?.onAnswerBody(this, bytes, from, body.keptTo, body.done);
      return;
    }
    if (body.keptTo > from) this.owner?.onAnswerBody(this, bytes, from, body.keptTo, false);
    this.owner?.onAnswerTrailers(this, trailers, 0, trailers.length);
  }

  #malformed(code: number, hint = ""): void {
    this.core.malformedAnswers.value++;
    const why = explainRefusal(code).sentence + hint;
    if (this.core.mayLog())
      this.core.log.warn(
        { cluster: this.endpoint.cluster.config.name, endpoint: `${this.endpoint.host}:${this.endpoint.port}`, reason: why },
        "An upstream answer is malformed.",
      );
    const owner = this.owner;
    this.owner = null;
    this.dispose();
    owner?.onUpstreamLost(this, failures.upstreamMalformed, why);
  }
}

/** What the beginning of no answer of HTTP/1 may be instead, as the end of a sentence; empty = no idea. */
function otherProtocol(bytes: Uint8Array, at: number): string {
  // RFC 8446 5.1: an alert or a handshake, of TLS 1.x.
  if ((bytes[at] === 0x15 || bytes[at] === 0x16) && bytes[at + 1] === 3) return "; it speaks TLS, and is called in plain text";
  // RFC 9113 4.1 and 3.4: a frame of SETTINGS comes first, whose length is below 256 and whose stream is 0.
  if (bytes[at] === 0 && bytes[at + 1] === 0 && bytes[at + 3] === 4 && bytes[at + 5] === 0)
    return "; it speaks HTTP/2, and is called by HTTP/1.1";
  return "";
}

const empty = Buffer.alloc(0);
