// Owns: who stops reading while the other side does not keep up, and letting go of the upstream half. A source is paused at most once by its
// exchange and resumed as often.

import type { Exchange } from "./exchange.ts";
import type { UpstreamHalf } from "./halves.ts";

export function pauseDown(x: Exchange): void {
  if (x.downPaused) return;
  x.downPaused = true;
  x.ownHalf.pauseReading();
}

export function resumeDown(x: Exchange): void {
  if (!x.downPaused) return;
  x.downPaused = false;
  x.ownHalf.resumeReading();
}

export function pauseUp(x: Exchange, half: UpstreamHalf): void {
  if (x.upPaused) return;
  x.upPaused = true;
  half.pauseReading();
}

/** Something moved: the idle clock starts anew. */
export function touch(x: Exchange): void {
  if (x.idleLimitMs > 0) {
    x.idleAtMs = x.down.core.ticker.nowMs + x.idleLimitMs;
    x.ownHalf.arm();
  }
}

export function leaveEndpoint(x: Exchange): void {
  if (x.up !== null) {
    x.up = null;
    if (x.endpoint !== null) x.endpoint.active--;
    if (x.retryAt !== null) {
      x.retryAt.activeRetries--;
      x.retryAt = null;
    }
  }
  if (x.upPaused) x.upPaused = false;
}

/** Gives up the upstream half of this attempt. */
export function dropAttempt(x: Exchange): void {
  const half = x.up;
  if (half === null) return;
  half.owner = null;
  const sent = x.sent;
  leaveEndpoint(x);
  if (sent || half.version === 2) half.dispose();
}
