// Owns: HEADERS and CONTINUATION (RFC 9113 6.2, 6.10, 8): gathering a block, judging it by its stream, handing on requests, answers and trailers.
// Never reads HPACK or fields itself: head-reader.ts does.

import { type Head, parseAnswer, parseRequest } from "../http1/head.ts";
import { explainRefusal } from "../http1/limits.ts";
import { compressionError, enhanceYourCalm, protocolError, refusal, streamClosed } from "./errors.ts";
import { flagEndHeaders, flagEndStream, flagPadded, frameData, frameHeadBytes, parseFrameHead, stripPadding } from "./frame.ts";
import { flood } from "./guard.ts";
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
import { limits } from "./limits.ts";
import { gone } from "./recent.ts";
import type { Session } from "./session.ts";
import { judgeLate } from "./session-control.ts";
import { type SessionStream, streamEvent, streamState, transition } from "./session-stream.ts";
import { credit } from "./session-windows.ts";
import { answerHead, frameHead, joinedBody, joinedSize, never, requestHead } from "./session-words.ts";

export function takeHeaders(s: Session, buf: Buffer, at: number, end: number): number {
  const { length, flags, stream } = frameHead;
  const next = at + length;
  const skip = stripPadding(buf, at, frameHead);
  if (skip < 0) {
    s.badFrame(refusal(skip));
    return next;
  }
  const from = at + skip;
  const to = from + frameHead.length;
  const endStream = (flags & flagEndStream) !== 0;
  if ((flags & flagEndHeaders) !== 0) return takeSection(s, stream, endStream, buf, from, to, next, end);
  s.block = { stream, endStream, parts: [Uint8Array.prototype.slice.call(buf, from, to)], bytes: to - from, frames: 0 };
  const headMs = s.owner.httpLimits().headTimeoutMs;
  if (headMs > 0) {
    s.blockAtMs = s.time.nowMs + headMs;
    s.arm();
  }
  return next;
}

export function takeContinuation(s: Session, buf: Buffer, from: number, to: number): void {
  const block = s.block;
  if (block === null) {
    s.fatal(protocolError, "CONTINUATION without HEADERS (RFC 9113 6.10)");
    return;
  }
  block.parts.push(Uint8Array.prototype.slice.call(buf, from, to));
  block.bytes += to - from;
  // A block is rarely larger than the list in it, and a list of that size is refused anyway.
  if (block.bytes > largestBlock || block.bytes > s.owner.httpLimits().headBytes || ++block.frames > limits.continuations) {
    s.fatal(enhanceYourCalm, "a header block without end", "continuation");
    return;
  }
  if ((frameHead.flags & flagEndHeaders) === 0) return;
  s.block = null;
  s.blockAtMs = never;
  s.arm();
  const whole = Buffer.concat(block.parts);
  takeSection(s, block.stream, block.endStream, whole, 0, whole.length, whole.length, whole.length);
}

/** A whole header block buf[from, to). Frames may follow at `next`; answers the position after what was used of them. */
export function takeSection(
  s: Session,
  id: number,
  endStream: boolean,
  buf: Buffer,
  from: number,
  to: number,
  next: number,
  end: number,
): number {
  const stream = s.streams.get(id);
  if (stream === null) return sectionOfNew(s, id, endStream, buf, from, to, next, end);
  if (!stream.canReceive) {
    if (discard(s, buf, from, to)) s.failStream(stream, streamClosed, "HEADERS after the end of the stream (RFC 9113 5.1)", true);
    return next;
  }
  if (stream.gotHead) {
    takeTrailerSection(s, stream, endStream, buf, from, to);
    return next;
  }
  return takeAnswerHead(s, stream, endStream, buf, from, to, next, end);
}

/** Decodes for the table's sake. False: the connection is lost. */
export function discard(s: Session, buf: Buffer, from: number, to: number): boolean {
  const http = s.owner.httpLimits();
  if (readSection(s.decoder, buf, from, to, section.trailers, http.trailerBytes, http.fields) >= 0) return true;
  s.fatal(compressionError, "a header block cannot be decoded (RFC 9113 4.3)");
  return false;
}

export function sectionOfNew(
  s: Session,
  id: number,
  endStream: boolean,
  buf: Buffer,
  from: number,
  to: number,
  next: number,
  end: number,
): number {
  if (!s.server || (id & 1) === 0 || id <= s.lastPeerId) {
    if (s.isIdle(id)) s.fatal(protocolError, "HEADERS on a stream that the peer may not open (RFC 9113 5.1.1)");
    else if (discard(s, buf, from, to)) {
      // 5.1.1: numbers only grow, and those that were skipped are closed.
      if (s.server && s.recent.why(id) === gone.unknown)
        s.fatal(protocolError, "HEADERS on a stream below one that was opened before (RFC 9113 5.1.1)");
      else judgeLate(s, id);
    }
    return next;
  }
  s.lastPeerId = id;
  s.guard.opened++;
  if (id > s.goawayLast) {
    // Section 6.8: told by GOAWAY that it is not looked at.
    discard(s, buf, from, to);
    s.recent.add(id, gone.byUs);
    return next;
  }
  const http = s.owner.httpLimits();
  const code = readSection(s.decoder, buf, from, to, section.request, http.headBytes, http.fields);
  if (code < 0) {
    s.fatal(compressionError, "a header block cannot be decoded (RFC 9113 4.3)");
    return next;
  }
  if (s.streams.size >= s.options.maxStreams) {
    s.options.metrics?.defended("stream_limit");
    s.refuse(id);
    s.excess(flood.ignored);
    return next;
  }
  if (code !== fault.none) {
    if (code < fault.tooLarge) refuseMalformed(s, id, explainFault(code));
    else {
      if (code === fault.tooLarge) s.options.metrics?.defended("header_list");
      s.answerFault(id, endStream, code === fault.protocol ? 501 : 431, explainFault(code));
    }
    return next;
  }
  const tunnel = found.connect;
  const length = found.length;
  const isHead = found.isHead;
  let size = 0;
  let ends = endStream;
  let after = next;
  if (!endStream && !tunnel && dataFollows(s, id, buf, next, end)) {
    size = frameHead.length;
    ends = (frameHead.flags & flagEndStream) !== 0;
    after = next + frameHeadBytes + size;
  }
  const bytes = takeRequest(size, s.options.random);
  requestHead.limits = http;
  // RFC 9110 10.1.1: an expectation stands for what comes in DATA frames, announced or not.
  requestHead.openBody = !endStream && !ends && !tunnel;
  const parsed = parseRequest(bytes, headFrom, headTo, requestHead);
  if (parsed !== headTo - headFrom) {
    const refused = explainRefusal(parsed < 0 ? parsed : 0);
    if (parsed >= 0 || refused.status === 400) refuseMalformed(s, id, refused.sentence);
    else s.answerFault(id, endStream, refused.status, refused.sentence);
    return next;
  }
  const expected = length ? requestHead.contentLength : -1;
  // RFC 9113 8.1.1; and what came along must fit it too, or is left for the DATA frame's own judgement.
  if (endStream && expected > 0) {
    refuseMalformed(s, id, "the content is not as long as content-length says (RFC 9113 8.1.1)");
    return next;
  }
  if (size > 0 && expected >= 0 && (size > expected || (ends && size !== expected))) {
    size = 0;
    ends = false;
    after = next;
  }
  const user = s.owner.accept();
  if (user === null) {
    s.refuse(id);
    return next;
  }
  const stream = s.add(id, user);
  stream.gotHead = true;
  stream.bodyless = isHead;
  stream.tunnel = tunnel;
  stream.expected = tunnel ? -1 : expected;
  if (!length && !endStream && !tunnel) requestHead.contentLength = -1;
  deliverHead(s, stream, bytes, requestHead, headTo, buf, after - size, size, ends, after > next);
  return after;
}

/** Does a whole DATA frame of the stream, small and unpadded, follow at `at`? Then it is in `frameHead`. */
export function dataFollows(s: Session, id: number, buf: Buffer, at: number, end: number): boolean {
  if (end - at < frameHeadBytes || buf[at + 3] !== frameData) return false;
  if (parseFrameHead(buf, at, end, joinedBody, frameHead) < 0) return false;
  const { length, stream, flags } = frameHead;
  return (
    stream === id &&
    end - at >= frameHeadBytes + length &&
    (flags & flagPadded) === 0 &&
    (length > 0 || (flags & flagEndStream) !== 0) &&
    length <= s.flow.window &&
    length <= s.flow.streamWindow &&
    sectionSize() + length <= joinedSize
  );
}

/** Hands on a head and what came along of the body: buf[from, from + size), copied behind the head. */
export function deliverHead(
  s: Session,
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
    s.flow.window -= size;
    stream.receiveWindow -= size;
    stream.received += size;
    s.flow.arrived(size);
  }
  const over = ends && transition(stream, streamEvent.remoteEnd) === streamState.closed;
  stream.user.onHead(bytes, head, headTo, headTo + size, ends);
  credit(s, stream, size);
  if (over) s.forget(stream, gone.ended);
}

export function takeTrailerSection(s: Session, stream: SessionStream, endStream: boolean, buf: Buffer, from: number, to: number): void {
  const http = s.owner.httpLimits();
  const code = readSection(s.decoder, buf, from, to, section.trailers, http.trailerBytes, http.fields);
  if (code < 0) {
    s.fatal(compressionError, "a header block cannot be decoded (RFC 9113 4.3)");
    return;
  }
  let problem = "";
  if (!endStream) problem = "trailers that do not end the stream (RFC 9113 8.1)";
  else if (code !== fault.none) problem = explainFault(code);
  else if (stream.tunnel) problem = "HEADERS in a tunnel (RFC 9113 8.5)";
  else if (stream.expected >= 0 && stream.received !== stream.expected)
    problem = "the content is not as long as content-length says (RFC 9113 8.1.1)";
  if (problem !== "") {
    s.failStream(stream, protocolError, problem, true);
    return;
  }
  const lines = takeTrailers();
  const over = transition(stream, streamEvent.remoteEnd) === streamState.closed;
  stream.user.onTrailers(lines, headFrom, headTo);
  if (over) s.forget(stream, gone.ended);
}

export function takeAnswerHead(
  s: Session,
  stream: SessionStream,
  endStream: boolean,
  buf: Buffer,
  from: number,
  to: number,
  next: number,
  end: number,
): number {
  const http = s.owner.httpLimits();
  const code = readSection(s.decoder, buf, from, to, section.answer, http.headBytes, http.fields);
  if (code < 0) {
    s.fatal(compressionError, "a header block cannot be decoded (RFC 9113 4.3)");
    return next;
  }
  const status = found.status;
  let problem = code === fault.none ? "" : explainFault(code);
  // Section 8.1: an interim answer never ends the stream.
  if (problem === "" && status < 200 && (endStream || ++stream.interims > limits.interim)) problem = "a bad interim answer (RFC 9113 8.1)";
  if (problem !== "") {
    s.failStream(stream, protocolError, problem, true);
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
    dataFollows(s, stream.id, buf, next, end) &&
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
    s.failStream(stream, protocolError, explainRefusal(parsed < 0 ? parsed : 0).sentence, true);
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
    s.failStream(stream, protocolError, "the content is not as long as content-length says (RFC 9113 8.1.1)", true);
    return next;
  }
  if (size > 0 && stream.expected >= 0 && (size > stream.expected || (ends && size !== stream.expected))) {
    size = 0;
    ends = false;
    after = next;
  }
  deliverHead(s, stream, bytes, answerHead, headTo, buf, after - size, size, ends, after > next);
  return after;
}

export function refuseMalformed(s: Session, id: number, why: string): void {
  s.recent.add(id, gone.byUs);
  s.sender.reset(id, protocolError);
  const metrics = s.options.metrics;
  if (metrics !== null) metrics.streamErrors.value++;
  s.owner.malformed(why, true);
  s.excess(flood.made_you_reset);
}
