// Owns: how HTTPRoutes fold into the routes of a service's port (Gateway API for mesh, GEP-1294 and GEP-1426), and what became of each
// reference. A route in the service's own namespace speaks for all callers; one in another namespace only for callers of that namespace,
// and then instead of the service's own.

import { type BackendRef, durationMs, type ParentRef } from "../../api/kinds/gateway-refs.ts";
import {
  type HeaderModifier,
  type HTTPRouteObject,
  matchesOf,
  type PathModifier,
  type RouteFilter,
  type RouteMatch,
  type RouteRule,
} from "../../api/kinds/httproute-spec.ts";
import { speaksHttp } from "../../api/kinds/service.ts";
import { outboundCluster, serviceHost } from "../../wire/names.ts";
import { planTargets } from "../plan/mesh.ts";
import type { TargetPlan } from "../plan/plan.ts";
import {
  type BackendPlan,
  defaultRetries,
  type HeaderEditsPlan,
  type MatchPlan,
  noEdits,
  type RedirectPlan,
  type RoutePlan,
} from "../plan/routes.ts";
import { httpRouteSource } from "../sources.ts";
import { byAge, compareText, derived, equal, keyOf, namespaceOf, type ServicePortModel, type World } from "../world.ts";

/** What became of one parent reference of one route. */
export interface ParentVerdict {
  readonly parentRef: ParentRef;
  readonly accepted: boolean;
  readonly acceptedReason: "Accepted" | "NoMatchingParent" | "UnsupportedValue";
  readonly acceptedMessage: string;
  readonly resolved: boolean;
  readonly resolvedReason: "ResolvedRefs" | "BackendNotFound" | "RefNotPermitted" | "InvalidKind";
  readonly resolvedMessage: string;
}

interface RankedRoute {
  readonly plans: readonly RoutePlan[];
  readonly rank: readonly number[];
}

/** What one route says, whoever else speaks about the same ports. */
interface RouteReading {
  /** In the route's order. */
  readonly rules: readonly RankedRoute[];
  /** One for each parent reference. */
  readonly attached: readonly Attached[];
  readonly verdicts: readonly ParentVerdict[];
}

/** By `NS/NAME` of the route. */
const readRoute = derived<RouteReading | undefined>((world, key) => {
  const route = world.objects(httpRouteSource).get(key);
  if (route === undefined) return undefined;
  const backends = resolveBackends(route, planTargets(world));
  const attached = (route.spec.parentRefs ?? []).map((ref) => attach(world, route, ref));
  return {
    rules: rankRules(route, backends),
    attached,
    verdicts: (route.spec.parentRefs ?? []).map((ref, at) => ({ parentRef: ref, ...attached[at]!.verdict, ...backends.verdict })),
  };
}, equal);

/** What became of each parent reference of a route, by its `NS/NAME`. */
export function routeVerdicts(world: World, key: string): readonly ParentVerdict[] {
  return readRoute(world, key)?.verdicts ?? [];
}

/** By audience (empty = all callers), NUL, cluster. */
const folded = derived<readonly RoutePlan[] | undefined>((world, key) => {
  const [audience = "", cluster = ""] = key.split("\u0000");
  const parent = planTargets(world).get(cluster)?.service.key;
  if (parent === undefined) return undefined;
  const speaking = world
    .objects(httpRouteSource)
    .by("parent", parent)
    .map((route) => ({ route, reading: readRoute(world, keyOf(route)) }))
    .filter(({ reading }) => reading?.attached.some((one) => one.audience === audience && one.clusters.includes(cluster)));
  const ranked = speaking.sort((a, b) => byAge(a.route, b.route)).flatMap(({ reading }) => reading?.rules ?? []);
  // Sorting is stable: of equal rank, the older route's go first, then by the order in the route.
  return ranked.length === 0 ? undefined : ranked.sort(byPrecedence).flatMap((each) => each.plans);
}, equal);

/** For whom the routes of a port are folded where this namespace calls: itself where it has routes of its own for it, else everybody (empty). */
export function audienceOf(world: World, cluster: string, callerNamespace: string): string {
  return folded(world, `${callerNamespace}\u0000${cluster}`) === undefined ? "" : callerNamespace;
}

/** Routes of a service port in the order they are tried; undefined = no route speaks about it. `audience` as `audienceOf` has it. */
export function routesFor(world: World, cluster: string, audience: string): readonly RoutePlan[] | undefined {
  return folded(world, `${audience}\u0000${cluster}`);
}

export interface RouteFold {
  /** Routes of a service port in the order they are tried; undefined = no HTTPRoute speaks about it. */
  routesFor(cluster: string, callerNamespace: string): readonly RoutePlan[] | undefined;
}

/** The same by the caller's namespace. */
export function foldRoutes(world: World, _ports?: unknown): RouteFold {
  return { routesFor: (cluster, namespace) => routesFor(world, cluster, audienceOf(world, cluster, namespace)) };
}

interface Attached {
  /** Empty = all callers. */
  readonly audience: string;
  readonly clusters: readonly string[];
  readonly verdict: Pick<ParentVerdict, "accepted" | "acceptedReason" | "acceptedMessage">;
}

/** The ports of the parent Service that a reference means: those named by `port` and `sectionName`, of protocol http. */
function attach(world: World, route: HTTPRouteObject, ref: ParentRef): Attached {
  const namespace = ref.namespace ?? namespaceOf(route);
  const audience = namespace === namespaceOf(route) ? "" : namespaceOf(route);
  const nothing = (message: string): Attached => ({
    audience,
    clusters: [],
    verdict: { accepted: false, acceptedReason: "NoMatchingParent", acceptedMessage: message },
  });
  const service = world.services.get(`${namespace}/${ref.name}`);
  if (service === undefined) return nothing(`there is no Service ${namespace}/${ref.name}; the route takes effect when it is created`);
  const meant = service.ports.filter(
    (port) => (ref.port === undefined || port.port === ref.port) && (ref.sectionName === undefined || port.name === ref.sectionName),
  );
  if (meant.length === 0)
    return nothing(`Service ${service.key} has no port ${ref.sectionName ?? ref.port ?? ""}; it has ${describePorts(service.ports)}`);
  const http = meant.filter((port) => speaksHttp(port.protocol));
  if (http.length === 0)
    return nothing(
      `Service ${service.key} speaks no HTTP there (${describePorts(meant)}); name the port http… or set its appProtocol to http`,
    );
  return {
    audience,
    clusters: http.map((port) => outboundCluster(port.port, service.host)),
    verdict: {
      accepted: true,
      acceptedReason: "Accepted",
      acceptedMessage: `attached to Service ${service.key}, port ${http.map((port) => port.port).join(", ")}`,
    },
  };
}

function describePorts(ports: readonly ServicePortModel[]): string {
  return ports.map((port) => `${port.name === "" ? "" : `${port.name}:`}${port.port}/${port.protocol}`).join(", ");
}

interface Backends {
  readonly of: (ref: BackendRef) => BackendPlan;
  readonly verdict: Pick<ParentVerdict, "resolved" | "resolvedReason" | "resolvedMessage">;
}

function resolveBackends(route: HTTPRouteObject, targets: ReadonlyMap<string, TargetPlan>): Backends {
  const problems: { reason: ParentVerdict["resolvedReason"]; message: string }[] = [];
  const plans = new Map<BackendRef, BackendPlan>();
  for (const [ruleAt, rule] of (route.spec.rules ?? []).entries()) {
    for (const [at, ref] of (rule.backendRefs ?? []).entries()) {
      const where = `spec.rules[${ruleAt}].backendRefs[${at}]`;
      const namespace = ref.namespace ?? namespaceOf(route);
      const cluster = outboundCluster(ref.port ?? 0, serviceHost(ref.name, namespace));
      let missing = true;
      if ((ref.group ?? "") !== "" || (ref.kind ?? "Service") !== "Service")
        problems.push({
          reason: "InvalidKind",
          message: `${where}: a backend must be a Service, not ${ref.group ?? ""}/${ref.kind ?? ""}`,
        });
      else if (namespace !== namespaceOf(route))
        problems.push({
          reason: "RefNotPermitted",
          message: `${where}: Service ${namespace}/${ref.name} is in another namespace, which needs a ReferenceGrant, and those are not implemented by this version of Weft`,
        });
      else if (!targets.has(cluster))
        problems.push({
          reason: "BackendNotFound",
          message: `${where}: there is no Service ${namespace}/${ref.name} with port ${ref.port ?? ""}`,
        });
      else missing = false;
      plans.set(ref, { cluster: missing ? missingCluster(cluster) : cluster, weight: ref.weight ?? 1, missing });
    }
  }
  const first = problems[0];
  const verdict =
    first === undefined
      ? ({ resolved: true, resolvedReason: "ResolvedRefs", resolvedMessage: "every reference is resolved" } as const)
      : {
          resolved: false,
          resolvedReason: first.reason,
          resolvedMessage: `${problems.map((each) => each.message).join("; ")}; its share of the traffic is answered with 500`,
        };
  return { of: (ref) => plans.get(ref)!, verdict };
}

/** A name that no cluster has, so that a Service one may not refer to is not reached although its cluster exists. */
function missingCluster(cluster: string): string {
  return cluster.replace("outbound|", "unresolved|");
}

function rankRules(route: HTTPRouteObject, backends: Backends): RankedRoute[] {
  const out: RankedRoute[] = [];
  for (const [ruleAt, rule] of (route.spec.rules ?? []).entries()) {
    for (const match of matchesOf(rule)) {
      const name = `${keyOf(route)}/${rule.name ?? ruleAt}`;
      out.push({ plans: planRule(name, rule, match, backends), rank: rankOf(match) });
    }
  }
  return out;
}

/**
 * Gateway API, HTTPRouteRule.matches: exact path, longest prefix, method, most headers, most query parameters; greater goes first.
 * Where the standard leaves regular expressions open they come after exact paths and before prefixes, as in Istio and Envoy Gateway.
 */
function rankOf(match: RouteMatch): number[] {
  const type = match.path?.type ?? "PathPrefix";
  const value = match.path?.value ?? "/";
  const kind = type === "Exact" ? 2 : type === "RegularExpression" ? 1 : 0;
  return [
    kind,
    type === "PathPrefix" ? trimSlash(value).length : value.length,
    match.method === undefined ? 0 : 1,
    match.headers?.length ?? 0,
    match.queryParams?.length ?? 0,
  ];
}

function byPrecedence(a: RankedRoute, b: RankedRoute): number {
  for (let at = 0; at < a.rank.length; at++) if (a.rank[at] !== b.rank[at]) return b.rank[at]! - a.rank[at]!;
  return 0;
}

function planRule(name: string, rule: RouteRule, match: RouteMatch, backends: Backends): RoutePlan[] {
  const filters = rule.filters ?? [];
  const edits = {
    requestHeaders: headerEdits(filters.find((filter) => filter.requestHeaderModifier !== undefined)?.requestHeaderModifier),
    responseHeaders: headerEdits(filters.find((filter) => filter.responseHeaderModifier !== undefined)?.responseHeaderModifier),
  };
  const plain = planMatch(match);
  const redirect = filters.find((filter) => filter.requestRedirect !== undefined)?.requestRedirect;
  if (redirect !== undefined) {
    return splitPrefix(plain, redirect.path).map(([where, prefix]) => ({
      name,
      match: where,
      action: redirectPlan(redirect, prefix),
      ...edits,
    }));
  }
  const all = (rule.backendRefs ?? []).map(backends.of);
  const live = all.filter((backend) => backend.weight > 0);
  if (live.every((backend) => backend.missing)) {
    const body =
      all.length === 0
        ? `HTTPRoute rule ${name} names no backend.`
        : `No backend of HTTPRoute rule ${name} can be resolved; the route's status says why.`;
    return [{ name, match: plain, action: { kind: "direct", status: 500, body }, ...edits }];
  }
  const rewrite = filters.find((filter) => filter.urlRewrite !== undefined)?.urlRewrite;
  return splitPrefix(plain, rewrite?.path).map(([where, prefix]) => {
    // An exact match is a prefix of its own whole path, so the full path goes the same way.
    const prefixRewrite = prefix ?? rewrite?.path?.replaceFullPath;
    return {
      name,
      match: where,
      action: {
        kind: "forward",
        backends: all,
        timeoutMs: rule.timeouts?.request === undefined ? 0 : durationMs(rule.timeouts.request),
        retry: {
          attempts: rule.retry?.attempts ?? defaultRetries,
          codes: [...(rule.retry?.codes ?? [])].sort((a, b) => a - b),
          perTryTimeoutMs: rule.timeouts?.backendRequest === undefined ? 0 : durationMs(rule.timeouts.backendRequest),
        },
        ...(prefixRewrite === undefined ? {} : { prefixRewrite }),
        ...(rewrite?.hostname === undefined ? {} : { hostRewrite: rewrite.hostname }),
      },
      ...edits,
    };
  });
}

function planMatch(match: RouteMatch): MatchPlan {
  const type = match.path?.type ?? "PathPrefix";
  const value = match.path?.value ?? "/";
  const values = (list: RouteMatch["headers"], lower: boolean) =>
    (list ?? [])
      .map((each) => ({
        name: lower ? each.name.toLowerCase() : each.name,
        kind: each.type === "RegularExpression" ? ("regex" as const) : ("exact" as const),
        value: each.value,
      }))
      .sort((a, b) => compareText(a.name, b.name));
  return {
    path: planPath(type, value),
    method: match.method,
    headers: values(match.headers, true),
    query: values(match.queryParams, false),
  };
}

function planPath(type: string, value: string): MatchPlan["path"] {
  if (type === "Exact") return { kind: "exact", value };
  if (type === "RegularExpression") return { kind: "regex", value };
  // "/foo" and "/foo/" mean the same prefix; Envoy's separated prefix must not end with a slash.
  const prefix = trimSlash(value);
  return prefix === "" ? { kind: "prefix", value: "/" } : { kind: "separated-prefix", value: prefix };
}

function trimSlash(path: string): string {
  return path.endsWith("/") ? path.slice(0, -1) : path;
}

/**
 * The routes that replace a prefix by path elements, as Gateway API wants, with a proxy that replaces it by characters: where the
 * replacement ends with a slash (or is empty), `/foo` alone and `/foo/…` are two routes, or `/foo/bar` would become `//bar`.
 */
function splitPrefix(match: MatchPlan, modifier: PathModifier | undefined): readonly (readonly [MatchPlan, string | undefined])[] {
  const replacement = modifier?.replacePrefixMatch;
  if (replacement === undefined) return [[match, undefined]];
  const { kind, value } = match.path;
  const slashed = replacement.endsWith("/") ? replacement : `${replacement}/`;
  if (kind === "prefix") return [[match, slashed]];
  if (replacement !== "" && !replacement.endsWith("/")) return [[match, replacement]];
  return [
    [{ ...match, path: { kind: "exact", value } }, slashed],
    [{ ...match, path: { kind: "prefix", value: `${value}/` } }, slashed],
  ];
}

function redirectPlan(redirect: NonNullable<RouteFilter["requestRedirect"]>, prefix: string | undefined): RedirectPlan {
  const full = redirect.path?.replaceFullPath;
  const wellKnown = redirect.scheme === "https" ? 443 : redirect.scheme === "http" ? 80 : undefined;
  return {
    kind: "redirect",
    status: (redirect.statusCode ?? 302) as RedirectPlan["status"],
    scheme: redirect.scheme,
    host: redirect.hostname,
    // Gateway API: the scheme's own port is not spelled out in Location.
    port: redirect.port === wellKnown ? undefined : redirect.port,
    path:
      full !== undefined
        ? { kind: "full", value: full === "" ? "/" : full }
        : prefix !== undefined
          ? { kind: "prefix", value: prefix }
          : undefined,
  };
}

function headerEdits(edits: HeaderModifier | undefined): HeaderEditsPlan {
  if (edits === undefined) return noEdits;
  const byName = (a: { name: string }, b: { name: string }) => compareText(a.name, b.name);
  const pairs = (list: HeaderModifier["set"]) => (list ?? []).map(({ name, value }) => ({ name: name.toLowerCase(), value })).sort(byName);
  return { set: pairs(edits.set), add: pairs(edits.add), remove: (edits.remove ?? []).map((name) => name.toLowerCase()).sort() };
}
