// A limit that refuses, on a clock that stands still: one opening however often it refuses, closed by silence, and nothing left of a cluster that is gone.

import { expect, test } from "bun:test";
import { silentLogger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import { Breakers, quietMs } from "./breakers.ts";

function setup() {
  let nowMs = 0;
  const metrics = new MetricRegistry();
  const breakers = new Breakers(metrics, silentLogger, () => nowMs);
  const read = (family: string): readonly (readonly [string, number])[] =>
    (metrics.families().find((one) => one.name === family)?.series ?? []).map((one) => [
      one.labels.join(" "),
      "value" in one ? one.value : 0,
    ]);
  const after = (ms: number): void => {
    nowMs += ms;
  };
  return { breakers, read, after };
}

test("a thousand refusals are one opening, and silence closes it", () => {
  const { breakers, read, after } = setup();
  for (let n = 0; n < 1_000; n++) {
    breakers.refused("a", "max_requests");
    after(4);
  }
  breakers.refused("a", "max_retries");
  expect(read("weft_circuit_breaker_refused_total")).toEqual([
    ["a max_requests", 1_000],
    ["a max_retries", 1],
  ]);
  expect(read("weft_circuit_breaker_opened_total")).toEqual([
    ["a max_requests", 1],
    ["a max_retries", 1],
  ]);
  expect(read("weft_circuit_breaker_open")).toEqual([
    ["a max_requests", 1],
    ["a max_retries", 1],
  ]);
  after(quietMs);
  expect(read("weft_circuit_breaker_open")).toEqual([
    ["a max_requests", 0],
    ["a max_retries", 0],
  ]);
  breakers.refused("a", "max_requests");
  expect(read("weft_circuit_breaker_opened_total")[0]).toEqual(["a max_requests", 2]);
  expect(read("weft_circuit_breaker_open")[0]).toEqual(["a max_requests", 1]);
  // Nobody read the metrics meanwhile: it is another opening all the same.
  after(2 * quietMs);
  breakers.refused("a", "max_requests");
  expect(read("weft_circuit_breaker_opened_total")[0]).toEqual(["a max_requests", 3]);
});

test("zero is shown for a while and then nothing; a cluster that goes closes what it had open", () => {
  const { breakers, read, after } = setup();
  breakers.refused("a", "instances");
  breakers.refused("b", "max_connections");
  breakers.forget("a");
  expect(read("weft_circuit_breaker_open")).toEqual([
    ["a instances", 0],
    ["b max_connections", 1],
  ]);
  expect(read("weft_circuit_breaker_refused_total")).toEqual([["b max_connections", 1]]);
  after(120_000);
  expect(read("weft_circuit_breaker_open")).toEqual([["b max_connections", 0]]);
  after(120_000);
  expect(read("weft_circuit_breaker_open")).toEqual([]);
});
