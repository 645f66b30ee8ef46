import { expect, test } from "bun:test";
import { MetricRegistry, observe } from "./metric.ts";

test("a family hands out one series per set of labels, and forgets what is removed", () => {
  const registry = new MetricRegistry();
  const family = registry.counter("requests_total", "Requests.", ["code"]);
  const ok = family.with(["200"]);
  ok.value += 2;
  expect(family.with(["200"])).toBe(ok);
  family.with(["503"]).value++;
  expect(family.series.map((series) => [series.labels[0], series.value])).toEqual([
    ["200", 2],
    ["503", 1],
  ]);
  family.remove(ok);
  expect(family.series.length).toBe(1);
  expect(family.with(["200"]).value).toBe(0);
});

test("labels that do not fit and names taken twice are our own mistakes and say so", () => {
  const registry = new MetricRegistry();
  const family = registry.gauge("open", "Open.", ["a", "b"]);
  expect(() => family.with(["1"])).toThrow("metric open takes 2 labels, got 1");
  expect(() => registry.counter("open", "Open.")).toThrow("metric open is registered twice");
});

test("label values cannot run into each other", () => {
  const family = new MetricRegistry().counter("c", "c", ["a", "b"]);
  expect(family.with(["x", "yz"])).not.toBe(family.with(["xy", "z"]));
});

test("an observation lands in the first bucket whose bound is not below it (Prometheus: le)", () => {
  const bounds = [1, 5, 10];
  const series = new MetricRegistry().histogram("h", "h", [], bounds).with([]);
  for (const value of [0.5, 1, 1.1, 10, 11]) observe(series, bounds, value);
  expect([...series.counts]).toEqual([2, 1, 1, 1]);
  expect(series.sum).toBeCloseTo(23.6);
});

test("gauges that are read are collected before an export", () => {
  const registry = new MetricRegistry();
  const gauge = registry.gauge("g", "g").with([]);
  registry.beforeExport(() => {
    gauge.value = 7;
  });
  expect(registry.families()[0]?.series[0]).toMatchObject({ value: 7 });
});
