// When the page asks and what it shows between answers, with time and answers in the test's hands.

import { expect, test } from "bun:test";
import type { GraphAnswer, MeshObject } from "../../src/api/live.ts";
import { createDevMesh } from "../dev-data.ts";
import type { Answer } from "./api.ts";
import { createPoller, type LiveState, pollEveryMs } from "./poller.ts";

function setUp() {
  const mesh = createDevMesh("shop", 1, () => "");
  const states: LiveState[] = [];
  const asked: number[] = [];
  let nowMs = 1_000_000;
  let broken = false;
  let timer: { atMs: number; run: () => void } | null = null;
  const give = <T>(value: T): Promise<Answer<T>> =>
    Promise.resolve(broken ? { ok: false, failure: { kind: "away", message: "it does not answer" } } : { ok: true, value });
  const poller = createPoller(
    {
      api: {
        graph: (windowSeconds): Promise<Answer<GraphAnswer>> => {
          asked.push(windowSeconds);
          return give(mesh.graph(nowMs, windowSeconds));
        },
        mesh: (): Promise<Answer<MeshObject>> => give(mesh.mesh(nowMs)),
        proxies: () => give({ items: mesh.proxies(nowMs) }),
      },
      now: () => nowMs,
      after: (delayMs, run) => {
        const mine = { atMs: nowMs + delayMs, run };
        timer = mine;
        return () => {
          if (timer === mine) timer = null;
        };
      },
      publish: (state) => states.push(state),
    },
    30,
  );
  /** Lets answers arrive, then moves time on and runs what is due. */
  const advance = async (ms: number): Promise<void> => {
    await Bun.sleep(0);
    nowMs += ms;
    if (timer !== null && timer.atMs <= nowMs) {
      const { run } = timer;
      timer = null;
      run();
    }
    await Bun.sleep(0);
  };
  return { poller, states, asked, advance, breakDown: (now: boolean) => (broken = now), pending: () => timer !== null, now: () => nowMs };
}

test("asks at once and then each period; the picture is live", async () => {
  const t = setUp();
  t.poller.ask();
  await t.advance(0);
  expect(t.states.at(-1)).toMatchObject({ connection: { name: "live" }, round: 1 });
  expect(t.states.at(-1)?.proxies?.length).toBeGreaterThan(5);
  await t.advance(pollEveryMs - 1);
  expect(t.asked).toHaveLength(1);
  await t.advance(1);
  expect(t.asked).toHaveLength(2);
});

test("while the control plane is away the picture stays with the time it is from, and recovers by itself", async () => {
  const t = setUp();
  t.poller.ask();
  await t.advance(0);
  const goodAtMs = t.now();
  const { graph } = t.states.at(-1)!;
  t.breakDown(true);
  await t.advance(pollEveryMs);
  await t.advance(pollEveryMs);
  const lost = t.states.at(-1)!;
  expect(lost.connection).toMatchObject({ name: "lost", sinceMs: goodAtMs, failure: { kind: "away" } });
  expect(lost.graph).toBe(graph!);
  t.breakDown(false);
  await t.advance(pollEveryMs);
  expect(t.states.at(-1)).toMatchObject({ connection: { name: "live" }, round: 2 });
});

test("a hidden page asks nothing, a page shown again asks at once", async () => {
  const t = setUp();
  t.poller.ask();
  await t.advance(0);
  t.poller.setVisible(false);
  expect(t.pending()).toBe(false);
  await t.advance(pollEveryMs * 10);
  expect(t.asked).toHaveLength(1);
  t.poller.setVisible(true);
  expect(t.asked).toHaveLength(2);
});

test("another window is asked for at once, and the answer to the old one is dropped", async () => {
  const t = setUp();
  t.poller.ask();
  t.poller.ask(60);
  await t.advance(0);
  expect(t.asked).toEqual([30, 60]);
  expect(t.states.map((s) => s.graph?.windowSeconds)).toEqual([60]);
});

test("after stop nothing is published", async () => {
  const t = setUp();
  t.poller.ask();
  t.poller.stop();
  await t.advance(pollEveryMs);
  expect(t.states).toEqual([]);
  expect(t.pending()).toBe(false);
});
