// Owns: what must hold of an HTTPRoute beyond its schema (the CEL rules of the published CRD, in words), and what this version refuses.

import type { KubeObject, Violation } from "../meta.ts";
import { notImplemented, show } from "../schema.ts";
import {
  durationMs,
  type HTTPRouteObject,
  matchesOf,
  type PathModifier,
  type RouteFilter,
  type RouteMatch,
  type RouteRule,
  type ValueMatch,
} from "./httproute-spec.ts";

type Add = (path: string, message: string) => void;

export function httpRouteRules(object: KubeObject): Violation[] {
  const { spec } = object as HTTPRouteObject;
  const out: Violation[] = [];
  const add: Add = (path, message) => out.push({ path, message });
  checkParents(object as HTTPRouteObject, add);
  for (const [at, rule] of (spec.rules ?? []).entries()) checkRule(rule, `spec.rules[${at}]`, add);
  const names = new Map<string, number>();
  for (const [at, rule] of (spec.rules ?? []).entries()) {
    if (rule.name === undefined) continue;
    const before = names.get(rule.name);
    if (before !== undefined) add(`spec.rules[${at}].name`, `${show(rule.name)} is taken by spec.rules[${before}]`);
    else names.set(rule.name, at);
  }
  return out;
}

function checkParents(route: HTTPRouteObject, add: Add): void {
  const refs = route.spec.parentRefs ?? [];
  if (refs.length === 0) add("spec.parentRefs", "must name at least one Service: without a parent the route does nothing");
  const seen = new Map<string, number>();
  for (const [at, ref] of refs.entries()) {
    const path = `spec.parentRefs[${at}]`;
    const group = ref.group ?? "gateway.networking.k8s.io";
    const kind = ref.kind ?? "Gateway";
    if (kind === "Service" && group !== "")
      add(
        `${path}.group`,
        `a Service is in the core group: write group: "" (got ${show(group)}${ref.group === undefined || group === "gateway.networking.k8s.io" ? ", the standard's default" : ""})`,
      );
    else if (kind === "Gateway")
      add(`${path}.kind`, notImplemented('parent kind "Gateway"', 'attach the route to a Service (group: "", kind: Service)'));
    else if (kind !== "Service") add(`${path}.kind`, `a route can be attached to a Service, not to ${show(kind)}`);
    const key = `${ref.namespace ?? route.metadata.namespace ?? ""}/${ref.name}/${ref.port ?? ""}/${ref.sectionName ?? ""}`;
    const before = seen.get(key);
    if (before !== undefined) add(path, `is the same as spec.parentRefs[${before}]`);
    else seen.set(key, at);
  }
}

function checkRule(rule: RouteRule, path: string, add: Add): void {
  for (const [at, match] of matchesOf(rule).entries()) checkMatch(match, `${path}.matches[${at}]`, add);
  checkFilters(rule, path, add);
  const backends = rule.backendRefs ?? [];
  for (const [at, ref] of backends.entries()) {
    const where = `${path}.backendRefs[${at}]`;
    const isService = (ref.group ?? "") === "" && (ref.kind ?? "Service") === "Service";
    if (isService && ref.port === undefined) add(`${where}.port`, "is required for a Service");
    for (let other = 0; other < at; other++) {
      const before = backends[other]!;
      if (
        before.name === ref.name &&
        before.port === ref.port &&
        before.namespace === ref.namespace &&
        before.kind === ref.kind &&
        before.group === ref.group
      ) {
        add(where, `is the same backend as ${path}.backendRefs[${other}]; add up their weights`);
      }
    }
  }
  if (backends.length > 0 && backends.every((ref) => ref.weight === 0)) {
    add(`${path}.backendRefs`, "every weight is 0, so every request would fail with 500; give one backend a weight of 1 or more");
  }
  checkTimeouts(rule, path, add);
  if (rule.retry?.codes !== undefined && rule.retry.attempts === undefined) add(`${path}.retry.attempts`, "is required with codes");
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

function checkValues(values: readonly ValueMatch[], path: string, ignoreCase: boolean, add: Add): void {
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

function checkRegex(value: string, path: string, add: Add): void {
  try {
    // Loaded with the first regular expression: it would add 7 ms to every start of the control plane.
    const { RE2JS } = require("re2js") as typeof import("re2js");
    RE2JS.compile(value);
  } catch (error) {
    add(path, `${show(value)} is no RE2 regular expression: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The field that belongs to a filter type. */
const filterField: Readonly<Record<string, keyof RouteFilter>> = {
  RequestHeaderModifier: "requestHeaderModifier",
  ResponseHeaderModifier: "responseHeaderModifier",
  RequestRedirect: "requestRedirect",
  URLRewrite: "urlRewrite",
};

function checkFilters(rule: RouteRule, path: string, add: Add): void {
  const filters = rule.filters ?? [];
  const types = new Map<string, number>();
  for (const [at, filter] of filters.entries()) {
    const where = `${path}.filters[${at}]`;
    const before = types.get(filter.type);
    if (before !== undefined) add(`${where}.type`, `${filter.type} stands at ${path}.filters[${before}] already; put both into one`);
    else types.set(filter.type, at);
    const field = filterField[filter.type];
    for (const [type, other] of Object.entries(filterField)) {
      if (other === field && filter[other] === undefined) add(`${where}.${other}`, `is required for type ${type}`);
      if (other !== field && filter[other] !== undefined) add(`${where}.${other}`, `must not be there for type ${filter.type}`);
    }
    if (filter.requestHeaderModifier !== undefined) checkHeaders(filter.requestHeaderModifier, `${where}.requestHeaderModifier`, add);
    if (filter.responseHeaderModifier !== undefined) checkHeaders(filter.responseHeaderModifier, `${where}.responseHeaderModifier`, add);
    for (const name of ["requestRedirect", "urlRewrite"] as const) {
      const modifier = filter[name]?.path;
      if (modifier !== undefined) checkPathModifier(rule, modifier, name, `${where}.${name}.path`, add);
    }
  }
  if (types.has("RequestRedirect") && types.has("URLRewrite"))
    add(`${path}.filters`, "RequestRedirect and URLRewrite exclude each other; remove one");
  if (types.has("RequestRedirect") && (rule.backendRefs ?? []).length > 0)
    add(`${path}.backendRefs`, "a rule that redirects forwards nothing; remove backendRefs or the RequestRedirect filter");
}

function checkHeaders(edit: NonNullable<RouteFilter["requestHeaderModifier"]>, path: string, add: Add): void {
  const seen = new Map<string, string>();
  const entries = [
    ...(edit.set ?? []).map((each, at) => ({ name: each.name, value: each.value, at: `${path}.set[${at}]` })),
    ...(edit.add ?? []).map((each, at) => ({ name: each.name, value: each.value, at: `${path}.add[${at}]` })),
    ...(edit.remove ?? []).map((name, at) => ({ name, value: "", at: `${path}.remove[${at}]` })),
  ];
  for (const { name, value, at } of entries) {
    const key = name.toLowerCase();
    const before = seen.get(key);
    if (before !== undefined) add(at, `header ${show(name)} is edited by ${before} already`);
    else seen.set(key, at);
    if (!/^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/.test(name)) add(at, `${show(name)} is no header name`);
    if (["host", "connection", "transfer-encoding", "content-length", "upgrade"].includes(key))
      add(at, `header ${show(name)} belongs to the proxy${key === "host" ? "; use a URLRewrite filter with hostname" : ""}`);
    if (/[\r\n\0]/.test(value)) add(`${at}.value`, "must not contain line breaks or NUL");
    // Envoy reads %X% in header values as a command; it has no meaning in Gateway API, so it must not slip through.
    if (value.includes("%")) add(`${at}.value`, notImplemented('a value with "%"', "write the value without it"));
  }
}

function checkPathModifier(
  rule: RouteRule,
  modifier: PathModifier,
  filter: "requestRedirect" | "urlRewrite",
  path: string,
  add: Add,
): void {
  const wanted = modifier.type === "ReplaceFullPath" ? "replaceFullPath" : "replacePrefixMatch";
  const other = modifier.type === "ReplaceFullPath" ? "replacePrefixMatch" : "replaceFullPath";
  const value = modifier[wanted];
  if (value === undefined) add(`${path}.${wanted}`, `is required for type ${modifier.type}`);
  if (modifier[other] !== undefined) add(`${path}.${other}`, `must not be there for type ${modifier.type}`);
  if (value !== undefined && value !== "" && (!value.startsWith("/") || /[^\x21-\x7e]|[?#%]/.test(value)))
    add(`${path}.${wanted}`, `must be a plain path that begins with "/", got ${show(value)}`);
  const types = matchesOf(rule).map((match) => match.path?.type ?? "PathPrefix");
  if (modifier.type === "ReplacePrefixMatch" && types.some((type) => type !== "PathPrefix"))
    add(`${path}.type`, "ReplacePrefixMatch needs every match of the rule to be a PathPrefix");
  if (modifier.type === "ReplaceFullPath" && filter === "urlRewrite" && types.some((type) => type !== "Exact")) {
    add(
      `${path}.type`,
      notImplemented("ReplaceFullPath for matches other than Exact", "match the path with type Exact, or use ReplacePrefixMatch"),
    );
  }
}

function checkTimeouts(rule: RouteRule, path: string, add: Add): void {
  const { request, backendRequest } = rule.timeouts ?? {};
  if (request === undefined || backendRequest === undefined) return;
  const [whole, each] = [durationMs(request), durationMs(backendRequest)];
  if (whole > 0 && each > whole) add(`${path}.timeouts.backendRequest`, `${backendRequest} is longer than timeouts.request, ${request}`);
}
