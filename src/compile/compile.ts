// Owns: the whole way from objects to what every proxy should hold, and to what every object's status should say. Pure: no clock, no I/O;
// the same objects in any order give the same bytes. A cache of encoded resources may be passed; it saves time and changes nothing.

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { speaksHttp } from "../api/kinds/service.ts";
import { ClusterSchema } from "../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterLoadAssignmentSchema } from "../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { type Listener, ListenerSchema } from "../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { httpProxyListener, httpProxyRoutes, inboundCluster, inboundListener, upstreamListener } from "../wire/names.ts";
import type { XdsResource, XdsSnapshot, XdsType } from "../wire/xds-types.ts";
import { CompileCache } from "./cache.ts";
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

/** Throws OpenSnapshotError only for a bug of the compiler itself. With a `cache` that is passed again next time, only what changed is encoded. */
export function compileAll(world: World, cache: CompileCache = new CompileCache()): Compiled {
  const ports = planPorts(world);
  const routes = foldRoutes(world, ports);
  const mesh = new MeshResources(world, ports, routes, cache);
  const plans: WorkloadPlan[] = [];
  const snapshots = new Map<string, XdsSnapshot>();
  for (const workload of world.workloads.values()) {
    const plan = planWorkload(world, ports, workload);
    plans.push(plan);
    snapshots.set(workload.key, mesh.snapshot(plan));
  }
  cache.sweep();
  return { snapshots, statuses: statuses(world, ports, routes, plans) };
}

/** Resources of one compile: those that all workloads hold are made once, the others as they are asked for. */
class MeshResources {
  readonly #world: World;
  readonly #ports: ReadonlyMap<string, PortPlan>;
  readonly #routes: RouteFold;
  readonly #cache: CompileCache;
  readonly #clusters = new Map<string, XdsResource>();
  readonly #endpoints = new Map<string, XdsResource>();
  /** Tables of this compile by namespace (and name): their parts need comparing once only. */
  readonly #tables = new Map<string, XdsResource>();

  constructor(world: World, ports: ReadonlyMap<string, PortPlan>, routes: RouteFold, cache: CompileCache) {
    this.#world = world;
    this.#ports = ports;
    this.#routes = routes;
    this.#cache = cache;
    for (const plan of [...ports.values()].sort((a, b) => compareText(a.cluster, b.cluster))) {
      const { cluster } = plan;
      const made = this.#make("cluster", cluster, ClusterSchema, [plan.port.protocol, plan.identities, world.trustDomain], () =>
        clusters.outbound(plan, world.trustDomain),
      );
      this.#clusters.set(cluster, made);
      this.#endpoints.set(
        cluster,
        this.#make("endpoint", cluster, ClusterLoadAssignmentSchema, plan.endpoints, () => loadAssignment(plan)),
      );
    }
  }

  snapshot(plan: WorkloadPlan): XdsSnapshot {
    const { workload, accessLog, httpProxyPort } = plan;
    const listener = new Map<string, XdsResource>();
    const route = new Map<string, XdsResource>();
    const own = new Map<string, XdsResource>();
    const references: References[] = [];
    const listen = (name: string, inputs: unknown, make: () => Listener, needs: References) => {
      listener.set(name, this.#make("listener", name, ListenerSchema, inputs, make));
      references.push(needs);
    };
    for (const port of plan.inbound) {
      const cluster = this.#inboundCluster(port);
      own.set(cluster.name, cluster);
      const { services: _named, ...inputs } = port;
      listen(
        inboundListener(port.name),
        [inputs, this.#world.trustDomain, accessLog.server],
        () => listeners.inbound(port, this.#world.trustDomain, accessLog.server),
        {
          clusters: [cluster.name],
        },
      );
    }
    if (httpProxyPort !== undefined) {
      listen(httpProxyListener, [httpProxyPort, accessLog.client], () => listeners.httpProxy(httpProxyPort, accessLog.client), {
        routes: [httpProxyRoutes],
      });
      route.set(httpProxyRoutes, this.#proxyTable(workload.namespace));
    }
    for (const upstream of plan.upstreams) {
      const { target, localPort } = upstream;
      const http = speaksHttp(target.port.protocol);
      const table = upstreamListener(target.service.host, target.port.port);
      const needs = http ? { routes: [table] } : { clusters: [target.cluster] };
      listen(
        upstream.name,
        [localPort, target.cluster, target.port.protocol, accessLog.client],
        () => listeners.upstream(upstream, accessLog.client),
        needs,
      );
      if (http) route.set(table, this.#upstreamTable(table, target, workload.namespace));
    }
    const snapshot: XdsSnapshot = {
      workload: workload.key,
      resources: {
        cluster: new JoinedMap(sorted(own), this.#clusters),
        endpoint: this.#endpoints,
        listener: sorted(listener),
        route: sorted(route),
      },
    };
    checkClosed(snapshot, references);
    return snapshot;
  }

  /** `inputs` and the name together must hold all that `make` reads. */
  #make<D extends DescMessage>(type: XdsType, name: string, schema: D, inputs: unknown, make: () => MessageShape<D>): XdsResource {
    return this.#cache.of(`${type} ${name} ${JSON.stringify(inputs)}`, () => resourceOfMessage(type, name, schema, make()));
  }

  #inboundCluster(plan: InboundPlan): XdsResource {
    const services = plan.services.map((service) => service.key);
    return this.#make("cluster", inboundCluster(plan.appPort), ClusterSchema, [plan.protocol, services], () =>
      clusters.inbound(plan.appPort, plan.protocol, plan.services),
    );
  }

  /** The forward proxy's table: the same for all workloads of a namespace. */
  #proxyTable(namespace: string): XdsResource {
    return this.#table(`${namespace} ${httpProxyRoutes}`, httpProxyRoutes, () => {
      const hosts: Uint8Array[] = [];
      for (const target of this.#ports.values()) {
        if (target.port.protocol === "udp") continue;
        hosts.push(this.#virtualHost(`${target.service.host}:${target.port.port}`, domainsOf(target, namespace), target, namespace));
      }
      hosts.push(unknownHostBytes);
      return hosts;
    });
  }

  /** The table behind a fixed local port: whatever the host, one service. */
  #upstreamTable(name: string, target: PortPlan, namespace: string): XdsResource {
    return this.#table(`${namespace} ${name}`, name, () => [this.#virtualHost(`${name}|any`, ["*"], target, namespace)]);
  }

  #table(key: string, name: string, hosts: () => Uint8Array[]): XdsResource {
    let found = this.#tables.get(key);
    if (found === undefined) {
      const parts = hosts();
      found = this.#cache.joined(`table ${key}`, parts, () => resourceOfBytes("route", name, routeTableBytes(name, parts)));
      this.#tables.set(key, found);
    }
    return found;
  }

  #virtualHost(name: string, domains: readonly string[], target: PortPlan, namespace: string): Uint8Array {
    const routes = speaksHttp(target.port.protocol) ? this.#routes.routesFor(target.cluster, namespace) : undefined;
    return this.#cache.of(`host ${name} ${JSON.stringify([domains, target.cluster, routes])}`, () => {
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

function sorted(map: Map<string, XdsResource>): Map<string, XdsResource> {
  return new Map([...map.entries()].sort(([a], [b]) => compareText(a, b)));
}
