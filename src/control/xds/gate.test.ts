import { describe, expect, test } from "bun:test";
import { maxStreams, maxStreamsPerNode, maxUnadmitted, newStreamsBurst, newStreamsPerSecond, OpenStreams, StreamGate } from "./gate.ts";

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

describe("places of streams", () => {
  test("each node has its own number, given back when a stream ends, admitted or not", () => {
    const streams = new OpenStreams();
    const open = Array.from({ length: maxStreamsPerNode }, () => streams.enter()!);
    expect(open.map((place) => place.admit("shop/a")).every((same) => same === undefined)).toBe(true);
    const late = streams.enter()!;
    expect(late.admit("shop/a")).toBe(maxStreamsPerNode);
    expect(streams.unadmitted).toBe(1);
    expect(streams.enter()!.admit("shop/b")).toBeUndefined();
    late.leave();
    late.leave();
    expect([streams.unadmitted, streams.nodes]).toEqual([0, 2]);
    for (const place of open) place.leave();
    expect([streams.unadmitted, streams.nodes]).toEqual([0, 1]);
    expect(streams.enter()!.admit("shop/a")).toBeUndefined();
  });

  test("those who have shown nothing are only so many", () => {
    const streams = new OpenStreams();
    const open = Array.from({ length: maxUnadmitted }, () => streams.enter()!);
    expect(streams.enter()).toBeUndefined();
    open[0]!.leave();
    expect(streams.enter()).toBeDefined();
    expect(streams.enter()).toBeUndefined();
    // One that is let in makes room as well; one that ended meanwhile is not let in.
    expect(open[1]!.admit("shop/a")).toBeUndefined();
    open[0]!.admit("shop/gone");
    expect(streams.nodes).toBe(1);
    expect(streams.unadmitted).toBe(maxUnadmitted - 1);
  });

  test("a stream's place costs the same among 100 000 as alone", () => {
    // Nothing is walked: whatever walks would ask for an iterator.
    const streams = new OpenStreams();
    for (let n = 0; n < 100_000; n++) streams.enter()!.admit(`shop/w${n}`);
    const iterate = [Map, Set].map((type) => [type.prototype, type.prototype[Symbol.iterator], type.prototype.forEach] as const);
    let walks = 0;
    for (const [prototype, iterator] of iterate) {
      prototype[Symbol.iterator] = function (this: never) {
        walks++;
        return (iterator as () => never).call(this);
      } as never;
    }
    try {
      const place = streams.enter()!;
      place.admit("shop/w7");
      place.leave();
    } finally {
      for (const [prototype, iterator] of iterate) prototype[Symbol.iterator] = iterator as never;
    }
    expect(walks).toBe(0);
    expect(streams.nodes).toBe(100_000);
  });
});
