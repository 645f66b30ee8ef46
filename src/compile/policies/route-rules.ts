// Owns: how one match of one rule of an HTTPRoute becomes routes of the plan, and how high it ranks. Pure; knows no parents.

import { type BackendRef, durationMs } from "../../api/kinds/gateway-refs.ts";
import { corsOrigin } from "../../api/kinds/httproute-filters.ts";
import type {
  CorsFilter,
  ExternalAuthFilter,
  HeaderModifier,
  MirrorFilter,
  PathModifier,
  RouteBackendRef,
  RouteFilter,
  RouteMatch,
  RouteRule,
  SessionPersistence,
  ValueMatch,
} from "../../api/kinds/httproute-spec.ts";
import {
  type BackendPlan,
  type CorsPlan,
  defaultRetries,
  type ExternalAuthPlan,
  type ForwardPlan,
  type HeaderEditsPlan,
  type MatchPlan,
  type MirrorPlan,
  noEdits,
  type RedirectPlan,
  type RetryPlan,
  type RoutePlan,
  type SessionPlan,
  type ValueMatchPlan,
} from "../plan/routes.ts";
import { compareText } from "../world.ts";

/** A route of the plan and its place: greater goes first, number by number. */
export interface RankedRoute {
  readonly plans: readonly RoutePlan[];
  readonly rank: readonly number[];
}

/** Stable, so that of equal rank the older route's goes first, then by the order in the route. */
export function byPrecedence(a: RankedRoute, b: RankedRoute): number {
  for (let at = 0; at < a.rank.length; at++) if (a.rank[at] !== b.rank[at]) return (b.rank[at] ?? 0) - (a.rank[at] ?? 0);
  return 0;
}

/** A backend as its reference was resolved. */
export type BackendOf = (ref: BackendRef) => { readonly cluster: string; readonly missing: boolean };

/**
 * Gateway API, HTTPRouteRule.matches: exact path, longest prefix, method, most headers, most query parameters; greater goes first.
 * Where the standard leaves regular expressions open they come after exact paths and before prefixes, as in Istio and Envoy Gateway.
 */
export function rankOf(match: RouteMatch): number[] {
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

/** The routes of one match of a rule: several where a prefix is replaced by path elements, and where backends have filters of their own. */
export function planRule(name: string, rule: RouteRule, match: RouteMatch, backendOf: BackendOf): RoutePlan[] {
  const plain = planMatch(match);
  return sharesOf(rule, backendOf).flatMap((share) => planShare(name, share.rule, fittingShare(plain, share), backendOf));
}

function planShare(name: string, rule: RouteRule, plain: MatchPlan, backendOf: BackendOf): RoutePlan[] {
  const asked = filterOf(rule.filters, "externalAuth");
  const auth = asked === undefined ? undefined : externalAuth(asked, backendOf);
  if (auth === null) {
    const body = `The authorization service of HTTPRoute rule ${name} cannot be resolved; the route's status says why.`;
    return [{ ...everyRoute(name, plain, rule), action: { kind: "direct", status: 500, body } }];
  }
  const routes = planAction(name, rule, plain, backendOf);
  return auth === undefined ? routes : routes.map((route) => ({ ...route, auth }));
}

/** What of a rule is about backends. */
interface SharedRule {
  readonly filters?: readonly RouteFilter[];
  readonly backendRefs?: readonly RouteBackendRef[];
}

interface RuleShare<R> {
  /** As if these backends and their filters were all that it has. */
  readonly rule: R;
  readonly belowMillionth?: number;
}

/**
 * Most filters are the business of a whole route, also for a proxy: a backend that has such filters gets a route of its own for its share of the
 * requests, and the last route has the other backends.
 */
export function sharesOf<R extends SharedRule>(rule: R, backendOf: BackendOf): readonly RuleShare<R>[] {
  const refs = rule.backendRefs ?? [];
  const apart = refs.filter((ref) => weightOf(ref) > 0 && (ref.filters ?? []).some(ofRoute) && !backendOf(ref).missing);
  if (apart.length === 0) return [{ rule }];
  const rest = refs.filter((ref) => !apart.includes(ref));
  const sum = (list: readonly RouteBackendRef[]) => list.reduce((all, ref) => all + weightOf(ref), 0);
  const groups = [...apart.map((ref) => [ref]), ...(sum(rest) > 0 ? [rest] : [])];
  let upTo = 0;
  return groups.map((group, at) => {
    upTo += sum(group);
    const filters = at < apart.length ? withOwn(rule.filters ?? [], (group[0]?.filters ?? []).filter(ofRoute)) : rule.filters;
    const part = { ...rule, backendRefs: group, ...(filters === undefined ? {} : { filters }) };
    return { rule: part, ...(at === groups.length - 1 ? {} : { belowMillionth: Math.round((upTo / sum(refs)) * 1_000_000) }) };
  });
}

export function fittingShare(match: MatchPlan, { belowMillionth }: RuleShare<unknown>): MatchPlan {
  return belowMillionth === undefined ? match : { ...match, belowMillionth };
}

function weightOf(ref: RouteBackendRef): number {
  return ref.weight ?? 1;
}

/** What a proxy can do for one of several backends are edits of headers, and another host. */
function ofRoute({ requestMirror, requestRedirect, urlRewrite, cors, externalAuth }: RouteFilter): boolean {
  return [requestMirror, requestRedirect, urlRewrite?.path, cors, externalAuth].some((each) => each !== undefined);
}

/** The backend's word goes before the rule's; copies are sent for both. */
function withOwn(all: readonly RouteFilter[], own: readonly RouteFilter[]): readonly RouteFilter[] {
  const urlRewrite = { ...filterOf(all, "urlRewrite"), ...filterOf(own, "urlRewrite") };
  const others = [...own, ...all].filter((filter) => filter.urlRewrite === undefined);
  return Object.keys(urlRewrite).length === 0 ? others : [...others, { type: "URLRewrite", urlRewrite }];
}

function planAction(name: string, rule: RouteRule, plain: MatchPlan, backendOf: BackendOf): RoutePlan[] {
  const redirect = filterOf(rule.filters, "requestRedirect");
  const rewrite = filterOf(rule.filters, "urlRewrite");
  if (redirect !== undefined)
    return splitPrefix(plain, redirect.path).map(([where, prefix]) => ({
      ...everyRoute(name, where, rule),
      action: redirectPlan(redirect, prefix),
    }));
  const backends = backendPlans(rule.backendRefs ?? [], backendOf);
  if (backends.every((backend) => backend.missing || backend.weight === 0))
    return [{ ...everyRoute(name, plain, rule), action: nobody("HTTPRoute", name, backends) }];
  const base: ForwardPlan = {
    kind: "forward",
    backends,
    timeoutMs: rule.timeouts?.request === undefined ? 0 : durationMs(rule.timeouts.request),
    retry: retryPlan(rule),
    ...(rewrite?.hostname === undefined ? {} : { hostRewrite: rewrite.hostname }),
    ...mirrorPlans(rule.filters ?? [], backendOf),
  };
  const session = rule.sessionPersistence === undefined ? {} : { session: sessionPlan(name, rule.sessionPersistence) };
  return splitPrefix(plain, rewrite?.path).map(([where, prefix]) => ({
    ...everyRoute(name, where, rule),
    action: { ...base, ...pathRewrite(where, prefix, rewrite?.path) },
    ...session,
  }));
}

/** null: its service cannot be resolved, so that nothing may pass. */
function externalAuth({ protocol, backendRef, http, forwardBody }: ExternalAuthFilter, backendOf: BackendOf): ExternalAuthPlan | null {
  const { cluster, missing } = backendOf(backendRef);
  if (missing) return null;
  const names = (list: readonly string[] | undefined) => [...new Set((list ?? []).map((each) => each.toLowerCase()))].sort();
  return {
    kind: protocol === "GRPC" ? "grpc" : "http",
    cluster,
    host: cluster.split("|")[3] ?? cluster,
    pathPrefix: http?.path ?? "",
    tellHeaders: names(http?.allowedHeaders),
    takeHeaders: names(http?.allowedResponseHeaders),
    bodyBytes: forwardBody?.maxSize ?? 0,
  };
}

/** What a route says whatever its action is. */
export function everyRoute(
  name: string,
  match: MatchPlan,
  rule: { readonly filters?: readonly RouteFilter[] },
): Omit<RoutePlan, "action" | "session"> {
  const cors = filterOf(rule.filters, "cors");
  return {
    name,
    match,
    requestHeaders: headerEdits(filterOf(rule.filters, "requestHeaderModifier")),
    responseHeaders: headerEdits(filterOf(rule.filters, "responseHeaderModifier")),
    ...(cors === undefined ? {} : { cors: corsPlan(cors) }),
  };
}

/** Gateway API: a rule without a backend, or with none that can be resolved, answers with 500. */
export function nobody(kind: string, name: string, backends: readonly BackendPlan[]): RoutePlan["action"] {
  const body =
    backends.length === 0
      ? `${kind} rule ${name} names no backend.`
      : backends.every(({ weight }) => weight === 0)
        ? `Every backend of ${kind} rule ${name} has weight 0.`
        : `No backend of ${kind} rule ${name} can be resolved; the route's status says why.`;
  return { kind: "direct", status: 500, body };
}

function filterOf<F extends keyof RouteFilter>(filters: readonly RouteFilter[] | undefined, field: F): RouteFilter[F] | undefined {
  return filters?.find((filter) => filter[field] !== undefined)?.[field];
}

export function backendPlans(refs: readonly RouteBackendRef[], backendOf: BackendOf): BackendPlan[] {
  return refs.map((ref) => {
    const request = filterOf(ref.filters, "requestHeaderModifier");
    const response = filterOf(ref.filters, "responseHeaderModifier");
    const host = filterOf(ref.filters, "urlRewrite")?.hostname;
    return {
      ...backendOf(ref),
      weight: ref.weight ?? 1,
      ...(request === undefined ? {} : { requestHeaders: headerEdits(request) }),
      ...(response === undefined ? {} : { responseHeaders: headerEdits(response) }),
      ...(host === undefined ? {} : { hostRewrite: host }),
    };
  });
}

/** Mirrors whose backend cannot be resolved are left out: the request itself is none of theirs. */
export function mirrorPlans(filters: readonly RouteFilter[], backendOf: BackendOf): { readonly mirrors?: readonly MirrorPlan[] } {
  const mirrors = filters.flatMap(({ requestMirror }): MirrorPlan[] => {
    if (requestMirror === undefined) return [];
    const { cluster, missing } = backendOf(requestMirror.backendRef);
    const perMillion = mirrorShare(requestMirror);
    return missing || perMillion === 0 ? [] : [{ cluster, perMillion }];
  });
  return mirrors.length === 0 ? {} : { mirrors };
}

function mirrorShare({ percent, fraction }: MirrorFilter): number {
  if (fraction !== undefined) return Math.round((fraction.numerator / (fraction.denominator ?? 100)) * 1_000_000);
  return (percent ?? 100) * 10_000;
}

function retryPlan({ retry, timeouts }: RouteRule): RetryPlan {
  const baseMs = retry?.backoff === undefined ? 0 : durationMs(retry.backoff);
  return {
    attempts: retry?.attempts ?? defaultRetries,
    codes: [...(retry?.codes ?? [])].sort((a, b) => a - b),
    perTryTimeoutMs: timeouts?.backendRequest === undefined ? 0 : durationMs(timeouts.backendRequest),
    ...(baseMs === 0 ? {} : { backoff: { baseMs } }),
  };
}

/** A name of our own where the route gives none: the same for all rules of one name, whichever proxy sets it. */
export function sessionPlan(rule: string, session: SessionPersistence): SessionPlan {
  const name = session.sessionName ?? `weft-session-${Bun.hash.crc32(rule).toString(16).padStart(8, "0")}`;
  if (session.type === "Header") return { kind: "header", name: name.toLowerCase() };
  const permanent = session.cookieConfig?.lifetimeType === "Permanent";
  return {
    kind: "cookie",
    name,
    path: "/",
    ttlMs: permanent && session.absoluteTimeout !== undefined ? durationMs(session.absoluteTimeout) : 0,
  };
}

function corsPlan(cors: CorsFilter): CorsPlan {
  const list = (values: readonly string[] | undefined) => [...(values ?? [])].join(", ");
  return {
    origins: (cors.allowOrigins ?? []).flatMap((origin) => corsOrigin(origin) ?? []),
    methods: list(cors.allowMethods),
    headers: list(cors.allowHeaders),
    expose: list(cors.exposeHeaders),
    maxAgeSeconds: cors.maxAge,
    credentials: cors.allowCredentials ?? false,
    // GEP-1767: a preflight that is not allowed gets no CORS headers and goes no further.
    forwardUnmatched: false,
  };
}

export function valueMatches(list: readonly ValueMatch[] | undefined, lower: boolean): ValueMatchPlan[] {
  return (list ?? [])
    .map((each) => ({
      name: lower ? each.name.toLowerCase() : each.name,
      kind: each.type === "RegularExpression" ? ("regex" as const) : ("exact" as const),
      value: each.value,
    }))
    .sort((a, b) => compareText(a.name, b.name));
}

function planMatch(match: RouteMatch): MatchPlan {
  const type = match.path?.type ?? "PathPrefix";
  const value = match.path?.value ?? "/";
  return {
    path: planPath(type, value),
    method: match.method,
    headers: valueMatches(match.headers, true),
    query: valueMatches(match.queryParams, false),
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

/** An exact match is a prefix of its own whole path; any other whole path is replaced by a pattern that fits it, the query left alone. */
function pathRewrite(
  match: MatchPlan,
  prefix: string | undefined,
  modifier: PathModifier | undefined,
): Pick<ForwardPlan, "prefixRewrite" | "regexRewrite"> {
  const full = modifier?.replaceFullPath;
  if (full === undefined) return prefix === undefined ? {} : { prefixRewrite: prefix };
  const whole = full === "" ? "/" : full;
  if (match.path.kind === "exact") return { prefixRewrite: whole };
  return { regexRewrite: { regex: "^/.*$", substitution: whole.replaceAll("\\", "\\\\") } };
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

export function headerEdits(edits: HeaderModifier | undefined): HeaderEditsPlan {
  if (edits === undefined) return noEdits;
  const byName = (a: { name: string }, b: { name: string }) => compareText(a.name, b.name);
  const pairs = (list: HeaderModifier["set"]) => (list ?? []).map(({ name, value }) => ({ name: name.toLowerCase(), value })).sort(byName);
  return { set: pairs(edits.set), add: pairs(edits.add), remove: (edits.remove ?? []).map((name) => name.toLowerCase()).sort() };
}
