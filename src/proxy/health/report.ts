// Owns: what is told of endpoints that leave the balance and come back: a log line each, and metrics that go up with the others. Bounded: at most
// `mostNamed` endpoints are named in metrics, further ones are counted together.

import type { Logger } from "../../base/log.ts";
import type { Family, MetricRegistry, Series } from "../../base/metric.ts";
import type { Cluster } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { Standing } from "../resilience/standing.ts";
import type { EjectionReason, HealthEvents } from "./outliers.ts";

const mostNamed = 500;

/** What has become of active checks. */
export interface CheckEvents {
  checked(endpoint: Endpoint, good: boolean): void;
  /** `detail`: what the last check saw. */
  wentDown(endpoint: Endpoint, detail: string): void;
  cameUp(endpoint: Endpoint): void;
}

export class HealthReport implements HealthEvents, CheckEvents {
  readonly #log: Logger;
  readonly #ejections: Family<Series>;
  readonly #spared: Family<Series>;
  readonly #checks: Family<Series>;
  readonly #states: Family<Series>;
  readonly #panic: Family<Series>;
  readonly #named = new Set<string>();
  /** Who is out now. */
  readonly #out: Standing;
  readonly #standing = new Set<Endpoint>();
  readonly #now: () => number;

  /** `clusters` are those in force. */
  constructor(metrics: MetricRegistry, log: Logger, clusters: () => Iterable<Cluster>, now: () => number) {
    this.#log = log;
    this.#now = now;
    this.#ejections = metrics.counter("weft_endpoint_ejections_total", "Endpoints taken out of the balance, by what was seen.", [
      "cluster",
      "endpoint",
      "workload",
      "workload_namespace",
      "reason",
    ]);
    this.#spared = metrics.counter(
      "weft_endpoint_ejections_spared_total",
      "Endpoints that stayed although they should have been ejected, as too many are out already.",
      ["cluster", "reason"],
    );
    this.#checks = metrics.counter("weft_health_checks_total", "Active health checks.", ["cluster", "result"]);
    this.#states = metrics.gauge("weft_cluster_endpoints", "Endpoints of clusters that are judged, by state.", ["cluster", "state"]);
    this.#panic = metrics.gauge("weft_cluster_panic", "1 while too few endpoints are available and all are used.", ["cluster"]);
    this.#out = new Standing(
      metrics.gauge("weft_endpoint_ejected", "1 while an endpoint is out of the balance, by what was seen.", [
        "cluster",
        "endpoint",
        "workload",
        "workload_namespace",
        "reason",
      ]),
    );
    metrics.beforeExport(() => {
      // Gone for good: the balance tells of no return.
      for (const endpoint of this.#standing) if (endpoint.retired) this.#back(endpoint);
      this.#out.tidy(now());
      for (const cluster of clusters()) this.#count(cluster);
    });
  }

  #count(cluster: Cluster): void {
    const { name, outliers, healthChecks } = cluster.config;
    if (outliers === undefined && healthChecks === undefined && !cluster.panic) return;
    let available = 0;
    let ejected = 0;
    let failing = 0;
    let unhealthy = 0;
    for (const endpoint of cluster.endpoints) {
      if (!endpoint.config.healthy) unhealthy++;
      else if (endpoint.ejected) ejected++;
      else if (endpoint.failing) failing++;
      else available++;
    }
    this.#states.with([name, "available"]).value = available;
    this.#states.with([name, "ejected"]).value = ejected;
    this.#states.with([name, "failing"]).value = failing;
    this.#states.with([name, "unhealthy"]).value = unhealthy;
    this.#panic.with([name]).value = cluster.panic ? 1 : 0;
  }

  /** A cluster is gone: nothing is exported of it any more. */
  forget(cluster: string): void {
    for (const family of [this.#ejections, this.#spared, this.#checks, this.#states, this.#panic])
      for (const series of [...family.series]) if (series.labels[0] === cluster) family.remove(series);
    this.#out.lower((labels) => labels[0] === cluster, this.#now());
    for (const key of [...this.#named]) if (key.startsWith(`${cluster}\n`)) this.#named.delete(key);
  }

  ejected(endpoint: Endpoint, reason: EjectionReason, detail: string, forMs: number): void {
    this.#countOut(endpoint, reason);
    this.#log.warn({ ...facts(endpoint), reason, detail, seconds: Math.round(forMs / 100) / 10 }, "An endpoint was ejected.");
  }

  returned(endpoint: Endpoint, afterMs: number): void {
    this.#back(endpoint, (reason) => reason !== "health_check");
    this.#log.info({ ...facts(endpoint), seconds: Math.round(afterMs / 100) / 10 }, "An ejected endpoint is back in the balance.");
  }

  spared(endpoint: Endpoint, reason: EjectionReason): void {
    this.#spared.with([endpoint.cluster.config.name, reason]).value++;
  }

  checked(endpoint: Endpoint, good: boolean): void {
    this.#checks.with([endpoint.cluster.config.name, good ? "success" : "failure"]).value++;
  }

  wentDown(endpoint: Endpoint, detail: string): void {
    this.#countOut(endpoint, "health_check");
    this.#log.warn({ ...facts(endpoint), detail }, "An endpoint fails its health checks.");
  }

  cameUp(endpoint: Endpoint): void {
    this.#back(endpoint, (reason) => reason === "health_check");
    this.#log.info(facts(endpoint), "An endpoint passes its health checks.");
  }

  #back(endpoint: Endpoint, of: (reason: string) => boolean = () => true): void {
    if (endpoint.retired || (!endpoint.ejected && !endpoint.failing)) this.#standing.delete(endpoint);
    const { name } = endpoint.cluster.config;
    const address = `${endpoint.host}:${endpoint.port}`;
    this.#out.lower((labels) => labels[0] === name && labels[1] === address && of(labels[4] as string), this.#now());
  }

  #countOut(endpoint: Endpoint, reason: string): void {
    const { name } = endpoint.cluster.config;
    const address = `${endpoint.host}:${endpoint.port}`;
    const key = `${name}\n${address}`;
    const named = this.#named.has(key) || this.#named.size < mostNamed;
    if (named) this.#named.add(key);
    const workload = named ? endpoint.config.workload : null;
    const labels = [name, named ? address : "other", workload?.workload ?? "", workload?.namespace ?? "", reason];
    this.#ejections.with(labels).value++;
    if (!named) return;
    this.#out.raise(labels);
    this.#standing.add(endpoint);
  }
}

function facts(endpoint: Endpoint): Record<string, unknown> {
  const { workload } = endpoint.config;
  return {
    cluster: endpoint.cluster.config.name,
    endpoint: `${endpoint.host}:${endpoint.port}`,
    ...(workload === null ? {} : { workload: `${workload.namespace}/${workload.workload}` }),
  };
}
