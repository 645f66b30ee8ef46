import { describe, expect, test } from "bun:test";
import { createRegistry, fromJson, type JsonObject, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { ListenerSchema } from "../../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { HttpGrpcAccessLogConfigSchema } from "../../../wire/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts";
import { RBACSchema } from "../../../wire/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.ts";
import { TcpProxySchema } from "../../../wire/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts";
import { RouteSchema } from "../../../wire/gen/envoy/extensions/filters/udp/udp_proxy/v3/route_pb.ts";
import { UdpProxyConfigSchema } from "../../../wire/gen/envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy_pb.ts";
import { clustersOf } from "./references.ts";
import { decodeResource } from "./resource.ts";

const registry = createRegistry(UdpProxyConfigSchema, RouteSchema, RBACSchema, TcpProxySchema, HttpGrpcAccessLogConfigSchema);
const world = { readFile: () => new Uint8Array(), staticSecrets: new Map(), controlClusters: new Set<string>() };

function decode(json: JsonValue) {
  return decodeResource("listener", toBinary(ListenerSchema, fromJson(ListenerSchema, json, { registry })), world);
}

/** What is wrong, `path: message`, each once. */
function wrong(json: JsonValue): readonly string[] {
  const found = decode(json);
  return "violations" in found ? found.violations.map((one) => `${one.path}: ${one.message}`) : [];
}

const udpType = "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig";
const address = { socketAddress: { protocol: "UDP", address: "127.0.0.1", portValue: 5353 } };

function listener(proxy: JsonObject, before: JsonValue[] = [], more: JsonObject = {}): JsonObject {
  const filter = { name: "envoy.filters.udp_listener.udp_proxy", typedConfig: { "@type": udpType, statPrefix: "dns", ...proxy } };
  return { name: "dns", address, listenerFilters: [...before, filter], ...more };
}

function rbac(principal: JsonObject, permission: JsonObject = { any: true }, action = "ALLOW"): JsonObject {
  const policies = { mine: { permissions: [permission], principals: [principal] } };
  return {
    name: "envoy.filters.network.rbac",
    typedConfig: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
      statPrefix: "x",
      rules: { action, policies },
    },
  };
}

describe("UDP listeners", () => {
  test("with all that is supported", () => {
    const found = decode(
      listener(
        {
          cluster: "resolvers",
          idleTimeout: "30s",
          hashPolicies: [{ sourceIp: true }],
          upstreamSocketConfig: { maxRxDatagramSize: 4096, preferGro: true },
        },
        [rbac({ directRemoteIp: { addressPrefix: "10.0.0.0", prefixLen: 8 } }, { destinationPort: 5353 })],
        { trafficDirection: "OUTBOUND", udpListenerConfig: { downstreamSocketConfig: { maxRxDatagramSize: 1500 } } },
      ),
    );
    if ("violations" in found) throw new Error(JSON.stringify(found.violations));
    expect(found.config).toEqual({
      name: "dns",
      address: { host: "127.0.0.1", port: 5353 },
      direction: "outbound",
      chains: [],
      inspectTls: false,
      udp: {
        statPrefix: "dns",
        cluster: "resolvers",
        accessLogs: [],
        idleTimeoutMs: 30_000,
        maxRequestBytes: 1500,
        maxAnswerBytes: 4096,
        rbac: [
          {
            action: "allow",
            policies: [
              {
                name: "mine",
                permissions: [{ kind: "port", port: 5353 }],
                principals: [{ kind: "remote_ip", prefix: "10.0.0.0", prefixLength: 8 }],
              },
            ],
          },
        ],
      },
    });
    expect([...clustersOf(found.config)]).toEqual(["resolvers"]);
  });

  test("a matcher with one answer, as Envoy's documentation has it; defaults", () => {
    const action = {
      name: "route",
      typedConfig: { "@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route", cluster: "resolvers" },
    };
    const found = decode(listener({ matcher: { onNoMatch: { action } } }));
    if ("violations" in found) throw new Error(JSON.stringify(found.violations));
    expect(found.config.udp).toMatchObject({
      cluster: "resolvers",
      idleTimeoutMs: 60_000,
      maxRequestBytes: 65_507,
      maxAnswerBytes: 65_507,
    });
  });

  const proxyAt = "listener_filters[0].typed_config";
  const refusals: readonly (readonly [string, JsonObject, string])[] = [
    ["no cluster", listener({}), `${proxyAt}: needs one of cluster, matcher`],
    ["an empty matcher", listener({ matcher: {} }), `${proxyAt}.matcher.on_no_match.action: is missing`],
    ["no idle time", listener({ cluster: "c", idleTimeout: "0s" }), `${proxyAt}.idle_timeout: must be above 0`],
    [
      "the source address kept",
      listener({ cluster: "c", useOriginalSrcIp: true }),
      `${proxyAt}.use_original_src_ip: true is not supported`,
    ],
    [
      "balancing by datagram",
      listener({ cluster: "c", usePerPacketLoadBalancing: true }),
      `${proxyAt}.use_per_packet_load_balancing: true is not supported`,
    ],
    ["session filters", listener({ cluster: "c", sessionFilters: [{ name: "x" }] }), `${proxyAt}.session_filters: are not supported`],
    [
      "an impossible size",
      listener({ cluster: "c", upstreamSocketConfig: { maxRxDatagramSize: 70_000 } }),
      `${proxyAt}.upstream_socket_config.max_rx_datagram_size: 70000 is not from 1 to 65535`,
    ],
    ["no filter", { name: "dns", address }, "listener_filters: must end in a UdpProxyConfig"],
    [
      "the proxy not last",
      listener({ cluster: "c" }, [(listener({ cluster: "d" }).listenerFilters as JsonValue[])[0] as JsonValue]),
      "listener_filters[0]: the UDP proxy must be the last",
    ],
    ["filter chains", listener({ cluster: "c" }, [], { filterChains: [{}] }), "filter_chains: are for connections"],
    [
      "a name for an address",
      { ...listener({ cluster: "c" }), address: { socketAddress: { protocol: "UDP", address: "dns.test", portValue: 1 } } },
      "is not an IP address",
    ],
  ];
  for (const [name, json, sentence] of refusals) {
    test(name, () => {
      const found = wrong(json);
      expect(found.filter((one) => one.includes(sentence))).toHaveLength(1);
    });
  }

  test("rules that no datagram can be judged by are refused, however deep they stand", () => {
    const named = { authenticated: { principalName: { exact: "spiffe://x/ns/a/sa/b" } } };
    const header = { header: { name: "x", presentMatch: true } };
    const path = { urlPath: { path: { exact: "/x" } } };
    const cases: [JsonObject, string][] = [
      [rbac(named), "authenticated"],
      [rbac({ notId: named }), "authenticated"],
      [rbac(named, { any: true }, "DENY"), "authenticated"],
      [rbac({ andIds: { ids: [{ any: true }, { orIds: { ids: [{ notId: named }] } }] } }), "authenticated"],
      [rbac({ any: true }, header), "header"],
      [rbac({ any: true }, { notRule: path }), "path"],
    ];
    for (const [filter, kind] of cases) {
      const found = wrong(listener({ cluster: "c" }, [filter]));
      expect(found).toHaveLength(1);
      expect(found[0]).toContain(`listener_filters[0].typed_config.rules.policies["mine"]: has a rule on "${kind}"`);
    }
    expect(wrong(listener({ cluster: "c" }, [rbac({ any: true })]))).toEqual([]);
  });

  test("a TCP listener takes no UDP settings", () => {
    const tcp = { socketAddress: { address: "127.0.0.1", portValue: 1 } };
    expect(wrong({ name: "x", address: tcp, udpListenerConfig: {} })[0]).toContain(
      "udp_listener_config: needs an address with protocol: UDP",
    );
  });
});

describe("TCP proxies", () => {
  const tcp = (proxy: JsonObject): JsonObject => ({
    name: "x",
    address: { socketAddress: { address: "127.0.0.1", portValue: 1 } },
    filterChains: [
      {
        filters: [
          {
            name: "envoy.filters.network.tcp_proxy",
            typedConfig: {
              "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
              statPrefix: "x",
              ...proxy,
            },
          },
        ],
      },
    ],
  });

  test("weights, attempts, times", () => {
    const clusters = [
      { name: "a", weight: 3 },
      { name: "b", weight: 1 },
    ];
    const found = decode(
      tcp({ weightedClusters: { clusters }, maxConnectAttempts: 5, idleTimeout: "0s", maxDownstreamConnectionDuration: "90s" }),
    );
    if ("violations" in found) throw new Error(JSON.stringify(found.violations));
    expect(found.config.chains[0]?.terminal).toEqual({
      kind: "tcp",
      statPrefix: "x",
      clusters: [
        { cluster: "a", weight: 3 },
        { cluster: "b", weight: 1 },
      ],
      accessLogs: [],
      idleTimeoutMs: 0,
      maxConnectAttempts: 5,
      maxDurationMs: 90_000,
    });
  });

  test("subsets and impossible numbers are refused by name", () => {
    const at = "filter_chains[0].filters[0].typed_config";
    expect(wrong(tcp({ cluster: "c", metadataMatch: {}, maxConnectAttempts: 0, maxDownstreamConnectionDuration: "0s" }))).toEqual([
      `${at}.metadata_match: is not supported: clusters have no subsets here; give each subset its own cluster`,
      `${at}.max_connect_attempts: 0 is not from 1 to 10`,
      `${at}.max_downstream_connection_duration: must be at least 1ms`,
    ]);
    const clusters = [{ name: "a", weight: 1, metadataMatch: {} }];
    expect(wrong(tcp({ weightedClusters: { clusters } }))).toEqual([
      `${at}.weighted_clusters.clusters[0].metadata_match: is not supported: clusters have no subsets here; give each subset its own cluster`,
    ]);
  });
});
