// Owns: the picture the page draws (services and calls, by id), made from one graph answer, and the filters over it. Pure; fetches nothing.

import type { GraphAnswer, ProxyObject } from "../../src/api/live.ts";
import { type Circuit, circuitsOf } from "./circuits.ts";

export type ServiceNode = GraphAnswer["nodes"][number];
export type CallEdge = GraphAnswer["edges"][number];

export interface Picture {
  readonly services: ReadonlyMap<string, ServiceNode>;
  readonly calls: ReadonlyMap<string, CallEdge>;
  /** By service id. */
  readonly traffic: ReadonlyMap<string, Traffic>;
  readonly namespaces: readonly string[];
  /** What circuit breaking does just now, anywhere. */
  readonly circuits: readonly Circuit[];
}

/** What a service has to do in the window: requests have their numbers on the node, bytes only on the calls that reach it. */
export type Traffic =
  | { readonly kind: "requests" }
  | { readonly kind: "bytes"; readonly bytesPerSecond: number; readonly openConnections: number }
  /** Nobody calls it, it calls others: a load generator, a job. */
  | { readonly kind: "caller" }
  | { readonly kind: "none" };

export interface Filter {
  /** Empty = all. */
  readonly namespace: string;
  /** Empty = all; else a part of a service's name, namespace or version, in any case. */
  readonly text: string;
}

/** Sorted by id, so that the same mesh is always laid out and listed in the same order. An end that the answer does not list as a node is added without instances. */
export function toPicture(graph: GraphAnswer, proxies: readonly ProxyObject[] = []): Picture {
  const services = new Map<string, ServiceNode>();
  for (const node of graph.nodes) services.set(node.id, node);
  for (const edge of graph.edges) {
    for (const id of [edge.from, edge.to]) if (!services.has(id)) services.set(id, placeholder(id));
  }
  const calls = new Map<string, CallEdge>();
  for (const edge of graph.edges) calls.set(edge.id, edge);
  const namespaces = new Set<string>();
  for (const node of services.values()) if (!isOutside(node)) namespaces.add(node.namespace);
  const traffic = new Map([...services.values()].map((node) => [node.id, trafficOf(node, graph.edges)]));
  return {
    services: sorted(services),
    calls: sorted(calls),
    traffic,
    namespaces: [...namespaces].sort(byText),
    circuits: circuitsOf(proxies),
  };
}

function trafficOf(node: ServiceNode, edges: readonly CallEdge[]): Traffic {
  const inbound = edges.filter((edge) => edge.to === node.id);
  if (inbound.some((edge) => edge.stats.protocol !== "tcp")) return { kind: "requests" };
  if (inbound.length > 0) {
    const sum = (pick: (edge: CallEdge) => number): number => inbound.reduce((total, edge) => total + pick(edge), 0);
    return { kind: "bytes", bytesPerSecond: sum((e) => e.stats.bytesPerSecond), openConnections: sum((e) => e.stats.openConnections) };
  }
  if (node.requestsPerSecond > 0) return { kind: "requests" };
  return { kind: edges.some((edge) => edge.from === node.id) ? "caller" : "none" };
}

/** Services of the namespace, every call that touches one, and the far ends of those calls. */
export function inNamespace(picture: Picture, namespace: string): Picture {
  if (namespace === "") return picture;
  const own = (id: string): boolean => picture.services.get(id)?.namespace === namespace;
  const calls = new Map([...picture.calls].filter(([, edge]) => own(edge.from) || own(edge.to)));
  const ends = new Set([...calls.values()].flatMap((edge) => [edge.from, edge.to]));
  const services = new Map([...picture.services].filter(([id]) => own(id) || ends.has(id)));
  return { ...picture, services, calls };
}

/** Ids of the services that the text finds, and of the calls that touch one; null when there is no text. */
export function findText(picture: Picture, text: string): { services: ReadonlySet<string>; calls: ReadonlySet<string> } | null {
  const needle = text.trim().toLowerCase();
  if (needle === "") return null;
  const services = new Set<string>();
  for (const [id, node] of picture.services) {
    const hay = [id, ...node.versions.map((v) => v.version)];
    if (hay.some((word) => word.toLowerCase().includes(needle))) services.add(id);
  }
  const calls = new Set<string>();
  for (const [id, edge] of picture.calls) if (services.has(edge.from) || services.has(edge.to)) calls.add(id);
  return { services, calls };
}

/** `shop/reviews` -> its two halves; an id without a slash is a name without namespace. */
export function splitId(id: string): { namespace: string; name: string } {
  const slash = id.indexOf("/");
  return slash < 0 ? { namespace: "", name: id } : { namespace: id.slice(0, slash), name: id.slice(slash + 1) };
}

/** What callers outside the mesh are listed under; the analysis names them `unknown`. */
export function isOutside(node: ServiceNode): boolean {
  return node.versions.length === 0 && (node.name === "unknown" || node.namespace === "unknown" || node.namespace === "");
}

function placeholder(id: string): ServiceNode {
  return { id, ...splitId(id), versions: [], requestsPerSecond: 0, successRatio: null, p50Ms: null, p99Ms: null };
}

function sorted<V>(map: Map<string, V>): Map<string, V> {
  return new Map([...map].sort(([a], [b]) => byText(a, b)));
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
