// Owns: how DestinationRules fold into the treatment of one port of a service, of all its instances or of a subset, and which subsets there are. Rules of the
// service's own namespace decide; where it has none, those of the root namespace. Istio's way of laying policies over each other.

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import {
  type ConsistentHash,
  type DestinationRuleObject,
  type LoadBalancer,
  type OutlierDetection,
  type PolicySections,
  parseHealthCheck,
  ruleAnnotations,
  ruleDurationMs,
  ruleHost,
  type Subset,
  type TrafficPolicy,
} from "../../api/kinds/destinationrule-spec.ts";
import { matchesLabels } from "../../api/selector.ts";
import { externalNamespace, externalService } from "../plan/external.ts";
import type { HashPlan } from "../plan/routes.ts";
import type { BalancerPlan, LocalityPlan, OriginationPlan, OutlierPlan, TrafficPlan } from "../plan/traffic.ts";
import { destinationRuleSource } from "../sources.ts";
import { byAge, derived, equal, namespaceOf, type World } from "../world.ts";

/** All rules that speak about one host, as one. */
export interface HostRules {
  readonly policy: TrafficPolicy | undefined;
  readonly annotations: Readonly<Record<string, string>>;
  readonly subsets: readonly Subset[];
}

/** By `NAME.NAMESPACE.svc.cluster.local`; undefined = no rule speaks about it. */
export const rulesOf = derived<HostRules | undefined>((world, host) => {
  const all = [...world.objects(destinationRuleSource).by("host", host)].sort(byAge);
  const namespace = externalNamespace(world, host) ?? host.split(".")[1];
  const own = all.filter((rule) => namespaceOf(rule) === namespace);
  const rules = own.length > 0 ? own : all.filter((rule) => namespaceOf(rule) === rootNamespace);
  if (rules.length === 0) return undefined;
  const decides = rules.find((rule) => rule.spec?.trafficPolicy !== undefined) ?? rules[0];
  const subsets = new Map<string, Subset>();
  for (const rule of rules) for (const subset of rule.spec?.subsets ?? []) if (!subsets.has(subset.name)) subsets.set(subset.name, subset);
  const annotations: Record<string, string> = {};
  for (const rule of rules)
    for (const name of Object.values(ruleAnnotations)) {
      const value = rule.metadata.annotations?.[name];
      if (value !== undefined) annotations[name] ??= value;
    }
  return {
    policy: decides?.spec?.trafficPolicy,
    annotations,
    subsets: [...subsets.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}, equal);

export function subsetOf(rules: HostRules | undefined, name: string): Subset | undefined {
  return rules?.subsets.find((each) => each.name === name);
}

const nothing: TrafficPlan = {};

/** The treatment of one port; `subset` as in the cluster's name, empty = all instances. */
export function trafficPlan(world: World, host: string, port: number, subset: string): TrafficPlan {
  const rules = rulesOf(world, host);
  return rules === undefined ? nothing : foldTraffic(rules, port, subset);
}

export function foldTraffic(rules: HostRules, port: number, subset: string): TrafficPlan {
  let sections = forPort(rules.policy, port);
  if (subset !== "") {
    const own = subsetOf(rules, subset)?.trafficPolicy;
    const atPort = own?.portLevelSettings?.find((each) => each.port?.number === port);
    sections = atPort ?? { ...sections, ...withoutPorts(own) };
  }
  return planSections(sections, rules.annotations);
}

/** Settings of a port stand alone: what they leave out is the default, as in Istio. */
function forPort(policy: TrafficPolicy | undefined, port: number): PolicySections {
  return policy?.portLevelSettings?.find((each) => each.port?.number === port) ?? withoutPorts(policy);
}

function withoutPorts(policy: TrafficPolicy | undefined): PolicySections {
  if (policy === undefined) return {};
  const { portLevelSettings: _ports, ...sections } = policy;
  return sections;
}

function ms(text: string | undefined): number | undefined {
  return text === undefined ? undefined : ruleDurationMs(text);
}

/** Leaves out what is undefined. */
function plain<T extends object>(value: T): T | undefined {
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  return entries.length === 0 ? undefined : (Object.fromEntries(entries) as T);
}

function planSections(sections: PolicySections, annotations: HostRules["annotations"]): TrafficPlan {
  const { loadBalancer, connectionPool, outlierDetection, tls } = sections;
  const check = annotations[ruleAnnotations.healthCheck];
  const parsed = check === undefined ? undefined : parseHealthCheck(check);
  const factor = annotations[ruleAnnotations.latencyFactor];
  const limit = (name: string): number | undefined => (annotations[name] === undefined ? undefined : Number(annotations[name]));
  const judged = outlierDetection !== undefined || check !== undefined || factor !== undefined;
  const out: { -readonly [K in keyof TrafficPlan]: TrafficPlan[K] | undefined } = {
    balancer: balancerPlan(loadBalancer, annotations[ruleAnnotations.loadBalancer]),
    hash: loadBalancer?.consistentHash === undefined ? undefined : hashPlan(loadBalancer.consistentHash),
    warmup: warmupPlan(loadBalancer),
    locality: localityPlan(loadBalancer, outlierDetection !== undefined),
    limits: plain({
      connections: connectionPool?.tcp?.maxConnections,
      pending: connectionPool?.http?.http1MaxPendingRequests,
      requests: connectionPool?.http?.http2MaxRequests,
      retries: connectionPool?.http?.maxRetries,
      instanceRequests: limit(ruleAnnotations.instanceRequests),
      instanceConnections: limit(ruleAnnotations.instanceConnections),
      instanceRetries: limit(ruleAnnotations.instanceRetries),
    }) as TrafficPlan["limits"],
    connectTimeoutMs: ms(connectionPool?.tcp?.connectTimeout),
    outliers: outlierDetection === undefined ? undefined : outlierPlan(outlierDetection),
    latencyFactor: factor === undefined ? undefined : Number(factor),
    // Istio: without minHealthPercent nobody panics. A check of ours alone keeps Envoy's 50, as a wrong path must not empty a service.
    panicPercent: !judged ? undefined : outlierDetection === undefined ? 50 : (outlierDetection.minHealthPercent ?? 0),
    heedRateLimits: annotations[ruleAnnotations.heedRateLimits] === "true" ? true : undefined,
    healthCheck: typeof parsed === "string" ? undefined : parsed,
    tls: tlsPlan(tls),
  };
  return (plain(out) as TrafficPlan | undefined) ?? nothing;
}

const ownKinds: Readonly<Record<string, BalancerPlan>> = {
  PEAK_EWMA: { kind: "peak_ewma" },
  LEAST_CONNECTIONS: { kind: "least_connections" },
  LOAD_REPORTS: { kind: "load_reports" },
};

function balancerPlan(balancer: LoadBalancer | undefined, own: string | undefined): BalancerPlan | undefined {
  const hash = balancer?.consistentHash;
  if (hash !== undefined)
    return hash.maglev === undefined
      ? { kind: "ring_hash", minimum: hash.ringHash?.minimumRingSize ?? hash.minimumRingSize ?? 1024 }
      : { kind: "maglev", size: hash.maglev.tableSize ?? 65_537 };
  switch (balancer?.simple) {
    case "ROUND_ROBIN":
      return { kind: "round_robin" };
    case "RANDOM":
      return { kind: "random" };
    // LEAST_CONN is Istio's old name of it.
    case "LEAST_REQUEST":
    case "LEAST_CONN":
      return { kind: "least_request" };
    default:
      return own === undefined ? undefined : ownKinds[own];
  }
}

function hashPlan(hash: ConsistentHash): HashPlan {
  if (hash.httpHeaderName !== undefined) return { kind: "header", name: hash.httpHeaderName.toLowerCase() };
  if (hash.httpQueryParameterName !== undefined) return { kind: "query", name: hash.httpQueryParameterName };
  if (hash.httpCookie === undefined) return { kind: "source" };
  const { name, path, ttl } = hash.httpCookie;
  return {
    kind: "cookie",
    name,
    ...(ttl === undefined ? {} : { ttlMs: ruleDurationMs(ttl) ?? 0 }),
    ...(path === undefined ? {} : { path }),
  };
}

function warmupPlan(balancer: LoadBalancer | undefined): TrafficPlan["warmup"] {
  const time = ms(balancer?.warmup?.duration ?? balancer?.warmupDurationSecs);
  if (time === undefined) return undefined;
  return { ms: time, minimumPercent: balancer?.warmup?.minimumPercent ?? 10, aggression: balancer?.warmup?.aggression ?? 1 };
}

function localityPlan(balancer: LoadBalancer | undefined, judged: boolean): LocalityPlan | undefined {
  const setting = balancer?.localityLbSetting;
  if (setting?.enabled === false || (setting === undefined && !judged)) return undefined;
  if (setting?.distribute !== undefined)
    return { kind: "shares", from: Object.fromEntries(setting.distribute.map(({ from = "", to = {} }) => [from, to])) };
  return { kind: "near", failover: Object.fromEntries((setting?.failover ?? []).map(({ from = "", to = "" }) => [from, to])) };
}

function outlierPlan(o: OutlierDetection): OutlierPlan {
  return {
    consecutive5xx: o.consecutive5xxErrors ?? o.consecutiveErrors ?? 5,
    // Istio: off unless it is named.
    consecutiveGateway: o.consecutiveGatewayErrors ?? 0,
    splitLocal: o.splitExternalLocalOriginErrors ?? false,
    consecutiveLocal: o.consecutiveLocalOriginFailures ?? 5,
    intervalMs: ms(o.interval) ?? 10_000,
    baseEjectionMs: ms(o.baseEjectionTime) ?? 30_000,
    maxEjectionPercent: o.maxEjectionPercent ?? 10,
  };
}

function tlsPlan(tls: PolicySections["tls"]): OriginationPlan | undefined {
  switch (tls?.mode) {
    // Mutual TLS of the mesh is what sidecars do unasked.
    case undefined:
    case "ISTIO_MUTUAL":
      return undefined;
    case "DISABLE":
      return { kind: "plain" };
    case "SIMPLE":
    case "MUTUAL":
      return {
        kind: "tls",
        sni: tls.sni ?? "",
        authorities: tls.insecureSkipVerify === true ? null : (tls.caCertificates ?? ""),
        names: [...(tls.subjectAltNames ?? [])].sort(),
        ...(tls.mode === "MUTUAL" ? { certificate: { chain: tls.clientCertificate ?? "", key: tls.privateKey ?? "" } } : {}),
      };
  }
}

/** What is to be told of a rule: whether its host is there, and which of its subsets mean nobody. */
export interface RuleVerdict {
  readonly rule: DestinationRuleObject;
  readonly host: string;
  readonly service: boolean;
  /** A rule of the Service's own namespace stands before it. */
  readonly overruled: boolean;
  /** Names of subsets that no instance fits, sorted. */
  readonly empty: readonly string[];
}

/** undefined = there is no such rule. */
export function ruleVerdict(world: World, key: string): RuleVerdict | undefined {
  const rule = world.objects(destinationRuleSource).get(key);
  if (rule === undefined) return undefined;
  const host = ruleHost(rule);
  const outside = externalNamespace(world, host);
  const [name = "", within = ""] = host.split(".");
  const namespace = outside ?? within;
  const service = outside === undefined ? world.services.get(`${namespace}/${name}`) : externalService(world, host);
  const all = world.objects(destinationRuleSource).by("host", host);
  const overruled = namespaceOf(rule) !== namespace && all.some((each) => namespaceOf(each) === namespace);
  const empty = (service === undefined ? [] : (rule.spec?.subsets ?? []))
    .filter(({ labels = {} }) => !service?.workloads.some((workload) => matchesLabels(labels, workload.labels)))
    .map((subset) => subset.name)
    .sort();
  return { rule, host, service: service !== undefined, overruled, empty };
}
