// Owns: RST_STREAM, SETTINGS, PING, GOAWAY and WINDOW_UPDATE of the peer (RFC 9113 6.4 to 6.9), and what may still come on a stream that is over (5.1).
// Never handles heads or payload.

import { errorName, flowControlError, protocolError, refusal, refusedStream, streamClosed } from "./errors.ts";
import { flagAck, frameHeadBytes, framePing, frameSettings, largestWindow, readUint32, writeFrameHead } from "./frame.ts";
import { flood } from "./guard.ts";
import { gone } from "./recent.ts";
import { pingMark } from "./sender.ts";
import type { Session } from "./session.ts";
import { resetBy, streamEvent, transition } from "./session-stream.ts";
import { nextPing } from "./session-time.ts";
import { growWindows, shrunk } from "./session-windows.ts";
import { never, pingKind, state } from "./session-words.ts";
import { readSettings } from "./settings.ts";

export function takeReset(s: Session, id: number, code: number): void {
  const stream = s.streams.get(id);
  if (stream === null) {
    if (s.isIdle(id)) s.fatal(protocolError, "RST_STREAM on an idle stream (RFC 9113 6.4)");
    else s.excess(flood.ignored);
    return;
  }
  const early = s.server && !stream.answered;
  transition(stream, streamEvent.reset);
  stream.user.onReset(code, `the peer reset the stream (${errorName(code)})`, code === refusedStream ? resetBy.unprocessed : resetBy.peer);
  s.forget(stream, gone.byPeer);
  if (early) s.excess(flood.rapid_reset);
}

export function takeSettings(s: Session, buf: Buffer, from: number, to: number, ack: boolean): void {
  if (ack) {
    if (s.settingsUnacknowledged > 0 && --s.settingsUnacknowledged === 0) {
      s.acknowledgeAtMs = never;
      s.arm();
    }
    if (s.shrinkAcks > 0 && --s.shrinkAcks === 0) shrunk(s);
    return;
  }
  if (s.excess(flood.settings)) return;
  const before = s.peer.initialWindow;
  const bad = readSettings(buf, from, to, !s.server, s.peer);
  if (bad < 0) {
    s.fatal(refusal(bad), "SETTINGS with a bad value (RFC 9113 6.5.2)");
    return;
  }
  const { encoder } = s.sender;
  if (s.peer.lowestHeaderTableSize < s.peer.headerTableSize) encoder.resize(s.peer.lowestHeaderTableSize);
  encoder.resize(s.peer.headerTableSize);
  const change = s.peer.initialWindow - before;
  if (change !== 0) {
    for (const stream of s.streams.list()) {
      stream.sendWindow += change;
      if (stream.sendWindow > largestWindow) {
        s.fatal(flowControlError, "SETTINGS make a window too large (RFC 9113 6.9.2)");
        return;
      }
    }
  }
  s.sender.control(frameHeadBytes);
  const out = s.output.reserve(frameHeadBytes);
  writeFrameHead(out, s.output.size, 0, frameSettings, flagAck, 0);
  s.output.size += frameHeadBytes;
  const first = !s.gotSettings;
  if (first) {
    s.gotSettings = true;
    s.startAtMs = never;
    if (s.state === state.starting) s.state = state.open;
    s.arm();
  }
  s.owner.settled(first);
  if (change > 0) s.sender.pump();
}

export function takePing(s: Session, buf: Buffer, at: number, ack: boolean): void {
  if (!ack) {
    if (s.excess(flood.ping) || s.sender.control(frameHeadBytes + 8)) return;
    const out = s.output.reserve(frameHeadBytes + 8);
    writeFrameHead(out, s.output.size, 8, framePing, flagAck, 0);
    buf.copy(out, s.output.size + frameHeadBytes, at, at + 8);
    s.output.size += frameHeadBytes + 8;
    return;
  }
  if (readUint32(buf, at) !== pingMark) return;
  switch (buf[at + 7]) {
    case pingKind.keepalive:
      s.pingOut = false;
      s.pongAtMs = never;
      if (s.options.keepaliveMs > 0) s.pingAtMs = nextPing(s, s.time.nowMs);
      s.arm();
      return;
    case pingKind.probe:
      if (s.flow.answered(s.time.now(), s.active, s.shrinkAcks === 0 && !s.crowded)) growWindows(s);
      return;
    case pingKind.drain:
      s.finalGoaway();
      return;
    default:
  }
}

export function takeGoaway(s: Session, buf: Buffer, from: number, to: number): void {
  const last = readUint32(buf, from) & largestWindow;
  const code = readUint32(buf, from + 4);
  // A client that says GOAWAY only means our pushes: it closes when it is done.
  if (s.server) return;
  const metrics = s.options.metrics;
  if (metrics !== null) metrics.goawaysReceived.value++;
  if (s.state !== state.draining) s.state = state.draining;
  const said = buf.toString("latin1", from + 8, Math.min(to, from + 8 + 200)).replace(/[^ -~]/g, "?");
  const why = `the peer said GOAWAY (${errorName(code)}${said === "" ? "" : `, "${said}"`})`;
  for (const stream of s.streams.list()) {
    if (stream.id <= last) continue;
    transition(stream, streamEvent.reset);
    stream.user.onReset(code, why, resetBy.unprocessed);
    s.forget(stream, gone.byPeer);
  }
  s.owner.goneAway(code, why);
  s.endIfQuiet();
}

export function takeWindowUpdate(s: Session, id: number, increment: number): void {
  if (s.excess(flood.window_update)) return;
  if (id === 0) {
    if (increment === 0) s.fatal(protocolError, "WINDOW_UPDATE of zero (RFC 9113 6.9)");
    else if (s.sender.window + increment > largestWindow) s.fatal(flowControlError, "a window above 2^31-1 (RFC 9113 6.9.1)");
    else {
      s.sender.window += increment;
      s.sender.pump();
    }
    return;
  }
  const stream = s.streams.get(id);
  if (stream === null) {
    if (s.isIdle(id)) s.fatal(protocolError, "WINDOW_UPDATE on an idle stream (RFC 9113 5.1)");
    return;
  }
  if (increment === 0) s.failStream(stream, protocolError, "WINDOW_UPDATE of zero (RFC 9113 6.9)", true);
  else if (stream.sendWindow + increment > largestWindow)
    s.failStream(stream, flowControlError, "a window above 2^31-1 (RFC 9113 6.9.1)", true);
  else {
    stream.sendWindow += increment;
    if (stream.listed) s.sender.pump();
  }
}

/** A frame on a stream that is over (section 5.1). False: the connection is, too. */
export function judgeLate(s: Session, id: number): boolean {
  const why = s.recent.why(id);
  if (why === gone.ended) {
    s.fatal(streamClosed, "a frame after the end of its stream (RFC 9113 5.1)");
    return false;
  }
  if (why === gone.byPeer) s.sender.reset(id, streamClosed);
  return !s.excess(flood.ignored);
}
