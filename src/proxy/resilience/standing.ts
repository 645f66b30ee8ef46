// Owns: gauges of what is out of order now, one series each: 1 while it lasts, then 0 for long enough that everybody who reads metrics has seen it, then
// nothing. Bounded by whoever raises them.

import type { Family, Series } from "../../base/metric.ts";

/** Zero is shown so long: scrapes come every 15 to 60 s, the control plane's stream every second. */
const shownMs = 120_000;

export class Standing {
  readonly #family: Family<Series>;
  readonly #over = new Map<Series, number>();

  constructor(family: Family<Series>) {
    this.#family = family;
  }

  raise(labels: readonly string[]): void {
    const series = this.#family.with(labels);
    series.value = 1;
    this.#over.delete(series);
  }

  /** Of the series that `fits`, all that stand. */
  lower(fits: (labels: readonly string[]) => boolean, nowMs: number): void {
    for (const series of this.#family.series) {
      if (series.value === 0 || !fits(series.labels)) continue;
      series.value = 0;
      this.#over.set(series, nowMs);
    }
  }

  /** Before each export. */
  tidy(nowMs: number): void {
    for (const [series, sinceMs] of this.#over) {
      if (nowMs - sinceMs < shownMs) continue;
      this.#over.delete(series);
      this.#family.remove(series);
    }
  }
}
