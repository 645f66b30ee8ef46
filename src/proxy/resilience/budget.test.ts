import { expect, test } from "bun:test";
import fc from "fast-check";
import { Budget, windowSeconds } from "./budget.ts";

test("a fifth of the requests of the last ten seconds, and a few in any second", () => {
  const budget = new Budget(20, 2);
  for (let i = 0; i < 100; i++) budget.note(i);
  let taken = 0;
  for (let i = 0; i < 100; i++) if (budget.take(500)) taken++;
  expect(taken).toBe(20);
  // The next second has its minimum though the share is spent.
  for (let i = 0; i < 10; i++) if (budget.take(1_000)) taken++;
  expect(taken).toBe(22);
  // After the window everything is forgotten.
  expect([budget.take(20_000), budget.take(20_000), budget.take(20_000)]).toEqual([true, true, false]);
});

test("never exceeded, whatever comes when", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 100 }),
      fc.integer({ min: 0, max: 5 }),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 3_000 }), fc.boolean()), { maxLength: 400 }),
      (percent, perSecond, steps) => {
        const budget = new Budget(percent, perSecond);
        const requests: number[] = [];
        const taken: number[] = [];
        let now = 0;
        for (const [wait, retry] of steps) {
          now += wait;
          if (!retry) {
            budget.note(now);
            requests.push(now);
          } else if (budget.take(now)) taken.push(now);
          // Whole seconds, as the budget counts.
          const from = (Math.floor(now / 1_000) - windowSeconds + 1) * 1_000;
          const inWindow = taken.filter((at) => at >= from).length;
          const had = requests.filter((at) => at >= from - windowSeconds * 1_000).length;
          expect(inWindow).toBeLessThanOrEqual((percent / 100) * had + perSecond * windowSeconds);
        }
      },
    ),
    { numRuns: 60 },
  );
});
