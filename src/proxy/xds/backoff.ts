// Owns: how long to wait before another try: full jitter (AWS architecture blog, "Exponential backoff and jitter"), so that a fleet that lost its
// control plane does not come back in one wave. Never waits itself.

export class Backoff {
  readonly #random: () => number;
  readonly #baseMs: number;
  readonly #maxMs: number;
  #tries = 0;

  constructor(random: () => number, baseMs: number, maxMs: number) {
    this.#random = random;
    this.#baseMs = baseMs;
    this.#maxMs = maxMs;
  }

  /** The next delay: anything up to base, twice base, four times base, and so on up to the maximum. */
  nextMs(): number {
    const top = Math.min(this.#maxMs, this.#baseMs * 2 ** Math.min(this.#tries, 20));
    this.#tries++;
    return this.#random() * top;
  }

  get tries(): number {
    return this.#tries;
  }

  /** After a success. */
  reset(): void {
    this.#tries = 0;
  }
}
