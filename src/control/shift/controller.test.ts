import { afterEach, beforeEach, expect, test } from "bun:test";
import { type TrafficShiftObject, trafficShiftKind } from "../../api/kinds/trafficshift.ts";
import { type KubeObject, resourceOf } from "../../api/meta.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { emptyTotals, type Totals } from "../../insight/window.ts";
import type { Happening } from "../events.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { ObjectKey, Store } from "../store/store.ts";
import { Shifter, shifterName } from "./controller.ts";
import { percentOf, withPercent } from "./weights.ts";

const bounds = [10, 100, 1_000];
const start = Date.parse("2026-01-01T00:00:00Z");
const shiftKey: ObjectKey = { resource: resourceOf(trafficShiftKind), namespace: "shop", name: "reviews-x" };
const routeKey: ObjectKey = { resource: "httproutes.gateway.networking.k8s.io", namespace: "shop", name: "reviews" };

let store: Store;
let nowMs = start;
let told: Happening[] = [];
/** Requests a second of each backend at 100 %, and what share of them fails or is slow. */
let behaviour: Record<string, { fails: number; slow: number }> = {};
let perSecond = 100;
let shifter: Shifter;

const idle: Timer = { cancel() {} } as Timer;
const clock = { now: () => nowMs, mono: () => nowMs, after: () => idle, every: () => idle } as unknown as Clock;

function traffic(_namespace: string, service: string, from: number, to: number): Totals {
  const share = service === "reviews-v2" ? current / 100 : 1 - current / 100;
  const requests = Math.max(0, to - from) * perSecond * share;
  const { fails = 0, slow = 0 } = behaviour[service] ?? {};
  return {
    ...emptyTotals(bounds),
    requests,
    failures: requests * fails,
    latency: Float64Array.from([requests * (1 - slow), 0, requests * slow, 0]),
  };
}
let current = 0;

const route = (older: number, newer: number): KubeObject =>
  ({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: { name: "reviews", namespace: "shop", generation: 1 },
    spec: {
      rules: [
        {
          backendRefs: [
            { name: "reviews-v1", port: 80, weight: older },
            { name: "reviews-v2", port: 80, weight: newer },
          ],
        },
      ],
    },
  }) as KubeObject;

async function begin(more: Partial<TrafficShiftObject["spec"]> = {}, weights: [number, number] = [100, 0]): Promise<void> {
  await store.create(routeKey, route(...weights));
  const object = {
    apiVersion: "weft.dev/v1alpha1",
    kind: "TrafficShift",
    metadata: { name: "reviews-x", namespace: "shop", uid: "u" },
    spec: { route: "reviews", from: "reviews-v1", to: "reviews-v2", stepPercent: 25, interval: "10s", ...more },
  } as unknown as KubeObject;
  trafficShiftKind.applyDefaults(object as never);
  expect(trafficShiftKind.validate(object)).toEqual([]);
  await store.create(shiftKey, object);
  await shifter.look();
  await note();
}

async function note(): Promise<void> {
  const found = percentOf((await store.get(routeKey)) as KubeObject, "reviews-v1", "reviews-v2");
  current = typeof found === "number" ? found : 0;
}

async function pass(seconds: number): Promise<NonNullable<TrafficShiftObject["status"]>> {
  for (let n = 0; n < seconds; n++) {
    nowMs += 1_000;
    await shifter.look();
    await note();
  }
  return ((await store.get(shiftKey)) as TrafficShiftObject).status as NonNullable<TrafficShiftObject["status"]>;
}

function makeShifter(): Shifter {
  return new Shifter({ store, clock, log: silentLogger, record: (happening) => void told.push(happening), traffic });
}

beforeEach(() => {
  store = openSqliteStore(":memory:");
  nowMs = start;
  told = [];
  behaviour = {};
  perSecond = 100;
  current = 0;
  shifter = makeShifter();
});
afterEach(async () => {
  await shifter.stop();
  await store.close();
});

test("goes to the end in steps, each of them an event and in the history", async () => {
  await begin();
  expect(current).toBe(25);
  expect((await pass(9)).percent).toBe(25);
  expect((await pass(1)).percent).toBe(50);
  expect(await pass(30)).toMatchObject({ phase: "Succeeded", percent: 100, startPercent: 0 });
  expect(current).toBe(100);
  const { steps } = ((await store.get(shiftKey)) as TrafficShiftObject).status as { steps: { percent: number }[] };
  expect(steps.map((step) => step.percent)).toEqual([25, 50, 75, 100]);
  expect(told.map((each) => each.reason)).toEqual(["Shifting", "Shifting", "Shifting", "Shifting", "Succeeded"]);
  const history = await store.history({ ...routeKey, limit: 10 });
  expect(history.filter((entry) => entry.by === shifterName)).toHaveLength(4);
  // Weights and status are one transaction.
  for (const entry of history.filter((each) => each.by === shifterName)) {
    const other = (await store.history({ ...shiftKey, limit: 20 })).find((each) => each.transaction === entry.transaction);
    expect(other).toBeDefined();
  }
});

test("a version that fails is taken back within seconds, in the middle of a step", async () => {
  behaviour = { "reviews-v2": { fails: 0.2, slow: 0 } };
  await begin();
  const status = await pass(4);
  expect(status).toMatchObject({ phase: "RolledBack", percent: 0 });
  expect(status.message).toMatch(/^back to 0 %: 20 % of \d+ requests failed; allowed are 1 %, and the older backend failed 0 %$/);
  expect(current).toBe(0);
  expect(told.at(-1)).toMatchObject({ type: "Warning", reason: "RolledBack" });
  // It is over: what comes later changes nothing.
  behaviour = {};
  expect((await pass(30)).phase).toBe("RolledBack");
});

test("one that is slow is taken back too, also when the older one has no traffic any more to compare with", async () => {
  await begin({ stepPercent: 50 });
  await pass(10);
  expect(current).toBe(100);
  behaviour = { "reviews-v2": { fails: 0, slow: 0.6 } };
  expect(await pass(8)).toMatchObject({ phase: "RolledBack" });
  expect(current).toBe(0);
});

test("without requests it waits, and goes on when they come", async () => {
  perSecond = 0;
  await begin();
  expect(await pass(60)).toMatchObject({ phase: "Waiting", percent: 25 });
  expect(told).toHaveLength(2);
  perSecond = 100;
  expect((await pass(3)).percent).toBe(50);
});

test("it goes on where it stood after a restart, and no step is made twice", async () => {
  await begin();
  await pass(5);
  await shifter.stop();
  shifter = makeShifter();
  expect((await pass(4)).percent).toBe(25);
  expect((await pass(1)).percent).toBe(50);
  // Two at once, as when a lease changes hands: the loser's transaction is refused.
  const second = makeShifter();
  nowMs += 10_000;
  await Promise.all([shifter.look(), second.look()]);
  await note();
  expect(current).toBe(75);
  await second.stop();
});

test("weights that somebody else has set are left alone", async () => {
  await begin();
  const there = (await store.get(routeKey)) as KubeObject;
  await store.update(routeKey, withPercent(there, "reviews-v1", "reviews-v2", 60), undefined);
  expect(await pass(1)).toMatchObject({
    phase: "Stopped",
    message: "somebody else has changed the weights: reviews-v2 has 60 %, and was given 25 %",
  });
  expect(current).toBe(60);
});

test("a shift that cannot begin says why", async () => {
  await begin({ to: "reviews-v3" });
  expect((await pass(1)).message).toBe(
    "no rule of HTTPRoute reviews has both reviews-v1 and reviews-v3 among its backends; add the one that is missing with weight: 0",
  );
});

test("pausing holds it where it is; a version that fails meanwhile is judged when it goes on", async () => {
  await begin();
  const shift = (await store.get(shiftKey)) as TrafficShiftObject;
  await store.update(shiftKey, { ...shift, spec: { ...shift.spec, paused: true } } as KubeObject, undefined);
  expect(await pass(60)).toMatchObject({ phase: "Paused", percent: 25 });
  const held = (await store.get(shiftKey)) as TrafficShiftObject;
  await store.update(shiftKey, { ...held, spec: { ...held.spec, paused: false } } as KubeObject, undefined);
  expect((await pass(1)).percent).toBe(50);
});

test("weights: small ones are multiplied, other backends keep their part", () => {
  const object = route(1, 1);
  const refs = ((object.spec as { rules: { backendRefs: unknown[] }[] }).rules[0] as { backendRefs: object[] }).backendRefs;
  refs.push({ name: "other", port: 80, weight: 2 });
  const made = withPercent(object, "reviews-v1", "reviews-v2", 33);
  const weights = (made.spec as { rules: { backendRefs: { weight: number }[] }[] }).rules[0]?.backendRefs.map((ref) => ref.weight);
  expect(weights).toEqual([67, 33, 100]);
  expect(percentOf(made, "reviews-v1", "reviews-v2")).toBe(33);
  expect(made.metadata.generation).toBe(2);
});
