// Requests whose host is asked for, through a whole engine: what waits, what it becomes, and that the number of those who wait is bounded.

import { afterEach, expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import type { ProxyConfig, RouteTableConfig } from "../config.ts";
import { cluster, endpoint, forward, hop, RawPeer, route, start, table, until } from "../testing/fixture.ts";
import { maxWaiting, maxWaitingHosts, tellEveryMs, waitMs } from "./on-demand.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0).reverse()) stop();
});

const all = (cluster: string) => [route(forward(cluster))];

/** A proxy whose table has `known`, and asks for the rest. */
function proxy(clock?: PausedClock) {
  const app = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: async (request) => new Response(String((await request.bytes()).length)) });
  stops.push(() => void app.stop(true));
  const asked: string[] = [];
  const with_ = (hosts: readonly string[], absent: readonly string[] = []): ProxyConfig => {
    const routes: RouteTableConfig = table(
      [
        { name: "known", domains: ["known"], routes: all("app") },
        ...hosts.map((host) => ({ name: `routes/${host}`, domains: [host], routes: all("app"), demanded: true as const })),
      ],
      { onDemand: { absent } },
    );
    return hop([cluster("app", [endpoint(app.port as number)])], routes, { onDemand: true });
  };
  const running = start(with_([]), {
    ...(clock === undefined ? {} : { clock }),
    demand: (name, host) => asked.push(`${name} ${host}`),
  });
  stops.push(() => running.engine.close());
  return {
    running,
    asked,
    give: (hosts: readonly string[], absent?: readonly string[]) => expect(running.engine.apply(with_(hosts, absent))).toEqual([]),
    ask: (host: string, init: RequestInit = {}) =>
      fetch(`http://127.0.0.1:${running.port()}/`, { ...init, headers: { host }, signal: AbortSignal.timeout(10_000) }),
    outcome: (which: string) => running.count("weft_on_demand_requests_total", which),
  };
}

test("a request waits for its host, with its body, and goes on when the table has it; the next ones ask nobody", async () => {
  const p = proxy();
  expect((await p.ask("known")).status).toBe(200);
  expect(p.asked).toEqual([]);
  const first = p.ask("Far:8080", { method: "POST", body: "x".repeat(150_000) });
  const second = p.ask("far:8080");
  await until(() => p.asked.length === 2, "both ask");
  expect(new Set(p.asked)).toEqual(new Set(["routes far:8080"]));
  p.give(["other"]);
  p.give(["other", "far:8080"]);
  expect([await (await first).text(), await (await second).text()]).toEqual(["150000", "0"]);
  expect((await p.ask("FAR:8080")).status).toBe(200);
  expect(p.asked.length).toBe(2);
  expect(p.outcome("served")).toBe(2);
  expect(p.running.engine.stats().activeRequests).toBe(0);
});

test("a host that there is not is refused, at once where that is known already", async () => {
  const p = proxy();
  const waits = p.ask("nobody");
  await until(() => p.asked.length === 1);
  p.give([], ["nobody"]);
  const refused = await waits;
  expect([refused.status, await refused.text()]).toEqual([502, expect.stringContaining("no service of the mesh is called nobody")]);
  expect((await p.ask("nobody")).status).toBe(502);
  expect(p.asked.length).toBe(1);
  expect((await p.ask("x".repeat(260))).status).toBe(502);
  p.give(["nobody"]);
  expect((await p.ask("nobody")).status).toBe(200);
});

test("nobody waits for longer than the bound, nor goes on for a client that has left", async () => {
  const clock = new PausedClock(0);
  const p = proxy(clock);
  const peer = await RawPeer.connect(p.running.port());
  peer.socket?.write("GET / HTTP/1.1\r\nHost: slow\r\n\r\n");
  const gone = await RawPeer.connect(p.running.port());
  gone.socket?.write("GET / HTTP/1.1\r\nHost: left\r\n\r\n");
  await until(() => p.asked.length === 2);
  gone.socket?.terminate();
  await until(() => p.running.engine.stats().activeRequests === 1, "the client that left is forgotten");
  p.give(["left"]);
  clock.advance(waitMs - 100);
  expect(peer.text).toBe("");
  clock.advance(200);
  await until(() => peer.text !== "", "an answer");
  expect(peer.text).toContain("503 ");
  expect(peer.text).toContain("has not said in time");
  expect(p.outcome("late")).toBe(1);
  expect(p.outcome("served")).toBe(0);
  peer.text = "";
  // The connection lives on, and knows hosts that come later.
  p.give(["slow"]);
  peer.socket?.write("GET / HTTP/1.1\r\nHost: slow\r\n\r\n");
  await until(() => peer.text.includes("200 OK"));
});

test("so many hosts and so many requests wait, and no more", async () => {
  const p = proxy(new PausedClock(0));
  const peers: RawPeer[] = [];
  const send = async (host: string) => {
    const peer = await RawPeer.connect(p.running.port());
    peers.push(peer);
    peer.socket?.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  };
  for (let n = 0; n < maxWaitingHosts; n++) await send(`h${n}`);
  await until(() => p.asked.length === maxWaitingHosts);
  await send("one-more");
  await until(() => p.outcome("full") === 1, "the host too many is refused");
  for (let n = maxWaitingHosts; n < maxWaiting; n++) await send("h0");
  await until(() => p.running.engine.stats().activeRequests === maxWaiting);
  await send("h1");
  await until(() => p.outcome("full") === 2, "the request too many is refused");
  // Who leaves makes room.
  for (const peer of peers.splice(0, 10)) peer.socket?.terminate();
  await until(() => p.running.engine.stats().activeRequests === maxWaiting - 10);
  await send("h1");
  await until(() => p.running.engine.stats().activeRequests === maxWaiting - 9, "a place that was left is taken");
  for (const peer of peers) peer.socket?.terminate();
}, 60_000);

test("what is used is told of, so that it is kept; what is not is not", async () => {
  const clock = new PausedClock(0);
  const p = proxy(clock);
  p.give(["used", "unused"]);
  const peer = await RawPeer.connect(p.running.port());
  const ask = async () => {
    peer.text = "";
    peer.socket?.write("GET / HTTP/1.1\r\nHost: used\r\n\r\n");
    await until(() => peer.text.includes("200 OK"));
  };
  clock.advance(1_000);
  await ask();
  clock.advance(tellEveryMs);
  expect(p.asked).toEqual(["routes used"]);
  clock.advance(tellEveryMs);
  expect(p.asked).toEqual(["routes used"]);
  await ask();
  clock.advance(tellEveryMs);
  expect(p.asked).toEqual(["routes used", "routes used"]);
});
