// Owns: the windows that we give (RFC 9113 6.9): given back as sinks keep up, grown as the path wants it, taken back where slow readers hold much.
// Never looks at frames of the peer and never sends payload.

import { frameHeadBytes, frameSettings, frameWindowUpdate, largestWindow, settingInitialWindowSize, writeFrameHead } from "./frame.ts";
import { limits } from "./limits.ts";
import type { Session } from "./session.ts";
import { type SessionStream, streamState } from "./session-stream.ts";
import { pingKind, state } from "./session-words.ts";
import { writeSetting } from "./settings.ts";

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
  giveStream(s, stream);
}

function giveStream(s: Session, stream: SessionStream): void {
  if (stream.unacknowledged * 2 < s.flow.streamWindow) return;
  // Small rest of a known length: the peer has window enough for it. One byte more than enough: nghttp2 sends no empty frame, not even its last, on a full window.
  if (stream.expected >= 0 && stream.expected - stream.received < stream.receiveWindow) return;
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

/** The windows that we give were found too small. */
export function growWindows(s: Session): void {
  const flow = s.flow;
  if (flow.streamGrowth > 0) {
    sayWindow(s, flow.streamWindow);
    for (const stream of s.streams.list()) stream.receiveWindow += flow.streamGrowth;
  }
  if (flow.connectionGrowth > 0) {
    s.sender.number(frameWindowUpdate, 0, flow.connectionGrowth);
    flow.window += flow.connectionGrowth;
  }
}

/**
 * Readers hold so much that windows which have grown are taken back (section 6.9.2): what a stream may still receive beyond its own share would use up the
 * connection's window, which the others need. It counts from the peer's acknowledgement on.
 */
export function shrinkWindows(s: Session): void {
  const flow = s.flow;
  const by = flow.streamWindow - Math.max(limits.streamWindow, s.options.streamWindow);
  if (by <= 0 || s.shrinkAcks > 0 || s.state === state.closed) return;
  sayWindow(s, flow.streamWindow - by);
  s.shrinkAcks = s.settingsUnacknowledged;
  s.shrinkBy = by;
  // Streams that we open come behind our SETTINGS; those of the peer before its acknowledgement have the old window.
  s.shrinkBelow = s.server ? largestWindow : s.nextId;
  if (!s.server) flow.streamWindow -= by;
}

/** The peer has acknowledged them. What streams were not given back yet because the old windows were large enough they may need now. */
export function shrunk(s: Session): void {
  if (s.server) s.flow.streamWindow -= s.shrinkBy;
  for (const stream of s.streams.list()) {
    if (stream.id < s.shrinkBelow) stream.receiveWindow -= s.shrinkBy;
    if (stream.canReceive && stream.unacknowledged > 0) giveStream(s, stream);
  }
}

function sayWindow(s: Session, size: number): void {
  const out = s.output.reserve(frameHeadBytes + 6);
  writeFrameHead(out, s.output.size, 6, frameSettings, 0, 0);
  writeSetting(out, s.output.size + frameHeadBytes, settingInitialWindowSize, size);
  s.output.size += frameHeadBytes + 6;
  if (s.settingsUnacknowledged++ > 0) return;
  s.acknowledgeAtMs = s.time.nowMs + limits.settingsAckMs;
  s.arm();
}
