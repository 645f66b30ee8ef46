// Owns: the nine bytes before every frame, what may stand in them, and the writing of frames (RFC 9113 sections 4.1 and 6).
// Parsers return numbers: positive = bytes used, zero = more needed, negative = refuse(code). Never keeps state of a connection.

import { frameSizeError, protocolError, refuse } from "./errors.ts";

export const frameData = 0x0;
export const frameHeaders = 0x1;
export const framePriority = 0x2;
export const frameRstStream = 0x3;
export const frameSettings = 0x4;
export const framePushPromise = 0x5;
export const framePing = 0x6;
export const frameGoaway = 0x7;
export const frameWindowUpdate = 0x8;
export const frameContinuation = 0x9;
/** RFC 9218 section 7.1: carries the priority of a stream; hop by hop, so it is read past. */
export const framePriorityUpdate = 0x10;

export const flagEndStream = 0x1;
export const flagAck = 0x1;
export const flagEndHeaders = 0x4;
export const flagPadded = 0x8;
export const flagPriority = 0x20;

export const settingHeaderTableSize = 0x1;
export const settingEnablePush = 0x2;
export const settingMaxConcurrentStreams = 0x3;
export const settingInitialWindowSize = 0x4;
export const settingMaxFrameSize = 0x5;
export const settingMaxHeaderListSize = 0x6;
/** RFC 8441 section 3: extended CONNECT is understood. */
export const settingEnableConnect = 0x8;

export const frameHeadBytes = 9;
/** RFC 9113 section 6.5.2: what everybody must take, and what we ask for. */
export const defaultMaxFrameSize = 16_384;
export const defaultWindow = 65_535;
export const largestWindow = 0x7fff_ffff;

/** Filled by parseFrameHead; reused from frame to frame. */
export interface FrameHead {
  length: number;
  type: number;
  flags: number;
  stream: number;
}

/** Reads a frame head at `at`. Checks what the head alone can tell: size limits, and which streams a type may be on. */
export function parseFrameHead(buf: Uint8Array, at: number, end: number, maxFrameSize: number, out: FrameHead): number {
  if (end - at < frameHeadBytes) return 0;
  const length = ((buf[at] as number) << 16) | ((buf[at + 1] as number) << 8) | (buf[at + 2] as number);
  const type = buf[at + 3] as number;
  const flags = buf[at + 4] as number;
  // The reserved bit is ignored (section 4.1).
  const stream =
    (((buf[at + 5] as number) & 0x7f) << 24) | ((buf[at + 6] as number) << 16) | ((buf[at + 7] as number) << 8) | (buf[at + 8] as number);
  // Section 4.2: larger than SETTINGS_MAX_FRAME_SIZE.
  if (length > maxFrameSize) return refuse(frameSizeError);
  const bad = checkHead(type, flags, stream, length);
  if (bad !== 0) return bad;
  out.length = length;
  out.type = type;
  out.flags = flags;
  out.stream = stream;
  return frameHeadBytes;
}

function checkHead(type: number, flags: number, stream: number, length: number): number {
  switch (type) {
    case frameData: // 6.1
    case frameHeaders: // 6.2
    case frameContinuation: // 6.10
    case framePushPromise: // 6.6
      return stream === 0 ? refuse(protocolError) : 0;
    case framePriority: // 6.3; a wrong length is a stream error there, which for a frame we ignore is no better than this
      if (stream === 0) return refuse(protocolError);
      return length === 5 ? 0 : refuse(frameSizeError);
    case frameRstStream: // 6.4
      if (stream === 0) return refuse(protocolError);
      return length === 4 ? 0 : refuse(frameSizeError);
    case frameSettings: // 6.5
      if (stream !== 0) return refuse(protocolError);
      if ((flags & flagAck) !== 0 && length !== 0) return refuse(frameSizeError);
      return length % 6 === 0 ? 0 : refuse(frameSizeError);
    case framePing: // 6.7
      if (stream !== 0) return refuse(protocolError);
      return length === 8 ? 0 : refuse(frameSizeError);
    case frameGoaway: // 6.8
      if (stream !== 0) return refuse(protocolError);
      return length >= 8 ? 0 : refuse(frameSizeError);
    case frameWindowUpdate: // 6.9
      return length === 4 ? 0 : refuse(frameSizeError);
    default: // 5.5: unknown types are ignored
      return 0;
  }
}

/**
 * The part of a payload that is not padding (section 6.1): answers the pad length's own size plus priority fields to skip in front, and sets
 * `out.length` to what remains. Negative: the padding does not fit.
 */
export function stripPadding(buf: Uint8Array, at: number, head: FrameHead): number {
  let front = 0;
  let pad = 0;
  if ((head.flags & flagPadded) !== 0) {
    if (head.length < 1) return refuse(frameSizeError);
    pad = buf[at] as number;
    front = 1;
  }
  if (head.type === frameHeaders && (head.flags & flagPriority) !== 0) front += 5;
  const rest = head.length - front - pad;
  if (rest < 0) return refuse(protocolError);
  head.length = rest;
  return front;
}

export function readUint32(buf: Uint8Array, at: number): number {
  return (((buf[at] as number) << 24) | ((buf[at + 1] as number) << 16) | ((buf[at + 2] as number) << 8) | (buf[at + 3] as number)) >>> 0;
}

export function writeUint32(buf: Uint8Array, at: number, value: number): void {
  buf[at] = value >>> 24;
  buf[at + 1] = value >>> 16;
  buf[at + 2] = value >>> 8;
  buf[at + 3] = value;
}

export function writeFrameHead(buf: Uint8Array, at: number, length: number, type: number, flags: number, stream: number): void {
  buf[at] = length >>> 16;
  buf[at + 1] = length >>> 8;
  buf[at + 2] = length;
  buf[at + 3] = type;
  buf[at + 4] = flags;
  writeUint32(buf, at + 5, stream);
}

/** A whole frame. */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array): Uint8Array {
  const made = new Uint8Array(frameHeadBytes + payload.length);
  writeFrameHead(made, 0, payload.length, type, flags, stream);
  made.set(payload, frameHeadBytes);
  return made;
}

/** A frame whose payload is one 32-bit number (RST_STREAM, WINDOW_UPDATE). */
export function numberFrame(type: number, stream: number, value: number): Uint8Array {
  const made = new Uint8Array(frameHeadBytes + 4);
  writeFrameHead(made, 0, 4, type, 0, stream);
  writeUint32(made, frameHeadBytes, value);
  return made;
}
