import { expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { key, must, object } from "../store/contract.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { startTrimming } from "./trim.ts";

test("history is trimmed to what is kept, but not what was written in the last minute while there is little more", async () => {
  const clock = new PausedClock();
  const store = openSqliteStore(":memory:", { nowMs: () => clock.now() });
  must(await store.create(key("a"), object("a", 0)));
  for (let at = 0; at < 40; at++) must(await store.update(key("a"), object("a", at), undefined));
  const timer = startTrimming(store, clock, silentLogger, { revisions: 10 }, 5);
  const round = async () => {
    clock.advance(10_000);
    for (let at = 0; at < 20; at++) await Promise.resolve();
    return store.oldest();
  };
  // All of it is fresh: a small step only.
  expect(await round()).toBe(6);
  clock.advance(60_000);
  for (let at = 0; at < 20; at++) await Promise.resolve();
  expect(await store.oldest()).toBe(32);
  expect((await store.get(key("a")))?.spec).toEqual({ value: 39 });
  timer.cancel();
  await store.close();
});
