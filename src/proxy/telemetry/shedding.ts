// Owns: the counters of requests refused by rate limits and admission, and the gauges of admission. Series are made with the first of their kind.

import type { Family, MetricRegistry, Series } from "../../base/metric.ts";

export class SheddingMetrics {
  readonly #limited: Family<Series>;
  readonly #asked: Family<Series>;
  readonly #shed: Family<Series>;
  readonly #queued: Family<Series>;
  readonly #gauges: Family<Series>;
  readonly #at = new Map<string, readonly [Series, Series, Series]>();

  constructor(metrics: MetricRegistry) {
    this.#limited = metrics.counter("weft_rate_limited_requests_total", "Requests refused by a local rate limit.", ["listener"]);
    this.#asked = metrics.counter(
      "weft_global_rate_limit_requests_total",
      "Requests that a rate limit service was asked about: ok, over_limit, or error with what became of them (error_allowed, error_denied).",
      ["listener", "result"],
    );
    this.#shed = metrics.counter(
      "weft_admission_shed_requests_total",
      "Requests refused because the service is full: queue-full, or waited = for longer than helps.",
      ["listener", "reason"],
    );
    this.#queued = metrics.counter("weft_admission_queued_requests_total", "Requests that waited for a place with the service.", [
      "listener",
    ]);
    this.#gauges = metrics.gauge("weft_admission", "Requests the service is given at once (limit), has (active), and that wait (queued).", [
      "listener",
      "what",
    ]);
  }

  rateLimited(listener: string): void {
    this.#limited.with([listener]).value++;
  }

  asked(listener: string, result: "ok" | "over_limit" | "error_allowed" | "error_denied"): void {
    this.#asked.with([listener, result]).value++;
  }

  shed(listener: string, reason: "queue-full" | "waited"): void {
    this.#shed.with([listener, reason]).value++;
  }

  queued(listener: string): void {
    this.#queued.with([listener]).value++;
  }

  at(listener: string, limit: number, active: number, queued: number): void {
    let series = this.#at.get(listener);
    if (series === undefined) {
      const of = (what: string) => this.#gauges.with([listener, what]);
      series = [of("limit"), of("active"), of("queued")];
      this.#at.set(listener, series);
    }
    series[0].value = limit;
    series[1].value = active;
    series[2].value = queued;
  }
}
