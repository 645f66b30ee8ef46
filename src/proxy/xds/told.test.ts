import { expect, test } from "bun:test";
import { Told } from "./told.ts";

test("the same is news once, again after ten minutes, and at once when the trouble was over", () => {
  const told = new Told();
  expect([told.isNews("a", 0), told.isNews("b", 1), told.isNews("a", 2), told.isNews("b", 599_999)]).toEqual([true, true, false, false]);
  expect([told.isNews("a", 600_000), told.isNews("a", 600_001)]).toEqual([true, false]);
  told.clear();
  expect(told.isNews("a", 600_002)).toBe(true);
});

test("a server that makes up a reason each time is heard each time, and costs no more", () => {
  const told = new Told();
  for (let at = 0; at < 1_000; at++) expect(told.isNews(`reason ${at}`, at)).toBe(true);
  // The oldest are forgotten.
  expect([told.isNews("reason 999", 1_001), told.isNews("reason 0", 1_002)]).toEqual([false, true]);
});
