// Endpoints judged by what becomes of requests and by health checks, through a whole engine with real servers; keys and sessions that stay with an endpoint.

import { afterEach, describe, expect, test } from "bun:test";
import { createServer, type ServerHttp2Stream } from "node:http2";
import type { ClusterConfig, HealthCheckConfig, OutlierConfig } from "../config.ts";
import {
  catchAll,
  chain,
  cluster,
  config,
  endpoint,
  hop,
  http,
  listener,
  type Running,
  rawOrigin,
  start,
  until,
} from "../testing/fixture.ts";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const run of cleanups.splice(0).reverse()) run();
});

interface Server {
  readonly port: number;
  status: number;
  healthStatus: number;
  requests: number;
  checks: number;
  headers: Record<string, string>;
  stop(): void;
}

function server(name: string): Server {
  const state: Server = { port: 0, status: 200, healthStatus: 200, requests: 0, checks: 0, headers: {}, stop: () => bun.stop(true) };
  const bun = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      if (new URL(request.url).pathname === "/healthz") {
        state.checks++;
        return new Response("", { status: state.healthStatus });
      }
      state.requests++;
      return new Response(name, { status: state.status, headers: state.headers });
    },
  });
  cleanups.push(state.stop);
  return Object.assign(state, { port: bun.port });
}

function run(more: Partial<ClusterConfig>, servers: readonly { readonly port: number }[], routes = catchAll("c")): Running {
  const running = start(
    hop(
      [
        cluster(
          "c",
          servers.map((one) => endpoint(one.port)),
          more,
        ),
      ],
      routes,
    ),
  );
  cleanups.push(() => running.engine.close());
  return running;
}

const get = async (running: Running, path = "/", headers: Record<string, string> = {}) =>
  await fetch(`http://127.0.0.1:${running.port()}${path}`, { headers });

const check = (kind: HealthCheckConfig["kind"]): HealthCheckConfig => ({
  kind,
  timeoutMs: 500,
  intervalMs: 20,
  unhealthyIntervalMs: 20,
  noTrafficIntervalMs: 20,
  jitterMs: 0,
  jitterPercent: 0,
  initialJitterMs: 0,
  unhealthyThreshold: 2,
  healthyThreshold: 1,
});
const healthz = check({ type: "http", host: "", path: "/healthz", method: "GET", statuses: [{ first: 200, last: 200 }], headers: [] });

const outliers: OutlierConfig = {
  consecutive5xx: 3,
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
  maxEjectionPercent: 50,
  alwaysOne: true,
  successRate: null,
  failurePercentage: null,
  latency: null,
  returnMs: 10_000,
};

const states = (running: Running) => running.engine.stats().clusters[0]?.endpoints.map((one) => one.healthy) ?? [];

describe("active health checks", () => {
  test("over HTTP: who fails gets no requests, who is well again does", async () => {
    const [a, b, c] = [server("a"), server("b"), server("c")];
    const running = run({ healthChecks: [healthz], panicPercent: 0 }, [a, b, c]);
    await until(() => states(running).every(Boolean), "the first checks");
    b.healthStatus = 503;
    await until(() => !states(running)[1], "b to fail its checks");
    expect(running.engine.stats().clusters[0]?.endpoints[1]?.failing).toBeTrue();
    b.requests = 0;
    for (let i = 0; i < 20; i++) expect((await get(running)).status).toBe(200);
    expect(b.requests).toBe(0);
    expect(running.count("weft_endpoint_ejections_total", "c", "health_check")).toBe(1);
    b.healthStatus = 200;
    await until(() => states(running)[1] === true, "b to be well");
    expect(running.count("weft_health_checks_total", "c", "success")).toBeGreaterThan(3);
  });
  test("an endpoint that nobody answers at is down from the start, and with all down and panic off nobody is called", async () => {
    const gone = server("gone");
    gone.stop();
    const running = run({ healthChecks: [healthz], panicPercent: 0 }, [gone]);
    const answer = await get(running);
    expect(answer.status).toBe(503);
    expect(answer.headers.get("x-weft-reason")).toContain("UH");
  });
  test("checks of an endpoint that has gone end", async () => {
    const a = server("a");
    const running = run({ healthChecks: [healthz] }, [a]);
    await until(() => a.checks > 2, "checks");
    running.engine.apply(hop([cluster("c", [], { healthChecks: [healthz] })], catchAll("c")));
    const before = a.checks;
    await Bun.sleep(100);
    expect(a.checks - before).toBeLessThanOrEqual(1);
  });
  test("over TCP, with bytes to say and to hear", async () => {
    let word = "+PONG\r\n";
    const origin = rawOrigin((text, write) => text === "PING\r\n" && write(word));
    cleanups.push(() => origin.stop());
    const tcp = check({ type: "tcp", send: Buffer.from("PING\r\n"), receive: [Buffer.from("PONG")] });
    const running = run({ healthChecks: [{ ...tcp, timeoutMs: 100 }], panicPercent: 0 }, [origin]);
    await until(() => states(running)[0] === true, "PONG");
    word = "-LOADING\r\n";
    await until(() => states(running)[0] === false, "no PONG");
  });
  test("over gRPC, by the standard service", async () => {
    let serving = 1;
    const origin = createServer();
    origin.on("stream", (stream: ServerHttp2Stream, headers: Record<string, unknown>) => {
      const known = headers[":path"] === "/grpc.health.v1.Health/Check" && headers["content-type"] === "application/grpc";
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": known ? "0" : "12" }));
      stream.end(Buffer.from([0, 0, 0, 0, 2, 8, serving]));
    });
    await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => origin.close());
    const { port } = origin.address() as { port: number };
    const running = run({ protocol: "http2", healthChecks: [check({ type: "grpc", service: "cart", authority: "" })], panicPercent: 0 }, [
      { port },
    ]);
    await until(() => states(running)[0] === true, "SERVING");
    serving = 2;
    await until(() => states(running)[0] === false, "NOT_SERVING");
  });
});

describe("outliers", () => {
  test("answers of 5xx in a row eject an endpoint; logs and metrics say why", async () => {
    const [a, b, c] = [server("a"), server("b"), server("c")];
    b.status = 500;
    const running = run({ outliers, balance: { kind: "round_robin" } }, [a, b, c]);
    let bad = 0;
    for (let i = 0; i < 60; i++) if ((await get(running)).status === 500) bad++;
    expect(bad).toBe(3);
    expect(running.count("weft_endpoint_ejections_total", "consecutive_5xx", `127.0.0.1:${b.port}`)).toBe(1);
    expect(running.count("weft_cluster_endpoints", "c", "ejected")).toBe(1);
    expect(running.engine.stats().clusters[0]?.endpoints[1]?.ejectedForMs).toBeGreaterThan(20_000);
  });
  test("an endpoint that cannot be reached is ejected, and no client hears of it", async () => {
    const [a, b] = [server("a"), server("b")];
    b.stop();
    const running = run({ outliers: { ...outliers, splitLocal: true, consecutiveLocal: 1 }, balance: { kind: "round_robin" } }, [a, b]);
    for (let i = 0; i < 10; i++) expect((await get(running)).status).toBe(200);
    expect(running.count("weft_endpoint_ejections_total", "consecutive_local_origin_failure")).toBe(1);
  });
  test("a change of settings keeps who is out, their end takes everybody back", async () => {
    const [a, b] = [server("a"), server("b")];
    b.status = 500;
    const running = run({ outliers, balance: { kind: "round_robin" } }, [a, b]);
    for (let i = 0; i < 8; i++) await get(running);
    expect(states(running)).toEqual([true, false]);
    const next = (more: Partial<ClusterConfig>) =>
      running.engine.apply(
        hop([cluster("c", [endpoint(a.port), endpoint(b.port)], { balance: { kind: "round_robin" }, ...more })], catchAll("c")),
      );
    next({ outliers: { ...outliers, consecutive5xx: 9 } });
    expect(states(running)).toEqual([true, false]);
    next({});
    expect(states(running)).toEqual([true, true]);
  });
});

describe("keys and sessions", () => {
  const balance = { kind: "maglev", tableSize: 65_537 } as const;
  test("requests with one key stay with one endpoint; without a key they spread", async () => {
    const servers = [server("a"), server("b"), server("c")];
    const running = run({ balance }, servers, catchAll("c", { hash: [{ kind: "header", name: "x-user", terminal: false }] }));
    const who = async (headers: Record<string, string>) => await (await get(running, "/", headers)).text();
    for (const user of ["ann", "bob", "eve"]) {
      const first = await who({ "x-user": user });
      for (let i = 0; i < 10; i++) expect(await who({ "x-user": user })).toBe(first);
    }
    const seen = new Set<string>();
    for (let i = 0; i < 40; i++) seen.add(await who({}));
    expect(seen.size).toBe(3);
  });
  test("query, source and a cookie that is made", async () => {
    const servers = [server("a"), server("b"), server("c")];
    const query = run({ balance }, servers, catchAll("c", { hash: [{ kind: "query", name: "id", terminal: false }] }));
    const one = await (await get(query, "/?x=1&id=7")).text();
    for (let i = 0; i < 5; i++) expect(await (await get(query, `/?id=7&y=${i}`)).text()).toBe(one);
    const source = run({ balance }, servers, catchAll("c", { hash: [{ kind: "source", terminal: false }] }));
    const mine = await (await get(source)).text();
    for (let i = 0; i < 5; i++) expect(await (await get(source)).text()).toBe(mine);
    const cookie = run(
      { balance },
      servers,
      catchAll("c", { hash: [{ kind: "cookie", name: "k", ttlMs: 60_000, path: "/", terminal: false }] }),
    );
    const first = await get(cookie);
    const line = first.headers.get("set-cookie") ?? "";
    expect(line).toMatch(/^k="[0-9a-f]{16}"; Max-Age=60; Path=\/; HttpOnly$/);
    const name = await first.text();
    for (let i = 0; i < 5; i++) {
      const again = await get(cookie, "/", { cookie: `a=b; ${line.slice(0, line.indexOf(";"))}` });
      expect(again.headers.get("set-cookie")).toBeNull();
      expect(await again.text()).toBe(name);
    }
  });
  test("a session stays by cookie or header while its endpoint is there, and moves on when it is not", async () => {
    for (const session of [
      { kind: "cookie", name: "s", ttlMs: 0, path: "/" },
      { kind: "header", name: "x-session" },
    ] as const) {
      const [a, b, c] = [server("a"), server("b"), server("c")];
      const made = (ports: readonly number[]) =>
        config(
          [listener("in", [chain(http({ rds: "routes" }, { stages: { session } }))])],
          [
            cluster(
              "c",
              ports.map((port) => endpoint(port)),
            ),
          ],
          [catchAll("c")],
        );
      const running = start(made([a.port, b.port, c.port]));
      cleanups.push(() => running.engine.close());
      const first = await get(running);
      const name = await first.text();
      const value = session.kind === "cookie" ? (first.headers.get("set-cookie") ?? "").split(";")[0] : first.headers.get("x-session");
      const back = { [session.kind === "cookie" ? "cookie" : "x-session"]: value ?? "" };
      for (let i = 0; i < 10; i++) expect(await (await get(running, "/", back)).text()).toBe(name);
      const own = { a, b, c }[name] as Server;
      running.engine.apply(made([a.port, b.port, c.port].filter((port) => port !== own.port)));
      const moved = await get(running, "/", back);
      expect(await moved.text()).not.toBe(name);
      expect(session.kind === "cookie" ? moved.headers.get("set-cookie") : moved.headers.get("x-session")).not.toBeNull();
    }
  });
  test("load reports in answers shift the turns", async () => {
    const [a, b] = [server("a"), server("b")];
    a.headers = { "endpoint-load-metrics": "TEXT cpu_utilization=0.9, rps_fractional=100" };
    b.headers = { "endpoint-load-metrics": 'JSON {"cpu_utilization": 0.1, "rps_fractional": 100}' };
    const running = run({ balance: { kind: "load_report", blackoutMs: 0, expirationMs: 60_000, updateMs: 10 } }, [a, b]);
    for (let i = 0; i < 20; i++) await get(running);
    await Bun.sleep(120);
    [a.requests, b.requests] = [0, 0];
    for (let i = 0; i < 60; i++) await get(running);
    expect(b.requests).toBeGreaterThan(a.requests * 4);
  });
});
