import { describe, expect, test } from "bun:test";
import { median, pairedRatio, percentile, riseOfFloor, spread } from "./stats.ts";

describe("figures of several rounds", () => {
  test("median of odd and even counts", () => {
    expect(median([5, 1, 3])).toBe(3);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(() => median([])).toThrow("no values");
  });

  test("spread keeps the rounds in their order", () => {
    expect(spread([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3, rounds: [3, 1, 2] });
  });

  test("a disturbance that hits both sides of a round cancels in the paired ratio", () => {
    const quiet = pairedRatio([10, 10, 10], [20, 20, 20]);
    const disturbed = pairedRatio([10, 30, 10], [20, 60, 20]);
    expect(disturbed.median).toBe(quiet.median);
    expect(disturbed.max).toBe(0.5);
  });

  test("rounds without a partner are left out", () => {
    expect(pairedRatio([1, 2, 3], [2, 4]).rounds).toEqual([0.5, 0.5]);
  });

  test("nearest-rank percentiles", () => {
    const sorted = Array.from({ length: 100 }, (_, i) => i + 1);
    expect(percentile(sorted, 0.5)).toBe(50);
    expect(percentile(sorted, 0.99)).toBe(99);
    expect(percentile([7], 0.99)).toBe(7);
    expect(percentile([], 0.5)).toBeNaN();
  });
});

test("the floor of a figure that collections bring down rises by what they leave", () => {
  const teeth = (leak: number): number[] => Array.from({ length: 45 }, (_, i) => 17 + (i % 16) * 0.15 + leak * i);
  // Wherever the measuring ends within a tooth.
  for (let cut = 0; cut < 13; cut++) expect(Math.abs(riseOfFloor(teeth(0).slice(cut)))).toBeLessThan(1e-9);
  expect(riseOfFloor(teeth(0.1))).toBeGreaterThan(1.5);
  expect(riseOfFloor([1, 3, 5, 7])).toBe(4);
});
