// Owns: a token bucket that fills continuously. Time comes by parameter; it must not go back.

export interface BucketConfig {
  /** Also what it starts with. */
  readonly maxTokens: number;
  readonly perFill: number;
  readonly fillMs: number;
}

export class TokenBucket {
  readonly config: BucketConfig;
  #tokens: number;
  #atMs: number;

  constructor(config: BucketConfig, nowMs: number) {
    this.config = config;
    this.#tokens = config.maxTokens;
    this.#atMs = nowMs;
  }

  /** Whole tokens left. */
  left(nowMs: number): number {
    this.#fill(nowMs);
    return Math.floor(this.#tokens + 1e-9);
  }

  /** One token; false: none, and nothing is taken. */
  take(nowMs: number): boolean {
    this.#fill(nowMs);
    if (this.#tokens + 1e-9 < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Until the next token, in ms; 0 = there is one. */
  waitMs(nowMs: number): number {
    this.#fill(nowMs);
    return this.#tokens + 1e-9 >= 1 ? 0 : ((1 - this.#tokens) * this.config.fillMs) / this.config.perFill;
  }

  #fill(nowMs: number): void {
    if (nowMs <= this.#atMs) return;
    const more = ((nowMs - this.#atMs) * this.config.perFill) / this.config.fillMs;
    this.#atMs = nowMs;
    this.#tokens = Math.min(this.config.maxTokens, this.#tokens + more);
  }
}
