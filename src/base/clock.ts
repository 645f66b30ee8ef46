// Owns: the notion of time. Everything that waits or dates takes a Clock by parameter, so that tests can pause it.

/** A pending wake-up. `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

/** Time as an effect. `now` is wall time in ms since the epoch, `mono` is a monotonic clock in ms (fractional). */
export interface Clock {
  now(): number;
  mono(): number;
  /** Calls `run` once after `delayMs`. The timer does not keep the process alive. */
  after(delayMs: number, run: () => void): Timer;
  /** Calls `run` every `periodMs` until cancelled. Does not keep the process alive. */
  every(periodMs: number, run: () => void): Timer;
}

/** The real clock. Only `app.ts`-like entry points may name it. */
export const systemClock: Clock = {
  now: () => Date.now(),
  mono: () => performance.now(),
  after(delayMs, run) {
    const id = setTimeout(run, delayMs);
    id.unref();
    return { cancel: () => clearTimeout(id) };
  },
  every(periodMs, run) {
    const id = setInterval(run, periodMs);
    id.unref();
    return { cancel: () => clearInterval(id) };
  },
};

/** A clock that stands still until `advance` is called; for tests. */
export class PausedClock implements Clock {
  #nowMs: number;
  #startMs: number;
  #queue: { atMs: number; periodMs: number; run: () => void; live: boolean }[] = [];

  constructor(startMs = 1_700_000_000_000) {
    this.#nowMs = startMs;
    this.#startMs = startMs;
  }

  now(): number {
    return this.#nowMs;
  }

  mono(): number {
    return this.#nowMs - this.#startMs;
  }

  after(delayMs: number, run: () => void): Timer {
    return this.#add(delayMs, 0, run);
  }

  every(periodMs: number, run: () => void): Timer {
    return this.#add(periodMs, periodMs, run);
  }

  /** Moves time on by `ms`, running every timer that falls due, in order. */
  advance(ms: number): void {
    const end = this.#nowMs + ms;
    for (;;) {
      this.#queue = this.#queue.filter((t) => t.live);
      let next = this.#queue[0];
      for (const t of this.#queue) if (next === undefined || t.atMs < next.atMs) next = t;
      if (next === undefined || next.atMs > end) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      if (next.periodMs > 0) next.atMs += next.periodMs;
      else next.live = false;
      next.run();
    }
    this.#nowMs = end;
  }

  #add(delayMs: number, periodMs: number, run: () => void): Timer {
    const entry = { atMs: this.#nowMs + delayMs, periodMs, run, live: true };
    this.#queue.push(entry);
    return {
      cancel: () => {
        entry.live = false;
      },
    };
  }
}
