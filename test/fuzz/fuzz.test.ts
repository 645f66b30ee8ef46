// Every target for a fixed small budget, and every case that was ever found. `bun test/fuzz/run.ts` goes on for longer.

import { describe, expect, test } from "bun:test";
import { attempt, campaign, found } from "./campaign.ts";
import { seeded } from "./random.ts";
import type { Target } from "./target.ts";
import { targets } from "./targets.ts";

/** The same inputs each time; the clock only ends it on a machine that is too busy for them. */
const budget = { seed: 20_240_601, runs: 12_000, milliseconds: 2_500 };

for (const target of targets) {
  describe(target.name, () => {
    test("holds for its seeds", () => {
      for (const seed of target.seeds)
        expect([Buffer.from(seed).toString("latin1"), attempt(target, seed)?.message]).toEqual([
          Buffer.from(seed).toString("latin1"),
          undefined,
        ]);
    });

    test("holds for what was found before", () => {
      for (const { name, input } of found(target)) expect([name, attempt(target, input)?.message]).toEqual([name, undefined]);
    });

    test("holds for a small budget of mutations", () => {
      const { runs, failed } = campaign(target, budget);
      expect(failed === null ? null : [Buffer.from(failed.input).toString("latin1"), failed.error.message]).toBeNull();
      expect(runs).toBeGreaterThan(100);
    }, 10_000);
  });
}

test("a campaign finds a planted fault, makes it small, and finds the same one again", () => {
  const planted: Target = {
    name: "planted",
    seeds: [new Uint8Array(Buffer.from("aaaa\r\nbbbb\r\ncccc\r\n"))],
    words: [new Uint8Array(Buffer.from("XY"))],
    most: 100,
    check: (input) => {
      if (Buffer.from(input).includes("XY")) throw new Error("found");
    },
  };
  const first = campaign(planted, { seed: 1, runs: 1_000, milliseconds: 5_000 });
  expect(Buffer.from(first.failed?.input ?? []).toString()).toBe("XY");
  expect(campaign(planted, { seed: 1, runs: 1_000, milliseconds: 5_000 })).toEqual(first);
});

test("the generator gives the same numbers for the same seed", () => {
  const a = seeded(7);
  const b = seeded(7);
  expect(Array.from({ length: 20 }, () => a.below(1_000))).toEqual(Array.from({ length: 20 }, () => b.below(1_000)));
  expect(new Set(Array.from({ length: 200 }, () => a.below(10))).size).toBe(10);
});
