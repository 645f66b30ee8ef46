// What proxies say of endpoints they have taken out and of limits that refuse: told once each, also of what happened while nobody listened, and known while
// it stands.

import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { PausedClock } from "../base/clock.ts";
import { StreamMetricsMessageSchema } from "../wire/gen/envoy/service/metrics/v3/metrics_service_pb.ts";
import { MetricType } from "../wire/gen/io/prometheus/client/metrics_pb.ts";
import { createInsight, type Reporter } from "./insight.ts";

const web: Reporter = { namespace: "shop", workload: "web-1", key: "shop/web-1", labels: { app: "web" } };
const cluster = "outbound|80||reviews.shop.svc.cluster.local";
const out = { cluster, endpoint: "10.0.0.1:80", workload: "reviews-1", workload_namespace: "shop", reason: "consecutive_5xx" };
const full = { cluster, limit: "max_requests" };

function family(name: string, value: number, labels: Readonly<Record<string, string>>) {
  const gauge = !name.endsWith("_total");
  const label = Object.entries(labels).map(([key, text]) => ({ name: key, value: text }));
  return {
    name,
    type: gauge ? MetricType.GAUGE : MetricType.COUNTER,
    metric: [{ label, ...(gauge ? { gauge: { value } } : { counter: { value } }) }],
  };
}

const said = (...[ejections, ejected, opened, open]: readonly number[]) =>
  create(StreamMetricsMessageSchema, {
    envoyMetrics: [
      ...(ejections === undefined ? [] : [family("weft_endpoint_ejections_total", ejections, out)]),
      ...(ejected === undefined ? [] : [family("weft_endpoint_ejected", ejected, out)]),
      ...(opened === undefined ? [] : [family("weft_circuit_breaker_opened_total", opened, full)]),
      ...(open === undefined ? [] : [family("weft_circuit_breaker_open", open, full)]),
    ],
  });

function setup() {
  const told: string[] = [];
  const insight = createInsight({
    clock: new PausedClock(1_000_000_000_000),
    trustDomain: "cluster.local",
    workloads: () => [],
    workload: () => undefined,
    circuits: {
      ejected: ({ by, workload, reason }) => void told.push(`${by} ejects ${workload}: ${reason}`),
      opened: ({ by, limit }) => void told.push(`${by} refuses: ${limit}`),
    },
  });
  return { insight, told };
}

const ejects = "shop/web-1 ejects shop/reviews-1: consecutive_5xx";
const refuses = "shop/web-1 refuses: max_requests";

test("each ejection and each opening is told once, and stands until it is over", () => {
  const { insight, told } = setup();
  const ear = insight.metrics(web);
  ear.message(said());
  ear.message(said(1, 1, 1, 1));
  expect(told).toEqual([ejects, refuses]);
  expect(insight.circuits("shop/web-1")).toMatchObject({ ejected: [{ endpoint: "10.0.0.1:80" }], open: [full] });
  ear.message(said(1, 0, 1, 0));
  expect(insight.circuits("shop/web-1")).toEqual({ ejected: [], open: [] });
  ear.message(said(2, 1));
  expect(told).toEqual([ejects, refuses, ejects]);
});

test("what a proxy did while the stream was down is told when it is back", () => {
  const { insight, told } = setup();
  const first = insight.metrics(web);
  first.message(said(1, 0, 0, 0));
  first.end();
  expect(insight.circuits("shop/web-1")).toBeUndefined();
  insight.metrics(web).message(said(3, 1, 1, 0));
  expect(told).toEqual([ejects, refuses]);
  expect(insight.circuits("shop/web-1")).toMatchObject({ ejected: [{ reason: "consecutive_5xx" }], open: [] });
});

test("to a control plane that is new, what stands is news and what is past is not", () => {
  const { insight, told } = setup();
  insight.metrics(web).message(said(5, 1, 9, 0));
  expect(told).toEqual([ejects]);
});

test("a proxy that no longer speaks of a cluster has nothing standing", () => {
  const { insight } = setup();
  const first = insight.metrics(web);
  first.message(said(1, 1, 1, 1));
  first.end();
  insight.metrics(web).message(said());
  expect(insight.circuits("shop/web-1")).toEqual({ ejected: [], open: [] });
});
