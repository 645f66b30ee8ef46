// Deadlines that are not a tick late: told once, in time, by one timer; what is taken away is not told.

import { expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import { Deadlines } from "./deadlines.ts";
import type { Timed } from "./ticker.ts";

test("each is told when its time has come, whatever order they were added in", () => {
  const clock = new PausedClock();
  let timers = 0;
  const deadlines = new Deadlines({
    now: () => clock.now(),
    mono: () => clock.mono(),
    every: (ms, run) => clock.every(ms, run),
    after: (ms, run) => {
      timers++;
      return clock.after(ms, run);
    },
  });
  const told: string[] = [];
  const item = (name: string, inMs: number, then = (): void => {}): Timed => {
    const made: Timed = {
      deadlineMs: clock.mono() + inMs,
      slot: -1,
      onDeadline: () => {
        told.push(`${name}@${clock.mono()}`);
        then();
      },
    };
    deadlines.add(made, clock.mono());
    return made;
  };
  item("b", 20);
  item("a", 10);
  const gone = item("gone", 15);
  item("c", 20);
  item("d", 30, () => void item("e", 5));
  deadlines.remove(gone);
  deadlines.remove(gone);
  for (let n = 0; n < 60; n++) clock.advance(1);
  expect(told).toEqual(["a@10", "b@20", "c@20", "d@30", "e@35"]);
  expect(deadlines.size).toBe(0);
  timers = 0;
  for (let n = 0; n < 100; n++) deadlines.remove(item("x", 20));
  expect(timers).toBe(1);
});

test("one that is taken away by another of the same moment is not told", () => {
  const clock = new PausedClock();
  const deadlines = new Deadlines(clock);
  const told: string[] = [];
  const second: Timed = { deadlineMs: 5, slot: -1, onDeadline: () => void told.push("second") };
  const first: Timed = {
    deadlineMs: 5,
    slot: -1,
    onDeadline: () => {
      told.push("first");
      deadlines.remove(second);
    },
  };
  deadlines.add(first, 0);
  deadlines.add(second, 0);
  clock.advance(50);
  expect(told).toEqual(["first"]);
});
