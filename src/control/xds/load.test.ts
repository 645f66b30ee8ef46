// What clients report of their calls, and what they make up.

import { expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { MetricRegistry } from "../../base/metric.ts";
import { ClusterStatsSchema } from "../../wire/gen/envoy/config/endpoint/v3/load_report_pb.ts";
import { exposition } from "../exposition.ts";
import type { Admitted } from "./admission.ts";
import { LoadReports, maxClusters, maxSeries } from "./load.ts";

const node = (serviceAccount: string): Admitted => ({
  namespace: "shop",
  workload: "web-1",
  key: "shop/web-1",
  snapshotKey: "grpc shop/web-1",
  client: "grpc",
  identity: { trustDomain: "cluster.local", namespace: "shop", serviceAccount },
  labels: {},
});
const stats = (init: MessageInitShape<typeof ClusterStatsSchema>) => create(ClusterStatsSchema, init);
const calls = (clusterName: string, ok: bigint, failed = 0n) =>
  stats({ clusterName, upstreamLocalityStats: [{ totalSuccessfulRequests: ok, totalErrorRequests: failed }] });

function reports(known: (name: string) => boolean = () => true) {
  const registry = new MetricRegistry();
  const loads = new LoadReports(registry, known);
  return {
    loads,
    lines: () =>
      exposition(registry)
        .split("\n")
        .filter((line) => line.startsWith("weft_xds_load")),
  };
}

test("reports add up by caller, cluster and outcome", () => {
  const { loads, lines } = reports();
  loads.add(node("web"), [calls("a", 2n, 1n), stats({ clusterName: "a", totalDroppedRequests: 4n })]);
  loads.add(node("web"), [calls("a", 3n)]);
  expect(lines().sort()).toEqual([
    'weft_xds_load_dropped_total{source_namespace="shop",source="web",cluster="a"} 4',
    'weft_xds_load_requests_total{source_namespace="shop",source="web",cluster="a",outcome="error"} 1',
    'weft_xds_load_requests_total{source_namespace="shop",source="web",cluster="a",outcome="success"} 5',
  ]);
});

test("clusters that are not the mesh's are one series", () => {
  const { loads, lines } = reports((name) => name === "a");
  for (let n = 0; n < 100; n++) loads.add(node("web"), [calls(`made-up-${n}`, 1n)]);
  expect(lines()).toEqual(['weft_xds_load_requests_total{source_namespace="shop",source="web",cluster="unknown",outcome="success"} 100']);
});

test("so many series and no more; the others are counted together", () => {
  const { loads, lines } = reports();
  for (let n = 0; n < maxSeries + 7; n++) loads.add(node("web"), [calls(`c${n}`, 1n)]);
  const found = lines();
  expect(found.length).toBe(maxSeries + 1);
  expect(found).toContain('weft_xds_load_requests_total{source_namespace="",source="other",cluster="other",outcome="success"} 7');
});

test("of one report so many clusters are looked at; absurd numbers spoil no counter", () => {
  const { loads, lines } = reports();
  loads.add(node("web"), [calls("a", 2n ** 64n - 1n), ...Array.from({ length: maxClusters }, () => calls("a", 1n))]);
  expect(lines()).toEqual([
    `weft_xds_load_requests_total{source_namespace="shop",source="web",cluster="a",outcome="success"} ${maxClusters - 1}`,
  ]);
});
