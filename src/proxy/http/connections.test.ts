// How long connections to instances are kept by a cluster's own rules, as the instances see it: requests on one, silence, age, keep-alive of the kernel. No
// request may fail by any of them.

import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import type { ClusterConfig } from "../config.ts";
import { keepAlive } from "../net/keepalive.ts";
import { libc } from "../net/libc.ts";
import { catchAll, cluster, endpoint, hop, type Running, start, until } from "../testing/fixture.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0).reverse()) stop();
});

interface Origin {
  readonly port: number;
  /** Requests by connection, in the order in which they came. */
  readonly carried: number[];
  closed: number;
}

async function http1(): Promise<Origin> {
  const seen = new Map<Socket, number>();
  const origin = { port: 0, carried: [] as number[], closed: 0 };
  const server = createServer((request, response) => {
    const at = seen.get(request.socket) as number;
    origin.carried[at] = (origin.carried[at] as number) + 1;
    response.end("x");
  });
  server.keepAliveTimeout = 60_000;
  server.on("connection", (socket: Socket) => {
    seen.set(socket, origin.carried.push(0) - 1);
    socket.on("close", () => void origin.closed++);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  origin.port = (server.address() as AddressInfo).port;
  return origin;
}

async function http2(): Promise<Origin> {
  const origin = { port: 0, carried: [] as number[], closed: 0 };
  const server = createHttp2Server();
  server.on("session", (session) => {
    const at = origin.carried.push(0) - 1;
    session.on("error", () => {});
    session.on("close", () => void origin.closed++);
    session.on("stream", (stream) => {
      origin.carried[at] = (origin.carried[at] as number) + 1;
      stream.respond({ ":status": 200 });
      stream.end("x");
    });
    stops.push(() => session.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => void server.close());
  origin.port = (server.address() as AddressInfo).port;
  return origin;
}

function proxy(port: number, more: Partial<ClusterConfig>): Running {
  const one = start(hop([cluster("c", [endpoint(port)], more)], catchAll("c", { retry: null })));
  stops.push(() => one.engine.close());
  return one;
}

async function ask(at: Running, count: number): Promise<number[]> {
  const one = async (): Promise<number> => {
    const answer = await fetch(`http://127.0.0.1:${at.port()}/`);
    await answer.text();
    return answer.status;
  };
  return [...new Set(await Promise.all(Array.from({ length: count }, one)))];
}

for (const [name, serve, protocol] of [
  ["HTTP/1.1", http1, "http1"],
  ["HTTP/2", http2, "http2"],
] as const)
  describe(name, () => {
    test("a connection carries as many requests as it may, and then ends", async () => {
      const origin = await serve();
      const at = proxy(origin.port, { protocol, connections: { maxRequests: 3 } });
      for (let n = 0; n < 7; n++) expect(await ask(at, 1)).toEqual([200]);
      expect(origin.carried).toEqual([3, 3, 1]);
      await until(() => origin.closed === 2, "the end of those that are spent");
    });

    test("many at once are all answered, also where there may be two connections only", async () => {
      const origin = await serve();
      const limits = { maxConnections: 2, maxPending: 100, maxRequests: 100, maxRetries: 0 };
      const at = proxy(origin.port, { protocol, limits, connections: { maxRequests: 2 } });
      expect(await ask(at, 30)).toEqual([200]);
      expect(origin.carried.reduce((sum, one) => sum + one, 0)).toBe(30);
      expect(Math.max(...origin.carried)).toBeLessThanOrEqual(2);
      expect(at.count("weft_circuit_breaker_refused_total")).toBe(0);
    });

    test("one without a request ends after the idle time", async () => {
      const origin = await serve();
      const at = proxy(origin.port, { protocol, connections: { idleMs: 100 } });
      expect(await ask(at, 1)).toEqual([200]);
      await until(() => origin.closed === 1, "the end of an idle connection");
      expect(await ask(at, 1)).toEqual([200]);
      expect(origin.carried).toEqual([1, 1]);
    });

    test("one that is old ends between requests, and the next goes by another", async () => {
      const origin = await serve();
      const at = proxy(origin.port, { protocol, connections: { maxAgeMs: 200 } });
      const end = performance.now() + 10_000;
      while (origin.carried.length < 3 && performance.now() < end) expect(await ask(at, 1)).toEqual([200]);
      expect(origin.carried.length).toBe(3);
      expect(origin.carried[0]).toBeGreaterThan(1);
    });
  });

describe.if(process.platform === "linux")("keep-alive of the kernel", () => {
  test("is set as it is configured", async () => {
    const origin = await http1();
    const socket = await Bun.connect({ hostname: "127.0.0.1", port: origin.port, socket: { data() {} } });
    const { fd } = socket as unknown as { readonly fd: number };
    const read = (level: number, option: number): number => {
      const value = new Uint8Array(4);
      libc().getsockopt(fd, level, option, value, new Uint32Array([4]));
      return new DataView(value.buffer).getInt32(0, true);
    };
    expect(read(1, 9)).toBe(0);
    expect(keepAlive(fd, { probes: 4, timeSeconds: 120, intervalSeconds: 11 })).toBe(true);
    expect([read(1, 9), read(6, 4), read(6, 5), read(6, 6)]).toEqual([1, 120, 11, 4]);
    expect(keepAlive(fd, { probes: 100_000 })).toBe(false);
    socket.end();
  });

  for (const keepalive of [{ timeSeconds: 60 }, undefined])
    test(`connections of the cluster ${keepalive === undefined ? "have none where it says nothing" : "have it"}`, async () => {
      const origin = await http1();
      const at = proxy(origin.port, keepalive === undefined ? {} : { connections: { keepalive } });
      expect(await ask(at, 1)).toEqual([200]);
      // Column 6 of the kernel's table: 02 = its keep-alive timer runs.
      const to = `0100007F:${origin.port.toString(16).toUpperCase().padStart(4, "0")}`;
      const timers = (): string[] => {
        const rows = readFileSync("/proc/net/tcp", "utf8").split("\n");
        const fields = rows.map((line) => line.trim().split(/\s+/));
        return fields.filter(([, , remote, state]) => remote === to && state === "01").map((row) => (row[5] ?? "").slice(0, 2));
      };
      const wanted = keepalive === undefined ? "00" : "02";
      await until(() => timers().length === 1 && timers()[0] === wanted, `the timer ${wanted}`);
    });
});
