// Owns: the whole way from objects to what every proxy should hold, and to what every object's status should say. Pure: no clock, no I/O, no
// memory of earlier runs. The same objects in any order give the same bytes.

import { ClusterSchema } from "../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterLoadAssignmentSchema } from "../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { ListenerSchema } from "../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { httpProxyListener, httpProxyRoutes, inboundCluster, inboundListener, upstreamListener } from "../wire/names.ts";
import type { XdsResource, XdsSnapshot } from "../wire/xds-types.ts";
import * as clusters from "./emit/cluster.ts";
import { loadAssignment } from "./emit/endpoint.ts";
import * as listeners from "./emit/listener.ts";
import { routeTableBytes, unknownHostBytes, virtualHostBytes } from "./emit/route.ts";
import { planPorts } from "./plan/mesh.ts";
import type { InboundPlan, PortPlan, WorkloadPlan } from "./plan/plan.ts";
import { planWorkload } from "./plan/workload.ts";
import { foldRoutes, type RouteFold } from "./policies/httproute.ts";
import { checkBackends, checkClosed, JoinedMap, type References, resourceOfBytes, resourceOfMessage } from "./snapshot.ts";
import { type StatusPatch, statuses } from "./status.ts";
import { compareText, type World } from "./world.ts";

export type { StatusPatch } from "./status.ts";
export { buildWorld, type World } from "./world.ts";

export interface Compiled {
  /** By `NS/NAME` of the WorkloadEntry. */
  readonly snapshots: ReadonlyMap<string, XdsSnapshot>;
  readonly statuses: readonly StatusPatch[];
}

/** Throws OpenSnapshotError only for a bug of the compiler itself. */
export function compileAll(world: World): Compiled {
  const ports = planPorts(world);
  const routes = foldRoutes(world, ports);
  const shared = new SharedResources(world, ports, routes);
  const plans: WorkloadPlan[] = [];
  const snapshots = new Map<string, XdsSnapshot>();
  for (const workload of world.workloads.values()) {
    const plan = planWorkload(world, ports, workload);
    plans.push(plan);
    snapshots.set(workload.key, shared.snapshot(plan));
  }
  return { snapshots, statuses: statuses(world, routes, plans) };
}

/** Resources that several workloads hold, each encoded once in a compile. */
class SharedResources {
  readonly #world: World;
  readonly #ports: ReadonlyMap<string, PortPlan>;
  readonly #routes: RouteFold;
  readonly #clusters = new Map<string, XdsResource>();
  readonly #endpoints = new Map<string, XdsResource>();
  readonly #inboundClusters = new Map<string, XdsResource>();
  readonly #tables = new Map<string, XdsResource>();
  readonly #virtualHosts = new Map<string, Uint8Array>();

  constructor(world: World, ports: ReadonlyMap<string, PortPlan>, routes: RouteFold) {
    this.#world = world;
    this.#ports = ports;
    this.#routes = routes;
    for (const plan of [...ports.values()].sort((a, b) => compareText(a.cluster, b.cluster))) {
      this.#clusters.set(
        plan.cluster,
        resourceOfMessage("cluster", plan.cluster, ClusterSchema, clusters.outbound(plan, world.trustDomain)),
      );
      this.#endpoints.set(plan.cluster, resourceOfMessage("endpoint", plan.cluster, ClusterLoadAssignmentSchema, loadAssignment(plan)));
    }
  }

  snapshot(plan: WorkloadPlan): XdsSnapshot {
    const { workload, accessLog } = plan;
    const listener = new Map<string, XdsResource>();
    const route = new Map<string, XdsResource>();
    const own = new Map<string, XdsResource>();
    const references: References[] = [];
    const listen = (resource: XdsResource, needs: References) => {
      listener.set(resource.name, resource);
      references.push(needs);
    };
    for (const port of plan.inbound) {
      const cluster = this.#inboundCluster(port);
      own.set(cluster.name, cluster);
      listen(
        resourceOfMessage(
          "listener",
          inboundListener(port.name),
          ListenerSchema,
          listeners.inbound(port, this.#world.trustDomain, accessLog.server),
        ),
        { clusters: [cluster.name] },
      );
    }
    if (plan.httpProxyPort !== undefined) {
      listen(resourceOfMessage("listener", httpProxyListener, ListenerSchema, listeners.httpProxy(plan.httpProxyPort, accessLog.client)), {
        routes: [httpProxyRoutes],
      });
      route.set(httpProxyRoutes, this.#proxyTable(workload.namespace));
    }
    for (const upstream of plan.upstreams) {
      const { target } = upstream;
      const http = target.port.protocol === "http";
      const table = upstreamListener(target.service.host, target.port.port);
      listen(
        resourceOfMessage("listener", upstream.name, ListenerSchema, listeners.upstream(upstream, accessLog.client)),
        http ? { routes: [table] } : { clusters: [target.cluster] },
      );
      if (http) route.set(table, this.#upstreamTable(table, target, workload.namespace));
    }
    const snapshot: XdsSnapshot = {
      workload: workload.key,
      resources: {
        cluster: new JoinedMap(own, this.#clusters),
        endpoint: this.#endpoints,
        listener: sorted(listener),
        route: sorted(route),
      },
    };
    checkClosed(snapshot, references);
    return snapshot;
  }

  #inboundCluster(plan: InboundPlan): XdsResource {
    const name = inboundCluster(plan.appPort);
    return cached(this.#inboundClusters, `${name} ${plan.services.map((service) => service.key).join(" ")}`, () =>
      resourceOfMessage("cluster", name, ClusterSchema, clusters.inbound(plan.appPort, plan.services)),
    );
  }

  /** The forward proxy's table: the same for all workloads of a namespace. */
  #proxyTable(namespace: string): XdsResource {
    return cached(this.#tables, namespace, () => {
      const hosts: Uint8Array[] = [];
      for (const target of this.#ports.values())
        hosts.push(
          this.#virtualHost(
            `${target.service.host}:${target.port.port}`,
            domainsOf(target, namespace),
            target,
            namespace,
            namespace === target.service.namespace,
          ),
        );
      hosts.push(unknownHostBytes);
      return resourceOfBytes("route", httpProxyRoutes, routeTableBytes(httpProxyRoutes, hosts));
    });
  }

  /** The table behind a fixed local port: whatever the host, one service. */
  #upstreamTable(name: string, target: PortPlan, namespace: string): XdsResource {
    const audience = this.#routes.isConsumer(target.cluster, namespace) ? namespace : "";
    return cached(this.#tables, `${audience} ${name}`, () =>
      resourceOfBytes("route", name, routeTableBytes(name, [this.#virtualHost(`${name}|any`, ["*"], target, namespace, false)])),
    );
  }

  #virtualHost(name: string, domains: readonly string[], target: PortPlan, namespace: string, near: boolean): Uint8Array {
    const audience = this.#routes.isConsumer(target.cluster, namespace) ? namespace : "";
    return cached(this.#virtualHosts, `${audience} ${near ? "near" : "far"} ${name}`, () => {
      const routes = target.port.protocol === "http" ? this.#routes.routesFor(target.cluster, namespace) : undefined;
      for (const { action, name: route } of routes ?? []) {
        if (action.kind === "forward") checkBackends(route, action.backends, this.#clusters);
      }
      return virtualHostBytes({ name, domains, target, routes });
    });
  }
}

/** Names that lead to a port, for callers of `namespace`; the short name is of one's own namespace only. */
function domainsOf({ service, port }: PortPlan, namespace: string): string[] {
  const names = [`${service.name}.${service.namespace}`, `${service.name}.${service.namespace}.svc`, service.host];
  if (namespace === service.namespace) names.unshift(service.name);
  const withPort = names.map((name) => `${name}:${port.port}`);
  return service.defaultPort?.port === port.port ? [...names, ...withPort] : withPort;
}

function cached<V>(map: Map<string, V>, key: string, make: () => V): V {
  let found = map.get(key);
  if (found === undefined) {
    found = make();
    map.set(key, found);
  }
  return found;
}

function sorted(map: Map<string, XdsResource>): Map<string, XdsResource> {
  return new Map([...map.entries()].sort(([a], [b]) => compareText(a, b)));
}
