// From what proxies stream to what people read: differences, windows, the graph, the log. Time stands still unless a test moves it.

import { describe, expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { GraphAnswer, LogLine, SeriesAnswer } from "../api/live.ts";
import type { KubeObject } from "../api/meta.ts";
import { PausedClock } from "../base/clock.ts";
import { StreamAccessLogsMessageSchema } from "../wire/gen/envoy/service/accesslog/v3/als_pb.ts";
import { StreamMetricsMessageSchema } from "../wire/gen/envoy/service/metrics/v3/metrics_service_pb.ts";
import { MetricType } from "../wire/gen/io/prometheus/client/metrics_pb.ts";
import { addCounts, quantile } from "./histogram.ts";
import { createInsight, type Insight, type Reporter } from "./insight.ts";
import { maxLines } from "./logs.ts";

const web: Reporter = { namespace: "shop", workload: "web-1", key: "shop/web-1", labels: { app: "web" } };
const reviews: Reporter = {
  namespace: "shop",
  workload: "reviews-v1-1",
  key: "shop/reviews-v1-1",
  labels: { app: "reviews", version: "v1" },
};

type Labels = Record<string, string>;

const call = (more: Labels = {}): Labels => ({
  reporter: "source",
  source_workload: "web-1",
  source_workload_namespace: "shop",
  source_principal: "spiffe://cluster.local/ns/shop/sa/web",
  source_app: "web",
  source_version: "unknown",
  destination_workload: "reviews-v1-1",
  destination_workload_namespace: "shop",
  destination_app: "reviews",
  destination_version: "v1",
  destination_service: "reviews.shop.svc.cluster.local",
  destination_service_name: "reviews",
  destination_service_namespace: "shop",
  request_protocol: "http",
  response_code: "200",
  grpc_response_status: "unknown",
  response_flags: "-",
  connection_security_policy: "mutual_tls",
  ...more,
});

const pairs = (labels: Labels) => Object.entries(labels).map(([name, value]) => ({ name, value }));
const counter = (name: string, value: number, labels: Labels) => ({
  name,
  type: MetricType.COUNTER,
  metric: [{ label: pairs(labels), counter: { value } }],
});
/** `cumulative` for bounds 1, 5, 10, then the count of all. */
const latency = (cumulative: readonly [number, number, number, number], labels: Labels) => ({
  name: "istio_request_duration_milliseconds",
  type: MetricType.HISTOGRAM,
  metric: [
    {
      label: pairs(labels),
      histogram: {
        sampleCount: BigInt(cumulative[3]),
        sampleSum: cumulative[3] * 3,
        bucket: [1, 5, 10].map((upperBound, at) => ({ upperBound, cumulativeCount: BigInt(cumulative[at] as number) })),
      },
    },
  ],
});
const message = (...envoyMetrics: NonNullable<MessageInitShape<typeof StreamMetricsMessageSchema>["envoyMetrics"]>) =>
  create(StreamMetricsMessageSchema, { envoyMetrics });

function setup(workloads: readonly KubeObject[] = []) {
  const clock = new PausedClock(1_700_000_000_000);
  const insight = createInsight({
    clock,
    trustDomain: "cluster.local",
    workloads: () => workloads,
    workload: (namespace, name) => workloads.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name),
  });
  return { clock, insight };
}

function get(insight: Insight, path: string): Response {
  const response = insight.handle(new Request(`http://x${path}`), () => {});
  if (response === undefined) throw new Error(`nobody answers ${path}`);
  return response;
}

/** Sends `perSecond` requests a second for `seconds`, as cumulative counters. */
function traffic(s: ReturnType<typeof setup>, node: Reporter, seconds: number, perSecond: number, labels: Labels, start = 0): number {
  const ear = s.insight.metrics(node);
  let total = start;
  ear.message(message(counter("istio_requests_total", total, labels)));
  for (let i = 0; i < seconds; i++) {
    s.clock.advance(1000);
    total += perSecond;
    ear.message(message(counter("istio_requests_total", total, labels)));
  }
  return total;
}

describe("edges", () => {
  test("a steady stream of requests is a steady rate, with success and security", () => {
    const s = setup();
    traffic(s, web, 15, 20, call());
    const [edge] = s.insight.edges();
    expect(edge?.metadata).toMatchObject({ namespace: "shop", name: "web.reviews-v1" });
    expect(edge?.status).toMatchObject({
      source: { app: "web", namespace: "shop", workload: "web-1", version: "" },
      destination: { app: "reviews", version: "v1", service: "reviews", workload: "reviews-v1-1" },
      protocol: "http",
      windowSeconds: 10,
      requestsPerSecond: 20,
      successRatio: 1,
      mutualTls: true,
    });
  });

  test("what a proxy counted before we first heard of it is no traffic now", () => {
    const s = setup();
    traffic(s, web, 3, 10, call(), 1_000_000);
    expect(s.insight.edges()[0]?.status.requestsPerSecond).toBe(10);
  });

  test("a reconnect is no second helping; a gap is spread over its seconds; a restarted proxy counts from zero", () => {
    const s = setup();
    const total = traffic(s, web, 10, 10, call());
    const again = s.insight.metrics(web);
    s.clock.advance(10_000);
    again.message(message(counter("istio_requests_total", total + 100, call())));
    s.clock.advance(1000);
    expect(s.insight.edges()[0]?.status.requestsPerSecond).toBeCloseTo(10, 1);
    again.message(message(counter("istio_requests_total", 7, call())));
    s.clock.advance(1000);
    const { points } = seriesOf(s, "edge=shop/web>shop/reviews", 1);
    expect(points.reduce((sum, p) => sum + p.requestsPerSecond, 0)).toBeCloseTo(207, 0);
    expect(Math.max(...points.map((p) => p.requestsPerSecond))).toBeLessThan(20);
  });

  test("5xx and answers cut short are failures; 403 is an answer", () => {
    const s = setup();
    const ear = s.insight.metrics(web);
    const send = (n: number) =>
      ear.message(
        message(
          counter("istio_requests_total", 6 * n, call()),
          counter("istio_requests_total", 2 * n, call({ response_code: "403" })),
          counter("istio_requests_total", n, call({ response_code: "503", response_flags: "UH" })),
          counter("istio_requests_total", n, call({ response_code: "0", response_flags: "DC" })),
        ),
      );
    send(0);
    s.clock.advance(1000);
    send(10);
    s.clock.advance(1000);
    expect(s.insight.edges()[0]?.status.successRatio).toBe(0.8);
  });

  test("quantiles come from the histogram of the window", () => {
    const s = setup();
    const ear = s.insight.metrics(web);
    const send = (n: number) =>
      ear.message(message(counter("istio_requests_total", 100 * n, call()), latency([0, 90 * n, 100 * n, 100 * n], call())));
    send(0);
    s.clock.advance(1000);
    send(1);
    s.clock.advance(1000);
    const stats = s.insight.edges()[0]?.status;
    expect(stats?.p50Ms).toBeCloseTo(1 + (4 * 50) / 90, 2);
    expect(stats?.p99Ms).toBeCloseTo(5 + (5 * 9) / 10, 2);
  });

  test("the callee's word counts only where no caller speaks of the pair", () => {
    const s = setup();
    const inbound = call({ reporter: "destination", source_workload: "web", source_app: "web" });
    const stranger = call({
      reporter: "destination",
      source_app: "unknown",
      source_workload: "unknown",
      source_workload_namespace: "unknown",
      source_principal: "unknown",
      connection_security_policy: "none",
    });
    const atReviews = s.insight.metrics(reviews);
    const atWeb = s.insight.metrics(web);
    for (let n = 0; n < 3; n++) {
      atReviews.message(message(counter("istio_requests_total", 10 * n, inbound), counter("istio_requests_total", 3 * n, stranger)));
      atWeb.message(message(counter("istio_requests_total", 10 * n, call())));
      s.clock.advance(1000);
    }
    const shown = s.insight.edges().map((e) => [e.status.source.app, e.status.destination.app, e.status.mutualTls]);
    expect(shown).toEqual(
      [
        ["unknown", "reviews", false],
        ["web", "reviews", true],
      ].sort(),
    );
  });

  test("calls that a limit or a fault refused at the caller do not make the others unencrypted", async () => {
    const s = setup();
    const refused = {
      destination_workload: "unknown",
      destination_workload_namespace: "unknown",
      destination_app: "unknown",
      destination_version: "unknown",
    };
    const atWeb = s.insight.metrics(web);
    for (let n = 0; n < 3; n++) {
      const at = (flags: string) => call({ ...refused, response_code: "503", response_flags: flags, connection_security_policy: "none" });
      atWeb.message(
        message(
          counter("istio_requests_total", 10 * n, call()),
          counter("istio_requests_total", 90 * n, at("UO")),
          counter("istio_requests_total", 5 * n, at("FI")),
        ),
      );
      s.clock.advance(1000);
    }
    const shown = (await get(s.insight, "/insight/v1alpha1/graph?windowSeconds=10").json()) as GraphAnswer;
    expect(shown.edges.map(({ stats }) => [stats.destination.app, stats.mutualTls])).toEqual([["reviews", true]]);
  });

  test("of a pair of which every request was refused at the caller nothing is said about encryption", async () => {
    const s = setup();
    const atWeb = s.insight.metrics(web);
    for (let n = 0; n < 3; n++) {
      const at = call({ response_code: "503", response_flags: "UO", connection_security_policy: "none" });
      atWeb.message(message(counter("istio_requests_total", 90 * n, at)));
      s.clock.advance(1000);
    }
    const security = async () => {
      const shown = (await get(s.insight, "/insight/v1alpha1/graph?windowSeconds=10").json()) as GraphAnswer;
      return [...shown.edges.map(({ stats }) => stats.mutualTls), ...s.insight.edges().map(({ status }) => status.mutualTls)];
    };
    expect(await security()).toEqual([null, null]);
    // Calls that do travel say how.
    const plain = call({ connection_security_policy: "none" });
    for (let n = 0; n < 2; n++) {
      atWeb.message(message(counter("istio_requests_total", 10 * n, plain)));
      s.clock.advance(1000);
    }
    expect(await security()).toEqual([false, false]);
  });

  test("the callee named by its account is the caller that reports itself", () => {
    const s = setup();
    const inbound = call({
      reporter: "destination",
      source_workload: "frontend",
      source_app: "frontend",
      source_principal: "spiffe://cluster.local/ns/shop/sa/web",
    });
    const atReviews = s.insight.metrics(reviews);
    const atWeb = s.insight.metrics(web);
    for (let n = 0; n < 3; n++) {
      atReviews.message(message(counter("istio_requests_total", 10 * n, inbound)));
      atWeb.message(message(counter("istio_requests_total", 10 * n, call())));
      s.clock.advance(1000);
    }
    expect(s.insight.edges().map((e) => e.status.source.app)).toEqual(["web"]);
  });

  test("opaque TCP: bytes a second and open connections, which end with their proxy", () => {
    const s = setup();
    const tcp = call({
      request_protocol: "tcp",
      destination_app: "stock",
      destination_workload: "stock-1",
      destination_version: "unknown",
      destination_service_name: "stock",
    });
    const ear = s.insight.metrics(web);
    const send = (opened: number, closed: number, bytes: number) =>
      ear.message(
        message(
          counter("istio_tcp_connections_opened_total", opened, tcp),
          counter("istio_tcp_connections_closed_total", closed, tcp),
          counter("istio_tcp_sent_bytes_total", bytes, tcp),
          counter("istio_tcp_received_bytes_total", bytes * 2, tcp),
        ),
      );
    send(5, 2, 10_000);
    s.clock.advance(1000);
    send(7, 3, 11_000);
    s.clock.advance(1000);
    expect(s.insight.edges()[0]?.status).toMatchObject({
      protocol: "tcp",
      openConnections: 4,
      bytesPerSecond: 3000,
      successRatio: null,
      requestsPerSecond: 0,
      mutualTls: true,
    });
    ear.end();
    s.clock.advance(11_000);
    expect(s.insight.edges()[0]?.status.openConnections).toBe(0);
  });

  test("an edge without traffic goes from the picture after a minute", () => {
    const s = setup();
    traffic(s, web, 3, 10, call());
    s.clock.advance(30_000);
    expect(s.insight.edges()[0]?.status).toMatchObject({ requestsPerSecond: 0, successRatio: null });
    s.clock.advance(40_000);
    expect(s.insight.edges()).toEqual([]);
  });

  test("a subscriber hears of traffic, at most once a second", () => {
    const s = setup();
    let heard = 0;
    const stop = s.insight.subscribe(() => heard++);
    traffic(s, web, 5, 10, call());
    traffic(s, reviews, 5, 10, call({ reporter: "destination" }));
    expect(heard).toBeGreaterThan(3);
    expect(heard).toBeLessThan(12);
    stop();
    traffic(s, web, 3, 10, call(), 1000);
    expect(heard).toBeLessThan(12);
  });
});

function seriesOf(s: ReturnType<typeof setup>, query: string, minutes: number): SeriesAnswer {
  // Response.json is synchronous underneath, but only a promise says so.
  return JSON.parse(
    Bun.peek(get(s.insight, `/insight/v1alpha1/series?${encodeURI(query)}&minutes=${minutes}`).text()) as string,
  ) as SeriesAnswer;
}

describe("graph", () => {
  test("nodes from discovery and traffic, edges with their versions", async () => {
    const entry = (name: string, app: string, version: string, healthy: string | undefined): KubeObject => ({
      apiVersion: "networking.istio.io/v1",
      kind: "WorkloadEntry",
      metadata: { name, namespace: "shop", labels: { app, version } },
      spec: { address: "127.0.0.1" },
      ...(healthy === undefined ? {} : { status: { conditions: [{ type: "Healthy", status: healthy }] } }),
    });
    const s = setup([
      entry("r1", "reviews", "v1", "True"),
      entry("r2", "reviews", "v1", "False"),
      entry("r3", "reviews", "v2", undefined),
      entry("i", "idle", "", "True"),
    ]);
    traffic(s, web, 10, 9, call());
    const ear = s.insight.metrics({ ...web, key: "shop/web-2" });
    const v2 = call({ destination_version: "v2", destination_workload: "reviews-v2-1", response_code: "500" });
    ear.message(message(counter("istio_requests_total", 0, v2)));
    s.clock.advance(1000);
    ear.message(message(counter("istio_requests_total", 10, v2)));
    s.clock.advance(1000);
    const answer = (await get(s.insight, "/insight/v1alpha1/graph?windowSeconds=10").json()) as GraphAnswer;
    expect(answer.nodes.map((n) => n.id)).toEqual(["shop/idle", "shop/reviews", "shop/web"]);
    expect(answer.nodes[1]?.versions).toEqual([
      { version: "v1", instances: 2, ready: 1 },
      { version: "v2", instances: 1, ready: 1 },
    ]);
    expect(answer.edges).toHaveLength(1);
    const [edge] = answer.edges;
    expect(edge).toMatchObject({ id: "shop/web>shop/reviews", from: "shop/web", to: "shop/reviews" });
    expect(edge?.byVersion.map((v) => [v.version, v.successRatio])).toEqual([
      ["v1", 1],
      ["v2", 0],
    ]);
    expect(answer.nodes[1]?.requestsPerSecond).toBe(edge?.stats.requestsPerSecond as number);
    // v2 is younger than v1 within the window, and yet the rates of the versions add up.
    const sum = (edge?.byVersion ?? []).reduce((all, each) => all + each.requestsPerSecond, 0);
    expect(sum).toBeCloseTo(edge?.stats.requestsPerSecond as number, 1);
  });

  test("a question that makes no sense is answered with the word that is wrong", async () => {
    const { insight } = setup();
    for (const [path, says] of [
      ["graph?windowSeconds=0", "windowSeconds"],
      ["graph?windowSeconds=abc", "abc"],
      ["series", "either node="],
      ["series?node=a/b&minutes=99", "minutes"],
      ["logs?follow=maybe", "maybe"],
    ]) {
      const response = get(insight, `/insight/v1alpha1/${path}`);
      expect(response.status).toBe(400);
      expect(((await response.json()) as { message: string }).message).toContain(says as string);
    }
    expect(get(insight, "/insight/v1alpha1/series?node=no/body").status).toBe(404);
    expect(insight.handle(new Request("http://x/insight/v1alpha1/other"), () => {})).toBeUndefined();
  });

  test("a series has a point for each step, oldest first, also for a pair that fell silent", () => {
    const s = setup();
    traffic(s, web, 60, 10, call());
    s.clock.advance(120_000);
    const { stepSeconds, points } = seriesOf(s, "node=shop/reviews", 5);
    expect(stepSeconds).toBe(5);
    expect(points).toHaveLength(60);
    expect(points[1]!.at - points[0]!.at).toBe(5000);
    expect(points.filter((p) => p.requestsPerSecond === 10).length).toBeGreaterThan(10);
    expect(points.at(-1)).toMatchObject({ requestsPerSecond: 0, successRatio: null, p50Ms: null });
  });
});

describe("log", () => {
  const access = (path: string) =>
    create(StreamAccessLogsMessageSchema, {
      logEntries: {
        case: "httpLogs",
        value: {
          logEntry: [
            {
              commonProperties: {
                customTags: { reporter: "source", source: "web-1", destination: "reviews-v1-1", reason: "no healthy endpoint" },
                responseFlags: { noHealthyUpstream: true, upstreamRetryLimitExceeded: true },
                startTime: { seconds: 1_700_000_000n, nanos: 5_000_000 },
                duration: { seconds: 1n, nanos: 500_000_000 },
                upstreamRequestAttemptCount: 3,
              },
              request: { requestMethod: 1, authority: "reviews", path, requestId: "r-1" },
              response: { responseCode: 503 },
            },
          ],
        },
      },
    });
  const lines = async (response: Response) =>
    (await response.text())
      .split("\n")
      .filter((l) => l !== "")
      .map((l) => JSON.parse(l) as LogLine);

  test("an access log entry becomes a line a person can read", async () => {
    const { insight } = setup();
    insight.accessLogs(web).message(access("/a"));
    const [line] = await lines(get(insight, "/insight/v1alpha1/logs"));
    expect(line).toMatchObject({
      at: "2023-11-14T22:13:20.005Z",
      kind: "access",
      level: "error",
      namespace: "shop",
      workload: "web-1",
      message: "GET reviews/a 503 UH,URX: no healthy endpoint",
      access: { status: 503, flags: "UH,URX", durationMs: 1500, attempts: 3, destination: "reviews-v1-1", requestId: "r-1" },
    });
  });

  test("filters by namespace and application, and ends when not followed", async () => {
    const { insight } = setup();
    insight.accessLogs(web).message(access("/a"));
    insight.accessLogs({ ...reviews, namespace: "other" }).message(access("/b"));
    insight.event({ level: "info", message: "started", namespace: "", workload: "" });
    const paths = async (query: string) =>
      (await lines(get(insight, `/insight/v1alpha1/logs?${query}`))).map((l) => l.access?.path ?? l.message);
    expect(await paths("")).toEqual(["/a", "/b", "started"]);
    expect(await paths("namespace=other")).toEqual(["/b"]);
    expect(await paths("app=web")).toEqual(["/a"]);
    expect(await paths("tail=1")).toEqual(["started"]);
  });

  test("a follower sees what comes later; one that sleeps is told what it missed; one that goes is forgotten", async () => {
    const { insight } = setup();
    let held = false;
    const response = insight.handle(new Request("http://x/insight/v1alpha1/logs?follow=true&tail=0"), () => {
      held = true;
    });
    expect(held).toBe(true);
    const reader = response!.body!.getReader();
    insight.event({ level: "info", message: "one", namespace: "", workload: "" });
    const decode = (part: { value?: Uint8Array | undefined }) => new TextDecoder().decode(part.value);
    expect(decode(await reader.read())).toContain('"one"');
    for (let n = 0; n < maxLines + 100; n++) insight.event({ level: "info", message: `n${n}`, namespace: "", workload: "" });
    let text = "";
    while (!text.includes(`"n${maxLines + 99}"`)) text += decode(await reader.read());
    expect(text).toContain("lines came faster than they were read");
    await reader.cancel();
    insight.event({ level: "info", message: "after", namespace: "", workload: "" });
  });
});

describe("histogram", () => {
  test("other bounds are taken in without losing anybody", () => {
    const into = new Float64Array(4);
    addCounts([1, 10, 100], into, { bounds: [0.5, 2, 1000], counts: [1, 2, 3, 4] });
    expect([...into]).toEqual([1, 2, 0, 7]);
  });

  test("quantile interpolates, knows its last bound, and is silent about nothing", () => {
    expect(quantile({ bounds: [10, 20], counts: [10, 10, 0] }, 0.5)).toBe(10);
    expect(quantile({ bounds: [10, 20], counts: [0, 10, 0] }, 0.5)).toBe(15);
    expect(quantile({ bounds: [10, 20], counts: [0, 0, 5] }, 0.5)).toBe(20);
    expect(quantile({ bounds: [10, 20], counts: [0, 0, 0] }, 0.5)).toBeNull();
  });
});
