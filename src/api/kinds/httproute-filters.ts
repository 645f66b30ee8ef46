// Owns: what must hold of the filters of a rule or a backend, in HTTPRoute and GRPCRoute, beyond their schema (the CEL rules of the published
// CRDs, in words), and what a filter must not ask for here.

import { wrongFieldName, wrongFieldValue } from "../http-words.ts";
import { notImplemented, show } from "../schema.ts";
import { type Add, isService } from "./gateway-refs.ts";
import type { CorsFilter, ExternalAuthFilter, HeaderModifier, MirrorFilter, PathModifier, RouteFilter } from "./httproute-spec.ts";

/** Filters that may stand several times in one list. */
const repeatable = new Set(["RequestMirror", "ExtensionRef"]);

/** The field that belongs to a filter type. */
const filterField: Readonly<Record<string, keyof RouteFilter>> = {
  RequestHeaderModifier: "requestHeaderModifier",
  ResponseHeaderModifier: "responseHeaderModifier",
  RequestRedirect: "requestRedirect",
  URLRewrite: "urlRewrite",
  RequestMirror: "requestMirror",
  CORS: "cors",
  ExternalAuth: "externalAuth",
};

/** `pathTypes`: of the matches of the rule that the filters belong to. */
export function checkFilters(filters: readonly RouteFilter[], path: string, pathTypes: readonly string[], add: Add): ReadonlySet<string> {
  const types = new Map<string, number>();
  for (const [at, filter] of filters.entries()) {
    const where = `${path}.filters[${at}]`;
    const before = types.get(filter.type);
    if (before !== undefined && !repeatable.has(filter.type))
      add(`${where}.type`, `${filter.type} stands at ${path}.filters[${before}] already; put both into one`);
    else if (before === undefined) types.set(filter.type, at);
    const field = filterField[filter.type];
    for (const [type, other] of Object.entries(filterField)) {
      if (other === field && filter[other] === undefined) add(`${where}.${other}`, `is required for type ${type}`);
      if (other !== field && filter[other] !== undefined) add(`${where}.${other}`, `must not be there for type ${filter.type}`);
    }
    if (filter.requestHeaderModifier !== undefined) checkHeaders(filter.requestHeaderModifier, `${where}.requestHeaderModifier`, add);
    if (filter.responseHeaderModifier !== undefined) checkHeaders(filter.responseHeaderModifier, `${where}.responseHeaderModifier`, add);
    for (const name of ["requestRedirect", "urlRewrite"] as const) {
      const modifier = filter[name]?.path;
      if (modifier !== undefined) checkPathModifier(pathTypes, modifier, `${where}.${name}.path`, add);
    }
    if (filter.requestMirror !== undefined) checkMirror(filter.requestMirror, `${where}.requestMirror`, add);
    if (filter.cors !== undefined) checkCors(filter.cors, `${where}.cors`, add);
    if (filter.externalAuth !== undefined) checkExternalAuth(filter.externalAuth, `${where}.externalAuth`, add);
  }
  if (types.has("RequestRedirect") && types.has("URLRewrite"))
    add(`${path}.filters`, "RequestRedirect and URLRewrite exclude each other; remove one");
  return new Set(types.keys());
}

/** What is about a request that goes on, or about its answer. */
const ofForwards = new Set(["RequestMirror", "RequestHeaderModifier", "ResponseHeaderModifier"]);

/** What the rule of a backend says already. */
export interface AroundBackend {
  readonly pathTypes: readonly string[];
  /** Types of its filters. */
  readonly filters: ReadonlySet<string>;
}

/** Of one backend. */
export function checkBackendFilters(filters: readonly RouteFilter[], path: string, around: AroundBackend, add: Add): void {
  const own = checkFilters(filters, path, around.pathTypes, add);
  for (const [at, { type }] of filters.entries()) {
    const where = `${path}.filters[${at}].type`;
    if (own.has("RequestRedirect") && ofForwards.has(type))
      add(where, `a backend that redirects forwards nothing; remove the ${type}, or the RequestRedirect filter`);
    if (type === "ExternalAuth" && around.filters.has(type))
      add(where, notImplemented("ExternalAuth on a rule and on a backend of it", "a request is judged once: put it on one of the two"));
  }
}

function checkHeaders(edit: HeaderModifier, path: string, add: Add): void {
  const seen = new Map<string, string>();
  const entries = [
    ...(edit.set ?? []).map((each, at) => ({ name: each.name, value: each.value, at: `${path}.set[${at}]` })),
    ...(edit.add ?? []).map((each, at) => ({ name: each.name, value: each.value, at: `${path}.add[${at}]` })),
    ...(edit.remove ?? []).map((name, at) => ({ name, value: undefined, at: `${path}.remove[${at}]` })),
  ];
  for (const { name, value, at } of entries) {
    const key = name.toLowerCase();
    const before = seen.get(key);
    if (before !== undefined) add(at, `header ${show(name)} is edited by ${before} already`);
    else seen.set(key, at);
    const wrong = wrongFieldName(name);
    if (wrong !== undefined)
      add(at, key === "host" ? `header ${show(name)} belongs to the proxy; use a URLRewrite filter with hostname` : wrong);
    const bad = value === undefined ? undefined : wrongFieldValue(value);
    if (bad !== undefined) add(`${at}.value`, bad);
  }
}

function checkPathModifier(pathTypes: readonly string[], modifier: PathModifier, path: string, add: Add): void {
  const wanted = modifier.type === "ReplaceFullPath" ? "replaceFullPath" : "replacePrefixMatch";
  const other = modifier.type === "ReplaceFullPath" ? "replacePrefixMatch" : "replaceFullPath";
  const value = modifier[wanted];
  if (value === undefined) add(`${path}.${wanted}`, `is required for type ${modifier.type}`);
  if (modifier[other] !== undefined) add(`${path}.${other}`, `must not be there for type ${modifier.type}`);
  if (value !== undefined && value !== "" && (!value.startsWith("/") || /[^\x21-\x7e]|[?#%]/.test(value)))
    add(`${path}.${wanted}`, `must be a plain path that begins with "/", got ${show(value)}`);
  if (modifier.type === "ReplacePrefixMatch" && pathTypes.some((type) => type !== "PathPrefix"))
    add(`${path}.type`, "ReplacePrefixMatch needs every match of the rule to be a PathPrefix");
}

function checkMirror(mirror: MirrorFilter, path: string, add: Add): void {
  const { backendRef: ref, percent, fraction } = mirror;
  if (isService(ref) && ref.port === undefined) add(`${path}.backendRef.port`, "is required for a Service");
  if (percent !== undefined && fraction !== undefined) add(path, "percent and fraction exclude each other; remove one");
  const { numerator, denominator = 100 } = fraction ?? { numerator: 0 };
  if (numerator > denominator) add(`${path}.fraction`, `${numerator} of ${denominator} is more than all`);
}

function checkExternalAuth({ protocol, backendRef, grpc, http }: ExternalAuthFilter, path: string, add: Add): void {
  if (isService(backendRef) && backendRef.port === undefined) add(`${path}.backendRef.port`, "is required for a Service");
  const [wanted, other] = protocol === "GRPC" ? (["grpc", "http"] as const) : (["http", "grpc"] as const);
  const has = { grpc: grpc !== undefined, http: http !== undefined };
  if (!has[wanted]) add(`${path}.${wanted}`, `is required for protocol ${protocol}; {} will do`);
  if (has[other]) add(`${path}.${other}`, `must not be there for protocol ${protocol}`);
  if ((grpc?.allowedHeaders ?? []).length > 0)
    add(
      `${path}.grpc.allowedHeaders`,
      notImplemented("a choice of headers by gRPC", "leave it out: all headers are sent; or use protocol HTTP"),
    );
  if (http?.path !== undefined && http.path !== "" && !/^\/[\x21-\x7e]*$/.test(http.path))
    add(`${path}.http.path`, `must be a plain path that begins with "/", got ${show(http.path)}`);
}

const methodsOfCors = /^[A-Za-z]+$/;

function checkCors(cors: CorsFilter, path: string, add: Add): void {
  const lists = [
    ["allowOrigins", cors.allowOrigins ?? []],
    ["allowMethods", cors.allowMethods ?? []],
    ["allowHeaders", cors.allowHeaders ?? []],
    ["exposeHeaders", cors.exposeHeaders ?? []],
  ] as const;
  for (const [name, list] of lists) {
    if (!list.includes("*")) continue;
    if (list.length > 1) add(`${path}.${name}`, '"*" means all, so that nothing can stand beside it');
    // Fetch standard: with credentials "*" is the name "*"; the standard wants it spelled out, which takes a list.
    if (cors.allowCredentials === true && name !== "allowOrigins")
      add(`${path}.${name}`, notImplemented('"*" together with allowCredentials', "list the names"));
  }
  for (const [at, origin] of (cors.allowOrigins ?? []).entries())
    if (corsOrigin(origin) === undefined)
      add(
        `${path}.allowOrigins[${at}]`,
        `${show(origin)} is no origin: SCHEME://HOST[:PORT], for example https://shop.example.com or https://*.example.com:8443, or "*"`,
      );
  for (const [at, method] of (cors.allowMethods ?? []).entries())
    if (method !== "*" && !methodsOfCors.test(method)) add(`${path}.allowMethods[${at}]`, `${show(method)} is no method`);
}

/** An origin as Gateway API writes it, as what must fit; undefined = it is none. `*` in front of a host is one or more labels. */
export function corsOrigin(origin: string): { readonly kind: "exact" | "regex"; readonly value: string } | undefined {
  if (origin === "*") return { kind: "regex", value: ".*" };
  const [, scheme, wild, host, port] =
    /^([A-Za-z][A-Za-z0-9+\-.]*):\/\/(\*\.)?([A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]|\*)(?::([0-9]{1,5}|\*))?$/.exec(
      origin,
    ) ?? [];
  if (scheme === undefined || host === undefined) return undefined;
  if (wild === undefined && host !== "*" && port !== "*") return { kind: "exact", value: origin };
  const hosts = host === "*" ? "[^/:]+" : `${wild === undefined ? "" : "([^./:]+\\.)+"}${quoteRegex(host)}`;
  return { kind: "regex", value: `${quoteRegex(scheme)}://${hosts}${port === undefined ? "" : port === "*" ? "(:[0-9]+)?" : `:${port}`}` };
}

/** The text as an RE2 pattern that fits it alone. */
export function quoteRegex(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
