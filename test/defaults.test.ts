// What docs/reference/defaults.md says of a service that nobody has configured is what its callers' proxy gets and makes of it.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { toBinary } from "@bufbuild/protobuf";
import type { KubeObject } from "../src/api/meta.ts";
import { buildWorld } from "../src/compile/compile.ts";
import { outbound } from "../src/compile/emit/cluster.ts";
import { portPlan } from "../src/compile/plan/mesh.ts";
import type { ClusterConfig } from "../src/proxy/config.ts";
import { decodeResource } from "../src/proxy/xds/decode/resource.ts";
import { ClusterSchema } from "../src/wire/gen/envoy/config/cluster/v3/cluster_pb.ts";

const page = readFileSync(join(import.meta.dir, "../docs/reference/defaults.md"), "utf8");

/** What the page says Weft does. */
function said(what: string): string {
  const row = page.split("\n").find((line) => line.startsWith(`| ${what} |`));
  return row?.split("|")[2]?.trim() ?? "";
}

const service = (ports: object[]): KubeObject =>
  ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "cart", namespace: "shop" },
    spec: { selector: { app: "cart" }, ports },
  }) as KubeObject;

function clusterOf(port: object, number: number, ...more: KubeObject[]): ClusterConfig {
  const plan = portPlan(buildWorld([service([port]), ...more], "cluster.local"), `outbound|${number}||cart.shop.svc.cluster.local`);
  if (plan === undefined) throw new Error("no such port");
  const world = { readFile: () => new Uint8Array(0), staticSecrets: new Map(), controlClusters: new Set<string>() };
  const found = decodeResource("cluster", toBinary(ClusterSchema, outbound(plan, "cluster.local")), world);
  if ("violations" in found) throw new Error(JSON.stringify(found.violations));
  return found.config as ClusterConfig;
}

const judged: KubeObject = {
  apiVersion: "networking.istio.io/v1",
  kind: "DestinationRule",
  metadata: { name: "cart", namespace: "shop" },
  spec: { host: "cart", trafficPolicy: { outlierDetection: {} } },
} as KubeObject;

test("a service that nobody has configured", () => {
  const http = clusterOf({ name: "http", port: 80 }, 80);
  expect(said("policy for HTTP")).toBe("peak EWMA of 5");
  expect(http.balance).toMatchObject({ kind: "peak_ewma" });
  expect(said("latency forgotten within")).toBe(`${(http.balance as { decayMs: number }).decayMs / 1_000} s`);
  expect(said("policy for opaque TCP")).toBe("least request of 2");
  expect(clusterOf({ name: "tcp-db", port: 5432 }, 5432).balance).toMatchObject({ kind: "least_request", choices: 2 });
  expect([said("outlier detection"), said("slow start"), said("active checks by callers")]).toEqual(["off", "off", "off"]);
  expect([http.outliers, http.slowStart, http.healthChecks, http.connections]).toEqual([undefined, undefined, undefined, undefined]);
  const { maxConnections, maxPending, maxRequests, maxRetries } = http.limits;
  expect(said("connections to a cluster; requests waiting; requests")).toBe("1 024 each");
  expect([maxConnections, maxPending, maxRequests]).toEqual([1_024, 1_024, 1_024]);
  expect(said("retries at one time")).toStartWith("1 024");
  expect(maxRetries).toBe(1_024);
  expect(said("time to connect")).toBe(`${http.connectTimeoutMs / 1_000} s`);
});

test("a service whose rule says no more than that its instances are judged", () => {
  const { outliers, panicPercent } = clusterOf({ name: "http", port: 80 }, 80, judged);
  expect(said("5xx in a row, once it is on")).toBe(String(outliers?.consecutive5xx));
  expect(said("gateway failures in a row")).toBe("off");
  expect(outliers?.enforceGateway).toBe(0);
  expect(said("success rate, share of failures")).toBe("off");
  expect([outliers?.successRate, outliers?.failurePercentage, outliers?.latency]).toEqual([null, null, null]);
  const seconds = (ms = 0) => ms / 1_000;
  expect(said("judged every; out for")).toBe(
    `${seconds(outliers?.intervalMs)} s; ${seconds(outliers?.baseEjectionMs)} s, growing to ${seconds(outliers?.maxEjectionMs)}`,
  );
  expect(said("most that are out")).toStartWith(`${outliers?.maxEjectionPercent} %, at least one`);
  expect(outliers?.alwaysOne).toBe(true);
  expect(said("return")).toEndWith(`within ${seconds(outliers?.returnMs)} s`);
  expect(said("panic: health is not believed below")).toEndWith(`\`outlierDetection\` ${panicPercent}`);
});
