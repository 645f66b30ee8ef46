import { afterEach, beforeEach, expect, test } from "bun:test";
import { type EventObject, eventKind } from "../api/kinds/event.ts";
import { PausedClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { EventRecorder, eventLifeMs, maxEvents, mostTries } from "./events.ts";
import { openSqliteStore } from "./store/sqlite.ts";
import { type Store, StoreFailure, type Write } from "./store/store.ts";

let store: Store;
let clock: PausedClock;
let recorder: EventRecorder;
let uids = 0;
beforeEach(() => {
  store = openSqliteStore(":memory:");
  clock = new PausedClock();
  recorder = new EventRecorder({ store, clock, log: silentLogger, uid: () => `uid-${++uids}` });
});
afterEach(async () => {
  await recorder.stop();
  await store.close();
});

const regarding = {
  apiVersion: "networking.istio.io/v1",
  kind: "WorkloadEntry",
  metadata: { name: "cart-1", namespace: "shop", uid: "u" },
};
const rejected = (message: string) => recorder.record({ regarding, type: "Warning", reason: "ConfigurationRejected", message });
const events = async () => (await store.list("events")).items as EventObject[];
async function until(count: number): Promise<EventObject[]> {
  const end = performance.now() + 2000;
  while ((await events()).length !== count && performance.now() < end) await Bun.sleep(1);
  expect(await events()).toHaveLength(count);
  return events();
}

test("an event is written with what it is about, and passes its own kind's validation", async () => {
  rejected("cluster web: field 7 is unknown");
  clock.advance(1_000);
  const [event] = await until(1);
  expect(event).toMatchObject({
    involvedObject: { kind: "WorkloadEntry", name: "cart-1", namespace: "shop", uid: "u" },
    reason: "ConfigurationRejected",
    type: "Warning",
    count: 1,
    metadata: { namespace: "shop" },
  });
  expect(eventKind.validate(event as EventObject)).toEqual([]);
});

test("the same again is counted, in one burst and later; another is another", async () => {
  for (let at = 0; at < 5; at++) rejected("same");
  rejected("other");
  clock.advance(1_000);
  await until(2);
  clock.advance(60_000);
  rejected("same");
  clock.advance(1_000);
  const end = performance.now() + 2000;
  while (!(await events()).some((event) => event.count === 6) && performance.now() < end) await Bun.sleep(1);
  const same = (await events()).find((event) => event.message === "same");
  expect(same?.count).toBe(6);
  expect(Date.parse(same?.lastTimestamp ?? "") - Date.parse(same?.firstTimestamp ?? "")).toBe(61_000);
});

test("events go an hour after they were seen last, and the oldest when there are too many", async () => {
  rejected("old");
  clock.advance(1_000);
  await until(1);
  clock.advance(eventLifeMs / 2);
  rejected("new");
  clock.advance(1_000);
  await until(2);
  clock.advance(eventLifeMs / 2);
  expect((await until(1))[0]?.message).toBe("new");
  const at = (ms: number) => new Date(clock.now() - ms).toISOString();
  const writes = Array.from(
    { length: maxEvents + 2 },
    (_, number): Write => ({
      verb: "create",
      key: { resource: "events", namespace: "bulk", name: `e${number}` },
      object: { apiVersion: "v1", kind: "Event", metadata: { name: `e${number}`, namespace: "bulk" }, lastTimestamp: at(number) },
    }),
  );
  await store.transact(writes);
  clock.advance(60_000);
  const left = await until(maxEvents);
  expect(left.map((event) => event.metadata.name)).not.toContain(`e${maxEvents + 1}`);
});

test("stopping writes what is waiting", async () => {
  rejected("last words");
  await recorder.stop();
  expect(await events()).toHaveLength(1);
});

/** Lets what was begun come to its end. */
const settled = async () => {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
};

test("a write that fails is tried again, with what came meanwhile, and given up after a few", async () => {
  const create = store.create.bind(store);
  let asked = 0;
  store.create = () => {
    asked++;
    return Promise.reject(new StoreFailure("etcd does not answer"));
  };
  rejected("same");
  clock.advance(1_000);
  await settled();
  expect(asked).toBe(1);
  rejected("same");
  clock.advance(2_000);
  await settled();
  expect(asked).toBe(2);
  store.create = create;
  clock.advance(4_000);
  await until(1);
  expect((await events())[0]).toMatchObject({ count: 2 });

  asked = 0;
  store.create = () => {
    asked++;
    return Promise.reject(new StoreFailure("etcd does not answer"));
  };
  rejected("never");
  for (let round = 0; round < 30; round++) {
    clock.advance(2_000);
    await settled();
  }
  expect(asked).toBe(mostTries);
  store.create = create;
  clock.advance(20_000);
  await settled();
  expect(await events()).toHaveLength(1);
});

test("an Event that another control plane made or tidied away in between is counted all the same", async () => {
  const get = store.get.bind(store);
  rejected("same");
  clock.advance(1_000);
  await until(1);
  store.get = async () => undefined;
  rejected("same");
  clock.advance(1_000);
  await settled();
  store.get = get;
  clock.advance(2_000);
  await settled();
  expect((await events())[0]).toMatchObject({ count: 2 });
});
