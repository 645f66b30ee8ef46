// Owns: how DestinationRules fold into the treatment of one port of a service, of all its instances or of a subset, and which subsets there are. Rules of the
// service's own namespace decide; where it has none, those of the root namespace. Istio's way of laying policies over each other.

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import {
  type ClientTls,
  type ConnectionPool,
  type ConsistentHash,
  type DestinationRuleObject,
  failoverLabels,
  givesKey,
  type LoadBalancer,
  mayTellApart,
  type OutlierDetection,
  type PolicySections,
  parseHealthCheck,
  parseOutliers,
  ruleAnnotations,
  ruleDurationMs,
  ruleHost,
  type Subset,
  type TrafficPolicy,
  tlsPlaces,
} from "../../api/kinds/destinationrule-spec.ts";
import { exportedTo } from "../../api/kinds/virtualservice-spec.ts";
import { formatLabels, matchesLabels } from "../../api/selector.ts";
import { type Caller, callerText, hasLabels, only, parseCaller } from "../plan/caller.ts";
import { externalNamespace, externalService } from "../plan/external.ts";
import type { HashPlan } from "../plan/routes.ts";
import type { BalancerPlan, LocalityPlan, OriginationPlan, OutlierPlan, TrafficPlan } from "../plan/traffic.ts";
import { serviceEntrySource } from "../route-sources.ts";
import { destinationRuleSource, serviceSource } from "../sources.ts";
import { byAge, derived, equal, keyOf, namespaceOf, type World } from "../world.ts";
import { type Credential, credentialOf, credentialProblem } from "./credential.ts";

/** All rules that speak about one host, as one. */
export interface HostRules {
  readonly policy: TrafficPolicy | undefined;
  readonly annotations: Readonly<Record<string, string>>;
  readonly subsets: readonly Subset[];
  /** Of the rules. */
  readonly namespace: string;
  /** The callers are of it, so that private keys of its Secrets are for them. */
  readonly own: boolean;
}

/** Who may be told other things than everybody: text of a caller where any rule of the mesh tells callers apart, else empty. */
export function ruleCaller(world: World, caller: string): string {
  return anyApart(world, "") ? caller : "";
}

const anyApart = derived<boolean>((world) =>
  world
    .objects(destinationRuleSource)
    .by("apart", "")
    .some((rule) => givesKey(rule) || tellsApart(world, rule) || failoverLabels(rule).length > 0),
);

/** A rule beside the one that its host is of speaks to its own callers; others where they say so. */
function tellsApart(world: World, rule: DestinationRuleObject): boolean {
  const { exportTo, workloadSelector } = rule.spec ?? {};
  if (workloadSelector !== undefined || (exportTo ?? []).some((word) => word !== "*")) return true;
  return mayTellApart(rule) && externalNamespace(world, ruleHost(rule)) !== namespaceOf(rule);
}

/** Whether callers of a host may be told different things. */
const hostApart = derived<boolean>((world, host) =>
  rulesAbout(world, host)
    .flat()
    .some((rule) => givesKey(rule) || tellsApart(world, rule) || failoverLabels(rule).length > 0),
);

/** Whose host it is: the namespace of its Service, or of the ServiceEntry that has it. */
function ownerOf(world: World, host: string): string | undefined {
  return externalNamespace(world, host) ?? host.split(".")[1];
}

/** Rules about a host by the name they say, the most specific first: itself, `*.shop.svc.cluster.local`, …, `*`. None is empty. */
function rulesAbout(world: World, host: string): readonly (readonly DestinationRuleObject[])[] {
  const parts = host.split(".");
  const wildcards = world.objects(destinationRuleSource).keys("wildcard", "").length > 0;
  const names = wildcards ? [host, ...parts.slice(1).map((_, at) => `*.${parts.slice(at + 1).join(".")}`), "*"] : [host];
  return [...new Set(names)].flatMap((name) => {
    const found = world.objects(destinationRuleSource).by("host", name);
    return found.length === 0 ? [] : [[...found].sort(byAge)];
  });
}

/** Rules for a caller about a host, oldest first. Istio's order: those of the caller's namespace, of the service's, of the root's. */
function chosen(world: World, host: string, caller: Caller): readonly DestinationRuleObject[] {
  const about = rulesAbout(world, host);
  const service = ownerOf(world, host);
  const from = (all: readonly DestinationRuleObject[], namespace: string | undefined) =>
    all.filter((rule) => {
      if (namespaceOf(rule) !== namespace) return false;
      const to = exportedTo(rule.spec?.exportTo, namespaceOf(rule));
      if (!to.includes("*") && !to.includes(caller.namespace)) return false;
      const selector = rule.spec?.workloadSelector?.matchLabels;
      return selector === undefined || (namespace === caller.namespace && hasLabels(caller, selector));
    });
  for (const namespace of [caller.namespace, service, rootNamespace])
    for (const all of about) {
      const rules = from(all, namespace);
      if (rules.length === 0) continue;
      // What is for these workloads alone goes before what is for all of the namespace.
      const selected = rules.filter((rule) => rule.spec?.workloadSelector !== undefined);
      return selected.length > 0 ? selected : rules;
    }
  return [];
}

/**
 * For whom the rules about a host are folded where a caller calls (`ruleCaller`): empty = as for everybody, else the caller with the labels that they
 * ask for. By caller, NUL, host.
 */
const ruleAudience = derived<string>((world, text) => {
  const [words = "", host = ""] = text.split("\u0000");
  const caller = parseCaller(words);
  const asked = rulesAbout(world, host)
    .flat()
    .flatMap((rule) => (namespaceOf(rule) === caller.namespace ? Object.keys(rule.spec?.workloadSelector?.matchLabels ?? {}) : []));
  const projected = { namespace: caller.namespace, labels: only(caller.labels, asked) };
  const rules = chosen(world, host, projected);
  const keys = rules.some((rule) => namespaceOf(rule) === caller.namespace && givesKey(rule));
  // Whom instances are ranked for, by labels of theirs.
  const ranking = rules.flatMap(failoverLabels);
  if (ranking.length > 0) return callerText({ namespace: caller.namespace, labels: only(caller.labels, [...asked, ...ranking]) });
  return !keys && equal(rules.map(keyOf), chosen(world, host, nobody).map(keyOf)) ? "" : callerText(projected);
});

const nobody: Caller = { namespace: "", labels: {} };

/** As `rulesOf` and the plans of ports take it: what stands in front of a host or a cluster where a caller is told other things than everybody. */
export function forCaller(world: World, caller: string, host: string | undefined, name: string): string {
  const apart = host === undefined || caller === "" || !hostApart(world, host) ? "" : caller;
  const audience = apart === "" ? "" : ruleAudience(world, `${apart}\u0000${host}`);
  return audience === "" ? name : `${audience}\u0000${name}`;
}

/** Takes apart what `forCaller` has made: audience (empty = everybody) and name. */
export function audienceAndName(text: string): readonly [audience: string, name: string] {
  const at = text.indexOf("\u0000");
  return at < 0 ? ["", text] : [text.slice(0, at), text.slice(at + 1)];
}

/** By `NAME.NAMESPACE.svc.cluster.local`, or as `forCaller` says it; undefined = no rule speaks about it. */
export const rulesOf = derived<HostRules | undefined>((world, text) => {
  const [audience, host] = audienceAndName(text);
  const caller = parseCaller(audience);
  const rules = chosen(world, host, caller);
  const [first] = rules;
  if (first === undefined) return undefined;
  const decides = rules.find((rule) => rule.spec?.trafficPolicy !== undefined) ?? first;
  const subsets = new Map<string, Subset>();
  for (const rule of rules) for (const subset of rule.spec?.subsets ?? []) if (!subsets.has(subset.name)) subsets.set(subset.name, subset);
  const annotations: Record<string, string> = {};
  for (const rule of rules)
    for (const name of Object.values(ruleAnnotations)) {
      const value = rule.metadata.annotations?.[name];
      if (value !== undefined) annotations[name] ??= value;
    }
  return {
    policy: decides.spec?.trafficPolicy,
    annotations,
    subsets: [...subsets.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    namespace: namespaceOf(first),
    own: namespaceOf(first) === caller.namespace,
  };
}, equal);

/** Names of the subsets that any caller may be led to, sorted. By the host. */
export const subsetNames = derived<readonly string[]>((world, host) => {
  const names = new Set((rulesOf(world, host)?.subsets ?? []).map(({ name }) => name));
  if (hostApart(world, host))
    for (const rule of rulesAbout(world, host).flat())
      if (tellsApart(world, rule)) for (const { name } of rule.spec?.subsets ?? []) names.add(name);
  return [...names].sort();
}, equal);

export function subsetOf(rules: HostRules | undefined, name: string): Subset | undefined {
  return rules?.subsets.find((each) => each.name === name);
}

const nothing: TrafficPlan = {};

/** The treatment of one port; `host` may come from `forCaller`; `subset` as in the cluster's name, empty = all instances. */
export function trafficPlan(world: World, host: string, port: number, subset: string): TrafficPlan {
  const rules = rulesOf(world, host);
  if (rules === undefined) return nothing;
  const [audience] = audienceAndName(host);
  return foldTraffic(rules, port, subset, (name) => credentialOf(world, `${rules.namespace}/${name}`), parseCaller(audience).labels);
}

/** `credential`: the Secret of a name in the namespace of the rules. `labels`: of the callers, as far as the rules ask for them. */
export function foldTraffic(
  rules: HostRules,
  port: number,
  subset: string,
  credential: (name: string) => Credential,
  labels: Readonly<Record<string, string>> = {},
): TrafficPlan {
  let sections = forPort(rules.policy, port);
  if (subset !== "") {
    const own = subsetOf(rules, subset)?.trafficPolicy;
    const atPort = own?.portLevelSettings?.find((each) => each.port?.number === port);
    sections = atPort ?? { ...sections, ...withoutPorts(own) };
  }
  const plan = planSections(sections, rules.annotations, labels);
  const tls = tlsPlan(sections.tls, rules.own, credential);
  return tls === undefined ? plan : { ...plan, tls };
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

function planSections(
  sections: PolicySections,
  annotations: HostRules["annotations"],
  labels: Readonly<Record<string, string>>,
): TrafficPlan {
  const { loadBalancer, connectionPool, outlierDetection } = sections;
  const check = annotations[ruleAnnotations.healthCheck];
  const parsed = check === undefined ? undefined : parseHealthCheck(check);
  const factor = annotations[ruleAnnotations.latencyFactor];
  const limit = (name: string): number | undefined => (annotations[name] === undefined ? undefined : Number(annotations[name]));
  const outliers = outlierPlan(outlierDetection, annotations);
  const judged = outliers !== undefined || check !== undefined || factor !== undefined;
  const out: { -readonly [K in keyof TrafficPlan]: TrafficPlan[K] | undefined } = {
    balancer: balancerPlan(loadBalancer, annotations[ruleAnnotations.loadBalancer]),
    hash: loadBalancer?.consistentHash === undefined ? undefined : hashPlan(loadBalancer.consistentHash),
    warmup: warmupPlan(loadBalancer),
    locality: localityPlan(loadBalancer, outlierDetection !== undefined, labels),
    upstream: upstreams[connectionPool?.http?.h2UpgradePolicy ?? "DEFAULT"],
    limits: plain({
      connections: connectionPool?.tcp?.maxConnections,
      pending: connectionPool?.http?.http1MaxPendingRequests,
      requests: connectionPool?.http?.http2MaxRequests,
      // Istio's 0 is not set: who wants no retries says so in the route (attempts: 0).
      retries: connectionPool?.http?.maxRetries || undefined,
      instanceRequests: limit(ruleAnnotations.instanceRequests),
      instanceConnections: limit(ruleAnnotations.instanceConnections),
      instanceRetries: limit(ruleAnnotations.instanceRetries),
    }) as TrafficPlan["limits"],
    connectTimeoutMs: ms(connectionPool?.tcp?.connectTimeout),
    connections: connectionsPlan(connectionPool),
    outliers,
    latencyFactor: factor === undefined ? undefined : Number(factor),
    // Istio: without minHealthPercent nobody panics. A check of ours alone keeps Envoy's 50, as a wrong path must not empty a service.
    panicPercent: !judged ? undefined : outlierDetection === undefined ? 50 : (outlierDetection.minHealthPercent ?? 0),
    heedRateLimits: annotations[ruleAnnotations.heedRateLimits] === "true" ? true : undefined,
    healthCheck: typeof parsed === "string" ? undefined : parsed,
  };
  return (plain(out) as TrafficPlan | undefined) ?? nothing;
}

function connectionsPlan({ http, tcp }: ConnectionPool = {}): TrafficPlan["connections"] {
  const seconds = (text: string | undefined): number | undefined => {
    const time = ms(text);
    return time === undefined ? undefined : time / 1_000;
  };
  const probing = tcp?.tcpKeepalive;
  return plain({
    maxAgeMs: ms(tcp?.maxConnectionDuration),
    idleMs: ms(http?.idleTimeout),
    // Istio's 0 is no limit.
    maxRequests: http?.maxRequestsPerConnection || undefined,
    keepalive:
      probing === undefined
        ? undefined
        : (plain({
            probes: probing.probes || undefined,
            timeSeconds: seconds(probing.time),
            intervalSeconds: seconds(probing.interval),
          }) ?? {}),
  }) as TrafficPlan["connections"];
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

const upstreams = { DEFAULT: undefined, DO_NOT_UPGRADE: "http1", UPGRADE: "http2" } as const;

function localityPlan(
  balancer: LoadBalancer | undefined,
  judged: boolean,
  labels: Readonly<Record<string, string>>,
): LocalityPlan | undefined {
  const setting = balancer?.localityLbSetting;
  if (setting?.enabled === false || (setting === undefined && !judged)) return undefined;
  if (setting?.distribute !== undefined)
    return { kind: "shares", from: Object.fromEntries(setting.distribute.map(({ from = "", to = {} }) => [from, to])) };
  const ranking = setting?.failoverPriority ?? [];
  if (ranking.length > 0)
    return {
      kind: "labels",
      wanted: ranking.map((each) => {
        const at = each.indexOf("=");
        return at < 0 ? [each, labels[each]] : [each.slice(0, at), each.slice(at + 1)];
      }),
    };
  return { kind: "near", failover: Object.fromEntries((setting?.failover ?? []).map(({ from = "", to = "" }) => [from, to])) };
}

/** An annotation alone judges by nothing else. */
function outlierPlan(o: OutlierDetection | undefined, annotations: HostRules["annotations"]): OutlierPlan | undefined {
  const words = (by: "successRate" | "failurePercentage") => {
    const text = annotations[ruleAnnotations[by]];
    const read = text === undefined ? undefined : parseOutliers(text, by);
    return typeof read === "object" ? { [by]: read } : {};
  };
  const statistics = { ...words("successRate"), ...words("failurePercentage") };
  if (o === undefined && Object.keys(statistics).length === 0) return undefined;
  return {
    consecutive5xx: o === undefined ? 0 : (o.consecutive5xxErrors ?? o.consecutiveErrors ?? 5),
    // Istio: off unless it is named.
    consecutiveGateway: o?.consecutiveGatewayErrors ?? 0,
    splitLocal: o?.splitExternalLocalOriginErrors ?? false,
    consecutiveLocal: o?.consecutiveLocalOriginFailures ?? 5,
    intervalMs: ms(o?.interval) ?? 10_000,
    baseEjectionMs: ms(o?.baseEjectionTime) ?? 30_000,
    maxEjectionPercent: o?.maxEjectionPercent ?? 10,
    ...statistics,
  };
}

/** `own`: private keys of the namespace are for these callers. */
function tlsPlan(tls: PolicySections["tls"], own: boolean, credential: (name: string) => Credential): OriginationPlan | undefined {
  switch (tls?.mode) {
    // Mutual TLS of the mesh is what sidecars do unasked.
    case undefined:
    case "ISTIO_MUTUAL":
      return undefined;
    case "DISABLE":
      return { kind: "plain" };
    case "SIMPLE":
    case "MUTUAL":
      if (tls.credentialName !== undefined) return bySecret(tls, own, credential(tls.credentialName));
      return {
        kind: "tls",
        sni: tls.sni ?? "",
        authorities: tls.insecureSkipVerify === true ? null : (tls.caCertificates ?? ""),
        names: [...(tls.subjectAltNames ?? [])].sort(),
        ...(tls.mode === "MUTUAL" ? { certificate: { chain: tls.clientCertificate ?? "", key: tls.privateKey ?? "" } } : {}),
      };
  }
}

/** Never without what the rule refers to: a server that nobody vouches for is not called. */
function bySecret(tls: ClientTls, own: boolean, found: Credential): OriginationPlan {
  const mutual = tls.mode === "MUTUAL";
  const unchecked = tls.insecureSkipVerify === true;
  if ((mutual && !own) || credentialProblem(found, mutual, unchecked) !== "") return { kind: "closed" };
  return {
    kind: "tls",
    sni: tls.sni ?? "",
    authorities: unchecked ? null : (found.authorities ?? null),
    names: [...(tls.subjectAltNames ?? [])].sort(),
    ...(mutual && found.certificate !== undefined ? { certificate: found.certificate } : {}),
    inline: true,
  };
}

/** `NS/NAME` of a rule whose subset of this name no instance of the host fits; undefined = somebody does, or there is no such subset. */
export function emptySubset(world: World, host: string, subset: string): string | undefined {
  const [key] = world.objects(serviceSource).keys("host", host);
  const service = key === undefined ? externalService(world, host) : world.services.get(key);
  const all = rulesAbout(world, host)
    .flat()
    .flatMap((rule) => (rule.spec?.subsets ?? []).filter(({ name }) => name === subset).map(({ labels = {} }) => ({ rule, labels })));
  const [first] = all;
  if (first === undefined) return undefined;
  const fits = all.some(({ labels }) => (service?.workloads ?? []).some((workload) => matchesLabels(labels, workload.labels)));
  return fits ? undefined : keyOf(first.rule);
}

/** What is to be told of a rule: whether its host is there, and which of its subsets mean nobody. */
export interface RuleVerdict {
  readonly rule: DestinationRuleObject;
  readonly host: string;
  readonly service: boolean;
  /** Whom it speaks to, in words. */
  readonly callers: string;
  /** A rule of the Service's own namespace stands before it. */
  readonly overruled: boolean;
  /** Names of subsets that no instance fits, sorted. */
  readonly empty: readonly string[];
  /** Of what it refers to, place and problem; undefined = it refers to nothing. */
  readonly credentials: readonly string[] | undefined;
}

/** What of a rule's `credentialName` cannot be used, place by place; undefined = it has none. */
export function credentialTroubles(world: World, rule: DestinationRuleObject): readonly string[] | undefined {
  const places = tlsPlaces(rule).filter(({ tls }) => tls.credentialName !== undefined);
  if (places.length === 0) return undefined;
  return places.flatMap(({ place, tls }) => {
    const found = credentialOf(world, `${namespaceOf(rule)}/${tls.credentialName}`);
    const problem = credentialProblem(found, tls.mode === "MUTUAL", tls.insecureSkipVerify === true);
    return problem === "" ? [] : [`${place}.credentialName: ${problem}`];
  });
}

/** undefined = there is no such rule. */
export function ruleVerdict(world: World, key: string): RuleVerdict | undefined {
  const rule = world.objects(destinationRuleSource).get(key);
  if (rule === undefined) return undefined;
  const host = ruleHost(rule);
  if (host.startsWith("*")) return wildcardVerdict(world, rule, host);
  const outside = externalNamespace(world, host);
  const [name = "", within = ""] = host.split(".");
  const namespace = outside ?? within;
  const service = outside === undefined ? world.services.get(`${namespace}/${name}`) : externalService(world, host);
  const all = world.objects(destinationRuleSource).by("host", host);
  // Only a default of the root's can be overruled: others speak to callers of their own namespace, or are of the service's.
  const overruled =
    namespaceOf(rule) === rootNamespace &&
    namespace !== rootNamespace &&
    all.some((each) => namespaceOf(each) === namespace && !tellsApart(world, each));
  const empty = (service === undefined ? [] : (rule.spec?.subsets ?? []))
    .filter(({ labels = {} }) => !service?.workloads.some((workload) => matchesLabels(labels, workload.labels)))
    .map((subset) => subset.name)
    .sort();
  const credentials = credentialTroubles(world, rule);
  return { rule, host, service: service !== undefined, callers: callersOf(rule, namespace), overruled, empty, credentials };
}

/** A wildcard is there for any service that fits it; its subsets are looked for among all of their instances. */
function wildcardVerdict(world: World, rule: DestinationRuleObject, host: string): RuleVerdict {
  const suffix = host.slice(1);
  const fits = (name: string) => name.endsWith(suffix);
  const services = [...world.services.values()].filter((each) => fits(each.host));
  const outside = world
    .objects(serviceEntrySource)
    .all()
    .some(({ spec }) => spec.hosts.some(fits));
  const empty = (services.length === 0 ? [] : (rule.spec?.subsets ?? []))
    .filter(({ labels = {} }) => !services.some(({ workloads }) => workloads.some((each) => matchesLabels(labels, each.labels))))
    .map((subset) => subset.name)
    .sort();
  const credentials = credentialTroubles(world, rule);
  const callers = callersOf(rule, namespaceOf(rule));
  return { rule, host, service: services.length > 0 || outside, callers, overruled: false, empty, credentials };
}

/** `owner`: whose host it is. */
function callersOf(rule: DestinationRuleObject, owner: string): string {
  const namespace = namespaceOf(rule);
  const to = exportedTo(rule.spec?.exportTo, namespace);
  const labels = rule.spec?.workloadSelector?.matchLabels;
  if (labels !== undefined) return `every caller with ${formatLabels(labels)} in namespace ${namespace}`;
  if (namespace !== owner && namespace !== rootNamespace) return `every caller in namespace ${namespace}`;
  return to.includes("*") ? "every caller" : `every caller in namespace ${to.join(", ")}`;
}
