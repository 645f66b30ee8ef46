// Owns: one request to an upstream instance by HTTP/2: the stream as its exchange sees it. Waits for its connection where that is being made.
// States: waiting -> ready -> sent -> over. What comes late meets no owner.

import type { Endpoint } from "../balance/endpoint.ts";
import { type Failure, failures } from "../http/failure.ts";
import type { RequestNeeds, UpstreamHalf, UpstreamOwner } from "../http/halves.ts";
import type { Head } from "../http1/head.ts";
import type { RequestPlan } from "../http1/write.ts";
import type { Peer } from "../tls/peer.ts";
import { cancel, noError } from "./errors.ts";
import { http2Failures } from "./failures.ts";
import { putRequest, roomForRequest, upgradesToWebSocket } from "./head-writer.ts";
import type { Session } from "./session.ts";
import { resetBy, type SessionStream, type StreamUser } from "./session-stream.ts";

/** The connection of a stream, as the stream needs it. */
export interface UpstreamHome {
  readonly endpoint: Endpoint;
  readonly peer: Peer | null;
  /** null while it is being made. */
  readonly session: Session | null;
  /** The stream does not wait for it any more. */
  forget(stream: UpstreamStream): void;
}

const noBytes = Buffer.alloc(0);

/** Head and all the content that it announced have come. */
function isWhole(stream: SessionStream): boolean {
  return stream.gotHead && !stream.tunnel && stream.expected >= 0 && stream.received === stream.expected;
}

/** An answer whose head has come and that only END_STREAM can end. */
function isUnmarked(stream: SessionStream | null): boolean {
  return stream?.gotHead === true && !stream.tunnel && stream.expected < 0;
}

export class UpstreamStream implements UpstreamHalf, StreamUser {
  readonly version = 2;
  readonly endsWithConnection = false;
  owner: UpstreamOwner | null;
  readonly endpoint: Endpoint;
  /** May change while it waits: a connection that has no room passes it on. */
  home: UpstreamHome;
  stream: SessionStream | null = null;
  /** Can be sent to now. */
  open = false;
  /** Opaque bytes both ways. */
  #raw = false;
  #rawEnded = false;
  #over = false;
  #paused = false;
  /** Payload that came, once the stream is gone. */
  #received = 0;

  constructor(home: UpstreamHome, owner: UpstreamOwner) {
    this.home = home;
    this.owner = owner;
    this.endpoint = home.endpoint;
  }

  get peer(): Peer | null {
    return this.home.peer;
  }

  get answerBytes(): number {
    return this.stream === null ? this.#received : this.stream.received;
  }

  get waiting(): number {
    return this.stream === null ? 0 : this.stream.queued;
  }

  // ---- what the exchange asks for ----------------------------------------------------------------------------------------------------------------

  sendRequest(bytes: Uint8Array, head: Head, plan: RequestPlan, needs: RequestNeeds, body: readonly Uint8Array[]): boolean {
    const session = this.home.session;
    if (session === null || !session.hasRoom) {
      this.#failSoon(http2Failures.refusedStream, "the connection takes no more streams");
      return true;
    }
    const extended = plan.keepUpgrade && needs.allowSwitch;
    if (extended && !(session.peer.connect && upgradesToWebSocket(bytes, head))) {
      this.#failSoon(http2Failures.upgrade, "");
      return true;
    }
    const stream = session.openStream(this);
    stream.bodyless = needs.isHead;
    stream.tunnel = extended;
    putRequest(session.beginBlock(roomForRequest(head, plan)), bytes, head, plan, this.endpoint.transport.tls !== null, extended);
    const count = body.length;
    const end = needs.end && !extended;
    const emptyData = needs.endsWithData && end && count === 0;
    session.endBlock(stream, end && count === 0 && !emptyData);
    let all = true;
    if (emptyData) all = session.send(stream, noBytes, 0, 0, true);
    for (let i = 0; i < count; i++) {
      const part = body[i] as Uint8Array;
      all = session.send(stream, part, 0, part.length, end && i === count - 1);
    }
    return all;
  }

  sendBody(bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
    const stream = this.stream;
    const session = this.home.session;
    return stream === null || session === null ? true : session.send(stream, bytes, from, to, end);
  }

  sendTrailers(bytes: Uint8Array, from: number, to: number): void {
    if (this.stream !== null) this.home.session?.sendTrailers(this.stream, bytes, from, to);
  }

  /** Opaque TCP rides connections of its own: an HTTP/2 stream has nothing to be raw over. */
  becomeRaw(): void {
    this.#failSoon(http2Failures.upgrade, "opaque bytes cannot be sent to an instance by HTTP/2");
  }

  sendRaw(bytes: Uint8Array, from: number, to: number): boolean {
    return this.sendBody(bytes, from, to, false);
  }

  finishRaw(): void {
    this.sendBody(noBytes, 0, 0, true);
  }

  pauseReading(): void {
    const stream = this.stream;
    if (stream === null || this.#paused) return;
    this.#paused = true;
    this.home.session?.pause(stream);
  }

  resumeReading(): void {
    const stream = this.stream;
    if (stream === null || !this.#paused) return;
    this.#paused = false;
    this.home.session?.resume(stream);
  }

  release(requestComplete: boolean): void {
    this.owner = null;
    this.#over = true;
    const stream = this.stream;
    // What is still queued of a complete request goes out; a request that has not ended is broken off.
    if (stream?.canSend && !(requestComplete && stream.endQueued)) this.home.session?.reset(stream, cancel);
  }

  dispose(): void {
    this.owner = null;
    if (this.#over) return;
    this.#over = true;
    if (this.stream === null) this.home.forget(this);
    else this.home.session?.reset(this.stream, cancel);
  }

  /** Never within the call that it answers. */
  #failSoon(failure: Failure, why: string): void {
    this.#over = true;
    queueMicrotask(() => {
      const owner = this.owner;
      this.owner = null;
      owner?.onUpstreamLost(this, failure, why);
    });
  }

  // ---- what the connection reports -----------------------------------------------------------------------------------------------------------------

  /** There is room: the owner sends within this call, or gives it up. */
  ready(): void {
    this.open = true;
    this.owner?.onUpstreamReady(this);
  }

  /** No connection came about. */
  failed(failure: Failure, why: string): void {
    if (this.#over) return;
    this.#over = true;
    const owner = this.owner;
    this.owner = null;
    owner?.onUpstreamFailed(this, failure, why);
  }

  // ---- what the session reports --------------------------------------------------------------------------------------------------------------------

  onHead(bytes: Buffer, head: Head, from: number, to: number, end: boolean): void {
    const owner = this.owner;
    if (owner === null) return;
    if ((this.stream as SessionStream).tunnel) {
      this.#raw = true;
      owner.onSwitch(this, bytes, head, from, to);
      if (end) this.#endRaw();
    } else owner.onAnswer(this, bytes, head, from, to, end);
  }

  onInterim(bytes: Buffer, head: Head): void {
    this.owner?.onInterim(this, bytes, head);
  }

  onData(bytes: Buffer, from: number, to: number, end: boolean): void {
    const owner = this.owner;
    if (owner === null) return;
    if (!this.#raw) {
      owner.onAnswerBody(this, bytes, from, to, end);
      return;
    }
    if (to > from) owner.onRawBytes(this, bytes.subarray(from, to));
    if (end) this.#endRaw();
  }

  #endRaw(): void {
    if (this.#rawEnded) return;
    this.#rawEnded = true;
    this.owner?.onRawEnd(this);
  }

  onTrailers(bytes: Buffer, from: number, to: number): void {
    this.owner?.onAnswerTrailers(this, bytes, from, to);
  }

  onReset(code: number, why: string, by: number): void {
    this.#over = true;
    const owner = this.owner;
    if (owner === null) return;
    const stream = this.stream;
    if (by === resetBy.peer && code === noError && stream !== null && isWhole(stream)) {
      // Node's server says this in place of its last, empty DATA frame: all that `content-length` announced is here.
      owner.onAnswerBody(this, noBytes, 0, 0, true);
      return;
    }
    this.owner = null;
    let failure: Failure = failures.reset;
    if (by === resetBy.unprocessed) failure = http2Failures.refusedStream;
    else if (by === resetBy.peer) failure = code === noError && isUnmarked(stream) ? http2Failures.unmarkedEnd : http2Failures.remoteReset;
    else if (by === resetBy.rule) failure = failures.upstreamMalformed;
    owner.onUpstreamLost(this, failure, why);
  }

  onWritable(): void {
    this.owner?.onUpstreamDrained(this);
  }

  onClosed(): void {
    if (this.stream !== null) this.#received = this.stream.received;
    this.stream = null;
  }
}
