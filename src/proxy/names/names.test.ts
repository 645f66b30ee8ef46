// Clusters that lead wherever a request says: who waits, who is told what, what is kept and for how long, and no way back to the proxy itself.

import { expect, test } from "bun:test";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { Cluster } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { cluster, forward, hop, RawPeer, route, start, table, until } from "../testing/fixture.ts";
import { hostAndPort, Names, nameLimits } from "./names.ts";

const dynamic = cluster("names", [], { source: { kind: "dynamic", endpoints: [] } });
const transport = { key: "", tls: null, tlsHttp1: null, protocol: "http1" as const };

function rig() {
  const asked: string[] = [];
  const answers = new Map<string, readonly string[]>();
  const open: (() => void)[] = [];
  let nowMs = 1_000;
  const names = new Names(new Cluster(dynamic), {
    lookup: (host) =>
      new Promise((resolve, reject) => {
        asked.push(host);
        open.push(() => {
          const found = answers.get(host);
          if (found === undefined) reject(new Error("no such name"));
          else resolve(found.map((address) => ({ address })));
        });
      }),
    nowMs: () => nowMs,
    transportOf: () => transport,
  });
  let woken = 0;
  const waiter = { retryPick: () => void woken++ };
  const find = (host: string, not: Endpoint | null = null) => names.find(host, 80, nowMs, not, waiter);
  const answer = async () => {
    for (const each of open.splice(0)) each();
    await Promise.resolve();
    await Promise.resolve();
  };
  return { names, asked, answers, find, answer, woken: () => woken, pass: (ms: number) => (nowMs += ms) };
}

test("requests wait for the first answer together, and later ones do not wait", async () => {
  const { asked, answers, find, answer, woken, names, pass } = rig();
  answers.set("a.example", ["192.0.2.1", "192.0.2.2"]);
  expect([find("a.example"), find("a.example")]).toEqual([null, null]);
  expect([names.problem, asked.length, woken()]).toEqual(["", 1, 0]);
  await answer();
  expect(woken()).toBe(2);
  const first = find("a.example");
  expect(first?.host).toBe("192.0.2.1");
  expect(first?.config.hostname).toBe("a.example");
  // The one that has just failed is left for the other.
  expect(find("a.example", first)?.host).toBe("192.0.2.2");
  pass(nameLimits.refreshMs);
  expect(find("a.example")?.host).toBe("192.0.2.1");
  expect(asked.length).toBe(2);
  answers.set("a.example", ["192.0.2.2"]);
  await answer();
  expect(find("a.example")?.host).toBe("192.0.2.2");
  expect(first?.retired).toBe(true);
  // Nobody answers any more: what is known goes on.
  answers.delete("a.example");
  pass(nameLimits.refreshMs);
  find("a.example");
  await answer();
  expect(find("a.example")?.host).toBe("192.0.2.2");
});

test("a name without address is told, and asked for again after a while", async () => {
  const { asked, find, answer, names, woken, pass } = rig();
  expect(find("gone.example")).toBeNull();
  await answer();
  expect(woken()).toBe(1);
  expect(find("gone.example")).toBeNull();
  expect(names.problem).toBe("the name gone.example has no address that can be found");
  expect(asked.length).toBe(1);
  pass(nameLimits.failedMs);
  expect(find("gone.example")).toBeNull();
  expect([names.problem, asked.length]).toEqual(["", 2]);
});

test("an address is not asked for; hosts are bounded, and the one unused for the longest goes", () => {
  const { asked, find, names } = rig();
  const first = find("192.0.2.1");
  expect(first?.port).toBe(80);
  const busy = find("192.0.2.2") as Endpoint;
  busy.active = 1;
  for (let i = 0; i < nameLimits.hosts; i++) find(`10.0.${i >> 8}.${i & 255}`);
  expect([names.size, asked.length, first?.retired, busy.retired]).toEqual([nameLimits.hosts, 0, true, false]);
});

test("requests that wait are bounded", () => {
  const { find, names } = rig();
  for (let i = 0; i < nameLimits.waiting; i++) expect(find("slow.example")).toBeNull();
  expect(names.problem).toBe("");
  expect(find("slow.example")).toBeNull();
  expect(names.problem).toBe("too many requests wait for addresses of names");
});

test("authorities", () => {
  expect(hostAndPort("A.Example", 80)).toEqual({ host: "a.example", port: 80 });
  expect(hostAndPort("a.example:8080", 80)).toEqual({ host: "a.example", port: 8080 });
  expect(hostAndPort("[::1]:443", 80)).toEqual({ host: "::1", port: 443 });
  for (const wrong of ["", ":80", "a:b:c", "a.example:0", "a.example:65536", "user@a.example", "a b"])
    expect(hostAndPort(wrong, 80)).toBeNull();
});

const everywhere = table([
  {
    name: "all",
    domains: ["*"],
    routes: [
      route(forward("names", { terminateConnect: true }), { match: { path: { kind: "connect" }, headers: [], query: [] } }),
      route(forward("names")),
    ],
  },
]);

test("a request, a tunnel, a name that nobody has, and the proxy itself", async () => {
  const origin = createServer((request, response) => response.end(`${request.headers.host} ${request.url}`));
  await new Promise<void>((done) => origin.listen(0, "127.0.0.1", done));
  const echo = createTcpServer((socket) => socket.pipe(socket));
  await new Promise<void>((done) => echo.listen(0, "127.0.0.1", done));
  const [port, echoPort] = [origin, echo].map((server) => (server.address() as AddressInfo).port);
  const lookup = async (host: string) => {
    if (host !== "shop.example") throw new Error("no such name");
    return [{ address: "127.0.0.1" }];
  };
  const running = start(hop([dynamic], everywhere, { upgrades: ["CONNECT"] }), { lookup });
  try {
    const ask = async (text: string) => {
      const peer = await RawPeer.connect(running.port());
      await peer.ask(text);
      await until(() => /content-length: 0\r\n/.test(peer.text) || /\r\n\r\n[^\r]+$/.test(peer.text));
      return peer.text;
    };
    const get = (authority: string) => ask(`GET http://${authority}/x HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
    expect(await get(`shop.example:${port}`)).toEndWith(`shop.example:${port} /x`);
    expect(await get(`127.0.0.1:${port}`)).toEndWith(`127.0.0.1:${port} /x`);
    const gone = await get("gone.example");
    expect(gone).toStartWith("HTTP/1.1 503 ");
    expect(gone).toContain("the name gone.example has no address that can be found");
    expect(await get(`127.0.0.1:${running.port()}`)).toStartWith("HTTP/1.1 508 ");
    const peer = await RawPeer.connect(running.port());
    peer.send(`CONNECT shop.example:${echoPort} HTTP/1.1\r\nHost: shop.example:${echoPort}\r\n\r\n`);
    await until(() => peer.text.includes("\r\n\r\n"));
    peer.send("hello");
    await until(() => peer.text.endsWith("hello"));
  } finally {
    running.engine.close();
    origin.close();
    echo.close();
  }
}, 20_000);
