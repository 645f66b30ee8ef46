// Owns: from what has been accepted to what may go into force: a cluster waits for its endpoints, a listener for its routes, and nothing is taken away
// that something still in force leads to (make before break). Waiting is bounded. Pure but for the times it remembers.

import type { ClusterConfig, EndpointConfig, ListenerConfig, ProxyConfig, RouteTableConfig } from "../config.ts";
import { clustersOf, routeClusters } from "./decode/references.ts";
import type { DemandedHosts } from "./on-demand.ts";
import type { ResourceStore } from "./store.ts";

/** Envoy's default for initial_fetch_timeout. */
export const warmBoundMs = 15_000;

export interface StaticResources {
  readonly listeners: ReadonlyMap<string, ListenerConfig>;
  readonly clusters: ReadonlyMap<string, ClusterConfig>;
}

export interface WarmResult {
  readonly config: ProxyConfig;
  /** What is still waited for, in words. */
  readonly waiting: readonly string[];
}

/** Names of route tables that a listener takes over RDS. */
export function routeNames(listener: ListenerConfig): readonly string[] {
  return listener.chains.flatMap((chain) =>
    chain.terminal.kind === "http" && "rds" in chain.terminal.routes ? [chain.terminal.routes.rds] : [],
  );
}

export class Warmer {
  readonly #fixed: StaticResources;
  /** Since when each thing is waited for, by its words. */
  #since = new Map<string, number>();
  #force: ProxyConfig = { listeners: new Map(), routes: new Map(), clusters: new Map(), endpoints: new Map() };

  constructor(fixed: StaticResources) {
    this.#fixed = fixed;
  }

  /** The next configuration. What came of it is the `before` of the next call. */
  next(store: ResourceStore, nowMs: number, demanded: DemandedHosts | null = null): WarmResult {
    const round = new Round(this.#since, nowMs);
    const before = this.#force;
    const clusters = new Map<string, ClusterConfig>();
    const endpoints = new Map<string, readonly EndpointConfig[]>();
    const cold = new Set<string>();

    const keepCluster = (name: string): boolean => {
      const old = before.clusters.get(name);
      if (old === undefined) return false;
      clusters.set(name, old);
      if (old.source.kind === "eds") {
        const list = before.endpoints.get(old.source.serviceName);
        if (list !== undefined && !endpoints.has(old.source.serviceName)) endpoints.set(old.source.serviceName, list);
      }
      return true;
    };
    const addCluster = (cluster: ClusterConfig): void => {
      if (cluster.source.kind !== "eds") {
        clusters.set(cluster.name, cluster);
        return;
      }
      const service = cluster.source.serviceName;
      const { held, absent } = store.types.endpoint;
      const list = held.get(service);
      if (list !== undefined || absent.has(service) || !round.wait(`endpoints of ${service}`)) {
        clusters.set(cluster.name, cluster);
        endpoints.set(service, list?.config ?? []);
      } else if (!keepCluster(cluster.name)) cold.add(cluster.name);
    };
    for (const cluster of this.#fixed.clusters.values()) addCluster(cluster);
    for (const held of store.types.cluster.held.values()) addCluster(held.config);

    const listeners = new Map<string, ListenerConfig>();
    const addListener = (listener: ListenerConfig): void => {
      const missing = routeNames(listener).filter((name) => !store.types.route.held.has(name) && !store.types.route.absent.has(name));
      // Every missing table gets its own clock, so no short circuit here.
      const waits = missing.map((name) => round.wait(`routes ${name}`)).includes(true);
      const old = before.listeners.get(listener.name);
      if (!waits) listeners.set(listener.name, listener);
      else if (old !== undefined) listeners.set(listener.name, old);
    };
    for (const listener of this.#fixed.listeners.values()) addListener(listener);
    for (const held of store.types.listener.held.values()) addListener(held.config);

    const routes = new Map<string, RouteTableConfig>();
    for (const listener of listeners.values()) {
      for (const name of routeNames(listener)) {
        const given = store.types.route.held.get(name)?.config;
        const table = given === undefined || demanded === null ? given : demanded.merge(given, store);
        const old = before.routes.get(name);
        const early = table !== undefined && old !== undefined && table !== old && [...routeClusters(table)].some((c) => cold.has(c));
        routes.set(name, early ? old : (table ?? old ?? { name, ignorePort: false, virtualHosts: [] }));
      }
    }

    // A cluster that was removed stays while something in force leads to it, for as long as warming may take.
    const named = new Set<string>();
    for (const listener of listeners.values()) for (const name of clustersOf(listener)) named.add(name);
    for (const table of routes.values()) for (const name of routeClusters(table)) named.add(name);
    for (const name of named) {
      if (!clusters.has(name) && !cold.has(name) && before.clusters.has(name) && round.linger(`cluster ${name}`)) keepCluster(name);
    }

    this.#since = round.since;
    this.#force = { listeners, routes, clusters, endpoints };
    return { config: this.#force, waiting: round.waiting };
  }
}

class Round {
  readonly since = new Map<string, number>();
  readonly waiting: string[] = [];
  readonly #before: ReadonlyMap<string, number>;
  readonly #nowMs: number;

  constructor(before: ReadonlyMap<string, number>, nowMs: number) {
    this.#before = before;
    this.#nowMs = nowMs;
  }

  /** true: go on waiting. */
  wait(what: string): boolean {
    const on = this.linger(what);
    if (on && !this.waiting.includes(what)) this.waiting.push(what);
    return on;
  }

  /** As wait, for what nobody needs to be told of. */
  linger(what: string): boolean {
    const began = this.#before.get(what) ?? this.#nowMs;
    this.since.set(what, began);
    return this.#nowMs - began < warmBoundMs;
  }
}
