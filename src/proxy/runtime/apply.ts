// Owns: what is in force: slots of clusters, route tables and chains, and the listeners. `apply` builds everything first, then publishes within one
// synchronous step, so no request sees half of an update; requests under way keep the compiled forms they began with.
// Must never throw: a resource that fails is reported and its predecessor serves on.

import { Cluster, type ClusterSlot } from "../balance/cluster.ts";
import type { ChainSlot, CompiledChain } from "../chain/chain.ts";
import { makeChains } from "../chain/select.ts";
import type {
  ClusterConfig,
  EndpointConfig,
  FilterChainConfig,
  ListenerConfig,
  ProxyConfig,
  RouteTableConfig,
  UpstreamTlsConfig,
} from "../config.ts";
import type { ApplyFailure, EngineDeps, EngineStats } from "../engine.ts";
import type { HealthChecker } from "../health/checker.ts";
import { HealthReport } from "../health/report.ts";
import { BoundListener, type ListeningSocket } from "../net/listen.ts";
import { prepareOriginalDestination } from "../net/original-dst.ts";
import { Breakers } from "../resilience/breakers.ts";
import type { OnDemand } from "../route/on-demand.ts";
import { type CompiledTable, compileTable, type TableSlot } from "../route/table.ts";
import { StaticExpiry, type TlsUsers } from "../tls/expiry.ts";
import { UdpListeners } from "../udp/live.ts";
import { type BuildContext, buildChains, buildTransports } from "./build.ts";
import type { Core } from "./core.ts";

interface LiveCluster {
  config: ClusterConfig;
  transportOf: ReturnType<typeof buildTransports>;
  endpoints: readonly EndpointConfig[] | null;
  readonly cluster: Cluster;
  checker: HealthChecker | null;
}

interface LiveListener {
  readonly config: ListenerConfig;
  readonly bound: BoundListener;
  readonly slots: readonly ChainSlot[];
}

const noEndpoints: readonly EndpointConfig[] = [];

export class Live {
  readonly #core: Core;
  readonly #deps: EngineDeps;
  readonly #clusterSlots = new Map<string, ClusterSlot>();
  readonly #tableSlots = new Map<string, TableSlot>();
  readonly #clusters = new Map<string, LiveCluster>();
  readonly #tables = new Map<string, { readonly config: RouteTableConfig; readonly compiled: CompiledTable }>();
  readonly #listeners = new Map<string, LiveListener>();
  readonly #context: BuildContext;
  readonly #udp: UdpListeners;
  readonly #report: HealthReport;
  /** Requests that wait for their host; null until some chain asks for hosts. */
  #onDemand: OnDemand | null = null;
  readonly #breakers: Breakers;

  constructor(core: Core, deps: EngineDeps) {
    this.#core = core;
    this.#deps = deps;
    this.#context = {
      secrets: deps.secrets,
      trustDomain: deps.local.trustDomain,
      source: deps.local.cluster ?? `${deps.local.app}.${deps.local.namespace}`,
      accessLog: deps.accessLog,
      wholeBodies: () => {
        core.unchunkRequests = true;
      },
      clusterSlot: (name) => slotIn(this.#clusterSlots, name),
      tableSlot: (name) => slotIn(this.#tableSlots, name),
      onDemand: () => this.#makeOnDemand(),
    };
    const now = () => core.ticker.now();
    this.#report = new HealthReport(deps.metrics, deps.log, () => [...this.#clusters.values()].map((live) => live.cluster), now);
    this.#breakers = new Breakers(deps.metrics, deps.log, now);
    new StaticExpiry(deps.metrics, () => this.#tlsUsers());
    const { clusterSlot, accessLog } = this.#context;
    this.#udp = new UdpListeners(core, { metrics: deps.metrics, accessLog, clusterSlot, shared: deps.shareDatagrams ?? false });
  }

  #makeOnDemand(): OnDemand {
    if (this.#onDemand === null) {
      const { OnDemand } = require("../route/on-demand.ts") as typeof import("../route/on-demand.ts");
      this.#onDemand = new OnDemand(this.#core.ticker, this.#deps.metrics, this.#deps.demand ?? (() => {}));
    }
    return this.#onDemand;
  }

  /** What is in force and names certificates. */
  #tlsUsers(): TlsUsers {
    const upstream: UpstreamTlsConfig[] = [];
    for (const { config } of this.#clusters.values()) {
      for (const tls of [config.tls, ...config.transports.map((entry) => entry.tls)]) if (tls !== null) upstream.push(tls);
    }
    return { listeners: [...this.#listeners.values()].map((live) => live.config), upstream };
  }

  apply(config: ProxyConfig): readonly ApplyFailure[] {
    const failed: ApplyFailure[] = [];
    // Additions go cluster, endpoint, route, listener; removals the other way round (rule 11), so that nothing points at nothing.
    this.#applyClusters(config, failed);
    this.#applyTables(config.routes, failed);
    this.#applyListeners(config.listeners, failed);
    for (const name of this.#tables.keys()) {
      if (config.routes.has(name)) continue;
      this.#onDemand?.gone(name);
      this.#tables.delete(name);
      const slot = this.#tableSlots.get(name);
      if (slot !== undefined) slot.current = null;
    }
    for (const [name, live] of this.#clusters) {
      if (config.clusters.has(name)) continue;
      this.#clusters.delete(name);
      const slot = this.#clusterSlots.get(name);
      if (slot !== undefined) slot.current = null;
      this.#endCluster(live);
      this.#report.forget(name);
      this.#breakers.forget(name);
    }
    this.#udp.apply(config.listeners, (listener, error) => {
      failed.push({ resource: { type: "listener", name: listener.name }, reason: sentence(error, listener) });
    });
    // Last, as requests that waited go on from here.
    if (this.#onDemand !== null)
      for (const { config: table, compiled } of this.#tables.values()) if (table.onDemand !== undefined) this.#onDemand.applied(compiled);
    return failed;
  }

  #applyClusters(config: ProxyConfig, failed: ApplyFailure[]): void {
    for (const [name, next] of config.clusters) {
      const endpoints = next.source.kind === "eds" ? (config.endpoints.get(next.source.serviceName) ?? noEndpoints) : next.source.endpoints;
      const live = this.#clusters.get(name);
      if (live !== undefined && live.config === next) {
        if (live.endpoints !== endpoints) {
          live.cluster.setEndpoints(endpoints, live.transportOf, this.#core.ticker.now(), false);
          live.endpoints = endpoints;
          live.checker?.sync();
        }
        continue;
      }
      // The control plane's own cluster speaks HTTP/2 and is no business of the data path.
      if (next.control) continue;
      if (next.protocol !== "http1") this.#core.unchunkRequests = true;
      try {
        const transportOf = buildTransports(next, this.#deps.secrets);
        const cluster = live?.cluster ?? new Cluster(next, this.#deps.local.locality);
        cluster.refusals = this.#breakers;
        if (!sameService(cluster.config, next)) {
          cluster.requestSeries = null;
          for (const endpoint of cluster.endpoints) {
            endpoint.requestSeries = null;
            endpoint.tcpSeries = null;
          }
        }
        cluster.reconfigure(next, JSON.stringify(cluster.config.balance) === JSON.stringify(next.balance));
        this.#judge(cluster, next);
        this.#name(cluster, next, transportOf);
        cluster.setEndpoints(endpoints, transportOf, this.#core.ticker.now());
        const checker = this.#check(cluster, live);
        this.#clusters.set(name, { config: next, transportOf, endpoints, cluster, checker });
        this.#context.clusterSlot(name).current = cluster;
      } catch (error) {
        failed.push({ resource: { type: "cluster", name }, reason: sentence(error) });
      }
    }
  }

  /** A cluster that leads wherever requests say keeps the addresses that it knows. */
  #name(cluster: Cluster, { source }: ClusterConfig, transportOf: ReturnType<typeof buildTransports>): void {
    if (source.kind !== "dynamic") {
      cluster.names?.retire();
      cluster.names = null;
      return;
    }
    const { Names, systemLookup } = require("../names/names.ts") as typeof import("../names/names.ts");
    const deps = { lookup: this.#deps.lookup ?? systemLookup, nowMs: () => this.#core.ticker.now(), transportOf };
    if (cluster.names === null) cluster.names = new Names(cluster, deps);
    else cluster.names.deps = deps;
  }

  /** Outlier detection as configured now. What is out stays out under new settings. */
  #judge(cluster: Cluster, { outliers }: ClusterConfig): void {
    if (outliers === undefined) {
      cluster.outliers?.release(this.#core.ticker.now());
      cluster.outliers = null;
    } else if (cluster.outliers !== null) cluster.outliers.config = outliers;
    else {
      const { OutlierDetector } = require("../health/outliers.ts") as typeof import("../health/outliers.ts");
      cluster.outliers = new OutlierDetector(cluster, outliers, this.#report, this.#core.random);
    }
  }

  /** Health checks as configured now; those of unchanged settings go on. */
  #check(cluster: Cluster, before: LiveCluster | undefined): HealthChecker | null {
    const checks = cluster.config.healthChecks;
    const same = checks !== undefined && JSON.stringify(checks) === JSON.stringify(before?.config.healthChecks);
    let checker = same ? (before?.checker ?? null) : null;
    if (!same) before?.checker?.stop();
    if (checks === undefined) return null;
    if (checker === null) {
      const { probe } = require("../health/probe.ts") as typeof import("../health/probe.ts");
      const checking = require("../health/checker.ts") as typeof import("../health/checker.ts");
      checker = new checking.HealthChecker(cluster, checks, {
        clock: this.#deps.clock,
        random: this.#core.random,
        probe: (endpoint, check, done) => probe(this.#core, this.#deps.clock, endpoint, check, done),
        events: this.#report,
      });
    }
    checker.sync();
    return checker;
  }

  #endCluster(live: LiveCluster): void {
    live.checker?.stop();
    live.cluster.retire();
  }

  #applyTables(routes: ReadonlyMap<string, RouteTableConfig>, failed: ApplyFailure[]): void {
    for (const [name, next] of routes) {
      if (this.#tables.get(name)?.config === next) continue;
      try {
        const compiled = compileTable(next, (cluster) => this.#context.clusterSlot(cluster));
        this.#tables.set(name, { config: next, compiled });
        this.#context.tableSlot(name).current = compiled;
      } catch (error) {
        failed.push({ resource: { type: "route", name }, reason: sentence(error) });
      }
    }
  }

  #applyListeners(listeners: ReadonlyMap<string, ListenerConfig>, failed: ApplyFailure[]): void {
    for (const [name, live] of this.#listeners) {
      const next = listeners.get(name);
      if (next !== undefined && next.udp === undefined) continue;
      this.#listeners.delete(name);
      live.bound.remove();
      for (const slot of live.slots) retireMembers(slot);
    }
    for (const [name, next] of listeners) {
      const live = this.#listeners.get(name);
      if (next.udp !== undefined || (live !== undefined && live.config === next)) continue;
      try {
        if (live === undefined) this.#listeners.set(name, this.#bind(next));
        else this.#replace(live, next);
      } catch (error) {
        failed.push({ resource: { type: "listener", name }, reason: sentence(error, next) });
      }
    }
  }

  #bind(config: ListenerConfig): LiveListener {
    const moved = destinationMoves(config);
    if (config.before?.originalDestination === true) prepareOriginalDestination();
    const port = moved ? 0 : config.address.port;
    const slots = buildChains(config, port, this.#context).map((current): ChainSlot => ({ current, members: new Set() }));
    const bound = new BoundListener(this.#core, config.name, config.address, makeChains(slots, config.before), this.#deps.adopt);
    bound.bind(bound.chains.allTls);
    // Port 0 in the configuration: policies on ports judge the one that was bound.
    if (!moved && bound.address.port !== port) for (const slot of slots) slot.current = { ...slot.current, port: bound.address.port };
    return { config, bound, slots };
  }

  #replace(live: LiveListener, next: ListenerConfig): void {
    const sameAddress = live.config.address.host === next.address.host && live.config.address.port === next.address.port;
    if (next.before?.originalDestination === true) prepareOriginalDestination();
    const port = destinationMoves(next) ? 0 : sameAddress ? live.bound.address.port : next.address.port;
    const built = buildChains(next, port, this.#context);
    const left = [...live.slots];
    const changed: ChainSlot[] = [];
    const publish: (() => void)[] = [];
    const slots = built.map((chain): ChainSlot => {
      const at = left.findIndex((slot) => follows(slot.current, chain));
      if (at < 0) return { current: chain, members: new Set() };
      const slot = left[at] as ChainSlot;
      left.splice(at, 1);
      if (slot.current.config !== chain.config) {
        changed.push(slot);
        publish.push(() => {
          slot.current = chain;
        });
      }
      return slot;
    });
    // Of the chains as they will be: the slots still hold the old ones.
    const tlsOnly = makeChains(
      built.map((current): ChainSlot => ({ current, members: new Set() })),
      next.before,
    ).allTls;
    let bound = live.bound;
    if (!sameAddress) {
      // The new address is bound before the old one is let go; if that fails, nothing has changed.
      bound = new BoundListener(this.#core, next.name, next.address, live.bound.chains, this.#deps.adopt);
      bound.bind(tlsOnly);
      live.bound.stop();
    } else if (live.bound.tlsOnly !== tlsOnly) {
      live.bound.rebind(tlsOnly);
    }
    for (const run of publish) run();
    bound.chains = makeChains(slots, next.before);
    // Connections that came in at the old address choose among the new chains too.
    live.bound.chains = bound.chains;
    this.#listeners.set(next.name, { config: next, bound, slots });
    for (const slot of left) retireMembers(slot, true);
    // Open connections are judged again under the new policies.
    for (const slot of changed) for (const member of [...slot.members]) member.rejudge();
  }

  sockets(): readonly ListeningSocket[] {
    return [...this.#listeners.values()].flatMap((live) => live.bound.sockets());
  }

  /** Stops accepting. */
  stop(): void {
    for (const live of this.#listeners.values()) live.bound.stop();
    this.#udp.stop();
    this.#onDemand?.stop();
  }

  forget(): void {
    this.stop();
    this.#listeners.clear();
    for (const live of this.#clusters.values()) this.#endCluster(live);
    this.#clusters.clear();
  }

  stats(): EngineStats {
    const now = this.#core.ticker.now();
    return {
      connections: this.#core.open.size,
      activeRequests: this.#core.activeRequests,
      listeners: [...[...this.#listeners].map(([name, live]) => ({ name, address: live.bound.address })), ...this.#udp.stats()],
      clusters: [...this.#clusters].map(([name, { cluster }]) => {
        if (now >= cluster.dueMs) cluster.refresh(now);
        return {
          name,
          ...(cluster.panic ? { panic: true as const } : {}),
          endpoints: cluster.endpoints.map((endpoint) => ({
            address: { host: endpoint.host, port: endpoint.port },
            healthy: endpoint.available && endpoint.avoidUntilMs <= now,
            active: endpoint.active,
            ...(endpoint.ejected ? { ejectedForMs: Math.max(0, Math.round(endpoint.ejectedUntilMs - now)) } : {}),
            ...(endpoint.failing ? { failing: true as const } : {}),
          })),
        };
      }),
    };
  }
}

/** Every connection knows its own destination, from a redirection or a load balancer. */
function destinationMoves(config: ListenerConfig): boolean {
  return config.before !== undefined && (config.before.originalDestination || config.before.proxyProtocol !== null);
}

/** May open connections of the old chain live on under the new one? Its kind and transport security must be the same. */
function follows(old: CompiledChain, next: CompiledChain): boolean {
  return old.config.terminal.kind === next.config.terminal.kind && old.config.name === next.config.name && sameTls(old.config, next.config);
}

function sameTls(a: FilterChainConfig, b: FilterChainConfig): boolean {
  return a.tls === b.tls || JSON.stringify(a.tls) === JSON.stringify(b.tls);
}

/** `cut`: the chain's security changed, so that opaque connections may not go on either. */
function retireMembers(slot: ChainSlot, cut = false): void {
  for (const member of [...slot.members]) {
    member.retire();
    if (cut && slot.current.terminal.kind === "tcp") member.destroy();
  }
}

function sameService(a: ClusterConfig, b: ClusterConfig): boolean {
  return a.service?.host === b.service?.host && a.service?.name === b.service?.name && a.service?.namespace === b.service?.namespace;
}

function slotIn<S extends { readonly name: string; current: unknown }>(slots: Map<string, S>, name: string): S {
  let slot = slots.get(name);
  if (slot === undefined) {
    slot = { name, current: null } as unknown as S;
    slots.set(name, slot);
  }
  return slot;
}

function sentence(error: unknown, listener?: ListenerConfig): string {
  const code = (error as { code?: string }).code;
  if (listener !== undefined) {
    const where = `${listener.address.host}:${listener.address.port}`;
    if (code === "EADDRINUSE") return `${where} is in use by another process`;
    if (code === "EADDRNOTAVAIL") return `${listener.address.host} is no address of this host`;
    if (code === "EACCES") return `${where} needs a privilege to bind; choose a port above 1023`;
  }
  return error instanceof Error ? error.message : String(error);
}
