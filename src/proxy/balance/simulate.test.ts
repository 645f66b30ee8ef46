// Properties of balancing and judging endpoints, in a simulator whose clock stands still between events.

import { describe, expect, test } from "bun:test";
import type { BalanceConfig, OutlierConfig } from "../config.ts";
import { endpoint as endpointConfig } from "../testing/fixture.ts";
import type { Endpoint } from "./endpoint.ts";
import { pick } from "./pick.ts";
import { makeCluster, percentile, permit, seeded, simulate, skewed, transportOf } from "./testing/simulate.ts";
import { hash64, wanted } from "./wanted.ts";

const outliers: OutlierConfig = {
  consecutive5xx: 5,
  enforce5xx: 100,
  consecutiveGateway: 0,
  enforceGateway: 0,
  splitLocal: false,
  consecutiveLocal: 5,
  enforceLocal: 100,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionMs: 300_000,
  jitterMs: 0,
  maxEjectionPercent: 10,
  alwaysOne: true,
  successRate: null,
  failurePercentage: null,
  latency: null,
  returnMs: 10_000,
};

const hashing: readonly (BalanceConfig & { kind: "ring_hash" | "maglev" })[] = [
  { kind: "ring_hash", minSize: 8_192, maxSize: 8_388_608 },
  { kind: "maglev", tableSize: 65_537 },
];

function ownerOf(cluster: Parameters<typeof pick>[0], key: string, nowMs = 0): Endpoint {
  wanted.hashed = true;
  wanted.hash = hash64(key);
  return pick(cluster, permit, nowMs, Math.random, null) as Endpoint;
}

describe("consistent hashing", () => {
  const keys = Array.from({ length: 10_000 }, (_, i) => `user-${i}`);
  for (const balance of hashing) {
    for (const count of [10, 50]) {
      test(`${balance.kind}: of ${count} endpoints one leaving or coming moves at most 1/n of the keys and a little`, () => {
        const { cluster } = makeCluster(count, { balance });
        const before = keys.map((key) => ownerOf(cluster, key).port);
        const shares = Map.groupBy(before, (port) => port);
        for (const [, own] of shares) expect(own.length / keys.length).toBeLessThan(1.5 / count);
        expect(shares.size).toBe(count);
        const epsilon = 0.02;
        const left = Array.from({ length: count - 1 }, (_, i) => endpointConfig(i + 1));
        cluster.setEndpoints(left, transportOf, 0, false);
        const without = keys.map((key) => ownerOf(cluster, key).port);
        const moved = without.filter((port, i) => port !== before[i]).length / keys.length;
        expect(moved).toBeLessThanOrEqual(1 / count + epsilon);
        cluster.setEndpoints([...left, endpointConfig(count)], transportOf, 0, false);
        expect(keys.map((key) => ownerOf(cluster, key).port)).toEqual(before);
      });
    }
    test(`${balance.kind}: the order in which endpoints came does not matter, and weights are honoured`, () => {
      const weights = [1, 2, 3, 4];
      const { cluster: a } = makeCluster(4, { balance }, (i) => ({ weight: weights[i] ?? 1 }));
      const { cluster: b } = makeCluster(4, { balance }, (i) => ({
        address: { host: "127.0.0.1", port: 4 - i },
        weight: weights[3 - i] ?? 1,
      }));
      const owners = keys.map((key) => ownerOf(a, key).port);
      expect(keys.map((key) => ownerOf(b, key).port)).toEqual(owners);
      for (const [i, weight] of weights.entries()) {
        const share = owners.filter((port) => port === i + 1).length / keys.length;
        expect(Math.abs(share - weight / 10)).toBeLessThan(0.04);
      }
    });
    test(`${balance.kind}: a key goes on to another endpoint while its own is ejected, and comes back`, () => {
      const { cluster } = makeCluster(10, { balance, outliers: { ...outliers, returnMs: 0 } });
      const own = ownerOf(cluster, "k");
      for (let i = 0; i < 5; i++) own.observer?.answered(503, 1, 0);
      expect(own.ejected).toBeTrue();
      expect(ownerOf(cluster, "k", 1)).not.toBe(own);
      expect(ownerOf(cluster, "k", 30_001)).toBe(own);
    });
    test(`${balance.kind}: bounded load passes an endpoint over that has too much`, () => {
      const { cluster } = makeCluster(10, { balance: { ...balance, overloadPercent: 150 } });
      for (let i = 0; i < 100; i++) ownerOf(cluster, "hot").active++;
      expect(Math.max(...cluster.endpoints.map((one) => one.active))).toBeLessThanOrEqual(15);
    });
  }
});

describe("limits", () => {
  for (const balance of [
    { kind: "least_request", choices: 2 },
    { kind: "peak_ewma", decayMs: 10_000 },
    { kind: "round_robin" },
    ...hashing,
  ] as const)
    test(`no endpoint has more than its limit (${balance.kind})`, () => {
      const { cluster } = makeCluster(5, { balance, endpointLimits: { maxConnections: 100, maxRequests: 3, maxRetries: 3 } });
      const outcome = simulate({ cluster, seed: 7, seconds: 3, perSecond: 2_000, behaviour: () => ({ serviceMs: 10, hands: 1 }) });
      expect(outcome.mostActive).toBe(3);
      expect(outcome.refused).toBeGreaterThan(100);
      for (const endpoint of cluster.endpoints) endpoint.active = 3;
      expect(pick(cluster, permit, 0, Math.random, null)).toBeNull();
      expect(cluster.full).toBeTrue();
    });
});

describe("outlier detection", () => {
  for (let seed = 1; seed <= 20; seed++) {
    test(`the share that is out never passes the maximum (seed ${seed})`, () => {
      const random = seeded(seed);
      const count = 2 + Math.floor(random() * 30);
      const percent = [0, 10, 30, 50, 100][Math.floor(random() * 5)] as number;
      const { cluster, events } = makeCluster(count, {
        balance: { kind: "random" },
        outliers: {
          ...outliers,
          maxEjectionPercent: percent,
          intervalMs: 1_000,
          baseEjectionMs: 2_000,
          successRate: { enforce: 100, minHosts: 3, volume: 10, stdevFactor: 1.9 },
          failurePercentage: { enforce: 50, minHosts: 3, volume: 10, threshold: 60 },
        },
      });
      const most = percent === 0 ? 0 : Math.max(1, Math.floor((count * percent) / 100));
      simulate({
        cluster,
        seed,
        seconds: 20,
        perSecond: count * 40,
        behaviour: (port, nowMs) => ({
          serviceMs: 5,
          hands: 4,
          status: (port + Math.floor(nowMs / 3_000)) % 3 === 0 || port === 1 ? 503 : 200,
        }),
        each: () => {
          const out = cluster.endpoints.filter((one) => one.ejected).length;
          if (out > most || out >= count) throw new Error(`${out} of ${count} are out, at most ${most} may be`);
        },
      });
      if (percent > 0) expect(events.out.length).toBeGreaterThan(0);
      for (const one of events.out) expect(one.forMs).toBeLessThanOrEqual(300_000);
    });
  }
  test("ejections grow longer while they come again, and shorter with time", () => {
    const { cluster, events } = makeCluster(10, { outliers });
    const bad = cluster.endpoints[0] as Endpoint;
    let now = 0;
    const fail = () => {
      for (let i = 0; i < 5; i++) bad.observer?.answered(500, 1, now);
    };
    for (let i = 0; i < 3; i++) {
      fail();
      now = bad.ejectedUntilMs;
      cluster.refresh(now);
      expect(bad.ejected).toBeFalse();
    }
    expect(events.out.map((one) => one.forMs)).toEqual([30_000, 60_000, 90_000]);
    for (let i = 0; i < 10; i++) {
      now += 10_001;
      cluster.refresh(now);
    }
    fail();
    expect(events.out.at(-1)?.forMs).toBe(30_000);
  });
  test("who comes back gets a tenth of its share, then more", () => {
    const { cluster } = makeCluster(2, { balance: { kind: "random" }, outliers: { ...outliers, maxEjectionPercent: 50 } });
    const bad = cluster.endpoints[0] as Endpoint;
    for (let i = 0; i < 5; i++) bad.observer?.answered(500, 1, 0);
    const random = seeded(4);
    const share = (nowMs: number) => {
      let own = 0;
      for (let i = 0; i < 4_000; i++) if (pick(cluster, permit, nowMs, random, null) === bad) own++;
      return own / 4_000;
    };
    expect(share(1_000)).toBe(0);
    expect(share(30_000)).toBeCloseTo(0.1 / 1.1, 1);
    expect(share(35_000)).toBeCloseTo(0.5 / 1.5, 1);
    expect(share(40_001)).toBeCloseTo(0.5, 1);
  });
  test("the last that is available is never ejected", () => {
    const { cluster, events } = makeCluster(1, { outliers: { ...outliers, maxEjectionPercent: 100 } });
    for (let i = 0; i < 20; i++) cluster.endpoints[0]?.observer?.answered(500, 1, 0);
    expect(events.out).toEqual([]);
    expect(events.sparedCount).toBeGreaterThan(0);
  });
  test("a slow one among quick ones is a latency outlier; alike ones are none", () => {
    const rule = { ...outliers, consecutive5xx: 0, latency: { minHosts: 3, volume: 20, factor: 3, floorMs: 20 } };
    const slow = makeCluster(10, { balance: { kind: "random" }, outliers: rule });
    simulate({
      cluster: slow.cluster,
      seed: 2,
      seconds: 21,
      perSecond: 100,
      behaviour: (port) => ({ serviceMs: port === 3 ? 100 : 5, hands: 100 }),
    });
    expect(slow.events.out.map((one) => [one.port, one.reason])).toEqual([[3, "latency"]]);
    expect(slow.events.out[0]?.detail).toContain("ms on average");
    const alike = makeCluster(10, { balance: { kind: "random" }, outliers: rule });
    simulate({ cluster: alike.cluster, seed: 2, seconds: 21, perSecond: 100, behaviour: () => ({ serviceMs: 50, hands: 100 }) });
    expect(alike.events.out).toEqual([]);
  });
});

describe("who is used", () => {
  const locality = (zone: string, weight = 0) => ({ region: "r", zone, subZone: "", weight, overprovisioning: 140 });
  const picks = (cluster: Parameters<typeof pick>[0], nowMs = 0) => {
    const random = seeded(9);
    const counts = new Map<string, number>();
    for (let i = 0; i < 10_000; i++) {
      const { config } = pick(cluster, permit, nowMs, random, null) as Endpoint;
      const key = `${config.priority}${config.locality?.zone ?? ""}`;
      counts.set(key, (counts.get(key) ?? 0) + 1 / 10_000);
    }
    return counts;
  };
  /** Priority 0 has ports 1 to 10, priority 1 the others. */
  const twoLevels = (down: number) =>
    makeCluster(20, { balance: { kind: "random" } }, (i) => ({ priority: i < 10 ? 0 : 1, healthy: i >= down }));
  test("priorities fail over by Envoy's arithmetic: overprovisioning 1.4", () => {
    for (const [down, first] of [
      [0, 1],
      [2, 1],
      [3, 0.98],
      [5, 0.7],
      [10, 0],
    ] as const)
      expect(picks(twoLevels(down).cluster).get("0") ?? 0).toBeCloseTo(first, 1);
  });
  test("panic: below half of the endpoints health is not believed", () => {
    const down = (count: number, more = {}) => makeCluster(10, { balance: { kind: "random" }, ...more }, (i) => ({ healthy: i >= count }));
    const used = ({ cluster }: ReturnType<typeof down>) => {
      const random = seeded(1);
      return new Set(Array.from({ length: 1_000 }, () => pick(cluster, permit, 0, random, null)?.port)).size;
    };
    expect(used(down(5))).toBe(5);
    expect(used(down(6))).toBe(10);
    expect(down(6).cluster.panic).toBeTrue();
    expect(used(down(6, { panicPercent: 0 }))).toBe(4);
    expect(pick(down(10, { panicPercent: 0 }).cluster, permit, 0, Math.random, null)).toBeNull();
  });
  test("localities by weight, less what they lack", () => {
    const { cluster } = makeCluster(20, { balance: { kind: "random" }, localities: "weighted" }, (i) => ({
      locality: i < 10 ? locality("a", 3) : locality("b", 1),
    }));
    expect(picks(cluster).get("0a")).toBeCloseTo(0.75, 1);
    for (const endpoint of cluster.endpoints.slice(0, 8)) endpoint.failing = true;
    cluster.changed();
    // a: 3 x 1.4 x 0.2 = 0.84, b: 1.
    expect(picks(cluster).get("0a")).toBeCloseTo(0.84 / 1.84, 1);
  });
  test("the own zone first, spilling over where it lacks endpoints", () => {
    const own = { region: "r", zone: "a", subZone: "" };
    const { cluster } = makeCluster(
      20,
      { balance: { kind: "random" }, localities: "own" },
      (i) => ({ locality: locality(i < 10 ? "a" : "b") }),
      own,
    );
    expect(picks(cluster).get("0a")).toBeCloseTo(1);
    for (const endpoint of cluster.endpoints.slice(0, 5)) endpoint.failing = true;
    cluster.changed();
    expect(picks(cluster).get("0a")).toBeCloseTo(0.7, 1);
  });
  test("nearer ones first, then the region that comes next", () => {
    const own = { region: "r", zone: "a", subZone: "" };
    const places = [locality("a"), locality("b"), { ...locality("x"), region: "far" }, { ...locality("y"), region: "next" }];
    const { cluster } = makeCluster(
      8,
      { balance: { kind: "random" }, localities: { kind: "near", failover: { r: "next" } } },
      (i) => ({ locality: places[i % 4] as (typeof places)[number] }),
      own,
    );
    for (const zone of ["a", "b", "y", "x"]) {
      expect(picks(cluster).get(`0${zone}`)).toBeCloseTo(1, 1);
      for (const endpoint of cluster.endpoints) if (endpoint.config.locality?.zone === zone) endpoint.failing = true;
      cluster.changed();
    }
  });
  test("shares of localities by the caller's own", () => {
    const { cluster } = makeCluster(
      20,
      { balance: { kind: "random" }, localities: { kind: "shares", from: { "r/a/*": { "r/a": 80, "r/b": 20 } } } },
      (i) => ({ locality: locality(i < 10 ? "a" : "b") }),
      { region: "r", zone: "a", subZone: "" },
    );
    expect(picks(cluster).get("0a")).toBeCloseTo(0.8, 1);
  });
  test("slow start ramps a new endpoint up", () => {
    const { cluster } = makeCluster(4, { balance: { kind: "random" }, slowStart: { windowMs: 10_000, aggression: 1, minShare: 0.1 } });
    cluster.setEndpoints([...cluster.endpoints.map((one) => one.config), endpointConfig(99)], transportOf, 1_000, false);
    const random = seeded(3);
    const share = (nowMs: number) => {
      let own = 0;
      for (let i = 0; i < 10_000; i++) if (pick(cluster, permit, nowMs, random, null)?.port === 99) own++;
      return own / 10_000;
    };
    expect(share(1_000)).toBeCloseTo(0.1 / 4.1, 1);
    expect(share(6_000)).toBeCloseTo(0.5 / 4.5, 1);
    expect(share(11_001)).toBeCloseTo(0.2, 1);
    const before = [share(3_000), share(4_000)] as const;
    expect(before[1]).toBeGreaterThan(0);
  });
});

describe("what endpoints say", () => {
  test("load reports weigh the turns, after their blackout", () => {
    const balance: BalanceConfig = { kind: "load_report", blackoutMs: 1_000, expirationMs: 60_000, updateMs: 100 };
    const { cluster } = makeCluster(2, { balance });
    const [busy, idle] = cluster.endpoints as [Endpoint, Endpoint];
    const report = (nowMs: number) => {
      busy.observer?.reported({ cpu: 0.8, application: 0, rps: 100, eps: 0 }, nowMs);
      idle.observer?.reported({ cpu: 0.2, application: 0, rps: 100, eps: 0 }, nowMs);
    };
    const share = (nowMs: number) => {
      let own = 0;
      for (let i = 0; i < 1_000; i++) if (pick(cluster, permit, nowMs, Math.random, null) === idle) own++;
      return own / 1_000;
    };
    report(1);
    expect(share(500)).toBeCloseTo(0.5, 1);
    report(2_000);
    expect(share(2_101)).toBeCloseTo(0.8, 1);
    expect(share(70_000)).toBeCloseTo(0.5, 1);
  });
  test("429 lowers a share, and it comes back with time", () => {
    const { cluster } = makeCluster(2, { balance: { kind: "random" }, heedsRateLimits: true });
    const [limited] = cluster.endpoints as [Endpoint];
    for (let i = 0; i < 50; i++) limited.observer?.answered(429, 1, 1_000);
    const share = (nowMs: number) => {
      cluster.refresh(nowMs);
      return limited.weight;
    };
    expect(share(1_100)).toBeLessThan(0.2);
    expect(share(30_000)).toBe(1);
  });
  test("Retry-After is waited for while others exist", () => {
    const { cluster } = makeCluster(3, { heedsRateLimits: true });
    const [limited] = cluster.endpoints as [Endpoint];
    limited.observer?.retryAfter(5_000, 0);
    for (let i = 0; i < 200; i++) expect(pick(cluster, permit, 1_000, Math.random, null)).not.toBe(limited);
    let found = false;
    for (let i = 0; i < 200; i++) found ||= pick(cluster, permit, 5_001, Math.random, null) === limited;
    expect(found).toBeTrue();
  });
});

describe("one of ten is ten times slower", () => {
  for (const hands of [1, 4])
    test(`p99 at 60 % load with peak EWMA is no worse than with any other policy (${hands} at once)`, () => {
      const p99 = (balance: BalanceConfig) => percentile(skewed(balance, 11, 0.6, hands).latencies, 0.99);
      const own = p99({ kind: "peak_ewma", decayMs: 10_000 });
      const others = [2, 5].map((choices) => p99({ kind: "least_request", choices }));
      others.push(p99({ kind: "random" }), p99({ kind: "round_robin" }));
      expect(own).toBeLessThanOrEqual(Math.min(...others) * 1.1);
    });
});

describe("peak EWMA", () => {
  const balance: BalanceConfig = { kind: "peak_ewma", decayMs: 10_000 };
  test("weights are kept where there is little to do, and where there is much", () => {
    for (const perSecond of [10, 1_500]) {
      const { cluster } = makeCluster(2, { balance }, (i) => ({ weight: i === 0 ? 3 : 1 }));
      const { byPort } = simulate({
        cluster,
        seed: 3,
        seconds: 20_000 / perSecond,
        perSecond,
        behaviour: () => ({ serviceMs: 10, hands: 64 }),
      });
      const share = (byPort.get(1) ?? 0) / ((byPort.get(1) ?? 0) + (byPort.get(2) ?? 0));
      expect(Math.abs(share - 0.75)).toBeLessThan(0.12);
    }
  });
  test("equals take turns, few or many", () => {
    for (const count of [2, 3, 5, 6, 20]) {
      const { cluster } = makeCluster(count, { balance });
      const { byPort } = simulate({ cluster, seed: 5, seconds: 100, perSecond: 200, behaviour: () => ({ serviceMs: 10, hands: 8 }) });
      for (let port = 1; port <= count; port++) expect(byPort.get(port) ?? 0).toBeGreaterThan(20_000 / count / 2);
    }
  });
});

test("5 000 endpoints, one replaced: only that one is looked at, and everything else stays as it is", () => {
  for (const balance of [
    { kind: "least_request", choices: 2 },
    { kind: "ring_hash", minSize: 1024, maxSize: 8_388_608 },
  ] as const) {
    const { cluster } = makeCluster(5_000, { balance });
    pick(cluster, permit, 0, Math.random, null);
    let looked = 0;
    for (let round = 0; round < 5; round++) {
      const before = cluster.endpoints;
      const at = 100 + round;
      const next = before.map((one) => one.config).with(at, endpointConfig(10_000 + round));
      looked = 0;
      const counting = () => {
        looked++;
        return transportOf();
      };
      cluster.setEndpoints(next, counting, 0, false);
      pick(cluster, permit, 0, Math.random, null);
      expect(looked).toBe(1);
      const now = new Set(cluster.endpoints);
      expect(before.filter((one) => !now.has(one)).map((one) => [one.port, one.retired])).toEqual([[at + 1, true]]);
      expect(cluster.endpoints[at]?.port).toBe(10_000 + round);
    }
  }
});
