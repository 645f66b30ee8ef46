// Owns: the questions about edges: statistics of each over a window, the graph of applications, time series. Pure reads.

import { type EdgeEnd, type EdgeObject, type EdgeStats, type GraphAnswer, liveGroup, liveVersion, type SeriesAnswer } from "../api/live.ts";
import type { Edge, EdgeTable } from "./edges.ts";
import { quantile } from "./histogram.ts";
import { emptyTotals, type Totals } from "./window.ts";

/** One running instance, as discovery knows it. */
export interface Instance {
  readonly namespace: string;
  readonly app: string;
  readonly version: string;
  readonly ready: boolean;
}

/** An edge with no traffic and no open connection for so long is not shown any more. */
const showIdleSeconds = 60;

/** The edges to show: as callers report them, and as callees do where no caller reports that pair. Sorted. */
export function visibleEdges(table: EdgeTable, nowSecond: number, windowSeconds: number): Edge[] {
  const since = nowSecond - Math.max(showIdleSeconds, windowSeconds);
  const live = [...table.values()].filter((edge) => edge.window.lastSecond >= since || openOf(edge) > 0);
  const reported = new Set<string>();
  for (const { key } of live) if (key.reporter === "source") for (const pair of pairsOf(key)) reported.add(pair);
  return live
    .filter(({ key }) => key.reporter === "source" || !pairsOf(key).some((pair) => reported.has(pair)))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** The two ways in which both sides may name a pair: by the caller's identity, or by its application. */
function pairsOf(key: Edge["key"]): string[] {
  const to = `${key.destination.namespace}/${key.destination.app} ${key.protocol === "tcp" ? "tcp" : "http"}`;
  const pairs = [`${key.source.namespace}/${key.source.app} > ${to}`];
  if (key.sourcePrincipal !== "unknown") pairs.push(`${key.sourcePrincipal} > ${to}`);
  return pairs;
}

export function edgeStats(edge: Edge, nowSecond: number, windowSeconds: number): EdgeStats {
  return stats([edge], nowSecond, windowSeconds);
}

/** The virtual objects `weft.dev/v1alpha1` Edge. */
export function edgeObjects(table: EdgeTable, nowMs: number, windowSeconds: number): EdgeObject[] {
  const second = Math.floor(nowMs / 1000);
  const names = new Set<string>();
  return visibleEdges(table, second, windowSeconds).map((edge) => {
    const { source, destination, protocol } = edge.key;
    const ends = [end(source.app, source.version), end(destination.app, destination.version)];
    if (destination.namespace !== source.namespace) ends.push(dns(destination.namespace));
    const base = ends.join(".");
    let name = base;
    for (let n = 2; names.has(`${source.namespace}/${name}`); n++) name = `${base}.${n === 2 ? protocol : n}`;
    names.add(`${source.namespace}/${name}`);
    return {
      apiVersion: `${liveGroup}/${liveVersion}`,
      kind: "Edge",
      metadata: { name, namespace: source.namespace },
      status: edgeStats(edge, second, windowSeconds),
    };
  });
}

function end(app: string, version: string): string {
  return dns(version === "" || app.endsWith(`-${version}`) ? app : `${app}-${version}`);
}

/** Made to fit where names go. */
function dns(text: string): string {
  return (
    text
      .toLowerCase()
      .replace(/[^a-z0-9.-]+/g, "-")
      .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, "") || "unknown"
  );
}

function openOf(edge: Edge): number {
  let open = 0;
  for (const count of edge.open.values()) open += count;
  return Math.max(0, open);
}

function firstSecondOf(edges: readonly Edge[]): number {
  return Math.min(...edges.map((edge) => edge.firstSecond));
}

/** Statistics over several edges as one. The ends are those of the first. Rates are over the time from `firstSecond`, at most the window. */
function stats(edges: readonly Edge[], nowSecond: number, windowSeconds: number, firstSecond = firstSecondOf(edges)): EdgeStats {
  const first = edges[0] as Edge;
  const from = nowSecond - windowSeconds;
  const sums = sumOf(edges, from, nowSecond);
  // At least a second: a rate right after a start must not look small.
  const span = Math.max(1, nowSecond - Math.max(from, Math.min(firstSecond, nowSecond - 1)));
  const { source, destination, protocol } = first.key;
  // Those refused before they travelled (a limit, a fault) do not make the others plain.
  const travelled = edges.filter((edge) => edge.lastMutual !== undefined);
  const mutual = sums.plain < 0.001 && travelled.every((edge) => edge.lastMutual);
  const mutualTls = travelled.length === 0 ? null : mutual;
  return {
    source: {
      workload: workloadName(
        edges.map((e) => e.sources),
        source,
      ),
      ...source,
    },
    destination: {
      workload: workloadName(
        edges.map((e) => e.destinations),
        destination,
      ),
      ...destination,
    },
    protocol,
    windowSeconds,
    requestsPerSecond: round(sums.requests / span, 2),
    successRatio: ratio(sums),
    p50Ms: latency(sums, 0.5),
    p99Ms: latency(sums, 0.99),
    bytesPerSecond: round(sums.bytes / span, 0),
    openConnections: edges.reduce((open, edge) => open + openOf(edge), 0),
    mutualTls,
  };
}

/** The one workload at this end, or the application where there are several. */
function workloadName(sets: readonly ReadonlySet<string>[], at: Omit<EdgeEnd, "workload">): string {
  const all = new Set(sets.flatMap((set) => [...set]).filter((name) => name !== "unknown"));
  const [only] = all;
  return all.size === 1 && only !== undefined ? only : at.app;
}

/** What came to the destinations that `matches`, from second `from` up to but not `to`. */
export function traffic(
  table: EdgeTable,
  nowSecond: number,
  matches: (destination: Edge["key"]["destination"]) => boolean,
  from: number,
  to: number,
): Totals {
  return sumOf(
    visibleEdges(table, nowSecond, to - from).filter((edge) => matches(edge.key.destination)),
    from,
    to,
  );
}

function sumOf(edges: readonly Edge[], from: number, to: number): Totals {
  const sums = emptyTotals(edges[0]?.window.bounds ?? []);
  for (const edge of edges) edge.window.sum(from, to, sums);
  return sums;
}

function ratio(sums: Totals): number | null {
  if (sums.requests < 0.001) return null;
  return round(Math.min(1, Math.max(0, 1 - sums.failures / sums.requests)), 4);
}

function latency(sums: Totals, q: number): number | null {
  const value = quantile({ bounds: sums.bounds, counts: sums.latency }, q);
  return value === null ? null : round(value, 2);
}

function round(value: number, digits: number): number {
  const scale = 10 ** digits;
  return Math.round(value * scale) / scale;
}

const idOf = (at: { readonly namespace: string; readonly app: string }) => `${at.namespace}/${at.app}`;

/** `GET /insight/v1alpha1/graph` */
export function graph(table: EdgeTable, instances: Iterable<Instance>, nowMs: number, windowSeconds: number): GraphAnswer {
  const second = Math.floor(nowMs / 1000);
  const edges = visibleEdges(table, second, windowSeconds);
  const byPair = Map.groupBy(edges, (edge) => `${idOf(edge.key.source)}>${idOf(edge.key.destination)}`);
  const nodes = new Map<
    string,
    { readonly namespace: string; readonly app: string; readonly versions: Map<string, { instances: number; ready: number }> }
  >();
  const node = (at: { readonly namespace: string; readonly app: string }) => {
    const id = idOf(at);
    const found = nodes.get(id) ?? { namespace: at.namespace, app: at.app, versions: new Map() };
    nodes.set(id, found);
    return found;
  };
  for (const instance of instances) {
    const { versions } = node(instance);
    const version = versions.get(instance.version) ?? { instances: 0, ready: 0 };
    version.instances++;
    if (instance.ready) version.ready++;
    versions.set(instance.version, version);
  }
  for (const { key } of edges) {
    node(key.source);
    node(key.destination);
  }
  return {
    at: new Date(nowMs).toISOString(),
    windowSeconds,
    nodes: [...nodes]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([id, { namespace, app, versions }]) => {
        const inbound = edges.filter((edge) => idOf(edge.key.destination) === id);
        const totals = inbound.length === 0 ? undefined : stats(inbound, second, windowSeconds);
        return {
          id,
          name: app,
          namespace,
          versions: [...versions].sort(([a], [b]) => (a < b ? -1 : 1)).map(([version, counts]) => ({ version, ...counts })),
          requestsPerSecond: totals?.requestsPerSecond ?? 0,
          successRatio: totals?.successRatio ?? null,
          p50Ms: totals?.p50Ms ?? null,
          p99Ms: totals?.p99Ms ?? null,
        };
      }),
    edges: [...byPair]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([id, members]) => {
        const first = members[0] as Edge;
        const versions = Map.groupBy(members, (edge) => edge.key.destination.version);
        return {
          id,
          from: idOf(first.key.source),
          to: idOf(first.key.destination),
          stats: stats(members, second, windowSeconds),
          byVersion: [...versions]
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([version, group]) => {
              const { requestsPerSecond, successRatio } = stats(group, second, windowSeconds, firstSecondOf(members));
              return { version, requestsPerSecond, successRatio };
            }),
        };
      }),
  };
}

/** What a series is about: a node's incoming calls, or one edge of the graph. */
export type Subject = { readonly node: string } | { readonly edge: string };

/** `GET /insight/v1alpha1/series`; undefined when nothing of that name was seen. Points are stamped with the beginning of their step. */
export function series(table: EdgeTable, subject: Subject, nowMs: number, minutes: number): SeriesAnswer | undefined {
  const second = Math.floor(nowMs / 1000);
  const stepSeconds = minutes > 1 ? 5 : 1;
  const seconds = minutes * 60;
  // The whole memory: a pair that went silent a minute ago still has a past.
  const edges = visibleEdges(table, second, seconds).filter(({ key }) =>
    "node" in subject ? idOf(key.destination) === subject.node : `${idOf(key.source)}>${idOf(key.destination)}` === subject.edge,
  );
  const known = "node" in subject && visibleEdges(table, second, seconds).some(({ key }) => idOf(key.source) === subject.node);
  if (edges.length === 0 && !known) return undefined;
  const end = Math.floor(second / stepSeconds) * stepSeconds;
  const points: SeriesAnswer["points"] = [];
  for (let from = end - seconds; from < end; from += stepSeconds) {
    const sums = sumOf(edges, from, from + stepSeconds);
    points.push({
      at: from * 1000,
      requestsPerSecond: round(sums.requests / stepSeconds, 2),
      successRatio: ratio(sums),
      p50Ms: latency(sums, 0.5),
      p99Ms: latency(sums, 0.99),
    });
  }
  return { stepSeconds, points };
}
