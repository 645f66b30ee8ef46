// Owns: what one proxy holds: which of the shared resources, by its plan. In parts that change for different reasons, so that a new route table does not
// make listeners again, nor a new endpoint tables. Everything here is derived.

import { speaksHttp } from "../api/kinds/service.ts";
import { clusterDomain, clusterHost, httpProxyRoutes } from "../wire/names.ts";
import { demandedHost, type XdsResource, type XdsSnapshot } from "../wire/xds-types.ts";
import { callerOf } from "./plan/caller.ts";
import { anyWildcards, isVisible } from "./plan/external.ts";
import type { LimitsPlan } from "./plan/limits.ts";
import { clusterOfAuthority, planTargets, targetPlan } from "./plan/mesh.ts";
import type { WorkloadPlan } from "./plan/plan.ts";
import { planWorkload } from "./plan/workload.ts";
import { forCaller, ruleCaller } from "./policies/destinationrule.ts";
import { gatewayPlan } from "./policies/gateway-plan.ts";
import { asksOthers, audienceOf } from "./policies/httproute.ts";
import { gatewayLimits } from "./policies/limits.ts";
import { mayKnow, reachesOthers, restriction } from "./policies/sidecar.ts";
import {
  clusterResource,
  clustersOfConnections,
  clustersOfPort,
  demandedHostOf,
  endpointResource,
  externalHosts,
  forwardProxyResource,
  gatewayPortResource,
  gatewayTable,
  inboundClusterResource,
  inboundResource,
  passthroughHostOf,
  passthroughResource,
  proxyTable,
  restrictedTable,
  upstreamResource,
  upstreamTable,
  wholeProxyTable,
} from "./resources.ts";
import { JoinedMap, OpenSnapshotError, sameMap } from "./snapshot.ts";
import { compareText, derived, equal, type World } from "./world.ts";

type Resources = ReadonlyMap<string, XdsResource>;

/** By `NS/NAME`; undefined = there is no such workload. */
export const workloadPlan = derived<WorkloadPlan | undefined>((world, key) => {
  const workload = world.workloads.get(key);
  return workload === undefined ? undefined : planWorkload(world, planTargets(world), workload);
}, equal);

/** Of the plan alone, but for the ports of a gateway: listeners, and the clusters that are no service's. */
interface Opened {
  readonly listeners: Resources;
  readonly inbound: Resources;
}

const openedBy = derived<Opened | undefined>(
  (world, key) => {
    const plan = workloadPlan(world, key);
    if (plan === undefined) return undefined;
    const [listener, inbound] = [new Map<string, XdsResource>(), new Map<string, XdsResource>()];
    const auth = asksOthers(world, "") ? { auth: true as const } : {};
    for (const port of plan.inbound) {
      put(inbound, inboundClusterResource(world, { appPort: port.appPort, protocol: port.protocol, services: port.services }));
      // The services are named by the cluster's metadata; the listener says nothing of them.
      put(listener, inboundResource(world, { port: { ...port, services: [] }, trustDomain: world.trustDomain, log: plan.accessLog }));
    }
    if (plan.httpProxyPort !== undefined)
      put(
        listener,
        forwardProxyResource(world, {
          port: plan.httpProxyPort,
          log: plan.accessLog,
          onDemand: plan.usesOthers === true,
          names: reachesOthers(world, key) || anyWildcards(world, ""),
          ...auth,
        }),
      );
    if (plan.httpProxyPort !== undefined && reachesOthers(world, key)) put(inbound, passthroughResource(world, {}));
    for (const upstream of plan.upstreams) put(listener, upstreamResource(world, { upstream, log: plan.accessLog, ...auth }));
    if (plan.gateway !== undefined) {
      const { gateway, address, authz } = plan.gateway;
      const limits = gatewayLimits(world, gateway);
      const limited = limits.rates === undefined ? {} : { limits };
      const served = gatewayPlan(world, gateway);
      const believed = served?.trustedProxies === undefined ? {} : { trustedProxies: served.trustedProxies };
      for (const port of served?.ports ?? []) {
        const rules = authz[port.port] ?? { deny: [], allow: null };
        put(
          listener,
          gatewayPortResource(world, {
            plan: port,
            address,
            authz: rules,
            ...limited,
            ...auth,
            ...believed,
            logToStdout: plan.accessLog.server,
          }),
        );
      }
    }
    return { listeners: sorted(listener), inbound: sorted(inbound) };
  },
  (a, b) => a !== undefined && b !== undefined && sameMap(a.listeners, b.listeners) && sameMap(a.inbound, b.inbound),
);

/** Where a proxy leads: route tables, and the clusters behind them and behind ports without tables. */
interface Led {
  readonly routes: Resources;
  /** Sorted; null = all there are. */
  readonly outbound: readonly string[] | null;
  readonly hosts?: Demanded;
}

/** Virtual hosts that a proxy has asked for one by one. */
type Demanded = NonNullable<XdsSnapshot["hosts"]>;

const ledBy = derived<Led | undefined>(
  (world, key) => {
    const plan = workloadPlan(world, key);
    if (plan === undefined) return undefined;
    const caller = callerOf(world, key);
    const route = new Map<string, XdsResource>();
    const outbound = new Set<string>();
    const lead = (table: { readonly value: XdsResource; readonly clusters: readonly string[] }) => {
      put(route, table.value);
      for (const each of table.clusters) outbound.add(each);
    };
    const asked = askedBy(world, plan);
    const restricted = restriction(world, key);
    if (plan.httpProxyPort !== undefined) {
      const open = reachesOthers(world, key);
      if (plan.usesOthers === true) lead(proxyTable(world, caller, usedBy(world, plan, plan.uses ?? []), "asked"));
      else if (asked !== undefined) lead(proxyTable(world, caller, usedBy(world, plan, asked), open ? "passthrough" : "unused"));
      else if (restricted !== undefined) lead(restrictedTable(world, `${open ? "passthrough" : "hidden"}\n${caller}\n${restricted}`));
      else put(route, wholeProxyTable(world, `${open ? "passthrough" : "unknown"} ${caller}`));
    }
    for (const upstream of plan.upstreams) {
      const { cluster, port } = upstream.target;
      outbound.add(cluster);
      for (const each of clustersOfConnections(upstream)) outbound.add(each);
      if (!speaksHttp(port.protocol)) continue;
      const table = upstreamTable(world, `${audienceOf(world, cluster, caller)} ${ruleCaller(world, caller)} ${cluster}`);
      if (table === undefined) throw new OpenSnapshotError(`listener ${upstream.name} of ${key} has no routes`);
      lead(table);
    }
    // A reference that leads nowhere names a cluster that there is not.
    const askLimits = (limits: LimitsPlan | undefined) => {
      const cluster = limits?.rates?.service?.cluster;
      if (cluster !== undefined && planTargets(world).has(cluster)) outbound.add(cluster);
    };
    for (const { limits } of plan.inbound) askLimits(limits);
    if (plan.gateway !== undefined) {
      const { gateway } = plan.gateway;
      const served = gatewayPlan(world, gateway);
      askLimits(gatewayLimits(world, gateway));
      for (const port of served?.ports ?? []) for (const each of clustersOfPort(port)) outbound.add(each);
      for (const { name } of served?.tables ?? []) {
        const table = gatewayTable(world, `${gateway} ${name}`);
        if (table !== undefined) lead(table);
      }
    }
    const hosts = plan.usesOthers === true ? demandedBy(world, plan, outbound) : undefined;
    const whole = plan.httpProxyPort !== undefined && asked === undefined && restricted === undefined;
    return {
      routes: sorted(route),
      outbound: whole ? null : [...outbound].sort(),
      ...(hosts === undefined ? {} : { hosts }),
    };
  },
  (a, b) =>
    a !== undefined && b !== undefined && sameMap(a.routes, b.routes) && equal(a.outbound, b.outbound) && sameHosts(a.hosts, b.hosts),
);

function sameHosts(a: Demanded | undefined, b: Demanded | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && equal(a.asked, b.asked) && sameMap(a.found, b.found));
}

/** The virtual hosts of the names that a proxy asks for; adds the clusters that they lead to. Names that its table has already are not given twice. */
function demandedBy(world: World, { workload, uses = [], upstreams }: WorkloadPlan, outbound: Set<string>): Demanded {
  const { key, namespace } = workload;
  const found = new Map<string, XdsResource>();
  const asked = world.demanded(key) ?? [];
  const given = new Set(upstreams.map(({ target }) => target.cluster));
  for (const name of uses) {
    const cluster = clusterOfAuthority(world, namespace, name);
    if (cluster !== undefined) given.add(cluster);
  }
  for (const host of asked) {
    const cluster = clusterOfDemand(world, namespace, host);
    if (cluster === undefined && reachesOthers(world, key) && !host.split(":")[0]?.endsWith(`.${clusterDomain}`)) {
      const other = passthroughHostOf(world, host);
      found.set(other.name, other);
      continue;
    }
    const made =
      cluster === undefined || given.has(cluster) || !mayKnow(world, key, cluster)
        ? undefined
        : demandedHostOf(world, callerOf(world, key), cluster, host);
    if (made === undefined) continue;
    found.set(made.value.name, made.value);
    for (const each of made.clusters) outbound.add(each);
  }
  return { asked: asked.map((host) => demandedHost(httpProxyRoutes, host)), found };
}

/** Where a host leads that a proxy asks for: a service, or a host outside the mesh that the namespace may see. */
function clusterOfDemand(world: World, namespace: string, host: string): string | undefined {
  const own = clusterOfAuthority(world, namespace, host);
  if (own !== undefined) return own;
  const known = externalHosts(world, "");
  const parts = host.split(".");
  // The name itself, then wildcards, the longest first.
  for (const name of [host, ...parts.slice(1).map((_, at) => `*.${parts.slice(at + 1).join(".")}`)]) {
    const found = known.get(name)?.find((cluster) => {
      const external = targetPlan(world, cluster)?.external;
      return external !== undefined && isVisible(external, namespace);
    });
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The tables alone: they stand still while hosts are asked for beside them. */
const routesOf = derived<Resources>((world, key) => ledBy(world, key)?.routes ?? new Map<string, XdsResource>(), sameMap);

/** The clusters alone: they stand still while tables change. */
const outboundOf = derived<readonly string[] | null>((world, key) => {
  const led = ledBy(world, key);
  return led === undefined ? [] : led.outbound;
}, equal);

/** Names that a workload declares to use or has asked for; undefined = it does neither, and its forward proxy knows the whole mesh. */
function askedBy(world: World, { workload, uses }: WorkloadPlan): readonly string[] | undefined {
  const asked = world.demanded(workload.key);
  return uses === undefined && asked === undefined ? undefined : [...(uses ?? []), ...(asked ?? [])];
}

/** Clusters behind a workload's upstreams and the names it asked for, sorted by name. */
function usedBy(world: World, plan: WorkloadPlan, asked: readonly string[]): readonly string[] {
  const names = new Set(plan.upstreams.map(({ target }) => target.cluster));
  for (const authority of asked) {
    const cluster = clusterOfAuthority(world, plan.workload.namespace, authority);
    if (cluster !== undefined && mayKnow(world, plan.workload.key, cluster)) names.add(cluster);
  }
  return [...names].sort();
}

/** What a workload's proxy leads to, for words about it: clusters it holds, and those with routes of their own; null = the whole mesh. */
export function reachOf(world: World, key: string): { readonly holds: readonly string[]; readonly routes: readonly string[] } | null {
  const [outbound, plan] = [outboundOf(world, key), workloadPlan(world, key)];
  if (plan === undefined) return { holds: [], routes: [] };
  return outbound === null ? null : { holds: outbound, routes: usedBy(world, plan, askedBy(world, plan) ?? []) };
}

/** Of the whole mesh: one map for all workloads that hold it and are told the same. By `ruleCaller`. */
const allClusterResources = derived<Resources>(
  (world, rules) => resourcesOf(world, clusterResource, [...planTargets(world).keys()].sort(), rules),
  sameMap,
);
const allEndpointResources = derived<Resources>(
  (world, rules) => resourcesOf(world, endpointResource, [...planTargets(world).keys()].sort(), rules),
  sameMap,
);

const clustersOf = derived<Resources>((world, key) => {
  const inbound = openedBy(world, key)?.inbound ?? new Map<string, XdsResource>();
  const outbound = outboundOf(world, key);
  const rules = ruleCaller(world, callerOf(world, key));
  if (outbound === null) return new JoinedMap(inbound, allClusterResources(world, rules));
  return new Map([...inbound, ...resourcesOf(world, clusterResource, outbound, rules)]);
}, sameMap);

const endpointsOf = derived<Resources>((world, key) => {
  const outbound = outboundOf(world, key);
  const rules = ruleCaller(world, callerOf(world, key));
  return outbound === null ? allEndpointResources(world, rules) : resourcesOf(world, endpointResource, outbound, rules);
}, sameMap);

/** Everything that a workload's proxy should hold, by `NS/NAME`; undefined = there is no such workload. */
export const snapshotOf = derived<XdsSnapshot | undefined>(
  (world, key) => {
    const [opened, led] = [openedBy(world, key), ledBy(world, key)];
    if (opened === undefined || led === undefined) return undefined;
    return {
      workload: key,
      resources: {
        cluster: clustersOf(world, key),
        endpoint: endpointsOf(world, key),
        listener: opened.listeners,
        route: routesOf(world, key),
      },
      ...(led.hosts === undefined ? {} : { hosts: led.hosts }),
    };
  },
  (a, b) =>
    a !== undefined &&
    b !== undefined &&
    sameHosts(a.hosts, b.hosts) &&
    (["cluster", "endpoint", "listener", "route"] as const).every((type) => sameMap(a.resources[type], b.resources[type])),
);

/** What some names need that a workload does not hold: clusters with their endpoints. A name is a cluster's, or `HOST[:PORT]`; unknown ones are left out. */
export function resourcesFor(
  world: World,
  workload: string,
  names: Iterable<string>,
): Pick<XdsSnapshot["resources"], "cluster" | "endpoint"> {
  const namespace = workload.slice(0, workload.indexOf("/"));
  const caller = callerOf(world, workload);
  const rules = ruleCaller(world, caller);
  const found = new Set<string>();
  for (const name of names) {
    const cluster = name.includes("|") ? name : clusterOfAuthority(world, namespace, name);
    if (cluster === undefined || !planTargets(world).has(cluster) || !mayKnow(world, workload, cluster)) continue;
    found.add(cluster);
    const table = upstreamTable(world, `${audienceOf(world, cluster, caller)} ${rules} ${cluster}`);
    for (const each of table?.clusters ?? []) found.add(each);
  }
  const sortedNames = [...found].sort();
  return {
    cluster: resourcesOf(world, clusterResource, sortedNames, rules),
    endpoint: resourcesOf(world, endpointResource, sortedNames, rules),
  };
}

function resourcesOf(
  world: World,
  read: (world: World, text: string) => XdsResource | undefined,
  names: readonly string[],
  rules: string,
): Resources {
  const out = new Map<string, XdsResource>();
  for (const name of names) {
    const resource = read(world, rules === "" ? name : forCaller(world, rules, clusterHost(name), name));
    if (resource === undefined) throw new OpenSnapshotError(`cluster ${name} is named and not there`);
    out.set(name, resource);
  }
  return out;
}

function put(map: Map<string, XdsResource>, resource: XdsResource): void {
  map.set(resource.name, resource);
}

function sorted(map: Map<string, XdsResource>): Resources {
  return new Map([...map.entries()].sort(([a], [b]) => compareText(a, b)));
}
