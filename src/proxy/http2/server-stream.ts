// Owns: one request of an HTTP/2 client: the stream as its exchange sees it, HTTP/1.1 text on one side and frames on the other. Reused by its connection
// for one request after another. Never routes or answers: its exchange does.
// States: free -> taken (accepted) -> free, once the stream is over and the exchange has let go. What comes late meets a null stream.

import type { ChainSlot, HttpChain } from "../chain/chain.ts";
import { type Failure, failures } from "../http/failure.ts";
import type { AnswerPlan, DownstreamConnection, DownstreamHalf, RequestSink } from "../http/halves.ts";
import { writeReply } from "../http/reply.ts";
import { type Head, Head as HeadOffsets, parseAnswer } from "../http1/head.ts";
import { scratch } from "../net/outbox.ts";
import type { Timed } from "../resilience/ticker.ts";
import type { CompiledEdits } from "../route/edit.ts";
import { cancel, internalError } from "./errors.ts";
import { http2Failures } from "./failures.ts";
import { putAnswer, putReply, putStatus, roomFor, roomForAnswer } from "./head-writer.ts";
import { enter, leave } from "./output.ts";
import type { Session } from "./session.ts";
import { resetBy, type SessionStream, type StreamUser } from "./session-stream.ts";

const replyHead = new HeadOffsets();
const noBytes = Buffer.alloc(0);
/** A reply of ours that has to wait is copied out of the shared buffer first; larger ones at once. */
const smallReply = 8_192;

/** The connection of a stream, as the stream needs it. */
export interface StreamHome extends DownstreamConnection {
  readonly chainSlot: ChainSlot;
  readonly session: Session;
  /** The stream may be used for another request. */
  free(stream: ServerStream): void;
}

export class ServerStream implements DownstreamHalf, StreamUser, Timed {
  readonly version = 2;
  readonly closing = false;
  readonly connection: StreamHome;
  readonly sink: RequestSink;
  stream: SessionStream | null = null;
  deadlineMs = Number.POSITIVE_INFINITY;
  slot = -1;
  requestBytes = 0;
  inputEnded = false;
  /** When the request must have come whole. */
  #dueMs = Number.POSITIVE_INFINITY;
  /** The exchange has the request. */
  #busy = false;
  /** A request's, until both its stream and its exchange are through with it: it is given back once. */
  #taken = false;
  /** Opaque bytes both ways. */
  #tunnel = false;
  /** What an eager client of a tunnel sent before it was opened. */
  #early: Buffer[] | null = null;
  /** The answer cannot be passed on as it is, and was replaced. */
  #replaced = false;

  constructor(connection: StreamHome, make: (half: DownstreamHalf) => RequestSink) {
    this.connection = connection;
    this.sink = make(this);
  }

  // ---- what the session reports --------------------------------------------------------------------------------------------------------------

  onHead(bytes: Buffer, head: Head, from: number, to: number, end: boolean): void {
    const connection = this.connection;
    const core = connection.core;
    const chain = connection.chainSlot.current;
    const http = chain.terminal as HttpChain;
    const tunnel = (this.stream as SessionStream).tunnel;
    const now = core.ticker.now();
    this.requestBytes = to - from;
    this.inputEnded = end;
    this.#taken = true;
    this.#busy = true;
    const limits = http.limits;
    this.#dueMs = end || tunnel || limits.requestTimeoutMs === 0 ? Number.POSITIVE_INFINITY : now + limits.requestTimeoutMs;
    core.ticker.add(this);
    if (limits.bodyBytes > 0 && to - from > limits.bodyBytes) {
      this.#tooLarge();
      return;
    }
    // A tunnel's request has no content (RFC 9110 9.3.6): what follows is for after the switch.
    this.sink.begin(chain, http, bytes, head, from, to, end || tunnel, now);
    this.arm();
  }

  onInterim(): void {}

  onData(bytes: Buffer, from: number, to: number, end: boolean): void {
    const stream = this.stream as SessionStream;
    this.requestBytes += to - from;
    if (end) this.inputEnded = true;
    if (!this.#busy) return;
    if (this.#tunnel) {
      if (to > from) this.sink.tunnelBytes(bytes.subarray(from, to));
      if (end && this.#busy) this.sink.tunnelEnd();
      return;
    }
    if (stream.tunnel) {
      if (to === from) return;
      this.#early ??= [];
      this.#early.push(bytes.subarray(from, to));
      this.connection.session.pause(stream);
      return;
    }
    const most = (this.connection.chainSlot.current.terminal as HttpChain).limits.bodyBytes;
    if (most > 0 && this.requestBytes > most) {
      this.#tooLarge();
      return;
    }
    if (end) this.#dueMs = Number.POSITIVE_INFINITY;
    this.sink.requestBody(bytes, from, to, end);
  }

  onTrailers(bytes: Buffer, from: number, to: number): void {
    this.inputEnded = true;
    this.#dueMs = Number.POSITIVE_INFINITY;
    if (this.#busy) this.sink.requestTrailers(bytes, from, to);
  }

  onReset(_code: number, _why: string, by: number): void {
    this.inputEnded = true;
    if (!this.#busy) return;
    this.#release();
    let failure: Failure = failures.gone;
    if (by === resetBy.rule) failure = http2Failures.malformed;
    else if (by === resetBy.stall) failure = http2Failures.stalled;
    else if (by !== resetBy.connection) failure = http2Failures.clientReset;
    this.sink.abandon(failure);
  }

  onWritable(): void {
    if (this.#busy) this.sink.downDrained();
  }

  onClosed(): void {
    this.stream = null;
    this.#recycle();
  }

  // ---- time ------------------------------------------------------------------------------------------------------------------------------------

  arm(): void {
    if (!this.#busy) return;
    const at = this.sink.deadlineMs;
    this.deadlineMs = at < this.#dueMs ? at : this.#dueMs;
  }

  onDeadline(nowMs: number): void {
    if (this.#dueMs <= nowMs) {
      this.#dueMs = Number.POSITIVE_INFINITY;
      if (!this.sink.answering) {
        this.#refuse(failures.slowRequest, failures.slowRequest.status, failures.slowRequest.sentence);
        return;
      }
    }
    enter();
    this.sink.onDeadline(nowMs);
    leave();
    this.arm();
  }

  // ---- what the exchange asks for ----------------------------------------------------------------------------------------------------------------

  sendInterim(bytes: Uint8Array, head: Head): void {
    const stream = this.stream;
    if (!stream?.canSend) return;
    const session = this.connection.session;
    putAnswer(session.beginBlock(roomFor(head, null, 0)), bytes, head, null, false);
    session.endBlock(stream, false);
  }

  sendAnswer(bytes: Uint8Array, head: Head, how: AnswerPlan, from: number, to: number, end: boolean): boolean {
    const stream = this.stream;
    if (!stream?.canSend) return true;
    const session = this.connection.session;
    stream.answered = true;
    if (stream.tunnel && head.status < 300) {
      // RFC 8441 5: a 2xx would say that the tunnel is open, but this is an answer to a plain request.
      this.#replaced = true;
      putStatus(session.beginBlock(64), 502);
      session.endBlock(stream, true);
      return true;
    }
    const bodyless = how.bodyless || (end && from === to);
    putAnswer(session.beginBlock(roomForAnswer(head, how)), bytes, head, how, false);
    session.endBlock(stream, bodyless && end);
    if (bodyless) return true;
    return from === to && !end ? true : session.send(stream, bytes, from, to, end);
  }

  sendBody(bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
    const stream = this.stream;
    if (stream === null || this.#replaced) return true;
    return this.connection.session.send(stream, bytes, from, to, end);
  }

  sendTrailers(bytes: Uint8Array, from: number, to: number): void {
    const stream = this.stream;
    if (stream !== null && !this.#replaced) this.connection.session.sendTrailers(stream, bytes, from, to);
  }

  sendReply(size: number): void {
    const stream = this.stream;
    if (stream?.canSend) sendReply(this.connection.session, stream, size);
  }

  sendSwitch(bytes: Uint8Array | null, head: Head | null, edits: CompiledEdits | null): void {
    const stream = this.stream;
    if (!stream?.canSend) return;
    const session = this.connection.session;
    stream.answered = true;
    if (bytes === null || head === null) putStatus(session.beginBlock(64), 200);
    else {
      switchPlan.edits = edits;
      putAnswer(session.beginBlock(roomForAnswer(head, switchPlan)), bytes, head, switchPlan, true);
    }
    session.endBlock(stream, false);
  }

  sendRaw(bytes: Uint8Array, from: number, to: number): boolean {
    const stream = this.stream;
    return stream === null ? true : this.connection.session.send(stream, bytes, from, to, false);
  }

  finishRaw(): void {
    const stream = this.stream;
    if (stream !== null) this.connection.session.send(stream, noBytes, 0, 0, true);
  }

  pauseReading(): void {
    const stream = this.stream;
    if (stream === null) return;
    this.connection.core.pauses.value++;
    this.connection.session.pause(stream);
  }

  resumeReading(): void {
    const stream = this.stream;
    if (stream !== null) this.connection.session.resume(stream);
  }

  becomeTunnel(): void {
    this.#tunnel = true;
    this.arm();
    const early = this.#early;
    this.#early = null;
    if (this.stream !== null && early !== null) this.connection.session.resume(this.stream);
    if (early !== null) for (const bytes of early) this.sink.tunnelBytes(bytes);
    if (this.inputEnded && this.#busy) this.sink.tunnelEnd();
  }

  exchangeDone(_close: boolean, complete: boolean): void {
    this.#release();
    const stream = this.stream;
    // RFC 9113 8.1: whoever answers before the request has ended says that the rest is not wanted.
    if (stream !== null && !(complete && this.inputEnded)) this.connection.session.stopReceiving(stream);
    this.#recycle();
  }

  tunnelDone(): void {
    this.#release();
    const stream = this.stream;
    // What waits still goes out; a side that never ended is broken off.
    if (stream?.canSend && !stream.endQueued) this.connection.session.reset(stream, cancel);
    else if (stream !== null) this.connection.session.stopReceiving(stream);
    this.#recycle();
  }

  cut(failure: Failure): void {
    this.#release();
    const stream = this.stream;
    if (stream !== null) {
      // The instance said no more than this either: what it sent comes first, then its own word.
      if (failure === http2Failures.unmarkedEnd) this.connection.session.resetAfterQueue(stream);
      else this.connection.session.reset(stream, internalError);
    }
    this.#recycle();
  }

  // ---- ends ------------------------------------------------------------------------------------------------------------------------------------

  #tooLarge(): void {
    this.connection.core.malformed.value++;
    this.#refuse(http2Failures.malformed, 413, "the content is larger than this listener takes");
  }

  /** Answers in the exchange's place, which is told that its request is over. */
  #refuse(failure: Failure, status: number, sentence: string): void {
    const stream = this.stream;
    const answering = this.sink.answering;
    this.#release();
    this.sink.abandon(failure);
    if (stream === null) return;
    if (answering || !stream.canSend) this.connection.session.reset(stream, cancel);
    else {
      sendReply(this.connection.session, stream, writeReply(status, failure.flag ?? "-", sentence, false, stream.bodyless, false));
      this.connection.session.stopReceiving(stream);
    }
    this.#recycle();
  }

  /** The exchange has nothing to do with this stream any more. */
  #release(): void {
    if (!this.#busy) return;
    this.#busy = false;
    this.deadlineMs = Number.POSITIVE_INFINITY;
    this.connection.core.ticker.remove(this);
  }

  #recycle(): void {
    // The end of the one is often told within the end of the other.
    if (!this.#taken || this.#busy || this.stream !== null) return;
    this.#taken = false;
    this.#tunnel = false;
    this.#early = null;
    this.#replaced = false;
    this.connection.free(this);
  }
}

/** What a tunnel's head is sent with. */
const switchPlan: AnswerPlan = {
  edits: null,
  viaLine: null,
  lines: null,
  persistence: 0,
  keepReason: false,
  dropFraming: true,
  bodyless: false,
  addChunks: false,
  needsLength: false,
};

/** Sends a whole answer of ours that is in scratch[0, size) as HTTP/1.1. */
export function sendReply(session: Session, stream: SessionStream, size: number): void {
  const head = replyHead;
  parseAnswer(scratch, 0, size, head);
  const from = head.to;
  stream.answered = true;
  putReply(session.beginBlock(roomFor(head, null, 0)), scratch, head);
  session.endBlock(stream, from === size);
  if (from === size) return;
  // What does not go out at once must not stay in the shared buffer.
  if (size - from > smallReply) session.send(stream, Buffer.from(scratch.subarray(from, size)), 0, size - from, true);
  else session.send(stream, scratch, from, size, true);
}
