// Owns: the counters of faults that were injected and of requests that were mirrored. Series are made with the first of their kind.

import type { Family, MetricRegistry, Series } from "../../base/metric.ts";

export class FaultMetrics {
  readonly #injected: Family<Series>;

  constructor(metrics: MetricRegistry) {
    this.#injected = metrics.counter(
      "weft_faults_injected_total",
      "Faults injected by configuration: delay, abort, reset, rate; overflow = not injected, as too many were active.",
      ["kind", "route"],
    );
  }

  injected(kind: "delay" | "abort" | "reset" | "rate" | "overflow", route: string): void {
    this.#injected.with([kind, route]).value++;
  }
}

export class MirrorMetrics {
  /** Copies under way. */
  active = 0;
  readonly #copies: Family<Series>;

  constructor(metrics: MetricRegistry) {
    this.#copies = metrics.counter("weft_mirrored_requests_total", "Copies of requests sent to mirrors, by what became of them.", [
      "cluster",
      "outcome",
    ]);
    const active = metrics.gauge("weft_mirrored_requests_active", "Copies of requests under way.").with([]);
    metrics.beforeExport(() => {
      active.value = this.active;
    });
  }

  count(cluster: string, outcome: string): void {
    this.#copies.with([cluster, outcome]).value++;
  }
}
