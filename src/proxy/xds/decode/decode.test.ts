import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import { createRegistry, type DescMessage, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { ClusterSchema } from "../../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterLoadAssignmentSchema } from "../../../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { ListenerSchema } from "../../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { RouteConfigurationSchema } from "../../../wire/gen/envoy/config/route/v3/route_pb.ts";
import { HttpGrpcAccessLogConfigSchema } from "../../../wire/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts";
import { RBACSchema as HttpRbacSchema } from "../../../wire/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import { RouterSchema } from "../../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { TlsInspectorSchema } from "../../../wire/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.ts";
import { HttpConnectionManagerSchema } from "../../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { RBACSchema as NetworkRbacSchema } from "../../../wire/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.ts";
import { TcpProxySchema } from "../../../wire/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts";
import { RawBufferSchema } from "../../../wire/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.ts";
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from "../../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { HttpProtocolOptionsSchema } from "../../../wire/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import type { XdsType } from "../../../wire/xds-types.ts";
import { defaultLimits } from "../../http1/limits.ts";
import { harmlessFields } from "./harmless.ts";
import { ipFamily } from "./ip.ts";
import { decodeResource } from "./resource.ts";

const registry = createRegistry(
  HttpConnectionManagerSchema,
  TcpProxySchema,
  NetworkRbacSchema,
  HttpRbacSchema,
  RouterSchema,
  TlsInspectorSchema,
  RawBufferSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
  HttpGrpcAccessLogConfigSchema,
  HttpProtocolOptionsSchema,
);
const schemas: Record<XdsType, DescMessage> = {
  cluster: ClusterSchema,
  endpoint: ClusterLoadAssignmentSchema,
  listener: ListenerSchema,
  route: RouteConfigurationSchema,
};
const world = {
  readFile: () => {
    throw new Error("files may be named in the bootstrap only, not over xDS");
  },
  staticSecrets: new Map(),
  controlClusters: new Set(["xds-grpc"]),
};

/** Decodes what protobuf-es made of JSON, as it would come over the wire. */
function decode<T extends XdsType>(type: T, json: JsonValue) {
  return decodeResource(type, toBinary(schemas[type], fromJson(schemas[type], json, { registry })), world);
}
function good<T extends XdsType>(type: T, json: JsonValue) {
  const found = decode(type, json);
  if ("violations" in found) throw new Error(JSON.stringify(found.violations));
  return found.config;
}
function bad(type: XdsType, json: JsonValue): string[] {
  const found = decode(type, json);
  return "violations" in found ? found.violations.map((v) => `${v.path}: ${v.message}`) : [];
}
const any = (name: string, value: Record<string, JsonValue> = {}) => ({ "@type": `type.googleapis.com/${name}`, ...value });
const address = (portValue: number) => ({ socketAddress: { address: "127.0.0.1", portValue } });
const sds = (name: string) => ({
  name,
  sdsConfig: {
    apiConfigSource: { apiType: "GRPC", transportApiVersion: "V3", grpcServices: [{ envoyGrpc: { clusterName: "sds-grpc" } }] },
  },
});
const tcp = { name: "tcp", typedConfig: any(TcpProxySchema.typeName, { statPrefix: "t", cluster: "c" }) };

describe("listeners", () => {
  const inbound: JsonValue = {
    name: "inbound|http",
    address: address(40123),
    trafficDirection: "INBOUND",
    filterChains: [
      {
        transportSocket: {
          name: "envoy.transport_sockets.tls",
          typedConfig: any(DownstreamTlsContextSchema.typeName, {
            requireClientCertificate: true,
            commonTlsContext: {
              tlsParams: { tlsMinimumProtocolVersion: "TLSv1_3" },
              alpnProtocols: ["http/1.1"],
              tlsCertificateSdsSecretConfigs: [sds("default")],
              combinedValidationContext: {
                defaultValidationContext: {
                  matchTypedSubjectAltNames: [{ sanType: "URI", matcher: { prefix: "spiffe://cluster.local/" } }],
                },
                validationContextSdsSecretConfig: sds("ROOTCA"),
              },
            },
          }),
        },
        filters: [
          {
            name: "http",
            typedConfig: any(HttpConnectionManagerSchema.typeName, {
              statPrefix: "in",
              useRemoteAddress: true,
              xffNumTrustedHops: 2,
              skipXffAppend: true,
              upgradeConfigs: [{ upgradeType: "WebSocket" }, { upgradeType: "connect" }, { upgradeType: "x", enabled: false }],
              routeConfig: {
                virtualHosts: [
                  { name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "inbound|9080||", timeout: "0s" } }] },
                ],
              },
              httpFilters: [
                {
                  name: "rbac",
                  typedConfig: any(HttpRbacSchema.typeName, {
                    rules: {
                      action: "DENY",
                      policies: {
                        b: { permissions: [{ urlPath: { path: { exact: "/x" } } }, { destinationPort: 80 }], principals: [{ any: true }] },
                        a: {
                          permissions: [
                            {
                              andRules: {
                                rules: [
                                  { header: { name: ":Method", stringMatch: { exact: "GET", ignoreCase: true } } },
                                  { notRule: { any: true } },
                                ],
                              },
                            },
                          ],
                          principals: [
                            { authenticated: { principalName: { safeRegex: { regex: "spiffe://.*" } } } },
                            { authenticated: {} },
                            { directRemoteIp: { addressPrefix: "10.0.0.0", prefixLen: 8 } },
                            { remoteIp: { addressPrefix: "2001:db8::", prefixLen: 32 } },
                            { notId: { header: { name: "x", presentMatch: false } } },
                          ],
                        },
                      },
                    },
                  }),
                },
                { name: "router", typedConfig: any(RouterSchema.typeName) },
              ],
              accessLog: [
                {
                  name: "als",
                  filter: {
                    orFilter: {
                      filters: [
                        { statusCodeFilter: { comparison: { op: "GE", value: { defaultValue: 500 } } } },
                        { responseFlagFilter: {} },
                      ],
                    },
                  },
                  typedConfig: any(HttpGrpcAccessLogConfigSchema.typeName, {
                    commonConfig: { logName: "weft", grpcService: { envoyGrpc: { clusterName: "xds-grpc" } } },
                  }),
                },
              ],
            }),
          },
        ],
      },
    ],
  };

  test("an inbound listener, whole", () => {
    const listener = good("listener", inbound);
    const chain = listener.chains[0];
    expect(listener).toMatchObject({
      name: "inbound|http",
      address: { host: "127.0.0.1", port: 40123 },
      direction: "inbound",
      inspectTls: false,
    });
    expect(chain?.tls).toEqual({
      certificate: { kind: "secret", name: "default" },
      roots: { kind: "secret", name: "ROOTCA" },
      requireClientCertificate: true,
      peerNames: [{ type: "uri", match: { kind: "prefix", value: "spiffe://cluster.local/", ignoreCase: false } }],
      alpn: ["http/1.1"],
      minVersion: "TLSv1.3",
    });
    if (chain?.terminal.kind !== "http") throw new Error("no HTTP");
    const terminal = chain.terminal;
    expect(terminal).toMatchObject({
      upgrades: ["websocket", "CONNECT"],
      generateRequestId: true,
      forwards: true,
      trustedHops: 2,
      appends: false,
      limits: defaultLimits,
      via: null,
      codec: "auto",
      http2: {},
      grpcWeb: false,
    });
    expect(terminal.accessLogs).toEqual([
      {
        sink: { kind: "als", logName: "weft", cluster: "xds-grpc" },
        filter: {
          kind: "or",
          filters: [
            { kind: "status", op: "ge", value: 500 },
            { kind: "flags", flags: [] },
          ],
        },
      },
    ]);
    expect(terminal.rbac[0]?.policies.map((p) => p.name)).toEqual(["a", "b"]);
    expect(terminal.rbac[0]?.policies[0]).toEqual({
      name: "a",
      permissions: [
        {
          kind: "and",
          rules: [
            { kind: "header", header: { name: ":method", match: { kind: "exact", value: "GET", ignoreCase: true }, invert: false } },
            { kind: "not", rule: { kind: "any" } },
          ],
        },
      ],
      principals: [
        { kind: "authenticated", match: { kind: "regex", value: "spiffe://.*", ignoreCase: false } },
        { kind: "authenticated", match: null },
        { kind: "remote_ip", prefix: "10.0.0.0", prefixLength: 8 },
        { kind: "client_ip", prefix: "2001:db8::", prefixLength: 32 },
        { kind: "not", rule: { kind: "header", header: { name: "x", match: null, invert: true } } },
      ],
    });
    if (!("inline" in terminal.routes)) throw new Error("no routes");
    expect(terminal.routes.inline.virtualHosts[0]?.routes[0]?.action).toMatchObject({ kind: "forward", timeoutMs: 0, retry: null });
  });

  const chains = (...list: JsonValue[]): JsonValue => ({ name: "l", address: address(1), filterChains: list });
  const cases: Record<string, [JsonValue, string[]]> = {
    "no name": [{ address: address(1), filterChains: [{ filters: [tcp] }] }, ["name: must not be empty"]],
    "server names in the middle of a name": [
      chains({ filterChainMatch: { serverNames: ["a.*.b"] }, filters: [tcp] }),
      ['filter_chains: filter chain "": server name "a.*.b" is not supported; give a whole name or "*." and what follows it'],
    ],
    "two for everything": [
      chains({ filters: [tcp] }, { filters: [tcp] }),
      ["filter_chains: the chains 0 and 1 (counted from 0) match the same connections"],
    ],
    "a terminal filter in the middle": [
      chains({ filters: [tcp, tcp] }),
      ["filter_chains[0].filters[0]: a terminal filter must be the last of its chain"],
    ],
    "requiring what cannot be verified": [
      chains({
        filters: [tcp],
        transportSocket: {
          name: "tls",
          typedConfig: any(DownstreamTlsContextSchema.typeName, {
            requireClientCertificate: true,
            commonTlsContext: { tlsCertificateSdsSecretConfigs: [sds("default")] },
          }),
        },
      }),
      [
        "filter_chains[0].transport_socket.typed_config.require_client_certificate: true needs a trusted_ca (or the SDS secret of the roots) to verify against",
      ],
    ],
    "TLS without a certificate": [
      chains({ filters: [tcp], transportSocket: { name: "tls", typedConfig: any(DownstreamTlsContextSchema.typeName) } }),
      [
        "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificates: needs a certificate for a listener to speak TLS",
      ],
    ],
    "files over xDS": [
      chains({
        filters: [tcp],
        transportSocket: {
          name: "tls",
          typedConfig: any(DownstreamTlsContextSchema.typeName, {
            commonTlsContext: {
              tlsCertificates: [{ certificateChain: { filename: "/etc/shadow" }, privateKey: { filename: "/etc/shadow" } }],
            },
          }),
        },
      }),
      [
        "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificates[0].certificate_chain.filename: cannot read /etc/shadow: files may be named in the bootstrap only, not over xDS",
        "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificates[0].private_key.filename: cannot read /etc/shadow: files may be named in the bootstrap only, not over xDS",
      ],
    ],
    "an empty policy": [
      chains({ filters: [{ name: "r", typedConfig: any(NetworkRbacSchema.typeName, { rules: { policies: { p: {} } } }) }, tcp] }),
      [
        'filter_chains[0].filters[0].typed_config.rules.policies["p"].permissions: needs at least one',
        'filter_chains[0].filters[0].typed_config.rules.policies["p"].principals: needs at least one',
      ],
    ],
    "rules that say nothing": [
      chains({
        filters: [
          {
            name: "r",
            typedConfig: any(NetworkRbacSchema.typeName, {
              rules: { policies: { p: { permissions: [{}], principals: [{ authenticated: { principalName: {} } }] } } },
            }),
          },
          tcp,
        ],
      }),
      [
        'filter_chains[0].filters[0].typed_config.rules.policies["p"].permissions[0]: needs one of any, and_rules, or_rules, not_rule, header, url_path, destination_port',
        'filter_chains[0].filters[0].typed_config.rules.policies["p"].principals[0].authenticated.principal_name: needs one of exact, prefix, suffix, contains, safe_regex',
      ],
    ],
  };
  for (const [name, [json, wanted]] of Object.entries(cases)) test(name, () => expect(bad("listener", json)).toEqual(wanted));

  test("TLS and plain on one port: the more specific chain comes first, the default last", () => {
    const raw = { name: "raw", typedConfig: any(RawBufferSchema.typeName) };
    const listener = good("listener", {
      name: "l",
      address: address(1),
      filterChains: [
        { name: "rest", filters: [tcp] },
        { name: "tls", filterChainMatch: { transportProtocol: "tls" }, filters: [tcp], transportSocket: raw },
      ],
    });
    expect(listener.inspectTls).toBe(true);
    expect(listener.chains.map((c) => c.name)).toEqual(["rest", "tls"]);
    const withDefault = good("listener", {
      name: "l",
      address: address(1),
      filterChains: [{ name: "tls", filterChainMatch: { transportProtocol: "tls" }, filters: [tcp] }],
      defaultFilterChain: { name: "default", filters: [tcp] },
    });
    expect(withDefault.chains.map((c) => c.name)).toEqual(["tls", "default"]);
  });
});

describe("clusters", () => {
  test("an outbound cluster, whole", () => {
    const cluster = good("cluster", {
      name: "outbound|80||cart",
      type: "EDS",
      edsClusterConfig: { serviceName: "svc", edsConfig: { ads: {}, resourceApiVersion: "V3", initialFetchTimeout: "0s" } },
      connectTimeout: "0.250s",
      lbPolicy: "LEAST_REQUEST",
      leastRequestLbConfig: { choiceCount: 3 },
      circuitBreakers: { thresholds: [{ maxConnections: 5 }] },
      metadata: { filterMetadata: { istio: { services: [{ host: "cart.shop.svc.cluster.local", name: "cart", namespace: "shop" }] } } },
      transportSocketMatches: [
        {
          name: "tlsMode-istio",
          match: { tlsMode: "istio" },
          transportSocket: {
            name: "tls",
            typedConfig: any(UpstreamTlsContextSchema.typeName, {
              sni: "s",
              commonTlsContext: { tlsCertificateSdsSecretConfigs: [sds("default")], validationContextSdsSecretConfig: sds("ROOTCA") },
            }),
          },
        },
        { name: "tlsMode-disabled", match: {}, transportSocket: { name: "raw", typedConfig: any(RawBufferSchema.typeName) } },
      ],
    });
    expect(cluster).toEqual({
      name: "outbound|80||cart",
      connectTimeoutMs: 250,
      balance: { kind: "least_request", choices: 3 },
      source: { kind: "eds", serviceName: "svc" },
      transports: [
        {
          name: "tlsMode-istio",
          match: { tlsMode: "istio" },
          tls: {
            certificate: { kind: "secret", name: "default" },
            roots: { kind: "secret", name: "ROOTCA" },
            peerNames: [],
            alpn: [],
            sni: "s",
            minVersion: "TLSv1.3",
          },
        },
        { name: "tlsMode-disabled", match: {}, tls: null },
      ],
      tls: null,
      limits: { maxConnections: 5, maxPending: 1024, maxRequests: 1024, maxRetries: 3 },
      protocol: "http1",
      control: false,
      service: { host: "cart.shop.svc.cluster.local", name: "cart", namespace: "shop" },
    });
  });

  const cases: Record<string, [JsonValue, (string | RegExp)[]]> = {
    "a keepalive that waits for nobody": [
      {
        name: "c",
        http2ProtocolOptions: { initialStreamWindowSize: 100, connectionKeepalive: { interval: "0s", intervalJitter: { value: 101 } } },
      },
      [
        "http2_protocol_options.initial_stream_window_size: 100 is not from 65535 to 16777216",
        "http2_protocol_options.connection_keepalive.timeout: must be at least 1 ms",
        "http2_protocol_options.connection_keepalive.interval: must be at least 1 ms; leave it out for none",
        "http2_protocol_options.connection_keepalive.interval_jitter: 101 is not from 0 to 100",
      ],
    ],
    "EDS from elsewhere": [
      { name: "c", type: "EDS" },
      ["eds_cluster_config.eds_config: needs ads: {} (the aggregated stream is the only source here)"],
    ],
    "EDS with endpoints": [
      { name: "c", type: "EDS", edsClusterConfig: { edsConfig: { ads: {} } }, loadAssignment: { clusterName: "c" } },
      ["load_assignment: cannot stand beside type: EDS"],
    ],
    "a name where an address belongs": [
      {
        name: "c",
        loadAssignment: {
          clusterName: "c",
          endpoints: [{ lbEndpoints: [{ endpoint: { address: { socketAddress: { address: "db", portValue: 1 } } } }] }],
        },
      },
      ['load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: "db" is not an IP address'],
    ],
    "a second priority": [
      { name: "c", circuitBreakers: { thresholds: [{ priority: "HIGH" }] } },
      ["circuit_breakers.thresholds[0].priority: HIGH is not supported; supported: DEFAULT"],
    ],
    "one choice": [
      { name: "c", lbPolicy: "LEAST_REQUEST", leastRequestLbConfig: { choiceCount: 1 } },
      ["least_request_lb_config.choice_count: must be at least 2"],
    ],
    "no time to connect": [{ name: "c", connectTimeout: "0s" }, ["connect_timeout: must be above 0"]],
  };
  for (const [name, [json, wanted]] of Object.entries(cases)) {
    test(name, () => {
      const found = bad("cluster", json);
      expect(found.length).toBe(wanted.length);
      for (const [n, one] of wanted.entries()) {
        if (typeof one === "string") expect(found[n]).toBe(one);
        else expect(found[n]).toMatch(one);
      }
    });
  }
  test("the control plane's own cluster may be HTTP/2", () =>
    expect(good("cluster", { name: "xds-grpc", http2ProtocolOptions: {} })).toMatchObject({ protocol: "http2", control: true }));
  test("HTTP/2 options are the cluster's own: windows, streams, keepalive; wherever Envoy lets them stand", () => {
    const http2ProtocolOptions = {
      maxConcurrentStreams: 1_073_741_824,
      initialStreamWindowSize: 1_048_576,
      initialConnectionWindowSize: 8_388_608,
      connectionKeepalive: { interval: "30s", timeout: "5s", connectionIdleInterval: "60s", intervalJitter: { value: 20 } },
    };
    const http2 = {
      maxConcurrentStreams: 1_073_741_824,
      initialStreamWindow: 1_048_576,
      initialConnectionWindow: 8_388_608,
      keepalive: { intervalMs: 30_000, timeoutMs: 5_000, jitter: 0.2, idleMs: 60_000 },
    };
    const inside = (upstream: Record<string, JsonValue>): JsonValue => ({
      name: "c",
      typedExtensionProtocolOptions: {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any(HttpProtocolOptionsSchema.typeName, upstream),
      },
    });
    expect(good("cluster", { name: "c", http2ProtocolOptions })).toMatchObject({ protocol: "http2", http2 });
    expect(good("cluster", inside({ explicitHttpConfig: { http2ProtocolOptions } }))).toMatchObject({ protocol: "http2", http2 });
    expect(good("cluster", inside({ useDownstreamProtocolConfig: { http2ProtocolOptions } }))).toMatchObject({
      protocol: "downstream",
      http2,
    });
    expect(good("cluster", inside({ autoConfig: { http2ProtocolOptions } }))).toMatchObject({ protocol: "auto", http2 });
    const short = { name: "c", http2ProtocolOptions: { connectionKeepalive: { interval: "30s", timeout: "1s" } } };
    expect(good("cluster", short)).toMatchObject({
      http2: { keepalive: { intervalMs: 30_000, timeoutMs: 1_000, jitter: 0.15, idleMs: 0 } },
    });
  });
  test("any other cluster may be too, and is of the data path", () =>
    expect(good("cluster", { name: "c", http2ProtocolOptions: {} })).toMatchObject({ protocol: "http2", control: false }));
});

test("endpoints carry weight, priority, health, workload and identity", () => {
  const endpoints = good("endpoint", {
    clusterName: "c",
    endpoints: [
      {
        locality: { zone: "z" },
        priority: 1,
        loadBalancingWeight: 5,
        lbEndpoints: [
          {
            endpoint: { address: address(1) },
            loadBalancingWeight: 7,
            healthStatus: "DRAINING",
            metadata: {
              filterMetadata: {
                "envoy.transport_socket_match": { tlsMode: "istio", n: 5 },
                istio: { workload: "cart-1;shop;cart;v1;weft" },
                "weft.dev": { identity: "spiffe://a/ns/b/sa/c" },
              },
            },
          },
          { endpoint: { address: address(2) } },
        ],
      },
    ],
  });
  const locality = { region: "", zone: "z", subZone: "", weight: 5, overprovisioning: 140 };
  expect(endpoints).toEqual([
    {
      address: { host: "127.0.0.1", port: 1 },
      locality,
      weight: 7,
      priority: 1,
      healthy: false,
      transportMatch: { tlsMode: "istio" },
      workload: { workload: "cart-1", namespace: "shop", app: "cart", version: "v1" },
      identity: "spiffe://a/ns/b/sa/c",
    },
    {
      address: { host: "127.0.0.1", port: 2 },
      locality,
      weight: 1,
      priority: 1,
      healthy: true,
      transportMatch: {},
      workload: null,
      identity: null,
    },
  ]);
});

test("routes: matches, rewrites, edits, redirects, retries", () => {
  const table = good("route", {
    name: "r",
    ignorePortInHostMatching: true,
    virtualHosts: [
      {
        name: "v",
        domains: ["Cart.shop", "*.shop", "cart.*", "*"],
        retryPolicy: { retryOn: "connect-failure, reset,refused-stream", numRetries: 2 },
        routes: [
          { match: { connectMatcher: {} }, route: { cluster: "a", upgradeConfigs: [{ upgradeType: "CONNECT", connectConfig: {} }] } },
          {
            name: "n",
            match: {
              pathSeparatedPrefix: "/a",
              headers: [{ name: "X-A" }, { name: "b", stringMatch: { contains: "c" }, invertMatch: true }],
              queryParameters: [
                { name: "q", presentMatch: true },
                { name: "p", stringMatch: { exact: "" } },
              ],
            },
            route: {
              weightedClusters: {
                clusters: [
                  { name: "a", weight: 90 },
                  { name: "b", weight: 10 },
                ],
              },
              prefixRewrite: "/b",
              hostRewriteLiteral: "h",
              timeout: "1.5s",
              retryPolicy: { retryOn: "5xx", retriableStatusCodes: [503], perTryTimeout: "1s" },
            },
            requestHeadersToAdd: [
              { header: { key: "A", value: "100%%" } },
              { header: { key: "b", value: "2" }, appendAction: "OVERWRITE_IF_EXISTS_OR_ADD" },
            ],
            responseHeadersToRemove: ["Server"],
          },
          {
            match: { path: "/old" },
            redirect: {
              hostRedirect: "new",
              pathRedirect: "/new",
              responseCode: "PERMANENT_REDIRECT",
              schemeRedirect: "https",
              portRedirect: 8443,
            },
          },
          { match: { safeRegex: { regex: "/x/[0-9]+" } }, directResponse: { status: 404, body: { inlineString: "no" } } },
        ],
      },
    ],
  });
  const [connect, forward, redirect, direct] = table.virtualHosts[0]?.routes ?? [];
  expect(table).toMatchObject({ name: "r", ignorePort: true });
  expect(table.virtualHosts[0]?.domains).toEqual(["cart.shop", "*.shop", "cart.*", "*"]);
  expect(connect).toMatchObject({
    match: { path: { kind: "connect" } },
    action: {
      terminateConnect: true,
      upgrades: [],
      timeoutMs: 15_000,
      retry: { attempts: 2, on: ["connect-failure", "reset", "refused-stream"] },
    },
  });
  expect(forward).toEqual({
    name: "n",
    match: {
      path: { kind: "separated-prefix", value: "/a" },
      headers: [
        { name: "x-a", match: null, invert: false },
        { name: "b", match: { kind: "contains", value: "c", ignoreCase: false }, invert: true },
      ],
      query: [
        { name: "q", match: null },
        { name: "p", match: { kind: "exact", value: "", ignoreCase: false } },
      ],
    },
    action: {
      kind: "forward",
      clusters: [
        { cluster: "a", weight: 90 },
        { cluster: "b", weight: 10 },
      ],
      timeoutMs: 1500,
      idleTimeoutMs: 0,
      retry: { attempts: 1, on: ["5xx"], statusCodes: [503], perTryTimeoutMs: 1000 },
      prefixRewrite: "/b",
      hostRewrite: "h",
      terminateConnect: false,
      upgrades: [],
    },
    requestHeaders: { remove: [], set: [{ name: "b", value: "2" }], add: [{ name: "a", value: "100%%" }] },
    responseHeaders: { remove: ["server"], set: [], add: [] },
  });
  expect(redirect?.action).toEqual({
    kind: "redirect",
    status: 308,
    scheme: "https",
    host: "new",
    port: 8443,
    path: { kind: "full", value: "/new" },
  });
  expect(direct?.action).toEqual({ kind: "direct", status: 404, body: "no" });
});

test("addresses are told from names as node:net tells them, but for zones", () => {
  const table = [
    "1.2.3.4",
    "01.2.3.4",
    "1.2.3",
    "256.1.1.1",
    "1.2.3.4.",
    "::",
    "::1",
    "1::",
    "::ffff:1.2.3.4",
    "1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7",
    "1::2::3",
    ":1",
    "1:",
    ":::",
    "12345::",
    "::1.2.3",
    "::g",
    "localhost",
    "",
    "1:2:3:4:5:6:1.2.3.4",
    "1.2.3.4::",
    "1:2:3:4:5:6:7::",
  ];
  for (const text of table) expect([text, ipFamily(text)]).toEqual([text, isIP(text) as 0]);
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string(), fc.stringMatching(/^[0-9a-f:.]{0,20}$/)), (text) => {
      if (!text.includes("%")) expect(ipFamily(text)).toBe(isIP(text) as 0);
    }),
    { numRuns: 2000 },
  );
});

// The published API is a dev dependency; its text is the judge of names and numbers.
const api = new URL("../../../../node_modules/@grpc/grpc-js-xds/deps/envoy-api/", import.meta.url).pathname;
test.skipIf(!existsSync(api))("harmless fields are Envoy's, with these numbers, and not in our subset", () => {
  for (const field of harmlessFields) {
    const parts = field.message.split(".");
    const message = parts.pop() as string;
    const folder = `${api}${parts.join("/")}`;
    const files = [...new Bun.Glob("*.proto").scanSync(folder)].map((name) => readFileSync(`${folder}/${name}`, "utf8"));
    const body = files
      .map((text) => new RegExp(`\\nmessage ${message} \\{[\\s\\S]*?\\n\\}`).exec(text)?.[0])
      .find((found) => found !== undefined);
    expect([field.message, body]).not.toEqual([field.message, undefined]);
    expect(new RegExp(`\\b${field.name} = ${field.number}\\b`).test(body as string), `${field.message}.${field.name}`).toBe(true);
    expect(field.reason.length).toBeGreaterThan(10);
  }
});
