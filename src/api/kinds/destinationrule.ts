// Owns: networking.istio.io DestinationRule: how callers of a service choose among its instances, how many connections and requests they allow
// themselves, when they give an instance up, and which of them a subset means. What cannot be enforced is refused.

import { ageColumn, defineKind, dnsLabel, dnsSubdomain, textColumn } from "../define.ts";
import { isToken, wrongFieldValue, wrongHost } from "../http-words.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { extendSchema, type Schema, show } from "../schema.ts";
import schema from "../schemas/destinationrule.json" with { type: "json" };
import {
  type ConsistentHash,
  type DestinationRuleObject,
  type LoadBalancer,
  ownBalancers,
  type PolicySections,
  parseHealthCheck,
  parseOutliers,
  ruleAnnotations,
  ruleDurationMs,
  ruleHost,
  type TrafficPolicy,
} from "./destinationrule-spec.ts";

/** Newer than the schema that the package publishes. */
const warmup: Schema = {
  type: "object",
  required: ["duration"],
  properties: { duration: { type: "string" }, minimumPercent: { type: "any" }, aggression: { type: "any" } },
};
const places = [
  "trafficPolicy",
  "trafficPolicy.portLevelSettings[]",
  "subsets[].trafficPolicy",
  "subsets[].trafficPolicy.portLevelSettings[]",
];
const whole = places.reduce((sum, place) => extendSchema(sum, `${place}.loadBalancer`, { warmup }), schema as Schema);

const sections: Readonly<Record<string, string>> = {
  "loadBalancer.simple=PASSTHROUGH": "calls go to known instances only",
  "connectionPool.http.useClientProtocol":
    "remove it: a connection between sidecars is made before it is known whose request it will carry, and they agree on HTTP/2 by themselves; h2UpgradePolicy: UPGRADE has everything go by HTTP/2",
  tunnel: "remove it",
};

export const destinationRuleKind = defineKind({
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  kind: "DestinationRule",
  plural: "destinationrules",
  shortNames: ["dr"],
  categories: ["istio-io", "networking-istio-io"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: { ...whole, required: ["host"] } },
  unimplemented: {
    ...Object.fromEntries(places.flatMap((place) => Object.entries(sections).map(([path, way]) => [`spec.${place}.${path}`, way]))),
  },
  notes: [
    "`host` is a Service (its short name in the rule's namespace, or NAME.NAMESPACE.svc.cluster.local), a host of a ServiceEntry, or a wildcard over both (`*.shop.svc.cluster.local`), which speaks where no rule of the namespace names the host itself.",
    "Of the rules about a host those of the caller's namespace decide, as in Istio; where it has none, those of the Service's namespace (of the ServiceEntry's), and where that has none, those of `weft-system`. A rule in another namespace than the Service's speaks to callers of its own alone.",
    "`exportTo` says whose callers a rule speaks to: namespaces, `.` its own, `*` all. `workloadSelector` says which workloads of its own namespace; for these it goes before rules without.",
    "Several rules of one namespace for one host are one: the oldest that has a trafficPolicy decides it, subsets are added up.",
    "A subset's trafficPolicy replaces the sections that it has; of `portLevelSettings` the entry of a port replaces all sections for that port, as in Istio.",
    "A subset is a choice by labels of WorkloadEntries; routes lead to it. The status says when nothing fits it.",
    "`tls.credentialName` is a Secret of the rule's namespace: authorities in `ca.crt` (or `cacert`, or a Secret NAME-cacert), for MUTUAL the certificate in `tls.crt` and `tls.key` (or `cert` and `key`). It is for sidecars and gateways alike, with or without `workloadSelector`. The private key goes to callers of that namespace alone: others to whom a MUTUAL rule speaks get 503. So does everybody while the Secret is missing or of no use; the condition ResolvedRefs says why.",
    "`tls.caCertificates`, `clientCertificate` and `privateKey` name files beside the caller. An Envoy reads them; Weft's sidecars take no file from a control plane, refuse the cluster and answer 503. Whoever writes such a rule is warned.",
    "`outlierDetection` ejects at least one instance where `maxEjectionPercent` would allow none, never the last, and an instance comes back with a tenth of its share, growing to all of it within 10 s. Without `minHealthPercent` health is believed however bad it is, as in Istio.",
    "`connectionPool.http.idleTimeout` (`0s` = never) is without it 60 s of HTTP/1.1 and 5 m of HTTP/2. A connection that has carried `maxRequestsPerConnection` (0 = no limit) takes no more, and ends with its last answer; so does one of HTTP after `maxConnectionDuration`, while one of opaque bytes is closed then. `tcpKeepalive` is the kernel's; what it leaves out is as the kernel is set.",
    "With `outlierDetection`, or with `localityLbSetting`, nearer instances come first: same sub-zone, zone, region, then the rest. `distribute` gives shares instead.",
    "`failoverPriority` ranks instances by labels: first those that have all of the caller's, then those that have all but the last, and so on; `NAME=VALUE` asks for a value of its own. `topology.kubernetes.io/region`, `topology.kubernetes.io/zone` and `topology.istio.io/subzone` are the parts of `spec.locality` where a WorkloadEntry has no such label. Endpoints of EndpointSlices and ServiceEntries have these three alone. Envoys in the mesh get the same ranks, as priorities.",
    "`connectionPool.http.maxRetries: 0` is as if it were not there, as in Istio. `retries: {attempts: 0}` of a VirtualService has nothing tried again.",
    "`h2UpgradePolicy: UPGRADE` has requests for a port of HTTP/1.1 go to its instances by HTTP/2, in plain text with prior knowledge; `DO_NOT_UPGRADE` keeps sidecars at HTTP/1.1 between each other. Ports that say http2 or grpc are not touched.",
    "What Istio has no field for comes in annotations of the rule: `weft.dev/load-balancer` (PEAK_EWMA, LEAST_CONNECTIONS, LOAD_REPORTS), `weft.dev/heed-rate-limits`, `weft.dev/instance-max-requests`, `weft.dev/instance-max-connections`, `weft.dev/instance-max-retries`, `weft.dev/latency-outlier-factor`, `weft.dev/success-rate-outliers`, `weft.dev/failure-percentage-outliers`, `weft.dev/health-check`.",
  ],
  rules: ruleRules,
  columns: [textColumn("Host", "The service it is about.", (object) => (object as DestinationRuleObject).spec?.host ?? ""), ageColumn],
});

type Add = (path: string, message: string) => void;

function ruleRules(object: KubeObject): Violation[] {
  const out: Violation[] = [];
  const add: Add = (path, message) => out.push({ path, message });
  const rule = object as DestinationRuleObject;
  const { spec = {} } = rule;
  hostRules(rule, add);
  if (spec.trafficPolicy !== undefined) policyRules(spec.trafficPolicy, "spec.trafficPolicy", add);
  const names = new Map<string, number>();
  for (const [n, subset] of (spec.subsets ?? []).entries()) {
    const path = `spec.subsets[${n}]`;
    if (!/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(subset.name) || subset.name.length > 63)
      add(`${path}.name`, `${show(subset.name)} must be lower case letters, digits and - (at most 63)`);
    if (subset.name === "udp") add(`${path}.name`, '"udp" is how clusters of UDP ports are named; choose another name');
    const before = names.get(subset.name);
    if (before !== undefined) add(`${path}.name`, `${show(subset.name)} is the name of spec.subsets[${before}] already`);
    names.set(subset.name, n);
    if (Object.keys(subset.labels ?? {}).length === 0) add(`${path}.labels`, "is missing: a subset is chosen by labels");
    if (subset.trafficPolicy !== undefined) policyRules(subset.trafficPolicy, `${path}.trafficPolicy`, add);
  }
  for (const [n, to] of (spec.exportTo ?? []).entries())
    if (to === "~") add(`spec.exportTo[${n}]`, '"~" exports to nobody, so that the rule would do nothing; delete it instead');
    else if (to !== "*" && to !== "." && !dnsLabel.test(to))
      add(`spec.exportTo[${n}]`, `must be ".", "*" or the name of a namespace, got ${show(to)}`);
  if (spec.workloadSelector !== undefined && Object.keys(spec.workloadSelector.matchLabels ?? {}).length === 0)
    add("spec.workloadSelector.matchLabels", "must name at least one label; leave workloadSelector out to mean all callers");
  annotationRules(rule, add);
  return out;
}

function hostRules(rule: DestinationRuleObject, add: Add): void {
  const host = rule.spec?.host ?? "";
  if (host.includes("*")) {
    if (host !== "*" && !/^\*(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9])?)+$/.test(host))
      add("spec.host", `${show(host)} must be * or *. and a DNS name`);
    return;
  }
  const [name = ""] = ruleHost(rule).split(".");
  // The host of a ServiceEntry; whether there is one, the status says.
  const external =
    host.includes(".") && !ruleHost(rule).endsWith(".cluster.local") && /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(ruleHost(rule));
  if (external) return;
  if (
    !/^[a-z]([-a-z0-9]*[a-z0-9])?$/.test(name) ||
    !ruleHost(rule).endsWith(".svc.cluster.local") ||
    ruleHost(rule).split(".").length !== 5
  ) {
    add("spec.host", `${show(host)} must be the name of a Service, NAME.NAMESPACE.svc.cluster.local, or a host of a ServiceEntry`);
  }
}

function policyRules(policy: TrafficPolicy, path: string, add: Add): void {
  sectionRules(policy, path, add);
  const ports = new Map<number, number>();
  for (const [n, each] of (policy.portLevelSettings ?? []).entries()) {
    const where = `${path}.portLevelSettings[${n}]`;
    const port = each.port?.number;
    if (port === undefined || port < 1 || port > 65_535) add(`${where}.port.number`, "must be a port of the Service, 1 to 65535");
    else if (ports.has(port)) add(`${where}.port.number`, `${port} has its settings in portLevelSettings[${ports.get(port)}] already`);
    else ports.set(port, n);
    sectionRules(each, where, add);
  }
}

function sectionRules({ loadBalancer, connectionPool, outlierDetection, tls }: PolicySections, path: string, add: Add): void {
  const time = (where: string, text: string | undefined, leastMs = 1): void => {
    if (text === undefined) return;
    const ms = ruleDurationMs(text);
    if (ms === undefined || ms < leastMs)
      add(`${path}.${where}`, `${show(text)} must be a duration such as 10s or 1m30s, at least ${leastMs} ms and at most a day`);
  };
  const number = (where: string, value: number | undefined, least: number, most: number): void => {
    if (value !== undefined && (value < least || value > most)) add(`${path}.${where}`, `${value} must be ${least} to ${most}`);
  };
  if (loadBalancer !== undefined) balancerRules(loadBalancer, `${path}.loadBalancer`, add, time);
  const { tcp, http } = connectionPool ?? {};
  number("connectionPool.tcp.maxConnections", tcp?.maxConnections, 1, 2_147_483_647);
  time("connectionPool.tcp.connectTimeout", tcp?.connectTimeout);
  time("connectionPool.tcp.maxConnectionDuration", tcp?.maxConnectionDuration);
  number("connectionPool.http.http1MaxPendingRequests", http?.http1MaxPendingRequests, 1, 2_147_483_647);
  number("connectionPool.http.http2MaxRequests", http?.http2MaxRequests, 1, 2_147_483_647);
  number("connectionPool.http.maxRetries", http?.maxRetries, 0, 2_147_483_647);
  number("connectionPool.http.maxRequestsPerConnection", http?.maxRequestsPerConnection, 0, 536_870_912);
  time("connectionPool.http.idleTimeout", http?.idleTimeout, 0);
  const probing = tcp?.tcpKeepalive;
  number("connectionPool.tcp.tcpKeepalive.probes", probing?.probes, 0, 127);
  for (const field of ["time", "interval"] as const) {
    const ms = probing?.[field] === undefined ? undefined : ruleDurationMs(probing[field]);
    if (probing?.[field] !== undefined && (ms === undefined || ms % 1_000 !== 0 || ms < 1_000 || ms > 32_767_000))
      add(
        `${path}.connectionPool.tcp.tcpKeepalive.${field}`,
        `${show(probing[field])} must be a duration of whole seconds, 1s to 32767s, which is what a kernel takes`,
      );
  }
  const o = outlierDetection;
  if (o?.consecutiveErrors !== undefined && o.consecutive5xxErrors !== undefined)
    add(`${path}.outlierDetection.consecutiveErrors`, "is the old name of consecutive5xxErrors; keep that one");
  number("outlierDetection.consecutive5xxErrors", o?.consecutive5xxErrors, 0, 100_000);
  number("outlierDetection.consecutiveErrors", o?.consecutiveErrors, 0, 100_000);
  number("outlierDetection.consecutiveGatewayErrors", o?.consecutiveGatewayErrors, 0, 100_000);
  number("outlierDetection.consecutiveLocalOriginFailures", o?.consecutiveLocalOriginFailures, 0, 100_000);
  if (o?.consecutiveLocalOriginFailures !== undefined && o.splitExternalLocalOriginErrors !== true)
    add(`${path}.outlierDetection.consecutiveLocalOriginFailures`, "needs splitExternalLocalOriginErrors: true");
  number("outlierDetection.maxEjectionPercent", o?.maxEjectionPercent, 0, 100);
  number("outlierDetection.minHealthPercent", o?.minHealthPercent, 0, 100);
  time("outlierDetection.interval", o?.interval, 100);
  time("outlierDetection.baseEjectionTime", o?.baseEjectionTime, 100);
  if (tls !== undefined) tlsRules(tls, `${path}.tls`, add);
}

function balancerRules(balancer: LoadBalancer, path: string, add: Add, time: (where: string, text: string | undefined) => void): void {
  const { simple, consistentHash, localityLbSetting, warmup: slow, warmupDurationSecs } = balancer;
  if (simple !== undefined && simple !== "UNSPECIFIED" && consistentHash !== undefined)
    add(path, "simple and consistentHash exclude each other");
  if (slow !== undefined && warmupDurationSecs !== undefined)
    add(`${path}.warmupDurationSecs`, "is the old name of warmup.duration; keep that one");
  time("loadBalancer.warmupDurationSecs", warmupDurationSecs);
  time("loadBalancer.warmup.duration", slow?.duration);
  for (const [field, value, least, most] of [
    ["minimumPercent", slow?.minimumPercent, 0, 100],
    ["aggression", slow?.aggression, 1, 100],
  ] as const)
    if (value !== undefined && (typeof value !== "number" || value < least || value > most))
      add(`${path}.warmup.${field}`, `must be a number of ${least} to ${most}`);
  if ((slow !== undefined || warmupDurationSecs !== undefined) && (consistentHash !== undefined || simple === "RANDOM"))
    add(`${path}.warmup`, "needs simple: LEAST_REQUEST or ROUND_ROBIN, as in Istio");
  if (consistentHash !== undefined) hashRules(consistentHash, `${path}.consistentHash`, add);
  if (localityLbSetting === undefined) return;
  const where = `${path}.localityLbSetting`;
  const { distribute, failover, failoverPriority } = localityLbSetting;
  const ways = Object.entries({ distribute, failover, failoverPriority }).filter(([, way]) => way !== undefined);
  if (ways.length > 1) add(where, `${ways.map(([name]) => name).join(" and ")} exclude each other`);
  if ((failoverPriority ?? []).length > mostRanks)
    add(`${where}.failoverPriority`, `has ${failoverPriority?.length} labels, and may have ${mostRanks}`);
  for (const [n, each] of (failoverPriority ?? []).entries()) {
    const name = each.split("=")[0] ?? "";
    if (!/^([a-z0-9]([a-z0-9.-]*[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(name))
      add(`${where}.failoverPriority[${n}]`, `${show(each)} must be the name of a label, or NAME=VALUE`);
    else if (failoverPriority?.findIndex((other) => other.split("=")[0] === name) !== n)
      add(`${where}.failoverPriority[${n}]`, `${show(name)} stands there twice`);
  }
  for (const [n, { from, to }] of (distribute ?? []).entries()) {
    if (from === undefined || from === "") add(`${where}.distribute[${n}].from`, "is missing");
    const shares = Object.values(to ?? {});
    if (shares.length === 0 || shares.some((share) => share < 1) || shares.reduce((sum, share) => sum + share, 0) !== 100)
      add(`${where}.distribute[${n}].to`, "must be shares of at least 1 that make 100 together");
  }
  for (const [n, { from, to }] of (failover ?? []).entries())
    if (!from || !to || from === to || from.includes("/") || to.includes("/"))
      add(`${where}.failover[${n}]`, "needs from and to, two different regions");
}

/** Each rank is a priority of its own at every caller. */
const mostRanks = 16;

function hashRules(hash: ConsistentHash, path: string, add: Add): void {
  const keys = [hash.httpHeaderName, hash.httpCookie, hash.useSourceIp === true ? true : undefined, hash.httpQueryParameterName];
  if (keys.filter((key) => key !== undefined).length !== 1)
    add(path, "needs exactly one of httpHeaderName, httpCookie, useSourceIp: true, httpQueryParameterName");
  if (hash.httpCookie?.ttl !== undefined && ruleDurationMs(hash.httpCookie.ttl) === undefined)
    add(`${path}.httpCookie.ttl`, `${show(hash.httpCookie.ttl)} must be a duration such as 1h or 0s`);
  if (hash.httpCookie !== undefined && !isToken(hash.httpCookie.name ?? ""))
    add(`${path}.httpCookie.name`, `${show(hash.httpCookie.name)} is no name of a cookie`);
  if (
    hash.httpCookie?.path !== undefined &&
    (hash.httpCookie.path.includes(";") || wrongFieldValue(`${hash.httpCookie.path}/`) !== undefined)
  )
    add(`${path}.httpCookie.path`, `${show(hash.httpCookie.path)} must have no ; and no control characters`);
  if (hash.httpQueryParameterName === "") add(`${path}.httpQueryParameterName`, "must not be empty");
  if (hash.httpHeaderName !== undefined && !isToken(hash.httpHeaderName))
    add(`${path}.httpHeaderName`, `${show(hash.httpHeaderName)} is no name of a header field`);
  if (hash.ringHash !== undefined && hash.maglev !== undefined) add(path, "ringHash and maglev exclude each other");
  const size = hash.ringHash?.minimumRingSize ?? hash.minimumRingSize;
  if (size !== undefined && (size < 1 || size > 8_388_608)) add(`${path}.ringHash.minimumRingSize`, `${size} must be 1 to 8388608`);
  const table = hash.maglev?.tableSize;
  if (table !== undefined && (table > 5_000_011 || !isPrime(table)))
    add(`${path}.maglev.tableSize`, `${table} must be a prime of at most 5000011`);
}

function isPrime(number: number): boolean {
  if (number < 2) return false;
  for (let i = 2; i * i <= number; i++) if (number % i === 0) return false;
  return true;
}

function tlsRules(tls: NonNullable<PolicySections["tls"]>, path: string, add: Add): void {
  const { mode = "DISABLE", clientCertificate, privateKey, caCertificates, credentialName } = tls;
  const files = clientCertificate !== undefined || privateKey !== undefined;
  if (credentialName !== undefined) credentialRules(tls, credentialName, path, add);
  else if (mode === "MUTUAL" && (clientCertificate === undefined || privateKey === undefined))
    add(path, "MUTUAL needs credentialName, or clientCertificate and privateKey, paths of PEM files beside the caller's Envoy");
  else if (mode !== "MUTUAL" && files) add(path, `${mode} takes no clientCertificate and privateKey`);
  if (
    (mode === "DISABLE" || mode === "ISTIO_MUTUAL") &&
    (caCertificates !== undefined || tls.sni !== undefined || (tls.subjectAltNames ?? []).length > 0)
  )
    add(path, `${mode} takes no caCertificates, sni or subjectAltNames`);
  const wrongName = tls.sni === undefined || tls.sni === "" ? undefined : wrongHost(tls.sni);
  if (wrongName !== undefined) add(`${path}.sni`, wrongName);
}

function credentialRules(tls: NonNullable<PolicySections["tls"]>, name: string, path: string, add: Add): void {
  const { mode = "DISABLE" } = tls;
  const where = `${path}.credentialName`;
  if (name.includes("://"))
    add(where, `${show(name)} must be the name of a Secret of the rule's namespace; authorities of a ConfigMap are for a BackendTLSPolicy`);
  else if (!dnsSubdomain.test(name)) add(where, `${show(name)} must be the name of a Secret of the rule's namespace`);
  if (mode !== "SIMPLE" && mode !== "MUTUAL") add(where, `${mode} takes no credentialName; say SIMPLE or MUTUAL`);
  for (const file of ["caCertificates", "clientCertificate", "privateKey"] as const)
    if (tls[file] !== undefined) add(`${path}.${file}`, "credentialName has it; keep one of the two");
  if (mode === "SIMPLE" && tls.insecureSkipVerify === true)
    add(`${path}.insecureSkipVerify`, "has nobody look at the authorities of credentialName; keep one of the two");
}

const waitingOfInstance = "weft.dev/instance-max-pending-requests";

function annotationRules(rule: DestinationRuleObject, add: Add): void {
  const words = rule.metadata.annotations ?? {};
  const at = (name: string) => `metadata.annotations["${name}"]`;
  const balancer = words[ruleAnnotations.loadBalancer];
  if (balancer !== undefined && !(ownBalancers as readonly string[]).includes(balancer))
    add(at(ruleAnnotations.loadBalancer), `${show(balancer)} must be one of ${ownBalancers.join(", ")}`);
  const policies = [rule.spec?.trafficPolicy, ...(rule.spec?.subsets ?? []).map((subset) => subset.trafficPolicy)];
  if (
    balancer !== undefined &&
    policies.some((each) => [each, ...(each?.portLevelSettings ?? [])].some((one) => hasBalancer(one?.loadBalancer)))
  )
    add(at(ruleAnnotations.loadBalancer), "stands in the place of loadBalancer.simple and consistentHash; remove those");
  const heed = words[ruleAnnotations.heedRateLimits];
  if (heed !== undefined && heed !== "true" && heed !== "false")
    add(at(ruleAnnotations.heedRateLimits), `${show(heed)} must be "true" or "false"`);
  for (const name of [ruleAnnotations.instanceRequests, ruleAnnotations.instanceConnections, ruleAnnotations.instanceRetries]) {
    const limit = words[name];
    if (limit !== undefined && !/^[1-9]\d{0,8}$/.test(limit)) add(at(name), `${show(limit)} must be a whole number above 0`);
  }
  if (words[waitingOfInstance] !== undefined)
    add(
      at(waitingOfInstance),
      "requests wait for the service, not for one instance: use trafficPolicy.connectionPool.http.http1MaxPendingRequests",
    );
  const factor = words[ruleAnnotations.latencyFactor];
  if (factor !== undefined && !(Number(factor) > 1 && Number(factor) <= 1_000))
    add(at(ruleAnnotations.latencyFactor), `${show(factor)} must be a number above 1`);
  for (const by of ["successRate", "failurePercentage"] as const) {
    const text = words[ruleAnnotations[by]];
    const read = text === undefined ? undefined : parseOutliers(text, by);
    if (typeof read === "string") add(at(ruleAnnotations[by]), `${show(text)}: ${read}`);
  }
  const check = words[ruleAnnotations.healthCheck];
  const parsed = check === undefined ? undefined : parseHealthCheck(check);
  if (typeof parsed === "string") add(at(ruleAnnotations.healthCheck), `${show(check)}: ${parsed}`);
}

function hasBalancer(balancer: LoadBalancer | undefined): boolean {
  return balancer !== undefined && ((balancer.simple ?? "UNSPECIFIED") !== "UNSPECIFIED" || balancer.consistentHash !== undefined);
}
