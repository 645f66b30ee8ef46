// Owns: how TLSRoutes, TCPRoutes and UDPRoutes fold into what a service's port does with connections and datagrams, and what became of each
// reference. Audiences as for HTTPRoutes. On one port TLSRoutes go before TCPRoutes; of several TCPRoutes or UDPRoutes the oldest speaks.

import type { Layer4RouteObject } from "../../api/kinds/gateway-layer4.ts";
import { isServiceParent } from "../../api/kinds/gateway-refs.ts";
import type { PortProtocol } from "../../api/kinds/service.ts";
import type { Source } from "../objects.ts";
import { callerNamespace } from "../plan/caller.ts";
import { targetPlan } from "../plan/mesh.ts";
import { type ConnectionsPlan, opaqueBackend } from "../plan/plan.ts";
import type { BackendPlan } from "../plan/routes.ts";
import { type ParentIndex, tcpRouteSource, tlsRouteSource, udpRouteSource } from "../route-sources.ts";
import { byAge, derived, equal, keyOf, namespaceOf, type World } from "../world.ts";
import { type ResolvedVerdict, resolveBackend, resolvedVerdict } from "./backends.ts";
import { attachedTo } from "./gateway.ts";
import { lower } from "./gateway-hosts.ts";
import type { ParentVerdict } from "./httproute.ts";
import { type Attached, attach } from "./parents.ts";
import { virtualConnections } from "./virtualservice.ts";

export type Layer4Kind = "TLSRoute" | "TCPRoute" | "UDPRoute";

export interface Layer4Reading {
  /** `*` = any. */
  readonly hosts: readonly string[];
  readonly backends: readonly BackendPlan[];
  readonly attached: readonly Attached[];
  readonly resolved: ResolvedVerdict;
}

const sourceOf = { TLSRoute: tlsRouteSource, TCPRoute: tcpRouteSource, UDPRoute: udpRouteSource } as const;
const wanted: Readonly<Record<Layer4Kind, PortProtocol>> = { TLSRoute: "tcp", TCPRoute: "tcp", UDPRoute: "udp" };

/** By kind, blank, `NS/NAME`. */
export const readLayer4 = derived<Layer4Reading | undefined>((world, text) => {
  const [kind, key = ""] = text.split(" ") as [Layer4Kind, string];
  const route = world.objects(sourceOf[kind] as Source<Layer4RouteObject>).get(key);
  if (route === undefined) return undefined;
  const freely = new Set(
    (route.spec.parentRefs ?? []).filter(isServiceParent).map((ref) => `${ref.namespace ?? namespaceOf(route)}/${ref.name}`),
  );
  const refs = (route.spec.rules ?? [])[0]?.backendRefs ?? [];
  const resolved = refs.map((ref, at) =>
    resolveBackend(world, route, ref, `spec.rules[0].backendRefs[${at}]`, kind === "UDPRoute" ? "udp" : "tcp", freely),
  );
  const protocol = wanted[kind];
  // Connections for a rule that is switched off are closed, as for one whose backends are not there; they do not go to the service after all.
  const off = refs.length > 0 && refs.every((ref) => ref.weight === 0);
  return {
    hosts: route.spec.hostnames === undefined || route.spec.hostnames.length === 0 ? ["*"] : route.spec.hostnames.map(lower).sort(),
    backends: (off ? refs.slice(0, 1) : refs).map((ref, at) => ({
      cluster: (resolved[at]?.cluster ?? "").replace("outbound|", off ? "unresolved|" : "outbound|"),
      weight: off ? 1 : (ref.weight ?? 1),
      missing: off || resolved[at]?.problem !== undefined,
      ...ofConnections(world, resolved[at]?.cluster ?? ""),
    })),
    attached: (route.spec.parentRefs ?? []).map((ref) =>
      attach(world, route, ref, (each) => each === protocol, `has no ${protocol.toUpperCase()} there (%), which a ${kind} is for`),
    ),
    resolved: resolvedVerdict(
      resolved.flatMap(({ problem }) => problem ?? []),
      kind === "UDPRoute" ? "datagrams for it are dropped" : "connections that would go there are closed",
    ),
  };
}, equal);

interface Speaker {
  readonly key: string;
  readonly reading: Layer4Reading;
}

function onPort(world: World, kind: Layer4Kind, audience: string, cluster: string): Speaker[] {
  const parent = targetPlan(world, cluster)?.service.key;
  if (parent === undefined) return [];
  return inOrder(world, kind, "parent", parent, (attached) => attached.audience === audience && attached.clusters.includes(cluster));
}

/** Routes of a kind with a parent, oldest first, whose attachment to it fits. */
export function inOrder(
  world: World,
  kind: Layer4Kind,
  index: "parent" | "gateway",
  parent: string,
  fits: (attached: Attached) => boolean,
): Speaker[] {
  const from = sourceOf[kind] as Source<Layer4RouteObject, ParentIndex>;
  const routes = [...(index === "gateway" ? attachedTo(world, from, parent) : world.objects(from).by(index, parent))].sort(byAge);
  return routes.flatMap((route) => {
    const key = keyOf(route);
    const reading = readLayer4(world, `${kind} ${key}`);
    return reading?.attached.some(fits) ? [{ key, reading }] : [];
  });
}

/** What connections to a cluster are hashed by and how long they last, for everybody. */
function ofConnections(world: World, cluster: string): Pick<BackendPlan, "hashesSource" | "connectionMs"> {
  const target = targetPlan(world, cluster);
  return target === undefined ? {} : opaqueBackend(target);
}

/** Those that a port can use: none that leads nowhere. */
export function live(backends: readonly BackendPlan[]): readonly BackendPlan[] {
  return backends.filter((each) => each.weight > 0);
}

/** By audience, NUL, cluster; undefined = no route speaks about it. */
const folded = derived<ConnectionsPlan | undefined>((world, text) => {
  const [audience = "", cluster = ""] = text.split("\u0000");
  const tls = onPort(world, "TLSRoute", audience, cluster);
  if (tls.length > 0) {
    const taken = new Set<string>();
    const byName = tls.flatMap(({ key, reading }) => {
      const hosts = reading.hosts.filter((host) => !taken.has(host));
      for (const host of hosts) taken.add(host);
      return hosts.length === 0 ? [] : [{ route: key, hosts, backends: live(reading.backends) }];
    });
    return { byName, backends: [] };
  }
  const [first] = onPort(world, wanted.UDPRoute === targetPlan(world, cluster)?.port.protocol ? "UDPRoute" : "TCPRoute", audience, cluster);
  return first === undefined ? undefined : { byName: undefined, backends: live(first.reading.backends) };
}, equal);

/** What a caller gets of a port's connections; undefined = they go to the service. */
export function connectionsFor(world: World, cluster: string, caller: string): ConnectionsPlan | undefined {
  return (
    folded(world, `${callerNamespace(caller)}\u0000${cluster}`) ??
    folded(world, `\u0000${cluster}`) ??
    virtualConnections(world, cluster, caller)
  );
}

/** What became of each parent reference of a route that is for Weft, by its kind, blank, `NS/NAME`. */
export const layer4Verdicts = derived<readonly ParentVerdict[]>((world, text) => {
  const [kind, key = ""] = text.split(" ") as [Layer4Kind, string];
  const route = world.objects(sourceOf[kind] as Source<Layer4RouteObject>).get(key);
  const reading = readLayer4(world, text);
  if (route === undefined || reading === undefined) return [];
  return (route.spec.parentRefs ?? []).flatMap((parentRef, at): ParentVerdict[] => {
    const attached = reading.attached[at];
    if (attached?.verdict === undefined) return [];
    const other = attached.verdict.accepted ? displacedBy(world, kind, key, attached) : undefined;
    const verdict =
      other === undefined
        ? attached.verdict
        : {
            accepted: false,
            acceptedReason: "Conflicted" as const,
            acceptedMessage: `${other} has all of it already; ${other.startsWith(kind) ? "it is older" : "it tells connections apart and goes before"}: delete one of the two, or change what it is attached to`,
          };
    return [{ parentRef, ...verdict, ...reading.resolved }];
  });
}, equal);

/** Whoever speaks instead of this route everywhere it is attached. */
function displacedBy(world: World, kind: Layer4Kind, key: string, attached: Attached): string | undefined {
  const places = [
    ...attached.clusters.map((cluster) => () => speaksOnPort(world, kind, key, attached.audience, cluster)),
    ...attached.listeners.map(
      ({ name }) =>
        () =>
          speaksAtListener(world, kind, key, attached.gateway ?? "", name),
    ),
  ];
  const others = places.map((other) => other());
  return others.includes(undefined) ? undefined : others[0];
}

function speaksOnPort(world: World, kind: Layer4Kind, key: string, audience: string, cluster: string): string | undefined {
  if (kind === "TCPRoute") {
    const [tls] = onPort(world, "TLSRoute", audience, cluster);
    if (tls !== undefined) return `TLSRoute ${tls.key}`;
  }
  return otherThan(kind, key, onPort(world, kind, audience, cluster));
}

function speaksAtListener(world: World, kind: Layer4Kind, key: string, gateway: string, listener: string): string | undefined {
  const at = (of: Layer4Kind) =>
    inOrder(world, of, "gateway", gateway, (each) => each.gateway === gateway && each.listeners.some(({ name }) => name === listener));
  if (kind === "TCPRoute") {
    const [tls] = at("TLSRoute");
    if (tls !== undefined) return `TLSRoute ${tls.key}`;
  }
  return otherThan(kind, key, at(kind));
}

/** The route that speaks where this one is silent: the oldest, or of TLSRoutes the one that has all of its names. */
function otherThan(kind: Layer4Kind, key: string, speakers: readonly Speaker[]): string | undefined {
  if (kind !== "TLSRoute") {
    const [first] = speakers;
    return first === undefined || first.key === key ? undefined : `${kind} ${first.key}`;
  }
  const own = speakers.find((each) => each.key === key);
  const before = speakers.slice(0, own === undefined ? 0 : speakers.indexOf(own));
  const owner = (host: string) => before.find(({ reading }) => reading.hosts.includes(host));
  const owners = (own?.reading.hosts ?? []).map(owner);
  return owners.length === 0 || owners.includes(undefined) ? undefined : `TLSRoute ${owners[0]!.key}`;
}
