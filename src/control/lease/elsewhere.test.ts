import { expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { shedAfterMs, watchStore } from "./elsewhere.ts";
import type { Member } from "./session.ts";

const member = (id: string): Member => ({ id, xdsAddress: `${id}:7444`, apiUrl: `https://${id}:7443`, version: "" });
const settle = async () => {
  for (let at = 0; at < 10; at++) await Promise.resolve();
};

test("proxies are sent away only when another control plane reaches the store, and taken again when this one does", async () => {
  const clock = new PausedClock();
  let silentMs = 0;
  const ready = new Set<string>();
  const said: (string | undefined)[] = [];
  const looking = watchStore({
    clock,
    log: silentLogger,
    silentMs: () => silentMs,
    others: () => [member("a"), member("b")],
    isReady: async ({ id }) => {
      if (id === "a") throw new Error("unreachable");
      return ready.has(id);
    },
    shed: (reason) => said.push(reason),
  });
  const tick = async () => {
    clock.advance(1_000);
    await settle();
  };
  ready.add("b");
  silentMs = shedAfterMs - 1;
  await tick();
  expect(said).toEqual([]);
  silentMs = shedAfterMs;
  ready.delete("b");
  await tick();
  // Nobody reaches it: they stay.
  expect(said).toEqual([]);
  ready.add("b");
  await tick();
  await tick();
  expect(said).toEqual([expect.stringContaining("connect to another one, for example b:7444")]);
  silentMs = 0;
  await tick();
  expect(said.at(-1)).toBeUndefined();
  expect(said).toHaveLength(2);
  looking.cancel();
});
