// Owns: what is told of limits that refuse (circuit breakers): counters, a gauge that stands while one is open, and a log line for each opening. Never
// decides: whoever refuses says so here. A request that is not refused does not come by.

import type { Logger } from "../../base/log.ts";
import type { Family, MetricRegistry, Series } from "../../base/metric.ts";
import { Standing } from "./standing.ts";

/** Which limit it was, by Envoy's names; `instances`: every instance is at a limit of its own. */
export type LimitName = "max_connections" | "max_pending_requests" | "max_requests" | "max_retries" | "retry_budget" | "instances";

/** It counts as open from its first refusal until it has refused nothing for so long: a limit that is touched a thousand times a second opens once. */
export const quietMs = 5_000;

/** Told by clusters. */
export interface Refusals {
  refused(cluster: string, limit: LimitName): void;
}

interface Open {
  readonly cluster: string;
  readonly limit: LimitName;
  readonly sinceMs: number;
  lastMs: number;
  refused: number;
}

export class Breakers implements Refusals {
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #refused: Family<Series>;
  readonly #opened: Family<Series>;
  readonly #standing: Standing;
  readonly #open = new Map<string, Open>();

  constructor(metrics: MetricRegistry, log: Logger, now: () => number) {
    this.#log = log;
    this.#now = now;
    this.#refused = metrics.counter(
      "weft_circuit_breaker_refused_total",
      "Requests, connections and retries refused by a limit of a cluster.",
      ["cluster", "limit"],
    );
    this.#opened = metrics.counter("weft_circuit_breaker_opened_total", "Limits of clusters that began to refuse.", ["cluster", "limit"]);
    this.#standing = new Standing(
      metrics.gauge("weft_circuit_breaker_open", "1 while a limit of a cluster refuses, and 5 s longer.", ["cluster", "limit"]),
    );
    metrics.beforeExport(() => this.#settle());
  }

  refused(cluster: string, limit: LimitName): void {
    this.#refused.with([cluster, limit]).value++;
    const nowMs = this.#now();
    const key = `${limit} ${cluster}`;
    const open = this.#open.get(key);
    if (open !== undefined && nowMs - open.lastMs < quietMs) {
      open.lastMs = nowMs;
      open.refused++;
      return;
    }
    this.#open.set(key, { cluster, limit, sinceMs: nowMs, lastMs: nowMs, refused: 1 });
    this.#opened.with([cluster, limit]).value++;
    this.#standing.raise([cluster, limit]);
    this.#log.warn({ cluster, limit }, "A limit of a cluster refuses what is beyond it.");
  }

  /** A cluster is gone: what stood for it is over, and its counters are no longer exported. */
  forget(cluster: string): void {
    for (const [key, open] of this.#open) if (open.cluster === cluster) this.#open.delete(key);
    this.#standing.lower((labels) => labels[0] === cluster, this.#now());
    for (const family of [this.#refused, this.#opened])
      for (const series of [...family.series]) if (series.labels[0] === cluster) family.remove(series);
  }

  #settle(): void {
    const nowMs = this.#now();
    for (const [key, { cluster, limit, sinceMs, lastMs, refused }] of this.#open) {
      if (nowMs - lastMs < quietMs) continue;
      this.#open.delete(key);
      this.#standing.lower((labels) => labels[0] === cluster && labels[1] === limit, nowMs);
      this.#log.info(
        { cluster, limit, refused, seconds: Math.round((lastMs - sinceMs) / 100) / 10 },
        "A limit of a cluster refuses no more.",
      );
    }
    this.#standing.tidy(nowMs);
  }
}
