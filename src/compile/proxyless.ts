// Owns: what a gRPC program without a proxy is given: for a namespace everything it may call, by the names it may dial, and for a workload also the
// listeners of its own ports. The one place that calls ../emit/grpc*. Pure, as all of this room. Compiled only for whom there is a stream.

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { ClusterSchema } from "../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterLoadAssignmentSchema } from "../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { ListenerSchema } from "../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { RouteConfigurationSchema } from "../wire/gen/envoy/config/route/v3/route_pb.ts";
import { grpcServerName } from "../wire/grpc-names.ts";
import type { XdsResource, XdsSnapshot, XdsType } from "../wire/xds-types.ts";
import { CompileCache } from "./cache.ts";
import * as grpc from "./emit/grpc.ts";
import { grpcServerListener, serverShortfalls } from "./emit/grpc-server.ts";
import { planPorts } from "./plan/mesh.ts";
import type { PortPlan } from "./plan/plan.ts";
import type { RoutePlan } from "./plan/routes.ts";
import { planWorkload } from "./plan/workload.ts";
import { audienceOf, routesFor } from "./policies/httproute.ts";
import { JoinedMap, resourceOfMessage } from "./snapshot.ts";
import type { World } from "./world.ts";

/** What is told of a resource, by its type and name: `route grpc|80||cart.shop.svc.cluster.local`. */
export type Shortfalls = ReadonlyMap<string, readonly grpc.Shortfall[]>;

export interface Proxyless {
  readonly snapshot: XdsSnapshot;
  readonly shortfalls: Shortfalls;
}

/** One compile for all streams of gRPC programs. Resources that did not change keep their identity from the last one with the same `cache`. */
export function compileProxyless(world: World, cache: CompileCache = new CompileCache()) {
  const ports = planPorts(world);
  const plans = [...ports.values()].filter((plan) => plan.port.protocol === "http2");
  const make = <D extends DescMessage>(type: XdsType, name: string, schema: D, inputs: unknown, emit: () => MessageShape<D>): XdsResource =>
    cache.of(`${type} ${name} ${JSON.stringify(inputs)}`, () => resourceOfMessage(type, name, schema, emit()));
  const clusters = new Map<string, XdsResource>();
  const endpoints = new Map<string, XdsResource>();
  const general = new Map<string, readonly grpc.Shortfall[]>();
  for (const plan of plans) {
    const { cluster } = plan;
    clusters.set(
      cluster,
      make("cluster", cluster, ClusterSchema, [plan.identities, plan.traffic], () => grpc.grpcCluster(plan)),
    );
    endpoints.set(
      cluster,
      make("endpoint", cluster, ClusterLoadAssignmentSchema, [plan.identities.length, plan.traffic.tls, plan.traffic.backendTls, plan.endpoints], () =>
        grpc.grpcLoadAssignment(plan),
      ),
    );
    const without = grpc.trafficShortfalls(plan);
    if (without.length > 0) general.set(`cluster ${cluster}`, without);
    const left = plan.traffic.tls !== undefined ? 0 : plan.endpoints.length - grpc.grpcEndpoints(plan).length;
    if (left > 0) general.set(`endpoint ${cluster}`, [leftOut(plan, left)]);
  }
  const { refusedCluster: none } = grpc;
  clusters.set(none, make("cluster", none, ClusterSchema, "", grpc.refusingCluster));
  endpoints.set(none, make("endpoint", none, ClusterLoadAssignmentSchema, "", grpc.refusingLoadAssignment));

  const spaces = new Map<string, Proxyless>();
  const forNamespace = (namespace: string): Proxyless => {
    let found = spaces.get(namespace);
    if (found !== undefined) return found;
    const listener = new Map<string, XdsResource>();
    const route = new Map<string, XdsResource>();
    const shortfalls = new Map(general);
    for (const plan of plans) {
      // A subset has no name of its own: routes lead to it.
      if (plan.subset !== undefined) continue;
      const table = `grpc${plan.cluster.slice("outbound".length)}`;
      const strange: grpc.Shortfall[] = [];
      const folded = routesFor(world, plan.cluster, audienceOf(world, plan.cluster, namespace))?.map((route) =>
        known(route, clusters, strange),
      );
      const emitted = cache.of(`table ${table} ${JSON.stringify([plan.cluster, folded])}`, () => {
        const made = grpc.grpcTable(table, plan, folded);
        return { ...made, resource: resourceOfMessage("route", table, RouteConfigurationSchema, made.config) };
      });
      route.set(table, emitted.resource);
      const told = [...strange, ...emitted.shortfalls];
      if (told.length > 0) shortfalls.set(`route ${table}`, told);
      for (const name of dialled(plan, namespace))
        listener.set(
          name,
          make("listener", name, ListenerSchema, table, () => grpc.apiListener(name, table)),
        );
    }
    found = { snapshot: { workload: namespace, resources: { cluster: clusters, endpoint: endpoints, listener, route } }, shortfalls };
    spaces.set(namespace, found);
    return found;
  };

  return {
    forNamespace,
    /** Of a WorkloadEntry by its key `NS/NAME`; without one, what any program of its namespace is given. */
    forWorkload(key: string): Proxyless {
      const shared = forNamespace(key.slice(0, key.indexOf("/")));
      const workload = world.workloads.get(key);
      if (workload === undefined) return { ...shared, snapshot: { ...shared.snapshot, workload: key } };
      const own = new Map<string, XdsResource>();
      const shortfalls = new Map(shared.shortfalls);
      for (const plan of planWorkload(world, ports, workload).inbound) {
        if (plan.protocol !== "http2") continue;
        for (const host of new Set([plan.address, "0.0.0.0", "::"])) {
          const name = grpcServerName(host, plan.port);
          own.set(
            name,
            make("listener", name, ListenerSchema, [plan.port, plan.mutualTls, plan.authz], () => grpcServerListener(name, host, plan)),
          );
          const told = serverShortfalls(plan);
          if (told.length > 0) shortfalls.set(`listener ${name}`, told);
        }
      }
      const { resources } = shared.snapshot;
      return { snapshot: { workload: key, resources: { ...resources, listener: new JoinedMap(own, resources.listener) } }, shortfalls };
    },
  };
}

/** A backend that does not speak HTTP/2 is none for gRPC: its share of the calls is refused, as that of a missing one. */
function known(route: RoutePlan, clusters: ReadonlyMap<string, unknown>, strange: grpc.Shortfall[]): RoutePlan {
  const { action } = route;
  if (action.kind !== "forward") return route;
  const backends = action.backends.map((backend) => {
    if (backend.missing || clusters.has(backend.cluster)) return backend;
    strange.push({ subject: route.name, message: `${backend.cluster} does not speak HTTP/2, which gRPC needs`, refused: true });
    return { ...backend, missing: true };
  });
  return { ...route, action: { ...action, backends } };
}

function leftOut(plan: PortPlan, count: number): grpc.Shortfall {
  return {
    subject: `Service ${plan.service.key} port ${plan.port.port}`,
    message: `a gRPC client without a proxy has one transport for a whole service: ${count} of ${plan.endpoints.length} instances take no mutual TLS and get no calls of it`,
    refused: true,
  };
}

/** What may stand behind `xds:///` for a port, for programs of `namespace`. */
function dialled({ service, port }: PortPlan, namespace: string): string[] {
  const names = [`${service.name}.${service.namespace}`, `${service.name}.${service.namespace}.svc`, service.host];
  if (namespace === service.namespace) names.unshift(service.name);
  return names.map((name) => `${name}:${port.port}`);
}
