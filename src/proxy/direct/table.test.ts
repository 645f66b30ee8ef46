import { describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { plainAllowed, plainMark } from "../../wire/direct.ts";
import type { ClusterConfig, ListenerConfig, ProxyConfig, RouteTableConfig, UpstreamTlsConfig } from "../config.ts";
import { catchAll, chain, cluster, endpoint, forward, http, listener, route, table, tcpProxy } from "../testing/fixture.ts";
import { DirectKeeper } from "./keeper.ts";
import { directTable, mostEndpoints } from "./table.ts";

const tls = {} as UpstreamTlsConfig;
const sidecars = [
  { name: "tlsMode-istio", match: { tlsMode: "istio" }, tls },
  { name: "tlsMode-disabled", match: {}, tls: null },
];
const strict = { transportMatch: { tlsMode: "istio" } };
const permissive = { transportMatch: { tlsMode: "istio", [plainMark]: plainAllowed } };

const name = "outbound|80||cart.shop.svc.cluster.local";
const upstream = (terminal: Parameters<typeof chain>[0], more: Partial<ListenerConfig> = {}): ListenerConfig =>
  listener("upstream|80||cart.shop.svc.cluster.local", [chain(terminal)], { address: { host: "127.0.0.1", port: 9001 }, ...more });

function config(one: ListenerConfig, clusters: readonly ClusterConfig[], routes: readonly RouteTableConfig[] = []): ProxyConfig {
  return {
    listeners: new Map([[one.name, one]]),
    clusters: new Map(clusters.map((each) => [each.name, each])),
    routes: new Map(routes.map((each) => [each.name, each])),
    endpoints: new Map(),
  };
}
const only = (made: ProxyConfig) => directTable(made).upstreams[0];
const plainTo = (...ports: number[]) => ({
  port: 9001,
  service: "cart.shop",
  kind: "plain" as const,
  passedOver: 0,
  targets: [{ weight: 1, endpoints: ports.map((port) => ({ host: "127.0.0.1", port, weight: 1 })) }],
});
const reasonOf = (made: ProxyConfig): string => {
  const one = only(made);
  return one?.kind === "refused" ? one.reason : `not refused: ${JSON.stringify(one)}`;
};

describe("where policy allows plain text", () => {
  test.each([
    ["an endpoint that takes plain text beside mutual TLS", [endpoint(1, permissive)], [1]],
    ["an endpoint without a sidecar", [endpoint(2)], [2]],
    ["only those that may, of several", [endpoint(1, strict), endpoint(2, permissive), endpoint(3)], [2, 3]],
    ["no unwell ones", [endpoint(1, { ...permissive, healthy: false }), endpoint(2, permissive)], [2]],
    ["the first priority", [endpoint(1, { ...permissive, priority: 1 }), endpoint(2, permissive)], [2]],
  ])("%s", (_says, endpoints, ports) => {
    expect(only(config(upstream(tcpProxy(name)), [cluster(name, endpoints, { transports: sidecars })]))).toEqual(plainTo(...ports));
  });

  test("a DestinationRule that turns TLS off", () => {
    expect(only(config(upstream(tcpProxy(name)), [cluster(name, [endpoint(1, strict)])]))).toEqual(plainTo(1));
  });

  test("endpoints that come by EDS", () => {
    const one = cluster(name, [], { transports: sidecars, source: { kind: "eds", serviceName: name } });
    const made = { ...config(upstream(tcpProxy(name)), [one]), endpoints: new Map([[name, [endpoint(7, permissive)]]]) };
    expect(only(made)).toEqual(plainTo(7));
  });

  test("the CONNECT that every host has is no condition that is passed over", () => {
    const connect = route(forward(name), { match: { path: { kind: "connect" }, headers: [], query: [] } });
    const routes = table([{ name: "cart", domains: ["*"], routes: [connect, route(forward(name))] }]);
    const made = config(upstream(http({ rds: "routes" })), [cluster(name, [endpoint(7, permissive)], { transports: sidecars })], [routes]);
    expect(only(made)).toEqual(plainTo(7));
  });

  test("the route that takes all requests, and how many before it do not apply", () => {
    const routes = table([
      {
        name: "cart",
        domains: ["*"],
        routes: [
          route(forward("canary"), { match: { path: { kind: "prefix", value: "/v2" }, headers: [], query: [] } }),
          route(
            forward("", {
              clusters: [
                { cluster: name, weight: 90 },
                { cluster: "canary", weight: 10 },
              ],
            }),
          ),
        ],
      },
    ]);
    const clusters = [cluster(name, [endpoint(1, permissive)], { transports: sidecars }), cluster("canary", [endpoint(2)])];
    expect(only(config(upstream(http({ rds: "routes" })), clusters, [routes]))).toEqual({
      port: 9001,
      service: "cart.shop",
      kind: "plain",
      passedOver: 1,
      targets: [
        { weight: 90, endpoints: [{ host: "127.0.0.1", port: 1, weight: 1 }] },
        { weight: 10, endpoints: [{ host: "127.0.0.1", port: 2, weight: 1 }] },
      ],
    });
  });

  test("no more endpoints than are worth keeping", () => {
    const many = Array.from({ length: mostEndpoints + 5 }, (_none, n) => endpoint(n + 1));
    const one = only(config(upstream(tcpProxy(name)), [cluster(name, many)]));
    expect(one?.kind === "plain" && one.targets[0]?.endpoints.length).toBe(mostEndpoints);
  });
});

describe("refused, with the reason", () => {
  const mesh = (more: Partial<ClusterConfig>) => [cluster(name, [endpoint(1, strict)], { transports: sidecars, ...more })];
  test.each([
    ["mutual TLS only", config(upstream(tcpProxy(name)), mesh({})), /mutual TLS is demanded/],
    ["TLS of a DestinationRule", config(upstream(tcpProxy(name)), mesh({ transports: [], tls })), /DestinationRule demands TLS/],
    [
      "TLS of a DestinationRule before endpoints that take plain text",
      config(upstream(tcpProxy(name)), [cluster(name, [endpoint(1, permissive)], { tls })]),
      /DestinationRule demands TLS/,
    ],
    ["nobody", config(upstream(tcpProxy(name)), [cluster(name, [])]), /no instance is known/],
    ["no cluster", config(upstream(tcpProxy(name)), []), /no such service/],
    ["PROXY protocol", config(upstream(tcpProxy(name)), [cluster(name, [endpoint(1)], { proxyProtocol: 1 })]), /PROXY protocol/],
    ["no routes", config(upstream(http({ rds: "routes" })), []), /lead no request/],
    [
      "routes that answer",
      config(
        upstream(
          http({ inline: table([{ name: "a", domains: ["*"], routes: [route({ kind: "direct", status: 503, body: "" } as never)] }]) }),
        ),
        [],
      ),
      /answer by themselves/,
    ],
    [
      "connections by name",
      config(upstream(tcpProxy(name), { chains: [chain(tcpProxy(name)), chain(tcpProxy(name))] }), [cluster(name, [endpoint(1)])]),
      /name in their handshake/,
    ],
  ])("%s", (_says, made, reason) => {
    expect(reasonOf(made)).toMatch(reason);
  });

  test("nothing but explicit upstreams over TCP is in the table", () => {
    const others = [
      listener("outbound-http-proxy", [chain(http({ inline: catchAll(name) }))]),
      listener("inbound|http", [chain(tcpProxy(name))], { direction: "inbound" }),
      upstream(tcpProxy(name), { udp: { statPrefix: "", cluster: name, rbac: [], accessLogs: [] } as never, chains: [] }),
    ];
    for (const one of others) expect(directTable(config(one, [cluster(name, [endpoint(1)])])).upstreams).toEqual([]);
  });
});

test("the file is whole, private, and written again only for what changes", async () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-direct-"));
  const path = join(dir, "direct.json");
  const keeper = new DirectKeeper(systemClock, silentLogger, path);
  const written = async (port: number): Promise<void> => {
    const end = performance.now() + 10_000;
    const is = () => {
      try {
        return readFileSync(path, "utf8").includes(`"port":${port},"weight"`);
      } catch {
        return false;
      }
    };
    while (!is() && performance.now() < end) await Bun.sleep(10);
    expect(is()).toBe(true);
  };
  try {
    keeper.changed(config(upstream(tcpProxy(name)), [cluster(name, [endpoint(11)])]));
    keeper.changed(config(upstream(tcpProxy(name)), [cluster(name, [endpoint(12)])]));
    await written(12);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    keeper.changed(config(upstream(tcpProxy(name)), [cluster(name, [endpoint(13)])]));
    await written(13);
    expect(readdirSync(dir)).toEqual(["direct.json"]);
  } finally {
    keeper.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});
