// Owns: the part of the plan that all workloads share: every port of every service with its endpoints. Each port is planned alone, from what it reads.

import { accountsOfSlice, type EndpointSliceObject } from "../../api/kinds/endpointslice.ts";
import { parseInbound } from "../../api/kinds/workloadentry.ts";
import { matchesLabels } from "../../api/selector.ts";
import { annotations, clusterHost, outboundCluster, subsetCluster, tlsModeLabel, tlsModeMutual } from "../../wire/names.ts";
import { formatIdentity } from "../../wire/spiffe.ts";
import { backendTls } from "../policies/backendtlspolicy.ts";
import { datagramRefusal } from "../policies/datagrams.ts";
import { demandsMutualTls } from "../policies/demands-mutual-tls.ts";
import { audienceAndName, rulesOf, subsetNames, subsetOf, trafficPlan } from "../policies/destinationrule.ts";
import { hedgeAfterMs } from "../policies/hedging.ts";
import { mutualTlsMode } from "../policies/peerauthentication.ts";
import { serviceSource } from "../sources.ts";
import {
  compareText,
  derived,
  equal,
  keyOf,
  resolvePort,
  type ServiceModel,
  type ServicePortModel,
  serviceRef,
  View,
  type WorkloadModel,
  type World,
} from "../world.ts";
import { topologyLabels } from "./caller.ts";
import { externalClusters, externalEndpoints, externalNames, externalPlan, externalService } from "./external.ts";
import type { EndpointPlan, PortPlan, TargetPlan, WithheldPlan } from "./plan.ts";
import type { LocalityPlan, TrafficPlan } from "./traffic.ts";

/** Cluster id in metrics and endpoint metadata. */
export const clusterId = "weft";

/** Every port, without endpoints: for whoever leads to a port and need not know who stands behind it. */
export function planTargets(world: World): ReadonlyMap<string, TargetPlan> {
  return new View(
    (cluster) => targetPlan(world, cluster),
    () => allClusters(world, ""),
  );
}

/** The service whose cluster this is, by the host in its name. */
function serviceBehind(world: World, cluster: string): ServiceModel | undefined {
  const host = clusterHost(cluster);
  const [key] = host === undefined ? [] : world.objects(serviceSource).keys("host", host);
  if (key !== undefined) return world.services.get(key);
  return host === undefined ? undefined : externalService(world, host);
}

/** Of a service by its key: its ports' clusters. */
export const clustersOf = derived<readonly string[]>((world, key) => {
  const service = world.services.get(key);
  if (service === undefined) return [];
  const subsets = subsetNames(world, service.host);
  return [...service.ports]
    .sort((a, b) => a.port - b.port)
    .flatMap((port) => [
      clusterOf(service, port),
      ...(port.protocol === "udp" ? [] : subsets.map((subset) => subsetCluster(port.port, subset, service.host))),
    ]);
}, equal);

const allClusters = derived<readonly string[]>(
  (world) => [...new Set([...world.services.keys()].flatMap((key) => clustersOf(world, key))), ...externalClusters(world, "")],
  equal,
);

function clusterOf(service: ServiceModel, port: ServicePortModel): string {
  return outboundCluster(port.port, service.host, port.protocol === "udp" ? "udp" : "tcp");
}

/** By cluster name. */
export const targetPlan = derived<TargetPlan | undefined>((world, cluster) => {
  const service = serviceBehind(world, cluster);
  if (service === undefined) return undefined;
  const [, , word = ""] = cluster.split("|");
  const subset = word === "udp" ? "" : word;
  const plain = subset === "" ? cluster : cluster.replace(`|${subset}|`, "||");
  const port = service.ports.findLast((each) => clusterOf(service, each) === plain);
  if (port === undefined || (subset !== "" && (port.protocol === "udp" || !subsetNames(world, service.host).includes(subset))))
    return undefined;
  const { hash, connections } = trafficPlan(world, service.host, port.port, subset);
  const connectionMs = port.protocol === "tcp" ? connections?.maxAgeMs : undefined;
  const hedge = world.services.has(service.key) ? hedgeAfterMs(world, `${service.key} ${port.name}`) : undefined;
  return {
    service: serviceRef(service),
    port,
    cluster,
    isDefault: subset === "" && service.defaultPort?.port === port.port,
    ...(subset === "" ? {} : { subset }),
    ...(hash === undefined ? {} : { hash }),
    ...(connectionMs === undefined ? {} : { connectionMs }),
    ...(hedge === undefined ? {} : { hedgeAfterMs: hedge }),
    ...externally(world, service),
  };
}, equal);

function externally(world: World, { key, host }: ServiceModel): Pick<TargetPlan, "external"> {
  const external = world.services.has(key) ? undefined : externalPlan(world, host);
  return external === undefined ? {} : { external };
}

/** By cluster name, or as `forCaller` says it. */
export const portPlan = derived<PortPlan | undefined>((world, text) => {
  const [audience, cluster] = audienceAndName(text);
  const target = targetPlan(world, cluster);
  const service = target === undefined ? undefined : serviceBehind(world, cluster);
  if (target === undefined || service === undefined) return undefined;
  return target.port.protocol === "udp" ? planDatagrams(world, service, target) : planPort(world, service, target, audience);
}, equal);

/** Where `HOST` or `HOST:PORT` leads a caller of a namespace: HOST as in the forward proxy's table. undefined = no such service, or no such port. */
export function clusterOfAuthority(world: World, namespace: string, authority: string): string | undefined {
  const colon = authority.lastIndexOf(":");
  const host = colon < 0 ? authority : authority.slice(0, colon);
  const [name = "", within = namespace, ...rest] = host.split(".");
  const service = world.services.get(`${within}/${name}`);
  if (service === undefined || (rest.length > 0 && host !== service.host && host !== `${name}.${within}.svc`)) return undefined;
  const number = colon < 0 ? service.defaultPort?.port : Number(authority.slice(colon + 1));
  const port = service.ports.find((each) => each.port === number && each.protocol !== "udp");
  return port === undefined ? undefined : clusterOf(service, port);
}

/** `audience`: whose DestinationRules speak, as in `forCaller`; empty = those for everybody. */
function planPort(world: World, service: ServiceModel, target: TargetPlan, audience: string): PortPlan {
  const { port, subset } = target;
  const endpoints: EndpointPlan[] = [];
  const identities = new Set<string>();
  const demanded = demandsMutualTls(world, service.host, port.port, subset ?? "");
  const host = audience === "" ? service.host : `${audience}\u0000${service.host}`;
  const chosen = subset === undefined ? undefined : subsetOf(rulesOf(world, host), subset);
  const labels = chosen?.labels;
  const rules = trafficPlan(world, host, port.port, subset ?? "");
  for (const workload of service.workloads) {
    // A subset that no rule for these callers knows has no instances for them.
    if (subset !== undefined && (labels === undefined || !matchesLabels(labels, workload.labels))) continue;
    if (workload.mutualTls) identities.add(workload.identity);
    const endpoint = workloadEndpoint(world, workload, port, demanded);
    if (endpoint !== undefined) endpoints.push(ranked(endpoint, workload.labels, rules.locality));
  }
  // Who stands behind a slice has no labels, and so belongs to no subset.
  for (const slice of subset === undefined ? service.slices : []) {
    const mutualTls = hasMutualTls(slice);
    if (mutualTls)
      for (const serviceAccount of accountsOfSlice(slice))
        identities.add(formatIdentity({ trustDomain: world.trustDomain, namespace: service.namespace, serviceAccount }));
    const number = slicePort(slice, port);
    if (number !== undefined)
      endpoints.push(...sliceEndpoints(service, slice, number, mutualTls).map((each) => ranked(each, {}, rules.locality)));
  }
  if (target.external !== undefined && subset === undefined) {
    const own = externalEndpoints(world, service.host, port);
    endpoints.push(...own.endpoints.map((each) => ranked(each, {}, rules.locality)));
    for (const identity of own.identities) identities.add(identity);
  }
  const policy = target.external === undefined ? backendTls(world, `${service.key} ${port.name}`) : undefined;
  const named = target.external === undefined ? rules : withNames(rules, externalNames(world, service.host));
  const traffic = policy === undefined ? named : { ...named, backendTls: policy };
  const reached =
    policy?.kind === "closed"
      ? endpoints.filter(({ mutualTls }) => mutualTls)
      : policy === undefined && traffic.tls?.kind === "closed"
        ? []
        : endpoints;
  return { ...target, traffic, endpoints: withoutGaps(distinct(reached)), withheld: [], identities: [...identities].sort() };
}

/** Istio's failoverPriority: an instance that has all of the wanted labels is of priority 0, and of 1 more for each from the first on that it has not. */
function ranked(endpoint: EndpointPlan, own: Readonly<Record<string, string>>, locality: LocalityPlan | undefined): EndpointPlan {
  if (locality?.kind !== "labels") return endpoint;
  const labels = { ...topologyLabels(endpoint.locality), ...own };
  const { wanted } = locality;
  const at = wanted.findIndex(([name, value]) => labels[name] !== value);
  return at < 0 ? endpoint : { ...endpoint, priority: wanted.length - at };
}

/** Envoy takes no priorities with one left out between them. */
function withoutGaps(endpoints: readonly EndpointPlan[]): readonly EndpointPlan[] {
  const ranks = [...new Set(endpoints.map(({ priority = 0 }) => priority))].sort((a, b) => a - b);
  if (ranks.every((rank, at) => rank === at)) return endpoints;
  return endpoints.map(({ priority = 0, ...each }) => {
    const rank = ranks.indexOf(priority);
    return rank === 0 ? each : { ...each, priority: rank };
  });
}

/** A rule that begins TLS and names nobody asks for the names of the ServiceEntry, as in Istio. */
function withNames(rules: TrafficPlan, names: readonly string[]): TrafficPlan {
  const { tls } = rules;
  if (tls?.kind !== "tls" || tls.names.length > 0 || names.length === 0) return rules;
  return { ...rules, tls: { ...tls, names: [...names].sort() } };
}

/** Datagrams go to the application itself, in plain text and without a caller's name: nobody gets them whose policies say otherwise. */
function planDatagrams(world: World, service: ServiceModel, target: TargetPlan): PortPlan {
  const { port } = target;
  const endpoints: EndpointPlan[] = [];
  const withheld: WithheldPlan[] = [];
  for (const workload of service.workloads) {
    const target = datagramPort(workload, port);
    if (target === undefined || workload.entry.spec.address === undefined) continue;
    const refusal = datagramRefusal(world, workload, workload.mutualTls, target);
    if (refusal !== undefined) withheld.push({ name: workload.key, appPort: target, refusal });
    else if (isReachable(workload)) endpoints.push(endpointOf(workload, workload.entry.spec.address, target, false));
  }
  for (const slice of service.slices) {
    const number = slicePort(slice, port);
    if (number === undefined) continue;
    // Who stands behind a slice has no labels here: what speaks about the whole namespace counts.
    const refusal = datagramRefusal(world, { namespace: service.namespace, labels: {} }, hasMutualTls(slice), number);
    if (refusal !== undefined) withheld.push({ name: `EndpointSlice ${keyOf(slice)}`, appPort: number, refusal });
    else endpoints.push(...sliceEndpoints(service, slice, number, false));
  }
  return { ...target, traffic: {}, endpoints: distinct(endpoints), withheld, identities: [] };
}

/** Where the application takes datagrams; undefined = it is an instance of `weft run` that has no such port. */
function datagramPort(workload: WorkloadModel, port: ServicePortModel): number | undefined {
  const { name, number } = resolvePort(workload, port);
  if (name === undefined && workload.entry.metadata.annotations?.[annotations.health] === "reported") return undefined;
  return appPortOf(workload, name) ?? number;
}

function sliceEndpoints(service: ServiceModel, slice: EndpointSliceObject, port: number, mutualTls: boolean): EndpointPlan[] {
  return (slice.endpoints ?? [])
    .filter((endpoint) => endpoint.conditions?.ready !== false)
    .flatMap((endpoint) =>
      endpoint.addresses.map((address) => ({
        address,
        port,
        weight: 1,
        mutualTls,
        identity: "",
        workload: `;${service.namespace};${service.name};;${clusterId}`,
      })),
    );
}

/** A service port without name goes with a slice port without name, as in Kubernetes. */
function slicePort(slice: EndpointSliceObject, port: ServicePortModel): number | undefined {
  const udp = port.protocol === "udp";
  return slice.ports?.find((each) => (each.name ?? "") === port.name && (each.protocol === "UDP") === udp)?.port;
}

function hasMutualTls(slice: EndpointSliceObject): boolean {
  return slice.metadata.labels?.[tlsModeLabel] === tlsModeMutual;
}

function isReachable(workload: WorkloadModel): boolean {
  return workload.healthy && workload.entry.metadata.deletionTimestamp === undefined;
}

/** `demanded`: callers must use mutual TLS where the workload speaks it. */
function workloadEndpoint(world: World, workload: WorkloadModel, port: ServicePortModel, demanded: boolean): EndpointPlan | undefined {
  const { address } = workload.entry.spec;
  if (address === undefined || !isReachable(workload)) return undefined;
  const resolved = resolvePort(workload, port);
  const mode = workload.mutualTls ? mutualTlsMode(world, workload, appPortOf(workload, resolved.name)) : "DISABLE";
  const endpoint = endpointOf(workload, address, resolved.number, mode !== "DISABLE");
  return mode === "PERMISSIVE" && !demanded ? { ...endpoint, plainAllowed: true } : endpoint;
}

function endpointOf(workload: WorkloadModel, address: string, port: number, mutualTls: boolean): EndpointPlan {
  const { labels, name, namespace } = workload;
  const { weight, locality } = workload.entry.spec;
  return {
    address,
    port,
    // 0 is how protobuf spells "not set" (Istio: default 1).
    weight: weight === undefined || weight === 0 ? 1 : weight,
    mutualTls,
    ...(locality === undefined || locality === "" ? {} : { locality }),
    identity: mutualTls ? workload.identity : "",
    workload: `${name};${namespace};${labels.app ?? labels["app.kubernetes.io/name"] ?? ""};${labels.version ?? labels["app.kubernetes.io/version"] ?? ""};${clusterId}`,
  };
}

/** Where the application listens behind a port of its sidecar. */
/** Where the application behind a named port of a sidecar listens; undefined = no such port. */
export function appPortOf(workload: WorkloadModel, name: string | undefined): number | undefined {
  const parsed = parseInbound(workload.entry.metadata.annotations?.[annotations.inbound] ?? "");
  return typeof parsed === "string" ? undefined : parsed.find((each) => each.name === name)?.appPort;
}

/** Sorted by address and port; Envoy takes an address twice, but then counts it twice. The first by workload stays. */
function distinct(endpoints: EndpointPlan[]): EndpointPlan[] {
  const byAddress = new Map<string, EndpointPlan>();
  for (const endpoint of endpoints) {
    const key = `${endpoint.address} ${endpoint.port}`;
    if (!byAddress.has(key)) byAddress.set(key, endpoint);
  }
  return [...byAddress.entries()].sort(([a], [b]) => compareText(a, b)).map(([, endpoint]) => endpoint);
}
