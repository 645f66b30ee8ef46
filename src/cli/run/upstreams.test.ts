// What `weft run` says of explicit upstreams that no port can be opened for, and that it says nothing of the others.

import { afterEach, beforeEach, expect, test } from "bun:test";
import type { Upstream } from "../../api/kinds/workloadentry.ts";
import type { KubeObject } from "../../api/meta.ts";
import { PausedClock } from "../../base/clock.ts";
import { Client } from "../client.ts";
import type { Say } from "./say.ts";
import { tellClosedUpstreams, upstreamFault } from "./upstreams.ts";

const service = (name: string, ...ports: readonly (readonly [number, "TCP" | "UDP"])[]): KubeObject => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "shop" },
  spec: { ports: ports.map(([port, protocol]) => ({ port, protocol })) },
});
const upstream = (over: Partial<Upstream> = {}): Upstream => ({
  service: "dns",
  namespace: undefined,
  port: undefined,
  localPort: 5300,
  transport: "tcp",
  ...over,
});

test("a local port that stays closed is named with the spelling that opens it", () => {
  const udp = service("dns", [53, "UDP"]);
  const both = service("dns", [53, "UDP"], [53, "TCP"], [80, "TCP"]);
  expect(upstreamFault(udp, upstream())).toBe(
    "--upstream dns=5300: Service shop/dns has only UDP ports, so that 127.0.0.1:5300 stays closed for TCP; write --upstream dns=5300/udp",
  );
  expect(upstreamFault(udp, upstream({ port: 53, namespace: "shop" }))).toBe(
    "--upstream dns.shop:53=5300: port 53 of Service shop/dns is UDP, so that 127.0.0.1:5300 stays closed for TCP; write --upstream dns.shop:53=5300/udp",
  );
  expect(upstreamFault(both, upstream({ port: 80, transport: "udp" }))).toEndWith(
    "port 80 of Service shop/dns is TCP, so that 127.0.0.1:5300 stays closed for UDP; write --upstream dns:80=5300",
  );
  expect(upstreamFault(both, upstream({ port: 99 }))).toEndWith(
    "Service shop/dns has no port 99, so that 127.0.0.1:5300 stays closed for TCP; it has 53/udp, 53/tcp, 80/tcp",
  );
  for (const each of [upstream(), upstream({ transport: "udp" }), upstream({ port: 53 }), upstream({ port: 53, transport: "udp" })])
    expect(upstreamFault(both, each)).toBeUndefined();
  expect(upstreamFault({ ...udp, spec: { type: "ExternalName" } }, upstream())).toBeUndefined();
});

const known = new Map<string, KubeObject>();
let asked: string[] = [];
let server: Bun.Server<undefined>;

beforeEach(() => {
  known.clear();
  asked = [];
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => {
      const { pathname } = new URL(request.url);
      asked.push(pathname);
      const code = pathname.includes("/secret/") ? 403 : 404;
      const found = known.get(pathname);
      return found === undefined
        ? Response.json({ kind: "Status", message: "no", reason: "No", code }, { status: code })
        : Response.json(found);
    },
  });
});
afterEach(() => server.stop(true));

const until = async (what: string, holds: () => boolean) => {
  const end = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within 10 s: ${what}`);
    await Bun.sleep(2);
  }
};

test("it is said at the start, and of a service that comes later once it is there; what may not be read is left alone", async () => {
  const words: string[] = [];
  const say: Say = { info() {}, error() {}, warn: (text) => void words.push(text) };
  const clock = new PausedClock();
  const client = new Client({
    server: `http://127.0.0.1:${server.port}`,
    ca: undefined,
    token: "t",
    serverName: undefined,
    certificate: undefined,
    skipVerify: false,
    namespace: "shop",
    file: "",
  });
  known.set("/api/v1/namespaces/shop/services/dns", service("dns", [53, "UDP"]));
  const upstreams = [upstream(), upstream({ service: "later" }), upstream({ service: "x", namespace: "secret" })];
  tellClosedUpstreams(client, "shop", upstreams, clock, say);
  await until("all are asked for", () => asked.length === 3 && words.length === 1);
  expect(words[0]).toStartWith("--upstream dns=5300: ");
  known.set("/api/v1/namespaces/shop/services/later", service("later", [53, "UDP"]));
  await until("it is said of the one that came", () => {
    clock.advance(30_000);
    return words.length === 2;
  });
  expect(words[1]).toStartWith("--upstream later=5300: ");
  clock.advance(120_000);
  expect(asked.filter((path) => path.endsWith("/x") || path.endsWith("/dns"))).toHaveLength(2);
  expect(asked.filter((path) => path.endsWith("/later")).length).toBe(2);
});
