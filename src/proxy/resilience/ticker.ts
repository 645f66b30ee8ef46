// Owns: deadlines of connections and exchanges: fields compared with one coarse clock, no timer each (rule 3).
// The tick sleeps while nothing is registered, so that an idle process stays asleep.

import type { Clock, Timer } from "../../base/clock.ts";
import { Deadlines } from "./deadlines.ts";

/** How late a deadline may fire. */
export const tickMs = 50;

/** Something with a deadline. `deadlineMs` is on `Clock.mono`; Infinity = none. `slot` belongs to the ticker. */
export interface Timed {
  deadlineMs: number;
  slot: number;
  /** The deadline has passed; set a new one or go away. */
  onDeadline(nowMs: number): void;
}

export class Ticker {
  readonly #clock: Clock;
  readonly #items: Timed[] = [];
  /** For deadlines that may not be a tick late. */
  readonly exact: Deadlines;
  #timer: Timer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.exact = new Deadlines(clock);
    this.nowMs = clock.mono();
  }

  /** The coarse clock: at most a tick old while anything is registered. For deadlines. */
  nowMs: number;

  /** Reads the clock (45 ns), in ms. For durations, and where nothing may be registered yet. */
  now(): number {
    this.nowMs = this.#clock.mono();
    return this.nowMs;
  }

  /** A timer of its own, for the few waits that must be finer than a tick (back-off of retries, not every request). */
  after(delayMs: number, run: () => void): Timer {
    return this.#clock.after(delayMs, run);
  }

  get size(): number {
    return this.#items.length;
  }

  add(item: Timed): void {
    item.slot = this.#items.length;
    this.#items.push(item);
    if (this.#timer === null) this.#timer = this.#clock.every(tickMs, () => this.#tick());
  }

  /** Idempotent. */
  remove(item: Timed): void {
    const slot = item.slot;
    if (slot < 0) return;
    item.slot = -1;
    const last = this.#items.pop() as Timed;
    if (last !== item) {
      this.#items[slot] = last;
      last.slot = slot;
    }
  }

  #tick(): void {
    const now = this.now();
    // Here and not where the last one goes: making and cancelling a timer costs 20 us, and connections that come one by one would pay it each time.
    if (this.#items.length === 0) {
      this.#timer?.cancel();
      this.#timer = null;
      return;
    }
    // Backwards, as an item that fires may remove itself and the last one takes its place.
    for (let i = this.#items.length - 1; i >= 0; i--) {
      const item = this.#items[i];
      if (item !== undefined && item.deadlineMs <= now) item.onDeadline(now);
    }
  }
}
