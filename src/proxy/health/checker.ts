// Owns: when the endpoints of one cluster are asked how they are, and what their answers make of them: thresholds, intervals, jitter. Envoy's rules (its
// documentation: "Health checking"): an endpoint is down until its first check has passed, and the first result counts at once. Never talks to endpoints
// itself: probe.ts does.

import type { Clock, Timer } from "../../base/clock.ts";
import type { Cluster } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import type { HealthCheckConfig } from "../config.ts";
import type { CheckEvents } from "./report.ts";

/** Starts a check; answers how to give it up. `done` comes later. */
export type Prober = (endpoint: Endpoint, check: HealthCheckConfig, done: (problem: string | null) => void) => () => void;

export interface CheckerDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly probe: Prober;
  readonly events: CheckEvents;
}

export class HealthChecker {
  readonly #cluster: Cluster;
  readonly #checks: readonly HealthCheckConfig[];
  readonly #deps: CheckerDeps;
  readonly #watched = new Map<Endpoint, Watch[]>();

  constructor(cluster: Cluster, checks: readonly HealthCheckConfig[], deps: CheckerDeps) {
    this.#cluster = cluster;
    this.#checks = checks;
    this.#deps = deps;
  }

  /** The endpoints have changed. */
  sync(): void {
    const now = new Set(this.#cluster.endpoints);
    for (const [endpoint, watches] of this.#watched) {
      if (now.has(endpoint)) continue;
      for (const watch of watches) watch.stop();
      this.#watched.delete(endpoint);
    }
    let fresh = false;
    for (const endpoint of this.#cluster.endpoints) {
      if (this.#watched.has(endpoint)) continue;
      const judge = () => this.#judge(endpoint);
      const watches = this.#checks.map((check) => new Watch(this.#cluster, endpoint, check, this.#deps, judge));
      this.#watched.set(endpoint, watches);
      endpoint.failing = true;
      fresh = true;
      for (const watch of watches) watch.start();
    }
    if (fresh) this.#cluster.changed();
  }

  /** Nobody asks any more; what was found counts no more either. */
  stop(): void {
    for (const [endpoint, watches] of this.#watched) {
      for (const watch of watches) watch.stop();
      endpoint.failing = false;
    }
    this.#watched.clear();
    this.#cluster.changed();
  }

  #judge(endpoint: Endpoint): void {
    const watches = this.#watched.get(endpoint) ?? [];
    const failing = watches.some((watch) => !watch.up);
    if (failing === endpoint.failing) {
      return;
    }
    endpoint.failing = failing;
    const { events, clock } = this.#deps;
    if (failing) {
      events.wentDown(endpoint, watches.find((watch) => !watch.up)?.problem ?? "");
      // Kept connections lead to nobody who is well.
      for (const connection of endpoint.idle.splice(0)) connection.dispose();
      this.#cluster.changed();
    } else {
      events.cameUp(endpoint);
      this.#cluster.ease(endpoint, this.#cluster.config.outliers?.returnMs ?? 0, clock.mono());
    }
  }
}

/** One check of one endpoint. */
class Watch {
  up = false;
  problem = "";
  readonly #cluster: Cluster;
  readonly #endpoint: Endpoint;
  readonly #check: HealthCheckConfig;
  readonly #deps: CheckerDeps;
  readonly #changed: () => void;
  #first = true;
  #good = 0;
  #bad = 0;
  #timer: Timer | null = null;
  #giveUp: (() => void) | null = null;

  constructor(cluster: Cluster, endpoint: Endpoint, check: HealthCheckConfig, deps: CheckerDeps, changed: () => void) {
    this.#cluster = cluster;
    this.#endpoint = endpoint;
    this.#check = check;
    this.#deps = deps;
    this.#changed = changed;
  }

  start(): void {
    const { initialJitterMs } = this.#check;
    this.#wait(initialJitterMs === 0 ? 0 : this.#deps.random() * initialJitterMs);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#giveUp?.();
    this.#giveUp = null;
  }

  #wait(ms: number): void {
    this.#timer = this.#deps.clock.after(ms, () => {
      this.#timer = null;
      this.#giveUp = this.#deps.probe(this.#endpoint, this.#check, (problem) => this.#result(problem));
    });
  }

  #result(problem: string | null): void {
    this.#giveUp = null;
    const { healthyThreshold, unhealthyThreshold } = this.#check;
    this.#deps.events.checked(this.#endpoint, problem === null);
    if (problem === null) {
      this.#bad = 0;
      this.#good++;
      // The first result decides alone, or a start would take as many intervals as the threshold has.
      if (!this.up && (this.#first || this.#good >= healthyThreshold)) {
        this.up = true;
        this.#changed();
      }
    } else {
      this.problem = problem;
      this.#good = 0;
      this.#bad++;
      if (this.up && this.#bad >= unhealthyThreshold) {
        this.up = false;
        this.#changed();
      }
    }
    this.#first = false;
    this.#wait(this.#interval());
  }

  #interval(): number {
    const { intervalMs, unhealthyIntervalMs, noTrafficIntervalMs, jitterMs, jitterPercent } = this.#check;
    const base = !this.up ? unhealthyIntervalMs : this.#cluster.carried ? intervalMs : noTrafficIntervalMs;
    return base + this.#deps.random() * jitterMs + (this.#deps.random() * base * jitterPercent) / 100;
  }
}
