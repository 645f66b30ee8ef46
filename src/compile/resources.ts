// Owns: from plans to encoded resources, each made once and shared by all proxies that hold it (./layout.ts says which). Everything here is derived:
// made anew only when something it was made from has changed. The emitters see a plan and nothing else.

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { speaksHttp } from "../api/kinds/service.ts";
import { ClusterSchema } from "../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterLoadAssignmentSchema } from "../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { ListenerSchema } from "../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import {
  clusterHost,
  gatewayListener,
  httpProxyListener,
  httpProxyRoutes,
  inboundCluster,
  inboundListener,
  passthroughCluster,
  upstreamListener,
} from "../wire/names.ts";
import { demandedHost, type XdsResource, type XdsType } from "../wire/xds-types.ts";
import * as clusters from "./emit/cluster.ts";
import { loadAssignment } from "./emit/endpoint.ts";
import { type GatewayPortInput, gatewayPort } from "./emit/gateway.ts";
import * as listeners from "./emit/listener.ts";
import {
  gatewayHostBytes,
  hiddenHostBytes,
  passthroughHostBytes,
  routeTableBytes,
  unknownHostBytes,
  unknownServiceBytes,
  unusedHostBytes,
  virtualHostBytes,
} from "./emit/route.ts";
import { callerNamespace } from "./plan/caller.ts";
import { isVisible } from "./plan/external.ts";
import type { GatewayPortPlan } from "./plan/gateways.ts";
import { planTargets, portPlan, targetPlan } from "./plan/mesh.ts";
import type { AccessLogPlan, InboundPlan, TargetPlan, UpstreamPlan } from "./plan/plan.ts";
import { type BackendPlan, defaultRetry, type HashPlan, noEdits, type RoutePlan } from "./plan/routes.ts";
import { forCaller, ruleCaller } from "./policies/destinationrule.ts";
import { gatewayPlan } from "./policies/gateway-plan.ts";
import { withHedge } from "./policies/hedging.ts";
import { audienceOf, routesFor } from "./policies/httproute.ts";
import { connectionsFor } from "./policies/layer4route.ts";
import { knownClusters } from "./policies/sidecar.ts";
import { OpenSnapshotError, resourceOfBytes, resourceOfMessage, sameResource } from "./snapshot.ts";
import { derived, equal, type World } from "./world.ts";

// ---- one resource ---------------------------------------------------------------------------------------------------------

/** A resource made from `input` alone: equal inputs are one resource, whoever asks. `input` is plain data; the maker gets a copy of it. */
function emitted<I, D extends DescMessage>(
  type: XdsType,
  schema: D,
  name: (input: I) => string,
  make: (input: I) => MessageShape<D>,
): (world: World, input: I) => XdsResource {
  const made = derived((_world, text) => {
    const input = JSON.parse(text) as I;
    return resourceOfMessage(type, name(input), schema, make(input));
  });
  return (world, input) => made(world, JSON.stringify(input));
}

export const inboundResource = emitted<{ port: InboundPlan; trustDomain: string; log: AccessLogPlan }, typeof ListenerSchema>(
  "listener",
  ListenerSchema,
  ({ port }) => inboundListener(port.name),
  ({ port, trustDomain, log }) => listeners.inbound(port, trustDomain, log.server),
);

export const inboundClusterResource = emitted<Pick<InboundPlan, "appPort" | "protocol" | "services">, typeof ClusterSchema>(
  "cluster",
  ClusterSchema,
  ({ appPort }) => inboundCluster(appPort),
  ({ appPort, protocol, services }) => clusters.inbound(appPort, protocol, services),
);

export const forwardProxyResource = emitted<
  { port: number; log: AccessLogPlan; onDemand: boolean; names: boolean; auth?: true },
  typeof ListenerSchema
>(
  "listener",
  ListenerSchema,
  () => httpProxyListener,
  ({ port, log, onDemand, names, auth }) => listeners.httpProxy(port, log.client, onDemand, names, auth),
);

export const upstreamResource = emitted<{ upstream: UpstreamPlan; log: AccessLogPlan; auth?: true }, typeof ListenerSchema>(
  "listener",
  ListenerSchema,
  ({ upstream }) => upstream.name,
  ({ upstream, log, auth }) => listeners.upstream(upstream, log.client, auth),
);

export const gatewayPortResource = emitted<GatewayPortInput, typeof ListenerSchema>(
  "listener",
  ListenerSchema,
  ({ plan }) => gatewayListener(plan.port, plan.kind === "udp" ? "udp" : "tcp"),
  gatewayPort,
);

/** By its name, or as `forCaller` says it. */
export const clusterResource = derived<XdsResource | undefined>((world, text) => {
  const plan = portPlan(world, text);
  return plan === undefined
    ? undefined
    : resourceOfMessage("cluster", plan.cluster, ClusterSchema, clusters.outbound(plan, world.trustDomain));
}, sameResource);

export const passthroughResource = emitted<Record<never, never>, typeof ClusterSchema>(
  "cluster",
  ClusterSchema,
  () => passthroughCluster,
  () => clusters.passthrough(),
);

/** By its cluster's name, or as `forCaller` says it. */
export const endpointResource = derived<XdsResource | undefined>((world, text) => {
  const plan = portPlan(world, text);
  // What DNS answers stands in the cluster itself.
  const known = plan?.external?.dns ? { ...plan, endpoints: [] } : plan;
  return known === undefined ? undefined : resourceOfMessage("endpoint", known.cluster, ClusterLoadAssignmentSchema, loadAssignment(known));
}, sameResource);

// ---- routes ---------------------------------------------------------------------------------------------------------------

/** A part of a table, or a table, with the clusters that it leads to. */
interface Leading<V> {
  readonly value: V;
  /** Sorted; all of them exist. */
  readonly clusters: readonly string[];
}

/** How a virtual host is reached: by any name (a local port of its own), or by those that lead to it from its own or from another namespace. */
type Reach = "any" | "own" | "foreign";

interface HostKey extends ToldKey {
  readonly cluster: string;
  readonly reach: Reach;
}

/** What a caller is told of a port. */
interface ToldKey {
  /** As `audienceOf` has it. */
  readonly audience: string;
  /** As `ruleCaller` has it: whose DestinationRules say what requests are hashed by. */
  readonly rules: string;
  /** Of a port of opaque bytes: what a tunnel leads to, where something else than the service. */
  readonly tunnel?: readonly BackendPlan[];
}

const virtualHost = derived<Leading<Uint8Array> | undefined>(
  (world, text) => {
    const { cluster, audience, reach, rules, tunnel } = JSON.parse(text) as HostKey;
    const target = targetPlan(world, cluster);
    if (target === undefined) return undefined;
    const any = { name: `${upstreamListener(target.service.host, target.port.port)}|any`, domains: ["*"] };
    const named = () => ({
      name: `${target.service.host}:${target.port.port}`,
      domains: domainsOf(target, reach === "own" ? "own" : "foreign"),
    });
    return makeHost(world, target, { audience, rules, ...(tunnel === undefined ? {} : { tunnel }) }, reach === "any" ? any : named());
  },
  (a, b) => equal(a, b),
);

function makeHost(
  world: World,
  target: TargetPlan,
  { audience, rules, tunnel }: ToldKey,
  named: { readonly name: string; readonly domains: readonly string[] },
): Leading<Uint8Array> {
  const { cluster } = target;
  const routes = speaksHttp(target.port.protocol) ? routesFor(world, cluster, audience) : tunnel && [tunnelRoute(tunnel)];
  const bytes = virtualHostBytes({ ...named, target, routes: routes?.map((route) => withKey(world, route, rules)) });
  return { value: bytes, clusters: [...new Set([cluster, ...leadTo(world, routes ?? [])])].sort() };
}

interface DemandedKey extends ToldKey {
  readonly cluster: string;
  readonly host: string;
}

/** A virtual host of the forward proxy's table, for the one name by which it was asked for. */
const demandedResource = derived<Leading<XdsResource> | undefined>(
  (world, text) => {
    const { cluster, host, ...told } = JSON.parse(text) as DemandedKey;
    const target = targetPlan(world, cluster);
    if (target === undefined) return undefined;
    // Envoy knows a virtual host by its name when it is to go again: it must be the resource's.
    const name = demandedHost(httpProxyRoutes, host);
    const made = makeHost(world, target, told, { name, domains: [host] });
    return { value: resourceOfBytes("host", name, made.value), clusters: made.clusters };
  },
  (a, b) => sameResource(a?.value, b?.value) && equal(a?.clusters, b?.clusters),
);

/** `host`: as a request has it, in lower case. undefined = the cluster is gone. */
export function demandedHostOf(world: World, caller: string, cluster: string, host: string): Leading<XdsResource> | undefined {
  const key: DemandedKey = { cluster, ...toldOf(world, cluster, caller), host };
  return demandedResource(world, JSON.stringify(key));
}

/** A host that nobody has made known, for a caller that may reach it. */
export const passthroughHostOf = derived<XdsResource>((_world, host) => {
  const name = demandedHost(httpProxyRoutes, host);
  return resourceOfBytes("host", name, passthroughHostBytes(name, host));
}, sameResource);

/** Hosts outside the mesh by the names that lead there: to a cluster for each entry that claims one. */
export const externalHosts = derived<ReadonlyMap<string, readonly string[]>>((world) => {
  const out = new Map<string, string[]>();
  for (const [cluster, target] of planTargets(world)) {
    if (target.external === undefined || target.subset !== undefined || target.port.protocol === "udp") continue;
    for (const name of domainsOf(target, "foreign")) {
      const known = out.get(name.toLowerCase());
      if (known === undefined) out.set(name.toLowerCase(), [cluster]);
      else known.push(cluster);
    }
  }
  return out;
}, equal);

function hostOf(world: World, cluster: string, caller: string, reach: Reach): Leading<Uint8Array> | undefined {
  const key: HostKey = { cluster, ...toldOf(world, cluster, caller), reach };
  return virtualHost(world, JSON.stringify(key));
}

function toldOf(world: World, cluster: string, caller: string): ToldKey {
  const told = { audience: audienceOf(world, cluster, caller), rules: ruleCaller(world, caller) };
  const tunnel = targetPlan(world, cluster)?.port.protocol === "tcp" ? connectionsFor(world, cluster, caller) : undefined;
  // Nobody sees the name in the handshake within a tunnel: what tells connections apart by it has no say.
  return tunnel === undefined || tunnel.byName !== undefined || tunnel.backends.length === 0 ? told : { ...told, tunnel: tunnel.backends };
}

/** All of a tunnel. */
function tunnelRoute(backends: readonly BackendPlan[]): RoutePlan {
  return {
    name: "tunnel",
    match: { path: { kind: "prefix", value: "/" }, method: undefined, headers: [], query: [] },
    action: { kind: "forward", backends, timeoutMs: 0, retry: defaultRetry },
    requestHeaders: noEdits,
    responseHeaders: noEdits,
  };
}

/** With the key that the route's first backend hashes by, unless the route says one itself. `rules`: as `ruleCaller` has it. */
function withKey(world: World, given: RoutePlan, rules: string): RoutePlan {
  const [first] = given.action.kind === "forward" ? given.action.backends : [];
  const route = withHedge(given, first === undefined ? undefined : targetPlan(world, first.cluster)?.hedgeAfterMs);
  const { action } = route;
  if (action.kind !== "forward" || action.hash !== undefined) return route;
  for (const { cluster } of action.backends) {
    const hash = hashOf(world, rules, cluster);
    if (hash !== undefined) return { ...route, action: { ...action, hash: [hash] } };
  }
  return route;
}

/** What requests to a cluster are hashed by where this caller calls. */
function hashOf(world: World, rules: string, cluster: string): HashPlan | undefined {
  const text = forCaller(world, rules, clusterHost(cluster), cluster);
  return text === cluster ? targetPlan(world, cluster)?.hash : portPlan(world, text)?.traffic.hash;
}

/** Every cluster that routes send requests to, those that are known to be missing left out. */
function leadTo(world: World, routes: readonly RoutePlan[]): string[] {
  const out: string[] = [];
  for (const { action, name, auth } of routes) {
    if (auth !== undefined) {
      if (!planTargets(world).has(auth.cluster))
        throw new OpenSnapshotError(`route ${name} asks cluster ${auth.cluster}, which is not there`);
      out.push(auth.cluster);
    }
    if (action.kind !== "forward") continue;
    for (const { cluster, missing } of [...action.backends, ...(action.mirrors ?? []).map((each) => ({ ...each, missing: false }))]) {
      const there = planTargets(world).has(cluster);
      if (there === missing)
        throw new OpenSnapshotError(
          `route ${name} names cluster ${cluster}, which is ${missing ? "there but must not be used" : "not there"}`,
        );
      if (!missing) out.push(cluster);
    }
  }
  return out;
}

/** Names that lead to a port; the short name is of one's own namespace only. */
function domainsOf({ service, port, isDefault, external }: TargetPlan, reach: "own" | "foreign"): string[] {
  if (external !== undefined) return [...(isDefault ? [service.host] : []), `${service.host}:${port.port}`];
  const names = [`${service.name}.${service.namespace}`, `${service.name}.${service.namespace}.svc`, service.host];
  if (reach === "own") names.unshift(service.name);
  const withPort = names.map((name) => `${name}:${port.port}`);
  return isDefault ? [...names, ...withPort] : withPort;
}

/** The table behind a fixed local port: whatever the host, one service. By audience, blank, `ruleCaller`, blank, cluster. */
export const upstreamTable = derived<Leading<XdsResource> | undefined>(
  (world, text) => {
    const [audience = "", rules = "", cluster = ""] = text.split(" ");
    const target = targetPlan(world, cluster);
    const key: HostKey = { cluster, audience, reach: "any", rules };
    const host = virtualHost(world, JSON.stringify(key));
    if (target === undefined || host === undefined) return undefined;
    const name = upstreamListener(target.service.host, target.port.port);
    return { value: resourceOfBytes("route", name, routeTableBytes(name, [host.value])), clusters: host.clusters };
  },
  (a, b) => sameResource(a?.value, b?.value) && equal(a?.clusters, b?.clusters),
);

/** What a forward proxy does with hosts that are not in its table: it asks for them, or answers. */
export type Others = "asked" | "unknown" | "unused" | "hidden" | "passthrough";

const othersBytes: Readonly<Record<Others, readonly Uint8Array[]>> = {
  asked: [],
  unknown: [unknownHostBytes],
  unused: [unusedHostBytes],
  hidden: [hiddenHostBytes],
  passthrough: [unknownServiceBytes, passthroughHostBytes("passthrough", "*")],
};

/** The forward proxy's table over the whole mesh: the same for all workloads that nothing tells apart. By `Others`, blank, caller. */
export const wholeProxyTable = derived<XdsResource>((world, text) => {
  const clusters = [...planTargets(world).keys()];
  const at = text.indexOf(" ");
  return proxyTable(world, text.slice(at + 1), clusters, text.slice(0, at) as Others).value;
}, sameResource);

/** The same over the services that a Sidecar lets its callers know. By `Others`, line break, caller, line break, what `restriction` says. */
export const restrictedTable = derived<Leading<XdsResource>>(
  (world, text) => {
    const [others = "", caller = "", restricted = ""] = text.split("\n");
    return proxyTable(world, caller, knownClusters(world, restricted), others as Others);
  },
  (a, b) => sameResource(a.value, b.value) && equal(a.clusters, b.clusters),
);

/** The same over the services that somebody uses, in the order given; what becomes of others `others` says. */
export function proxyTable(world: World, caller: string, ports: readonly string[], others: Others): Leading<XdsResource> {
  const namespace = callerNamespace(caller);
  const hosts: Uint8Array[] = [];
  const clusters: string[] = [];
  for (const cluster of ports) {
    const target = targetPlan(world, cluster);
    // A subset has no name of its own: routes lead there.
    if (target === undefined || target.port.protocol === "udp" || target.subset !== undefined) continue;
    if (target.external !== undefined && !isVisible(target.external, namespace)) continue;
    const host = hostOf(world, cluster, caller, target.service.namespace === namespace ? "own" : "foreign");
    if (host === undefined) continue;
    hosts.push(host.value);
    clusters.push(...host.clusters);
  }
  hosts.push(...othersBytes[others]);
  const bytes = routeTableBytes(httpProxyRoutes, hosts, false, others === "asked");
  return { value: resourceOfBytes("route", httpProxyRoutes, bytes), clusters };
}

/** A table of a gateway. By `NS/NAME` of the Gateway, blank, name of the table. */
export const gatewayTable = derived<Leading<XdsResource> | undefined>(
  (world, text) => {
    const at = text.indexOf(" ");
    const name = text.slice(at + 1);
    const plan = gatewayPlan(world, text.slice(0, at))?.tables.find((each) => each.name === name);
    if (plan === undefined) return undefined;
    const hosts = plan.hosts.map(({ domain, routes }) => ({
      domain,
      routes: routes.map((route) => withKey(world, route, ruleCaller(world, text.slice(0, text.indexOf("/"))))),
    }));
    const bytes = routeTableBytes(
      name,
      hosts.map(({ domain, routes }) => gatewayHostBytes(domain, routes)),
      true,
    );
    const clusters = [...new Set(hosts.flatMap(({ routes }) => leadTo(world, routes)))].sort();
    return { value: resourceOfBytes("route", name, bytes), clusters };
  },
  (a, b) => sameResource(a?.value, b?.value) && equal(a?.clusters, b?.clusters),
);

/** Clusters that a port of a gateway leads to without a table. */
export function clustersOfPort(port: GatewayPortPlan): string[] {
  const there = (backends: readonly BackendPlan[]) => backends.filter(({ missing }) => !missing).map(({ cluster }) => cluster);
  switch (port.kind) {
    case "udp":
      return [port.cluster];
    case "tcp":
      return [port, ...(port.subnets ?? [])].flatMap(({ backends }) => there(backends));
    case "tls":
      return port.chains.flatMap(({ to }) => (to.kind === "tcp" ? there(to.backends) : []));
    case "http":
      return [];
  }
}

/** Clusters that a local port leads to by layer 4 routes, its own left out. */
export function clustersOfConnections({ connections }: UpstreamPlan): string[] {
  const all = [...(connections?.backends ?? []), ...(connections?.byName ?? []).flatMap(({ backends }) => backends)];
  return all.filter(({ missing }) => !missing).map(({ cluster }) => cluster);
}
