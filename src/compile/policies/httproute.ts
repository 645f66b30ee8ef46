// Owns: how HTTPRoutes and GRPCRoutes fold into the routes of a service's port (Gateway API for mesh, GEP-1294 and GEP-1426), and what became of each
// reference. A route in the service's own namespace speaks for all callers; one in another namespace only for callers of that namespace,
// and then instead of the service's own. On one port GRPCRoutes go before HTTPRoutes, as the more specific kind.

import type { AnyRouteObject, BackendRef, ParentRef } from "../../api/kinds/gateway-refs.ts";
import { isServiceParent } from "../../api/kinds/gateway-refs.ts";
import { grpcMatchesOf } from "../../api/kinds/grpcroute-spec.ts";
import { matchesOf, type RouteFilter } from "../../api/kinds/httproute-spec.ts";
import { speaksHttp } from "../../api/kinds/service.ts";
import type { KubeObject } from "../../api/meta.ts";
import type { Source } from "../objects.ts";
import { callerNamespace } from "../plan/caller.ts";
import { targetPlan } from "../plan/mesh.ts";
import type { RoutePlan } from "../plan/routes.ts";
import { grpcRouteSource, type ParentIndex } from "../route-sources.ts";
import { httpRouteSource } from "../sources.ts";
import { byAge, derived, equal, keyOf, namespaceOf, type World } from "../world.ts";
import { type RefProblem, type Resolved, type ResolvedVerdict, resolveBackend, resolvedVerdict, withoutGrpc } from "./backends.ts";
import { grpcRank, planGrpcRule } from "./grpcroute.ts";
import { type AcceptedVerdict, type Attached, attach } from "./parents.ts";
import { type BackendOf, byPrecedence, planRule, type RankedRoute, rankOf } from "./route-rules.ts";
import { virtualAudience, virtualRoutes } from "./virtualservice.ts";

/** What became of one parent reference of one route. */
export interface ParentVerdict extends AcceptedVerdict, ResolvedVerdict {
  readonly parentRef: ParentRef;
}

export type RequestRouteKind = "HTTPRoute" | "GRPCRoute";

/** What one route says, whoever else speaks about the same parents. */
export interface RouteReading {
  /** In the route's order. */
  readonly rules: readonly RankedRoute[];
  /** One for each parent reference. */
  readonly attached: readonly Attached[];
  readonly resolved: ResolvedVerdict;
}

const sourceOf = { HTTPRoute: httpRouteSource, GRPCRoute: grpcRouteSource } as unknown as Readonly<
  Record<RequestRouteKind, Source<RequestRouteObject, ParentIndex>>
>;

/** What the two kinds have in common as parts of a fold. */
interface RuleShape {
  readonly name?: string;
  readonly backendRefs?: readonly (BackendRef & { readonly filters?: readonly RouteFilter[] })[];
  readonly filters?: readonly RouteFilter[];
}

interface RequestRouteObject extends AnyRouteObject {
  spec: AnyRouteObject["spec"] & { rules?: readonly RuleShape[] };
}

/** By kind, blank, `NS/NAME`. */
export const readRoute = derived<RouteReading | undefined>((world, text) => {
  const [kind, key = ""] = text.split(" ") as [RequestRouteKind, string];
  const route = world.objects(sourceOf[kind]).get(key);
  if (route === undefined) return undefined;
  const backends = resolveAll(world, route, route.spec.rules ?? []);
  const attached = (route.spec.parentRefs ?? []).map((ref) =>
    attach(world, route, ref, speaksHttp, "speaks no HTTP there (%); name the port http… or set its appProtocol to http"),
  );
  return { rules: rankRules(world, kind, key, backends.of), attached, resolved: backends.verdict };
}, equal);

function rankRules(world: World, kind: RequestRouteKind, key: string, backendOf: BackendOf): RankedRoute[] {
  if (kind === "HTTPRoute")
    return (world.objects(httpRouteSource).get(key)?.spec.rules ?? []).flatMap((rule, at) =>
      matchesOf(rule).map((match) => ({
        plans: planRule(`${key}/${rule.name ?? at}`, rule, match, backendOf),
        rank: rankOf(match),
      })),
    );
  return (world.objects(grpcRouteSource).get(key)?.spec.rules ?? []).flatMap((rule, at) =>
    grpcMatchesOf(rule).map((match) => ({
      plans: planGrpcRule(`${key}/${rule.name ?? at}`, rule, match, backendOf),
      rank: grpcRank(match),
    })),
  );
}

/** A caller may call the parent Service without any route: a consumer's route that leads back to it needs no grant. */
function ownParents(route: AnyRouteObject): ReadonlySet<string> {
  return new Set((route.spec.parentRefs ?? []).filter(isServiceParent).map((ref) => `${ref.namespace ?? namespaceOf(route)}/${ref.name}`));
}

function resolveAll(world: World, route: AnyRouteObject, rules: readonly RuleShape[]): { of: BackendOf; verdict: ResolvedVerdict } {
  const problems: RefProblem[] = [];
  const resolved = new Map<BackendRef, Resolved>();
  const freely = ownParents(route);
  const take = (ref: BackendRef, where: string) => {
    const found = resolveBackend(world, route as KubeObject, ref, where, "tcp", freely);
    if (found.problem !== undefined) problems.push(found.problem);
    resolved.set(ref, found);
  };
  const takeFilters = (filters: readonly RouteFilter[], place: string) => {
    for (const [at, { requestMirror, externalAuth }] of filters.entries()) {
      if (requestMirror !== undefined) take(requestMirror.backendRef, `${place}.filters[${at}].requestMirror.backendRef`);
      if (externalAuth === undefined) continue;
      const where = `${place}.filters[${at}].externalAuth.backendRef`;
      take(externalAuth.backendRef, where);
      const found = resolved.get(externalAuth.backendRef);
      const wrong =
        externalAuth.protocol === "GRPC" && found?.problem === undefined ? withoutGrpc(world, found?.cluster ?? "", where) : undefined;
      if (wrong === undefined) continue;
      problems.push(wrong);
      resolved.set(externalAuth.backendRef, { cluster: "", problem: wrong });
    }
  };
  for (const [ruleAt, rule] of rules.entries()) {
    const place = `spec.rules[${ruleAt}]`;
    for (const [at, ref] of (rule.backendRefs ?? []).entries()) {
      take(ref, `${place}.backendRefs[${at}]`);
      takeFilters(ref.filters ?? [], `${place}.backendRefs[${at}]`);
    }
    takeFilters(rule.filters ?? [], place);
  }
  return {
    of: (ref) => ({ cluster: resolved.get(ref)?.cluster ?? "", missing: resolved.get(ref)?.problem !== undefined }),
    verdict: resolvedVerdict(problems, "its share of the traffic is answered with 500, and nothing is mirrored there"),
  };
}

/** Some HTTPRoute asks an authorization service: the listeners of callers and gateways then have the filter for it. */
export const asksOthers = derived<boolean>((world) =>
  world
    .objects(httpRouteSource)
    .all()
    .some(({ spec }) => (spec.rules ?? []).some((rule) => [rule, ...(rule.backendRefs ?? [])].some(asks))),
);

function asks({ filters = [] }: { readonly filters?: readonly RouteFilter[] }): boolean {
  return filters.some(({ externalAuth }) => externalAuth !== undefined);
}

/** The same as `routeVerdicts` of gateway-requests.ts, whoever else is attached to the same Gateways. */
export const verdictsAtServices = derived<readonly ParentVerdict[]>((world, text) => {
  const [kind, key = ""] = text.split(" ") as [RequestRouteKind, string];
  const route = world.objects(sourceOf[kind]).get(key);
  const reading = readRoute(world, text);
  if (route === undefined || reading === undefined) return [];
  return (route.spec.parentRefs ?? []).flatMap((parentRef, at): ParentVerdict[] => {
    const attached = reading.attached[at];
    if (attached?.verdict === undefined) return [];
    const displaced = kind === "HTTPRoute" ? displacedBy(world, attached) : undefined;
    return [{ parentRef, ...(displaced ?? attached.verdict), ...reading.resolved }];
  });
}, equal);

/** All ports that an HTTPRoute is attached to are spoken for by GRPCRoutes. */
function displacedBy(world: World, attached: Attached): AcceptedVerdict | undefined {
  const taken = attached.clusters.map((cluster) => grpcSpeaker(world, `${attached.audience}\u0000${cluster}`));
  const [first] = taken;
  if (first === undefined || taken.includes(undefined)) return undefined;
  return {
    accepted: false,
    acceptedReason: "Conflicted",
    acceptedMessage: `GRPCRoute ${first} is attached to the same port, and goes before HTTPRoutes; give HTTP a port of its own, or move the rules to one of the two`,
  };
}

interface Speaker {
  readonly key: string;
  readonly reading: RouteReading;
}

/** The routes of a kind that are attached to a port for an audience, oldest first. */
function speakers(world: World, kind: RequestRouteKind, audience: string, cluster: string): Speaker[] {
  const parent = targetPlan(world, cluster)?.service.key;
  if (parent === undefined) return [];
  const routes = [...world.objects(sourceOf[kind]).by("parent", parent)].sort(byAge);
  return routes.flatMap((route) => {
    const key = keyOf(route);
    const reading = readRoute(world, `${kind} ${key}`);
    const speaks = reading?.attached.some((one) => one.audience === audience && one.clusters.includes(cluster)) ?? false;
    return reading !== undefined && speaks ? [{ key, reading }] : [];
  });
}

/** The oldest GRPCRoute on a port. By audience, NUL, cluster. */
const grpcSpeaker = derived<string | undefined>((world, text) => {
  const [audience = "", cluster = ""] = text.split("\u0000");
  return speakers(world, "GRPCRoute", audience, cluster)[0]?.key;
});

/** By audience (empty = all callers), NUL, cluster. */
const folded = derived<readonly RoutePlan[] | undefined>((world, text) => {
  const [audience = "", cluster = ""] = text.split("\u0000");
  const grpc = speakers(world, "GRPCRoute", audience, cluster);
  const speaking = grpc.length > 0 ? grpc : speakers(world, "HTTPRoute", audience, cluster);
  const ranked = speaking.flatMap(({ reading }) => reading.rules);
  return ranked.length === 0 ? undefined : ranked.sort(byPrecedence).flatMap((each) => each.plans);
}, equal);

/** For whom the routes of a port are folded where this caller calls: its namespace where that has routes of its own, else everybody (empty). */
export function audienceOf(world: World, cluster: string, caller: string): string {
  const namespace = callerNamespace(caller);
  if (folded(world, `${namespace}\u0000${cluster}`) !== undefined) return namespace;
  if (folded(world, `\u0000${cluster}`) !== undefined) return "";
  return virtualAudience(world, cluster, caller) ?? "";
}

/** Routes of a service port in the order they are tried; undefined = no route speaks about it. `audience` as `audienceOf` has it. */
export function routesFor(world: World, cluster: string, audience: string): readonly RoutePlan[] | undefined {
  return folded(world, `${audience}\u0000${cluster}`) ?? virtualRoutes(world, cluster, audience);
}
