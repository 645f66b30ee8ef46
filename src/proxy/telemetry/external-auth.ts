// Owns: the counter of requests that an authorization service was asked about. Series are made with the first of their kind.

import type { Family, MetricRegistry, Series } from "../../base/metric.ts";

export class ExternalAuthMetrics {
  readonly #asked: Family<Series>;

  constructor(metrics: MetricRegistry) {
    this.#asked = metrics.counter(
      "weft_external_auth_requests_total",
      "Requests that an authorization service was asked about: ok, denied, or error with what became of them (error_allowed, error_denied).",
      ["listener", "result"],
    );
  }

  count(listener: string, result: "ok" | "denied" | "error_allowed" | "error_denied"): void {
    this.#asked.with([listener, result]).value++;
  }
}
