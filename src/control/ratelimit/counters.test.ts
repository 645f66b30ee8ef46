import { expect, test } from "bun:test";
import fc from "fast-check";
import { Counters, mostCounters, mostTold, parseTold } from "./counters.ts";

const minute = 60_000;
const ask = (key: string, limit: number, windowMs = minute) => ({ key, limit, windowMs });

test("a window gives out its limit, says what is left and when it begins anew", () => {
  const counters = new Counters();
  expect(counters.take([ask("a", 2)], 1, 10_000)).toEqual([{ over: false, remaining: 1, resetMs: 50_000 }]);
  expect(counters.take([ask("a", 2)], 1, 10_000)[0]).toMatchObject({ over: false, remaining: 0 });
  expect(counters.take([ask("a", 2)], 1, 59_999)[0]).toEqual({ over: true, remaining: 0, resetMs: 1 });
  expect(counters.take([ask("a", 2)], 1, 60_000)[0]).toMatchObject({ over: false, remaining: 1 });
});

test("what one limit refuses uses up no other", () => {
  const counters = new Counters();
  counters.take([ask("small", 1)], 1, 0);
  expect(counters.take([ask("large", 10), ask("small", 1)], 1, 0).map(({ over, remaining }) => [over, remaining])).toEqual([
    [false, 10],
    [true, 0],
  ]);
  expect(counters.take([ask("large", 10)], 10, 0)[0]).toMatchObject({ over: false, remaining: 0 });
});

test("control planes that tell each other agree; one that is gone has used what it used", () => {
  const [a, b] = [new Counters(), new Counters()];
  a.planes = b.planes = 2;
  for (let n = 0; n < 60; n++) a.take([ask("k", 100)], 1, 0);
  const told = a.tell(0);
  expect(told).toEqual([["k", minute, 0, 60]]);
  expect(a.tell(0)).toBeUndefined();
  b.hear("a", parseTold(JSON.stringify(told)) ?? [], 1_500);
  let given = 0;
  for (let n = 0; n < 100; n++) if (!b.take([ask("k", 100)], 1, 1_500)[0]?.over) given++;
  expect(given).toBe(40);
  b.planes = 1;
  expect(b.take([ask("k", 100)], 1, 30_000)[0]?.over).toBe(true);
  expect(b.take([ask("k", 100)], 1, minute)[0]).toMatchObject({ over: false, remaining: 99 });
});

test("in a window of seconds each gives out its share", () => {
  const counters = new Counters();
  counters.planes = 3;
  let given = 0;
  for (let n = 0; n < 20; n++) if (!counters.take([ask("k", 10, 1_000)], 1, 0)[0]?.over) given++;
  expect(given).toBe(3);
  expect(counters.tell(0)).toBeUndefined();
});

test("bounded: the one unused for longest goes, and what is told is the most used", () => {
  const counters = new Counters();
  counters.take([ask("old", 5)], 5, 0);
  for (let n = 0; n < mostCounters; n++) counters.take([ask(`k${n}`, 5)], 1, 0);
  expect(counters.size).toBe(mostCounters);
  expect(counters.take([ask("old", 5)], 1, 0)[0]?.over).toBe(false);
  expect(counters.tell(0)).toHaveLength(mostTold);
  counters.sweep(minute);
  expect(counters.size).toBe(0);
});

test("what is no word of a control plane is not taken", () => {
  for (const text of ["", "{}", '[["k",60000,0]]', '[["k",0,0,1]]', '[["k",60000,0,-1]]', '[["k",60000,0,1.5]]'])
    expect(parseTold(text)).toBeUndefined();
});

test("however the questions fall, control planes that tell each other give out no more than the limit and what the others admit meanwhile", () => {
  const question = fc.record({ plane: fc.nat(2), hits: fc.integer({ min: 1, max: 5 }), tells: fc.boolean() });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50 }), fc.array(question, { maxLength: 200 }), (limit, questions) => {
      const planes = [0, 1, 2].map(() => new Counters());
      for (const plane of planes) plane.planes = 3;
      let given = 0;
      // What each has given out since the others last heard of it.
      const untold = [0, 0, 0];
      let most = 0;
      for (const { plane, hits, tells } of questions) {
        const counters = planes[plane] as Counters;
        if (!counters.take([ask("k", limit)], hits, 0)[0]?.over) {
          given += hits;
          untold[plane] = (untold[plane] as number) + hits;
        }
        most = Math.max(
          most,
          untold.reduce((a, b) => a + b, 0),
        );
        if (!tells) continue;
        const told = counters.tell(0);
        if (told !== undefined) for (const [at, other] of planes.entries()) if (at !== plane) other.hear(String(plane), told, 0);
        untold[plane] = 0;
      }
      return given <= limit + most;
    }),
    { numRuns: 300 },
  );
});
