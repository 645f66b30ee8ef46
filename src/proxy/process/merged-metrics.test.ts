import { describe, expect, test } from "bun:test";
import { MetricRegistry, observe } from "../../base/metric.ts";
import { prometheusText } from "../telemetry/prometheus.ts";
import { MergedMetrics, MetricsPart, MetricsTeller } from "./merged-metrics.ts";
import { configDelta, emptyConfig, secretNames, withDelta } from "./messages.ts";

function registry() {
  const metrics = new MetricRegistry();
  const requests = metrics.counter("r_total", "R.", ["code"]);
  const open = metrics.gauge("open", "O.").with([]);
  const time = metrics.histogram("t", "T.", [], [1, 10]);
  return { metrics, requests, open, time: time.with([]) };
}

const lines = (of: MergedMetrics): string[] =>
  prometheusText(of)
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));

describe("sums over processes", () => {
  test("counters, gauges and histograms are added; series keep their identity", () => {
    const [own, other] = [registry(), registry()];
    const merged = new MergedMetrics(own.metrics);
    const [part, teller] = [new MetricsPart(), new MetricsTeller(other.metrics)];
    own.requests.with(["200"]).value = 3;
    own.open.value = 1;
    observe(own.time, [1, 10], 5);
    other.requests.with(["200"]).value = 4;
    other.requests.with(["500"]).value = 1;
    other.open.value = 2;
    observe(other.time, [1, 10], 0.5);
    merged.take(part, teller.next());
    expect(lines(merged)).toEqual([
      'r_total{code="200"} 7',
      'r_total{code="500"} 1',
      "open 3",
      't_bucket{le="1"} 1',
      't_bucket{le="10"} 2',
      't_bucket{le="+Inf"} 2',
      "t_sum 5.5",
      "t_count 2",
    ]);
    const before = merged.families()[0]?.series[0];
    other.requests.with(["200"]).value += 10;
    merged.take(part, teller.next());
    expect(merged.families()[0]?.series[0]).toBe(before as never);
    expect(lines(merged)[0]).toBe('r_total{code="200"} 17');
  });

  test("only what changed is told", () => {
    const { metrics, requests } = registry();
    const teller = new MetricsTeller(metrics);
    requests.with(["200"]).value = 1;
    expect(teller.next().series.length).toBe(3);
    requests.with(["200"]).value = 2;
    const next = teller.next();
    expect([next.families, next.series, [...next.values], next.histograms, next.gone]).toEqual([[], [], [0, 2], [], []]);
  });

  test("a process that ends takes its gauges with it and leaves its counts, also those of a later one", () => {
    const own = registry();
    const merged = new MergedMetrics(own.metrics);
    for (const count of [5, 2]) {
      const other = registry();
      const part = new MetricsPart();
      other.requests.with(["200"]).value = count;
      other.open.value = 9;
      observe(other.time, [1, 10], 5);
      merged.take(part, new MetricsTeller(other.metrics).next());
      expect(lines(merged)).toContain("open 9");
      merged.end(part);
    }
    expect(lines(merged)).toContain('r_total{code="200"} 7');
    expect(lines(merged)).toContain("open 0");
    expect(lines(merged)).toContain("t_count 2");
  });

  test("what was merged can be told on, and names can be left out", () => {
    const first = registry();
    first.requests.with(["200"]).value = 5;
    first.open.value = 1;
    const second = new MergedMetrics(registry().metrics);
    second.take(new MetricsPart(), new MetricsTeller(first.metrics).next());
    const third = new MergedMetrics(registry().metrics);
    third.take(new MetricsPart(), new MetricsTeller(second, (_name, kind) => kind === "gauge").next());
    expect(lines(third)).toContain('r_total{code="200"} 5');
    expect(lines(third)).toContain("open 0");
  });
});

describe("a configuration on its way to a worker", () => {
  const cluster = (name: string) => ({ name }) as never;

  test("only differences travel, and what is unchanged keeps its identity there", () => {
    const [a, b, c] = [cluster("a"), cluster("b"), cluster("c")];
    const one = {
      ...emptyConfig,
      clusters: new Map([
        ["a", a],
        ["b", b],
      ]),
    };
    const two = {
      ...emptyConfig,
      clusters: new Map([
        ["a", a],
        ["c", c],
      ]),
    };
    const there = withDelta(emptyConfig, structuredClone(configDelta(emptyConfig, one)));
    const delta = structuredClone(configDelta(one, two));
    expect([[...delta.put.clusters.keys()], delta.gone.clusters]).toEqual([["c"], ["b"]]);
    const next = withDelta(there, delta);
    expect([...next.clusters.keys()]).toEqual(["a", "c"]);
    expect(next.clusters.get("a")).toBe(there.clusters.get("a") as never);
    expect(withDelta(next, configDelta(two, two))).toEqual(next);
  });

  test("secrets are found wherever they are named", () => {
    const found = new Set<string>();
    secretNames(
      {
        chains: [{ tls: { certificate: { kind: "secret", name: "default" }, roots: { kind: "pem", pem: "x" } } }],
        more: { kind: "secret", name: "ROOTCA" },
      },
      found,
    );
    expect([...found]).toEqual(["default", "ROOTCA"]);
  });
});
