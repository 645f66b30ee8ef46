// Owns: a cluster at run time: its endpoints, its limits and who waits for a connection. A `ClusterSlot` is what routes hold, so that
// a cluster can be replaced without touching them. What changes with time (ejections, slow start, reported weights) is brought up to date by `refresh`,
// which `pick` calls when `dueMs` has come: a cluster that nobody asks costs nothing.

import type { ClusterConfig, EndpointConfig } from "../config.ts";
import type { OutlierDetector } from "../health/outliers.ts";
import type { Names } from "../names/names.ts";
import type { LimitName, Refusals } from "../resilience/breakers.ts";
import type { Budget } from "../resilience/budget.ts";
import { baseWeight, Endpoint, type Transport } from "./endpoint.ts";
import { type Layout, layout, type OwnLocality } from "./layout.ts";
import { Observer } from "./observer.ts";
import { Pool } from "./pool.ts";
import { addressText } from "./wanted.ts";

/** Where routes point; `current` is null while no such cluster is configured. */
export interface ClusterSlot {
  readonly name: string;
  current: Cluster | null;
}

/** Waits for a connection of a cluster that is at its limit. */
export interface Waiter {
  /** A connection may be had now. */
  retryPick(): void;
}

/** Several pools and the share of each, as running sums. */
export interface Spread {
  readonly pools: readonly Pool[];
  readonly upTo: Float64Array;
}

/** How often weights that change with time are reckoned anew. */
const reweighMs = 100;

const nowhere: OwnLocality = { region: "", zone: "", subZone: "" };

export class Cluster {
  config: ClusterConfig;
  /** Everything configured, healthy or not. */
  endpoints: readonly Endpoint[] = [];
  /** What may be chosen, in any pool. */
  usable: readonly Endpoint[] = [];
  /** Where all choices are made, unless `spread` says otherwise. */
  pool = new Pool();
  spread: Spread | null = null;
  /** Health is not believed, as too few are available. */
  panic = false;
  /** `refresh` is wanted from this time on. */
  dueMs = Number.POSITIVE_INFINITY;
  /** The last `pick` found endpoints, but all at their limit. */
  full = false;
  /** Some endpoint has a limit of its own. */
  limited = false;
  /** Open or opening upstream connections. */
  connections = 0;
  activeRequests = 0;
  activeRetries = 0;
  /** Made with the first request that may be retried (`http/again.ts`); null before. */
  retryBudget: Budget | null = null;
  hedgeBudget: Budget | null = null;
  /** A request was meant for it since it is there: health checks then come at their full pace. */
  carried = false;
  readonly waiting: Waiter[] = [];
  /** Judges endpoints by their answers; null = not configured. */
  outliers: OutlierDetector | null = null;
  /** It leads wherever a request says; null = to its endpoints. */
  names: Names | null = null;
  /** Called when health has changed who is available. */
  onHealth: (() => void) | null = null;
  /** Told of each refusal by a limit. */
  refusals: Refusals | null = null;
  readonly own: OwnLocality;
  /** Series for requests that never reached an endpoint; belongs to `telemetry/request.ts`. */
  requestSeries: object | null = null;
  tcpSeries: object | null = null;
  #relayout = false;
  /** What `endpoints` were made of, one for one. */
  #configs: readonly EndpointConfig[] = [];
  /** All endpoints share the requests, in one pool. */
  #simple = false;
  /** Some weight changes with time. */
  #moving = false;
  #reportsDueMs = 0;
  readonly #pools = new Map<string, Pool>();
  #byAddress: Map<string, Endpoint> | null = null;

  constructor(config: ClusterConfig, own: OwnLocality = nowhere) {
    this.config = config;
    this.own = own;
  }

  /** Puts another configuration in force; `setEndpoints` follows. `samePolicy`: rings and tables made for the last one are still right. */
  reconfigure(config: ClusterConfig, samePolicy: boolean): void {
    this.config = config;
    if (samePolicy) return;
    this.pool.forget();
    for (const pool of this.#pools.values()) pool.forget();
  }

  /**
   * Puts a new set in force. Endpoints that stay (same address and transport) keep their state and connections; the rest retire. What is the same
   * object as before, at the beginning and at the end of the list, is not looked at. `transportOf` names how an endpoint is reached.
   */
  setEndpoints(configs: readonly EndpointConfig[], transportOf: (config: EndpointConfig) => Transport, nowMs = 0, fresh = true): void {
    const old = this.endpoints;
    let from = 0;
    let tail = 0;
    if (!fresh) {
      const was = this.#configs;
      const most = Math.min(was.length, configs.length);
      while (from < most && was[from] === configs[from]) from++;
      while (tail < most - from && was[was.length - 1 - tail] === configs[configs.length - 1 - tail]) tail++;
    }
    this.#configs = configs;
    const known = new Map<string, Endpoint>();
    for (let i = from; i < old.length - tail; i++) {
      const endpoint = old[i] as Endpoint;
      known.set(endpointKey(endpoint.config, endpoint.transport), endpoint);
    }
    const made: Endpoint[] = [];
    for (let i = from; i < configs.length - tail; i++) {
      const config = configs[i] as EndpointConfig;
      const transport = transportOf(config);
      const key = endpointKey(config, transport);
      let endpoint = known.get(key);
      if (endpoint === undefined) {
        endpoint = new Endpoint(this, transport, config);
        const slow = this.config.slowStart;
        // All of a new cluster start alike.
        if (slow !== undefined && old.length > 0) warm(endpoint, slow.windowMs, nowMs);
      } else {
        known.delete(key);
        if (endpoint.config.workload !== config.workload && !sameWorkload(endpoint.config, config)) {
          endpoint.requestSeries = null;
          endpoint.tcpSeries = null;
        }
        endpoint.config = config;
        endpoint.weight = baseWeight(config);
      }
      made.push(endpoint);
    }
    const next = spliced(old, from, old.length - tail, made);
    this.endpoints = next;
    this.#observe(fresh ? 0 : from, fresh ? next.length : next.length - tail);
    this.#byAddress = null;
    for (const endpoint of known.values()) endpoint.retire();
    // No endpoint may be chosen any more that has just gone. Where all share alike and those that came do too, nothing else has to be looked at.
    if (!fresh && this.#simple && !this.#relayout && next.length > 0 && made.every(sharesAlike)) {
      this.pool.swap(next, from, next.length - tail);
      this.usable = next;
    } else this.#relayout = true;
    this.refresh(nowMs);
    if (this.onHealth !== null) this.onHealth();
  }

  /** Gives observers to endpoints [from, to) where the configuration asks. */
  #observe(from: number, to: number): void {
    const { balance, heedsRateLimits, endpointLimits } = this.config;
    this.limited = endpointLimits !== undefined;
    const reports = balance.kind === "load_report";
    const wanted = this.outliers !== null || balance.kind === "peak_ewma" || reports || heedsRateLimits === true;
    for (let i = from; i < to; i++) {
      const endpoint = this.endpoints[i] as Endpoint;
      if (!wanted) {
        endpoint.observer = null;
        continue;
      }
      endpoint.observer ??= new Observer(endpoint);
      const observer = endpoint.observer;
      observer.sink = this.outliers;
      observer.wantsReports = reports;
      observer.heedsLimits = heedsRateLimits === true;
      if (balance.kind === "peak_ewma") observer.decayMs = balance.decayMs;
    }
  }

  /** Something has changed who is available, or a weight; the next `pick` sees it. */
  changed(): void {
    this.#relayout = true;
    this.dueMs = 0;
    if (this.onHealth !== null) this.onHealth();
  }

  /** Brings up to date what changes with time. */
  refresh(nowMs: number): void {
    let due = Number.POSITIVE_INFINITY;
    if (this.outliers !== null) due = this.outliers.run(nowMs);
    this.#moving = false;
    this.#weigh(nowMs);
    if (this.#relayout) {
      this.#relayout = false;
      this.#arrange(layout(this.endpoints, this.config, this.own));
    } else if (this.#reweighed) {
      this.pool.reweigh();
      for (const pool of this.spread?.pools ?? []) pool.reweigh();
    }
    this.#reweighed = false;
    if (this.#moving && nowMs + reweighMs < due) due = nowMs + reweighMs;
    this.dueMs = due;
  }

  #reweighed = false;

  /** Slow start, rate limits and load reports. */
  #weigh(nowMs: number): void {
    const { balance, heedsRateLimits, slowStart } = this.config;
    if (balance.kind === "load_report") {
      this.#moving = true;
      if (nowMs < this.#reportsDueMs) return;
      this.#reportsDueMs = nowMs + balance.updateMs;
      this.#weighReports(balance, nowMs);
      return;
    }
    if (heedsRateLimits !== true && !this.#warming) return;
    let warming = false;
    for (let i = 0; i < this.endpoints.length; i++) {
      const endpoint = this.endpoints[i] as Endpoint;
      let weight = baseWeight(endpoint.config);
      if (endpoint.warmMs > 0) {
        const age = (nowMs - endpoint.warmFromMs) / endpoint.warmMs;
        if (age >= 1) endpoint.warmMs = 0;
        else {
          warming = true;
          const grown = age <= 0 ? 0 : slowStart === undefined || slowStart.aggression === 1 ? age : age ** (1 / slowStart.aggression);
          weight *= Math.max(slowStart?.minShare ?? leastReturnShare, grown);
        }
      }
      if (heedsRateLimits === true && endpoint.observer !== null) weight *= endpoint.observer.limitShare(nowMs);
      if (weight === endpoint.weight) continue;
      endpoint.weight = weight;
      this.#reweighed = true;
    }
    this.#warming = warming;
    this.#moving = warming || heedsRateLimits === true;
  }

  #warming = false;

  /** gRFC A58: who has no weight of its own gets the mean of those that have. */
  #weighReports(balance: { readonly blackoutMs: number; readonly expirationMs: number }, nowMs: number): void {
    let sum = 0;
    let count = 0;
    const weights = new Float64Array(this.endpoints.length);
    for (let i = 0; i < weights.length; i++) {
      const weight = this.endpoints[i]?.observer?.reportedWeight(balance.blackoutMs, balance.expirationMs, nowMs) ?? 0;
      weights[i] = weight;
      if (weight > 0) {
        sum += weight;
        count++;
      }
    }
    const mean = count === 0 ? 1 : sum / count;
    // One report alone says nothing about others: all are alike until there are two.
    for (let i = 0; i < weights.length; i++) {
      const endpoint = this.endpoints[i] as Endpoint;
      const weight = count < 2 ? baseWeight(endpoint.config) : (weights[i] as number) > 0 ? (weights[i] as number) : mean;
      if (weight === endpoint.weight) continue;
      endpoint.weight = weight;
      this.#reweighed = true;
    }
  }

  /** An endpoint comes back after an ejection or a failed health check: its share grows over `windowMs`. */
  ease(endpoint: Endpoint, windowMs: number, nowMs: number): void {
    warm(endpoint, this.config.slowStart?.windowMs ?? windowMs, nowMs);
    this.changed();
  }

  /** For `setEndpoints` and `ease`. */
  startWarming(): void {
    this.#warming = true;
  }

  #arrange({ shares, panic }: Layout): void {
    this.panic = panic;
    this.#simple = shares.length === 1 && shares[0]?.members === this.endpoints && this.config.localities === undefined;
    if (shares.length === 1) {
      this.spread = null;
      this.pool.assign((shares[0] as Layout["shares"][number]).members);
      this.usable = this.pool.members;
      if (this.#pools.size > 0) this.#pools.clear();
      return;
    }
    if (shares.length === 0) {
      this.spread = null;
      this.pool.assign([]);
      this.usable = this.pool.members;
      this.#pools.clear();
      return;
    }
    const upTo = new Float64Array(shares.length);
    let sum = 0;
    const pools = shares.map(({ key, members, share }, i) => {
      sum += share;
      upTo[i] = sum;
      let pool = this.#pools.get(key);
      if (pool === undefined) {
        pool = new Pool();
        this.#pools.set(key, pool);
      }
      pool.assign(members);
      return pool;
    });
    for (const key of [...this.#pools.keys()]) if (!shares.some((share) => share.key === key)) this.#pools.delete(key);
    this.usable = shares.flatMap((share) => share.members);
    this.spread = { pools, upTo };
  }

  /** The endpoint of this `host:port`, available or not. */
  endpointAt(address: string): Endpoint | undefined {
    if (this.#byAddress === null) {
      this.#byAddress = new Map();
      for (const endpoint of this.endpoints) this.#byAddress.set(addressText(endpoint.host, endpoint.port), endpoint);
    }
    return this.#byAddress.get(address);
  }

  /** A limit has refused something. */
  refused(limit: LimitName): void {
    this.refusals?.refused(this.config.name, limit);
  }

  /** Lets one waiter try again. Call when a connection was closed or became idle. */
  wakeOne(): void {
    this.waiting.shift()?.retryPick();
  }

  retire(): void {
    this.names?.retire();
    for (const endpoint of this.endpoints) endpoint.retire();
  }
}

/** Nothing about it would make a layout other than "all of them". */
function sharesAlike(endpoint: Endpoint): boolean {
  return endpoint.config.priority === 0 && endpoint.available;
}

/** `old` with [from, to) replaced. */
function spliced(old: readonly Endpoint[], from: number, to: number, made: readonly Endpoint[]): readonly Endpoint[] {
  if (from === 0 && to === old.length) return made;
  if (made.length !== to - from) return old.slice(0, from).concat(made, old.slice(to));
  const next = old.slice();
  for (let i = 0; i < made.length; i++) next[from + i] = made[i] as Endpoint;
  return next;
}

/** Without a slow start of its own an endpoint comes back from an ejection with this share. */
const leastReturnShare = 0.1;

function warm(endpoint: Endpoint, windowMs: number, nowMs: number): void {
  if (windowMs <= 0) return;
  endpoint.warmFromMs = nowMs;
  endpoint.warmMs = windowMs;
  endpoint.cluster.startWarming();
}

function endpointKey(config: EndpointConfig, transport: Transport): string {
  return `${config.address.host}|${config.address.port}|${config.identity ?? ""}|${transport.key}`;
}

function sameWorkload(a: EndpointConfig, b: EndpointConfig): boolean {
  const x = a.workload;
  const y = b.workload;
  return x !== null && y !== null && x.workload === y.workload && x.namespace === y.namespace && x.app === y.app && x.version === y.version;
}
