// Owns: the table of edges: who calls whom, by application and version, each with its window. Bounded; what is idle goes. Never reads protobuf.

import type { EdgeEnd } from "../api/live.ts";
import { Window } from "./window.ts";

export type Reporter = "source" | "destination";

export interface EdgeKey {
  readonly reporter: Reporter;
  readonly source: Omit<EdgeEnd, "workload">;
  readonly destination: Omit<EdgeEnd, "workload"> & { readonly service: string };
  /** SPIFFE ID of the caller, or `unknown`. */
  readonly sourcePrincipal: string;
  readonly protocol: "http" | "grpc" | "tcp";
}

export interface Edge {
  readonly id: string;
  /**
   * The first second that any proxy reporting this edge has reported about. Rates are over the time since then, not since the edge's own first
   * request: so the rates of versions add up to the rate of their service.
   */
  firstSecond: number;
  readonly key: EdgeKey;
  readonly window: Window;
  /** Names of the workloads seen at each end; a few, then no more are added. */
  readonly sources: Set<string>;
  readonly destinations: Set<string>;
  /** Connections open now, by the node that reports them. */
  readonly open: Map<string, number>;
  /** How the last request that reached a peer travelled; undefined: none did, so that nothing can be said. */
  lastMutual: boolean | undefined;
}

export const maxEdges = 4096;
const maxWorkloadNames = 16;
/** An edge that did nothing for as long as its window reaches back tells nothing any more. */
const idleSeconds = 330;

export class EdgeTable {
  readonly #edges = new Map<string, Edge>();
  #refused = 0;

  /** Edges that were not taken in because the table was full. */
  get refused(): number {
    return this.#refused;
  }

  get size(): number {
    return this.#edges.size;
  }

  values(): IterableIterator<Edge> {
    return this.#edges.values();
  }

  /** The edge, made on first use; undefined when the table is full. */
  edge(key: EdgeKey, nowSecond: number): Edge | undefined {
    const id = idOf(key);
    let edge = this.#edges.get(id);
    if (edge === undefined) {
      if (this.#edges.size >= maxEdges) this.forgetIdle(nowSecond);
      if (this.#edges.size >= maxEdges) {
        this.#refused++;
        return undefined;
      }
      edge = {
        id,
        firstSecond: Number.POSITIVE_INFINITY,
        key,
        window: new Window(),
        sources: new Set(),
        destinations: new Set(),
        open: new Map(),
        lastMutual: undefined,
      };
      this.#edges.set(id, edge);
    }
    return edge;
  }

  forgetIdle(nowSecond: number): void {
    for (const [id, edge] of this.#edges) {
      if (edge.open.size === 0 && nowSecond - edge.window.lastSecond > idleSeconds) this.#edges.delete(id);
    }
  }

  /** A node has gone: the connections it reported are closed. */
  forgetNode(node: string): void {
    for (const edge of this.#edges.values()) edge.open.delete(node);
  }
}

export function noteWorkloads(edge: Edge, source: string, destination: string): void {
  if (edge.sources.size < maxWorkloadNames) edge.sources.add(source);
  if (edge.destinations.size < maxWorkloadNames) edge.destinations.add(destination);
}

function idOf(key: EdgeKey): string {
  const { source: s, destination: d } = key;
  return [key.reporter, s.namespace, s.app, s.version, d.namespace, d.app, d.version, d.service, key.protocol, key.sourcePrincipal].join(
    "\u0000",
  );
}
