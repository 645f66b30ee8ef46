import { expect, test } from "bun:test";
import { PausedClock } from "./clock.ts";

test("a paused clock runs timers in order and only when they fall due", () => {
  const clock = new PausedClock(1000);
  const seen: string[] = [];
  clock.after(50, () => seen.push(`b@${clock.now()}`));
  clock.after(20, () => seen.push(`a@${clock.now()}`));
  const beat = clock.every(30, () => seen.push(`beat@${clock.now()}`));
  clock.advance(19);
  expect(seen).toEqual([]);
  clock.advance(41);
  expect(seen).toEqual(["a@1020", "beat@1030", "b@1050", "beat@1060"]);
  beat.cancel();
  clock.advance(1000);
  expect(seen.length).toBe(4);
  expect(clock.mono()).toBe(1060);
});

test("a timer may arm another one for the same moment", () => {
  const clock = new PausedClock(0);
  const seen: number[] = [];
  clock.after(10, () => clock.after(0, () => seen.push(clock.now())));
  clock.advance(10);
  expect(seen).toEqual([10]);
});
