// Owns: what a TrafficPlan adds to a Cluster resource: policy, limits, outlier detection, health checks, TLS to services outside the mesh. Envoy's fields where
// Envoy has them; what it has not goes into metadata that it passes over (wire/names.ts).

import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import type { HealthCheckWords } from "../../api/kinds/destinationrule-spec.ts";
import { type Cluster, Cluster_LbPolicy, type ClusterSchema } from "../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClientSideWeightedRoundRobinSchema } from "../../wire/gen/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin_pb.ts";
import { RawBufferSchema } from "../../wire/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.ts";
import { SubjectAltNameMatcher_SanType } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts";
import { UpstreamTlsContextSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { balanceMetadata, meshRootsSecret } from "../../wire/names.ts";
import type { BackendTlsPlan, OriginationPlan, OutlierPlan, TrafficPlan } from "../plan/traffic.ts";
import { any, duration, secret, stringMatcher } from "./common.ts";

type ClusterInit = Exclude<MessageInitShape<typeof ClusterSchema>, Cluster>;

/** Where no rule says otherwise, Envoy takes the less busy of two, and so do we for what is not HTTP; of HTTP see docs/decisions/0022. */
const defaultChoices = 2;

/** Where Debian and Alpine keep the system's authorities, as Istio looks for them. */
const systemAuthorities = "/etc/ssl/certs/ca-certificates.crt";

/** Policy, panic, slow start. */
export function balancing({ balancer, warmup, panicPercent }: TrafficPlan): ClusterInit {
  const slow =
    warmup === undefined
      ? {}
      : {
          slowStartConfig: {
            slowStartWindow: duration(warmup.ms),
            ...(warmup.aggression === 1 ? {} : { aggression: { defaultValue: warmup.aggression, runtimeKey: "" } }),
            ...(warmup.minimumPercent === 10 ? {} : { minWeightPercent: { value: warmup.minimumPercent } }),
          },
        };
  const common = panicPercent === undefined ? {} : { commonLbConfig: { healthyPanicThreshold: { value: panicPercent } } };
  const kind = balancer?.kind ?? "least_request";
  switch (kind) {
    case "round_robin":
      return {
        ...common,
        lbPolicy: Cluster_LbPolicy.ROUND_ROBIN,
        ...(warmup === undefined ? {} : { lbConfig: { case: "roundRobinLbConfig", value: slow } }),
      };
    case "random":
      return { ...common, lbPolicy: Cluster_LbPolicy.RANDOM };
    case "ring_hash":
      return {
        ...common,
        lbPolicy: Cluster_LbPolicy.RING_HASH,
        lbConfig: {
          case: "ringHashLbConfig",
          value: { minimumRingSize: BigInt(balancer?.kind === "ring_hash" ? balancer.minimum : 1024) },
        },
      };
    case "maglev":
      return {
        ...common,
        lbPolicy: Cluster_LbPolicy.MAGLEV,
        lbConfig: { case: "maglevLbConfig", value: { tableSize: BigInt(balancer?.kind === "maglev" ? balancer.size : 65_537) } },
      };
    case "load_reports":
      return {
        ...common,
        loadBalancingPolicy: {
          policies: [
            {
              typedExtensionConfig: {
                name: "envoy.load_balancing_policies.client_side_weighted_round_robin",
                typedConfig: any(ClientSideWeightedRoundRobinSchema, {}),
              },
            },
          ],
        },
      };
    // The last two in metadata; Envoy takes the less busy of two in their place.
    case "least_request":
    case "peak_ewma":
    case "least_connections":
      return {
        ...common,
        lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
        lbConfig: { case: "leastRequestLbConfig", value: { choiceCount: defaultChoices, ...slow } },
      };
  }
}

/** Of `filter_metadata["weft.dev"]`; empty = nothing. */
export function ownWords(http: boolean, { balancer, locality, limits, heedRateLimits, latencyFactor }: TrafficPlan): JsonObject {
  return {
    ...(balancer === undefined
      ? http
        ? { [balanceMetadata.policy]: "peak_ewma" }
        : {}
      : balancer.kind === "peak_ewma" || balancer.kind === "least_connections"
        ? { [balanceMetadata.policy]: balancer.kind }
        : {}),
    ...(heedRateLimits === true ? { [balanceMetadata.heedsRateLimits]: true } : {}),
    ...(limits?.instanceRequests === undefined ? {} : { [balanceMetadata.endpointRequests]: limits.instanceRequests }),
    ...(limits?.instanceRetries === undefined ? {} : { [balanceMetadata.endpointRetries]: limits.instanceRetries }),
    ...(latencyFactor === undefined ? {} : { [balanceMetadata.latencyFactor]: latencyFactor }),
    // Ranks by labels are the endpoints' own priorities.
    ...(locality === undefined || locality.kind === "labels"
      ? {}
      : locality.kind === "near"
        ? { [balanceMetadata.nearFirst]: { ...locality.failover } }
        : { [balanceMetadata.localityShares]: structuredClone(locality.from) as JsonObject }),
  };
}

/** Limits in force; `standard` where the plan says nothing. */
export function limits(plan: TrafficPlan, standard: { readonly maxRetries: number }) {
  const { connections, pending, requests, retries } = plan.limits ?? {};
  return {
    ...(connections === undefined ? {} : { maxConnections: connections }),
    ...(pending === undefined ? {} : { maxPendingRequests: pending }),
    ...(requests === undefined ? {} : { maxRequests: requests }),
    maxRetries: retries ?? standard.maxRetries,
  };
}

/** What the kernel does with connections. */
export function socketOptions({ connections }: TrafficPlan): ClusterInit {
  if (connections?.keepalive === undefined) return {};
  const { probes, timeSeconds, intervalSeconds } = connections.keepalive;
  return {
    upstreamConnectionOptions: {
      tcpKeepalive: {
        ...(probes === undefined ? {} : { keepaliveProbes: probes }),
        ...(timeSeconds === undefined ? {} : { keepaliveTime: timeSeconds }),
        ...(intervalSeconds === undefined ? {} : { keepaliveInterval: intervalSeconds }),
      },
    },
  };
}

/** Passive and active judgement. */
export function judgement({ outliers, healthCheck }: TrafficPlan): ClusterInit {
  return {
    ...(outliers === undefined ? {} : { outlierDetection: outlierInit(outliers) }),
    ...(healthCheck === undefined ? {} : { healthChecks: [healthInit(healthCheck)] }),
  };
}

/** Istio turns the statistical rules off, and so do we unless they are asked for; each counter that is on ejects for certain. */
function outlierInit(plan: OutlierPlan): NonNullable<ClusterInit["outlierDetection"]> {
  const { successRate, failurePercentage } = plan;
  return {
    consecutive5xx: plan.consecutive5xx,
    enforcingConsecutive5xx: plan.consecutive5xx > 0 ? 100 : 0,
    ...(plan.consecutiveGateway > 0
      ? { consecutiveGatewayFailure: plan.consecutiveGateway, enforcingConsecutiveGatewayFailure: 100 }
      : { enforcingConsecutiveGatewayFailure: 0 }),
    ...(successRate === undefined
      ? { enforcingSuccessRate: 0 }
      : {
          enforcingSuccessRate: 100,
          successRateMinimumHosts: successRate.hosts,
          successRateRequestVolume: successRate.requests,
          // Thousandths.
          successRateStdevFactor: Math.round(successRate.limit * 1_000),
        }),
    ...(failurePercentage === undefined
      ? {}
      : {
          enforcingFailurePercentage: 100,
          failurePercentageThreshold: failurePercentage.limit,
          failurePercentageMinimumHosts: failurePercentage.hosts,
          failurePercentageRequestVolume: failurePercentage.requests,
        }),
    splitExternalLocalOriginErrors: plan.splitLocal,
    ...(plan.splitLocal
      ? {
          consecutiveLocalOriginFailure: plan.consecutiveLocal,
          enforcingConsecutiveLocalOriginFailure: plan.consecutiveLocal > 0 ? 100 : 0,
        }
      : {}),
    interval: duration(plan.intervalMs),
    baseEjectionTime: duration(plan.baseEjectionMs),
    maxEjectionPercent: plan.maxEjectionPercent,
    alwaysEjectOneHost: plan.maxEjectionPercent > 0,
  };
}

function healthInit(words: HealthCheckWords): NonNullable<ClusterInit["healthChecks"]>[number] {
  const { type, target, intervalMs, timeoutMs, failures, successes } = words;
  return {
    interval: duration(intervalMs),
    timeout: duration(timeoutMs),
    unhealthyThreshold: failures,
    healthyThreshold: successes,
    // So that the callers of one instance do not ask in step.
    intervalJitterPercent: 10,
    healthChecker:
      type === "http"
        ? { case: "httpHealthCheck", value: { path: target } }
        : type === "grpc"
          ? { case: "grpcHealthCheck", value: { serviceName: target } }
          : { case: "tcpHealthCheck", value: {} },
  };
}

/** How all instances are reached, where a rule says so in the place of the mesh's own TLS. `alpn` as the port speaks. */
export function origination(
  plan: OriginationPlan,
  host: string,
  alpn: readonly string[],
  trustDomain: string,
): NonNullable<ClusterInit["transportSocket"]> {
  if (plan.kind === "closed") return closedSocket(trustDomain);
  if (plan.kind === "plain")
    return { name: "envoy.transport_sockets.raw_buffer", configType: { case: "typedConfig", value: any(RawBufferSchema, {}) } };
  const file = (filename: string) => ({ specifier: { case: "filename" as const, value: filename } });
  const source = (text: string) => (plan.inline === true ? { specifier: { case: "inlineString" as const, value: text } } : file(text));
  const context = any(UpstreamTlsContextSchema, {
    sni: plan.sni === "" ? host : plan.sni,
    commonTlsContext: {
      alpnProtocols: [...alpn],
      ...(plan.certificate === undefined
        ? {}
        : { tlsCertificates: [{ certificateChain: source(plan.certificate.chain), privateKey: source(plan.certificate.key) }] }),
      ...(plan.authorities === null
        ? {}
        : {
            validationContextType: {
              case: "validationContext" as const,
              value: {
                trustedCa: plan.authorities === "" ? file(systemAuthorities) : source(plan.authorities),
                matchTypedSubjectAltNames: (plan.names.length === 0 ? [plan.sni === "" ? host : plan.sni] : plan.names).map((value) => ({
                  sanType: value.includes("://") ? SubjectAltNameMatcher_SanType.URI : SubjectAltNameMatcher_SanType.DNS,
                  matcher: stringMatcher({ kind: "exact", value }),
                })),
              },
            },
          }),
    },
  });
  return { name: "envoy.transport_sockets.tls", configType: { case: "typedConfig", value: context } };
}

/** How instances are reached that speak TLS themselves. The authorities travel inline. */
/** Believes nobody: a cluster without instances that could be believed has this, as those of before may still be there when it comes. */
export function closedSocket(trustDomain: string): NonNullable<ClusterInit["transportSocket"]> {
  const context = any(UpstreamTlsContextSchema, {
    commonTlsContext: {
      validationContextType: {
        case: "combinedValidationContext",
        value: {
          defaultValidationContext: {
            matchTypedSubjectAltNames: [
              {
                sanType: SubjectAltNameMatcher_SanType.URI,
                matcher: stringMatcher({ kind: "exact", value: nobodyIn(trustDomain) }),
              },
            ],
          },
          validationContextSdsSecretConfig: secret(meshRootsSecret),
        },
      },
    },
  });
  return { name: "envoy.transport_sockets.tls", configType: { case: "typedConfig", value: context } };
}

/** The identity that no workload has. */
export function nobodyIn(trustDomain: string): string {
  return `spiffe://${trustDomain}/none`;
}

export function backendSocket(
  plan: Extract<BackendTlsPlan, { kind: "tls" }>,
  alpn: readonly string[],
): NonNullable<ClusterInit["transportSocket"]> {
  const context = any(UpstreamTlsContextSchema, {
    sni: plan.sni,
    commonTlsContext: {
      alpnProtocols: [...alpn],
      validationContextType: {
        case: "validationContext",
        value: {
          trustedCa:
            plan.authorities === ""
              ? { specifier: { case: "filename", value: systemAuthorities } }
              : { specifier: { case: "inlineBytes", value: new TextEncoder().encode(plan.authorities) } },
          matchTypedSubjectAltNames: plan.names.map(({ kind, value }) => ({
            sanType: kind === "uri" ? SubjectAltNameMatcher_SanType.URI : SubjectAltNameMatcher_SanType.DNS,
            matcher: stringMatcher({ kind: "exact", value }),
          })),
        },
      },
    },
  });
  return { name: "envoy.transport_sockets.tls", configType: { case: "typedConfig", value: context } };
}
