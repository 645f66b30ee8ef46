// Owns: DATA frames (RFC 9113 6.1): judging a frame by its head, handing payload on as it comes. Never sends payload: the sender does.

import { flowControlError, protocolError, refusal, streamClosed } from "./errors.ts";
import { flagEndStream, flagPadded, stripPadding } from "./frame.ts";
import { flood } from "./guard.ts";
import { gone } from "./recent.ts";
import type { Session } from "./session.ts";
import { judgeLate } from "./session-control.ts";
import { type SessionStream, streamEvent, streamState, transition } from "./session-stream.ts";
import { credit, creditConnection, creditStream } from "./session-windows.ts";
import { frameHead } from "./session-words.ts";

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
