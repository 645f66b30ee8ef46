import { afterEach, describe, expect, test } from "bun:test";
import { MetricRegistry } from "../../base/metric.ts";
import type { ProxyConfig } from "../config.ts";
import { type AdminSources, openAdmin } from "./admin.ts";
import type { AdminListener } from "./responder.ts";

const config: ProxyConfig = {
  listeners: new Map([
    [
      "l",
      {
        name: "l",
        address: { host: "127.0.0.1", port: 1 },
        direction: "outbound",
        inspectTls: false,
        chains: [
          {
            name: "",
            match: { transport: null, alpn: [], serverNames: [] },
            tls: {
              certificate: { kind: "pem", certificatePem: "CERT", privateKeyPem: "-----BEGIN PRIVATE KEY-----" },
              roots: null,
              requireClientCertificate: false,
              peerNames: [],
              alpn: [],
              minVersion: "TLSv1.3",
            },
            networkRbac: [],
            terminal: { kind: "tcp", statPrefix: "", clusters: [], accessLogs: [], idleTimeoutMs: 0 },
          },
        ],
      },
    ],
  ]),
  routes: new Map(),
  clusters: new Map(),
  endpoints: new Map(),
};

const open: AdminListener[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

function start(change: Partial<AdminSources> = {}): { url: string; port: number; done: string[] } {
  const done: string[] = [];
  const metrics = new MetricRegistry();
  metrics.counter("weft_x_total", "X.").with([]).value = 7;
  const listener = openAdmin(
    { host: "127.0.0.1", port: 0 },
    {
      version: "9",
      local: { nodeId: "n", workload: "w", namespace: "ns", app: "a", version: "v", serviceAccount: "sa", trustDomain: "t" },
      startedAtMs: 1000,
      nowMs: () => 61_500,
      metrics,
      waitingFor: () => [],
      draining: () => false,
      config: () => config,
      stats: () => ({
        connections: 0,
        activeRequests: 0,
        listeners: [{ name: "l", address: { host: "::1", port: 80 } }],
        clusters: [{ name: "c", endpoints: [{ address: { host: "127.0.0.1", port: 9 }, healthy: false, active: 2 }] }],
      }),
      xds: () => ({ connected: true, types: [] }),
      certificates: () => [{ name: "default", uri: "spiffe://x", notBefore: "a", notAfter: "b", serial: "01" }],
      snapshot: () => null,
      drain: (graceful) => done.push(graceful ? "drain gracefully" : "drain"),
      setHealthy: (healthy) => done.push(healthy ? "healthy" : "failed"),
      workers: () => 1,
      quit: () => done.push("quit"),
      ...change,
    },
  );
  open.push(listener);
  return { url: `http://127.0.0.1:${listener.address.port}`, port: listener.address.port, done };
}

/** One exchange in raw bytes, `pieces` written one after the other. */
function raw(port: number, pieces: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    let got = "";
    Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        async open(socket) {
          for (const piece of pieces) {
            socket.write(piece);
            await Bun.sleep(1);
          }
        },
        data(_socket, bytes) {
          got += bytes.toString();
        },
        close: () => resolve(got),
        error: (_socket, error) => reject(error),
      },
    }).catch(reject);
  });
}

describe("pages", () => {
  test("ready says what is missing", async () => {
    const ready = await fetch(`${start().url}/ready`);
    expect([ready.status, await ready.text()]).toEqual([200, "LIVE\n"]);
    const waiting = await fetch(`${start({ waitingFor: () => ["a certificate", "routes r"] }).url}/ready`);
    expect([waiting.status, await waiting.text()]).toEqual([503, "PRE_INITIALIZING: waiting for a certificate, routes r\n"]);
    const draining = await fetch(`${start({ draining: () => true }).url}/ready`);
    expect([draining.status, await draining.text()]).toEqual([503, "DRAINING\n"]);
  });

  test("the configuration dump has no secrets in it", async () => {
    const dump = await (await fetch(`${start().url}/config_dump`)).text();
    expect(dump).not.toContain("PRIVATE");
    expect(JSON.parse(dump)).toMatchObject({
      listeners: [{ name: "l", chains: [{ tls: { certificate: { privateKeyPem: "[redacted]", certificatePem: "CERT" } } }] }],
      xds: { connected: true },
    });
  });

  test("clusters, listeners, certificates, counters, server info, help", async () => {
    const { url } = start();
    const text = async (path: string): Promise<string> => (await fetch(url + path)).text();
    expect(await text("/clusters")).toBe("c::127.0.0.1:9::health_flags::/failed_eds_health\nc::127.0.0.1:9::rq_active::2\n");
    expect(JSON.parse(await text("/clusters?format=json"))).toMatchObject({ clusters: [{ name: "c" }] });
    expect(await text("/listeners")).toBe("l::[::1]:80\n");
    expect(JSON.parse(await text("/listeners?format=json"))).toMatchObject({ listeners: [{ name: "l" }] });
    expect(JSON.parse(await text("/certs"))).toMatchObject({ certificates: [{ uri: "spiffe://x" }] });
    expect(JSON.parse(await text("/server_info"))).toMatchObject({ state: "LIVE", uptime_current_epoch: "60s", node: { nodeId: "n" } });
    expect(await text("/")).toContain("POST /drain_listeners");
    const metrics = await fetch(`${url}/stats/prometheus`);
    expect(metrics.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(await metrics.text()).toBe(await text("/metrics"));
  });

  test("drain and stop take POST, and not from another site's page", async () => {
    const { url, done } = start();
    const refused = await fetch(`${url}/quitquitquit`);
    expect([refused.status, refused.headers.get("allow")]).toEqual([405, "POST"]);
    expect((await fetch(`${url}/quitquitquit`, { method: "POST", headers: { "sec-fetch-site": "cross-site" } })).status).toBe(403);
    expect(done).toEqual([]);
    expect((await fetch(`${url}/drain_listeners?graceful`, { method: "POST" })).status).toBe(200);
    expect((await fetch(`${url}/drain_listeners`, { method: "POST" })).status).toBe(200);
    expect((await fetch(`${url}/drain_listeners?inboundonly`, { method: "POST" })).status).toBe(400);
    expect((await fetch(`${url}/healthcheck/fail`, { method: "POST" })).status).toBe(200);
    expect((await fetch(`${url}/healthcheck/ok`, { method: "POST" })).status).toBe(200);
    expect((await fetch(`${url}/healthcheck/fail`)).status).toBe(405);
    expect((await fetch(`${url}/quitquitquit`, { method: "POST" })).status).toBe(200);
    expect(done).toEqual(["drain gracefully", "drain", "failed", "healthy", "quit"]);
    expect((await fetch(`${url}/constructor`)).status).toBe(404);
  });
});

describe("on the wire", () => {
  const get = "GET /ready HTTP/1.1\r\nHost: x\r\n\r\n";

  test("split at every byte", async () => {
    const { port } = start();
    for (let cut = 1; cut < get.length; cut += 3)
      expect(await raw(port, [get.slice(0, cut), get.slice(cut)])).toStartWith("HTTP/1.1 200 OK\r\n");
  });

  test("HEAD has no body; what follows the request is not another one", async () => {
    const { port } = start();
    expect(await raw(port, ["HEAD /ready HTTP/1.1\r\nHost: x\r\n\r\n"])).toMatch(/content-length: 5\r\n[\s\S]*\r\n\r\n$/);
    expect((await raw(port, [get + get])).match(/HTTP\/1\.1 200/g)?.length).toBe(1);
  });

  test("what is no request is refused", async () => {
    const { port } = start();
    expect(await raw(port, ["hello\r\n\r\n"])).toStartWith("HTTP/1.1 400");
    expect(await raw(port, ["GET http://x/ready HTTP/1.1\r\n\r\n"])).toStartWith("HTTP/1.1 400");
    expect(await raw(port, ["GET /ready HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"])).toStartWith("HTTP/1.1 400");
    expect(await raw(port, [`GET /${"x".repeat(9000)} HTTP/1.1\r\n`])).toStartWith("HTTP/1.1 431");
  });

  test("an answer larger than the socket takes at once arrives whole", async () => {
    const big = "y".repeat(8_000_000);
    const { url } = start({ certificates: () => [{ name: big, uri: "", notBefore: "", notAfter: "", serial: "" }] });
    expect((await (await fetch(`${url}/certs`)).text()).length).toBeGreaterThan(big.length);
  });

  test("a taken address is an error", () => {
    const { port } = start();
    expect(() => openAdmin({ host: "127.0.0.1", port }, {} as AdminSources)).toThrow();
  });
});
