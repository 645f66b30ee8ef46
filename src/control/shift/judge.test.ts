import { expect, test } from "bun:test";
import { emptyTotals, type Totals } from "../../insight/window.ts";
import { baselineOf, exceeds, falseAlarm, fault, slowerThan, upperShare } from "./judge.ts";

/** A small generator with a seed: the same runs each time. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** The request after which a watcher who looks at each one says stop; undefined: never. */
function stopsAfter(p: number, limit: number, most: number, random: () => number): number | undefined {
  let failures = 0;
  for (let n = 1; n <= most; n++) {
    if (random() < p) failures++;
    if (n % 5 === 0 && exceeds(limit, failures, n)) return n;
  }
  return undefined;
}

test("a version at its limit is taken back in no more than one of a hundred shifts, however often it is looked at", () => {
  for (const limit of [0.001, 0.01, 0.05, 0.2]) {
    const random = randomFrom(Math.round(limit * 1000));
    let alarms = 0;
    for (let run = 0; run < 1_000; run++) if (stopsAfter(limit, limit, 2_000, random) !== undefined) alarms++;
    // Three standard deviations above what is promised.
    expect(alarms / 1_000).toBeLessThanOrEqual(falseAlarm + 3 * Math.sqrt(falseAlarm / 1_000));
  }
});

test.each([
  [0.5, 0.01, 15],
  [0.1, 0.01, 120],
  [0.05, 0.01, 400],
  [0.03, 0.01, 1_500],
])("one that fails at %d where %d is allowed is found within %d requests, in nine runs of ten", (p, limit, within) => {
  const random = randomFrom(7);
  let found = 0;
  for (let run = 0; run < 300; run++) if (stopsAfter(p, limit, within, random) !== undefined) found++;
  expect(found / 300).toBeGreaterThan(0.9);
});

const bounds = [10, 50, 100, 500];
function totals(requests: number, failures: number, latency: readonly number[] = [requests, 0, 0, 0, 0]): Totals {
  return { ...emptyTotals(bounds), requests, failures, latency: Float64Array.from(latency) };
}

test("failures that the older version has as well are not the newer one's", () => {
  const sick = baselineOf(totals(1_000, 100), 0);
  expect(fault(totals(500, 50), sick, 0.01)).toBeUndefined();
  const well = baselineOf(totals(1_000, 0), 0);
  expect(fault(totals(500, 50), well, 0.01)).toBe("10 % of 500 requests failed; allowed are 1 %, and the older backend failed 0 %");
  expect(upperShare(100, 1_000)).toBeCloseTo(0.127, 2);
});

test("a limit of nothing takes the first failure, unless the older version fails too", () => {
  expect(fault(totals(100, 1), baselineOf(totals(1_000, 0), 0), 0)).toBe("1 of 100 requests failed, and none may");
  expect(fault(totals(100, 1), baselineOf(totals(1_000, 10), 0), 0)).toBeUndefined();
  expect(fault(totals(100, 0), baselineOf(totals(1_000, 0), 0), 0)).toBeUndefined();
});

test("slow is measured against the older version's 90th percentile, in the histogram's own steps", () => {
  const older = baselineOf(totals(1_000, 0, [0, 1_000, 0, 0, 0]), 1.5);
  expect(older).toEqual({ requests: 1_000, failures: 0, slowMs: 100, slow: 0 });
  expect(fault(totals(300, 0, [0, 300, 0, 0, 0]), older, 0.01)).toBeUndefined();
  expect(fault(totals(300, 0, [0, 0, 0, 300, 0]), older, 0.01)).toBe(
    "100 % of 300 requests took longer than 100 ms; of the older backend's 0 %",
  );
  expect(slowerThan(totals(10, 0, [1, 2, 3, 4, 5]), 100)).toBe(9);
  // Beyond the last bound nothing can be told apart, and with a factor of 0 nothing is judged.
  expect(baselineOf(totals(1_000, 0, [0, 0, 0, 0, 1_000]), 1.5).slowMs).toBeNull();
  expect(baselineOf(totals(1_000, 0), 0).slowMs).toBeNull();
});

test("without traffic nothing is shown", () => {
  expect(exceeds(0.01, 0, 0)).toBe(false);
  expect(fault(emptyTotals(bounds), baselineOf(emptyTotals(bounds), 1.5), 0.01)).toBeUndefined();
});
