// Owns: deadlines that may not be a tick late: one timer for all of them, at the earliest. For waits that most of a process's requests may share (its own
// calls to other services), where a timer each would cost more than the wait.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Timed } from "./ticker.ts";

export class Deadlines {
  readonly #clock: Clock;
  readonly #items = new Set<Timed>();
  #timer: Timer | null = null;
  #timerAtMs = Number.POSITIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#items.size;
  }

  /** Its `deadlineMs` stands from now on; when it has come, it is forgotten and told. */
  add(item: Timed, nowMs: number): void {
    this.#items.add(item);
    this.#arm(item.deadlineMs, nowMs);
  }

  /** Idempotent. The timer stays: whoever is next has most likely a later deadline. */
  remove(item: Timed): void {
    this.#items.delete(item);
  }

  #arm(deadlineMs: number, nowMs: number): void {
    if (deadlineMs >= this.#timerAtMs) return;
    this.#timer?.cancel();
    this.#timerAtMs = deadlineMs;
    this.#timer = this.#clock.after(Math.max(1, Math.ceil(deadlineMs - nowMs)), () => this.#expire());
  }

  #expire(): void {
    this.#timer = null;
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const nowMs = this.#clock.mono();
    let next = Number.POSITIVE_INFINITY;
    for (const item of [...this.#items]) {
      if (!this.#items.has(item)) continue;
      if (item.deadlineMs > nowMs) {
        if (item.deadlineMs < next) next = item.deadlineMs;
        continue;
      }
      this.#items.delete(item);
      item.onDeadline(nowMs);
    }
    if (next < Number.POSITIVE_INFINITY) this.#arm(next, nowMs);
  }
}
