// A proxy that went away: when its entry is put out, put back, deleted, and when it is left alone. Time stands still unless moved.

import { afterEach, describe, expect, test } from "bun:test";
import type { Condition, KubeObject } from "../../api/meta.ts";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { StoreFailure } from "../store/store.ts";
import { forgetMs, graceMs, Liveness, restartGraceMs } from "./liveness.ts";

const resource = "workloadentries.networking.istio.io";
const key = { resource, namespace: "shop", name: "w" };
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const run of cleanups.splice(0).reverse()) await run();
});

const healthy = (status: string, reason: string): Condition => ({ type: "Healthy", status: status as "True", reason, message: "" });

function entry(...conditions: Condition[]): KubeObject {
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: { name: "w", namespace: "shop" },
    spec: { address: "127.0.0.1" },
    status: { conditions },
  };
}

async function setup(first: KubeObject | undefined) {
  const store = openSqliteStore(":memory:");
  cleanups.push(() => store.close());
  if (first !== undefined) await store.create(key, first);
  const clock = new PausedClock();
  const connected = new Set<string>();
  const events: string[] = [];
  const make = async () => {
    const liveness = new Liveness({
      store,
      clock,
      log: silentLogger,
      resource,
      isConnected: (k) => connected.has(k),
      onEvent: (_l, m) => events.push(m),
    });
    const watch = await store.watch(await store.revision(), resource, (event) => liveness.entryChanged(event));
    cleanups.push(async () => {
      watch.stop();
      await liveness.stop();
    });
    liveness.start((await store.list(resource)).items);
    return liveness;
  };
  const liveness = await make();
  /** `Healthy=True/Answering ProxyConnected=True/…`, or `gone`. Waits until writes under way are through. */
  const state = async () => {
    for (let i = 0; i < 20; i++) await Bun.sleep(0);
    const object = await store.get(key);
    if (object === undefined) return "gone";
    const list = (object.status as { conditions?: Condition[] } | undefined)?.conditions ?? [];
    return list
      .map((c) => `${c.type}=${c.status}/${c.reason}`)
      .sort()
      .join(" ");
  };
  const connect = async (l = liveness) => {
    connected.add("shop/w");
    l.connected("shop/w");
    return state();
  };
  const lose = (l = liveness) => {
    connected.delete("shop/w");
    l.lost("shop/w");
  };
  return { store, clock, connected, events, liveness, make, state, connect, lose };
}

const up = "Healthy=True/Answering ProxyConnected=True/Connected";
const out = "Healthy=False/ProxyLost ProxyConnected=False/ProxyLost";

test("what a proxy does not have open stands in its entry beside the word of others, outlives their reports, and goes when it is open or the proxy is gone", async () => {
  const { store, clock, liveness, state, connect, lose } = await setup(entry(healthy("True", "Running")));
  await connect();
  const ready = "Healthy=True/Running ProxyConnected=True/Connected";
  const closed = { port: 80, transport: "tcp", reason: "NotOpen", words: "in use" } as const;
  liveness.listeners("shop/w", []);
  expect(await state()).toBe(ready);
  liveness.listeners("shop/w", [closed, { ...closed, port: 53, transport: "udp" }]);
  expect(await state()).toBe(`${ready} listener.weft.dev/53-udp=False/NotOpen listener.weft.dev/80-tcp=False/NotOpen`);
  liveness.listeners("shop/w", [closed]);
  expect(await state()).toBe(`${ready} listener.weft.dev/80-tcp=False/NotOpen`);
  // Whoever reports the health replaces the list.
  const held = await store.get(key);
  await store.update(
    key,
    { ...(held as KubeObject), status: { conditions: [healthy("True", "Running")] } },
    Number(held?.metadata.resourceVersion),
  );
  expect(await state()).toBe(`${ready} listener.weft.dev/80-tcp=False/NotOpen`);
  liveness.listeners("shop/w", []);
  expect(await state()).toBe(ready);
  liveness.listeners("shop/w", [closed]);
  lose();
  clock.advance(graceMs);
  expect(await state()).toBe(out);
  // A control plane that was started meanwhile knows nothing of the entry, and takes the proxy's word.
  liveness.listeners("shop/w", [closed]);
  expect(await state()).toContain("80-tcp");
});

describe("a store that fails for a while", () => {
  test("costs time, and no word: what was lost is put out and forgotten, what has come is said to be there", async () => {
    const { store, clock, state, connect, lose } = await setup(entry(healthy("True", "Answering")));
    const { update, delete: remove } = store;
    const failing = (yes: boolean) => {
      store.update = yes ? () => Promise.reject(new StoreFailure("the disk is full")) : update.bind(store);
      store.delete = yes ? () => Promise.reject(new StoreFailure("the disk is full")) : remove.bind(store);
    };
    failing(true);
    expect(await connect()).toBe("Healthy=True/Answering");
    failing(false);
    clock.advance(graceMs);
    expect(await state()).toBe("Healthy=True/Answering ProxyConnected=True/Connected");
    failing(true);
    lose();
    for (let i = 0; i < 4; i++) {
      clock.advance(graceMs);
      expect(await state()).toBe("Healthy=True/Answering ProxyConnected=True/Connected");
    }
    failing(false);
    clock.advance(graceMs);
    expect(await state()).toBe("Healthy=False/ProxyLost ProxyConnected=False/ProxyLost");
    failing(true);
    clock.advance(forgetMs);
    expect(await state()).toContain("ProxyLost");
    failing(false);
    clock.advance(graceMs);
    expect(await state()).toBe("gone");
  });

  test("a proxy that comes back before the next try is not put out by it", async () => {
    const { store, clock, state, connect, lose } = await setup(entry(healthy("True", "Answering")));
    await connect();
    const { update } = store;
    lose();
    store.update = () => Promise.reject(new StoreFailure("etcd does not answer"));
    clock.advance(graceMs);
    await state();
    await connect();
    store.update = update.bind(store);
    clock.advance(3 * graceMs);
    expect(await state()).toBe("Healthy=True/Answering ProxyConnected=True/Connected");
  });
});

describe("a proxy that is lost", () => {
  test("is put out after the grace, put back when it returns, deleted when it does not", async () => {
    const s = await setup(entry(healthy("True", "Answering")));
    expect(await s.connect()).toBe(up);
    s.lose();
    s.clock.advance(graceMs - 1);
    expect(await s.state()).toBe(up);
    s.clock.advance(1);
    expect(await s.state()).toBe(out);
    expect(await s.connect()).toBe("Healthy=True/ProxyBack ProxyConnected=True/Connected");
    s.clock.advance(forgetMs * 2);
    expect(await s.state()).not.toBe("gone");
    s.lose();
    s.clock.advance(graceMs);
    expect(await s.state()).toBe(out);
    s.clock.advance(forgetMs);
    expect(await s.state()).toBe("gone");
    expect(s.events.at(-1)).toMatch(/deleted/);
  });

  test("that is back within the grace was never away", async () => {
    const s = await setup(entry(healthy("True", "Answering")));
    await s.connect();
    const revision = await s.store.revision();
    s.lose();
    s.clock.advance(graceMs - 1);
    await s.connect();
    s.clock.advance(forgetMs);
    expect(await s.state()).toBe(up);
    expect(await s.store.revision()).toBe(revision);
  });

  test("was not in service: its own word stays, also when it returns", async () => {
    const s = await setup(entry(healthy("False", "Draining")));
    await s.connect();
    s.lose();
    s.clock.advance(graceMs);
    expect(await s.state()).toBe("Healthy=False/Draining ProxyConnected=False/ProxyLost");
    expect(await s.connect()).toBe("Healthy=False/Draining ProxyConnected=True/Connected");
  });

  test("unregistered first: nothing is left to do", async () => {
    const s = await setup(entry(healthy("True", "Answering")));
    await s.connect();
    await s.store.delete(key, undefined);
    s.lose();
    s.clock.advance(graceMs + forgetMs);
    expect(await s.state()).toBe("gone");
    expect(s.events).toEqual([]);
  });
});

describe("left alone", () => {
  test("an entry that never had a proxy", async () => {
    const s = await setup(entry(healthy("True", "Answering")));
    s.clock.advance(restartGraceMs + forgetMs * 2);
    expect(await s.state()).toBe("Healthy=True/Answering");
  });

  test("the health that weft run reports; our own mark goes back in beside it", async () => {
    const s = await setup(entry(healthy("False", "Starting")));
    await s.connect();
    await s.store.update(key, entry(healthy("True", "Answering")), undefined);
    expect(await s.state()).toBe(up);
  });
});

describe("after a restart of the control plane", () => {
  test("who had a proxy gets 30 s, then is put out; who comes back is not", async () => {
    const s = await setup(
      entry(healthy("True", "Answering"), { type: "ProxyConnected", status: "True", reason: "Connected", message: "" }),
    );
    s.clock.advance(restartGraceMs - 1);
    expect(await s.state()).toBe(up);
    s.clock.advance(1);
    expect(await s.state()).toBe(out);

    const t = await setup(
      entry(healthy("True", "Answering"), { type: "ProxyConnected", status: "True", reason: "Connected", message: "" }),
    );
    t.clock.advance(1000);
    await t.connect();
    t.clock.advance(restartGraceMs + forgetMs);
    expect(await t.state()).toBe(up);
  });

  test("who was put out before it is deleted in the end, or put back", async () => {
    const lost = entry(healthy("False", "ProxyLost"), { type: "ProxyConnected", status: "False", reason: "ProxyLost", message: "" });
    const s = await setup(lost);
    s.clock.advance(restartGraceMs + forgetMs);
    expect(await s.state()).toBe("gone");
    const t = await setup(lost);
    expect(await t.connect()).toBe("Healthy=True/ProxyBack ProxyConnected=True/Connected");
  });
});

describe("several control planes", () => {
  async function two() {
    const { store, clock } = await (async () => {
      const made = openSqliteStore(":memory:");
      cleanups.push(() => made.close());
      return { store: made, clock: new PausedClock() };
    })();
    await store.create(key, entry(healthy("True", "Answering")));
    const there = new Set(["a", "b"]);
    const connectedTo = new Map([
      ["a", false],
      ["b", false],
    ]);
    const make = async (id: string) => {
      const liveness = new Liveness({
        store,
        clock,
        log: silentLogger,
        resource,
        isConnected: () => connectedTo.get(id) === true,
        among: { id, isThere: (other) => there.has(other) },
        onEvent: () => {},
      });
      const watch = await store.watch(await store.revision(), resource, (event) => liveness.entryChanged(event));
      cleanups.push(async () => {
        watch.stop();
        await liveness.stop();
      });
      return liveness;
    };
    const [a, b] = [await make("a"), await make("b")];
    const health = async () => {
      for (let at = 0; at < 20; at++) await Bun.sleep(0);
      const { status } = (await store.get(key)) as KubeObject;
      const list = (status as { conditions: Condition[] }).conditions;
      return list.find((each) => each.type === "Healthy")?.status;
    };
    const connect = async (id: string, liveness: Liveness) => {
      connectedTo.set(id, true);
      liveness.connected("shop/w");
      await health();
    };
    return { store, clock, there, connectedTo, a, b, health, connect };
  }

  test("a proxy that moved to another control plane is not put out by the one it left", async () => {
    const mesh = await two();
    await mesh.connect("a", mesh.a);
    mesh.connectedTo.set("a", false);
    mesh.a.lost("shop/w");
    await mesh.connect("b", mesh.b);
    mesh.clock.advance(graceMs + 1);
    expect(await mesh.health()).toBe("True");
  });

  test("a proxy is not put out because the control plane it moved to cannot reach the store for a moment", async () => {
    const mesh = await two();
    await mesh.connect("a", mesh.a);
    mesh.connectedTo.set("a", false);
    mesh.a.lost("shop/w");
    await mesh.connect("b", mesh.b);
    mesh.there.delete("b");
    mesh.clock.advance(graceMs + 1);
    expect(await mesh.health()).toBe("True");
    // It is judged by the wait that begins now, and not if it is back by then.
    mesh.a.adopt((await mesh.store.list(resource)).items);
    mesh.clock.advance(restartGraceMs - 1_000);
    mesh.there.add("b");
    mesh.clock.advance(2_000);
    expect(await mesh.health()).toBe("True");
  });

  test("the proxies of a control plane that is gone get the time to come back, then they are put out", async () => {
    const mesh = await two();
    await mesh.connect("a", mesh.a);
    const entries = async () => (await mesh.store.list(resource)).items;
    mesh.b.adopt(await entries());
    mesh.clock.advance(restartGraceMs + 1);
    // It is there, and has not said anything else.
    expect(await mesh.health()).toBe("True");
    mesh.there.delete("a");
    mesh.connectedTo.set("a", false);
    mesh.b.adopt(await entries());
    mesh.clock.advance(graceMs + 1);
    expect(await mesh.health()).toBe("True");
    mesh.clock.advance(restartGraceMs);
    expect(await mesh.health()).toBe("False");
  });
});
