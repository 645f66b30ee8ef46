// Owns: the shape of an Istio DestinationRule, and the small readers that its validation and its compiler share.

import { serviceHost } from "../../wire/names.ts";
import type { KubeObject } from "../meta.ts";
import { rootNamespace } from "./authorizationpolicy.ts";

export interface ConsistentHash {
  readonly httpHeaderName?: string;
  readonly httpCookie?: { readonly name: string; readonly path?: string; readonly ttl?: string };
  readonly useSourceIp?: boolean;
  readonly httpQueryParameterName?: string;
  readonly ringHash?: { readonly minimumRingSize?: number };
  readonly maglev?: { readonly tableSize?: number };
  readonly minimumRingSize?: number;
}

export interface LocalitySetting {
  readonly enabled?: boolean;
  readonly distribute?: readonly { readonly from?: string; readonly to?: Readonly<Record<string, number>> }[];
  readonly failover?: readonly { readonly from?: string; readonly to?: string }[];
  /** Names of labels, or NAME=VALUE. */
  readonly failoverPriority?: readonly string[];
}

export interface LoadBalancer {
  readonly simple?: "UNSPECIFIED" | "LEAST_CONN" | "RANDOM" | "ROUND_ROBIN" | "LEAST_REQUEST";
  readonly consistentHash?: ConsistentHash;
  readonly localityLbSetting?: LocalitySetting;
  readonly warmupDurationSecs?: string;
  readonly warmup?: { readonly duration: string; readonly minimumPercent?: number; readonly aggression?: number };
}

export interface ConnectionPool {
  readonly tcp?: {
    readonly maxConnections?: number;
    readonly connectTimeout?: string;
    readonly maxConnectionDuration?: string;
    readonly tcpKeepalive?: { readonly probes?: number; readonly time?: string; readonly interval?: string };
  };
  readonly http?: {
    readonly http1MaxPendingRequests?: number;
    readonly http2MaxRequests?: number;
    readonly maxRetries?: number;
    readonly idleTimeout?: string;
    readonly maxRequestsPerConnection?: number;
    readonly h2UpgradePolicy?: "DEFAULT" | "DO_NOT_UPGRADE" | "UPGRADE";
  };
}

export interface OutlierDetection {
  readonly consecutiveErrors?: number;
  readonly consecutive5xxErrors?: number;
  readonly consecutiveGatewayErrors?: number;
  readonly splitExternalLocalOriginErrors?: boolean;
  readonly consecutiveLocalOriginFailures?: number;
  readonly interval?: string;
  readonly baseEjectionTime?: string;
  readonly maxEjectionPercent?: number;
  readonly minHealthPercent?: number;
}

export interface ClientTls {
  readonly mode?: "DISABLE" | "SIMPLE" | "MUTUAL" | "ISTIO_MUTUAL";
  readonly clientCertificate?: string;
  readonly privateKey?: string;
  readonly caCertificates?: string;
  /** A Secret of the rule's namespace. */
  readonly credentialName?: string;
  readonly subjectAltNames?: readonly string[];
  readonly sni?: string;
  readonly insecureSkipVerify?: boolean;
}

export interface PolicySections {
  readonly loadBalancer?: LoadBalancer;
  readonly connectionPool?: ConnectionPool;
  readonly outlierDetection?: OutlierDetection;
  readonly tls?: ClientTls;
}

export interface TrafficPolicy extends PolicySections {
  readonly portLevelSettings?: readonly (PolicySections & { readonly port?: { readonly number?: number } })[];
}

export interface Subset {
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly trafficPolicy?: TrafficPolicy;
}

export interface DestinationRuleObject extends KubeObject {
  spec?: {
    host?: string;
    trafficPolicy?: TrafficPolicy;
    subsets?: readonly Subset[];
    exportTo?: readonly string[];
    workloadSelector?: { readonly matchLabels?: Readonly<Record<string, string>> };
  };
}

/** A place of a rule that may say how TLS is spoken. */
export interface TlsPlace {
  /** `spec.trafficPolicy.tls` and the like. */
  readonly place: string;
  readonly tls: ClientTls;
  /** 0 = all. */
  readonly port: number;
  /** Of the instances. */
  readonly labels: Readonly<Record<string, string>>;
}

/** All that a rule says of TLS, in its order. */
export function tlsPlaces({ spec = {} }: Pick<DestinationRuleObject, "spec">): TlsPlace[] {
  const within = (place: string, policy: TrafficPolicy | undefined, labels: TlsPlace["labels"]): TlsPlace[] =>
    [
      { place, tls: policy?.tls, port: 0 },
      ...(policy?.portLevelSettings ?? []).map(({ port, tls }, at) => ({
        place: `${place}.portLevelSettings[${at}]`,
        tls,
        port: port?.number ?? 0,
      })),
    ].flatMap(({ place: where, tls, port }) => (tls === undefined ? [] : [{ place: `${where}.tls`, tls, port, labels }]));
  return [
    ...within("spec.trafficPolicy", spec.trafficPolicy, {}),
    ...(spec.subsets ?? []).flatMap(({ trafficPolicy, labels = {} }, at) =>
      within(`spec.subsets[${at}].trafficPolicy`, trafficPolicy, labels),
    ),
  ];
}

/** All lists of labels by which a rule ranks instances, of any port and subset. */
export function failoverPriorities({ spec }: Pick<DestinationRuleObject, "spec">): readonly (readonly string[])[] {
  return [spec?.trafficPolicy, ...(spec?.subsets ?? []).map((subset) => subset.trafficPolicy)].flatMap((policy) =>
    [policy, ...(policy?.portLevelSettings ?? [])].flatMap((each) => {
      const { enabled, failoverPriority = [] } = each?.loadBalancer?.localityLbSetting ?? {};
      return enabled === false || failoverPriority.length === 0 ? [] : [failoverPriority];
    }),
  );
}

/** Labels of the caller that its lists ask for: those without a value of their own. Sorted. */
export function failoverLabels(rule: Pick<DestinationRuleObject, "spec">): readonly string[] {
  const names = failoverPriorities(rule).flatMap((list) => list.filter((each) => !each.includes("=")));
  return [...new Set(names)].sort();
}

/** Whether a rule gives its callers a private key, which is for those of its own namespace alone. */
export function givesKey(rule: Pick<DestinationRuleObject, "spec">): boolean {
  return tlsPlaces(rule).some(({ tls }) => tls.mode === "MUTUAL" && tls.credentialName !== undefined);
}

/** Whether a rule may speak to some callers of its host and not to others: it is not for all namespaces, asks for labels, or stands beside the service. */
export function mayTellApart(rule: Pick<DestinationRuleObject, "metadata" | "spec">): boolean {
  const { exportTo, workloadSelector } = rule.spec ?? {};
  if (workloadSelector !== undefined || (exportTo ?? []).some((word) => word !== "*")) return true;
  const namespace = rule.metadata.namespace ?? "default";
  const host = ruleHost(rule);
  // A wildcard reaches over namespaces, but for one over its own.
  if (host === `*.${namespace}.svc.cluster.local`) return false;
  // Of a host outside the mesh's domain nobody knows here whose namespace it is of.
  return namespace !== rootNamespace && (!host.endsWith(".svc.cluster.local") || host.split(".")[1] !== namespace);
}

/** The whole name of the service that a rule is about: short names are of the rule's own namespace; `*` is every host. */
export function ruleHost(rule: Pick<DestinationRuleObject, "metadata" | "spec">): string {
  const host = (rule.spec?.host ?? "").toLowerCase();
  return host === "*" || host.includes(".") ? host : serviceHost(host, rule.metadata.namespace ?? "default");
}

const units: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };

/** Milliseconds of `1h`, `1m30s`, `1.5s`, `100ms`; undefined = it is none, or not of whole milliseconds. */
export function ruleDurationMs(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(h|ms|m|s))+$/.test(text)) return undefined;
  let sum = 0;
  for (const [, number = "0", unit = "s"] of text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g)) sum += Number(number) * (units[unit] ?? 0);
  const ms = Math.round(sum);
  return Math.abs(ms - sum) < 1e-6 && ms <= 86_400_000 ? ms : undefined;
}

/** What Istio has no words for: annotations of a DestinationRule, for the whole of it. */
export const ruleAnnotations = {
  /** PEAK_EWMA, LEAST_CONNECTIONS or LOAD_REPORTS, in the place of `simple`. */
  loadBalancer: "weft.dev/load-balancer",
  /** `true`: answers 429 and RESOURCE_EXHAUSTED lower an instance's share, Retry-After is waited for. */
  heedRateLimits: "weft.dev/heed-rate-limits",
  /** Most requests at one instance. */
  instanceRequests: "weft.dev/instance-max-requests",
  /** Most connections to one instance. */
  instanceConnections: "weft.dev/instance-max-connections",
  /** Most requests at one instance that are another attempt. */
  instanceRetries: "weft.dev/instance-max-retries",
  /** Instances slower than the median by this factor are outliers. */
  latencyFactor: "weft.dev/latency-outlier-factor",
  /** `1.9`: instances whose success rate is so many standard deviations below the mean are outliers; `,hosts=5`, `,requests=100`. */
  successRate: "weft.dev/success-rate-outliers",
  /** `85`: instances that fail so many percent of their requests are outliers; `,hosts=5`, `,requests=50`. */
  failurePercentage: "weft.dev/failure-percentage-outliers",
  /** `http:/healthz`, `grpc:`, `grpc:SERVICE` or `tcp`, and `,interval=5s`, `,timeout=1s`, `,failures=3`, `,successes=1`. */
  healthCheck: "weft.dev/health-check",
} as const;

export const ownBalancers = ["PEAK_EWMA", "LEAST_CONNECTIONS", "LOAD_REPORTS"] as const;

export interface HealthCheckWords {
  readonly type: "http" | "grpc" | "tcp";
  /** A path, a gRPC service, or empty. */
  readonly target: string;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly failures: number;
  readonly successes: number;
}

/** Reads the annotation; a string is what is wrong with it. */
export function parseHealthCheck(text: string): HealthCheckWords | string {
  const [first = "", ...rest] = text.split(",").map((part) => part.trim());
  const found = /^(http|grpc|tcp)(?::(.*))?$/.exec(first);
  if (found === null) return "must begin with http:/PATH, grpc:, grpc:SERVICE or tcp";
  const [, type = "tcp", target = ""] = found;
  if (type === "http" && !/^\/[\x21-\x2b\x2d-\x7e]*$/.test(target)) return "http: needs a path that begins with /";
  if (type === "tcp" && target !== "") return "tcp takes nothing behind it";
  if (type === "grpc" && target !== "" && !/^[\w./-]{1,127}$/.test(target)) return "grpc: takes the name of a gRPC service";
  const out = { type: type as HealthCheckWords["type"], target, intervalMs: 5_000, timeoutMs: 1_000, failures: 3, successes: 1 };
  for (const part of rest) {
    const [key = "", value = ""] = part.split("=");
    const ms = ruleDurationMs(value);
    const count = /^[1-9]\d{0,2}$/.test(value) ? Number(value) : undefined;
    if (key === "interval" && ms !== undefined && ms >= 100) out.intervalMs = ms;
    else if (key === "timeout" && ms !== undefined && ms >= 10) out.timeoutMs = ms;
    else if (key === "failures" && count !== undefined) out.failures = count;
    else if (key === "successes" && count !== undefined) out.successes = count;
    else return `${JSON.stringify(part)} is none of interval=5s (at least 100ms), timeout=1s, failures=3, successes=1`;
  }
  return out;
}

/** When an instance is an outlier by the statistics of an interval. */
export interface OutlierWords {
  /** Standard deviations below the mean, or percent of failures. */
  readonly limit: number;
  /** Instances with enough requests, below which nobody is judged. */
  readonly hosts: number;
  /** Requests within the interval, below which an instance is not judged. */
  readonly requests: number;
}

/** Reads the annotation of success rates or of failures, with Envoy's defaults; a string is what is wrong with it. */
export function parseOutliers(text: string, by: "successRate" | "failurePercentage"): OutlierWords | string {
  const [first = "", ...rest] = text.split(",").map((part) => part.trim());
  const limit = /^\d{1,3}(\.\d{1,3})?$/.test(first) ? Number(first) : 0;
  if (by === "successRate" && (limit <= 0 || limit > 10))
    return "must begin with a number of standard deviations above 0 and up to 10, such as 1.9";
  if (by === "failurePercentage" && (limit < 1 || limit > 100 || !Number.isInteger(limit)))
    return "must begin with a whole number of percent, 1 to 100, such as 85";
  const out = { limit, hosts: 5, requests: by === "successRate" ? 100 : 50 };
  for (const part of rest) {
    const [key = "", value = ""] = part.split("=");
    const count = /^[1-9]\d{0,5}$/.test(value) ? Number(value) : undefined;
    if (key === "hosts" && count !== undefined) out.hosts = count;
    else if (key === "requests" && count !== undefined) out.requests = count;
    else return `${JSON.stringify(part)} is none of hosts=${out.hosts}, requests=${out.requests}`;
  }
  return out;
}
