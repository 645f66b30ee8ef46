// Owns: one HTTP/2 connection of either role (RFC 9113): frames in, frames out, streams, both flow-control windows, SETTINGS, PING, GOAWAY, and the
// defences. Knows no sockets: bytes come by `receive` and leave through an Outbox. Never routes, retries or reconnects: the users of its streams and its
// owner do. Longer than most files: the frame handlers share one state, and RFC 9113 reads as one list too.
// States: starting (the peer's preface and SETTINGS are awaited) -> open -> draining (GOAWAY said) -> closed. Closed swallows what comes late.

import { Head, parseAnswer, parseRequest } from "../http1/head.ts";
import { explainRefusal, type HttpLimits } from "../http1/limits.ts";
import type { Outbox } from "../net/outbox.ts";
import type { Timed } from "../resilience/ticker.ts";
import {
  cancel,
  compressionError,
  enhanceYourCalm,
  errorName,
  flowControlError,
  noError,
  protocolError,
  refusal,
  refusedStream,
  settingsTimeout,
  streamClosed,
} from "./errors.ts";
import { ReceiveFlow } from "./flow.ts";
import {
  defaultMaxFrameSize,
  defaultWindow,
  type FrameHead,
  flagAck,
  flagEndHeaders,
  flagEndStream,
  flagPadded,
  frameContinuation,
  frameData,
  frameGoaway,
  frameHeadBytes,
  frameHeaders,
  framePing,
  framePushPromise,
  frameRstStream,
  frameSettings,
  frameWindowUpdate,
  largestWindow,
  parseFrameHead,
  readUint32,
  settingEnableConnect,
  settingEnablePush,
  settingInitialWindowSize,
  settingMaxConcurrentStreams,
  settingMaxHeaderListSize,
  stripPadding,
  writeFrameHead,
  writeUint32,
} from "./frame.ts";
import { flood, Guard } from "./guard.ts";
import {
  explainFault,
  fault,
  found,
  headFrom,
  headTo,
  largestBlock,
  readSection,
  section,
  sectionSize,
  takeAnswer,
  takeRequest,
  takeTrailers,
} from "./head-reader.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import type { HpackEncoder } from "./hpack-encoder.ts";
import { limits } from "./limits.ts";
import type { DefenceReason, Http2Metrics } from "./metrics.ts";
import type { Output } from "./output.ts";
import { gone, RecentStreams } from "./recent.ts";
import { pingMark, Sender, type SenderHost } from "./sender.ts";
import {
  giveBackStream,
  nobody,
  resetBy,
  type SessionStream,
  type StreamUser,
  streamEvent,
  streamState,
  takeStream,
  transition,
} from "./session-stream.ts";
import { defaultSettings, readSettings, writeSetting } from "./settings.ts";
import { StreamTable } from "./stream-table.ts";

export const clientPreface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Whose connection it is. Nothing here may call back into `receive`. */
export interface SessionOwner {
  /** The limits of heads and trailers, as they are now. */
  httpLimits(): HttpLimits;
  /** Server: a new stream with a good head. Its user, or null to refuse it. */
  accept(): StreamUser | null;
  /** Server: a head that is answered, not reset (too large, not supported). The stream is the owner's to answer and finish. */
  answerFault(stream: SessionStream, status: number, why: string): void;
  /** A message of the peer is malformed; its stream was reset. `head`: nobody has heard of the request yet. */
  malformed(why: string, head: boolean): void;
  /** The peer's first SETTINGS have come (client: requests may go), or later ones. */
  settled(first: boolean): void;
  /** Client: the peer takes no stream above `last`; those have been told. */
  goneAway(code: number, why: string): void;
  /** A stream is over. */
  streamClosed(): void;
  /** `idleAtMs` has passed. */
  idle(): void;
  /** The connection is over, by our word or the peer's: its streams have been told, GOAWAY waits in the outbox. Close the socket. */
  sessionEnded(code: number, why: string, defence: DefenceReason | null): void;
}

export interface SessionOptions {
  readonly server: boolean;
  readonly owner: SessionOwner;
  readonly out: Outbox;
  /** The coarse and the fine clock. */
  readonly time: { readonly nowMs: number; now(): number };
  readonly metrics: Http2Metrics | null;
  readonly random: () => number;
  /** Streams the peer may have open; 0 for a client, as pushing is refused. */
  readonly maxStreams: number;
  /** Where our windows start. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  /** For the preface with its SETTINGS; 0 = none. */
  readonly startTimeoutMs: number;
  /** A PING after this long without a byte; 0 = none. */
  readonly keepaliveMs: number;
  /** For the answer to it, or any other byte; default `limits.pingTimeoutMs`. */
  readonly pingTimeoutMs?: number;
  /** Up to this share of `keepaliveMs` is added by chance. */
  readonly keepaliveJitter?: number;
  /** Client: a PING goes ahead of a stream that is opened after this long without a byte; 0 = none. */
  readonly idlePingMs?: number;
  /** Client: streams we open at once, whatever more the peer allows. */
  readonly mostStreams?: number;
  /** Streams are used again once they are over: their users forget them in `onClosed`. */
  readonly reuseStreams?: boolean;
  /** Client: streams may be opened before the peer's SETTINGS are here (RFC 9113 3.4 lets it). */
  readonly early?: boolean;
}

const never = Number.POSITIVE_INFINITY;
const state = { starting: 0, open: 1, draining: 2, closed: 3 } as const;

/** Kinds of our PINGs. */
const pingKind = { keepalive: 1, probe: 2, drain: 3 } as const;

/** Small bodies travel with their head to the receiver, as one piece of bytes. */
const joinedBody = 16_384;
const joinedSize = 32_768;

/** Shared: frames and heads are read one at a time, and reading never waits. */
const frameHead: FrameHead = { length: 0, type: 0, flags: 0, stream: 0 };
const requestHead = new Head();
const answerHead = new Head();

interface Block {
  readonly stream: number;
  readonly endStream: boolean;
  readonly parts: Uint8Array[];
  bytes: number;
  frames: number;
}

export class Session implements Timed, SenderHost {
  readonly server: boolean;
  readonly #options: SessionOptions;
  readonly #owner: SessionOwner;
  readonly output: Output;
  readonly #time: SessionOptions["time"];
  readonly #decoder = new HpackDecoder(limits.headerTable);
  readonly #sender: Sender;
  readonly #guard = new Guard();
  readonly flow: ReceiveFlow;
  readonly #streams = new StreamTable<SessionStream>();
  readonly peer = defaultSettings();
  #state: number = state.starting;
  /** Bytes of the client's preface seen so far. */
  #prefaceSeen = 0;
  #gotSettings = false;
  /** A frame of which only a part has come. */
  #partial: Buffer | null = null;
  #partialSize = 0;
  /** The DATA frame being read: its stream (null: nobody wants it, or not any more), what is left of payload and padding. */
  #dataStream: SessionStream | null = null;
  #dataLeft = 0;
  #padLeft = 0;
  #dataEnds = false;
  #block: Block | null = null;
  #lastPeerId = 0;
  #nextId = 1;
  /** Streams above this are not looked at (our GOAWAY). */
  #goawayLast = largestWindow;
  readonly #recent = new RecentStreams();
  #settingsUnacknowledged = 0;
  #pingOut = false;
  #lastByteMs: number;
  /** Bytes withheld from the connection's window while too much is held by sinks. */
  #withheld = 0;

  // Deadlines; `deadlineMs` is the earliest.
  deadlineMs = never;
  slot = -1;
  #startAtMs = never;
  #acknowledgeAtMs = never;
  #blockAtMs = never;
  #pingAtMs = never;
  #pongAtMs = never;
  #goawayAtMs = never;
  #stallAtMs = never;
  #idleAtMs = never;

  /** Says SETTINGS (a client: after the preface) at once. */
  constructor(options: SessionOptions) {
    this.server = options.server;
    this.#options = options;
    this.flow = new ReceiveFlow(options.streamWindow, options.connectionWindow);
    this.#owner = options.owner;
    this.#sender = new Sender(this, options.out, this.#guard, options.time);
    this.output = this.#sender.output;
    this.#time = options.time;
    const now = options.time.nowMs;
    this.#lastByteMs = now;
    if (options.startTimeoutMs > 0) this.#startAtMs = now + options.startTimeoutMs;
    if (options.keepaliveMs > 0) this.#pingAtMs = this.#nextPing(now);
    if (!options.server) this.#prefaceSeen = clientPreface.length;
    this.#sayHello(now);
    this.#arm();
  }

  /** Section 3.4: our preface goes out without waiting. */
  #sayHello(nowMs: number): void {
    const out = this.output.reserve(128);
    let at = this.output.size;
    if (!this.server) at += clientPreface.copy(out, at);
    const start = at;
    at += frameHeadBytes;
    if (this.server) {
      at = writeSetting(out, at, settingMaxConcurrentStreams, this.#options.maxStreams);
      at = writeSetting(out, at, settingEnableConnect, 1);
    } else at = writeSetting(out, at, settingEnablePush, 0);
    at = writeSetting(out, at, settingInitialWindowSize, this.flow.streamWindow);
    at = writeSetting(out, at, settingMaxHeaderListSize, this.#owner.httpLimits().headBytes);
    writeFrameHead(out, start, at - start - frameHeadBytes, frameSettings, 0, 0);
    writeFrameHead(out, at, 4, frameWindowUpdate, 0, 0);
    writeUint32(out, at + frameHeadBytes, this.flow.connectionWindow - defaultWindow);
    this.output.size = at + frameHeadBytes + 4;
    this.#settingsUnacknowledged = 1;
    this.#acknowledgeAtMs = nowMs + limits.settingsAckMs;
  }

  // ---- what the owner asks ---------------------------------------------------------------------------------------------------------------

  get closed(): boolean {
    return this.#state === state.closed;
  }

  /** Streams that are open. */
  get active(): number {
    return this.#streams.size;
  }

  /** The peer's SETTINGS are here and no GOAWAY of either side. */
  get open(): boolean {
    return this.#state === state.open;
  }

  /** Client: may a stream be opened now? */
  get hasRoom(): boolean {
    const own = this.#options.mostStreams ?? largestWindow;
    const most = own < this.peer.maxStreams ? own : this.peer.maxStreams;
    if (this.#state === state.starting) return this.#options.early === true && this.#streams.size < limits.assumedStreams;
    return this.#state === state.open && this.#streams.size < most && this.#nextId < limits.lastStreamId;
  }

  /** Client: readers who do not keep up hold so much that a new stream is better off on another connection. */
  get crowded(): boolean {
    return this.flow.held > limits.heldBytes / 2;
  }

  /** Calls `owner.idle` then; Infinity: never. */
  idleAt(ms: number): void {
    this.#idleAtMs = ms;
    this.#arm();
  }

  /** Graceful end (section 6.8): no new streams, the open ones finish, then `sessionEnded`. */
  drain(why: string): void {
    if (this.#state === state.closed || this.#state === state.draining) return;
    if (this.#state === state.starting) {
      this.close(noError, why);
      return;
    }
    this.#state = state.draining;
    if (!this.server) {
      this.#sender.goaway(0, noError, "");
      this.#endIfQuiet();
      return;
    }
    // What is on its way is still taken: the last stream is named once the peer has surely heard of the first GOAWAY.
    this.#sender.goaway(largestWindow, noError, "");
    this.#sender.ping(pingKind.drain);
    this.#goawayAtMs = this.#time.nowMs + limits.goawayMs;
    this.#arm();
  }

  #finalGoaway(): void {
    if (this.#goawayAtMs === never) return;
    this.#goawayAtMs = never;
    this.#goawayLast = this.#lastPeerId;
    this.#sender.goaway(this.#lastPeerId, noError, "");
    this.#endIfQuiet();
  }

  #endIfQuiet(): void {
    if (this.#state === state.draining && this.#streams.size === 0 && this.#goawayAtMs === never) this.#end(noError, "drained", null);
  }

  /** Ends it now. Open streams are told. */
  close(code: number, why: string): void {
    if (this.#state === state.closed) return;
    this.#sender.goaway(this.#lastPeerId, code, why);
    this.#end(code, why, null);
  }

  /** The socket is gone. */
  lost(why: string): void {
    this.#end(noError, why, null);
  }

  /** The peer broke the protocol, or does too much. */
  #fatal(code: number, why: string, defence: DefenceReason | null = null): void {
    if (this.#state === state.closed) return;
    const metrics = this.#options.metrics;
    if (metrics !== null) {
      metrics.connectionErrors.value++;
      if (defence !== null) metrics.defended(defence);
    }
    this.#sender.goaway(this.#lastPeerId, code, why);
    this.#end(code, why, defence);
  }

  #end(code: number, why: string, defence: DefenceReason | null): void {
    if (this.#state === state.closed) return;
    this.#state = state.closed;
    this.#block = null;
    this.#partial = null;
    this.#dataStream = null;
    this.#dataLeft = 0;
    this.#padLeft = 0;
    this.deadlineMs = never;
    this.#sender.ready.length = 0;
    for (const stream of this.#streams.list()) {
      transition(stream, streamEvent.reset);
      stream.user.onReset(code, why, resetBy.connection);
      this.#forget(stream, gone.byUs);
    }
    this.output.flush();
    this.#owner.sessionEnded(code, why, defence);
  }

  #excess(kind: number): boolean {
    const reason = this.#guard.count(kind, this.#time.nowMs);
    if (reason === null) return false;
    this.#fatal(enhanceYourCalm, `too much: ${reason.replaceAll("_", " ")}`, reason);
    return true;
  }

  // ---- time ------------------------------------------------------------------------------------------------------------------------------

  #arm(): void {
    this.deadlineMs = Math.min(
      this.#startAtMs,
      this.#acknowledgeAtMs,
      this.#blockAtMs,
      this.#pingAtMs,
      this.#pongAtMs,
      this.#goawayAtMs,
      this.#stallAtMs,
      this.#idleAtMs,
    );
  }

  onDeadline(nowMs: number): void {
    if (this.#state === state.closed) return;
    if (this.#startAtMs <= nowMs) {
      this.#fatal(protocolError, "the peer did not say its preface and SETTINGS in time", "slow_start");
      return;
    }
    if (this.#acknowledgeAtMs <= nowMs) {
      this.#fatal(settingsTimeout, "the peer did not acknowledge SETTINGS in time", "settings_ack");
      return;
    }
    if (this.#blockAtMs <= nowMs) {
      this.#fatal(enhanceYourCalm, "a header block did not come to its end in time", "slow_head");
      return;
    }
    if (this.#pongAtMs <= nowMs) {
      // Whatever came since proves it alive: an answer may wait behind a long body.
      const heardUntil = this.#lastByteMs + this.#pongWithinMs;
      if (heardUntil <= nowMs) {
        this.#fatal(noError, "the peer did not answer a PING", "keepalive");
        return;
      }
      this.#pongAtMs = heardUntil;
    }
    if (this.#pingAtMs <= nowMs) {
      if (this.#lastByteMs + this.#options.keepaliveMs <= nowMs) {
        this.#askWhetherAlive(nowMs);
        this.#pingAtMs = never;
      } else this.#pingAtMs = this.#nextPing(this.#lastByteMs);
    }
    if (this.#goawayAtMs <= nowMs) this.#finalGoaway();
    if (this.#stallAtMs <= nowMs) this.#checkStalls(nowMs);
    if (this.#idleAtMs <= nowMs) {
      this.#idleAtMs = never;
      this.#owner.idle();
    }
    if (!this.closed) this.#arm();
  }

  get #pongWithinMs(): number {
    return this.#options.pingTimeoutMs ?? limits.pingTimeoutMs;
  }

  #nextPing(nowMs: number): number {
    const { keepaliveMs, keepaliveJitter = 0, random } = this.#options;
    return nowMs + keepaliveMs + (keepaliveJitter > 0 ? random() * keepaliveJitter * keepaliveMs : 0);
  }

  /** Section 6.7. One at a time. */
  #askWhetherAlive(nowMs: number): void {
    if (this.#pingOut) return;
    this.#pingOut = true;
    this.#sender.ping(pingKind.keepalive);
    this.#pongAtMs = nowMs + this.#pongWithinMs;
  }

  #checkStalls(nowMs: number): void {
    this.#stallAtMs = never;
    for (const stream of [...this.#sender.ready]) {
      if (stream.stalledSinceMs === 0) continue;
      if (stream.stalledSinceMs + limits.stallMs <= nowMs) {
        this.#options.metrics?.defended("stall");
        this.#failStream(stream, cancel, "the peer gives no window", false);
      } else this.#stallAtMs = Math.min(this.#stallAtMs, stream.stalledSinceMs + limits.stallMs);
    }
  }

  // ---- receiving -------------------------------------------------------------------------------------------------------------------------

  /** Bytes from the peer, split anywhere. They may be kept. */
  receive(bytes: Buffer): void {
    this.#lastByteMs = this.#time.nowMs;
    const end = bytes.length;
    let at = 0;
    while (at < end && this.#state !== state.closed) {
      if (this.#dataLeft > 0 || this.#padLeft > 0) {
        at = this.#dataPart(bytes, at, end);
      } else if (this.#partialSize > 0) {
        at = this.#completePartial(bytes, at, end);
      } else if (this.#prefaceSeen < clientPreface.length) {
        if (bytes[at] !== clientPreface[this.#prefaceSeen]) {
          this.#fatal(protocolError, "the peer does not speak HTTP/2 (RFC 9113 3.4)");
          return;
        }
        this.#prefaceSeen++;
        at++;
      } else {
        if (end - at < frameHeadBytes) {
          this.#keepPartial(bytes, at, end, frameHeadBytes);
          return;
        }
        const used = parseFrameHead(bytes, at, end, defaultMaxFrameSize, frameHead);
        if (used < 0) {
          this.#badFrame(refusal(used));
          return;
        }
        const length = frameHead.length;
        if (frameHead.type === frameData) {
          if ((frameHead.flags & flagPadded) !== 0 && length > 0 && end - at === frameHeadBytes) {
            this.#keepPartial(bytes, at, end, frameHeadBytes + 1);
            return;
          }
          at = this.#data(bytes, at + frameHeadBytes, end);
        } else if (end - at < frameHeadBytes + length) {
          this.#keepPartial(bytes, at, end, frameHeadBytes + length);
          return;
        } else at = this.#frame(bytes, at + frameHeadBytes, end);
      }
    }
  }

  #badFrame(code: number): void {
    this.#fatal(code, `a bad frame (${errorName(code)})`);
  }

  #keepPartial(bytes: Buffer, from: number, end: number, size: number): void {
    this.#partial = Buffer.allocUnsafe(size);
    this.#partialSize = bytes.copy(this.#partial, 0, from, end);
  }

  /** Adds to a frame that came in pieces, and handles it once it is whole. A DATA frame only needs its head to be. */
  #completePartial(bytes: Buffer, from: number, end: number): number {
    let partial = this.#partial as Buffer;
    const take = Math.min(end - from, partial.length - this.#partialSize);
    bytes.copy(partial, this.#partialSize, from, from + take);
    this.#partialSize += take;
    const at = from + take;
    if (this.#partialSize < partial.length) return at;
    const used = parseFrameHead(partial, 0, partial.length, defaultMaxFrameSize, frameHead);
    if (used < 0) {
      this.#badFrame(refusal(used));
      return end;
    }
    const length = frameHead.length;
    const isData = frameHead.type === frameData;
    const needed = frameHeadBytes + (isData ? ((frameHead.flags & flagPadded) !== 0 && length > 0 ? 1 : 0) : length);
    if (partial.length < needed) {
      const larger = Buffer.allocUnsafe(needed);
      partial.copy(larger);
      this.#partial = larger;
      return at;
    }
    partial = this.#partial as Buffer;
    this.#partial = null;
    this.#partialSize = 0;
    if (!isData) {
      this.#frame(partial, frameHeadBytes, partial.length);
      return at;
    }
    if (needed > frameHeadBytes) {
      this.#dataBegins(partial[frameHeadBytes] as number);
      return at;
    }
    return this.#data(bytes, at, end);
  }

  /** A whole frame, not DATA, whose head is in `frameHead`. Answers the position after it, or after what it took along. */
  #frame(buf: Buffer, at: number, end: number): number {
    const { type, length, stream, flags } = frameHead;
    const next = at + length;
    if (!this.#gotSettings) {
      // Section 3.4: the other side's preface ends with, or is, a SETTINGS frame.
      if (type !== frameSettings || (flags & flagAck) !== 0) {
        this.#fatal(protocolError, "the peer did not begin with SETTINGS (RFC 9113 3.4)");
        return next;
      }
    }
    if (this.#block !== null && (type !== frameContinuation || stream !== this.#block.stream)) {
      this.#fatal(protocolError, "a header block was interrupted (RFC 9113 6.10)");
      return next;
    }
    switch (type) {
      case frameHeaders:
        return this.#headers(buf, at, end);
      case frameContinuation:
        this.#continuation(buf, at, next);
        return next;
      case frameRstStream:
        this.#rstStream(stream, readUint32(buf, at));
        return next;
      case frameSettings:
        this.#settings(buf, at, next, (flags & flagAck) !== 0);
        return next;
      case framePing:
        this.#pinged(buf, at, (flags & flagAck) !== 0);
        return next;
      case frameGoaway:
        this.#goawayCame(buf, at, next);
        return next;
      case frameWindowUpdate:
        this.#windowUpdate(stream, readUint32(buf, at) & largestWindow);
        return next;
      case framePushPromise:
        // Section 6.6: a client never pushes, and we said SETTINGS_ENABLE_PUSH 0.
        this.#fatal(protocolError, "PUSH_PROMISE (RFC 9113 6.6)");
        return next;
      default:
        // PRIORITY, PRIORITY_UPDATE and unknown types (sections 5.3.2 and 5.5, RFC 9218 7).
        this.#excess(flood.ignored);
        return next;
    }
  }

  /** True: no stream of that number was ever opened (section 5.1: then only HEADERS and PRIORITY may come on it). */
  #isIdle(id: number): boolean {
    if (this.server) return (id & 1) === 0 || id > this.#lastPeerId;
    return (id & 1) === 0 || id >= this.#nextId;
  }

  // ---- DATA (section 6.1) ----------------------------------------------------------------------------------------------------------------

  #data(bytes: Buffer, at: number, end: number): number {
    if ((frameHead.flags & flagPadded) === 0) {
      this.#dataBegins(-1);
      return at;
    }
    // Without a byte for the size of its padding it is refused below.
    this.#dataBegins(at < end ? (bytes[at] as number) : 0);
    return at + 1;
  }

  /** `pad` -1: no padding. Judges the frame by its head; its payload is handed on as it comes. */
  #dataBegins(pad: number): void {
    const { length, flags, stream: id } = frameHead;
    if (!this.#gotSettings || this.#block !== null) {
      this.#fatal(protocolError, "DATA before SETTINGS or within a header block (RFC 9113 3.4, 6.10)");
      return;
    }
    const front = pad < 0 ? 0 : 1;
    const padding = pad < 0 ? 0 : pad;
    const payload = length - front - padding;
    if (payload < 0) {
      this.#fatal(length === 0 ? refusal(stripPadding(noBytes, 0, frameHead)) : protocolError, "padding beyond its frame (RFC 9113 6.1)");
      return;
    }
    // Section 6.9: all of the frame counts, and the connection's window counts even for streams that are over.
    this.flow.window -= length;
    if (this.flow.window < 0) {
      this.#fatal(flowControlError, "DATA beyond the connection's window (RFC 9113 6.9)");
      return;
    }
    const ends = (flags & flagEndStream) !== 0;
    this.#dataStream = null;
    this.#dataLeft = payload;
    this.#padLeft = padding;
    this.#dataEnds = ends;
    const stream = this.#streams.get(id);
    if (stream === null) {
      if (this.#isIdle(id)) {
        this.#fatal(protocolError, "DATA on an idle stream (RFC 9113 5.1)");
        return;
      }
      if (this.#late(id) && length > payload) this.#creditConnection(length - payload);
      return;
    }
    if (length > payload) this.#creditConnection(length - payload);
    if (payload === 0 && !ends && this.#excess(flood.empty_data)) return;
    const problem = this.#dataProblem(stream, length, payload, ends);
    if (problem !== "") {
      this.#failStream(stream, this.#problemCode, problem, true);
      return;
    }
    stream.receiveWindow -= length;
    this.#creditStream(stream, length - payload);
    this.#dataStream = stream;
    if (payload === 0) this.#deliver(stream, noBytes, 0, 0, ends);
  }

  #problemCode = 0;

  /** Why a DATA frame may not be on this stream; empty: it may. */
  #dataProblem(stream: SessionStream, length: number, payload: number, ends: boolean): string {
    this.#problemCode = protocolError;
    if (!stream.canReceive) {
      this.#problemCode = streamClosed;
      return "DATA after the end of the stream (RFC 9113 5.1)";
    }
    if (!stream.gotHead) return "DATA before a head (RFC 9113 8.1)";
    if (length > stream.receiveWindow) {
      this.#problemCode = flowControlError;
      return "DATA beyond the stream's window (RFC 9113 6.9)";
    }
    if (stream.expected >= 0) {
      const sum = stream.received + payload;
      if (sum > stream.expected || (ends && sum !== stream.expected))
        return "the content is not as long as content-length says (RFC 9113 8.1.1)";
    }
    return "";
  }

  /** Payload of the DATA frame being read, as far as it has come. */
  #dataPart(bytes: Buffer, from: number, end: number): number {
    let at = from;
    if (this.#dataLeft > 0) {
      const size = end - at < this.#dataLeft ? end - at : this.#dataLeft;
      this.#dataLeft -= size;
      const stream = this.#dataStream;
      at += size;
      if (stream?.canReceive) this.#deliver(stream, bytes, at - size, at, this.#dataEnds && this.#dataLeft === 0);
      else this.#creditConnection(size);
    }
    if (this.#dataLeft === 0) {
      const skip = end - at < this.#padLeft ? end - at : this.#padLeft;
      this.#padLeft -= skip;
      at += skip;
    }
    return at;
  }

  #deliver(stream: SessionStream, bytes: Buffer, from: number, to: number, ends: boolean): void {
    const size = to - from;
    stream.received += size;
    this.flow.arrived(size);
    const over = ends && transition(stream, streamEvent.remoteEnd) === streamState.closed;
    stream.user.onData(bytes, from, to, ends);
    this.#credit(stream, size);
    if (over) this.#forget(stream, gone.ended);
  }

  // ---- receive windows (section 6.9) -----------------------------------------------------------------------------------------------------

  /** Payload was handed on: given back to the windows, unless its sink does not keep up. */
  #credit(stream: SessionStream, size: number): void {
    if (size === 0) return;
    if (stream.paused && stream.state !== streamState.closed) this.#hold(stream, stream.held + size);
    else this.#creditStream(stream, size);
    this.#creditConnection(size);
  }

  /** What a stream holds up to a first window is its own: however much others hold, each can begin. */
  #hold(stream: SessionStream, size: number): void {
    this.flow.held += beyondOwn(size) - beyondOwn(stream.held);
    stream.held = size;
  }

  #creditStream(stream: SessionStream, size: number): void {
    if (size === 0 || !stream.canReceive) return;
    stream.unacknowledged += size;
    if (stream.unacknowledged * 2 < this.flow.streamWindow) return;
    // Small rest of a known length: the peer has window enough for it.
    if (stream.expected >= 0 && stream.expected - stream.received <= stream.receiveWindow) return;
    this.#sender.number(frameWindowUpdate, stream.id, stream.unacknowledged);
    stream.receiveWindow += stream.unacknowledged;
    stream.unacknowledged = 0;
    if (this.flow.probe(this.#time.now())) this.#sender.ping(pingKind.probe);
  }

  /** The connection's own window grows back at once, so that one slow reader does not hold up the others; until too much is held. */
  #creditConnection(size: number): void {
    const flow = this.flow;
    if (flow.held > limits.heldBytes) {
      this.#withheld += size;
      return;
    }
    flow.unacknowledged += size + this.#withheld;
    this.#withheld = 0;
    if (flow.unacknowledged * 2 < flow.connectionWindow || this.#state === state.closed) return;
    this.#sender.number(frameWindowUpdate, 0, flow.unacknowledged);
    flow.window += flow.unacknowledged;
    flow.unacknowledged = 0;
  }

  /** No more of this stream than its window allows. */
  pause(stream: SessionStream): void {
    stream.paused = true;
  }

  resume(stream: SessionStream): void {
    stream.paused = false;
    const size = stream.held;
    if (size === 0) return;
    this.#hold(stream, 0);
    if (this.#state === state.closed) return;
    this.#creditStream(stream, size);
    this.#creditConnection(0);
  }

  // ---- HEADERS, CONTINUATION (sections 6.2, 6.10, 8) -------------------------------------------------------------------------------------

  #headers(buf: Buffer, at: number, end: number): number {
    const { length, flags, stream } = frameHead;
    const next = at + length;
    const skip = stripPadding(buf, at, frameHead);
    if (skip < 0) {
      this.#badFrame(refusal(skip));
      return next;
    }
    const from = at + skip;
    const to = from + frameHead.length;
    const endStream = (flags & flagEndStream) !== 0;
    if ((flags & flagEndHeaders) !== 0) return this.#section(stream, endStream, buf, from, to, next, end);
    this.#block = { stream, endStream, parts: [Uint8Array.prototype.slice.call(buf, from, to)], bytes: to - from, frames: 0 };
    const headMs = this.#owner.httpLimits().headTimeoutMs;
    if (headMs > 0) {
      this.#blockAtMs = this.#time.nowMs + headMs;
      this.#arm();
    }
    return next;
  }

  #continuation(buf: Buffer, from: number, to: number): void {
    const block = this.#block;
    if (block === null) {
      this.#fatal(protocolError, "CONTINUATION without HEADERS (RFC 9113 6.10)");
      return;
    }
    block.parts.push(Uint8Array.prototype.slice.call(buf, from, to));
    block.bytes += to - from;
    // A block is rarely larger than the list in it, and a list of that size is refused anyway.
    if (block.bytes > largestBlock || block.bytes > this.#owner.httpLimits().headBytes || ++block.frames > limits.continuations) {
      this.#fatal(enhanceYourCalm, "a header block without end", "continuation");
      return;
    }
    if ((frameHead.flags & flagEndHeaders) === 0) return;
    this.#block = null;
    this.#blockAtMs = never;
    this.#arm();
    const whole = Buffer.concat(block.parts);
    this.#section(block.stream, block.endStream, whole, 0, whole.length, whole.length, whole.length);
  }

  /** A whole header block buf[from, to). Frames may follow at `next`; answers the position after what was used of them. */
  #section(id: number, endStream: boolean, buf: Buffer, from: number, to: number, next: number, end: number): number {
    const stream = this.#streams.get(id);
    if (stream === null) return this.#sectionOfNew(id, endStream, buf, from, to, next, end);
    if (!stream.canReceive) {
      if (this.#discard(buf, from, to)) this.#failStream(stream, streamClosed, "HEADERS after the end of the stream (RFC 9113 5.1)", true);
      return next;
    }
    if (stream.gotHead) {
      this.#trailers(stream, endStream, buf, from, to);
      return next;
    }
    return this.#answer(stream, endStream, buf, from, to, next, end);
  }

  /** Decodes for the table's sake. False: the connection is lost. */
  #discard(buf: Buffer, from: number, to: number): boolean {
    const http = this.#owner.httpLimits();
    if (readSection(this.#decoder, buf, from, to, section.trailers, http.trailerBytes, http.fields) >= 0) return true;
    this.#fatal(compressionError, "a header block cannot be decoded (RFC 9113 4.3)");
    return false;
  }

  #sectionOfNew(id: number, endStream: boolean, buf: Buffer, from: number, to: number, next: number, end: number): number {
    if (!this.server || (id & 1) === 0 || id <= this.#lastPeerId) {
      if (this.#isIdle(id)) this.#fatal(protocolError, "HEADERS on a stream that the peer may not open (RFC 9113 5.1.1)");
      else if (this.#discard(buf, from, to)) {
        // 5.1.1: numbers only grow, and those that were skipped are closed.
        if (this.server && this.#recent.why(id) === gone.unknown)
          this.#fatal(protocolError, "HEADERS on a stream below one that was opened before (RFC 9113 5.1.1)");
        else this.#late(id);
      }
      return next;
    }
    this.#lastPeerId = id;
    this.#guard.opened++;
    if (id > this.#goawayLast) {
      // Section 6.8: told by GOAWAY that it is not looked at.
      this.#discard(buf, from, to);
      this.#recent.add(id, gone.byUs);
      return next;
    }
    const http = this.#owner.httpLimits();
    const code = readSection(this.#decoder, buf, from, to, section.request, http.headBytes, http.fields);
    if (code < 0) {
      this.#fatal(compressionError, "a header block cannot be decoded (RFC 9113 4.3)");
      return next;
    }
    if (this.#streams.size >= this.#options.maxStreams) {
      this.#options.metrics?.defended("stream_limit");
      this.#refuse(id);
      this.#excess(flood.ignored);
      return next;
    }
    if (code !== fault.none) {
      if (code < fault.tooLarge) this.#malformed(id, explainFault(code));
      else {
        if (code === fault.tooLarge) this.#options.metrics?.defended("header_list");
        this.#answerFault(id, endStream, code === fault.protocol ? 501 : 431, explainFault(code));
      }
      return next;
    }
    const tunnel = found.connect;
    const length = found.length;
    const isHead = found.isHead;
    let size = 0;
    let ends = endStream;
    let after = next;
    if (!endStream && !tunnel && this.#dataFollows(id, buf, next, end)) {
      size = frameHead.length;
      ends = (frameHead.flags & flagEndStream) !== 0;
      after = next + frameHeadBytes + size;
    }
    const bytes = takeRequest(size, this.#options.random);
    requestHead.limits = http;
    // RFC 9110 10.1.1: an expectation stands for what comes in DATA frames, announced or not.
    requestHead.openBody = !endStream && !ends && !tunnel;
    const parsed = parseRequest(bytes, headFrom, headTo, requestHead);
    if (parsed !== headTo - headFrom) {
      const refused = explainRefusal(parsed < 0 ? parsed : 0);
      if (parsed >= 0 || refused.status === 400) this.#malformed(id, refused.sentence);
      else this.#answerFault(id, endStream, refused.status, refused.sentence);
      return next;
    }
    const expected = length ? requestHead.contentLength : -1;
    // RFC 9113 8.1.1; and what came along must fit it too, or is left for the DATA frame's own judgement.
    if (endStream && expected > 0) {
      this.#malformed(id, "the content is not as long as content-length says (RFC 9113 8.1.1)");
      return next;
    }
    if (size > 0 && expected >= 0 && (size > expected || (ends && size !== expected))) {
      size = 0;
      ends = false;
      after = next;
    }
    const user = this.#owner.accept();
    if (user === null) {
      this.#refuse(id);
      return next;
    }
    const stream = this.#add(id, user);
    stream.gotHead = true;
    stream.bodyless = isHead;
    stream.tunnel = tunnel;
    stream.expected = tunnel ? -1 : expected;
    if (!length && !endStream && !tunnel) requestHead.contentLength = -1;
    this.#deliverHead(stream, bytes, requestHead, headTo, buf, after - size, size, ends, after > next);
    return after;
  }

  /** Does a whole DATA frame of the stream, small and unpadded, follow at `at`? Then it is in `frameHead`. */
  #dataFollows(id: number, buf: Buffer, at: number, end: number): boolean {
    if (end - at < frameHeadBytes || buf[at + 3] !== frameData) return false;
    if (parseFrameHead(buf, at, end, joinedBody, frameHead) < 0) return false;
    const { length, stream, flags } = frameHead;
    return (
      stream === id &&
      end - at >= frameHeadBytes + length &&
      (flags & flagPadded) === 0 &&
      (length > 0 || (flags & flagEndStream) !== 0) &&
      length <= this.flow.window &&
      length <= this.flow.streamWindow &&
      sectionSize() + length <= joinedSize
    );
  }

  /** Hands on a head and what came along of the body: buf[from, from + size), copied behind the head. */
  #deliverHead(
    stream: SessionStream,
    bytes: Buffer,
    head: Head,
    headTo: number,
    buf: Buffer,
    from: number,
    size: number,
    ends: boolean,
    joined: boolean,
  ): void {
    if (joined) {
      buf.copy(bytes, headTo, from, from + size);
      this.flow.window -= size;
      stream.receiveWindow -= size;
      stream.received += size;
      this.flow.arrived(size);
    }
    const over = ends && transition(stream, streamEvent.remoteEnd) === streamState.closed;
    stream.user.onHead(bytes, head, headTo, headTo + size, ends);
    this.#credit(stream, size);
    if (over) this.#forget(stream, gone.ended);
  }

  #trailers(stream: SessionStream, endStream: boolean, buf: Buffer, from: number, to: number): void {
    const http = this.#owner.httpLimits();
    const code = readSection(this.#decoder, buf, from, to, section.trailers, http.trailerBytes, http.fields);
    if (code < 0) {
      this.#fatal(compressionError, "a header block cannot be decoded (RFC 9113 4.3)");
      return;
    }
    let problem = "";
    if (!endStream) problem = "trailers that do not end the stream (RFC 9113 8.1)";
    else if (code !== fault.none) problem = explainFault(code);
    else if (stream.tunnel) problem = "HEADERS in a tunnel (RFC 9113 8.5)";
    else if (stream.expected >= 0 && stream.received !== stream.expected)
      problem = "the content is not as long as content-length says (RFC 9113 8.1.1)";
    if (problem !== "") {
      this.#failStream(stream, protocolError, problem, true);
      return;
    }
    const lines = takeTrailers();
    const over = transition(stream, streamEvent.remoteEnd) === streamState.closed;
    stream.user.onTrailers(lines, headFrom, headTo);
    if (over) this.#forget(stream, gone.ended);
  }

  #answer(stream: SessionStream, endStream: boolean, buf: Buffer, from: number, to: number, next: number, end: number): number {
    const http = this.#owner.httpLimits();
    const code = readSection(this.#decoder, buf, from, to, section.answer, http.headBytes, http.fields);
    if (code < 0) {
      this.#fatal(compressionError, "a header block cannot be decoded (RFC 9113 4.3)");
      return next;
    }
    const status = found.status;
    let problem = code === fault.none ? "" : explainFault(code);
    // Section 8.1: an interim answer never ends the stream.
    if (problem === "" && status < 200 && (endStream || ++stream.interims > limits.interim))
      problem = "a bad interim answer (RFC 9113 8.1)";
    if (problem !== "") {
      this.#failStream(stream, protocolError, problem, true);
      return next;
    }
    const length = found.length;
    let size = 0;
    let ends = endStream;
    let after = next;
    if (
      status >= 200 &&
      !endStream &&
      !stream.tunnel &&
      this.#dataFollows(stream.id, buf, next, end) &&
      frameHead.length <= stream.receiveWindow
    ) {
      size = frameHead.length;
      ends = (frameHead.flags & flagEndStream) !== 0;
      after = next + frameHeadBytes + size;
    }
    const bytes = takeAnswer(size);
    answerHead.limits = http;
    const parsed = parseAnswer(bytes, headFrom, headTo, answerHead);
    if (parsed !== headTo - headFrom) {
      this.#failStream(stream, protocolError, explainRefusal(parsed < 0 ? parsed : 0).sentence, true);
      return next;
    }
    stream.answered = true;
    if (status < 200) {
      stream.user.onInterim(bytes, answerHead);
      return next;
    }
    stream.gotHead = true;
    const empty = stream.bodyless || status === 204 || status === 304;
    if (stream.tunnel && status < 300) stream.expected = -1;
    else {
      stream.tunnel = false;
      stream.expected = empty ? 0 : length ? answerHead.contentLength : -1;
    }
    if (ends && size === 0 && stream.expected > 0) {
      this.#failStream(stream, protocolError, "the content is not as long as content-length says (RFC 9113 8.1.1)", true);
      return next;
    }
    if (size > 0 && stream.expected >= 0 && (size > stream.expected || (ends && size !== stream.expected))) {
      size = 0;
      ends = false;
      after = next;
    }
    this.#deliverHead(stream, bytes, answerHead, headTo, buf, after - size, size, ends, after > next);
    return after;
  }

  #add(id: number, user: StreamUser): SessionStream {
    const stream = takeStream();
    stream.begin(id, user, this.peer.initialWindow, this.flow.streamWindow);
    transition(stream, streamEvent.open);
    this.#streams.add(id, stream);
    user.stream = stream;
    return stream;
  }

  #answerFault(id: number, endStream: boolean, status: number, why: string): void {
    const stream = this.#add(id, nobody);
    stream.gotHead = true;
    if (endStream) transition(stream, streamEvent.remoteEnd);
    this.#owner.answerFault(stream, status, why);
  }

  #malformed(id: number, why: string): void {
    this.#recent.add(id, gone.byUs);
    this.#sender.reset(id, protocolError);
    const metrics = this.#options.metrics;
    if (metrics !== null) metrics.streamErrors.value++;
    this.#owner.malformed(why, true);
    this.#excess(flood.made_you_reset);
  }

  #refuse(id: number): void {
    this.#recent.add(id, gone.byUs);
    this.#sender.reset(id, refusedStream);
  }

  // ---- the other frames ------------------------------------------------------------------------------------------------------------------

  #rstStream(id: number, code: number): void {
    const stream = this.#streams.get(id);
    if (stream === null) {
      if (this.#isIdle(id)) this.#fatal(protocolError, "RST_STREAM on an idle stream (RFC 9113 6.4)");
      else this.#excess(flood.ignored);
      return;
    }
    const early = this.server && !stream.answered;
    transition(stream, streamEvent.reset);
    stream.user.onReset(
      code,
      `the peer reset the stream (${errorName(code)})`,
      code === refusedStream ? resetBy.unprocessed : resetBy.peer,
    );
    this.#forget(stream, gone.byPeer);
    if (early) this.#excess(flood.rapid_reset);
  }

  #settings(buf: Buffer, from: number, to: number, ack: boolean): void {
    if (ack) {
      if (this.#settingsUnacknowledged > 0 && --this.#settingsUnacknowledged === 0) {
        this.#acknowledgeAtMs = never;
        this.#arm();
      }
      return;
    }
    if (this.#excess(flood.settings)) return;
    const before = this.peer.initialWindow;
    const bad = readSettings(buf, from, to, !this.server, this.peer);
    if (bad < 0) {
      this.#fatal(refusal(bad), "SETTINGS with a bad value (RFC 9113 6.5.2)");
      return;
    }
    const { encoder } = this.#sender;
    if (this.peer.lowestHeaderTableSize < this.peer.headerTableSize) encoder.resize(this.peer.lowestHeaderTableSize);
    encoder.resize(this.peer.headerTableSize);
    const change = this.peer.initialWindow - before;
    if (change !== 0) {
      for (const stream of this.#streams.list()) {
        stream.sendWindow += change;
        if (stream.sendWindow > largestWindow) {
          this.#fatal(flowControlError, "SETTINGS make a window too large (RFC 9113 6.9.2)");
          return;
        }
      }
    }
    this.#sender.control(frameHeadBytes);
    const out = this.output.reserve(frameHeadBytes);
    writeFrameHead(out, this.output.size, 0, frameSettings, flagAck, 0);
    this.output.size += frameHeadBytes;
    const first = !this.#gotSettings;
    if (first) {
      this.#gotSettings = true;
      this.#startAtMs = never;
      if (this.#state === state.starting) this.#state = state.open;
      this.#arm();
    }
    this.#owner.settled(first);
    if (change > 0) this.#sender.pump();
  }

  #pinged(buf: Buffer, at: number, ack: boolean): void {
    if (!ack) {
      if (this.#excess(flood.ping) || this.#sender.control(frameHeadBytes + 8)) return;
      const out = this.output.reserve(frameHeadBytes + 8);
      writeFrameHead(out, this.output.size, 8, framePing, flagAck, 0);
      buf.copy(out, this.output.size + frameHeadBytes, at, at + 8);
      this.output.size += frameHeadBytes + 8;
      return;
    }
    if (readUint32(buf, at) !== pingMark) return;
    switch (buf[at + 7]) {
      case pingKind.keepalive:
        this.#pingOut = false;
        this.#pongAtMs = never;
        if (this.#options.keepaliveMs > 0) this.#pingAtMs = this.#nextPing(this.#time.nowMs);
        this.#arm();
        return;
      case pingKind.probe:
        if (this.flow.answered(this.#time.now())) this.#growWindows();
        return;
      case pingKind.drain:
        this.#finalGoaway();
        return;
      default:
    }
  }

  /** The windows that we give were found too small. */
  #growWindows(): void {
    const flow = this.flow;
    if (flow.streamGrowth > 0) {
      const out = this.output.reserve(frameHeadBytes + 6);
      writeFrameHead(out, this.output.size, 6, frameSettings, 0, 0);
      writeSetting(out, this.output.size + frameHeadBytes, settingInitialWindowSize, flow.streamWindow);
      this.output.size += frameHeadBytes + 6;
      if (this.#settingsUnacknowledged++ === 0) {
        this.#acknowledgeAtMs = this.#time.nowMs + limits.settingsAckMs;
        this.#arm();
      }
      for (const stream of this.#streams.list()) stream.receiveWindow += flow.streamGrowth;
    }
    if (flow.connectionGrowth > 0) {
      this.#sender.number(frameWindowUpdate, 0, flow.connectionGrowth);
      flow.window += flow.connectionGrowth;
    }
  }

  #goawayCame(buf: Buffer, from: number, to: number): void {
    const last = readUint32(buf, from) & largestWindow;
    const code = readUint32(buf, from + 4);
    // A client that says GOAWAY only means our pushes: it closes when it is done.
    if (this.server) return;
    const metrics = this.#options.metrics;
    if (metrics !== null) metrics.goawaysReceived.value++;
    if (this.#state !== state.draining) this.#state = state.draining;
    const said = buf.toString("latin1", from + 8, Math.min(to, from + 8 + 200)).replace(/[^ -~]/g, "?");
    const why = `the peer said GOAWAY (${errorName(code)}${said === "" ? "" : `, "${said}"`})`;
    for (const stream of this.#streams.list()) {
      if (stream.id <= last) continue;
      transition(stream, streamEvent.reset);
      stream.user.onReset(code, why, resetBy.unprocessed);
      this.#forget(stream, gone.byPeer);
    }
    this.#owner.goneAway(code, why);
    this.#endIfQuiet();
  }

  #windowUpdate(id: number, increment: number): void {
    if (this.#excess(flood.window_update)) return;
    if (id === 0) {
      if (increment === 0) this.#fatal(protocolError, "WINDOW_UPDATE of zero (RFC 9113 6.9)");
      else if (this.#sender.window + increment > largestWindow) this.#fatal(flowControlError, "a window above 2^31-1 (RFC 9113 6.9.1)");
      else {
        this.#sender.window += increment;
        this.#sender.pump();
      }
      return;
    }
    const stream = this.#streams.get(id);
    if (stream === null) {
      if (this.#isIdle(id)) this.#fatal(protocolError, "WINDOW_UPDATE on an idle stream (RFC 9113 5.1)");
      return;
    }
    if (increment === 0) this.#failStream(stream, protocolError, "WINDOW_UPDATE of zero (RFC 9113 6.9)", true);
    else if (stream.sendWindow + increment > largestWindow)
      this.#failStream(stream, flowControlError, "a window above 2^31-1 (RFC 9113 6.9.1)", true);
    else {
      stream.sendWindow += increment;
      if (stream.listed) this.#sender.pump();
    }
  }

  /** A frame on a stream that is over (section 5.1). False: the connection is, too. */
  #late(id: number): boolean {
    const why = this.#recent.why(id);
    if (why === gone.ended) {
      this.#fatal(streamClosed, "a frame after the end of its stream (RFC 9113 5.1)");
      return false;
    }
    if (why === gone.byPeer) this.#sender.reset(id, streamClosed);
    return !this.#excess(flood.ignored);
  }

  // ---- ends of streams -------------------------------------------------------------------------------------------------------------------

  /** A stream error of ours. `provoked`: the peer's frames are the reason. */
  #failStream(stream: SessionStream, code: number, why: string, provoked: boolean): void {
    if (stream.state === streamState.closed) return;
    transition(stream, streamEvent.reset);
    this.#sender.reset(stream.id, code);
    const metrics = this.#options.metrics;
    if (metrics !== null) metrics.streamErrors.value++;
    stream.user.onReset(code, why, provoked ? resetBy.rule : resetBy.stall);
    this.#forget(stream, gone.byUs);
    if (!provoked) return;
    if (code === protocolError) this.#owner.malformed(why, false);
    this.#excess(flood.made_you_reset);
  }

  /** The user gives the stream up: it hears nothing more but `onClosed`. */
  reset(stream: SessionStream, code: number): void {
    if (stream.state === streamState.closed || stream.state === streamState.idle) return;
    transition(stream, streamEvent.reset);
    if (this.#state !== state.closed) this.#sender.reset(stream.id, code);
    this.#forget(stream, gone.byUs);
  }

  /** RST_STREAM with NO_ERROR in place of our END_STREAM, after all that is queued: whether our message is whole is not known. */
  resetAfterQueue(stream: SessionStream): void {
    if (stream.listed) stream.resetAfterQueue = true;
    else this.reset(stream, noError);
  }

  /** What is still to come of the peer's message is not wanted: RST_STREAM with NO_ERROR once our own is out (section 8.1). */
  stopReceiving(stream: SessionStream): void {
    if (!stream.canReceive) return;
    if (stream.state === streamState.halfClosedLocal) this.reset(stream, noError);
    else stream.resetAfterEnd = true;
  }

  /** Our END_STREAM is out. */
  localEnded(stream: SessionStream): void {
    if (transition(stream, streamEvent.localEnd) === streamState.closed) this.#forget(stream, gone.ended);
    else if (stream.resetAfterEnd) this.reset(stream, noError);
  }

  sent(stream: SessionStream): void {
    this.reset(stream, noError);
  }

  #forget(stream: SessionStream, why: number): void {
    if (!this.#streams.delete(stream.id)) return;
    this.#recent.add(stream.id, why);
    this.#sender.forget(stream);
    if (stream.held > 0) {
      this.#hold(stream, 0);
      if (this.#state !== state.closed) this.#creditConnection(0);
    }
    if (this.#dataStream === stream) this.#dataStream = null;
    stream.user.onClosed();
    if (this.#options.reuseStreams === true) giveBackStream(stream);
    if (this.#state === state.closed) return;
    this.#owner.streamClosed();
    if (this.#state === state.draining) this.#endIfQuiet();
  }

  // ---- sending ---------------------------------------------------------------------------------------------------------------------------

  /** Client: a stream; its head must follow at once. Call when `hasRoom`. */
  openStream(user: StreamUser): SessionStream {
    const idlePingMs = this.#options.idlePingMs ?? 0;
    if (idlePingMs > 0 && !this.#pingOut && this.#lastByteMs + idlePingMs <= this.#time.nowMs) {
      this.#askWhetherAlive(this.#time.nowMs);
      this.#arm();
    }
    const stream = this.#add(this.#nextId, user);
    this.#nextId += 2;
    this.#guard.opened++;
    return stream;
  }

  /** Begins a HEADERS frame whose block takes at most `room` bytes. Write with the encoder, then call `endBlock`. */
  beginBlock(room: number): HpackEncoder {
    return this.#sender.beginBlock(room);
  }

  endBlock(stream: SessionStream, endStream: boolean): void {
    this.#sender.endBlock(stream, endStream);
  }

  /** Sends payload, or queues what the windows and the socket do not take. False: something is queued; the user hears `onWritable`. */
  send(stream: SessionStream, bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
    return this.#sender.send(stream, bytes, from, to, end);
  }

  /** Ends our message with trailer lines: now, or after what is queued. */
  sendTrailers(stream: SessionStream, bytes: Uint8Array, from: number, to: number): void {
    this.#sender.sendTrailers(stream, bytes, from, to);
  }

  /** The socket has taken what waited. */
  drained(): void {
    if (this.#state !== state.closed) this.#sender.drained();
  }

  // ---- what the sender reports -------------------------------------------------------------------------------------------------------------

  tiny(): boolean {
    return this.#excess(flood.tiny_window);
  }

  stalled(): void {
    if (this.#stallAtMs !== never) return;
    this.#stallAtMs = this.#time.nowMs + limits.stallMs;
    this.#arm();
  }

  unread(): void {
    this.#fatal(enhanceYourCalm, "the peer does not read our answers to its frames", "control_backlog");
  }
}

const noBytes = Buffer.alloc(0);

function beyondOwn(held: number): number {
  return held > limits.streamWindow ? held - limits.streamWindow : 0;
}
