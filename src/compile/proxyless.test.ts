// What gRPC programs without a proxy are given, and what is told where that is less than the mesh has for others.

import { describe, expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import type { KubeObject } from "../api/meta.ts";
import { ClusterSchema } from "../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterLoadAssignmentSchema } from "../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { grpcServerName } from "../wire/grpc-names.ts";
import { buildWorld } from "./compile.ts";
import { grpcTable, refusedCluster } from "./emit/grpc.ts";
import type { PortPlan } from "./plan/plan.ts";
import { noEdits, type RoutePlan } from "./plan/routes.ts";
import { grpcShortfallsOf, grpcSnapshotOf } from "./proxyless.ts";

const service = (name: string, portName = "grpc"): KubeObject =>
  ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "shop" },
    spec: { selector: { app: name }, ports: [{ name: portName, port: 50051, protocol: "TCP" }] },
  }) as KubeObject;
const entry = (name: string, app: string, port: number, mutual: boolean): KubeObject =>
  ({
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    metadata: {
      name,
      namespace: "shop",
      labels: { app, ...(mutual ? { "security.istio.io/tlsMode": "istio" } : {}) },
      annotations: { "weft.dev/inbound": `grpc=${port}` },
    },
    spec: { serviceAccount: app, address: "127.0.0.1", ports: { grpc: port } },
  }) as KubeObject;

const compile = (...objects: KubeObject[]) => {
  const world = buildWorld(objects, "cluster.local");
  const forWorkload = (key: string) => ({ snapshot: grpcSnapshotOf(world, key), shortfalls: grpcShortfallsOf(world, key) });
  return { forWorkload, forNamespace: (namespace: string) => forWorkload(`${namespace}/`) };
};
const cluster = "outbound|50051||cart.shop.svc.cluster.local";

describe("what is given", () => {
  test("every name of a port that speaks HTTP/2, and the short one in its own namespace only", () => {
    const made = compile(service("cart"), service("page", "http"));
    const names = ["cart.shop:50051", "cart.shop.svc:50051", "cart.shop.svc.cluster.local:50051"];
    expect([...made.forNamespace("bank").snapshot.resources.listener.keys()]).toEqual(names);
    expect([...made.forNamespace("shop").snapshot.resources.listener.keys()]).toEqual(["cart:50051", ...names]);
    expect([...made.forNamespace("shop").snapshot.resources.route.keys()]).toEqual(["grpc|50051||cart.shop.svc.cluster.local"]);
  });
  test("one transport for a cluster: instances without mutual TLS beside others with it get nothing, and that is told", () => {
    const made = compile(service("cart"), entry("a", "cart", 1001, true), entry("b", "cart", 1002, false)).forNamespace("shop");
    const read = fromBinary(ClusterSchema, made.snapshot.resources.cluster.get(cluster)!.value);
    expect(read.transportSocket?.name).toBe("envoy.transport_sockets.tls");
    expect(read.transportSocketMatches).toEqual([]);
    const [locality, ...others] = fromBinary(ClusterLoadAssignmentSchema, made.snapshot.resources.endpoint.get(cluster)!.value).endpoints;
    expect(others).toEqual([]);
    expect(locality?.loadBalancingWeight).toBe(1);
    expect(locality?.locality).toBeDefined();
    expect(locality?.lbEndpoints.length).toBe(1);
    expect(made.shortfalls.get(`endpoint ${cluster}`)).toEqual([
      { subject: "Service shop/cart port 50051", message: expect.stringContaining("1 of 2 instances take no mutual TLS"), refused: true },
    ]);
  });
  test("without any mutual TLS it is plain", () => {
    const made = compile(service("cart"), entry("b", "cart", 1002, false)).forNamespace("shop");
    expect(fromBinary(ClusterSchema, made.snapshot.resources.cluster.get(cluster)!.value).transportSocket).toBeUndefined();
    expect(made.shortfalls.size).toBe(0);
  });
  test("a server has its listener by each address it may listen on; one without an entry has none", () => {
    const made = compile(service("cart"), entry("a", "cart", 1001, true));
    const own = [...made.forWorkload("shop/a").snapshot.resources.listener.keys()].filter((name) => name.startsWith("grpc/server"));
    expect(own).toEqual(["127.0.0.1", "0.0.0.0", "::"].map((host) => grpcServerName(host, 1001)));
    expect([...made.forWorkload("shop/nobody").snapshot.resources.listener.keys()].some((name) => name.startsWith("grpc/server"))).toBe(
      false,
    );
  });
  test("the same objects in any order give the same versions", () => {
    const objects = [service("cart"), service("stock"), entry("a", "cart", 1001, true), entry("b", "stock", 1002, true)];
    const versions = (list: KubeObject[]) => {
      const { resources } = compile(...list).forWorkload("shop/a").snapshot;
      return [...resources.listener.values(), ...resources.route.values(), ...resources.cluster.values()]
        .map((each) => `${each.name} ${each.version}`)
        .sort();
    };
    expect(versions([...objects].reverse())).toEqual(versions(objects));
  });
});

describe("what gRPC cannot do", () => {
  const target = { cluster, identities: [], endpoints: [] } as unknown as PortPlan;
  const forward = {
    kind: "forward" as const,
    backends: [{ cluster, weight: 1, missing: false }],
    timeoutMs: 0,
    retry: { attempts: 0, codes: [], perTryTimeoutMs: 0 },
  };
  const plain: RoutePlan = {
    name: "shop/cart/0",
    match: { path: { kind: "prefix", value: "/" }, method: undefined, headers: [], query: [] },
    action: forward,
    requestHeaders: noEdits,
    responseHeaders: noEdits,
  };
  const edits = { set: [{ name: "x", value: "y" }], add: [], remove: [] };
  const table = (route: object) => {
    const made = grpcTable("t", target, [{ ...plain, ...route } as RoutePlan]);
    const routes = made.config.virtualHosts[0]?.routes ?? [];
    return { shortfalls: made.shortfalls, clusters: made.clusters, routes };
  };

  const refused: readonly (readonly [string, object])[] = [
    ["request headers", { requestHeaders: edits }],
    ["redirects", { action: { kind: "redirect", status: 301 } }],
    ["direct", { action: { kind: "direct", status: 404, body: "" } }],
    ["rewrite paths", { action: { ...forward, prefixRewrite: "/x" } }],
    ["rewrite paths", { action: { ...forward, regexRewrite: { regex: "a", substitution: "b" } } }],
    ["rewrite the host", { action: { ...forward, hostRewrite: "x" } }],
    ['"mirrors"', { action: { ...forward, mirrors: [{ cluster, perMillion: 1 }] } }],
    ['"fault"', { fault: { abort: {} } }],
    ['"session"', { session: { kind: "header", name: "x" } }],
    [":authority", { match: { ...plain.match, headers: [{ name: ":authority", kind: "exact", value: "x" }] } }],
    ['"yetToCome"', { action: { ...forward, yetToCome: true } }],
  ];
  for (const [words, route] of refused)
    test(`${words}: such calls go nowhere, and it is told`, () => {
      const { shortfalls, clusters } = table(route);
      expect(clusters).toEqual([refusedCluster]);
      expect(shortfalls.some((each) => each.refused && each.subject === "shop/cart/0" && each.message.includes(words))).toBe(true);
    });

  const told: readonly (readonly [string, object])[] = [
    ["response headers", { responseHeaders: edits }],
    ["round robin", { action: { ...forward, hash: [{ kind: "source" }] } }],
    ["one try", { action: { ...forward, retry: { attempts: 1, codes: [], perTryTimeoutMs: 100 } } }],
    ["HTTP status 500", { action: { ...forward, retry: { attempts: 1, codes: [500, 503], perTryTimeoutMs: 0 } } }],
    [
      '"gateway-error"',
      { action: { ...forward, retry: { attempts: 1, on: ["gateway-error", "unavailable"], codes: [], perTryTimeoutMs: 0 } } },
    ],
  ];
  for (const [words, route] of told)
    test(`${words}: calls go without, and it is told`, () => {
      const { shortfalls, clusters } = table(route);
      expect(clusters).toEqual([cluster]);
      expect(shortfalls).toEqual([{ subject: "shop/cart/0", message: expect.stringContaining(words), refused: false }]);
    });

  test("a DestinationRule: subsets by routes, a limit of requests kept, TLS by files refused, the rest told", () => {
    const rule = (trafficPolicy: object, subsets: object[] = []) =>
      ({
        apiVersion: "networking.istio.io/v1",
        kind: "DestinationRule",
        metadata: { name: "cart", namespace: "shop" },
        spec: { host: "cart", trafficPolicy, subsets },
      }) as KubeObject;
    const objects = [service("cart"), entry("a", "cart", 1001, true)];
    const made = compile(
      ...objects,
      rule({ loadBalancer: { simple: "RANDOM" }, connectionPool: { http: { http2MaxRequests: 7, http1MaxPendingRequests: 3 } } }, [
        { name: "v1", labels: { version: "v1" } },
      ]),
    ).forNamespace("shop");
    const { resources } = made.snapshot;
    expect([...resources.cluster.keys()].filter((name) => name.includes("|v1|"))).toEqual([
      "outbound|50051|v1|cart.shop.svc.cluster.local",
    ]);
    expect([...resources.listener.keys()].length).toBe(4);
    const read = fromBinary(ClusterSchema, resources.cluster.get(cluster)!.value);
    expect(read.circuitBreakers?.thresholds[0]?.maxRequests).toBe(7);
    const words = made.shortfalls.get(`cluster ${cluster}`)?.map((each) => [each.message, each.refused]);
    expect(words).toContainEqual([expect.stringContaining("not by random"), false]);
    expect(words).toContainEqual([expect.stringContaining("no limit of pending"), false]);
    const tls = compile(...objects, rule({ tls: { mode: "SIMPLE", sni: "cart.example" } })).forNamespace("shop");
    expect(fromBinary(ClusterLoadAssignmentSchema, tls.snapshot.resources.endpoint.get(cluster)!.value).endpoints).toEqual([]);
    expect(tls.shortfalls.get(`cluster ${cluster}`)).toContainEqual(expect.objectContaining({ refused: true }));
  });

  test("a route to a port that does not speak HTTP/2: that share is refused, and told", () => {
    const route = {
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "HTTPRoute",
      metadata: { name: "cart", namespace: "shop" },
      spec: {
        parentRefs: [{ group: "", kind: "Service", name: "cart" }],
        rules: [
          {
            backendRefs: [
              { name: "cart", port: 50051 },
              { name: "page", port: 50051 },
            ],
          },
        ],
      },
    } as KubeObject;
    const made = compile(service("cart"), service("page", "http"), route).forNamespace("shop");
    const table = "grpc|50051||cart.shop.svc.cluster.local";
    expect(made.shortfalls.get(`route ${table}`)).toEqual([
      {
        subject: expect.stringContaining("shop/cart"),
        message: expect.stringContaining("page.shop.svc.cluster.local does not speak HTTP/2"),
        refused: true,
      },
    ]);
    expect(new TextDecoder().decode(made.snapshot.resources.route.get(table)?.value)).toContain(refusedCluster);
  });

  test("what never fits a gRPC call is left out; a prefix by elements becomes two routes", () => {
    expect(table({ match: { ...plain.match, method: "GET" } }).routes).toEqual([]);
    expect(table({ match: { ...plain.match, query: [{ name: "a", kind: "exact", value: "b" }] } }).routes).toEqual([]);
    const { routes, shortfalls } = table({ match: { ...plain.match, method: "POST", path: { kind: "separated-prefix", value: "/a" } } });
    expect(routes.map(({ match }) => match?.pathSpecifier)).toEqual([
      { case: "path", value: "/a" },
      { case: "prefix", value: "/a/" },
    ]);
    expect(shortfalls).toEqual([]);
  });
  test("the share of a backend that is missing fails; time-outs and retries that gRPC knows are kept", () => {
    const { routes } = table({
      action: {
        ...forward,
        backends: [
          { cluster, weight: 3, missing: false },
          { cluster: "gone", weight: 1, missing: true },
          { cluster: "none", weight: 0, missing: false },
        ],
        timeoutMs: 1_500,
        retry: { attempts: 3, on: ["connect-failure", "resource-exhausted"], codes: [503], perTryTimeoutMs: 0 },
      },
    });
    const action = routes[0]?.action.value as {
      clusterSpecifier: { value: { clusters: { name: string; weight?: number }[] } };
      retryPolicy: object;
      maxStreamDuration: object;
    };
    expect(action.clusterSpecifier.value.clusters.map(({ name, weight }) => [name, weight])).toEqual([
      [cluster, 3],
      [refusedCluster, 1],
    ]);
    expect(action.retryPolicy).toMatchObject({ retryOn: "resource-exhausted,unavailable", numRetries: 3 });
    expect(action.maxStreamDuration).toMatchObject({ maxStreamDuration: { seconds: 1n, nanos: 500_000_000 } });
  });
});
