// Owns: the names of the control plane's own metrics.

import { type Family, type MetricRegistry, observe, type Series } from "../base/metric.ts";
import type { Publication } from "./publish/publisher.ts";

export interface ControlMetrics {
  published(publication: Publication): void;
  readonly compileFailures: Series;
  readonly rejections: Family<Series>;
  readonly responses: Family<Series>;
  readonly certificates: Series;
  readonly proxies: Series;
}

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

export function controlMetrics(registry: MetricRegistry): ControlMetrics {
  const compile = registry.histogram("weft_compile_seconds", "Time one compile of the whole mesh took.", [], seconds);
  const push = registry.histogram(
    "weft_push_seconds",
    "From a change in the store until every open stream had been handed its part.",
    [],
    seconds,
  );
  const workloads = registry.counter("weft_published_snapshots_total", "Snapshots of workloads that changed.").with([]);
  return {
    published(publication) {
      observe(compile.with([]), compile.bounds, publication.compileMs / 1000);
      if (publication.workloads.length === 0) return;
      observe(push.with([]), push.bounds, publication.pushMs / 1000);
      workloads.value += publication.workloads.length;
    },
    compileFailures: registry
      .counter("weft_compile_failures_total", "Compiles that failed by a bug; the last good configuration stayed in force.")
      .with([]),
    rejections: registry.counter("weft_xds_rejections_total", "Responses a proxy rejected.", ["type"]),
    responses: registry.counter("weft_xds_responses_total", "Responses sent to proxies.", ["type"]),
    certificates: registry.counter("weft_certificates_issued_total", "Workload certificates signed.").with([]),
    proxies: registry.gauge("weft_connected_proxies", "Proxies with an open stream.").with([]),
  };
}
