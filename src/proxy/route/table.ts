// Owns: a route configuration compiled to what a request needs: host -> virtual host, then its routes in order.
// Made at configuration time; anything that cannot be compiled throws a sentence and the old table stays.

import type { ClusterSlot } from "../balance/cluster.ts";
import type {
  DirectAction,
  ForwardAction,
  RedirectAction,
  RouteConfig,
  RouteStages,
  RouteTableConfig,
  VirtualHostConfig,
} from "../config.ts";
import { latin1, text } from "../http/bytes.ts";
import { type Failure, noClusterFailure } from "../http/failure.ts";
import { isGrpc } from "../http/grpc.ts";
import type { Head } from "../http1/head.ts";
import { type CompiledRetry, compileRetry } from "../resilience/retry.ts";
import { type CompiledEdits, compileEdits } from "./edit.ts";
import { type CompiledHash, compileHash } from "./hash.ts";
import { compileHeader, type HeadPredicate } from "./header.ts";
import { type BytesPredicate, compileBytes } from "./match.ts";
import { candidates, makePathIndex, type PathIndex } from "./path-index.ts";
import { compileQuery, type QueryPredicate } from "./query.ts";
import { compileRewrite, type PathRewrite } from "./rewrite.ts";

/** Loaded with the first expression. */
const expressions = () => require("./regex.ts") as typeof import("./regex.ts");

/** What a chain holds, so that a new table reaches open connections with their next request. */
export interface TableSlot {
  readonly name: string;
  current: CompiledTable | null;
}

export interface CompiledRoute {
  readonly name: string;
  /** null: CONNECT only. Judges the path without its query. */
  readonly path: BytesPredicate | null;
  readonly headers: readonly HeadPredicate[];
  readonly query: readonly QueryPredicate[];
  /** Share of the requests that fit otherwise; 1 = all. */
  readonly fraction: number;
  /** What every path that it takes begins with. */
  readonly beginning: string;
  readonly forward: CompiledForward | null;
  readonly redirect: CompiledRedirect | null;
  readonly direct: DirectAction | null;
  readonly requestEdits: CompiledEdits | null;
  readonly responseEdits: CompiledEdits | null;
  /** Length of a matched path prefix, for rewrites; -1: the whole path. */
  readonly matchedSize: number;
  /** What it replaces of its chain's stages; null = nothing. */
  readonly stages: RouteStages | null;
  /** What stages may read of it; null = nothing. */
  readonly metadata: RouteConfig["metadata"] | null;
}

export interface CompiledRedirect {
  readonly action: RedirectAction;
  /** Of a path that a regular expression makes; null = none. */
  readonly rewrite: PathRewrite | null;
}

/** A cluster of a route, with the edits of the requests that go there: its own, the route's and its virtual host's in one. */
export interface CompiledTarget {
  readonly slot: ClusterSlot;
  readonly upTo: number;
  readonly requestEdits: CompiledEdits | null;
  readonly responseEdits: CompiledEdits | null;
  /** null = unchanged. */
  readonly hostRewrite: Uint8Array | null;
}

export interface CompiledMirror {
  readonly slot: ClusterSlot;
  readonly fraction: number;
  readonly shadowHost: boolean;
}

/** Where a host comes from that is known only with the request. */
export type HostSource =
  | { readonly kind: "endpoint" }
  | { readonly kind: "header"; readonly name: Uint8Array }
  | { readonly kind: "path"; readonly rewrite: PathRewrite };

export interface CompiledForward {
  readonly targets: readonly CompiledTarget[];
  readonly totalWeight: number;
  readonly timeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly retry: CompiledRetry | null;
  readonly prefixRewrite: Uint8Array | null;
  readonly pathRewrite: PathRewrite | null;
  readonly hostFrom: HostSource | null;
  readonly mirrors: readonly CompiledMirror[] | null;
  /** null = no key. */
  readonly hash: readonly CompiledHash[] | null;
  readonly terminateConnect: boolean;
  readonly upgrades: readonly string[];
  /** What is said where the chosen cluster is not there. */
  readonly missingCluster: Failure;
}

export interface CompiledHost {
  readonly name: string;
  readonly routes: PathIndex<CompiledRoute>;
  /** Given because a request needed it, and kept for as long as some do. */
  readonly demanded: boolean;
  /** When a request came for it; only where hosts are asked for. */
  usedMs: number;
}

/** Patterns of one length; a look each is quicker than a walk over all. */
interface PatternsOfSize {
  readonly size: number;
  readonly hosts: ReadonlyMap<string, CompiledHost>;
}

export interface CompiledTable {
  readonly config: RouteTableConfig;
  readonly ignorePort: boolean;
  readonly exact: ReadonlyMap<string, CompiledHost>;
  /** `*.shop` as `.shop`, longest first. */
  readonly suffixes: readonly PatternsOfSize[];
  /** `cart.*` as `cart.`, longest first. */
  readonly prefixes: readonly PatternsOfSize[];
  readonly any: CompiledHost | null;
  /** Hosts that were asked for, and there are none. */
  readonly absent: ReadonlySet<string>;
}

const nothing: ReadonlySet<string> = new Set();

export function compileTable(config: RouteTableConfig, slotOf: (cluster: string) => ClusterSlot): CompiledTable {
  const exact = new Map<string, CompiledHost>();
  const suffixes = new Map<string, CompiledHost>();
  const prefixes = new Map<string, CompiledHost>();
  const claim = (map: Map<string, CompiledHost>, key: string, host: CompiledHost, domain: string): void => {
    const other = map.get(key);
    if (other !== undefined) throw new Error(`virtual hosts ${other.name} and ${host.name} both claim the domain ${domain}`);
    map.set(key, host);
  };
  let any: CompiledHost | null = null;
  for (const virtualHost of config.virtualHosts) {
    const host = compileHost(virtualHost, slotOf);
    for (const domain of virtualHost.domains) {
      const key = domain.toLowerCase();
      if (key === "*") {
        if (any !== null) throw new Error(`virtual hosts ${any.name} and ${host.name} both claim the domain *`);
        any = host;
      } else if (key.startsWith("*")) claim(suffixes, key.slice(1), host, domain);
      else if (key.endsWith("*")) claim(prefixes, key.slice(0, -1), host, domain);
      else claim(exact, key, host, domain);
    }
  }
  const absent = config.onDemand === undefined ? nothing : new Set(config.onDemand.absent);
  return { config, ignorePort: config.ignorePort, exact, suffixes: bySize(suffixes), prefixes: bySize(prefixes), any, absent };
}

function bySize(patterns: ReadonlyMap<string, CompiledHost>): readonly PatternsOfSize[] {
  const sizes = new Map<number, Map<string, CompiledHost>>();
  for (const [pattern, host] of patterns) {
    const hosts = sizes.get(pattern.length);
    if (hosts === undefined) sizes.set(pattern.length, new Map([[pattern, host]]));
    else hosts.set(pattern, host);
  }
  return [...sizes].map(([size, hosts]) => ({ size, hosts })).sort((a, b) => b.size - a.size);
}

function compileHost(config: VirtualHostConfig, slotOf: (cluster: string) => ClusterSlot): CompiledHost {
  const routes = config.routes.map((route) =>
    within(`route ${route.name || "(unnamed)"} of ${config.name}`, () => compileRoute(route, slotOf)),
  );
  return { name: config.name, routes: makePathIndex(routes, (route) => route.beginning), demanded: config.demanded === true, usedMs: 0 };
}

function within<T>(where: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new Error(`${where}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** A direct answer is written in one go from the shared buffer (Envoy's own limit is 4 KiB by default). */
const largestBody = 16_384;

function compileRoute(config: RouteConfig, slotOf: (cluster: string) => ClusterSlot): CompiledRoute {
  const path = config.match.path;
  const action = config.action;
  const requestEdits = compileEdits(config.requestHeaders);
  const responseEdits = compileEdits(config.responseHeaders);
  if (action.kind === "direct" && action.body.length > largestBody)
    throw new Error(`the direct answer's body has ${action.body.length} characters, more than ${largestBody}`);
  const compiled = compilePath(path);
  return {
    name: config.name,
    path: compiled.matches,
    headers: [...config.match.headers.map(compileHeader), ...(config.match.grpc === true ? [isGrpc] : [])],
    query: config.match.query.map(compileQuery),
    fraction: config.match.fraction ?? 1,
    beginning: compiled.beginning,
    forward: action.kind === "forward" ? compileForward(action, config, requestEdits, responseEdits, slotOf) : null,
    redirect: action.kind === "redirect" ? { action, rewrite: action.path?.kind === "regex" ? compileRewrite(action.path) : null } : null,
    direct: action.kind === "direct" ? action : null,
    requestEdits,
    responseEdits,
    matchedSize: path.kind === "prefix" || path.kind === "separated-prefix" ? latin1Size(path.value) : -1,
    stages: config.stages ?? null,
    metadata: config.metadata ?? null,
  };
}

function compileForward(
  action: ForwardAction,
  config: RouteConfig,
  requestEdits: CompiledEdits | null,
  responseEdits: CompiledEdits | null,
  slotOf: (cluster: string) => ClusterSlot,
): CompiledForward {
  let sum = 0;
  const hostRewrite = action.hostRewrite === null ? null : latin1(action.hostRewrite);
  const targets = action.clusters
    .filter((target) => target.weight > 0)
    .map((target): CompiledTarget => {
      sum += target.weight;
      return {
        slot: slotOf(target.cluster),
        upTo: sum,
        requestEdits: target.requestHeaders === undefined ? requestEdits : compileEdits(target.requestHeaders),
        responseEdits: target.responseHeaders === undefined ? responseEdits : compileEdits(target.responseHeaders),
        hostRewrite: target.hostRewrite === undefined ? hostRewrite : latin1(target.hostRewrite),
      };
    });
  if (targets.length === 0) throw new Error("all clusters have weight 0");
  if (action.prefixRewrite !== null && config.match.path.kind === "regex")
    throw new Error("a prefix rewrite needs a prefix or exact path match, not a regular expression");
  const mirrors = action.mirrors ?? [];
  return {
    targets,
    totalWeight: sum,
    timeoutMs: action.timeoutMs,
    idleTimeoutMs: action.idleTimeoutMs,
    retry: action.retry === null ? null : compileRetry(action.retry),
    prefixRewrite: action.prefixRewrite === null ? null : latin1(action.prefixRewrite),
    pathRewrite: action.regexRewrite === undefined ? null : compileRewrite(action.regexRewrite),
    hostFrom: action.hostFrom === undefined ? null : compileHostSource(action.hostFrom),
    mirrors:
      mirrors.length === 0 ? null : mirrors.map(({ cluster, fraction, shadowHost }) => ({ slot: slotOf(cluster), fraction, shadowHost })),
    hash: action.hash === undefined ? null : compileHash(action.hash),
    terminateConnect: action.terminateConnect,
    upgrades: action.upgrades,
    missingCluster: noClusterFailure(action.missingClusterStatus ?? 503),
  };
}

function compileHostSource(from: NonNullable<ForwardAction["hostFrom"]>): HostSource {
  if (from.kind === "endpoint") return from;
  if (from.kind === "header") return { kind: "header", name: latin1(from.name.toLowerCase()) };
  return { kind: "path", rewrite: compileRewrite(from) };
}

function latin1Size(value: string): number {
  return new TextEncoder().encode(value).length;
}

const everyPath: BytesPredicate = () => true;

interface CompiledPath {
  readonly matches: BytesPredicate | null;
  /** "" where it may begin with anything. */
  readonly beginning: string;
}

function compilePath(path: RouteConfig["match"]["path"]): CompiledPath {
  if (path.kind === "connect") return { matches: null, beginning: "" };
  if (path.kind === "regex") {
    const { matches, prefix } = expressions().compileExpression(path.value, false);
    return { matches, beginning: prefix };
  }
  const ignoreCase = path.ignoreCase === true;
  // Every path starts with `/` but for `*` (OPTIONS), which Envoy lets the catch-all take too.
  if (path.kind !== "exact" && (path.value === "/" || path.value === "")) return { matches: everyPath, beginning: "" };
  // The tree knows ASCII as it is written; other beginnings are for the list.
  const beginning = ignoreCase || latin1Size(path.value) !== path.value.length ? "" : path.value;
  if (path.kind !== "separated-prefix") return { matches: compileBytes({ kind: path.kind, value: path.value, ignoreCase }), beginning };
  const starts = compileBytes({ kind: "prefix", value: path.value, ignoreCase });
  const size = latin1Size(path.value);
  return { matches: (bytes, from, to) => starts(bytes, from, to) && (to - from === size || bytes[from + size] === 47), beginning };
}

/** The virtual host for an authority. Makes a string: connections remember the last answer. */
export function findHost(table: CompiledTable, bytes: Uint8Array, from: number, to: number): CompiledHost | null {
  return hostNamed(table, text(bytes, from, to).toLowerCase());
}

/** The same for an authority in lower case. */
export function hostNamed(table: CompiledTable, authority: string): CompiledHost | null {
  let name = authority;
  if (table.ignorePort) {
    const colon = name.lastIndexOf(":");
    if (colon > name.lastIndexOf("]")) name = name.slice(0, colon);
  }
  const exact = table.exact.get(name);
  if (exact !== undefined) return exact;
  for (const { size, hosts } of table.suffixes) {
    const host = name.length > size ? hosts.get(name.slice(-size)) : undefined;
    if (host !== undefined) return host;
  }
  for (const { size, hosts } of table.prefixes) {
    const host = name.length > size ? hosts.get(name.slice(0, size)) : undefined;
    if (host !== undefined) return host;
  }
  return table.any;
}

/** The first route that fits, or null. The path is pathBytes[pathFrom, pathTo), its query ends at `queryTo`; it may be a normalised copy of the head's. */
export function findRoute(
  host: CompiledHost,
  bytes: Uint8Array,
  head: Head,
  pathBytes: Uint8Array,
  pathFrom: number,
  pathTo: number,
  queryTo: number,
  isConnect: boolean,
  random: () => number,
): CompiledRoute | null {
  const routes = candidates(host.routes, pathBytes, pathFrom, pathTo);
  // As in Envoy a request has one draw for all routes, so that the fractions of routes that follow each other add up. Below 0: not drawn yet.
  let draw = -1;
  next: for (let i = 0; i < routes.length; i++) {
    const route = routes[i] as CompiledRoute;
    const path = route.path;
    if (path === null ? !isConnect : isConnect || !path(pathBytes, pathFrom, pathTo)) continue;
    const headers = route.headers;
    for (let h = 0; h < headers.length; h++) if (!(headers[h] as HeadPredicate)(bytes, head)) continue next;
    const query = route.query;
    for (let q = 0; q < query.length; q++) if (!(query[q] as QueryPredicate)(pathBytes, pathTo + 1, queryTo)) continue next;
    if (route.fraction < 1) {
      if (draw < 0) draw = random();
      if (draw >= route.fraction) continue;
    }
    return route;
  }
  return null;
}

/** The cluster for one request, by weight. */
export function chooseTarget(forward: CompiledForward, random: () => number): CompiledTarget {
  const targets = forward.targets;
  if (targets.length === 1) return targets[0] as CompiledTarget;
  const aim = random() * forward.totalWeight;
  for (let i = 0; i < targets.length; i++) {
    const target = targets[i] as CompiledTarget;
    if (aim < target.upTo) return target;
  }
  return targets[targets.length - 1] as CompiledTarget;
}
