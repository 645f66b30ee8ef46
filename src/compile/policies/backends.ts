// Owns: what a reference of a route to a backend leads to, and whether it may: Service, port, ReferenceGrant. Says why not in the words of
// Gateway API's ResolvedRefs condition. Never plans a route.

import { type BackendRef, isHost, isService } from "../../api/kinds/gateway-refs.ts";
import type { ReferenceGrantObject } from "../../api/kinds/gateway-spec.ts";
import type { KubeObject } from "../../api/meta.ts";
import { outboundCluster, serviceHost, type Transport } from "../../wire/names.ts";
import { isVisible } from "../plan/external.ts";
import { planTargets, targetPlan } from "../plan/mesh.ts";
import { grantSource } from "../route-sources.ts";
import { keyOf, namespaceOf, type World } from "../world.ts";

export type ResolvedReason = "ResolvedRefs" | "BackendNotFound" | "RefNotPermitted" | "InvalidKind" | "UnsupportedProtocol";

export interface RefProblem {
  readonly reason: Exclude<ResolvedReason, "ResolvedRefs">;
  readonly message: string;
}

export interface ResolvedVerdict {
  readonly resolved: boolean;
  readonly resolvedReason: ResolvedReason;
  readonly resolvedMessage: string;
}

export interface Resolved {
  /** A name that no cluster has where `problem` is there, so that a Service one may not refer to is not reached although its cluster exists. */
  readonly cluster: string;
  readonly problem: RefProblem | undefined;
}

/** `where`: path of the reference in the route, for messages. `freely`: keys of Services that need no grant. */
export function resolveBackend(
  world: World,
  route: KubeObject,
  ref: BackendRef,
  where: string,
  transport: Transport,
  freely: ReadonlySet<string> = new Set(),
): Resolved {
  const namespace = ref.namespace ?? namespaceOf(route);
  const cluster = outboundCluster(ref.port ?? 0, serviceHost(ref.name, namespace), transport);
  const problem = problemOf();
  return { cluster: problem === undefined ? cluster : cluster.replace("outbound|", "unresolved|"), problem };

  function problemOf(): RefProblem | undefined {
    if (!isService(ref))
      return {
        reason: "InvalidKind",
        message: `${where}: a backend must be a Service, not ${ref.group ?? ""}/${ref.kind ?? ""}`,
      };
    const key = `${namespace}/${ref.name}`;
    if (namespace !== namespaceOf(route) && !freely.has(key) && !permitted(world, route, "Service", namespace, ref.name))
      return {
        reason: "RefNotPermitted",
        message: `${where}: Service ${key} is in another namespace, and no ReferenceGrant in ${namespace} lets ${route.kind.replace(/y$/, "ie")}s of ${namespaceOf(route)} refer to it`,
      };
    if (planTargets(world).has(cluster)) return undefined;
    const other = world.services.get(key)?.ports.find((port) => port.port === ref.port);
    if (other !== undefined)
      return {
        reason: "UnsupportedProtocol",
        message: `${where}: port ${ref.port} of Service ${key} is of ${other.protocol === "udp" ? "UDP" : "TCP"}, which ${route.kind === "UDPRoute" ? "takes no datagrams" : `a ${route.kind} cannot send to`}`,
      };
    return { reason: "BackendNotFound", message: `${where}: there is no Service ${key} with port ${ref.port ?? ""}` };
  }
}

/** A service that proxies ask by gRPC: a Service, or a host that a ServiceEntry makes known, at a port that says so. */
export function resolveGrpc(world: World, from: KubeObject, ref: BackendRef, where: string): Resolved {
  const { cluster, problem } = isHost(ref) ? resolveHost(world, from, ref, where) : resolveBackend(world, from, ref, where, "tcp");
  const wrong = problem ?? withoutGrpc(world, cluster, where);
  return { cluster: wrong === undefined ? cluster : cluster.replace("outbound|", "unresolved|"), problem: wrong };
}

function resolveHost(world: World, from: KubeObject, ref: BackendRef, where: string): Resolved {
  const cluster = outboundCluster(ref.port ?? 0, ref.name);
  const target = targetPlan(world, cluster);
  const namespace = namespaceOf(from);
  if (target?.external === undefined)
    return {
      cluster,
      problem: { reason: "BackendNotFound", message: `${where}: no ServiceEntry has host ${ref.name} with port ${ref.port ?? ""}` },
    };
  if (isVisible(target.external, namespace)) return { cluster, problem: undefined };
  const message = `${where}: host ${ref.name} is of a ServiceEntry in ${target.external.namespace} that is not exported to ${namespace} (exportTo)`;
  return { cluster, problem: { reason: "RefNotPermitted", message } };
}

/** gRPC needs HTTP/2, which a port's name or protocol says that it speaks. */
export function withoutGrpc(world: World, cluster: string, where: string): RefProblem | undefined {
  const target = targetPlan(world, cluster);
  if (target === undefined || target.port.protocol === "http2") return undefined;
  const { port, service, external } = target;
  return {
    reason: "UnsupportedProtocol",
    message:
      external === undefined
        ? `${where}: port ${port.port} of Service ${service.key} does not say that it speaks gRPC; name the port grpc… or set its appProtocol to grpc`
        : `${where}: port ${port.port} of host ${service.host} does not say that it speaks gRPC; set its protocol to GRPC in the ServiceEntry`,
  };
}

/** Whether an object of kind and namespace of `from` may refer to something of another namespace (GEP-709). */
export function permitted(world: World, from: KubeObject, kind: "Service" | "Secret", namespace: string, name: string): boolean {
  return world
    .objects(grantSource)
    .in(namespace)
    .some((grant) => grants(grant, from, kind, name));
}

function grants({ spec }: ReferenceGrantObject, from: KubeObject, kind: string, name: string): boolean {
  const group = from.apiVersion.split("/")[0];
  return (
    spec.from.some((each) => each.kind === from.kind && each.group === group && each.namespace === namespaceOf(from)) &&
    spec.to.some((each) => each.kind === kind && each.group === "" && (each.name === undefined || each.name === name))
  );
}

/** `lost`: what becomes of a backend's share. */
export function resolvedVerdict(problems: readonly RefProblem[], lost: string): ResolvedVerdict {
  const [first] = problems;
  if (first === undefined) return { resolved: true, resolvedReason: "ResolvedRefs", resolvedMessage: "every reference is resolved" };
  return {
    resolved: false,
    resolvedReason: first.reason,
    resolvedMessage: `${problems.map((each) => each.message).join("; ")}; ${lost}`,
  };
}

/** `HTTPRoute shop/web` */
export function nameOf(object: KubeObject): string {
  return `${object.kind} ${keyOf(object)}`;
}
