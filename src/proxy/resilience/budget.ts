// Owns: how many retries (or hedges) a cluster may be sent beside its requests: a share of what it was sent in the last ten seconds, and a few in any
// second so that a quiet client can retry at all. Counts only; who asks and what happens without leave stands in http/attempt.ts.

/** The defaults, with their reasons in docs/reference/defaults.md. Shares in percent of requests. */
export const budgetDefaults = { retryPercent: 20, retriesPerSecond: 10, hedgePercent: 10, hedgesPerSecond: 1 } as const;

/** Long enough that a burst of failures after a quiet moment is judged by the load before it; Linkerd's and Gateway API's number. */
export const windowSeconds = 10;

export class Budget {
  readonly #percent: number;
  readonly #perSecond: number;
  readonly #requests = new Uint32Array(windowSeconds);
  readonly #spent = new Uint32Array(windowSeconds);
  #second = Number.NEGATIVE_INFINITY;
  #slot = 0;
  #requestSum = 0;
  #spentSum = 0;

  constructor(percent: number, perSecond: number) {
    this.#percent = percent;
    this.#perSecond = perSecond;
  }

  /** A request was begun. `nowMs` never goes back. */
  note(nowMs: number): void {
    this.#turn(nowMs);
    this.#requests[this.#slot] = (this.#requests[this.#slot] as number) + 1;
    this.#requestSum++;
  }

  /** Leave for one more; false: none, and nothing is taken. */
  take(nowMs: number): boolean {
    this.#turn(nowMs);
    const share = (this.#spentSum + 1) * 100 <= this.#percent * this.#requestSum;
    if (!share && (this.#spent[this.#slot] as number) >= this.#perSecond) return false;
    this.#spent[this.#slot] = (this.#spent[this.#slot] as number) + 1;
    this.#spentSum++;
    return true;
  }

  #turn(nowMs: number): void {
    const second = Math.floor(nowMs / 1_000);
    if (second === this.#second) return;
    let steps = second - this.#second;
    if (!(steps < windowSeconds)) {
      this.#requests.fill(0);
      this.#spent.fill(0);
      this.#requestSum = 0;
      this.#spentSum = 0;
      steps = 0;
    }
    for (; steps > 0; steps--) {
      this.#slot = (this.#slot + 1) % windowSeconds;
      this.#requestSum -= this.#requests[this.#slot] as number;
      this.#spentSum -= this.#spent[this.#slot] as number;
      this.#requests[this.#slot] = 0;
      this.#spent[this.#slot] = 0;
    }
    this.#second = second;
  }
}
