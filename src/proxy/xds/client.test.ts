import { afterEach, describe, expect, test } from "bun:test";
import { create, createRegistry, fromJson, toBinary } from "@bufbuild/protobuf";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import { ClusterSchema } from "../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { NodeSchema } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import { ClusterLoadAssignmentSchema } from "../../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { ListenerSchema } from "../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { VirtualHostSchema } from "../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { RouteConfigurationSchema } from "../../wire/gen/envoy/config/route/v3/route_pb.ts";
import { RouterSchema } from "../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { HttpConnectionManagerSchema } from "../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import {
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  DiscoveryResponseSchema,
} from "../../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { type StreamType, typeUrl } from "../../wire/xds-types.ts";
import type { ClusterConfig, ProxyConfig } from "../config.ts";
import type { ApplyFailure } from "../engine.ts";
import { ControlChannel } from "./channel.ts";
import { AdsClient, type AdsOptions } from "./client.ts";
import { type FakeControlPlane, type FakeStream, startFakeControlPlane, until } from "./testing.ts";

const cluster = (name: string) =>
  toBinary(ClusterSchema, fromJson(ClusterSchema, { name, type: "EDS", edsClusterConfig: { edsConfig: { ads: {} } } }));

const socketAddress = (portValue: number) => ({ socketAddress: { address: "127.0.0.1", portValue } });

const endpoints = (clusterName: string, ...ports: number[]) =>
  toBinary(
    ClusterLoadAssignmentSchema,
    fromJson(ClusterLoadAssignmentSchema, {
      clusterName,
      endpoints: [{ lbEndpoints: ports.map((port) => ({ endpoint: { address: socketAddress(port) } })) }],
    }),
  );

const registry = createRegistry(HttpConnectionManagerSchema, RouterSchema);

const listener = (name: string, routeConfigName: string, codecType = "AUTO") =>
  toBinary(
    ListenerSchema,
    fromJson(
      ListenerSchema,
      {
        name,
        address: socketAddress(0),
        filterChains: [
          {
            filters: [
              {
                name: "http",
                typedConfig: {
                  "@type": `type.googleapis.com/${HttpConnectionManagerSchema.typeName}`,
                  statPrefix: "x",
                  codecType,
                  rds: { routeConfigName, configSource: { ads: {} } },
                  httpFilters: [{ name: "router", typedConfig: { "@type": `type.googleapis.com/${RouterSchema.typeName}` } }],
                },
              },
            ],
          },
        ],
      },
      { registry },
    ),
  );

const routes = (name: string, toCluster: string) =>
  toBinary(
    RouteConfigurationSchema,
    fromJson(RouteConfigurationSchema, {
      name,
      virtualHosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: toCluster } }] }],
    }),
  );

interface Harness {
  readonly client: AdsClient;
  readonly channel: ControlChannel;
  readonly applied: ProxyConfig[];
  failures: ApplyFailure[];
}

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const run of cleanups.splice(0)) run();
});

function controlCluster(port: number): ClusterConfig {
  return {
    name: "xds-grpc",
    connectTimeoutMs: 1000,
    balance: { kind: "round_robin" },
    source: {
      kind: "static",
      endpoints: [
        { address: { host: "127.0.0.1", port }, weight: 1, priority: 0, healthy: true, transportMatch: {}, workload: null, identity: null },
      ],
    },
    transports: [],
    tls: null,
    limits: { maxConnections: 1, maxPending: 1, maxRequests: 1, maxRetries: 1 },
    protocol: "http2",
    control: true,
    service: null,
  };
}

function start(port: number, delta: boolean, more: Partial<AdsOptions> = {}): Harness {
  const channel = new ControlChannel({
    clock: systemClock,
    log: silentLogger,
    random: () => 0.05,
    cluster: controlCluster(port),
    target: { cluster: "xds-grpc", authority: "", metadata: [] },
    credentials: { certificate: () => undefined, token: () => "the-token" },
  });
  const harness: { client?: AdsClient; channel: ControlChannel; applied: ProxyConfig[]; failures: ApplyFailure[] } = {
    channel,
    applied: [],
    failures: [],
  };
  harness.client = new AdsClient({
    clock: systemClock,
    log: silentLogger,
    random: () => 0.05,
    metrics: new MetricRegistry(),
    channel,
    node: create(NodeSchema, { id: "sidecar~shop~cart", metadata: { NAMESPACE: "shop" } }),
    delta,
    listeners: true,
    clusters: true,
    fixed: { listeners: new Map(), clusters: new Map() },
    world: { readFile: () => new Uint8Array(0), staticSecrets: new Map(), controlClusters: new Set() },
    apply: (config) => {
      harness.applied.push(config);
      return harness.failures;
    },
    changed: () => {},
    ...more,
  });
  channel.start();
  cleanups.push(() => {
    harness.client?.stop();
    channel.close();
  });
  return harness as Harness;
}

async function server(port?: number): Promise<FakeControlPlane> {
  const fake = await startFakeControlPlane(port === undefined ? {} : { port });
  cleanups.push(() => fake.stop());
  return fake;
}

let nonce = 0;
function push(
  stream: FakeStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>,
  type: StreamType,
  items: Record<string, [string, Uint8Array]>,
  removed: string[] = [],
): string {
  const id = `n${++nonce}`;
  stream.send(
    create(DeltaDiscoveryResponseSchema, {
      typeUrl: typeUrl[type],
      nonce: id,
      removedResources: removed,
      resources: Object.entries(items).map(([name, [version, value]]) => ({ name, version, resource: { typeUrl: typeUrl[type], value } })),
    }),
  );
  return id;
}

const answerTo = (stream: FakeStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>, id: string) =>
  until(() => stream.requests.find((r) => r.responseNonce === id), `an answer to ${id}`);
const asks = (stream: FakeStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>, type: StreamType) =>
  until(() => stream.requests.find((r) => r.typeUrl === typeUrl[type] && r.responseNonce === ""), `a subscription to ${type}`);

/** Brings a proxy to its first applied configuration: one cluster, one listener. */
async function settled(fake: FakeControlPlane, h: Harness): Promise<FakeStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>> {
  const stream = await until(() => fake.delta.at(-1), "a stream");
  await asks(stream, "cluster");
  push(stream, "cluster", { a: ["1", cluster("a")] });
  await asks(stream, "endpoint");
  push(stream, "endpoint", { a: ["1", endpoints("a", 9001)] });
  push(stream, "listener", { l: ["1", listener("l", "r")] });
  await asks(stream, "route");
  push(stream, "route", { r: ["1", routes("r", "a")] });
  await until(() => h.applied.length > 0, "the first configuration");
  return stream;
}

describe("delta", () => {
  test("a host that a request needs is asked for, put into its table, and named first on the next stream", async () => {
    const fake = await server();
    const h = start(fake.port, true);
    const stream = await settled(fake, h);
    const lazy = toBinary(
      RouteConfigurationSchema,
      fromJson(RouteConfigurationSchema, { name: "r", vhds: { configSource: { ads: {}, resourceApiVersion: "V3" } } }),
    );
    await answerTo(stream, push(stream, "route", { r: ["2", lazy] }));
    await until(() => h.applied.at(-1)?.routes.get("r")?.onDemand !== undefined, "the table that asks");
    expect(stream.requests.some((r) => r.typeUrl === typeUrl.host)).toBe(false);
    h.client.demand("r", "far");
    h.client.demand("r", "far");
    h.client.demand("r", "nobody");
    await until(() => stream.requests.filter((r) => r.typeUrl === typeUrl.host).length === 2, "two names are asked for");
    expect(stream.requests.filter((r) => r.typeUrl === typeUrl.host).map((r) => r.resourceNamesSubscribe)).toEqual([
      ["r/far"],
      ["r/nobody"],
    ]);
    const host = (name: string, domain: string, to: string) =>
      toBinary(
        VirtualHostSchema,
        fromJson(VirtualHostSchema, { name, domains: [domain], routes: [{ match: { prefix: "/" }, route: { cluster: to } }] }),
      );
    push(stream, "host", { "r/far": ["1", host("r/far", "far", "a")] });
    await until(() => h.applied.at(-1)?.routes.get("r")?.virtualHosts.length === 1, "the host is in the table");
    // A host that there is not, in the words that Envoy wants.
    stream.send(
      create(DeltaDiscoveryResponseSchema, {
        typeUrl: typeUrl.host,
        nonce: "none",
        resources: [{ name: "r/nobody", aliases: ["r/nobody"] }],
      }),
    );
    expect((await answerTo(stream, "none")).errorDetail).toBeUndefined();
    await until(() => h.applied.at(-1)?.routes.get("r")?.onDemand?.absent.length === 1, "its absence is known");
    expect(h.client.status().types.find((each) => each.type === "host")?.resources).toEqual([
      { name: "r/far", version: "1", state: "accepted" },
      { name: "r/nobody", version: "", state: "absent" },
    ]);
    expect(h.client.kept()?.host?.map(({ name }) => name)).toEqual([]);
    // One that cannot be used is rejected alone, and absent for callers.
    h.client.demand("r", "bad");
    const bad = push(stream, "host", { "r/bad": ["1", host("r/bad", "b*d", "a")] });
    expect((await answerTo(stream, bad)).errorDetail?.message).toContain("r/bad");
    await until(() => h.applied.at(-1)?.routes.get("r")?.onDemand?.absent.length === 2, "it counts as absent");

    stream.end();
    const again = await until(() => (fake.delta.length > 1 ? fake.delta.at(-1) : undefined), "another stream");
    await until(() => again.requests.length >= 5);
    expect(again.requests[0]).toMatchObject({ typeUrl: typeUrl.host, initialResourceVersions: { "r/far": "1" } });
    expect(again.requests[0]?.resourceNamesSubscribe.toSorted()).toEqual(["r/bad", "r/far", "r/nobody"]);
    expect(again.requests[0]?.node?.id).toBe("sidecar~shop~cart");
  });

  test("what was asked for is kept with the rest, and serves a start without the control plane", async () => {
    const fake = await server();
    const h = start(fake.port, true, { accepted: () => {} });
    const stream = await settled(fake, h);
    const vhds = { configSource: { ads: {}, resourceApiVersion: "V3" } };
    const lazy = toBinary(RouteConfigurationSchema, fromJson(RouteConfigurationSchema, { name: "r", vhds }));
    await answerTo(stream, push(stream, "route", { r: ["2", lazy] }));
    h.client.demand("r", "far");
    const host = { name: "r/far", domains: ["far"], routes: [{ match: { prefix: "/" }, route: { cluster: "a" } }] };
    await until(() => stream.requests.some((r) => r.typeUrl === typeUrl.host), "the host is asked for");
    push(stream, "host", { "r/far": ["1", toBinary(VirtualHostSchema, fromJson(VirtualHostSchema, host))] });
    await until(() => h.applied.at(-1)?.routes.get("r")?.virtualHosts.length === 1, "the host is in the table");
    const kept = h.client.kept();
    expect(kept?.host?.map(({ name, version }) => [name, version])).toEqual([["r/far", "1"]]);

    // Nobody listens there.
    const alone = start(1, true, { accepted: () => {} });
    expect(alone.client.restore(kept as NonNullable<typeof kept>)).toBeUndefined();
    alone.client.begin();
    expect(
      alone.applied
        .at(-1)
        ?.routes.get("r")
        ?.virtualHosts.map(({ domains, demanded }) => [domains, demanded]),
    ).toEqual([[["far"], true]]);
    expect(alone.client.wanted("host")).toEqual(new Set(["r/far"]));
  });

  test("the first configuration goes in whole, in the order cluster, endpoint, listener, route", async () => {
    const fake = await server();
    const h = start(fake.port, true);
    const stream = await until(() => fake.delta[0]);
    await asks(stream, "listener");
    expect(stream.requests.map((r) => r.typeUrl)).toEqual([typeUrl.cluster, typeUrl.listener]);
    expect(stream.requests[0]?.node?.id).toBe("sidecar~shop~cart");
    expect(stream.requests[0]?.node?.metadata).toEqual({ NAMESPACE: "shop" });
    expect(stream.requests[1]?.node).toBeUndefined();
    expect(stream.metadata.get("authorization")).toEqual(["Bearer the-token"]);
    expect(h.client.waitingFor()).toContain("listeners from the control plane");
    const id = push(stream, "cluster", { a: ["1", cluster("a")] });
    expect((await answerTo(stream, id)).errorDetail).toBeUndefined();
    expect((await asks(stream, "endpoint")).resourceNamesSubscribe).toEqual(["a"]);
    push(stream, "listener", { l: ["1", listener("l", "r")] });
    expect((await asks(stream, "route")).resourceNamesSubscribe).toEqual(["r"]);
    push(stream, "route", { r: ["1", routes("r", "a")] });
    await answerTo(stream, `n${nonce}`);
    expect(h.applied).toEqual([]);
    expect(h.client.waitingFor()).toEqual(["endpoints of a"]);
    push(stream, "endpoint", { a: ["1", endpoints("a", 9001, 9002)] });
    const config = await until(() => h.applied[0]);
    expect([...config.listeners.keys()]).toEqual(["l"]);
    expect(config.endpoints.get("a")?.map((e) => e.address.port)).toEqual([9001, 9002]);
    expect(h.client.waitingFor()).toEqual([]);
  });

  test("one bad resource is rejected by itself; its good version and its neighbours serve on", async () => {
    const fake = await server();
    const h = start(fake.port, true);
    const stream = await settled(fake, h);
    const before = h.applied.at(-1) as ProxyConfig;
    const id = push(stream, "listener", { l: ["2", listener("l", "r", "HTTP3")], m: ["1", listener("m", "r")] });
    const answer = await answerTo(stream, id);
    expect(answer.errorDetail?.code).toBe(3);
    expect(answer.errorDetail?.message).toBe(
      "listener l: filter_chains[0].filters[0].typed_config.codec_type: HTTP3 is not supported (this version speaks HTTP/1.1 and HTTP/2); supported: AUTO, HTTP1, HTTP2",
    );
    const after = await until(() => h.applied.find((c) => c.listeners.has("m")));
    expect(after.listeners.get("l")).toBe(before.listeners.get("l") as never);
    expect(after.clusters.get("a")).toBe(before.clusters.get("a") as never);
    const status = h.client.status().types.find((t) => t.type === "listener");
    expect(status?.resources.find((r) => r.state === "rejected")).toMatchObject({ name: "l", version: "2" });
    // The same bytes again are the same object, and clear the rejection.
    const again = push(stream, "listener", { l: ["3", listener("l", "r")] });
    expect((await answerTo(stream, again)).errorDetail).toBeUndefined();
    expect(h.applied.at(-1)?.listeners.get("l")).toBe(before.listeners.get("l") as never);
  });

  test("a field that the subset lacks rejects the resource and is named", async () => {
    const fake = await server();
    const h = start(fake.port, true);
    const stream = await settled(fake, h);
    // Cluster.lb_subset_config = 22, an empty message; then ClusterLoadAssignment.policy = 4.
    const id = push(stream, "cluster", { b: ["1", Buffer.concat([cluster("b"), Uint8Array.of(0xb2, 0x01, 0x00)])] });
    expect((await answerTo(stream, id)).errorDetail?.message).toBe(
      "cluster b: field 22 of envoy.config.cluster.v3.Cluster is not supported",
    );
    const garbage = push(stream, "endpoint", { a: ["9", Uint8Array.of(0x0a, 0x7f)] });
    expect((await answerTo(stream, garbage)).errorDetail?.message).toContain(
      "endpoint a: is not a valid envoy.config.endpoint.v3.ClusterLoadAssignment",
    );
    const wrongName = push(stream, "cluster", { c: ["1", cluster("d")] });
    expect((await answerTo(stream, wrongName)).errorDetail?.message).toContain('the response calls it "c", the resource itself "d"');
    expect(h.applied.at(-1)?.endpoints.get("a")?.length).toBe(1);
  });

  test("what the engine cannot apply is told after the answer, after each later answer while it stands, on the next stream, and when it is over", async () => {
    const fake = await server();
    const h = start(fake.port, true);
    const stream = await settled(fake, h);
    const said = (of: typeof stream, id: string) =>
      of.requests.filter((r) => r.responseNonce === id).map((r) => r.errorDetail?.message ?? "accepted");
    const taken = "listener m: port 80 is taken";
    h.failures = [{ resource: { type: "listener", name: "m" }, reason: "port 80 is taken" }];
    const first = push(stream, "listener", { m: ["1", listener("m", "r")] });
    await until(() => said(stream, first).length === 2, "both words");
    expect(said(stream, first)).toEqual(["accepted", taken]);
    const second = push(stream, "listener", { l: ["9", listener("l", "r")] });
    await until(() => said(stream, second).length === 2, "both words again");
    expect(said(stream, second)).toEqual(["accepted", taken]);
    h.failures = [];
    h.client.refresh();
    await until(() => said(stream, second).length === 3, "the end of it");
    expect(said(stream, second)).toEqual(["accepted", taken, "accepted"]);
    h.failures = [{ resource: { type: "listener", name: "m" }, reason: "port 80 is taken" }];
    h.client.refresh();
    stream.end();
    const next = await until(() => fake.delta.find((each) => each !== stream && each.requests.length > 1), "the next stream");
    await asks(next, "listener");
    // What is not in force is asked for again, so that there is an answer to speak of it in.
    const claimed = next.requests.find((r) => r.typeUrl === typeUrl.listener)?.initialResourceVersions;
    expect(Object.keys(claimed ?? {})).toEqual(["l"]);
    const third = push(next, "listener", { m: ["1", listener("m", "r")] });
    await until(() => said(next, third).length === 2, "both words on the next stream");
    expect(said(next, third)).toEqual(["accepted", taken]);
  });

  test("a proxy whose listeners were all refused is not ready, and says why; the first one in force makes it ready", async () => {
    const fake = await server();
    const h = start(fake.port, true);
    const stream = await until(() => fake.delta[0]);
    await asks(stream, "cluster");
    push(stream, "cluster", { a: ["1", cluster("a")] });
    await asks(stream, "endpoint");
    push(stream, "endpoint", { a: ["1", endpoints("a", 9001)] });
    await answerTo(stream, push(stream, "listener", { l: ["1", listener("l", "r", "HTTP3")] }));
    await until(() => h.applied.length > 0, "the first configuration");
    expect(h.client.waitingFor()).toEqual([
      "a listener that can be put into force (listener l: filter_chains[0].filters[0].typed_config.codec_type: HTTP3 is not supported (this version speaks HTTP/1.1 and HTTP/2); supported: AUTO, HTTP1, HTTP2)",
    ]);
    h.failures = [{ resource: { type: "listener", name: "l" }, reason: "port 80 is taken" }];
    await answerTo(stream, push(stream, "listener", { l: ["2", listener("l", "r")] }));
    await asks(stream, "route");
    await answerTo(stream, push(stream, "route", { r: ["1", routes("r", "a")] }));
    expect(h.client.waitingFor()).toEqual(["a listener that can be put into force (listener l: port 80 is taken)"]);
    h.failures = [];
    await answerTo(stream, push(stream, "listener", { l: ["3", listener("l", "r")], m: ["1", listener("m", "r")] }));
    expect(h.client.waitingFor()).toEqual([]);
    h.failures = [
      { resource: { type: "listener", name: "l" }, reason: "late" },
      { resource: { type: "listener", name: "m" }, reason: "late" },
    ];
    h.client.refresh();
    expect(h.client.waitingFor()).toEqual([]);
  });

  test("make before break: a route waits for a new cluster's endpoints, a removed cluster for its last route", async () => {
    const fake = await server();
    const h = start(fake.port, true);
    const stream = await settled(fake, h);
    push(stream, "cluster", { b: ["1", cluster("b")] });
    const early = push(stream, "route", { r: ["2", routes("r", "b")] });
    await answerTo(stream, early);
    const target = (config: ProxyConfig | undefined) => {
      const action = config?.routes.get("r")?.virtualHosts[0]?.routes[0]?.action;
      return action?.kind === "forward" ? action.clusters[0]?.cluster : undefined;
    };
    expect(target(h.applied.at(-1))).toBe("a");
    push(stream, "endpoint", { b: ["1", endpoints("b", 9100)] });
    await until(() => target(h.applied.at(-1)) === "b");
    const removal = push(stream, "cluster", {}, ["b"]);
    await answerTo(stream, removal);
    expect(h.applied.at(-1)?.clusters.has("b")).toBe(true);
    expect(h.applied.at(-1)?.endpoints.get("b")?.length).toBe(1);
    push(stream, "route", { r: ["3", routes("r", "a")] });
    await until(() => h.applied.at(-1)?.clusters.has("b") === false);
    const unsubscribed = await until(() => stream.requests.find((r) => r.resourceNamesUnsubscribe.includes("b")));
    expect(unsubscribed.typeUrl).toBe(typeUrl.endpoint);
  });

  test("configuration serves on while the control plane is away, and the new stream says what is held", async () => {
    const fake = await server();
    const h = start(fake.port, true);
    await settled(fake, h);
    const count = h.applied.length;
    fake.stop();
    await until(() => !h.channel.connected, "the loss");
    expect(h.applied.length).toBe(count);
    expect(h.client.waitingFor()).toEqual([]);
    const back = await server(fake.port);
    const stream = await until(() => back.delta[0], "the new stream");
    await asks(stream, "route");
    expect(stream.requests.map((r) => [r.typeUrl, r.resourceNamesSubscribe, r.initialResourceVersions])).toEqual([
      [typeUrl.cluster, [], { a: "1" }],
      [typeUrl.endpoint, ["a"], { a: "1" }],
      [typeUrl.listener, [], { l: "1" }],
      [typeUrl.route, ["r"], { r: "1" }],
    ]);
    expect(stream.requests[0]?.node?.id).toBe("sidecar~shop~cart");
  });

  test("a response of a type that was not asked for, and bytes that are no response, do no harm", async () => {
    const fake = await server();
    const h = start(fake.port, true);
    const stream = await settled(fake, h);
    stream.send(
      create(DeltaDiscoveryResponseSchema, {
        typeUrl: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        nonce: "odd",
      }),
    );
    expect((await answerTo(stream, "odd")).errorDetail?.message).toContain("was not asked for");
    const id = push(stream, "cluster", { c: ["1", cluster("c")] });
    expect((await answerTo(stream, id)).errorDetail).toBeUndefined();
  });
});

describe("state of the world", () => {
  test("accepts, rejects with the last good version, and drops what a full response leaves out", async () => {
    const fake = await server();
    const h = start(fake.port, false);
    const stream = await until(() => fake.sotw[0]);
    const sent = (type: StreamType) => stream.requests.filter((r) => r.typeUrl === typeUrl[type]);
    const respond = async (type: StreamType, versionInfo: string, ...resources: Uint8Array[]) => {
      const before = sent(type).length;
      stream.send(
        create(DiscoveryResponseSchema, {
          typeUrl: typeUrl[type],
          versionInfo,
          nonce: `s${++nonce}`,
          resources: resources.map((value) => ({ typeUrl: typeUrl[type], value })),
        }),
      );
      return until(
        () => sent(type).length > before && sent(type).find((r) => r.responseNonce === `s${nonce}`),
        `an answer for ${type} ${versionInfo}`,
      );
    };
    await until(() => sent("listener").length === 1);
    expect(stream.requests[0]).toMatchObject({ typeUrl: typeUrl.cluster, versionInfo: "", responseNonce: "", resourceNames: [] });
    expect((await respond("cluster", "1", cluster("a"), cluster("b"))).versionInfo).toBe("1");
    await until(() => sent("endpoint").length === 1);
    expect([...(sent("endpoint")[0]?.resourceNames ?? [])].sort()).toEqual(["a", "b"]);
    await respond("endpoint", "1", endpoints("a", 1), endpoints("b", 2));
    await respond("listener", "1", listener("l", "r"));
    await until(() => sent("route").length === 1);
    await respond("route", "1", routes("r", "a"));
    await until(() => h.applied.length > 0);
    expect([...(h.applied.at(-1)?.clusters.keys() ?? [])]).toEqual(["a", "b"]);
    const refused = await respond("listener", "2", listener("l", "r", "HTTP3"), listener("m", "r"));
    expect(refused.versionInfo).toBe("1");
    expect(refused.errorDetail?.message).toContain("listener l: ");
    expect([...(h.applied.at(-1)?.listeners.keys() ?? [])].sort()).toEqual(["l", "m"]);
    expect((await respond("cluster", "2", cluster("a"))).errorDetail).toBeUndefined();
    await until(() => h.applied.at(-1)?.clusters.has("b") === false);
    const names = await until(() => sent("endpoint").find((r) => r.resourceNames.length === 1));
    expect(names.resourceNames).toEqual(["a"]);
  });
});
