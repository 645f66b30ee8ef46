// Owns: what a gRPC program without a proxy is given: for a namespace everything it may call, by the names it may dial, and for a workload also the
// listeners of its own ports. The one place that calls ../emit/grpc*. Pure, as all of this room. Derived, as what proxies are given, and made only for whom
// there is a stream.

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { ClusterSchema } from "../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { ClusterLoadAssignmentSchema } from "../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { ListenerSchema } from "../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { RouteConfigurationSchema } from "../wire/gen/envoy/config/route/v3/route_pb.ts";
import { grpcServerName } from "../wire/grpc-names.ts";
import { pushOrder, type XdsResource, type XdsSnapshot, type XdsType } from "../wire/xds-types.ts";
import * as grpc from "./emit/grpc.ts";
import { grpcServerListener, serverShortfalls } from "./emit/grpc-server.ts";
import { workloadPlan } from "./layout.ts";
import { planTargets, portPlan, targetPlan } from "./plan/mesh.ts";
import type { PortPlan, TargetPlan } from "./plan/plan.ts";
import type { RoutePlan } from "./plan/routes.ts";
import { audienceOf, routesFor } from "./policies/httproute.ts";
import { JoinedMap, resourceOfMessage, sameMap, sameResource } from "./snapshot.ts";
import { derived, equal, type World } from "./world.ts";

/** What is told of a resource, by its type and name: `route grpc|80||cart.shop.svc.cluster.local`. */
export type Shortfalls = ReadonlyMap<string, readonly grpc.Shortfall[]>;

/** First word of the keys of gRPC programs, where those of proxies are `NS/NAME` alone. */
export const grpcKey = "grpc ";

/** A resource with what is told of it. */
interface Told {
  readonly resource: XdsResource;
  readonly shortfalls: readonly grpc.Shortfall[];
}

const sameTold = (a: Told | undefined, b: Told | undefined): boolean =>
  sameResource(a?.resource, b?.resource) && equal(a?.shortfalls, b?.shortfalls);

function told<D extends DescMessage>(
  type: XdsType,
  name: string,
  schema: D,
  message: MessageShape<D>,
  shortfalls: readonly grpc.Shortfall[] = [],
): Told {
  return { resource: resourceOfMessage(type, name, schema, message), shortfalls };
}

/** The plan of a port that gRPC can call. */
function grpcPort(world: World, cluster: string): PortPlan | undefined {
  const plan = portPlan(world, cluster);
  return plan?.port.protocol === "http2" ? plan : undefined;
}

/** Names of the ports that gRPC can call: they stand still while instances come and go. */
const grpcPorts = derived<readonly string[]>(
  (world) => [...planTargets(world)].flatMap(([cluster, { port }]) => (port.protocol === "http2" ? [cluster] : [])),
  equal,
);

/** By its name. */
const clusterTold = derived<Told | undefined>((world, cluster) => {
  const plan = grpcPort(world, cluster);
  return plan && told("cluster", cluster, ClusterSchema, grpc.grpcCluster(plan), grpc.trafficShortfalls(plan));
}, sameTold);

/** By its cluster's name. */
const endpointTold = derived<Told | undefined>((world, cluster) => {
  const plan = grpcPort(world, cluster);
  if (plan === undefined) return undefined;
  const left = plan.traffic.tls !== undefined ? 0 : plan.endpoints.length - grpc.grpcEndpoints(plan).length;
  return told("endpoint", cluster, ClusterLoadAssignmentSchema, grpc.grpcLoadAssignment(plan), left > 0 ? [leftOut(plan, left)] : []);
}, sameTold);

/** By audience, blank, cluster. */
const tableTold = derived<Told | undefined>((world, text) => {
  const at = text.indexOf(" ");
  const cluster = text.slice(at + 1);
  const plan = grpcPort(world, cluster);
  if (plan === undefined) return undefined;
  const name = tableOf(cluster);
  const strange: grpc.Shortfall[] = [];
  const folded = routesFor(world, cluster, text.slice(0, at))?.map((route) => known(world, route, strange));
  const made = grpc.grpcTable(name, plan, folded);
  return told("route", name, RouteConfigurationSchema, made.config, [...strange, ...made.shortfalls]);
}, sameTold);

/** By name, blank, table. */
const listenerResource = derived<XdsResource>((_world, text) => {
  const [name = "", table = ""] = text.split(" ");
  return resourceOfMessage("listener", name, ListenerSchema, grpc.apiListener(name, table));
}, sameResource);

const refusing = [
  told("cluster", grpc.refusedCluster, ClusterSchema, grpc.refusingCluster()),
  told("endpoint", grpc.refusedCluster, ClusterLoadAssignmentSchema, grpc.refusingLoadAssignment()),
] as const;

/** One type of what all gRPC programs of the mesh, or of a namespace, are given. */
interface Some {
  readonly resources: ReadonlyMap<string, XdsResource>;
  readonly shortfalls: Shortfalls;
}

const sameSome = (a: Some, b: Some): boolean => sameMap(a.resources, b.resources) && equal(a.shortfalls, b.shortfalls);

function gathered(all: Iterable<Told | undefined>): Some {
  const resources = new Map<string, XdsResource>();
  const shortfalls = new Map<string, readonly grpc.Shortfall[]>();
  for (const each of all) {
    if (each === undefined) continue;
    const { type, name } = each.resource;
    resources.set(name, each.resource);
    if (each.shortfalls.length > 0) shortfalls.set(`${type} ${name}`, each.shortfalls);
  }
  return { resources, shortfalls };
}

const allClusters = derived<Some>(
  (world) => gathered([...grpcPorts(world, "").map((each) => clusterTold(world, each)), refusing[0]]),
  sameSome,
);
const allEndpoints = derived<Some>(
  (world) => gathered([...grpcPorts(world, "").map((each) => endpointTold(world, each)), refusing[1]]),
  sameSome,
);

/** Ports with a name of their own: routes lead to subsets, nobody dials them. */
const dialledPorts = derived<readonly string[]>(
  (world) => grpcPorts(world, "").filter((cluster) => targetPlan(world, cluster)?.subset === undefined),
  equal,
);

/** By namespace. */
const tablesOf = derived<Some>(
  (world, namespace) =>
    gathered(dialledPorts(world, "").map((cluster) => tableTold(world, `${audienceOf(world, cluster, namespace)} ${cluster}`))),
  sameSome,
);

/** By namespace. */
const listenersOf = derived<ReadonlyMap<string, XdsResource>>((world, namespace) => {
  const out = new Map<string, XdsResource>();
  for (const cluster of dialledPorts(world, "")) {
    const target = targetPlan(world, cluster);
    if (target === undefined) continue;
    for (const name of dialled(target, namespace)) out.set(name, listenerResource(world, `${name} ${tableOf(cluster)}`));
  }
  return out;
}, sameMap);

/** The listeners of a program's own ports, by `NS/NAME` of its WorkloadEntry; none without one. */
const servedBy = derived<Some>((world, key) => {
  const out: Told[] = [];
  for (const plan of workloadPlan(world, key)?.inbound ?? []) {
    if (plan.protocol !== "http2") continue;
    for (const host of new Set([plan.address, "0.0.0.0", "::"])) {
      const name = grpcServerName(host, plan.port);
      out.push(told("listener", name, ListenerSchema, grpcServerListener(name, host, plan), serverShortfalls(plan)));
    }
  }
  return gathered(out);
}, sameSome);

const partsOf = (world: World, namespace: string, key: string) =>
  [allClusters(world, ""), allEndpoints(world, ""), tablesOf(world, namespace), servedBy(world, key)] as const;

/** What a gRPC program is given, by `NS/NAME` of its WorkloadEntry; without one, what any program of its namespace is. */
export const grpcSnapshotOf = derived<XdsSnapshot>(
  (world, key) => {
    const namespace = key.slice(0, key.indexOf("/"));
    const [cluster, endpoint, route, own] = partsOf(world, namespace, key);
    const shared = listenersOf(world, namespace);
    const listener = own.resources.size === 0 ? shared : new JoinedMap(own.resources, shared);
    return { workload: key, resources: { cluster: cluster.resources, endpoint: endpoint.resources, listener, route: route.resources } };
  },
  (a, b) => pushOrder.every((type) => sameMap(a.resources[type], b.resources[type])),
);

/** What is told of the resources of `grpcSnapshotOf`. */
export const grpcShortfallsOf = derived<Shortfalls>((world, key) => {
  const out = new Map<string, readonly grpc.Shortfall[]>();
  for (const part of partsOf(world, key.slice(0, key.indexOf("/")), key)) for (const [name, some] of part.shortfalls) out.set(name, some);
  return out;
}, equal);

function tableOf(cluster: string): string {
  return `grpc${cluster.slice("outbound".length)}`;
}

/** A backend that does not speak HTTP/2 is none for gRPC: its share of the calls is refused, as that of a missing one. */
function known(world: World, route: RoutePlan, strange: grpc.Shortfall[]): RoutePlan {
  const { action } = route;
  if (action.kind !== "forward") return route;
  const backends = action.backends.map((backend) => {
    if (backend.missing || targetPlan(world, backend.cluster)?.port.protocol === "http2") return backend;
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
function dialled({ service, port }: TargetPlan, namespace: string): string[] {
  const names = [`${service.name}.${service.namespace}`, `${service.name}.${service.namespace}.svc`, service.host];
  if (namespace === service.namespace) names.unshift(service.name);
  return names.map((name) => `${name}:${port.port}`);
}
