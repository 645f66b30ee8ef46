// From store events to snapshots and statuses, with the real store in memory and a toy compiler.

import { afterEach, describe, expect, test } from "bun:test";
import type { KubeObject } from "../../api/meta.ts";
import { type Clock, PausedClock, systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { MeshCompiler } from "../../compile/compile.ts";
import type { XdsSnapshot } from "../../wire/xds-types.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { type Store, StoreFailure } from "../store/store.ts";
import { snapshot } from "../xds/support.ts";
import { type Publication, Publisher, type StatusPatch } from "./publisher.ts";
import { mergeStatus } from "./status.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const run of cleanups.splice(0).reverse()) await run();
});

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 2000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within 2 s: ${what}`);
    await Bun.sleep(1);
  }
}

const route = (name: string, to: string): KubeObject => ({
  apiVersion: "v1",
  kind: "HTTPRoute",
  metadata: { name, namespace: "shop" },
  spec: { to },
});
const key = (name: string) => ({ resource: "httproutes", namespace: "shop", name });

const text = (s: XdsSnapshot | undefined) => [...(s?.resources.route.values() ?? [])].map((r) => r.version).join(" ");

/** Every workload gets one route resource per object; `boom` throws; each object's status says where it leads. */
function compileToy(objects: readonly KubeObject[]): { snapshots: Map<string, XdsSnapshot>; statuses: StatusPatch[] } {
  const to = (o: KubeObject) => (o.spec as { to: string }).to;
  if (objects.some((o) => to(o) === "boom")) throw new Error("the compiler is broken");
  const s = snapshot("w", { route: objects.map((o) => `${o.metadata.name}=${to(o)}`).sort() });
  return {
    snapshots: new Map([["shop/w", s]]),
    statuses: objects.map((o) => ({
      resource: "httproutes",
      namespace: "shop",
      name: o.metadata.name,
      status: { conditions: [{ type: "Accepted", status: to(o) === "nowhere" ? "False" : "True", reason: to(o), message: "" }] },
    })),
  };
}

async function start(store: Store, clock: Clock = systemClock) {
  const published: Publication[] = [];
  const failures: string[] = [];
  let compiles = 0;
  const objects = new Map<string, KubeObject>();
  const held = new Map<string, XdsSnapshot | undefined>();
  const now = () => compileToy([...objects.values()]);
  const spec = (object: KubeObject | undefined) => JSON.stringify([object?.spec, object?.metadata.labels]);
  const publisher = await Publisher.start({
    store,
    clock,
    log: silentLogger,
    compiler: {
      get world() {
        return [...objects.values()];
      },
      put: (object) => {
        const same = objects.has(object.metadata.name) && spec(objects.get(object.metadata.name)) === spec(object);
        objects.set(object.metadata.name, object);
        return same ? "same" : "changed";
      },
      remove: (object) => (objects.delete(object.metadata.name) ? "changed" : "same"),
      hold: (workload) => {
        held.set(workload, now().snapshots.get(workload));
        return held.get(workload);
      },
      drop: (workload) => held.delete(workload),
      demand: () => {},
      foreign: () => {},
      resourcesFor: () => snapshot("w", {}).resources,
      snapshot: (workload) => now().snapshots.get(workload),
      status: (object) => now().statuses.find((each) => each.name === object.metadata.name),
      round: () => {
        compiles++;
        try {
          const { snapshots, statuses } = now();
          const different = [...held].filter(([key, old]) => text(old) !== text(snapshots.get(key)));
          for (const [key] of different) held.set(key, snapshots.get(key));
          return { snapshots: new Map(different.map(([key]) => [key, snapshots.get(key)])), statuses, failures: [] };
        } catch (cause) {
          return { snapshots: new Map(), statuses: [], failures: [{ what: "everything", cause }] };
        }
      },
    },
    onPublished: (p) => published.push(p),
    onCompileFailed: (reason) => failures.push(reason),
    onEvent: () => {},
  });
  cleanups.push(() => publisher.stop());
  return { publisher, published, failures, compiles: () => compiles };
}

function memory(): Store {
  const store = openSqliteStore(":memory:");
  cleanups.push(() => store.close());
  return store;
}

/** How a promise stands after everything that could run has run. */
async function standing(promise: Promise<unknown>): Promise<string> {
  const settled = promise.then(
    () => "resolved",
    (cause) => (cause instanceof StoreFailure ? cause.message : `not a StoreFailure: ${cause}`),
  );
  for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  return Promise.race([settled, Promise.resolve("waiting")]);
}

describe("publisher", () => {
  test("who waits for a revision that is not seen waits 3 s, to the millisecond, and is told how far this control plane is", async () => {
    // Empty, so that there are no statuses, whose writing would bring revisions of its own.
    const store = memory();
    const clock = new PausedClock();
    const { publisher } = await start(store, clock);
    const { seen } = publisher;
    const far = publisher.reached(seen + 5);
    expect(await standing(publisher.reached(seen))).toBe("resolved");
    clock.advance(2_999);
    expect(await standing(far)).toBe("waiting");
    clock.advance(1);
    expect(await standing(far)).toContain(`seen the store up to revision ${seen} only`);
    expect(await standing(far)).toContain(`revision ${seen + 5}; nothing was written. Try again.`);
  });

  test("a status that the store could not take is written when it can again, without another change", async () => {
    const store = memory();
    const clock = new PausedClock();
    const { update } = store;
    let tries = 0;
    store.update = () => Promise.reject(new StoreFailure(`the disk is full (${++tries})`));
    await store.create(key("a"), route("a", "x"));
    await start(store, clock);
    await until("a try", () => tries === 1);
    await standing(Promise.resolve());
    clock.advance(4_999);
    expect(tries).toBe(1);
    clock.advance(1);
    await until("another", () => tries === 2);
    store.update = update.bind(store);
    await until("the status", async () => {
      clock.advance(1_000);
      return (await store.get(key("a")))?.status !== undefined;
    });
  });

  test("who waits for a revision goes on with the event that brings it, and not before; an end of the publisher ends the wait", async () => {
    // Empty, so that there are no statuses, whose writing would bring revisions of its own.
    const store = memory();
    const clock = new PausedClock();
    const { publisher } = await start(store, clock);
    const next = publisher.reached(publisher.seen + 1);
    // Further than what statuses bring.
    const afterNext = publisher.reached(publisher.seen + 50);
    await store.create(key("b"), route("b", "1"));
    await until("the event is seen", async () => (await standing(next)) === "resolved");
    expect(await standing(afterNext)).toBe("waiting");
    // The limit of a wait that has ended does not fire.
    clock.advance(2_999);
    expect(await standing(next)).toBe("resolved");
    await publisher.stop();
    expect(await standing(afterNext)).toContain("nothing was written");
  });

  test("what is in the store at the start is published at once; a change follows in milliseconds", async () => {
    const store = memory();
    await store.create(key("a"), route("a", "1"));
    const { publisher } = await start(store);
    expect(publisher.get("shop/w")?.resources.route.get("a")?.version).toBe("a@1");
    const seen: string[] = [];
    cleanups.push(publisher.follow("shop/w", (s) => seen.push([...s.resources.route.values()].map((r) => r.version).join(" "))));
    const began = performance.now();
    await store.update(key("a"), route("a", "2"), undefined);
    await until("the change", () => seen.length === 1);
    expect(performance.now() - began).toBeLessThan(100);
    expect(seen).toEqual(["a@2"]);
  });

  test("a burst is compiled a few times at most, and the last word counts", async () => {
    const store = memory();
    const p = await start(store);
    await Promise.all(Array.from({ length: 200 }, (_, i) => store.create(key(`r${i}`), route(`r${i}`, "1"))));
    await until("all are published", () => p.publisher.get("shop/w")?.resources.route.size === 200);
    await until("all statuses are written", async () => (await store.list("httproutes")).items.every((o) => o.status !== undefined));
    expect(p.compiles()).toBeLessThan(20);
  });

  test("statuses are written once; their own events cause no further compile and no further write", async () => {
    const store = memory();
    const p = await start(store);
    await store.create(key("a"), route("a", "x"));
    await until("the status", async () => (await store.get(key("a")))?.status !== undefined);
    const revision = await store.revision();
    const compiles = p.compiles();
    await Bun.sleep(30);
    expect(await store.revision()).toBe(revision);
    expect(p.compiles()).toBe(compiles);
    const written = (await store.get(key("a")))?.status as { conditions: { lastTransitionTime: string }[] };
    expect(written.conditions[0]?.lastTransitionTime).toMatch(/^\d{4}-.*Z$/);
  });

  test("an object that compiles to the same hands nothing to anybody", async () => {
    const store = memory();
    const { publisher, published } = await start(store);
    await store.create(key("a"), route("a", "1"));
    cleanups.push(publisher.follow("shop/w", () => {}));
    await until("published", () => publisher.get("shop/w")?.resources.route.size === 1);
    const before = publisher.get("shop/w");
    await store.update(key("a"), { ...route("a", "1"), metadata: { name: "a", namespace: "shop", labels: { x: "y" } } }, undefined);
    await until("another round", () => published.at(-1)?.workloads.length === 0);
    expect(publisher.get("shop/w")).toBe(before as XdsSnapshot);
  });

  test("a compiler that throws leaves the last good snapshot in force, until it works again", async () => {
    const store = memory();
    await store.create(key("a"), route("a", "1"));
    const { publisher, failures } = await start(store);
    cleanups.push(publisher.follow("shop/w", () => {}));
    await store.create(key("b"), route("b", "boom"));
    await until("the failure", () => failures.length > 0);
    expect(publisher.get("shop/w")?.resources.route.get("a")?.version).toBe("a@1");
    await store.update(key("b"), route("b", "2"), undefined);
    await until("recovery", () => publisher.get("shop/w")?.resources.route.size === 2);
  });

  test("the world for admission is never older than the last event", async () => {
    const store = memory();
    const { publisher } = await start(store);
    await store.create(key("a"), route("a", "1"));
    expect((publisher.world() as KubeObject[]).map((o) => o.metadata.name)).toEqual(["a"]);
    await store.delete(key("a"), undefined);
    expect(publisher.world()).toEqual([]);
  });
});

describe("with the compiler", () => {
  const service = (name: string): KubeObject => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "shop" },
    spec: { selector: { app: name }, ports: [{ name: "http", port: 80 }] },
  });
  const caller: KubeObject = {
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: { name: "w", namespace: "shop", annotations: { "weft.dev/http-proxy-port": "4000" } },
    spec: { address: "10.0.0.1" },
  };

  test("a proxy that can ask is told what it asked for, and of no other change; one that goes is forgotten", async () => {
    const store = memory();
    for (const name of ["a", "b", "c"]) await store.create({ resource: "services", namespace: "shop", name }, service(name));
    await store.create({ resource: "workloadentries.networking.istio.io", namespace: "shop", name: "w" }, caller);
    const published: Publication[] = [];
    const publisher = await Publisher.start({
      store,
      clock: systemClock,
      log: silentLogger,
      compiler: new MeshCompiler("cluster.local"),
      onPublished: (p) => published.push(p),
      onCompileFailed: (reason) => {
        throw new Error(reason);
      },
      onEvent: () => {},
    });
    cleanups.push(() => publisher.stop());
    const names = (s: XdsSnapshot | undefined) =>
      [...(s?.resources.cluster.keys() ?? [])].map((name) => name.split("|")[3]?.split(".")[0]).join(" ");
    const seen: string[] = [];
    const unfollow = publisher.follow("shop/w", (s) => seen.push(names(s)));
    expect(names(publisher.get("shop/w"))).toBe("a b c");
    publisher.demand("shop/w", []);
    await until("nothing is left", () => seen.at(-1) === "");
    publisher.demand("shop/w", ["b"]);
    await until("b is there", () => seen.at(-1) === "b");
    expect([...publisher.resourcesFor("shop/w", ["c"]).endpoint.keys()]).toEqual(["outbound|80||c.shop.svc.cluster.local"]);
    const rounds = published.length;
    await store.create({ resource: "services", namespace: "shop", name: "d" }, service("d"));
    await until("a round", () => published.length > rounds);
    expect(seen).toEqual(["", "b"]);
    unfollow();
    expect(names(publisher.get("shop/w"))).toBe("a b c d");
  });
});

describe("mergeStatus", () => {
  const now = Date.parse("2030-01-01T00:00:05Z");
  const old = "2029-01-01T00:00:00Z";
  const condition = (status: string, more: object = {}) => ({ type: "Accepted", status, reason: "R", message: "", ...more });

  test("keeps the time of what did not turn, dates what did", () => {
    const current = {
      conditions: [condition("True", { lastTransitionTime: old }), { type: "Gone", status: "True", lastTransitionTime: old }],
    };
    expect(mergeStatus({ conditions: [condition("True")] }, current, now)).toEqual({
      conditions: [condition("True", { lastTransitionTime: old })],
    });
    expect(mergeStatus({ conditions: [condition("False")] }, current, now)).toEqual({
      conditions: [condition("False", { lastTransitionTime: "2030-01-01T00:00:05Z" })],
    });
    expect(mergeStatus({ conditions: [condition("True", { message: "new words" })] }, current, now)).toEqual({
      conditions: [condition("True", { message: "new words", lastTransitionTime: old })],
    });
  });

  test("says nothing when nothing differs", () => {
    expect(
      mergeStatus({ conditions: [condition("True")] }, { conditions: [condition("True", { lastTransitionTime: old })] }, now),
    ).toBeUndefined();
    expect(mergeStatus({ a: 1, b: undefined }, { a: 1 }, now)).toBeUndefined();
    expect(mergeStatus({}, undefined, now)).toEqual({});
  });

  test("parents are told apart by their reference, whatever their order", () => {
    const parent = (name: string, time?: string) => ({
      parentRef: { kind: "Service", name },
      controllerName: "c",
      conditions: [condition("True", time === undefined ? {} : { lastTransitionTime: time })],
    });
    const merged = mergeStatus(
      { parents: [parent("b"), parent("a")] },
      { parents: [parent("a", old), parent("b", "2028-01-01T00:00:00Z")] },
      now,
    );
    expect(merged).toEqual({ parents: [parent("b", "2028-01-01T00:00:00Z"), parent("a", old)] });
  });
});
