// Owns: load reports (LRS): what gRPC programs and Envoys say of the calls they made, summed up by who called and what. A stream of one client adds to
// counters and to its own totals, and ends with nothing kept but the counters. Never balances anything by it.

import { create, toBinary } from "@bufbuild/protobuf";
import type { Family, MetricRegistry, Series } from "../../base/metric.ts";
import type { ClusterStats } from "../../wire/gen/envoy/config/endpoint/v3/load_report_pb.ts";
import { LoadStatsResponseSchema } from "../../wire/gen/envoy/service/load_stats/v3/lrs_pb.ts";
import type { Admitted } from "./admission.ts";

/** Often enough for a dashboard, seldom enough for thousands of clients. */
export const reportEverySeconds = 10;
/** Pairs of caller and cluster that have series of their own; those beyond count as `other`. A client makes up names at no cost. */
export const maxSeries = 5_000;
/** Clusters in one report; the rest is not looked at. */
export const maxClusters = 10_000;

/** What every reporter is asked for. */
export const loadRequest: Uint8Array = toBinary(
  LoadStatsResponseSchema,
  create(LoadStatsResponseSchema, { sendAllClusters: true, loadReportingInterval: { seconds: BigInt(reportEverySeconds), nanos: 0 } }),
);

export class LoadReports {
  readonly #requests: Family<Series>;
  readonly #dropped: Family<Series>;
  readonly #pairs = new Set<string>();
  readonly #known: (cluster: string) => boolean;

  /** `known`: whether a cluster of that name is the mesh's. */
  constructor(registry: MetricRegistry, known: (cluster: string) => boolean) {
    this.#known = known;
    this.#requests = registry.counter(
      "weft_xds_load_requests_total",
      "Calls that clients reported over LRS, by caller, cluster and outcome (success, error).",
      ["source_namespace", "source", "cluster", "outcome"],
    );
    this.#dropped = registry.counter("weft_xds_load_dropped_total", "Calls that clients reported as dropped by their own limits.", [
      "source_namespace",
      "source",
      "cluster",
    ]);
  }

  /** One report: what happened since the last of its stream. */
  add(node: Admitted, stats: readonly ClusterStats[]): void {
    for (const each of stats.slice(0, maxClusters)) {
      let ok = 0;
      let failed = 0;
      for (const locality of each.upstreamLocalityStats) {
        ok += count(locality.totalSuccessfulRequests);
        failed += count(locality.totalErrorRequests);
      }
      const dropped = count(each.totalDroppedRequests);
      if (ok + failed + dropped === 0) continue;
      const [namespace, source, cluster] = this.#labels(node, each.clusterName);
      if (ok > 0) this.#requests.with([namespace, source, cluster, "success"]).value += ok;
      if (failed > 0) this.#requests.with([namespace, source, cluster, "error"]).value += failed;
      if (dropped > 0) this.#dropped.with([namespace, source, cluster]).value += dropped;
    }
  }

  #labels({ identity }: Admitted, cluster: string): readonly [string, string, string] {
    const { namespace, serviceAccount } = identity;
    if (!this.#known(cluster)) return [namespace, serviceAccount, "unknown"];
    const pair = `${namespace}/${serviceAccount} ${cluster}`;
    if (!this.#pairs.has(pair)) {
      if (this.#pairs.size >= maxSeries) return ["", "other", "other"];
      this.#pairs.add(pair);
    }
    return [namespace, serviceAccount, cluster];
  }
}

/** A report of more than this in one interval is a mistake or a lie, and must not spoil a counter for good. */
const mostPerReport = 1e12;

function count(value: bigint): number {
  const number = Number(value);
  return number <= mostPerReport ? number : 0;
}
