// Limits of a cluster and of each of its endpoints, judged by what a client and the instances count: requests under way, connections, requests that wait,
// other attempts; and what is told of each refusal.

import { afterEach, describe, expect, test } from "bun:test";
import type { ClusterConfig } from "../config.ts";
import { catchAll, cluster, endpoint, hop, type Running, start } from "../testing/fixture.ts";

const running: Running[] = [];
const servers: ReturnType<typeof Bun.serve>[] = [];
afterEach(async () => {
  for (const one of running.splice(0)) one.engine.close();
  await Promise.all(servers.splice(0).map((one) => one.stop(true)));
});

/** Holds every request until `release`, and counts how many it had at once. */
function instance(status = 200): { port: number; now: number; most: number; seen: number; release(): void } {
  const held: (() => void)[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      self.seen++;
      self.now++;
      self.most = Math.max(self.most, self.now);
      if (!request.url.endsWith("/quick")) await new Promise<void>((go) => void held.push(go));
      self.now--;
      return new Response("x", { status });
    },
  });
  servers.push(server);
  const self = {
    port: server.port as number,
    now: 0,
    most: 0,
    seen: 0,
    release: () => {
      for (const go of held.splice(0)) go();
    },
  };
  return self;
}

function proxy(ports: readonly number[], more: Partial<ClusterConfig>, attempts = 0): Running {
  const endpoints = ports.map((port) => endpoint(port));
  const retry = { attempts, on: ["5xx"] as const, statusCodes: [], perTryTimeoutMs: 0 };
  const one = start(hop([cluster("c", endpoints, more)], catchAll("c", { retry: attempts === 0 ? null : retry })));
  running.push(one);
  return one;
}

async function until(holds: () => boolean): Promise<void> {
  const end = performance.now() + 10_000;
  while (!holds() && performance.now() < end) await Bun.sleep(2);
  expect(holds()).toBeTrue();
}

/** Asks `count` times at once; the answers by status, when all have come. */
function ask(at: Running, count: number, path = "/"): { by: Map<number, number>; done: Promise<unknown> } {
  const by = new Map<number, number>();
  const one = async (): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${at.port()}${path}`);
    await answer.text();
    by.set(answer.status, (by.get(answer.status) ?? 0) + 1);
  };
  return { by, done: Promise.all(Array.from({ length: count }, one)) };
}

const standard = { maxConnections: 1024, maxPending: 1024, maxRequests: 1024, maxRetries: 3 };
const each = { maxConnections: 0xffff_ffff, maxRequests: 0xffff_ffff, maxRetries: 0xffff_ffff };

describe("of the cluster", () => {
  test("requests: the sixth and all after it are refused, and that is told", async () => {
    const app = instance();
    const at = proxy([app.port], { limits: { ...standard, maxRequests: 5 } });
    const { by, done } = ask(at, 12);
    await until(() => app.now === 5 && by.get(503) === 7);
    app.release();
    await done;
    expect([...by].sort()).toEqual([
      [200, 5],
      [503, 7],
    ]);
    expect(app.most).toBe(5);
    expect(at.count("weft_circuit_breaker_refused_total")).toBe(7);
    expect(at.count("weft_circuit_breaker_opened_total")).toBe(1);
    expect(at.count("weft_circuit_breaker_open")).toBe(1);
  });
  test("connections and what waits for one", async () => {
    const app = instance();
    const at = proxy([app.port], { limits: { ...standard, maxConnections: 2, maxPending: 3 } });
    const { by, done } = ask(at, 9);
    await until(() => app.now === 2 && by.get(503) === 4);
    const ticks = setInterval(() => app.release(), 5);
    await done;
    clearInterval(ticks);
    expect(by.get(200)).toBe(5);
    expect(app.most).toBe(2);
    expect(at.count("weft_circuit_breaker_refused_total")).toBe(4);
  });
  test("other attempts: with two under way a third request keeps its error", async () => {
    const [bad, good] = [instance(500), instance(500)];
    const at = proxy([bad.port, good.port], { limits: { ...standard, maxRetries: 2 } }, 1);
    const { by, done } = ask(at, 4);
    await until(() => bad.now + good.now === 4);
    bad.release();
    good.release();
    // Two are tried again and held, two are answered.
    await until(() => by.get(500) === 2 && bad.now + good.now === 2);
    bad.release();
    good.release();
    await done;
    expect(by.get(500)).toBe(4);
    expect(bad.seen + good.seen).toBe(6);
    expect(at.count("weft_circuit_breaker_refused_total")).toBe(2);
  });
});

describe("of each endpoint", () => {
  test("requests: a full one is passed over, and when all are full the answer is 503", async () => {
    const apps = [instance(), instance(), instance()];
    const at = proxy(
      apps.map(({ port }) => port),
      { endpointLimits: { ...each, maxRequests: 2 } },
    );
    const { by, done } = ask(at, 10);
    await until(() => apps.every((app) => app.now === 2) && by.get(503) === 4);
    for (const app of apps) app.release();
    await done;
    expect(by.get(200)).toBe(6);
    expect(apps.map((app) => app.most)).toEqual([2, 2, 2]);
    expect(at.count("weft_circuit_breaker_opened_total")).toBe(1);
  });
  test("connections: what finds none free waits, and is served", async () => {
    const apps = [instance(), instance()];
    const at = proxy(
      apps.map(({ port }) => port),
      { endpointLimits: { ...each, maxConnections: 1 } },
    );
    const { by, done } = ask(at, 8);
    await until(() => apps.every((app) => app.now === 1));
    expect(by.size).toBe(0);
    const ticks = setInterval(() => {
      for (const app of apps) app.release();
    }, 5);
    await done;
    clearInterval(ticks);
    expect([...by]).toEqual([[200, 8]]);
    expect(apps.map((app) => app.most)).toEqual([1, 1]);
  });
  test("connections: no more wait than may", async () => {
    const app = instance();
    const at = proxy([app.port], { endpointLimits: { ...each, maxConnections: 1 }, limits: { ...standard, maxPending: 2 } });
    const { by, done } = ask(at, 6);
    await until(() => app.now === 1 && by.get(503) === 3);
    const ticks = setInterval(() => app.release(), 5);
    await done;
    clearInterval(ticks);
    expect(by.get(200)).toBe(3);
    expect(at.count("weft_circuit_breaker_refused_total")).toBe(3);
  });
  test("other attempts: each endpoint has at most its share of them", async () => {
    const apps = [instance(500), instance(500), instance(500)];
    const at = proxy(
      apps.map(({ port }) => port),
      { endpointLimits: { ...each, maxRetries: 1 }, limits: { ...standard, maxRetries: 1_000 } },
      1,
    );
    const { by, done } = ask(at, 9);
    await until(() => apps.reduce((sum, app) => sum + app.now, 0) === 9);
    for (const app of apps) app.release();
    // Three go on, one at each endpoint; the other six find no endpoint that takes another attempt.
    await until(() => [...by.values()].reduce((sum, n) => sum + n, 0) === 6);
    expect(apps.map((app) => app.now)).toEqual([1, 1, 1]);
    for (const app of apps) app.release();
    await done;
    expect(apps.reduce((sum, app) => sum + app.seen, 0)).toBe(12);
    // What was counted is given back.
    const again = ask(at, 3, "/quick");
    await again.done;
    expect([...again.by.values()]).toEqual([3]);
    expect(again.by.get(500)).toBe(3);
  });
});
