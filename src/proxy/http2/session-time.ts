// Owns: the deadlines of a session: what passes with each of them, and the PINGs that ask whether the peer is there. Never sets a timer: the ticker has one.

import { cancel, enhanceYourCalm, noError, protocolError, settingsTimeout } from "./errors.ts";
import { limits } from "./limits.ts";
import type { Session } from "./session.ts";
import { never, pingKind, state } from "./session-words.ts";

export function passDeadlines(s: Session, nowMs: number): void {
  if (s.state === state.closed) return;
  if (s.startAtMs <= nowMs) {
    s.fatal(protocolError, "the peer did not say its preface and SETTINGS in time", "slow_start");
    return;
  }
  if (s.acknowledgeAtMs <= nowMs) {
    s.fatal(settingsTimeout, "the peer did not acknowledge SETTINGS in time", "settings_ack");
    return;
  }
  if (s.blockAtMs <= nowMs) {
    s.fatal(enhanceYourCalm, "a header block did not come to its end in time", "slow_head");
    return;
  }
  if (s.pongAtMs <= nowMs) {
    // Whatever came since proves it alive: an answer may wait behind a long body.
    const heardUntil = s.lastByteMs + pongWithinMs(s);
    if (heardUntil <= nowMs) {
      s.fatal(noError, "the peer did not answer a PING", "keepalive");
      return;
    }
    s.pongAtMs = heardUntil;
  }
  if (s.pingAtMs <= nowMs) {
    if (s.lastByteMs + s.options.keepaliveMs <= nowMs) {
      askWhetherAlive(s, nowMs);
      s.pingAtMs = never;
    } else s.pingAtMs = nextPing(s, s.lastByteMs);
  }
  if (s.goawayAtMs <= nowMs) s.finalGoaway();
  if (s.stallAtMs <= nowMs) checkStalls(s, nowMs);
  if (s.idleAtMs <= nowMs) {
    s.idleAtMs = never;
    s.owner.idle();
  }
  if (!s.closed) s.arm();
}

function pongWithinMs(s: Session): number {
  return s.options.pingTimeoutMs ?? limits.pingTimeoutMs;
}

export function nextPing(s: Session, nowMs: number): number {
  const { keepaliveMs, keepaliveJitter = 0, random } = s.options;
  return nowMs + keepaliveMs + (keepaliveJitter > 0 ? random() * keepaliveJitter * keepaliveMs : 0);
}
/** Section 6.7. One at a time. */

export function askWhetherAlive(s: Session, nowMs: number): void {
  if (s.pingOut) return;
  s.pingOut = true;
  s.sender.ping(pingKind.keepalive);
  s.pongAtMs = nowMs + pongWithinMs(s);
}

export function checkStalls(s: Session, nowMs: number): void {
  s.stallAtMs = never;
  for (const stream of [...s.sender.ready]) {
    if (stream.stalledSinceMs === 0) continue;
    if (stream.stalledSinceMs + limits.stallMs <= nowMs) {
      s.options.metrics?.defended("stall");
      s.failStream(stream, cancel, "the peer gives no window", false);
    } else s.stallAtMs = Math.min(s.stallAtMs, stream.stalledSinceMs + limits.stallMs);
  }
}
