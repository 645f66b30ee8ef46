// Overload in simulated time: a service of fixed capacity behind the admission's own parts (gradient, waiting room), and retries through a chain of hops
// with the proxy's budgets. Every clock is a variable; random numbers come from a seed.
import { describe, expect, test } from "bun:test";
import { Budget, budgetDefaults } from "../../src/proxy/resilience/budget.ts";
import { Gradient } from "../../src/proxy/resilience/gradient.ts";
import { level, type Waiting, WaitingRoom } from "../../src/proxy/resilience/waiting.ts";

/** Mulberry32: small, and good enough for arrivals. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

interface Job extends Waiting {
  readonly arrivedMs: number;
  startedMs: number;
}

interface Load {
  readonly perSecond: number;
  /** Workers of the service; each serves one at a time, the rest wait inside it, first come first served. */
  readonly workers: number;
  readonly serviceMs: number;
  readonly seconds: number;
  readonly seed: number;
  readonly keyOf?: (random: () => number) => string;
  readonly levelOf?: (random: () => number) => number;
}

/** Runs an open-loop load; latencies of what was answered in the second half, by key and by level. */
function run(load: Load): {
  done: number;
  offered: number;
  latencies: number[];
  byKey: Map<string, number>;
  byLevel: number[];
  limit: number;
  mostQueued: number;
} {
  const random = seeded(load.seed);
  const gradient = new Gradient();
  const room = new WaitingRoom<Job>();
  const busy: { endMs: number; job: Job }[] = [];
  const inside: Job[] = [];
  let active = 0;
  let now = 0;
  let next = 0;
  let sweepAt = 0;
  let mostQueued = 0;
  const halfMs = (load.seconds * 1_000) / 2;
  const out = {
    done: 0,
    offered: 0,
    latencies: [] as number[],
    byKey: new Map<string, number>(),
    byLevel: [0, 0, 0],
    limit: 0,
    mostQueued: 0,
  };
  const target = () => Math.max(1, gradient.baseMs / 4);
  const limit = () => Math.floor(gradient.limit);
  const serve = () => {
    while (busy.length < load.workers && inside.length > 0) {
      const job = inside.shift() as Job;
      busy.push({ endMs: now + load.serviceMs * (0.5 + random()), job });
    }
  };
  const admit = (job: Job) => {
    job.gone = true;
    job.startedMs = now;
    active++;
    gradient.started(active);
    inside.push(job);
    serve();
  };
  const pump = () => {
    while (active < limit() && room.size > 0) {
      room.expired(now, target());
      const job = room.next(now);
      if (job === undefined) break;
      admit(job);
    }
  };
  while (now < load.seconds * 1_000) {
    let at = Math.min(next, sweepAt);
    let first = -1;
    for (let i = 0; i < busy.length; i++) {
      const end = (busy[i] as (typeof busy)[number]).endMs;
      if (end < at) {
        at = end;
        first = i;
      }
    }
    now = at;
    if (first >= 0) {
      const [{ job }] = busy.splice(first, 1) as [(typeof busy)[number]];
      active--;
      gradient.finished(now - job.startedMs, now, random);
      if (now > halfMs) {
        out.done++;
        out.latencies.push(now - job.arrivedMs);
        out.byKey.set(job.key, (out.byKey.get(job.key) ?? 0) + 1);
        out.byLevel[job.level] = (out.byLevel[job.level] as number) + 1;
      }
      serve();
      pump();
    } else if (at === next) {
      next = now - (Math.log(1 - random()) * 1_000) / load.perSecond;
      if (now > halfMs) out.offered++;
      const job: Job = {
        level: load.levelOf?.(random) ?? level.standard,
        key: load.keyOf?.(random) ?? "",
        sinceMs: now,
        arrivedMs: now,
        startedMs: 0,
        gone: false,
      };
      if (active < limit() && room.size === 0) admit(job);
      else room.add(job, limit(), now);
    } else {
      sweepAt = now + 5;
      room.expired(now, target());
      pump();
    }
    if (room.size > mostQueued) mostQueued = room.size;
  }
  out.limit = limit();
  out.mostQueued = mostQueued;
  return out;
}

const percentile = (values: readonly number[], share: number) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * share)] as number;

describe("twice the capacity", () => {
  for (const [workers, serviceMs] of [
    [4, 5],
    [8, 10],
    [32, 20],
  ] as const) {
    test(`${workers} workers, ${serviceMs} ms: goodput at least 90 % of capacity, p99 within twice the unloaded`, () => {
      const capacity = (workers * 1_000) / serviceMs;
      const idle = run({ perSecond: capacity * 0.3, workers, serviceMs, seconds: 20, seed: 1 });
      const full = run({ perSecond: capacity * 2, workers, serviceMs, seconds: 20, seed: 2 });
      expect(full.done / 10).toBeGreaterThan(capacity * 0.9);
      expect(percentile(full.latencies, 0.99)).toBeLessThanOrEqual(2 * percentile(idle.latencies, 0.99));
      // Below capacity nobody is turned away.
      expect(idle.done).toBeGreaterThan(idle.offered * 0.99);
    });
  }

  test("it lasts: after a minute of overload, with probes in it, the limit is what it was", () => {
    const minute = run({ perSecond: 1_600, workers: 8, serviceMs: 10, seconds: 120, seed: 3 });
    expect(minute.done / 60).toBeGreaterThan(800 * 0.9);
    expect(minute.limit).toBeLessThan(8 * 3);
  });

  test("shares are fair: who asks for ten times as much gets no more than a little above half", () => {
    const fair = run({
      perSecond: 1_600,
      workers: 8,
      serviceMs: 10,
      seconds: 20,
      seed: 4,
      keyOf: (random) => (random() < 10 / 11 ? "a" : "b"),
    });
    const [a, b] = [fair.byKey.get("a") ?? 0, fair.byKey.get("b") ?? 0];
    // `b` asks for 145 a second, less than half of 800: all of it is its due.
    expect(b).toBeGreaterThan(145 * 10 * 0.9);
    expect(a + b).toBeGreaterThan(800 * 10 * 0.9);
  });

  test("what matters is served, what matters least is not", () => {
    const sorted = run({ perSecond: 1_600, workers: 8, serviceMs: 10, seconds: 20, seed: 5, levelOf: (random) => (random() * 3) | 0 });
    // 533 a second of each: the critical fit whole.
    expect(sorted.byLevel[level.critical]).toBeGreaterThan(533 * 10 * 0.93);
    expect(sorted.byLevel[level.sheddable]).toBeLessThan(533 * 10 * 0.1);
  });

  test("the queue is never longer than the limit", () => {
    const flood = run({ perSecond: 8_000, workers: 8, serviceMs: 10, seconds: 4, seed: 6 });
    expect(flood.mostQueued).toBeLessThanOrEqual(200);
    expect(flood.done).toBeGreaterThan(0);
  });
});

describe("retries through five hops whose last service fails always", () => {
  /** Calls of each hop's service; every hop would try four times. `passed`: applications pass the mark on. */
  function calls(passed: boolean, requests: number): number[] {
    const budgets = Array.from({ length: 5 }, () => new Budget(budgetDefaults.retryPercent, budgetDefaults.retriesPerSecond));
    const counts = [0, 0, 0, 0, 0];
    let now = 0;
    const call = (hop: number, marked: boolean): boolean => {
      if (hop === 5) return false;
      const budget = budgets[hop] as Budget;
      budget.note(now);
      for (let attempt = 1; attempt <= 4; attempt++) {
        counts[hop] = (counts[hop] as number) + 1;
        if (call(hop + 1, passed && (marked || attempt > 1))) return true;
        if (marked || !budget.take(now)) return false;
      }
      return false;
    };
    for (let i = 0; i < requests; i++) {
      now = i;
      call(0, false);
    }
    return counts;
  }

  test("with marks that are passed on, no more than without", () => {
    const [marked, plain] = [calls(true, 20_000), calls(false, 20_000)];
    for (const [hop, count] of marked.entries()) expect(count).toBeLessThanOrEqual((plain[hop] as number) * 1.01);
    // One request alone, where a budget has room: 1 + 3 at each hop by marks; 4 to the power of the hop without.
    expect(calls(true, 1)).toEqual([4, 7, 10, 13, 16]);
  });

  test("without, the budgets alone bound it: not 4^5", () => {
    const counts = calls(false, 20_000);
    for (const [hop, count] of counts.entries()) expect(count).toBeLessThan(20_000 * 1.22 ** (hop + 1) + 300);
  });
});
