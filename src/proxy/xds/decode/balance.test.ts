// What Envoy's Cluster says about choosing and judging endpoints, and what is refused of it. Large lists of endpoints that change a little.

import { describe, expect, test } from "bun:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { type Cluster, ClusterSchema } from "../../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import type { HttpProtocolOptionsSchema as CommonSchema } from "../../../wire/gen/envoy/config/core/v3/protocol_pb.ts";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { HttpProtocolOptionsSchema as OptionsSchema } from "../../../wire/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import type { ClusterConfig, EndpointConfig } from "../../config.ts";
import type { DecodeWorld } from "./gate.ts";
import { decodeResource } from "./resource.ts";

const world: DecodeWorld = { readFile: () => new Uint8Array(0), staticSecrets: new Map(), controlClusters: new Set() };

function decode(init: Parameters<typeof create<typeof ClusterSchema>>[1]): ClusterConfig | readonly string[] {
  const message: Cluster = create(ClusterSchema, { name: "c", ...(init as object) });
  const found = decodeResource("cluster", toBinary(ClusterSchema, message), world);
  return "violations" in found ? found.violations.map((one) => `${one.path}: ${one.message}`) : found.config;
}

describe("policies", () => {
  test("least request with choices, bias and slow start", () => {
    expect(
      decode({
        lbPolicy: 1,
        lbConfig: {
          case: "leastRequestLbConfig",
          value: {
            choiceCount: 3,
            activeRequestBias: { defaultValue: 2 },
            slowStartConfig: { slowStartWindow: { seconds: 30n }, aggression: { defaultValue: 2 }, minWeightPercent: { value: 20 } },
          },
        },
      }),
    ).toMatchObject({
      balance: { kind: "least_request", choices: 3, bias: 2 },
      slowStart: { windowMs: 30_000, aggression: 2, minShare: 0.2 },
    });
  });
  test("rings and tables, with their defaults and sizes", () => {
    expect(decode({ lbPolicy: 2 })).toMatchObject({ balance: { kind: "ring_hash", minSize: 1024, maxSize: 8_388_608 } });
    expect(decode({ lbPolicy: 5 })).toMatchObject({ balance: { kind: "maglev", tableSize: 65_537 } });
    expect(decode({ lbPolicy: 5, lbConfig: { case: "maglevLbConfig", value: { tableSize: 1000n } } })).toEqual([
      "maglev_lb_config.table_size: must be a prime of at most 5000011",
    ]);
    expect(decode({ lbPolicy: 2, lbConfig: { case: "ringHashLbConfig", value: { minimumRingSize: 9_000_000n } } })).toEqual([
      "ring_hash_lb_config.minimum_ring_size: must be 1 to 8388608",
      "ring_hash_lb_config.maximum_ring_size: must be minimum_ring_size to 8388608",
    ]);
    expect(decode({ lbPolicy: 2, commonLbConfig: { consistentHashingLbConfig: { hashBalanceFactor: 150 } } })).toMatchObject({
      balance: { kind: "ring_hash", overloadPercent: 150 },
    });
  });
  test("settings of another policy are refused", () => {
    expect(decode({ lbPolicy: 0, lbConfig: { case: "maglevLbConfig", value: {} } })).toEqual(["maglev_lb_config: needs lb_policy: MAGLEV"]);
  });
  test("our own, in metadata that Envoy passes over", () => {
    const own = (words: Record<string, string | number | boolean>) =>
      decode({ lbPolicy: 1, metadata: { filterMetadata: { "weft.dev": words } } });
    expect(own({ balance: "peak_ewma", balance_decay_ms: 5_000, heeds_rate_limits: true })).toMatchObject({
      balance: { kind: "peak_ewma", decayMs: 5_000 },
      heedsRateLimits: true,
    });
    expect(own({ balance: "least_connections" })).toMatchObject({ balance: { kind: "least_connections", choices: 2 } });
    expect(own({ balance: "coin" })).toEqual([
      'metadata.filter_metadata["weft.dev"].balance: "coin" is not supported; supported: peak_ewma, least_connections',
    ]);
    expect(own({ endpoint_max_requests: 5 })).toMatchObject({ endpointLimits: { maxRequests: 5 } });
  });
  test("localities and panic", () => {
    expect(
      decode({
        commonLbConfig: {
          healthyPanicThreshold: { value: 30 },
          localityConfigSpecifier: { case: "localityWeightedLbConfig", value: {} },
        },
      }),
    ).toMatchObject({ panicPercent: 30, localities: "weighted" });
    expect(decode({ commonLbConfig: { healthyPanicThreshold: { value: 130 } } })).toEqual([
      "common_lb_config.healthy_panic_threshold.value: must be 0 to 100",
    ]);
  });
});

describe("how long connections are kept", () => {
  const options = (common: MessageInitShape<typeof CommonSchema>) => ({
    typedExtensionProtocolOptions: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": anyPack(
        OptionsSchema,
        create(OptionsSchema, {
          commonHttpProtocolOptions: common,
          upstreamProtocolOptions: { case: "explicitHttpConfig", value: { protocolConfig: { case: "httpProtocolOptions", value: {} } } },
        }),
      ),
    },
  });
  test("by requests, silence and age, and by the kernel", () => {
    const common = { idleTimeout: { seconds: 5n }, maxRequestsPerConnection: 7, maxConnectionDuration: { seconds: 60n } };
    const tcpKeepalive = { keepaliveProbes: 3, keepaliveTime: 60, keepaliveInterval: 10 };
    expect(decode({ ...options(common), upstreamConnectionOptions: { tcpKeepalive } })).toMatchObject({
      connections: { idleMs: 5_000, maxRequests: 7, maxAgeMs: 60_000, keepalive: { probes: 3, timeSeconds: 60, intervalSeconds: 10 } },
    });
    expect(decode({ upstreamConnectionOptions: { tcpKeepalive: {} } })).toMatchObject({ connections: { keepalive: {} } });
    // Envoy's zeros: never idle, no limit of the others.
    const zeros = { idleTimeout: {}, maxRequestsPerConnection: 0, maxConnectionDuration: {} };
    expect(decode(options(zeros))).toMatchObject({ connections: { idleMs: 0 } });
    expect(decode({})).not.toHaveProperty("connections");
    const words = (ms: number | string) => ({ metadata: { filterMetadata: { "weft.dev": { max_connection_ms: ms } } } });
    expect(decode(words(5_000))).toMatchObject({ connections: { opaqueMs: 5_000 } });
    for (const wrong of [0, "1s"])
      expect(decode(words(wrong))).toEqual(['metadata.filter_metadata["weft.dev"].max_connection_ms: must be a number of at least 1']);
  });
  test("what is not built, or a kernel does not take, is refused", () => {
    const where = 'typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].common_http_protocol_options';
    expect(decode(options({ maxHeadersCount: 5, maxStreamDuration: { seconds: 1n } }))).toEqual([
      `${where}.max_headers_count: is not supported on a cluster; on a connection manager it is`,
      `${where}.max_stream_duration: is not supported on a cluster; use a route's timeout`,
    ]);
    expect(decode({ upstreamConnectionOptions: { tcpKeepalive: { keepaliveProbes: 0, keepaliveTime: 40_000 } } })).toEqual([
      "upstream_connection_options.tcp_keepalive.keepalive_probes: 0 is not from 1 to 127",
      "upstream_connection_options.tcp_keepalive.keepalive_time: 40000 is not from 1 to 32767",
    ]);
  });
});

describe("judging endpoints", () => {
  test("outlier detection has Envoy's defaults, but that one endpoint may always be ejected", () => {
    expect(decode({ outlierDetection: {} })).toMatchObject({
      outliers: {
        consecutive5xx: 5,
        enforce5xx: 100,
        enforceGateway: 0,
        intervalMs: 10_000,
        baseEjectionMs: 30_000,
        maxEjectionMs: 300_000,
        maxEjectionPercent: 10,
        alwaysOne: true,
        successRate: { minHosts: 5, volume: 100, stdevFactor: 1.9, enforce: 100 },
        failurePercentage: null,
        latency: null,
      },
    });
    expect(decode({ outlierDetection: { maxEjectionPercent: 101, interval: {} } })).toEqual([
      "outlier_detection.interval: must be above 0",
      "outlier_detection.max_ejection_percent: must be at most 100",
    ]);
  });
  test("health checks", () => {
    const common = { timeout: { seconds: 1n }, interval: { seconds: 5n }, unhealthyThreshold: 2, healthyThreshold: 1 };
    const check = decode({
      healthChecks: [
        {
          ...common,
          healthChecker: { case: "httpHealthCheck", value: { path: "/healthz", expectedStatuses: [{ start: 200n, end: 300n }] } },
        },
        { ...common, healthChecker: { case: "tcpHealthCheck", value: { send: { payload: { case: "text", value: "50494e47" } } } } },
      ],
    }) as ClusterConfig;
    expect(check.healthChecks).toMatchObject([
      { kind: { type: "http", path: "/healthz", method: "GET", statuses: [{ first: 200, last: 299 }] }, noTrafficIntervalMs: 60_000 },
      { kind: { type: "tcp" } },
    ]);
    expect(Buffer.from(((check.healthChecks?.[1]?.kind ?? {}) as { send: Uint8Array }).send).toString()).toBe("PING");
    expect(decode({ healthChecks: [{}] })).toEqual([
      "health_checks[0].timeout: is missing",
      "health_checks[0].interval: is missing",
      "health_checks[0]: needs one of http_health_check, tcp_health_check, grpc_health_check",
    ]);
    expect(decode({ healthChecks: [{ ...common, healthChecker: { case: "grpcHealthCheck", value: {} } }] })).toEqual([
      "health_checks[0].grpc_health_check: needs a cluster that speaks HTTP/2",
    ]);
  });
});

function assignment(hosts: readonly string[], more: object = {}): Uint8Array {
  const message: ClusterLoadAssignment = create(ClusterLoadAssignmentSchema, {
    clusterName: "c",
    endpoints: [
      {
        lbEndpoints: hosts.map((host) => ({
          hostIdentifier: {
            case: "endpoint" as const,
            value: {
              address: {
                address: {
                  case: "socketAddress" as const,
                  value: { address: host, portSpecifier: { case: "portValue" as const, value: 80 } },
                },
              },
            },
          },
          metadata: { filterMetadata: { istio: { workload: `w-${host};shop;cart;v1;weft` } } },
        })),
        ...more,
      },
    ],
  });
  return toBinary(ClusterLoadAssignmentSchema, message);
}

function endpoints(bytes: Uint8Array, before?: readonly EndpointConfig[]): readonly EndpointConfig[] {
  const found = decodeResource("endpoint", bytes, world, before === undefined ? undefined : { name: "c", config: before });
  if ("violations" in found) throw new Error(JSON.stringify(found.violations));
  return found.config;
}

describe("a large list that changes a little", () => {
  const hosts = Array.from({ length: 500 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
  const edits: readonly [string, (list: string[]) => string[]][] = [
    ["nothing", (list) => list],
    ["one replaced", (list) => list.with(250, "10.9.9.9")],
    ["one replaced by a longer name", (list) => list.with(0, "192.168.100.100")],
    ["the last replaced", (list) => list.with(499, "10.9.9.9")],
    ["one more", (list) => list.toSpliced(77, 0, "10.9.9.9")],
    ["one less", (list) => list.toSpliced(123, 1)],
    ["some here and there", (list) => list.toSpliced(3, 2, "10.9.9.1").toSpliced(300, 0, "10.9.9.2", "10.9.9.3").toSpliced(400, 5)],
    ["turned round", (list) => list.toReversed()],
    ["nobody left", () => []],
  ];
  for (const [name, edit] of edits) {
    test(name, () => {
      const before = endpoints(assignment(hosts));
      const wanted = edit([...hosts]);
      const bytes = assignment(wanted);
      const found = endpoints(bytes, before);
      expect(found).toEqual(endpoints(bytes));
      const kept = found.filter((one) => before.includes(one)).length;
      if (name !== "turned round") expect(kept).toBe(wanted.filter((host) => hosts.includes(host)).length);
      // And on from there.
      expect(endpoints(assignment(hosts), found)).toEqual(before);
    });
  }
  test("another locality, priority or policy is not overlooked", () => {
    const before = endpoints(assignment(hosts));
    for (const more of [{ priority: 1 }, { locality: { zone: "z" } }, { loadBalancingWeight: 3 }]) {
      const bytes = assignment(hosts, more);
      expect(endpoints(bytes, before)).toEqual(endpoints(bytes));
      expect(endpoints(bytes, before)[0]).not.toBe(before[0]);
    }
  });
  test("a bad endpoint is refused with its path", () => {
    const before = endpoints(assignment(hosts));
    const found = decodeResource("endpoint", assignment(hosts.with(9, "nobody")), world, { name: "c", config: before });
    expect("violations" in found && found.violations).toEqual([
      { path: "endpoints[0].lb_endpoints[9].endpoint.address.socket_address.address", message: '"nobody" is not an IP address' },
    ]);
  });
});
