// Owns: a route configuration compiled to what a request needs: host -> virtual host, then its routes in order.
// Made at configuration time; anything that cannot be compiled throws a sentence and the old table stays.

import type { ClusterSlot } from "../balance/cluster.ts";
import type { DirectAction, RedirectAction, RouteConfig, RouteStages, RouteTableConfig, VirtualHostConfig } from "../config.ts";
import { latin1, text } from "../http/bytes.ts";
import { type Failure, noClusterFailure } from "../http/failure.ts";
import type { Head } from "../http1/head.ts";
import { type CompiledRetry, compileRetry } from "../resilience/retry.ts";
import { type CompiledEdits, compileEdits } from "./edit.ts";
import { compileHeader, type HeadPredicate } from "./header.ts";
import { type BytesPredicate, compileBytes } from "./match.ts";
import { compileQuery, type QueryPredicate } from "./query.ts";

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
  readonly forward: CompiledForward | null;
  readonly redirect: RedirectAction | null;
  readonly direct: DirectAction | null;
  readonly requestEdits: CompiledEdits | null;
  readonly responseEdits: CompiledEdits | null;
  /** Length of a matched path prefix, for rewrites; -1: the whole path. */
  readonly matchedSize: number;
  /** What it replaces of its chain's stages; null = nothing. */
  readonly stages: RouteStages | null;
}

export interface CompiledForward {
  readonly targets: readonly { readonly slot: ClusterSlot; readonly upTo: number }[];
  readonly totalWeight: number;
  readonly timeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly retry: CompiledRetry | null;
  readonly prefixRewrite: Uint8Array | null;
  readonly hostRewrite: Uint8Array | null;
  readonly terminateConnect: boolean;
  readonly upgrades: readonly string[];
  /** What is said where the chosen cluster is not there. */
  readonly missingCluster: Failure;
}

export interface CompiledHost {
  readonly name: string;
  readonly routes: readonly CompiledRoute[];
}

export interface CompiledTable {
  readonly config: RouteTableConfig;
  readonly ignorePort: boolean;
  readonly exact: ReadonlyMap<string, CompiledHost>;
  /** `*.shop` as `.shop`, longest first. */
  readonly suffixes: readonly { readonly text: string; readonly host: CompiledHost }[];
  /** `cart.*` as `cart.`, longest first. */
  readonly prefixes: readonly { readonly text: string; readonly host: CompiledHost }[];
  readonly any: CompiledHost | null;
}

export function compileTable(config: RouteTableConfig, slotOf: (cluster: string) => ClusterSlot): CompiledTable {
  const exact = new Map<string, CompiledHost>();
  const suffixes: { text: string; host: CompiledHost }[] = [];
  const prefixes: { text: string; host: CompiledHost }[] = [];
  let any: CompiledHost | null = null;
  for (const virtualHost of config.virtualHosts) {
    const host = compileHost(virtualHost, slotOf);
    for (const domain of virtualHost.domains) {
      const key = domain.toLowerCase();
      if (key === "*") {
        if (any !== null) throw new Error(`virtual hosts ${any.name} and ${host.name} both claim the domain *`);
        any = host;
      } else if (key.startsWith("*")) suffixes.push({ text: key.slice(1), host });
      else if (key.endsWith("*")) prefixes.push({ text: key.slice(0, -1), host });
      else {
        const other = exact.get(key);
        if (other !== undefined) throw new Error(`virtual hosts ${other.name} and ${host.name} both claim the domain ${domain}`);
        exact.set(key, host);
      }
    }
  }
  suffixes.sort((a, b) => b.text.length - a.text.length);
  prefixes.sort((a, b) => b.text.length - a.text.length);
  return { config, ignorePort: config.ignorePort, exact, suffixes, prefixes, any };
}

function compileHost(config: VirtualHostConfig, slotOf: (cluster: string) => ClusterSlot): CompiledHost {
  return {
    name: config.name,
    routes: config.routes.map((route) => within(`route ${route.name || "(unnamed)"} of ${config.name}`, () => compileRoute(route, slotOf))),
  };
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
  let forward: CompiledForward | null = null;
  if (action.kind === "forward") {
    let sum = 0;
    const targets = action.clusters
      .filter((target) => target.weight > 0)
      .map((target) => {
        sum += target.weight;
        return { slot: slotOf(target.cluster), upTo: sum };
      });
    if (targets.length === 0) throw new Error("all clusters have weight 0");
    if (action.prefixRewrite !== null && path.kind === "regex")
      throw new Error("a prefix rewrite needs a prefix or exact path match, not a regular expression");
    forward = {
      targets,
      totalWeight: sum,
      timeoutMs: action.timeoutMs,
      idleTimeoutMs: action.idleTimeoutMs,
      retry: action.retry === null ? null : compileRetry(action.retry),
      prefixRewrite: action.prefixRewrite === null ? null : latin1(action.prefixRewrite),
      hostRewrite: action.hostRewrite === null ? null : latin1(action.hostRewrite),
      terminateConnect: action.terminateConnect,
      upgrades: action.upgrades,
      missingCluster: noClusterFailure(action.missingClusterStatus ?? 503),
    };
  }
  if (action.kind === "direct" && action.body.length > largestBody)
    throw new Error(`the direct answer's body has ${action.body.length} characters, more than ${largestBody}`);
  return {
    name: config.name,
    path: compilePath(path),
    headers: config.match.headers.map(compileHeader),
    query: config.match.query.map(compileQuery),
    forward,
    redirect: action.kind === "redirect" ? action : null,
    direct: action.kind === "direct" ? action : null,
    requestEdits: compileEdits(config.requestHeaders),
    responseEdits: compileEdits(config.responseHeaders),
    matchedSize: path.kind === "prefix" || path.kind === "separated-prefix" ? path.value.length : -1,
    stages: config.stages ?? null,
  };
}

const everyPath: BytesPredicate = () => true;

function compilePath(path: RouteConfig["match"]["path"]): BytesPredicate | null {
  switch (path.kind) {
    case "connect":
      return null;
    case "prefix":
      // Every path starts with `/` but for `*` (OPTIONS), which Envoy lets the catch-all take too.
      return path.value === "/" || path.value === "" ? everyPath : compileBytes({ kind: "prefix", value: path.value, ignoreCase: false });
    case "exact":
      return compileBytes({ kind: "exact", value: path.value, ignoreCase: false });
    case "separated-prefix": {
      const starts = compileBytes({ kind: "prefix", value: path.value, ignoreCase: false });
      const size = path.value.length;
      if (path.value === "/" || path.value === "") return everyPath;
      return (bytes, from, to) => starts(bytes, from, to) && (to - from === size || bytes[from + size] === 47);
    }
    case "regex":
      return compileBytes({ kind: "regex", value: path.value, ignoreCase: false });
  }
}

/** The virtual host for an authority. Makes a string: connections remember the last answer. */
export function findHost(table: CompiledTable, bytes: Uint8Array, from: number, to: number): CompiledHost | null {
  let name = text(bytes, from, to).toLowerCase();
  if (table.ignorePort) {
    const colon = name.lastIndexOf(":");
    if (colon > name.lastIndexOf("]")) name = name.slice(0, colon);
  }
  const exact = table.exact.get(name);
  if (exact !== undefined) return exact;
  for (const suffix of table.suffixes) if (name.length > suffix.text.length && name.endsWith(suffix.text)) return suffix.host;
  for (const prefix of table.prefixes) if (name.length > prefix.text.length && name.startsWith(prefix.text)) return prefix.host;
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
): CompiledRoute | null {
  const routes = host.routes;
  next: for (let i = 0; i < routes.length; i++) {
    const route = routes[i] as CompiledRoute;
    const path = route.path;
    if (path === null ? !isConnect : isConnect || !path(pathBytes, pathFrom, pathTo)) continue;
    const headers = route.headers;
    for (let h = 0; h < headers.length; h++) if (!(headers[h] as HeadPredicate)(bytes, head)) continue next;
    const query = route.query;
    for (let q = 0; q < query.length; q++) if (!(query[q] as QueryPredicate)(pathBytes, pathTo + 1, queryTo)) continue next;
    return route;
  }
  return null;
}

/** The cluster for one request, by weight. */
export function chooseTarget(forward: CompiledForward, random: () => number): ClusterSlot {
  const targets = forward.targets;
  if (targets.length === 1) return (targets[0] as CompiledForward["targets"][number]).slot;
  const aim = random() * forward.totalWeight;
  for (let i = 0; i < targets.length; i++) {
    const target = targets[i] as CompiledForward["targets"][number];
    if (aim < target.upTo) return target.slot;
  }
  return (targets[targets.length - 1] as CompiledForward["targets"][number]).slot;
}
