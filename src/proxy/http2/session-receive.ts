// Owns: taking bytes of the peer apart into frames, wherever they were split, and saying who handles each. Never keeps what it was given.

import { protocolError, refusal } from "./errors.ts";
import {
  defaultMaxFrameSize,
  flagAck,
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
} from "./frame.ts";
import { flood } from "./guard.ts";
import type { Session } from "./session.ts";
import { takeGoaway, takePing, takeReset, takeSettings, takeWindowUpdate } from "./session-control.ts";
import { dataBegins, dataPart, takeData } from "./session-data.ts";
import { takeContinuation, takeHeaders } from "./session-heads.ts";
import { clientPreface, frameHead, state } from "./session-words.ts";

export function keepPartial(s: Session, bytes: Buffer, from: number, end: number, size: number): void {
  s.partial = Buffer.allocUnsafe(size);
  s.partialSize = bytes.copy(s.partial, 0, from, end);
}

/** Adds to a frame that came in pieces, and handles it once it is whole. A DATA frame only needs its head to be. */
export function completePartial(s: Session, bytes: Buffer, from: number, end: number): number {
  let partial = s.partial as Buffer;
  const take = Math.min(end - from, partial.length - s.partialSize);
  bytes.copy(partial, s.partialSize, from, from + take);
  s.partialSize += take;
  const at = from + take;
  if (s.partialSize < partial.length) return at;
  const used = parseFrameHead(partial, 0, partial.length, defaultMaxFrameSize, frameHead);
  if (used < 0) {
    s.badFrame(refusal(used));
    return end;
  }
  const length = frameHead.length;
  const isData = frameHead.type === frameData;
  const needed = frameHeadBytes + (isData ? ((frameHead.flags & flagPadded) !== 0 && length > 0 ? 1 : 0) : length);
  if (partial.length < needed) {
    const larger = Buffer.allocUnsafe(needed);
    partial.copy(larger);
    s.partial = larger;
    return at;
  }
  partial = s.partial as Buffer;
  s.partial = null;
  s.partialSize = 0;
  if (!isData) {
    takeFrame(s, partial, frameHeadBytes, partial.length);
    return at;
  }
  if (needed > frameHeadBytes) {
    dataBegins(s, partial[frameHeadBytes] as number);
    return at;
  }
  return takeData(s, bytes, at, end);
}

/** A whole frame, not DATA, whose head is in `frameHead`. Answers the position after it, or after what it took along. */
export function takeFrame(s: Session, buf: Buffer, at: number, end: number): number {
  const { type, length, stream, flags } = frameHead;
  const next = at + length;
  if (!s.gotSettings) {
    // Section 3.4: the other side's preface ends with, or is, a SETTINGS frame.
    if (type !== frameSettings || (flags & flagAck) !== 0) {
      s.fatal(protocolError, "the peer did not begin with SETTINGS (RFC 9113 3.4)");
      return next;
    }
  }
  if (s.block !== null && (type !== frameContinuation || stream !== s.block.stream)) {
    s.fatal(protocolError, "a header block was interrupted (RFC 9113 6.10)");
    return next;
  }
  switch (type) {
    case frameHeaders:
      return takeHeaders(s, buf, at, end);
    case frameContinuation:
      takeContinuation(s, buf, at, next);
      return next;
    case frameRstStream:
      takeReset(s, stream, readUint32(buf, at));
      return next;
    case frameSettings:
      takeSettings(s, buf, at, next, (flags & flagAck) !== 0);
      return next;
    case framePing:
      takePing(s, buf, at, (flags & flagAck) !== 0);
      return next;
    case frameGoaway:
      takeGoaway(s, buf, at, next);
      return next;
    case frameWindowUpdate:
      takeWindowUpdate(s, stream, readUint32(buf, at) & largestWindow);
      return next;
    case framePushPromise:
      // Section 6.6: a client never pushes, and we said SETTINGS_ENABLE_PUSH 0.
      s.fatal(protocolError, "PUSH_PROMISE (RFC 9113 6.6)");
      return next;
    default:
      // PRIORITY, PRIORITY_UPDATE and unknown types (sections 5.3.2 and 5.5, RFC 9218 7).
      s.excess(flood.ignored);
      return next;
  }
}

/** Bytes from the peer, split anywhere. They may be kept. */
export function receiveBytes(s: Session, bytes: Buffer): void {
  s.lastByteMs = s.time.nowMs;
  const end = bytes.length;
  let at = 0;
  while (at < end && s.state !== state.closed) {
    if (s.dataLeft > 0 || s.padLeft > 0) {
      at = dataPart(s, bytes, at, end);
    } else if (s.partialSize > 0) {
      at = completePartial(s, bytes, at, end);
    } else if (s.prefaceSeen < clientPreface.length) {
      if (bytes[at] !== clientPreface[s.prefaceSeen]) {
        s.fatal(protocolError, "the peer does not speak HTTP/2 (RFC 9113 3.4)");
        return;
      }
      s.prefaceSeen++;
      at++;
    } else {
      if (end - at < frameHeadBytes) {
        keepPartial(s, bytes, at, end, frameHeadBytes);
        return;
      }
      const used = parseFrameHead(bytes, at, end, defaultMaxFrameSize, frameHead);
      if (used < 0) {
        s.badFrame(refusal(used));
        return;
      }
      const length = frameHead.length;
      if (frameHead.type === frameData) {
        if ((frameHead.flags & flagPadded) !== 0 && length > 0 && end - at === frameHeadBytes) {
          keepPartial(s, bytes, at, end, frameHeadBytes + 1);
          return;
        }
        at = takeData(s, bytes, at + frameHeadBytes, end);
      } else if (end - at < frameHeadBytes + length) {
        keepPartial(s, bytes, at, end, frameHeadBytes + length);
        return;
      } else at = takeFrame(s, bytes, at + frameHeadBytes, end);
    }
  }
}
