// Owns: to whom a VirtualService speaks (sidecars, by namespace and labels of the caller), and how it folds into the routes and connections of a
// service's port. Of several that speak to a caller about a host one decides: the caller's own, then by exact name before wildcards, then the oldest.

import {
  type ConnectionMatch,
  type ConnectionRoute,
  exportedTo,
  meshGateway,
  type VirtualMatch,
  type VirtualServiceObject,
} from "../../api/kinds/virtualservice-spec.ts";
import { clusterDomain, clusterHost } from "../../wire/names.ts";
import { type Caller, callerText, hasLabels, only, parseCaller } from "../plan/caller.ts";
import { externalNamespace } from "../plan/external.ts";
import { targetPlan } from "../plan/mesh.ts";
import { type ConnectionsPlan, opaqueBackend } from "../plan/plan.ts";
import type { BackendPlan, RoutePlan } from "../plan/routes.ts";
import { virtualServiceSource } from "../sources.ts";
import { byAge, derived, equal, keyOf, namespaceOf, type World } from "../world.ts";
import { type WholeRoute, wholeRoutes } from "./virtualservice-delegate.ts";
import { planWhole, resolve } from "./virtualservice-plan.ts";

/** The names under which a VirtualService may speak about a host, the most specific first: itself, `*.shop.svc.cluster.local`, …, `*`. */
function namesFor(host: string): string[] {
  const parts = host.split(".");
  return [host, ...parts.slice(1).map((_, at) => `*.${parts.slice(at + 1).join(".")}`), "*"];
}

/** Whose host it is: the Service's namespace, or that of the ServiceEntry. */
function ownerOf(world: World, host: string): string | undefined {
  return host.endsWith(`.svc.${clusterDomain}`) ? host.split(".")[1] : externalNamespace(world, host);
}

/** Namespaces whose callers it speaks to about a host; `*` = all. About a host of another namespace it speaks to its own callers only. */
export function spokenTo(world: World, object: VirtualServiceObject, host: string): readonly string[] {
  const own = namespaceOf(object);
  return ownerOf(world, host) === own ? exportedTo(object.spec?.exportTo, own) : [own];
}

/** Who decides about a host for callers of a namespace, empty = for those who are not told apart. */
export function speaker(world: World, host: string, namespace: string): VirtualServiceObject | undefined {
  const wildcards = world.objects(virtualServiceSource).keys("wildcard", "").length > 0;
  const seen = (wildcards ? namesFor(host) : [host]).map((name) =>
    [...world.objects(virtualServiceSource).by("host", name)]
      .sort(byAge)
      .map((object) => ({ object, to: spokenTo(world, object, host) }))
      .filter(({ to }) => to.includes("*") || to.includes(namespace)),
  );
  // As with HTTPRoutes: what is for these callers alone goes before what is for all.
  for (const apart of [true, false])
    for (const each of seen) {
      const found = each.find(({ to }) => to.includes("*") !== apart);
      if (found !== undefined) return found.object;
    }
  return undefined;
}

type SourceMatch = Pick<VirtualMatch, "sourceLabels" | "sourceNamespace" | "gateways">;

/** Matches of all that it says to sidecars, what it delegates to included. */
function matchesOf(world: World, object: VirtualServiceObject): readonly SourceMatch[] {
  const requests = wholeRoutes(world, keyOf(object)).routes.map(({ route }) => route);
  return [...requests, ...(object.spec?.tls ?? []), ...(object.spec?.tcp ?? [])].flatMap(
    ({ match }): readonly SourceMatch[] => match ?? [],
  );
}

/** A match that is for sidecars of this caller. */
function fitsSource(caller: Caller): (match: SourceMatch) => boolean {
  return ({ gateways, sourceNamespace, sourceLabels }) =>
    (gateways === undefined || gateways.length === 0 || gateways.includes(meshGateway)) &&
    (sourceNamespace === undefined || sourceNamespace === caller.namespace) &&
    hasLabels(caller, sourceLabels);
}

/** For whom the VirtualService of a port is folded where this caller calls, as text of a caller; empty = everybody; undefined = none speaks. */
export function virtualAudience(world: World, cluster: string, caller: string): string | undefined {
  const host = clusterHost(cluster);
  return host === undefined ? undefined : audience(world, `${caller}\u0000${host}`);
}

const audience = derived<string | undefined>((world, text) => {
  const [callerWords = "", host = ""] = text.split("\u0000");
  const { namespace, labels } = parseCaller(callerWords);
  const object = speaker(world, host, namespace);
  if (object === undefined) return undefined;
  const matches = matchesOf(world, object);
  const asked = only(
    labels,
    matches.flatMap(({ sourceLabels }) => Object.keys(sourceLabels ?? {})),
  );
  const apart =
    object !== speaker(world, host, "") || Object.keys(asked).length > 0 || matches.some((match) => match.sourceNamespace === namespace);
  return apart ? callerText({ namespace, labels: asked }) : "";
});

/** The routes of a service's port; undefined = no VirtualService speaks about it there. `for_` as `virtualAudience` has it. */
export function virtualRoutes(world: World, cluster: string, for_: string): readonly RoutePlan[] | undefined {
  return folded(world, `${for_}\u0000${cluster}`);
}

const folded = derived<readonly RoutePlan[] | undefined>((world, text) => {
  const [callerWords = "", cluster = ""] = text.split("\u0000");
  const host = clusterHost(cluster);
  const caller = parseCaller(callerWords);
  const object = host === undefined ? undefined : speaker(world, host, caller.namespace);
  if (object === undefined) return undefined;
  const fits = fitsSource(caller);
  const port = targetPlan(world, cluster)?.port.port;
  const routes = wholeRoutes(world, keyOf(object)).routes.flatMap((each: WholeRoute) =>
    planWhole(world, each, (match) => fits(match) && (match.port === undefined || match.port === port)),
  );
  // A host of rules that fit nobody answers 404, as in Istio; without any rule for the port it is as if there were no object.
  return routes.length === 0 ? undefined : routes;
}, equal);

// ---- connections --------------------------------------------------------------------------------------------------------------

/** What a route of `tls` or `tcp` leads to, in the object's namespace; backends without weight left out. */
export function connectionBackends(world: World, namespace: string, { route = [] }: ConnectionRoute): readonly BackendPlan[] {
  const several = route.length > 1;
  return route.flatMap(({ destination, weight }): BackendPlan[] => {
    const share = several ? (weight ?? 0) : 1;
    if (destination === undefined || share === 0) return [];
    const to = resolve(world, namespace, destination);
    const target = targetPlan(world, to.cluster);
    return [{ ...to, weight: share, ...(target === undefined ? {} : opaqueBackend(target)) }];
  });
}

/** What callers get of a port of opaque bytes; undefined = no VirtualService speaks about it. */
export function virtualConnections(world: World, cluster: string, caller: string): ConnectionsPlan | undefined {
  const for_ = virtualAudience(world, cluster, caller);
  return for_ === undefined ? undefined : connected(world, `${for_}\u0000${cluster}`);
}

const connected = derived<ConnectionsPlan | undefined>((world, text) => {
  const [callerWords = "", cluster = ""] = text.split("\u0000");
  const host = clusterHost(cluster);
  const caller = parseCaller(callerWords);
  const object = host === undefined ? undefined : speaker(world, host, caller.namespace);
  const port = targetPlan(world, cluster)?.port;
  if (object === undefined || port === undefined || port.protocol !== "tcp") return undefined;
  const fits = fitsSource(caller);
  return foldConnections(world, object, (match) => fits(match) && (match.port === undefined || match.port === port.port));
}, equal);

/** `tls` goes before `tcp`, as it tells connections apart; undefined = nothing of either fits. */
export function foldConnections(
  world: World,
  object: VirtualServiceObject,
  fits: (match: ConnectionMatch) => boolean,
): ConnectionsPlan | undefined {
  const namespace = namespaceOf(object);
  const taken = new Set<string>();
  const byName = (object.spec?.tls ?? []).flatMap((route, at) => {
    const hosts = [...new Set((route.match ?? []).filter(fits).flatMap(({ sniHosts = [] }) => sniHosts.map((name) => name.toLowerCase())))];
    const free = hosts.filter((name) => !taken.has(name)).sort();
    for (const name of free) taken.add(name);
    return free.length === 0
      ? []
      : [{ route: `${keyOf(object)}/tls/${at}`, hosts: free, backends: connectionBackends(world, namespace, route) }];
  });
  if (byName.length > 0) return { byName, backends: [] };
  const first = (object.spec?.tcp ?? []).find(({ match = [] }) => match.length === 0 || match.some(fits));
  return first === undefined ? undefined : { byName: undefined, backends: connectionBackends(world, namespace, first) };
}
