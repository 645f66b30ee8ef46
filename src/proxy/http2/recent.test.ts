import { expect, test } from "bun:test";
import { gone, RecentStreams } from "./recent.ts";

test("streams that are over are remembered by what ended them, the latest of each kind", () => {
  const recent = new RecentStreams();
  expect(recent.why(1)).toBe(gone.unknown);
  for (let id = 1; id < 2_000; id += 2) recent.add(id, id % 3 === 0 ? gone.byUs : id % 3 === 1 ? gone.ended : gone.byPeer);
  expect([recent.why(1_995), recent.why(1_999), recent.why(1_997)]).toEqual([gone.byUs, gone.ended, gone.byPeer]);
  // Two thirds of the ids share 32 places; a third has 256 of its own.
  expect([recent.why(1_999 - 6 * 20), recent.why(1_995 - 6 * 200), recent.why(1_995 - 6 * 300)]).toEqual([
    gone.unknown,
    gone.byUs,
    gone.unknown,
  ]);
});
