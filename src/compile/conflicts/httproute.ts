// Owns: two HTTPRoutes (or two rules of one) that match the same requests of the same Service and do different things with them:
// by Gateway API the older wins silently and the other never takes effect.

import { type BackendRef, isServiceParent, type ParentRef } from "../../api/kinds/gateway-refs.ts";
import { type HTTPRouteObject, matchesOf, type RouteMatch, type RouteRule, type ValueMatch } from "../../api/kinds/httproute-spec.ts";
import type { Violation } from "../../api/meta.ts";
import { httpRouteSource } from "../sources.ts";
import { byAge, keyOf, namespaceOf, type World } from "../world.ts";
import { canonical } from "./canonical.ts";

interface Claim {
  readonly route: HTTPRouteObject;
  /** `spec.rules[0].matches[1]` */
  readonly path: string;
  readonly match: string;
  readonly outcome: string;
  readonly words: string;
}

export function routeConflicts(world: World, candidate: HTTPRouteObject): readonly Violation[] {
  const out: Violation[] = [];
  const own = claims(candidate);
  const seen = new Map<string, Claim>();
  for (const claim of own) {
    const before = seen.get(claim.match);
    if (before !== undefined && before.outcome !== claim.outcome) {
      out.push({
        path: claim.path,
        message: `matches the same requests (${describeMatch(claim.match)}) as ${before.path}, but ${claim.words} where that one ${before.words}; remove one of them`,
      });
    }
    if (before === undefined) seen.set(claim.match, claim);
  }
  for (const route of rivals(world, candidate)) {
    const shared = sharedParent(candidate, route);
    if (shared === undefined) continue;
    for (const other of claims(route)) {
      const mine = seen.get(other.match);
      if (mine === undefined || mine.outcome === other.outcome) continue;
      out.push({
        path: mine.path,
        message:
          `contradicts HTTPRoute ${keyOf(route)}, ${other.path}: for the same requests of Service ${shared} (${describeMatch(mine.match)}) this route ${mine.words}, that one ${other.words}; ` +
          `change one of the matches, or change HTTPRoute ${keyOf(route)} instead of adding this one`,
      });
    }
  }
  return out;
}

/** The other routes of its namespace that are attached to one of its Services, oldest first. */
function rivals(world: World, candidate: HTTPRouteObject): readonly HTTPRouteObject[] {
  const parents = (candidate.spec.parentRefs ?? []).filter(isServiceParent).map((ref) => parentKey(candidate, ref));
  const found = new Set(parents.flatMap((parent) => world.objects(httpRouteSource).by("parent", parent)));
  const others = [...found].filter((route) => keyOf(route) !== keyOf(candidate) && namespaceOf(route) === namespaceOf(candidate));
  return others.sort(byAge);
}

/** `NS/NAME` of a Service that both routes are attached to on a common port, or undefined. */
function sharedParent(a: HTTPRouteObject, b: HTTPRouteObject): string | undefined {
  for (const mine of (a.spec.parentRefs ?? []).filter(isServiceParent)) {
    for (const other of (b.spec.parentRefs ?? []).filter(isServiceParent)) {
      const [parent, otherParent] = [parentKey(a, mine), parentKey(b, other)];
      if (parent === otherParent && mayMeet(mine.port, other.port) && mayMeet(mine.sectionName, other.sectionName)) return parent;
    }
  }
  return undefined;
}

function parentKey(route: HTTPRouteObject, ref: ParentRef): string {
  return `${ref.namespace ?? namespaceOf(route)}/${ref.name}`;
}

/** Absent means every port. */
function mayMeet<T>(a: T | undefined, b: T | undefined): boolean {
  return a === undefined || b === undefined || a === b;
}

function claims(route: HTTPRouteObject): Claim[] {
  return (route.spec.rules ?? []).flatMap((rule, at) =>
    matchesOf(rule).map((match, which) => ({
      route,
      path: `spec.rules[${at}].matches[${which}]`,
      match: matchText(match),
      outcome: outcomeText(route, rule),
      words: outcomeWords(rule),
    })),
  );
}

function matchText(match: RouteMatch): string {
  const type = match.path?.type ?? "PathPrefix";
  const value = match.path?.value ?? "/";
  const plain = type === "PathPrefix" && value.length > 1 && value.endsWith("/") ? value.slice(0, -1) : value;
  const values = (list: readonly ValueMatch[] | undefined, lower: boolean) =>
    (list ?? [])
      .map((each) => `${lower ? each.name.toLowerCase() : each.name}${each.type === "RegularExpression" ? "~" : "="}${each.value}`)
      .sort();
  return JSON.stringify([type, plain, match.method ?? "", values(match.headers, true), values(match.queryParams, false)]);
}

function describeMatch(text: string): string {
  const [type, path, method, headers, query] = JSON.parse(text) as [string, string, string, string[], string[]];
  const more = [
    ...(method === "" ? [] : [`method ${method}`]),
    ...headers.map((each) => `header ${each}`),
    ...query.map((each) => `query ${each}`),
  ];
  return [`path ${type} ${path}`, ...more].join(", ");
}

function outcomeText(route: HTTPRouteObject, rule: RouteRule): string {
  const backends = (rule.backendRefs ?? []).filter((ref) => ref.weight !== 0);
  const total = backends.reduce((sum, ref) => sum + (ref.weight ?? 1), 0);
  const shares = backends.map((ref) => [
    ref.kind ?? "Service",
    ref.namespace ?? namespaceOf(route),
    ref.name,
    ref.port ?? 0,
    (ref.weight ?? 1) / total,
    ref.filters ?? [],
  ]);
  return canonical({
    shares,
    filters: rule.filters ?? [],
    timeouts: rule.timeouts ?? {},
    retry: rule.retry ?? {},
    session: rule.sessionPersistence ?? {},
  });
}

function outcomeWords(rule: RouteRule): string {
  const filters = (rule.filters ?? []).map((filter) => filter.type).sort();
  const backends = (rule.backendRefs ?? []).filter((ref) => ref.weight !== 0);
  const extra = [...filters, ...(rule.timeouts === undefined ? [] : ["timeouts"]), ...(rule.retry === undefined ? [] : ["retry"])];
  const suffix = extra.length === 0 ? "" : ` (with ${extra.join(", ")})`;
  if (filters.includes("RequestRedirect")) return `redirects them${suffix}`;
  if (backends.length === 0) return `answers them with 500${suffix}`;
  const total = backends.reduce((sum, ref) => sum + (ref.weight ?? 1), 0);
  return `sends them to ${backends.map((ref) => share(ref, total)).join(" and ")}${suffix}`;
}

function share(ref: BackendRef, total: number): string {
  const percent = ((ref.weight ?? 1) / total) * 100;
  return `${ref.name}:${ref.port ?? "?"}${percent === 100 ? "" : ` (${Number(percent.toFixed(2))} %)`}`;
}
