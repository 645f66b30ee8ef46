// Owns: one HTTP/2 connection of either role (RFC 9113): its state, its streams and their ends, and what its owner asks of it. Knows no sockets: bytes come
// by `receive` and leave through an Outbox. Never routes, retries or reconnects: the users of its streams and its owner do. What the peer sends is handled
// in files of their own, by functions that work on its fields: session-receive.ts (bytes to frames), session-heads.ts, session-data.ts, session-windows.ts, session-control.ts,
// and session-time.ts (deadlines). Nobody else may touch those fields. A little above 400 lines: what is left shares one state and its ends.
// States: starting (the peer's preface and SETTINGS are awaited) -> open -> draining (GOAWAY said) -> closed. Closed swallows what comes late.

import type { Timed } from "../resilience/ticker.ts";
import { enhanceYourCalm, errorName, noError, protocolError, refusedStream } from "./errors.ts";
import { ReceiveFlow } from "./flow.ts";
import {
  defaultWindow,
  frameHeadBytes,
  frameSettings,
  frameWindowUpdate,
  largestWindow,
  settingEnableConnect,
  settingEnablePush,
  settingInitialWindowSize,
  settingMaxConcurrentStreams,
  settingMaxHeaderListSize,
  writeFrameHead,
  writeUint32,
} from "./frame.ts";
import { flood, Guard } from "./guard.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import type { HpackEncoder } from "./hpack-encoder.ts";
import { limits } from "./limits.ts";
import type { DefenceReason } from "./metrics.ts";
import type { Output } from "./output.ts";
import { gone, RecentStreams } from "./recent.ts";
import { Sender, type SenderHost } from "./sender.ts";
import { receiveBytes } from "./session-receive.ts";
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
import { askWhetherAlive, nextPing, passDeadlines } from "./session-time.ts";
import { creditConnection, creditStream, holdBack } from "./session-windows.ts";
import { type Block, clientPreface, never, pingKind, type SessionOptions, type SessionOwner, state } from "./session-words.ts";
import { defaultSettings, writeSetting } from "./settings.ts";
import { StreamTable } from "./stream-table.ts";

export class Session implements Timed, SenderHost {
  readonly server: boolean;
  readonly options: SessionOptions;
  readonly owner: SessionOwner;
  readonly output: Output;
  readonly time: SessionOptions["time"];
  readonly decoder = new HpackDecoder(limits.headerTable);
  readonly sender: Sender;
  readonly guard = new Guard();
  readonly flow: ReceiveFlow;
  readonly streams = new StreamTable<SessionStream>();
  readonly peer = defaultSettings();
  state: number = state.starting;
  /** Bytes of the client's preface seen so far. */
  prefaceSeen = 0;
  gotSettings = false;
  /** A frame of which only a part has come. */
  partial: Buffer | null = null;
  partialSize = 0;
  /** The DATA frame being read: its stream (null: nobody wants it, or not any more), what is left of payload and padding. */
  dataStream: SessionStream | null = null;
  dataLeft = 0;
  padLeft = 0;
  dataEnds = false;
  block: Block | null = null;
  lastPeerId = 0;
  nextId = 1;
  /** Client: no stream is opened from this number on. */
  readonly endId: number;
  /** Streams above this are not looked at (our GOAWAY). */
  goawayLast = largestWindow;
  readonly recent = new RecentStreams();
  settingsUnacknowledged = 0;
  /** Acknowledgements until windows that were taken back count, by how much, and for which streams. */
  shrinkAcks = 0;
  shrinkBy = 0;
  shrinkBelow = 0;
  pingOut = false;
  lastByteMs: number;
  /** Bytes withheld from the connection's window while too much is held by sinks. */
  withheld = 0;

  // Deadlines; `deadlineMs` is the earliest.
  deadlineMs = never;
  slot = -1;
  startAtMs = never;
  acknowledgeAtMs = never;
  blockAtMs = never;
  pingAtMs = never;
  pongAtMs = never;
  goawayAtMs = never;
  stallAtMs = never;
  idleAtMs = never;

  /** Says SETTINGS (a client: after the preface) at once. */
  constructor(options: SessionOptions) {
    this.server = options.server;
    this.options = options;
    this.flow = new ReceiveFlow(options.streamWindow, options.connectionWindow);
    this.owner = options.owner;
    // Ours are 1, 3, 5, …
    this.endId = options.mostRequests === undefined ? limits.lastStreamId : Math.min(2 * options.mostRequests, limits.lastStreamId);
    this.sender = new Sender(this, options.out, this.guard, options.time);
    this.output = this.sender.output;
    this.time = options.time;
    const now = options.time.nowMs;
    this.lastByteMs = now;
    if (options.startTimeoutMs > 0) this.startAtMs = now + options.startTimeoutMs;
    if (options.keepaliveMs > 0) this.pingAtMs = nextPing(this, now);
    if (!options.server) this.prefaceSeen = clientPreface.length;
    this.sayHello(now);
    this.arm();
  }

  /** Section 3.4: our preface goes out without waiting. */
  sayHello(nowMs: number): void {
    const out = this.output.reserve(128);
    let at = this.output.size;
    if (!this.server) at += clientPreface.copy(out, at);
    const start = at;
    at += frameHeadBytes;
    if (this.server) {
      at = writeSetting(out, at, settingMaxConcurrentStreams, this.options.maxStreams);
      at = writeSetting(out, at, settingEnableConnect, 1);
    } else at = writeSetting(out, at, settingEnablePush, 0);
    at = writeSetting(out, at, settingInitialWindowSize, this.flow.streamWindow);
    at = writeSetting(out, at, settingMaxHeaderListSize, this.owner.httpLimits().headBytes);
    writeFrameHead(out, start, at - start - frameHeadBytes, frameSettings, 0, 0);
    writeFrameHead(out, at, 4, frameWindowUpdate, 0, 0);
    writeUint32(out, at + frameHeadBytes, this.flow.connectionWindow - defaultWindow);
    this.output.size = at + frameHeadBytes + 4;
    this.settingsUnacknowledged = 1;
    this.acknowledgeAtMs = nowMs + limits.settingsAckMs;
  }

  // ---- what the owner asks ---------------------------------------------------------------------------------------------------------------

  get closed(): boolean {
    return this.state === state.closed;
  }

  /** Streams that are open. */
  get active(): number {
    return this.streams.size;
  }

  /** The peer's SETTINGS are here and no GOAWAY of either side. */
  get open(): boolean {
    return this.state === state.open;
  }

  /** Client: may a stream be opened now? */
  get hasRoom(): boolean {
    const own = this.options.mostStreams ?? largestWindow;
    const most = own < this.peer.maxStreams ? own : this.peer.maxStreams;
    if (this.state === state.starting) return this.options.early === true && this.streams.size < limits.assumedStreams;
    return this.state === state.open && this.streams.size < most && this.nextId < this.endId;
  }

  /** Client: as many streams were opened as there may be. */
  get spent(): boolean {
    return this.nextId >= this.endId;
  }

  /** Client: readers who do not keep up hold so much that a new stream is better off on another connection. */
  get crowded(): boolean {
    return this.flow.held > limits.heldBytes / 2;
  }

  /** Calls `owner.idle` then; Infinity: never. */
  idleAt(ms: number): void {
    this.idleAtMs = ms;
    this.arm();
  }

  /** Graceful end (section 6.8): no new streams, the open ones finish, then `sessionEnded`. */
  drain(why: string): void {
    if (this.state === state.closed || this.state === state.draining) return;
    if (this.state === state.starting) {
      this.close(noError, why);
      return;
    }
    this.state = state.draining;
    if (!this.server) {
      this.sender.goaway(0, noError, "");
      this.endIfQuiet();
      return;
    }
    // What is on its way is still taken: the last stream is named once the peer has surely heard of the first GOAWAY.
    this.sender.goaway(largestWindow, noError, "");
    this.sender.ping(pingKind.drain);
    this.goawayAtMs = this.time.nowMs + limits.goawayMs;
    this.arm();
  }

  finalGoaway(): void {
    if (this.goawayAtMs === never) return;
    this.goawayAtMs = never;
    this.goawayLast = this.lastPeerId;
    this.sender.goaway(this.lastPeerId, noError, "");
    this.endIfQuiet();
  }

  endIfQuiet(): void {
    if (this.state === state.draining && this.streams.size === 0 && this.goawayAtMs === never) this.end(noError, "drained", null);
  }

  /** Ends it now. Open streams are told. */
  close(code: number, why: string): void {
    if (this.state === state.closed) return;
    this.sender.goaway(this.lastPeerId, code, why);
    this.end(code, why, null);
  }

  /** The socket is gone. */
  lost(why: string): void {
    this.end(noError, why, null);
  }

  /** The peer broke the protocol, or does too much. */
  fatal(code: number, why: string, defence: DefenceReason | null = null): void {
    if (this.state === state.closed) return;
    const metrics = this.options.metrics;
    if (metrics !== null) {
      metrics.connectionErrors.value++;
      if (defence !== null) metrics.defended(defence);
    }
    this.sender.goaway(this.lastPeerId, code, why);
    this.end(code, why, defence);
  }

  end(code: number, why: string, defence: DefenceReason | null): void {
    if (this.state === state.closed) return;
    this.state = state.closed;
    this.block = null;
    this.partial = null;
    this.dataStream = null;
    this.dataLeft = 0;
    this.padLeft = 0;
    this.deadlineMs = never;
    this.sender.ready.length = 0;
    for (const stream of this.streams.list()) {
      transition(stream, streamEvent.reset);
      stream.user.onReset(code, why, resetBy.connection);
      this.forget(stream, gone.byUs);
    }
    this.output.flush();
    this.owner.sessionEnded(code, why, defence);
  }

  badFrame(code: number): void {
    this.fatal(code, `a bad frame (${errorName(code)})`);
  }

  excess(kind: number): boolean {
    const reason = this.guard.count(kind, this.time.nowMs);
    if (reason === null) return false;
    this.fatal(enhanceYourCalm, `too much: ${reason.replaceAll("_", " ")}`, reason);
    return true;
  }

  // ---- time ------------------------------------------------------------------------------------------------------------------------------

  arm(): void {
    this.deadlineMs = Math.min(
      this.startAtMs,
      this.acknowledgeAtMs,
      this.blockAtMs,
      this.pingAtMs,
      this.pongAtMs,
      this.goawayAtMs,
      this.stallAtMs,
      this.idleAtMs,
    );
  }

  onDeadline(nowMs: number): void {
    passDeadlines(this, nowMs);
  }

  // ---- receiving -------------------------------------------------------------------------------------------------------------------------

  /** Bytes from the peer, split anywhere. They may be kept. */
  receive(bytes: Buffer): void {
    receiveBytes(this, bytes);
  }

  /** True: no stream of that number was ever opened (section 5.1: then only HEADERS and PRIORITY may come on it). */
  isIdle(id: number): boolean {
    if (this.server) return (id & 1) === 0 || id > this.lastPeerId;
    return (id & 1) === 0 || id >= this.nextId;
  }

  // ---- DATA (section 6.1) ----------------------------------------------------------------------------------------------------------------

  problemCode = 0;

  // ---- receive windows (section 6.9) -----------------------------------------------------------------------------------------------------

  /** No more of this stream than its window allows. */
  pause(stream: SessionStream): void {
    stream.paused = true;
  }

  resume(stream: SessionStream): void {
    stream.paused = false;
    const size = stream.held;
    if (size === 0) return;
    holdBack(this, stream, 0);
    if (this.state === state.closed) return;
    creditStream(this, stream, size);
    creditConnection(this, 0);
  }

  // ---- HEADERS, CONTINUATION (sections 6.2, 6.10, 8) -------------------------------------------------------------------------------------

  add(id: number, user: StreamUser): SessionStream {
    const stream = takeStream();
    stream.begin(id, user, this.peer.initialWindow, this.flow.streamWindow);
    transition(stream, streamEvent.open);
    this.streams.add(id, stream);
    user.stream = stream;
    return stream;
  }

  answerFault(id: number, endStream: boolean, status: number, why: string): void {
    const stream = this.add(id, nobody);
    stream.gotHead = true;
    if (endStream) transition(stream, streamEvent.remoteEnd);
    this.owner.answerFault(stream, status, why);
  }

  refuse(id: number): void {
    this.recent.add(id, gone.byUs);
    this.sender.reset(id, refusedStream);
  }

  // ---- the other frames ------------------------------------------------------------------------------------------------------------------

  // ---- ends of streams -------------------------------------------------------------------------------------------------------------------

  /** A stream error of ours. `provoked`: the peer's frames are the reason. */
  failStream(stream: SessionStream, code: number, why: string, provoked: boolean): void {
    if (stream.state === streamState.closed) return;
    transition(stream, streamEvent.reset);
    this.sender.reset(stream.id, code);
    const metrics = this.options.metrics;
    if (metrics !== null) metrics.streamErrors.value++;
    stream.user.onReset(code, why, provoked ? resetBy.rule : resetBy.stall);
    this.forget(stream, gone.byUs);
    if (!provoked) return;
    if (code === protocolError) this.owner.malformed(why, false);
    this.excess(flood.made_you_reset);
  }

  /** The user gives the stream up: it hears nothing more but `onClosed`. */
  reset(stream: SessionStream, code: number): void {
    if (stream.state === streamState.closed || stream.state === streamState.idle) return;
    transition(stream, streamEvent.reset);
    if (this.state !== state.closed) this.sender.reset(stream.id, code);
    this.forget(stream, gone.byUs);
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
    if (transition(stream, streamEvent.localEnd) === streamState.closed) this.forget(stream, gone.ended);
    else if (stream.resetAfterEnd) this.reset(stream, noError);
  }

  sent(stream: SessionStream): void {
    this.reset(stream, noError);
  }

  forget(stream: SessionStream, why: number): void {
    if (!this.streams.delete(stream.id)) return;
    this.recent.add(stream.id, why);
    this.sender.forget(stream);
    if (stream.held > 0) {
      holdBack(this, stream, 0);
      if (this.state !== state.closed) creditConnection(this, 0);
    }
    if (this.dataStream === stream) this.dataStream = null;
    stream.user.onClosed();
    if (this.options.reuseStreams === true) giveBackStream(stream);
    if (this.state === state.closed) return;
    this.owner.streamClosed();
    if (this.state === state.draining) this.endIfQuiet();
  }

  // ---- sending ---------------------------------------------------------------------------------------------------------------------------

  /** Client: a stream; its head must follow at once. Call when `hasRoom`. */
  openStream(user: StreamUser): SessionStream {
    const idlePingMs = this.options.idlePingMs ?? 0;
    if (idlePingMs > 0 && !this.pingOut && this.lastByteMs + idlePingMs <= this.time.nowMs) {
      askWhetherAlive(this, this.time.nowMs);
      this.arm();
    }
    const stream = this.add(this.nextId, user);
    this.nextId += 2;
    this.guard.opened++;
    return stream;
  }

  /** Begins a HEADERS frame whose block takes at most `room` bytes. Write with the encoder, then call `endBlock`. */
  beginBlock(room: number): HpackEncoder {
    return this.sender.beginBlock(room);
  }

  endBlock(stream: SessionStream, endStream: boolean): void {
    this.sender.endBlock(stream, endStream);
  }

  /** Sends payload, or queues what the windows and the socket do not take. False: something is queued; the user hears `onWritable`. */
  send(stream: SessionStream, bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
    return this.sender.send(stream, bytes, from, to, end);
  }

  /** Ends our message with trailer lines: now, or after what is queued. */
  sendTrailers(stream: SessionStream, bytes: Uint8Array, from: number, to: number): void {
    this.sender.sendTrailers(stream, bytes, from, to);
  }

  /** The socket has taken what waited. */
  drained(): void {
    if (this.state !== state.closed) this.sender.drained();
  }

  // ---- what the sender reports -------------------------------------------------------------------------------------------------------------

  tiny(): boolean {
    return this.excess(flood.tiny_window);
  }

  stalled(): void {
    if (this.stallAtMs !== never) return;
    this.stallAtMs = this.time.nowMs + limits.stallMs;
    this.arm();
  }

  unread(): void {
    this.fatal(enhanceYourCalm, "the peer does not read our answers to its frames", "control_backlog");
  }
}
