// Several processes as their users meet them: workers behind one port, and one proxy that takes the place of another, under load.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { childrenOf, ProxyRunner, ready, startHttp2Load, startLoad, until } from "./testing.ts";

let runner: ProxyRunner;
let origin: Bun.TCPSocketListener<undefined>;
beforeAll(() => {
  runner = new ProxyRunner();
  origin = Bun.listen<undefined>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
      },
    },
  });
});
afterEach(() => runner.stopAll());
afterAll(async () => {
  await runner.close();
  origin.stop(true);
});

/** A port that was free a moment ago, below those of outgoing connections. */
function freePort(): number {
  for (let n = 0; n < 200; n++) {
    const port = 12_000 + Math.floor(Math.random() * 18_000);
    try {
      Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } }).stop(true);
      return port;
    } catch {
      // Somebody has it.
    }
  }
  throw new Error("no free port");
}

const at = (portValue: number) => ({ socket_address: { address: "127.0.0.1", port_value: portValue } });
const http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const router = { name: "router", typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } };
const listener = (name: string, port: number, extra: object = {}) => ({
  name,
  address: at(port),
  filter_chains: [
    {
      filters: [
        {
          name: "http",
          typed_config: {
            "@type": http,
            stat_prefix: "x",
            route_config: { virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "c" } }] }] },
            http_filters: [router],
            ...extra,
          },
        },
      ],
    },
  ],
});
const file = (name: string, admin: number, listeners: object[]): string =>
  runner.write(name, {
    admin: { address: at(admin) },
    static_resources: {
      listeners,
      clusters: [
        {
          name: "c",
          load_assignment: { cluster_name: "c", endpoints: [{ lb_endpoints: [{ endpoint: { address: at(origin.port) } }] }] },
        },
      ],
    },
  });

const text = async (admin: string, path: string): Promise<string> => (await fetch(`http://${admin}${path}`)).text();
const sumOf = async (admin: string, family: string): Promise<number> => {
  let sum = 0;
  for (const line of (await text(admin, "/metrics")).split("\n")) {
    if (line.startsWith(`${family} `) || line.startsWith(`${family}{`)) sum += Number(line.slice(line.lastIndexOf(" ") + 1));
  }
  return sum;
};
const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(":") + 1));

describe("workers", () => {
  test("share a port; one that is killed is replaced, and only what it had in its hands is lost", async () => {
    const one = runner.start("--bootstrap", file("w.json", 0, [listener("l", 0)]), "--workers", "2");
    const line = await ready(one);
    expect(line.workers).toBe(2);
    const port = portOf(line.listeners[0]?.address as string);
    const before = await childrenOf(one.process.pid);
    expect(before.length).toBe(2);
    const single = startLoad(port, 2, false);
    const kept = startLoad(port, 6, true);
    await until(() => single.done() > 50 && kept.done() > 200, "load");
    const victim = before[0] as number;
    process.kill(victim, "SIGKILL");
    await until(() => one.lines.some((l) => l.includes("A worker ended; it is replaced.")), "the end to be noticed");
    const after = await until(async () => {
      const now = await childrenOf(one.process.pid);
      return now.length === 2 ? now : undefined;
    }, "the replacement");
    expect(after).not.toContain(victim);
    const served = single.done();
    await until(() => single.done() > served + 50, "load on the new pair");
    await Promise.all([single.stop(), kept.stop()]);
    // Eight clients: at worst every one of them had a request in the hands of the worker that was killed. Nobody was refused.
    const failures = [...single.failures, ...kept.failures];
    expect(failures.filter((why) => why !== "the connection ended before the answer")).toEqual([]);
    expect(failures.length).toBeLessThanOrEqual(8);
    expect(await sumOf(line.admin, "weft_worker_restarts_total")).toBe(1);
    expect(await sumOf(line.admin, "weft_workers")).toBe(2);
    expect(await text(line.admin, "/ready")).toBe("LIVE\n");
    one.process.kill("SIGTERM");
    expect(await one.process.exited).toBe(0);
    for (const pid of after) expect(existsSync(`/proc/${pid}`)).toBe(false);
  });

  test("counts are summed, and stay when a worker ends", async () => {
    const one = runner.start("--bootstrap", file("m.json", 0, [listener("l", 0)]), "--workers", "2");
    const line = await ready(one);
    const url = `http://${line.listeners[0]?.address}/`;
    // Until both have served some: connections are spread by their ports.
    for (let n = 0; n < 40; n++) expect((await fetch(url, { keepalive: false })).status).toBe(200);
    expect(await sumOf(line.admin, "istio_requests_total")).toBe(40);
    expect(await sumOf(line.admin, "istio_request_duration_milliseconds_count")).toBe(40);
    expect(await text(line.admin, "/listeners")).toBe(`l::${line.listeners[0]?.address}\n`);
    expect(await text(line.admin, "/clusters")).toContain("::health_flags::healthy");
    const [first] = await childrenOf(one.process.pid);
    process.kill(first as number, "SIGKILL");
    await until(() => one.lines.some((l) => l.includes("A worker ended")), "the end");
    expect(await sumOf(line.admin, "istio_requests_total")).toBe(40);
    await until(async () => ((await sumOf(line.admin, "weft_workers")) === 2 ? true : undefined), "the replacement");
    for (let n = 0; n < 10; n++) await fetch(url, { keepalive: false });
    expect(await sumOf(line.admin, "istio_requests_total")).toBe(50);
  });

  test("a worker that hangs is left out of the metrics, and a proxy that dies leaves no workers", async () => {
    const one = runner.start("--bootstrap", file("h.json", 0, [listener("l", 0)]), "--workers", "2");
    const line = await ready(one);
    const workers = await childrenOf(one.process.pid);
    process.kill(workers[0] as number, "SIGSTOP");
    expect(await sumOf(line.admin, "weft_worker_silent_total")).toBe(1);
    process.kill(workers[0] as number, "SIGCONT");
    await until(async () => ((await sumOf(line.admin, "weft_worker_silent_total")) === 1 ? true : undefined), "its answer");
    one.process.kill("SIGKILL");
    await until(() => (workers.every((pid) => !existsSync(`/proc/${pid}`)) ? true : undefined), "the workers' end");
  });

  test("access logs of all workers reach standard output whole", async () => {
    const log = {
      name: "file",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path: "/dev/stdout",
        log_format: { json_format: { s: "%RESPONSE_CODE%", p: "%REQ(:PATH)%" } },
      },
    };
    const one = runner.start("--bootstrap", file("log.json", 0, [listener("l", 0, { access_log: [log] })]), "--workers", "3");
    const line = await ready(one);
    for (let n = 0; n < 60; n++) await fetch(`http://${line.listeners[0]?.address}/${"x".repeat(200)}${n}`, { keepalive: false });
    one.process.kill("SIGTERM");
    expect(await one.process.exited).toBe(0);
    const lines = (await new Response(one.process.stdout).text()).trimEnd().split("\n");
    expect(lines.length).toBe(60);
    for (const entry of lines) expect(JSON.parse(entry)).toMatchObject({ s: 200, p: expect.stringMatching(/^\/x{200}\d+$/) });
  });

  test("a port that another process has is an error, even if that one would share it", async () => {
    const taken = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      reusePort: true,
      socket: { data() {} },
    } as Bun.TCPSocketListenOptions<undefined>);
    const one = runner.start("--bootstrap", file("t.json", 0, [listener("l", taken.port)]), "--workers", "2");
    expect(await one.process.exited).toBe(1);
    taken.stop(true);
    expect(one.lines.join("\n")).toContain(`listener l: 127.0.0.1:${taken.port} is in use by another process`);
  });
});

describe("UDP behind workers", () => {
  const datagrams = (port: number) => ({
    name: "dns",
    address: { socket_address: { address: "127.0.0.1", port_value: port, protocol: "UDP" } },
    listener_filters: [
      {
        name: "udp",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
          stat_prefix: "dns",
          matcher: {
            on_no_match: {
              action: {
                name: "route",
                typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route", cluster: "c" },
              },
            },
          },
        },
      },
    ],
  });

  test("an address that another process has is an error, and so is any port", async () => {
    const taken = await Bun.udpSocket({ hostname: "127.0.0.1", port: 0, flags: 4, socket: {} } as never);
    const one = runner.start("--bootstrap", file("u.json", 0, [datagrams(taken.port)]), "--workers", "2");
    expect(await one.process.exited).toBe(1);
    expect(one.lines.join("\n")).toContain(`listener dns: 127.0.0.1:${taken.port} is in use by another process`);
    const two = runner.start("--bootstrap", file("v.json", 0, [datagrams(0)]), "--workers", "2");
    expect(await two.process.exited).toBe(1);
    expect(two.lines.join("\n")).toContain("port 0 would give each worker another UDP port");
    const { port } = taken;
    taken.close();
    const three = runner.start("--bootstrap", file("w.json", 0, [datagrams(port)]), "--workers", "2");
    expect((await ready(three)).listeners).toEqual([{ name: "dns", address: `127.0.0.1:${port}` }]);
  });
});

describe("draining", () => {
  for (const workers of ["1", "2"]) {
    test(`at SIGTERM no connection that was made is reset (${workers} workers)`, async () => {
      const one = runner.start("--bootstrap", file("d.json", 0, [listener("l", 0)]), "--workers", workers);
      const port = portOf((await ready(one)).listeners[0]?.address as string);
      const single = startLoad(port, 6, false);
      const kept = startLoad(port, 4, true);
      await until(() => single.done() > 100 && kept.done() > 200, "load");
      one.process.kill("SIGTERM");
      expect(await one.process.exited).toBe(0);
      await Promise.all([single.stop(), kept.stop()]);
      const cut = [...single.failures, ...kept.failures].filter((why) => !why.startsWith("no connection"));
      expect(cut).toEqual([]);
    });
  }

  test("/healthcheck/fail: not ready, each connection ends with its next answer, and /healthcheck/ok takes it back", async () => {
    const one = runner.start("--bootstrap", file("hc.json", 0, [listener("l", 0)]));
    const line = await ready(one);
    const url = `http://${line.listeners[0]?.address}/`;
    expect((await fetch(url)).headers.get("connection")).not.toBe("close");
    await fetch(`http://${line.admin}/healthcheck/fail`, { method: "POST" });
    expect(await text(line.admin, "/ready")).toBe("DRAINING\n");
    expect((await fetch(url)).headers.get("connection")).toBe("close");
    expect((await fetch(url)).headers.get("connection")).toBe("close");
    await fetch(`http://${line.admin}/healthcheck/ok`, { method: "POST" });
    expect(await text(line.admin, "/ready")).toBe("LIVE\n");
    expect((await fetch(url)).headers.get("connection")).not.toBe("close");
  });

  test("/drain_listeners?graceful says goodbye first and closes after the drain time", async () => {
    const one = runner.start("--bootstrap", file("g.json", 0, [listener("l", 0)]), "--drain-seconds", "0.5");
    const line = await ready(one);
    const url = `http://${line.listeners[0]?.address}/`;
    await fetch(`http://${line.admin}/drain_listeners?graceful`, { method: "POST" });
    expect((await fetch(url)).headers.get("connection")).toBe("close");
    await until(async () => ((await fetch(url).catch(() => null)) === null ? true : undefined), "the closed listener");
    expect(one.process.exitCode).toBe(null);
  });
});

describe("taking over", () => {
  const table: [string, string[], boolean][] = [
    ["one process after another, a connection a request", ["1", "1", "1", "1"], false],
    ["one process after another, connections kept", ["1", "1", "1"], true],
    ["workers after one process, fewer after more", ["1", "3", "2", "1"], false],
    ["workers after workers, connections kept", ["2", "2"], true],
  ];
  for (const [name, generations, keep] of table) {
    test(`${name}: nothing is refused, nothing fails, counts go on`, async () => {
      const socket = join(runner.folder, "handover.sock");
      const [port, admin] = [freePort(), freePort()];
      const path = file("take.json", admin, [listener("l", port)]);
      const begin = (workers: string) =>
        runner.start("--bootstrap", path, "--workers", workers, "--handover", socket, "--drain-seconds", "1");
      let last = begin(generations[0] as string);
      await ready(last);
      expect(statSync(socket).mode & 0o777).toBe(0o600);
      const load = startLoad(port, 4, keep);
      const ended = [];
      for (const workers of generations.slice(1)) {
        const served = load.done();
        await until(() => load.done() > served + 100, "load");
        const next = begin(workers);
        expect((await ready(next)).replaced).toBe(last.process.pid);
        ended.push(last);
        last = next;
      }
      const served = load.done();
      await until(() => load.done() > served + 100, "load on the last");
      for (const one of ended) expect(await one.process.exited).toBe(0);
      await load.stop();
      expect(load.failures).toEqual([]);
      const address = `127.0.0.1:${admin}`;
      await until(
        async () => ((await sumOf(address, "istio_requests_total")) >= load.done() ? true : undefined),
        "the counts of all generations",
      );
      expect(JSON.parse(await text(address, "/server_info"))).toMatchObject({ pid: last.process.pid, state: "LIVE" });
      last.process.kill("SIGTERM");
      expect(await last.process.exited).toBe(0);
      expect(existsSync(socket)).toBe(false);
    }, 20_000);
  }

  test("HTTP/2: each connection is told goodbye, and every stream that was taken is answered", async () => {
    const socket = join(runner.folder, "h2.sock");
    const [port, admin] = [freePort(), freePort()];
    const path = file("h2.json", admin, [listener("l", port, { codec_type: "AUTO" })]);
    const begin = () => runner.start("--bootstrap", path, "--handover", socket, "--drain-seconds", "2");
    let last = begin();
    await ready(last);
    const load = startHttp2Load(port, 3);
    for (let n = 0; n < 2; n++) {
      const served = load.done();
      await until(() => load.done() > served + 100, "load");
      const next = begin();
      expect((await ready(next)).replaced).toBe(last.process.pid);
      expect(await last.process.exited).toBe(0);
      last = next;
    }
    const served = load.done();
    await until(() => load.done() > served + 100, "load on the last");
    await load.stop();
    expect(load.failures).toEqual([]);
  }, 20_000);

  test("a successor that cannot serve gives up; the one that runs serves on as if nothing were", async () => {
    const socket = join(runner.folder, "failed.sock");
    const [port, admin] = [freePort(), freePort()];
    const good = file("good.json", admin, [listener("l", port)]);
    const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const bad = file("bad.json", admin, [listener("l", port), listener("other", taken.port)]);
    const one = runner.start("--bootstrap", good, "--handover", socket);
    await ready(one);
    const load = startLoad(port, 3, false);
    const two = runner.start("--bootstrap", bad, "--handover", socket);
    expect(await two.process.exited).toBe(1);
    taken.stop(true);
    expect(two.lines.join("\n")).toContain(`listener other: 127.0.0.1:${taken.port} is in use by another process`);
    await until(() => one.lines.some((l) => l.includes("The successor went away before it was ready")), "the notice");
    const served = load.done();
    await until(() => load.done() > served + 50, "load");
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(await text(`127.0.0.1:${admin}`, "/ready")).toBe("LIVE\n");
    // And it can still be replaced.
    const three = runner.start("--bootstrap", good, "--handover", socket);
    expect((await ready(three)).replaced).toBe(one.process.pid);
    expect(await one.process.exited).toBe(0);
  });

  test("a proxy that was killed leaves a socket that nobody answers: the next one starts as the first", async () => {
    const socket = join(runner.folder, "stale.sock");
    const path = file("stale.json", 0, [listener("l", 0)]);
    const one = runner.start("--bootstrap", path, "--handover", socket);
    await ready(one);
    one.process.kill("SIGKILL");
    await one.process.exited;
    expect(existsSync(socket)).toBe(true);
    const two = runner.start("--bootstrap", path, "--handover", socket);
    expect((await ready(two)).replaced).toBeUndefined();
  });

  test("a listener that the new configuration has not is refused afterwards", async () => {
    const socket = join(runner.folder, "fewer.sock");
    const [a, b, admin] = [freePort(), freePort(), freePort()];
    const one = runner.start(
      "--bootstrap",
      file("two.json", admin, [listener("a", a), listener("b", b)]),
      "--handover",
      socket,
      "--drain-seconds",
      "0.2",
    );
    await ready(one);
    const two = runner.start("--bootstrap", file("one.json", admin, [listener("a", a)]), "--handover", socket);
    await ready(two);
    expect(await one.process.exited).toBe(0);
    expect((await fetch(`http://127.0.0.1:${a}/`)).status).toBe(200);
    expect(fetch(`http://127.0.0.1:${b}/`)).rejects.toThrow();
  });
});
