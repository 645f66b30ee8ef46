// Owns: envoy.config.cluster.v3.Cluster to ClusterConfig. Never resolves names and never connects.

import type { CircuitBreakers } from "../../../wire/gen/envoy/config/cluster/v3/circuit_breaker_pb.ts";
import type { Cluster } from "../../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import type { TransportSocket } from "../../../wire/gen/envoy/config/core/v3/base_pb.ts";
import { balanceMetadata, sidecarMetadata } from "../../../wire/names.ts";
import type {
  AddressFamilies,
  ClusterConfig,
  ConnectionConfig,
  EndpointLimits,
  Http2Config,
  UpstreamProtocol,
  UpstreamTlsConfig,
} from "../../config.ts";
import { HttpProtocolOptions } from "../proto/types.ts";
import { decodeBalance } from "./balance.ts";
import { httpConnections, opaqueConnections, socketConnections } from "./connections.ts";
import { decodeEndpoints } from "./endpoint.ts";
import { at, choose, decodeExtension, type Gate, millis, present, unpack } from "./gate.ts";
import { http2Options } from "./http-limits.ts";
import { adsSource } from "./sources.ts";
import { unwrapProxyProtocol } from "./tcp.ts";
import { upstreamTransportSockets } from "./tls.ts";

const protocolOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

export function decodeCluster(gate: Gate, cluster: Cluster, path: string): ClusterConfig {
  present(gate, at(path, "name"), cluster.name);
  const { protocol, http2, pool } = upstreamProtocol(gate, cluster, path);
  const own = cluster.metadata?.filterMetadata[sidecarMetadata.filter] ?? {};
  const connections = {
    ...pool,
    ...opaqueConnections(gate, own),
    ...socketConnections(gate, cluster.upstreamConnectionOptions, at(path, "upstream_connection_options")),
  };
  const connectTimeoutMs = millis(gate, at(path, "connect_timeout"), cluster.connectTimeout, 5_000);
  if (connectTimeoutMs === 0) gate.add(at(path, "connect_timeout"), "must be above 0");
  const wrapped = unwrapProxyProtocol(gate, cluster.transportSocket, at(path, "transport_socket"));
  const tls = upstreamTls(gate, wrapped.socket, wrapped.path, protocol);
  if (wrapped.version !== null && tls !== null)
    gate.add(wrapped.path, "TLS behind a PROXY protocol header is not supported; use raw_buffer");
  return {
    name: cluster.name,
    connectTimeoutMs,
    ...decodeBalance(gate, cluster, path),
    ...judgements(gate, cluster, protocol, path),
    source: endpointSource(gate, cluster, path),
    transports: cluster.transportSocketMatches.map((one, n) => {
      const where = `${at(path, "transport_socket_matches")}[${n}]`;
      const match: Record<string, string> = {};
      for (const [key, value] of Object.entries(one.match ?? {})) {
        if (typeof value === "string") match[key] = value;
        else gate.add(`${where}.match["${key}"]`, "must be a string");
      }
      if (one.transportSocket === undefined) gate.add(at(where, "transport_socket"), "is missing");
      return { name: one.name, match, tls: upstreamTls(gate, one.transportSocket, at(where, "transport_socket"), protocol) };
    }),
    tls,
    limits: limits(gate, cluster.circuitBreakers, at(path, "circuit_breakers")),
    protocol,
    ...(Object.keys(http2).length === 0 ? {} : { http2 }),
    ...(Object.keys(connections).length === 0 ? {} : { connections }),
    control: protocol === "http2" && gate.world.controlClusters.has(cluster.name),
    ...(wrapped.version === null ? {} : { proxyProtocol: wrapped.version }),
    service: destinationService(cluster),
  };
}

function upstreamTls(gate: Gate, socket: TransportSocket | undefined, path: string, protocol: UpstreamProtocol): UpstreamTlsConfig | null {
  if (socket === undefined) return null;
  const decoded = decodeExtension(gate, upstreamTransportSockets, "transport socket", socket.name, socket.configType, path);
  if (decoded === undefined || decoded === "plain") return null;
  // As Envoy: HTTP/2 is offered only where the cluster speaks it, and always offered there.
  if (protocol === "http1" && decoded.alpn.includes("h2"))
    gate.add(at(path, "typed_config.common_tls_context.alpn_protocols"), '"h2" is offered, but the cluster speaks HTTP/1.1 only');
  if (protocol === "http2" && !decoded.alpn.includes("h2"))
    return { ...decoded, alpn: ["h2", ...decoded.alpn.filter((name) => name !== "http/1.1")] };
  if (protocol === "auto" && !decoded.alpn.includes("h2")) return { ...decoded, alpn: ["h2", "http/1.1"] };
  return decoded;
}

/** Streams a cluster may be allowed on one connection: as many as HTTP/2 has. */
const everyStream = 0x7fff_ffff;

function upstreamProtocol(
  gate: Gate,
  cluster: Cluster,
  path: string,
): { protocol: UpstreamProtocol; http2: Http2Config; pool: ConnectionConfig } {
  let pool: ConnectionConfig = {};
  let protocol: UpstreamProtocol = cluster.http2ProtocolOptions !== undefined ? "http2" : "http1";
  let http2 = http2Options(gate, cluster.http2ProtocolOptions, at(path, "http2_protocol_options"), everyStream);
  const between = cluster.metadata?.filterMetadata[sidecarMetadata.filter]?.[sidecarMetadata.protocol];
  for (const [key, typed] of Object.entries(cluster.typedExtensionProtocolOptions)) {
    const where = at(path, `typed_extension_protocol_options["${key}"]`);
    if (key !== protocolOptionsKey) {
      gate.add(where, `is not supported; known: ${protocolOptionsKey}`);
      continue;
    }
    const typeName = typed.typeUrl.slice(typed.typeUrl.lastIndexOf("/") + 1);
    if (typeName !== HttpProtocolOptions.name) {
      gate.add(where, `holds ${typeName === "" ? "nothing" : typeName} instead of ${HttpProtocolOptions.name}`);
      continue;
    }
    const options = unpack(gate, HttpProtocolOptions, typed, where);
    if (options === undefined) continue;
    pool = httpConnections(gate, options.commonHttpProtocolOptions, at(where, "common_http_protocol_options"));
    const explicit = options.upstreamProtocolOptions;
    if (explicit.case !== undefined) {
      const value = explicit.value;
      const inside =
        "protocolConfig" in value ? value.protocolConfig : { case: "http2ProtocolOptions" as const, value: value.http2ProtocolOptions };
      if (inside.case === "http2ProtocolOptions")
        http2 = http2Options(gate, inside.value, at(where, `${optionNames[explicit.case]}.http2_protocol_options`), everyStream);
    }
    if (explicit.case === undefined) gate.add(where, "needs one of explicit_http_config, use_downstream_protocol_config, auto_config");
    else if (explicit.case === "useDownstreamProtocolConfig") protocol = "downstream";
    else if (explicit.case === "autoConfig") protocol = "auto";
    else if (explicit.value.protocolConfig.case === undefined) {
      gate.add(at(where, "explicit_http_config"), "needs one of http_protocol_options, http2_protocol_options");
    } else protocol = explicit.value.protocolConfig.case === "http2ProtocolOptions" ? "http2" : "http1";
  }
  // HTTP/1.1 that may ride HTTP/2 where TLS agrees on it. Envoy has no word for it beside endpoints in plain text, and passes over our metadata.
  return { protocol: protocol === "http1" && between === "auto" ? "auto" : protocol, http2, pool };
}

const optionNames = {
  explicitHttpConfig: "explicit_http_config",
  useDownstreamProtocolConfig: "use_downstream_protocol_config",
  autoConfig: "auto_config",
} as const;

/** What says which endpoints are well. */
function judgements(
  gate: Gate,
  cluster: Cluster,
  protocol: UpstreamProtocol,
  path: string,
): Pick<ClusterConfig, "outliers" | "healthChecks" | "endpointLimits"> {
  const own = cluster.metadata?.filterMetadata[sidecarMetadata.filter] ?? {};
  // Loaded with the first cluster that is judged or asked.
  const health = () => require("./health.ts") as typeof import("./health.ts");
  const outliers =
    cluster.outlierDetection === undefined && own[balanceMetadata.latencyFactor] === undefined
      ? undefined
      : health().decodeOutliers(gate, cluster.outlierDetection, own, at(path, "outlier_detection"));
  const checks =
    cluster.healthChecks.length === 0 ? [] : health().decodeHealthChecks(gate, cluster.healthChecks, at(path, "health_checks"));
  for (const [n, one] of checks.entries())
    if (one.kind.type === "grpc" && protocol !== "http2")
      gate.add(at(path, `health_checks[${n}].grpc_health_check`), "needs a cluster that speaks HTTP/2");
  const each = endpointLimits(gate, cluster.circuitBreakers, own, path);
  return {
    ...(outliers === undefined ? {} : { outliers }),
    ...(checks.length === 0 ? {} : { healthChecks: checks }),
    ...(each === undefined ? {} : { endpointLimits: each }),
  };
}

const unlimited = 0xffff_ffff;

/** Envoy limits connections of an endpoint alone; its requests and retries are limited by our metadata. */
function endpointLimits(
  gate: Gate,
  breakers: CircuitBreakers | undefined,
  own: Readonly<Record<string, unknown>>,
  path: string,
): EndpointLimits | undefined {
  const [first, ...more] = breakers?.perHostThresholds ?? [];
  const where = at(path, "circuit_breakers.per_host_thresholds");
  if (more.length > 0) gate.add(`${where}[1]`, "more than one entry for priority DEFAULT");
  if (first !== undefined) {
    for (const [field, value] of [
      ["max_pending_requests", first.maxPendingRequests],
      ["max_requests", first.maxRequests],
      ["max_retries", first.maxRetries],
    ] as const)
      if (value !== undefined)
        gate.add(
          `${where}[0].${field}`,
          field === "max_pending_requests"
            ? "is not supported: requests wait for the cluster, not for one endpoint; use thresholds"
            : "is not supported (nor is it by Envoy); max_connections is",
        );
  }
  const number = (key: string): number | undefined => {
    const value = own[key];
    if (typeof value === "number" && value >= 1) return value;
    if (value !== undefined)
      gate.add(at(path, `metadata.filter_metadata["${sidecarMetadata.filter}"].${key}`), "must be a number of at least 1");
    return undefined;
  };
  const requests = number(balanceMetadata.endpointRequests);
  const retries = number(balanceMetadata.endpointRetries);
  if (first?.maxConnections === undefined && requests === undefined && retries === undefined) return undefined;
  return {
    maxConnections: first?.maxConnections ?? unlimited,
    maxRequests: requests ?? unlimited,
    maxRetries: retries ?? unlimited,
  };
}

/** Loaded with the first such cluster. */
const dynamic = () => require("./dynamic.ts") as typeof import("./dynamic.ts");

function endpointSource(gate: Gate, cluster: Cluster, path: string): ClusterConfig["source"] {
  if (cluster.clusterDiscoveryType.case === "clusterType") {
    dynamic().decodeDynamic(gate, cluster, cluster.clusterDiscoveryType.value, path);
    return { kind: "dynamic", endpoints: [] };
  }
  const type = choose<ClusterConfig["source"]["kind"]>(
    gate,
    at(path, "type"),
    "envoy.config.cluster.v3.Cluster.DiscoveryType",
    cluster.clusterDiscoveryType.value ?? 0,
    { STATIC: "static", STRICT_DNS: "strict_dns", EDS: "eds" },
    "static",
  );
  if (type === "eds") {
    if (cluster.loadAssignment !== undefined) gate.add(at(path, "load_assignment"), "cannot stand beside type: EDS");
    adsSource(gate, cluster.edsClusterConfig?.edsConfig, at(path, "eds_cluster_config.eds_config"));
    return { kind: "eds", serviceName: cluster.edsClusterConfig?.serviceName || cluster.name };
  }
  if (cluster.edsClusterConfig !== undefined) gate.add(at(path, "eds_cluster_config"), "needs type: EDS");
  if (cluster.loadAssignment === undefined) return { kind: type, endpoints: [] };
  // AUTO, which means IPv6 first to Envoy, and ALL take every address: one that cannot be reached is left out after its first failures.
  const families = choose<AddressFamilies | null>(
    gate,
    at(path, "dns_lookup_family"),
    "envoy.config.cluster.v3.Cluster.DnsLookupFamily",
    cluster.dnsLookupFamily ?? 0,
    { AUTO: null, ALL: null, V4_ONLY: "ipv4", V6_ONLY: "ipv6", V4_PREFERRED: "ipv4-first" },
    null,
  );
  return {
    kind: type,
    endpoints: decodeEndpoints(gate, cluster.loadAssignment, type === "static", at(path, "load_assignment")),
    ...(type === "static" || families === null ? {} : { families }),
  };
}

function limits(gate: Gate, breakers: CircuitBreakers | undefined, path: string): ClusterConfig["limits"] {
  let found: ClusterConfig["limits"] = { maxConnections: 1024, maxPending: 1024, maxRequests: 1024, maxRetries: 3 };
  breakers?.thresholds.forEach((one, n) => {
    const where = `${path}.thresholds[${n}]`;
    choose(gate, at(where, "priority"), "envoy.config.core.v3.RoutingPriority", one.priority, { DEFAULT: true }, true);
    if (n > 0) gate.add(where, "more than one entry for priority DEFAULT");
    found = {
      maxConnections: one.maxConnections ?? found.maxConnections,
      maxPending: one.maxPendingRequests ?? found.maxPending,
      maxRequests: one.maxRequests ?? found.maxRequests,
      maxRetries: one.maxRetries ?? found.maxRetries,
      // Envoy's defaults.
      ...(one.retryBudget === undefined
        ? {}
        : {
            retryBudget: { percent: one.retryBudget.budgetPercent?.value ?? 20, minConcurrency: one.retryBudget.minRetryConcurrency ?? 3 },
          }),
    };
  });
  return found;
}

/** Istio's `metadata.filter_metadata.istio.services[0]`. */
function destinationService(cluster: Cluster): ClusterConfig["service"] {
  const services = cluster.metadata?.filterMetadata.istio?.services;
  const first: unknown = Array.isArray(services) ? services[0] : undefined;
  if (typeof first !== "object" || first === null) return null;
  const { host, name, namespace } = first as Record<string, unknown>;
  if (typeof host !== "string" || typeof name !== "string" || typeof namespace !== "string") return null;
  return { host, name, namespace };
}
