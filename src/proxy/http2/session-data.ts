// Owns: DATA frames (RFC 9113 6.1) and the windows we give (6.9): judging a frame by its head, handing payload on as it comes, giving windows back as
// sinks keep up. Never sends payload: the sender does.

import { flowControlError, protocolError, refusal, streamClosed } from "./errors.ts";
import { flagEndStream, flagPadded, frameWindowUpdate, stripPadding } from "./frame.ts";
import { flood } from "./guard.ts";
import { limits } from "./limits.ts";
import { gone } from "./recent.ts";
import type { Session } from "./session.ts";
import { judgeLate, shrinkWindows } from "./session-control.ts";
import { type SessionStream, streamEvent, streamState, transition } from "./session-stream.ts";
import { frameHead, pingKind, state } from "./session-words.ts";

const noBytes = Buffer.alloc(0);

export function takeData(s: Session, bytes: Buffer, at: number, end: number): number {
  if ((frameHead.flags & flagPadded) === 0) {
    dataBegins(s, -1);
    return at;
  }
  // Without a byte for the size of its padding it is refused below.
  dataBegins(s, at < end ? (bytes[at] as number) : 0);
  return at + 1;
}

/** `pad` -1: no padding. Judges the frame by its head; its payload is handed on as it comes. */
export function dataBegins(s: Session, pad: number): void {
  const { length, flags, stream: id } = frameHead;
  if (!s.gotSettings || s.block !== null) {
    s.fatal(protocolError, "DATA before SETTINGS or within a header block (RFC 9113 3.4, 6.10)");
    return;
  }
  const front = pad < 0 ? 0 : 1;
  const padding = pad < 0 ? 0 : pad;
  const payload = length - front - padding;
  if (payload < 0) {
    s.fatal(length === 0 ? refusal(stripPadding(noBytes, 0, frameHead)) : protocolError, "padding beyond its frame (RFC 9113 6.1)");
    return;
  }
  // Section 6.9: all of the frame counts, and the connection's window counts even for streams that are over.
  s.flow.window -= length;
  if (s.flow.window < 0) {
    s.fatal(flowControlError, "DATA beyond the connection's window (RFC 9113 6.9)");
    return;
  }
  const ends = (flags & flagEndStream) !== 0;
  s.dataStream = null;
  s.dataLeft = payload;
  s.padLeft = padding;
  s.dataEnds = ends;
  const stream = s.streams.get(id);
  if (stream === null) {
    if (s.isIdle(id)) {
      s.fatal(protocolError, "DATA on an idle stream (RFC 9113 5.1)");
      return;
    }
    if (judgeLate(s, id) && length > payload) creditConnection(s, length - payload);
    return;
  }
  if (length > payload) creditConnection(s, length - payload);
  if (payload === 0 && !ends && s.excess(flood.empty_data)) return;
  const problem = dataProblem(s, stream, length, payload, ends);
  if (problem !== "") {
    s.failStream(stream, s.problemCode, problem, true);
    return;
  }
  stream.receiveWindow -= length;
  creditStream(s, stream, length - payload);
  s.dataStream = stream;
  if (payload === 0) deliver(s, stream, noBytes, 0, 0, ends);
}

/** Why a DATA frame may not be on this stream; empty: it may. */
export function dataProblem(s: Session, stream: SessionStream, length: number, payload: number, ends: boolean): string {
  s.problemCode = protocolError;
  if (!stream.canReceive) {
    s.problemCode = streamClosed;
    return "DATA after the end of the stream (RFC 9113 5.1)";
  }
  if (!stream.gotHead) return "DATA before a head (RFC 9113 8.1)";
  if (length > stream.receiveWindow) {
    s.problemCode = flowControlError;
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
export function dataPart(s: Session, bytes: Buffer, from: number, end: number): number {
  let at = from;
  if (s.dataLeft > 0) {
    const size = end - at < s.dataLeft ? end - at : s.dataLeft;
    s.dataLeft -= size;
    const stream = s.dataStream;
    at += size;
    if (stream?.canReceive) deliver(s, stream, bytes, at - size, at, s.dataEnds && s.dataLeft === 0);
    else creditConnection(s, size);
  }
  if (s.dataLeft === 0) {
    const skip = end - at < s.padLeft ? end - at : s.padLeft;
    s.padLeft -= skip;
    at += skip;
  }
  return at;
}

export function deliver(s: Session, stream: SessionStream, bytes: Buffer, from: number, to: number, ends: boolean): void {
  const size = to - from;
  stream.received += size;
  s.flow.arrived(size);
  const over = ends && transition(stream, streamEvent.remoteEnd) === streamState.closed;
  stream.user.onData(bytes, from, to, ends);
  credit(s, stream, size);
  if (over) s.forget(stream, gone.ended);
}

/** Payload was handed on: given back to the windows, unless its sink does not keep up. */
export function credit(s: Session, stream: SessionStream, size: number): void {
  if (size === 0) return;
  if (!stream.paused || stream.state === streamState.closed) {
    creditStream(s, stream, size);
    creditConnection(s, size);
    return;
  }
  const before = s.flow.held;
  holdBack(s, stream, stream.held + size);
  const beyond = s.flow.held - before;
  if (beyond > 0 && s.crowded) shrinkWindows(s);
  // Only what a stream holds beyond its own share is withheld: the share of the others has to get through.
  if (s.flow.held > limits.heldBytes) {
    s.withheld += beyond;
    giveConnection(s, size - beyond);
  } else creditConnection(s, size);
}

/** What a stream holds up to a first window is its own: however much others hold, each can begin. */
export function holdBack(s: Session, stream: SessionStream, size: number): void {
  s.flow.held += beyondOwn(size) - beyondOwn(stream.held);
  stream.held = size;
}

export function creditStream(s: Session, stream: SessionStream, size: number): void {
  if (size === 0 || !stream.canReceive) return;
  stream.unacknowledged += size;
  if (stream.unacknowledged * 2 < s.flow.streamWindow) return;
  // Small rest of a known length: the peer has window enough for it.
  if (stream.expected >= 0 && stream.expected - stream.received <= stream.receiveWindow) return;
  s.sender.number(frameWindowUpdate, stream.id, stream.unacknowledged);
  stream.receiveWindow += stream.unacknowledged;
  stream.unacknowledged = 0;
  if (s.flow.probe(s.time.now())) s.sender.ping(pingKind.probe);
}

/** The connection's own window grows back at once, so that one slow reader does not hold up the others; but for what is withheld, as long as too much is held. */
export function creditConnection(s: Session, size: number): void {
  if (s.flow.held > limits.heldBytes) {
    giveConnection(s, size);
    return;
  }
  const withheld = s.withheld;
  s.withheld = 0;
  giveConnection(s, size + withheld);
}

function giveConnection(s: Session, size: number): void {
  const flow = s.flow;
  flow.unacknowledged += size;
  if (flow.unacknowledged * 2 < flow.connectionWindow - s.withheld || s.state === state.closed) return;
  s.sender.number(frameWindowUpdate, 0, flow.unacknowledged);
  flow.window += flow.unacknowledged;
  flow.unacknowledged = 0;
}

function beyondOwn(held: number): number {
  return held > limits.streamWindow ? held - limits.streamWindow : 0;
}
