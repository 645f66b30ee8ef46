import { expect, test } from "bun:test";
import { maxStreams, newStreamsBurst, newStreamsPerSecond, StreamGate } from "./gate.ts";

test("a wave is let in at its pace, a quiet moment gives room for a burst, and the most is never passed", () => {
  let now = 0;
  const gate = new StreamGate(() => now);
  const taken = (tries: number) => Array.from({ length: tries }, () => gate.refuses(0)).filter((why) => why === undefined).length;
  expect(taken(5_000)).toBe(newStreamsBurst);
  expect(gate.refuses(0)).toMatch(/takes 500 new streams a second; try again, or connect to another one/);
  now = 100;
  expect(taken(5_000)).toBe(newStreamsPerSecond / 10);
  now = 60_000;
  expect(taken(5_000)).toBe(newStreamsBurst);
  now = 120_000;
  expect(gate.refuses(maxStreams - 1)).toBeUndefined();
  gate.closed = "the store does not answer";
  expect(gate.refuses(0)).toBe("the store does not answer");
  gate.closed = undefined;
  expect(gate.refuses(maxStreams)).toMatch(/has 10000 streams open, its most; connect to another one/);
});
