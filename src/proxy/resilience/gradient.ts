// Owns: how many requests a service is best given at once, found by comparing what it takes for one now with what it took when it was not busy (the
// gradient of Netflix's concurrency-limits and of Envoy's adaptive_concurrency). Needs no setting. Time and latencies come by parameter.

/** Reasons in docs/reference/defaults.md. Times in ms. */
export const gradientDefaults = {
  /** To begin with. */
  initial: 20,
  /** One request at a time would make every caller wait for every other. */
  min: 2,
  max: 1_000,
  /** A judgement is made of so much time, and so many answers; after a second of fewer ones. */
  windowMs: 100,
  samples: 10,
  /** Latency may be this many times that of the idle service before the limit falls. */
  tolerance: 1.1,
  /** The idle latency is measured anew after this long, at half the limit for one window. */
  renewMs: 30_000,
  /** Sooner where the first measurement was made of a busy service, or the last one found it a good deal quicker than thought. */
  soonMs: 500,
  better: 0.85,
} as const;

const mostSamples = 512;

export class Gradient {
  limit: number;
  /** Median latency of the service when it is not busy; 0 = not known yet. */
  baseMs = 0;
  readonly #max: number;
  readonly #samples = new Float64Array(mostSamples);
  #count = 0;
  #seen = 0;
  #startMs = Number.NaN;
  #busiest = 0;
  #renewAtMs = Number.POSITIVE_INFINITY;
  /** The limit to go back to after a probe; 0 = none is under way. */
  #before = 0;

  constructor(max: number = gradientDefaults.max) {
    this.#max = max;
    this.limit = Math.min(gradientDefaults.initial, max);
  }

  /** A request was let go on while so many, it among them, were with the service. */
  started(active: number): void {
    if (active > this.#busiest) this.#busiest = active;
  }

  /** The service took so long for one. `random` spreads the probes of many proxies. */
  finished(latencyMs: number, nowMs: number, random: () => number): void {
    if (Number.isNaN(this.#startMs)) this.#startMs = nowMs;
    if (this.#count < mostSamples) this.#samples[this.#count++] = latencyMs;
    else this.#samples[(random() * mostSamples) | 0] = latencyMs;
    this.#seen++;
    const passed = nowMs - this.#startMs;
    if (passed < gradientDefaults.windowMs || (this.#seen < gradientDefaults.samples && passed < 1_000)) return;
    const sorted = this.#samples.subarray(0, this.#count).sort();
    this.#judge(sorted[sorted.length >> 1] as number, nowMs, random);
    this.#count = 0;
    this.#seen = 0;
    this.#busiest = 0;
    this.#startMs = nowMs;
  }

  #judge(median: number, nowMs: number, random: () => number): void {
    const sample = Math.max(median, 0.01);
    if (this.#before > 0) {
      // Half as many as before: what it takes now is what it takes, unless it is much less than was thought (we began when it was busy): then half again soon.
      const better = sample < this.baseMs * gradientDefaults.better;
      this.limit = better ? Math.max(gradientDefaults.min, (this.#before * sample) / this.baseMs) : this.#before;
      this.baseMs = sample;
      this.#before = 0;
      this.#renewLater(nowMs, random, better ? gradientDefaults.soonMs : gradientDefaults.renewMs);
      return;
    }
    const full = this.#busiest >= Math.floor(this.limit);
    if (this.baseMs === 0) {
      this.baseMs = sample;
      this.#renewLater(nowMs, random, full ? gradientDefaults.soonMs : gradientDefaults.renewMs);
    } else if (sample < this.baseMs) this.baseMs += (sample - this.baseMs) / 2;
    else if (this.#busiest * 2 <= this.limit) {
      // Not busy, and slower than it was: so it has changed.
      this.baseMs += (sample - this.baseMs) * 0.1;
      this.#renewLater(nowMs, random, gradientDefaults.renewMs);
    } else if (nowMs >= this.#renewAtMs) {
      this.#before = this.limit;
      this.limit = Math.max(gradientDefaults.min, this.limit / 2);
      return;
    }
    const gradient = Math.min(1.2, Math.max(0.5, (this.baseMs * gradientDefaults.tolerance) / sample));
    // Who does not need the limit tells nothing about it: a slow answer may be as long as it is.
    if (!full) return;
    const room = Math.max(0.5, Math.sqrt(this.limit) / 4);
    this.limit = Math.min(this.#max, Math.max(gradientDefaults.min, this.limit * gradient + room));
  }

  #renewLater(nowMs: number, random: () => number, waitMs: number): void {
    this.#renewAtMs = nowMs + waitMs * (1 + random() / 5);
  }
}
