// Owns: what must hold of an HTTPRoute beyond its schema (the CEL rules of the published CRD, in words), and what this version refuses.

import { wrongFieldName } from "../http-words.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { notImplemented, show } from "../schema.ts";
import {
  type Add,
  checkBackends,
  checkDuration,
  checkHostnames,
  checkParents,
  checkRegex,
  checkRuleNames,
  durationMs,
  gather,
} from "./gateway-refs.ts";
import { type AroundBackend, checkBackendFilters, checkFilters } from "./httproute-filters.ts";
import {
  type BackendFilters,
  type HTTPRouteObject,
  matchesOf,
  type RouteMatch,
  type RouteRule,
  type SessionPersistence,
  type ValueMatch,
} from "./httproute-spec.ts";

export function httpRouteRules(object: KubeObject): Violation[] {
  const route = object as HTTPRouteObject;
  const rules = route.spec.rules ?? [];
  return gather((add) => {
    checkParents(route, add);
    checkHostnames(route, add);
    for (const [at, rule] of rules.entries()) checkRule(rule, `spec.rules[${at}]`, add);
    checkRuleNames(rules, add);
  });
}

function checkRule(rule: RouteRule, path: string, add: Add): void {
  const matches = matchesOf(rule);
  for (const [at, match] of matches.entries()) checkMatch(match, `${path}.matches[${at}]`, add);
  const pathTypes = matches.map((match) => match.path?.type ?? "PathPrefix");
  const filters = checkFilters(rule.filters ?? [], path, pathTypes, add);
  const backends = rule.backendRefs ?? [];
  if (filters.has("RequestRedirect") && backends.length > 0)
    add(`${path}.backendRefs`, "a rule that redirects forwards nothing; remove backendRefs or the RequestRedirect filter");
  checkBackends(backends, path, add);
  checkEachBackend(backends, path, { pathTypes, filters }, add);
  checkTimeouts(rule, path, add);
  checkRetry(rule, path, add);
  if (rule.sessionPersistence !== undefined) checkSession(rule.sessionPersistence, backends, path, add);
}

/** Filters of single backends. */
export function checkEachBackend(backends: readonly BackendFilters[], path: string, around: AroundBackend, add: Add): void {
  for (const [at, ref] of backends.entries()) checkBackendFilters(ref.filters ?? [], `${path}.backendRefs[${at}]`, around, add);
}

function checkMatch(match: RouteMatch, path: string, add: Add): void {
  const type = match.path?.type ?? "PathPrefix";
  const value = match.path?.value ?? "/";
  if (type === "RegularExpression") checkRegex(value, `${path}.path.value`, add);
  else if (!value.startsWith("/")) add(`${path}.path.value`, `must begin with "/", got ${show(value)}`);
  else {
    for (const bad of ["//", "/./", "/../", "%2f", "%2F", "#"])
      if (value.includes(bad)) add(`${path}.path.value`, `must not contain ${show(bad)}, got ${show(value)}`);
    for (const bad of ["/..", "/."])
      if (value.endsWith(bad)) add(`${path}.path.value`, `must not end with ${show(bad)}, got ${show(value)}`);
    if (/[^\x21-\x7e]/.test(value) || value.includes("?"))
      add(`${path}.path.value`, `must be a plain path without query, spaces or unprintable characters, got ${show(value)}`);
  }
  checkValues(match.headers ?? [], `${path}.headers`, true, add);
  checkValues(match.queryParams ?? [], `${path}.queryParams`, false, add);
  if (match.method === "CONNECT")
    add(`${path}.method`, notImplemented('value "CONNECT"', "tunnels follow the route that matches everything"));
}

export function checkValues(values: readonly ValueMatch[], path: string, ignoreCase: boolean, add: Add): void {
  const seen = new Map<string, number>();
  for (const [at, each] of values.entries()) {
    const key = ignoreCase ? each.name.toLowerCase() : each.name;
    const before = seen.get(key);
    if (before !== undefined)
      add(`${path}[${at}].name`, `${show(each.name)} is matched by ${path}[${before}] already; only the first would count`);
    else seen.set(key, at);
    if (each.type === "RegularExpression") checkRegex(each.value, `${path}[${at}].value`, add);
  }
}

function checkTimeouts(rule: RouteRule, path: string, add: Add): void {
  const { request, backendRequest } = rule.timeouts ?? {};
  checkDuration(request, `${path}.timeouts.request`, add);
  checkDuration(backendRequest, `${path}.timeouts.backendRequest`, add);
  if (request === undefined || backendRequest === undefined) return;
  const [whole, each] = [durationMs(request), durationMs(backendRequest)];
  if (whole > 0 && each > whole) add(`${path}.timeouts.backendRequest`, `${backendRequest} is longer than timeouts.request, ${request}`);
}

function checkRetry(rule: RouteRule, path: string, add: Add): void {
  const { codes, attempts, backoff } = rule.retry ?? {};
  checkDuration(backoff, `${path}.retry.backoff`, add);
  if (codes !== undefined && attempts === undefined) add(`${path}.retry.attempts`, "is required with codes");
  if (backoff !== undefined && durationMs(backoff) === 0)
    add(`${path}.retry.backoff`, "must be above 0; leave it out to try another instance at once");
}

export function checkSession(session: SessionPersistence, backends: readonly { readonly weight?: number }[], path: string, add: Add): void {
  const where = `${path}.sessionPersistence`;
  const lifetime = session.cookieConfig?.lifetimeType ?? "Session";
  if (session.type === "Header" && session.cookieConfig !== undefined) add(`${where}.cookieConfig`, "must not be there for type Header");
  if (session.sessionName !== undefined && !/^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/.test(session.sessionName))
    add(`${where}.sessionName`, `${show(session.sessionName)} can name neither a cookie nor a header`);
  else if (session.type === "Header" && session.sessionName !== undefined) {
    const wrong = wrongFieldName(session.sessionName);
    if (wrong !== undefined) add(`${where}.sessionName`, wrong);
  }
  if (session.idleTimeout !== undefined)
    add(`${where}.idleTimeout`, notImplemented("the end of a session after idle time", "use absoluteTimeout with lifetimeType Permanent"));
  if (lifetime === "Permanent" && session.absoluteTimeout === undefined)
    add(`${where}.absoluteTimeout`, "is required with lifetimeType Permanent");
  if (session.absoluteTimeout !== undefined) {
    if (durationMs(session.absoluteTimeout) < 1000) add(`${where}.absoluteTimeout`, "must be 1s or more: cookies count seconds");
    if (session.type === "Header" || lifetime === "Session")
      add(
        `${where}.absoluteTimeout`,
        notImplemented("an absolute timeout other than of a permanent cookie", "set cookieConfig.lifetimeType: Permanent, or remove it"),
      );
  }
  if (backends.filter((ref) => ref.weight !== 0).length > 1)
    add(where, notImplemented("sessions across several backends", "give the rule one backend with a weight above 0"));
}
