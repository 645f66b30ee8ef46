// Owns: Cluster resources: one per service port for all workloads, one per application port beside a sidecar.

import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { type PortProtocol, speaksHttp } from "../../api/kinds/service.ts";
import {
  type Cluster,
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
  Cluster_LbPolicy,
  ClusterSchema,
} from "../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterConfigSchema as DynamicClusterSchema } from "../../wire/gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.ts";
import { RawBufferSchema } from "../../wire/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.ts";
import {
  SubjectAltNameMatcher_SanType,
  TlsParameters_TlsProtocol,
} from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts";
import { UpstreamTlsContextSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { HttpProtocolOptionsSchema } from "../../wire/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts";
import {
  balanceMetadata,
  inboundCluster,
  meshRootsSecret,
  passthroughCluster,
  sidecarMetadata,
  workloadCertificateSecret,
} from "../../wire/names.ts";
import type { PortPlan } from "../plan/plan.ts";
import type { ConnectionsPlan } from "../plan/traffic.ts";
import type { ServiceRef } from "../world.ts";
import { address, any, duration, overAds, secret, stringMatcher } from "./common.ts";
import { loadAssignment } from "./endpoint.ts";
import { backendSocket, balancing, closedSocket, judgement, limits, nobodyIn, origination, ownWords, socketOptions } from "./traffic.ts";

/** Endpoints are on the same network; what takes longer than this to connect is down. Envoy's default. */
const connectTimeoutMs = 5000;

/** Envoy's default of 3 is meant for one proxy before thousands; a killed instance under load needs a retry for each request in flight on it. */
const maxRetries = 1024;

/** Sessions to one UDP port: as many as a listener of our proxy holds. Envoy's 1024 would be used up by a client that asks DNS from a new port each time. */
const maxUdpSessions = 10_000;

export const httpAlpn = "http/1.1";
export const http2Alpn = "h2";

/** Names the options of a cluster's protocol; Envoy's default, without them, is HTTP/1.1. */
const protocolOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

function protocolOptions(protocol: PortProtocol, connections: ConnectionsPlan = {}): { [key: string]: Any } {
  const { idleMs, maxRequests, maxAgeMs } = connections;
  const own = speaksHttp(protocol) && (idleMs !== undefined || maxRequests !== undefined || maxAgeMs !== undefined);
  if (protocol !== "http2" && !own) return {};
  const config =
    protocol === "http2" ? { case: "http2ProtocolOptions" as const, value: {} } : { case: "httpProtocolOptions" as const, value: {} };
  return {
    [protocolOptionsKey]: any(HttpProtocolOptionsSchema, {
      ...(own
        ? {
            commonHttpProtocolOptions: {
              ...(idleMs === undefined ? {} : { idleTimeout: duration(idleMs) }),
              ...(maxRequests === undefined ? {} : { maxRequestsPerConnection: maxRequests }),
              ...(maxAgeMs === undefined ? {} : { maxConnectionDuration: duration(maxAgeMs) }),
            },
          }
        : {}),
      upstreamProtocolOptions: { case: "explicitHttpConfig", value: { protocolConfig: config } },
    }),
  };
}

function alpn(protocol: PortProtocol): string[] {
  if (!speaksHttp(protocol)) return [];
  return [protocol === "http2" ? http2Alpn : httpAlpn];
}

/** The names that all clusters and the filter share, as Envoy wants them to: one cache, whatever leads there. */
export const namesCache = { name: "weft" } as const;

/** To the host and port that a request says. */
const anywhere: Exclude<MessageInitShape<typeof ClusterSchema>, Cluster> = {
  clusterDiscoveryType: {
    case: "clusterType",
    value: {
      name: "envoy.clusters.dynamic_forward_proxy",
      typedConfig: any(DynamicClusterSchema, { clusterImplementationSpecifier: { case: "dnsCacheConfig", value: namesCache } }),
    },
  },
};

/** Hosts that nobody has made known, where callers may reach them. */
export function passthrough(): Cluster {
  return create(ClusterSchema, {
    ...anywhere,
    name: passthroughCluster,
    connectTimeout: duration(connectTimeoutMs),
    lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED,
    circuitBreakers: { thresholds: [{ maxRetries }] },
    metadata: { filterMetadata: { istio: { services: [{ host: passthroughCluster, name: passthroughCluster, namespace: "" }] } } },
  });
}

export function outbound(plan: PortPlan, trustDomain: string): Cluster {
  const { service, port, traffic } = plan;
  const spoken = port.protocol === "http" && traffic.upstream === "http2" ? "http2" : port.protocol;
  const words = {
    ...(spoken === "http" && traffic.upstream === undefined && !plan.external?.anywhere ? { [sidecarMetadata.protocol]: "auto" } : {}),
    ...(plan.external?.anywhere ? {} : ownWords(speaksHttp(port.protocol), traffic)),
    ...(traffic.connections?.maxAgeMs === undefined ? {} : { [balanceMetadata.connectionMs]: traffic.connections.maxAgeMs }),
  };
  const init: MessageInitShape<typeof ClusterSchema> = {
    name: plan.cluster,
    ...(plan.external?.anywhere
      ? anywhere
      : plan.external?.dns
        ? {
            clusterDiscoveryType: { case: "type" as const, value: Cluster_DiscoveryType.STRICT_DNS },
            // A host without IPv6 cannot use what AUTO, Envoy's default, asks for first.
            dnsLookupFamily: Cluster_DnsLookupFamily.V4_PREFERRED,
            loadAssignment: loadAssignment(plan),
          }
        : {
            clusterDiscoveryType: { case: "type" as const, value: Cluster_DiscoveryType.EDS },
            edsClusterConfig: { edsConfig: overAds, serviceName: plan.cluster },
          }),
    connectTimeout: duration(traffic.connectTimeoutMs ?? connectTimeoutMs),
    ...(plan.external?.anywhere ? { lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED } : { ...balancing(traffic), ...judgement(traffic) }),
    circuitBreakers: {
      thresholds: [port.protocol === "udp" ? { maxConnections: maxUdpSessions } : limits(traffic, { maxRetries })],
      ...(traffic.limits?.instanceConnections === undefined
        ? {}
        : { perHostThresholds: [{ maxConnections: traffic.limits.instanceConnections }] }),
    },
    typedExtensionProtocolOptions: protocolOptions(spoken, traffic.connections),
    ...(port.protocol === "udp" ? {} : socketOptions(traffic)),
    // Datagrams have no transport socket: they go as they are.
    ...(port.protocol === "udp" || plan.external?.anywhere
      ? {}
      : traffic.tls !== undefined && traffic.backendTls === undefined
        ? { transportSocket: origination(traffic.tls, service.host, alpn(spoken), trustDomain) }
        : {
            transportSocketMatches: [
              {
                name: "tlsMode-istio",
                match: { tlsMode: "istio" },
                transportSocket: {
                  name: "envoy.transport_sockets.tls",
                  configType: { case: "typedConfig" as const, value: any(UpstreamTlsContextSchema, upstreamTls(plan, trustDomain)) },
                },
              },
              {
                name: "tlsMode-disabled",
                match: {},
                transportSocket:
                  traffic.backendTls?.kind === "tls"
                    ? backendSocket(traffic.backendTls, alpn(spoken))
                    : traffic.backendTls?.kind === "closed"
                      ? closedSocket(trustDomain)
                      : {
                          name: "envoy.transport_sockets.raw_buffer",
                          configType: { case: "typedConfig" as const, value: any(RawBufferSchema, {}) },
                        },
              },
            ],
          }),
    metadata: {
      filterMetadata: {
        istio: servicesMetadata([service]),
        ...(Object.keys(words).length === 0 ? {} : { [sidecarMetadata.filter]: words }),
      },
    },
  };
  return create(ClusterSchema, init);

  function upstreamTls(of: PortPlan, domain: string) {
    // No workload yet: no identity is right, and an empty list would let any through.
    const identities = of.identities.length > 0 ? of.identities : [nobodyIn(domain)];
    return {
      commonTlsContext: {
        tlsParams: {
          tlsMinimumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
          tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
        },
        tlsCertificateSdsSecretConfigs: [secret(workloadCertificateSecret)],
        validationContextType: {
          case: "combinedValidationContext" as const,
          value: {
            defaultValidationContext: {
              matchTypedSubjectAltNames: identities.map((value) => ({
                sanType: SubjectAltNameMatcher_SanType.URI,
                matcher: stringMatcher({ kind: "exact", value }),
              })),
            },
            validationContextSdsSecretConfig: secret(meshRootsSecret),
          },
        },
        alpnProtocols: alpn(spoken),
      },
      sni: `outbound_.${port.port}_.${of.subset ?? ""}_.${service.host}`,
    };
  }
}

/** The application itself. `services` name it in metrics. */
export function inbound(appPort: number, protocol: PortProtocol, services: readonly ServiceRef[]): Cluster {
  const name = inboundCluster(appPort);
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STATIC },
    connectTimeout: duration(connectTimeoutMs),
    loadAssignment: {
      clusterName: name,
      endpoints: [{ lbEndpoints: [{ hostIdentifier: { case: "endpoint", value: { address: address("127.0.0.1", appPort) } } }] }],
    },
    typedExtensionProtocolOptions: protocolOptions(protocol),
    ...(services.length === 0 ? {} : { metadata: { filterMetadata: { istio: servicesMetadata(services) } } }),
  });
}

function servicesMetadata(services: readonly ServiceRef[]): JsonObject {
  return { services: services.map((service) => ({ host: service.host, name: service.name, namespace: service.namespace })) };
}
