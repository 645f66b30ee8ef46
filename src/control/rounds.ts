// Owns: work that is done in rounds: one at a time, the next due moment passed over while one is under way. Never knows what the work is.

import type { Clock } from "../base/clock.ts";

export class Rounds {
  readonly #end: () => void;
  #round: Promise<void> | undefined;
  #stopped = false;

  /** `round` must not reject. */
  constructor(clock: Clock, everyMs: number, round: () => Promise<void>) {
    const timer = clock.every(everyMs, () => {
      this.#round ??= round().finally(() => {
        this.#round = undefined;
      });
    });
    this.#end = () => timer.cancel();
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** No further round begins; resolves when the one under way, which may look at `stopped`, has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#end();
    await this.#round;
  }
}
