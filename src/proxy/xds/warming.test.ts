import { describe, expect, test } from "bun:test";
import type { ClusterConfig, ListenerConfig, ProxyConfig, RouteTableConfig } from "../config.ts";
import { defaultLimits } from "../http1/limits.ts";
import { ResourceStore } from "./store.ts";
import { Warmer, warmBoundMs } from "./warming.ts";

const cluster = (name: string, tag = ""): ClusterConfig => ({
  name,
  connectTimeoutMs: 1000,
  balance: { kind: "round_robin" },
  source: { kind: "eds", serviceName: name },
  transports: [{ name: tag, match: {}, tls: null }],
  tls: null,
  limits: { maxConnections: 1, maxPending: 1, maxRequests: 1, maxRetries: 1 },
  protocol: "http1",
  control: false,
  service: null,
});
const listener = (name: string, rds: string, tag = ""): ListenerConfig => ({
  name,
  address: { host: "127.0.0.1", port: 0 },
  direction: "outbound",
  inspectTls: false,
  chains: [
    {
      name: tag,
      match: { transport: null, alpn: [], serverNames: [] },
      tls: null,
      networkRbac: [],
      terminal: {
        kind: "http",
        statPrefix: "",
        routes: { rds },
        rbac: [],
        accessLogs: [],
        generateRequestId: true,
        upgrades: [],
        limits: defaultLimits,
        via: null,
        codec: "auto",
        http2: {},
        grpcWeb: false,
      },
    },
  ],
});
const table = (name: string, to: string): RouteTableConfig => ({
  name,
  ignorePort: false,
  virtualHosts: [
    {
      name: "v",
      domains: ["*"],
      routes: [
        {
          name: "",
          match: { path: { kind: "prefix", value: "/" }, headers: [], query: [] },
          action: {
            kind: "forward",
            clusters: [{ cluster: to, weight: 1 }],
            timeoutMs: 0,
            idleTimeoutMs: 0,
            retry: null,
            prefixRewrite: null,
            hostRewrite: null,
            terminateConnect: false,
            upgrades: [],
          },
          requestHeaders: { remove: [], set: [], add: [] },
          responseHeaders: { remove: [], set: [], add: [] },
        },
      ],
    },
  ],
});

function setup() {
  const store = new ResourceStore({ readFile: () => new Uint8Array(0), staticSecrets: new Map(), controlClusters: new Set() }, {});
  const warmer = new Warmer({ listeners: new Map(), clusters: new Map() });
  const held = <T>(config: T) => ({ version: "1", hash: 0n, config, bytes: null });
  return {
    store,
    next: (nowMs: number) => warmer.next(store, nowMs),
    cluster: (c: ClusterConfig) => store.types.cluster.held.set(c.name, held(c)),
    endpoints: (name: string) => store.types.endpoint.held.set(name, held([])),
    listener: (l: ListenerConfig) => store.types.listener.held.set(l.name, held(l)),
    routes: (r: RouteTableConfig) => store.types.route.held.set(r.name, held(r)),
  };
}
const names = (config: ProxyConfig) => [[...config.listeners.keys()], [...config.clusters.keys()], [...config.routes.keys()]];

describe("warming", () => {
  test("a cluster waits for its endpoints, a listener for its routes, no longer than the bound", () => {
    const w = setup();
    w.cluster(cluster("a"));
    w.listener(listener("l", "r"));
    expect(w.next(0).waiting).toEqual(["endpoints of a", "routes r"]);
    expect(names(w.next(1).config)).toEqual([[], [], []]);
    w.endpoints("a");
    expect(names(w.next(2).config)).toEqual([[], ["a"], []]);
    expect(w.next(warmBoundMs - 1).waiting).toEqual(["routes r"]);
    const late = w.next(warmBoundMs);
    expect(late.waiting).toEqual([]);
    expect(names(late.config)).toEqual([["l"], ["a"], ["r"]]);
    expect(late.config.routes.get("r")?.virtualHosts).toEqual([]);
  });

  test("what the server says it does not have is not waited for", () => {
    const w = setup();
    w.cluster(cluster("a"));
    w.store.remove("endpoint", "a");
    w.listener(listener("l", "r"));
    w.store.remove("route", "r");
    const found = w.next(0);
    expect(found.waiting).toEqual([]);
    expect(found.config.endpoints.get("a")).toEqual([]);
  });

  test("a changed listener with new routes keeps its old self until they are there", () => {
    const w = setup();
    w.listener(listener("l", "r", "old"));
    w.routes(table("r", "a"));
    w.next(0);
    w.listener(listener("l", "s", "new"));
    const during = w.next(1).config;
    expect(during.listeners.get("l")?.chains[0]?.name).toBe("old");
    expect(during.routes.has("r")).toBe(true);
    w.routes(table("s", "a"));
    const after = w.next(2).config;
    expect(after.listeners.get("l")?.chains[0]?.name).toBe("new");
    expect([...after.routes.keys()]).toEqual(["s"]);
  });

  test("routes that vanish while a listener uses them stay", () => {
    const w = setup();
    w.listener(listener("l", "r"));
    w.routes(table("r", "a"));
    const before = w.next(0).config.routes.get("r");
    w.store.remove("route", "r");
    expect(w.next(1).config.routes.get("r")).toBe(before as RouteTableConfig);
  });

  test("endpoints that vanish while their cluster stays, stay; a removed cluster lingers no longer than the bound", () => {
    const w = setup();
    w.cluster(cluster("a"));
    w.endpoints("a");
    w.listener(listener("l", "r"));
    w.routes(table("r", "a"));
    w.next(0);
    w.store.remove("endpoint", "a");
    expect(w.next(1).config.endpoints.has("a")).toBe(true);
    w.store.remove("cluster", "a");
    expect(w.next(2).config.clusters.has("a")).toBe(true);
    expect(w.next(2 + warmBoundMs - 1).config.clusters.has("a")).toBe(true);
    expect(w.next(2 + warmBoundMs).config.clusters.has("a")).toBe(false);
  });

  test("unchanged resources are the same objects from round to round", () => {
    const w = setup();
    const c = cluster("a");
    w.cluster(c);
    w.endpoints("a");
    const one = w.next(0).config;
    w.cluster(cluster("b"));
    w.endpoints("b");
    const two = w.next(1).config;
    expect(two.clusters.get("a")).toBe(one.clusters.get("a") as ClusterConfig);
    expect(two.endpoints.get("a")).toBe(one.endpoints.get("a") as never);
  });
});
