// Owns: from plans to encoded resources, each made once and shared by all proxies that hold it (./layout.ts says which). Everything here is derived:
// made anew only when something it was made from has changed. The emitters see a plan and nothing else.

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { speaksHttp } from "../api/kinds/service.ts";
import { ClusterSchema } from "../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterLoadAssignmentSchema } from "../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { ListenerSchema } from "../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { gatewayListener, httpProxyListener, httpProxyRoutes, inboundCluster, inboundListener, upstreamListener } from "../wire/names.ts";
import type { XdsResource, XdsType } from "../wire/xds-types.ts";
import * as clusters from "./emit/cluster.ts";
import { loadAssignment } from "./emit/endpoint.ts";
import { type GatewayPortInput, gatewayPort } from "./emit/gateway.ts";
import * as listeners from "./emit/listener.ts";
import { gatewayHostBytes, routeTableBytes, unknownHostBytes, virtualHostBytes } from "./emit/route.ts";
import { isVisible } from "./plan/external.ts";
import type { GatewayPortPlan } from "./plan/gateways.ts";
import { planTargets, portPlan, targetPlan } from "./plan/mesh.ts";
import type { AccessLogPlan, InboundPlan, TargetPlan, UpstreamPlan } from "./plan/plan.ts";
import type { BackendPlan, RoutePlan } from "./plan/routes.ts";
import { gatewayPlan } from "./policies/gateway-plan.ts";
import { audienceOf, routesFor } from "./policies/httproute.ts";
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

export const forwardProxyResource = emitted<{ port: number; log: AccessLogPlan }, typeof ListenerSchema>(
  "listener",
  ListenerSchema,
  () => httpProxyListener,
  ({ port, log }) => listeners.httpProxy(port, log.client),
);

export const upstreamResource = emitted<{ upstream: UpstreamPlan; log: AccessLogPlan }, typeof ListenerSchema>(
  "listener",
  ListenerSchema,
  ({ upstream }) => upstream.name,
  ({ upstream, log }) => listeners.upstream(upstream, log.client),
);

export const gatewayPortResource = emitted<GatewayPortInput, typeof ListenerSchema>(
  "listener",
  ListenerSchema,
  ({ plan }) => gatewayListener(plan.port, plan.kind === "udp" ? "udp" : "tcp"),
  gatewayPort,
);

/** By its name. */
export const clusterResource = derived<XdsResource | undefined>((world, cluster) => {
  const plan = portPlan(world, cluster);
  return plan === undefined ? undefined : resourceOfMessage("cluster", cluster, ClusterSchema, clusters.outbound(plan, world.trustDomain));
}, sameResource);

/** By its cluster's name. */
export const endpointResource = derived<XdsResource | undefined>((world, cluster) => {
  const plan = portPlan(world, cluster);
  // What DNS answers stands in the cluster itself.
  const known = plan?.external?.dns ? { ...plan, endpoints: [] } : plan;
  return known === undefined ? undefined : resourceOfMessage("endpoint", cluster, ClusterLoadAssignmentSchema, loadAssignment(known));
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

interface HostKey {
  readonly cluster: string;
  /** As `audienceOf` has it. */
  readonly audience: string;
  readonly reach: Reach;
}

const virtualHost = derived<Leading<Uint8Array> | undefined>(
  (world, text) => {
    const { cluster, audience, reach } = JSON.parse(text) as HostKey;
    const target = targetPlan(world, cluster);
    if (target === undefined) return undefined;
    const routes = speaksHttp(target.port.protocol) ? routesFor(world, cluster, audience) : undefined;
    const named = `${target.service.host}:${target.port.port}`;
    const plan = {
      name: reach === "any" ? `${upstreamListener(target.service.host, target.port.port)}|any` : named,
      domains: reach === "any" ? ["*"] : domainsOf(target, reach),
      target,
      routes: routes?.map((route) => withKey(world, route)),
    };
    return { value: virtualHostBytes(plan), clusters: [...new Set([cluster, ...leadTo(world, routes ?? [])])].sort() };
  },
  (a, b) => equal(a, b),
);

function hostOf(world: World, cluster: string, namespace: string, reach: Reach): Leading<Uint8Array> | undefined {
  const key: HostKey = { cluster, audience: audienceOf(world, cluster, namespace), reach };
  return virtualHost(world, JSON.stringify(key));
}

/** With the key that the route's first backend hashes by, unless the route says one itself. */
function withKey(world: World, route: RoutePlan): RoutePlan {
  const { action } = route;
  if (action.kind !== "forward" || action.hash !== undefined) return route;
  for (const { cluster } of action.backends) {
    const hash = targetPlan(world, cluster)?.hash;
    if (hash !== undefined) return { ...route, action: { ...action, hash: [hash] } };
  }
  return route;
}

/** Every cluster that routes send requests to, those that are known to be missing left out. */
function leadTo(world: World, routes: readonly RoutePlan[]): string[] {
  const out: string[] = [];
  for (const { action, name } of routes) {
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

/** The table behind a fixed local port: whatever the host, one service. By audience, blank, cluster. */
export const upstreamTable = derived<Leading<XdsResource> | undefined>(
  (world, text) => {
    const at = text.indexOf(" ");
    const cluster = text.slice(at + 1);
    const target = targetPlan(world, cluster);
    const key: HostKey = { cluster, audience: text.slice(0, at), reach: "any" };
    const host = virtualHost(world, JSON.stringify(key));
    if (target === undefined || host === undefined) return undefined;
    const name = upstreamListener(target.service.host, target.port.port);
    return { value: resourceOfBytes("route", name, routeTableBytes(name, [host.value])), clusters: host.clusters };
  },
  (a, b) => sameResource(a?.value, b?.value) && equal(a?.clusters, b?.clusters),
);

/** The forward proxy's table over the whole mesh: the same for all workloads of a namespace. */
export const wholeProxyTable = derived<XdsResource>((world, namespace) => {
  const clusters = [...planTargets(world).keys()];
  return proxyTable(world, namespace, clusters, unknownHostBytes).value;
}, sameResource);

/** The same over the services that somebody uses, in the order given; names of others are answered as unknown. */
export function proxyTable(world: World, namespace: string, ports: readonly string[], others: Uint8Array): Leading<XdsResource> {
  const hosts: Uint8Array[] = [];
  const clusters: string[] = [];
  for (const cluster of ports) {
    const target = targetPlan(world, cluster);
    // A subset has no name of its own: routes lead there.
    if (target === undefined || target.port.protocol === "udp" || target.subset !== undefined) continue;
    if (target.external !== undefined && !isVisible(target.external, namespace)) continue;
    const host = hostOf(world, cluster, namespace, target.service.namespace === namespace ? "own" : "foreign");
    if (host === undefined) continue;
    hosts.push(host.value);
    clusters.push(...host.clusters);
  }
  hosts.push(others);
  return { value: resourceOfBytes("route", httpProxyRoutes, routeTableBytes(httpProxyRoutes, hosts)), clusters };
}

/** A table of a gateway. By `NS/NAME` of the Gateway, blank, name of the table. */
export const gatewayTable = derived<Leading<XdsResource> | undefined>(
  (world, text) => {
    const at = text.indexOf(" ");
    const name = text.slice(at + 1);
    const plan = gatewayPlan(world, text.slice(0, at))?.tables.find((each) => each.name === name);
    if (plan === undefined) return undefined;
    const hosts = plan.hosts.map(({ domain, routes }) => ({ domain, routes: routes.map((route) => withKey(world, route)) }));
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
      return there(port.backends);
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
