// Owns: outlier detection: which endpoints of a cluster are taken out of the balance for a while because of what became of requests to them, and when they
// come back. Envoy's rules (its documentation: "Outlier detection") and one of ours, latency. Bounded: never more than the configured share, and never the
// last endpoint that is available. Runs on what requests report and when `run` is called; it has no timer.

import type { Cluster } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import type { LocalFailure, Observer, OutcomeSink } from "../balance/observer.ts";
import type { OutlierConfig } from "../config.ts";

export type EjectionReason =
  | "consecutive_5xx"
  | "consecutive_gateway_failure"
  | "consecutive_local_origin_failure"
  | "success_rate"
  | "failure_percentage"
  | "latency";

/** What happens to endpoints, for logs and metrics. */
export interface HealthEvents {
  /** `detail` says what was seen, in words; `forMs` how long it stays out. */
  ejected(endpoint: Endpoint, reason: EjectionReason, detail: string, forMs: number): void;
  returned(endpoint: Endpoint, afterMs: number): void;
  /** Would have been ejected, but too many are out already. */
  spared(endpoint: Endpoint, reason: EjectionReason): void;
}

/** A multiplier of the ejection time beyond this changes nothing: the time is capped. */
const mostEjections = 1_000;

export class OutlierDetector implements OutcomeSink {
  readonly #cluster: Cluster;
  readonly #events: HealthEvents;
  readonly #random: () => number;
  #config: OutlierConfig;
  #nextMs = 0;
  /** Those that are out. */
  readonly #out = new Set<Endpoint>();

  constructor(cluster: Cluster, config: OutlierConfig, events: HealthEvents, random: () => number) {
    this.#cluster = cluster;
    this.#config = config;
    this.#events = events;
    this.#random = random;
  }

  set config(config: OutlierConfig) {
    this.#config = config;
  }

  get ejectedCount(): number {
    return this.#out.size;
  }

  answered(endpoint: Endpoint, observer: Observer, status: number, nowMs: number): void {
    observer.consecutiveLocal = 0;
    if (status < 500) {
      observer.consecutive5xx = 0;
      observer.consecutiveGateway = 0;
    } else this.#failure(endpoint, observer, status === 502 || status === 503 || status === 504, `answers ${status}`, nowMs);
    if (nowMs >= this.#nextMs) this.#cluster.refresh(nowMs);
  }

  failed(endpoint: Endpoint, observer: Observer, failure: LocalFailure, nowMs: number): void {
    const config = this.#config;
    // Envoy: unless they are counted apart, a connection that fails is a 503 and a timeout a 504.
    if (!config.splitLocal) this.#failure(endpoint, observer, true, words[failure], nowMs);
    else {
      observer.consecutiveLocal++;
      if (observer.consecutiveLocal >= config.consecutiveLocal && config.consecutiveLocal > 0) {
        const seen = `${observer.consecutiveLocal} in a row: ${words[failure]}`;
        observer.consecutiveLocal = 0;
        this.#eject(endpoint, observer, "consecutive_local_origin_failure", config.enforceLocal, seen, nowMs);
      }
    }
    if (nowMs >= this.#nextMs) this.#cluster.refresh(nowMs);
  }

  #failure(endpoint: Endpoint, observer: Observer, gateway: boolean, seen: string, nowMs: number): void {
    const config = this.#config;
    observer.consecutive5xx++;
    if (gateway) {
      observer.consecutiveGateway++;
      if (config.consecutiveGateway > 0 && observer.consecutiveGateway >= config.consecutiveGateway) {
        const words = `${observer.consecutiveGateway} in a row, the last: ${seen}`;
        observer.consecutiveGateway = 0;
        this.#eject(endpoint, observer, "consecutive_gateway_failure", config.enforceGateway, words, nowMs);
      }
    } else observer.consecutiveGateway = 0;
    if (config.consecutive5xx > 0 && observer.consecutive5xx >= config.consecutive5xx) {
      const words = `${observer.consecutive5xx} in a row, the last: ${seen}`;
      observer.consecutive5xx = 0;
      this.#eject(endpoint, observer, "consecutive_5xx", config.enforce5xx, words, nowMs);
    }
  }

  /** Brings back whose time is over, judges a finished interval; answers when it wants to be called again. */
  run(nowMs: number): number {
    if (this.#nextMs === 0) this.#nextMs = nowMs + this.#config.intervalMs;
    let due = Number.POSITIVE_INFINITY;
    for (const endpoint of this.#out) {
      if (endpoint.retired) {
        this.#out.delete(endpoint);
        continue;
      }
      if (endpoint.ejectedUntilMs <= nowMs) this.#bringBack(endpoint, nowMs);
      else if (endpoint.ejectedUntilMs < due) due = endpoint.ejectedUntilMs;
    }
    if (nowMs >= this.#nextMs) {
      this.#judge(nowMs);
      this.#nextMs = nowMs + this.#config.intervalMs;
      for (const endpoint of this.#out) if (endpoint.ejectedUntilMs < due) due = endpoint.ejectedUntilMs;
    }
    return Math.min(due, this.#nextMs);
  }

  /** Takes everything back; the cluster is judged no more. */
  release(nowMs: number): void {
    for (const endpoint of [...this.#out]) this.#bringBack(endpoint, nowMs);
  }

  #bringBack(endpoint: Endpoint, nowMs: number): void {
    this.#out.delete(endpoint);
    endpoint.ejected = false;
    if (endpoint.observer !== null) {
      endpoint.observer.forgive();
      endpoint.observer.returnedMs = nowMs;
    }
    this.#events.returned(endpoint, nowMs - endpoint.ejectedSinceMs);
    this.#cluster.ease(endpoint, this.#config.returnMs, nowMs);
  }

  #eject(endpoint: Endpoint, observer: Observer, reason: EjectionReason, enforce: number, seen: string, nowMs: number): void {
    if (endpoint.ejected || endpoint.retired) return;
    if (enforce < 100 && this.#random() * 100 >= enforce) return;
    if (!this.#mayEject(endpoint)) {
      this.#events.spared(endpoint, reason);
      return;
    }
    const config = this.#config;
    if (observer.ejections < mostEjections) observer.ejections++;
    let time = Math.min(config.baseEjectionMs * observer.ejections, Math.max(config.maxEjectionMs, config.baseEjectionMs));
    if (config.jitterMs > 0) time += this.#random() * config.jitterMs;
    endpoint.ejected = true;
    endpoint.ejectedSinceMs = nowMs;
    endpoint.ejectedUntilMs = nowMs + time;
    this.#out.add(endpoint);
    this.#events.ejected(endpoint, reason, seen, time);
    this.#cluster.changed();
  }

  /** The share that is out stays within the maximum, and somebody is left. */
  #mayEject(endpoint: Endpoint): boolean {
    const { endpoints } = this.#cluster;
    let out = 0;
    for (const one of this.#out) if (!one.retired) out++;
    const { maxEjectionPercent, alwaysOne } = this.#config;
    const within = ((out + 1) / endpoints.length) * 100 <= maxEjectionPercent;
    if (!within && !(alwaysOne && out === 0 && maxEjectionPercent > 0)) return false;
    for (const one of endpoints) if (one !== endpoint && one.available) return true;
    return false;
  }

  /** The end of an interval. */
  #judge(nowMs: number): void {
    const { successRate, failurePercentage, latency } = this.#config;
    if (successRate !== null) this.#bySuccess(successRate, nowMs);
    if (failurePercentage !== null) this.#byFailures(failurePercentage, nowMs);
    if (latency !== null) this.#byLatency(latency, nowMs);
    for (const endpoint of this.#cluster.endpoints) {
      const { observer } = endpoint;
      if (observer === null) continue;
      // Envoy: an interval in the balance makes the next ejection shorter again.
      if (!endpoint.ejected && observer.ejections > 0 && nowMs - observer.returnedMs >= this.#config.intervalMs) observer.ejections--;
      observer.startInterval();
    }
  }

  #candidates(minHosts: number, enough: (observer: Observer) => boolean): readonly Observer[] {
    const found: Observer[] = [];
    for (const { observer, ejected } of this.#cluster.endpoints)
      if (observer !== null && !ejected && enough(observer)) found.push(observer);
    return found.length >= minHosts && found.length > 0 ? found : [];
  }

  /** Envoy: below the mean by `stdevFactor` standard deviations. */
  #bySuccess(rule: NonNullable<OutlierConfig["successRate"]>, nowMs: number): void {
    const hosts = this.#candidates(rule.minHosts, (one) => one.total >= rule.volume);
    if (hosts.length === 0) return;
    const rates = hosts.map((one) => (one.good / one.total) * 100);
    const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
    const variance = rates.reduce((sum, rate) => sum + (rate - mean) ** 2, 0) / rates.length;
    const threshold = mean - rule.stdevFactor * Math.sqrt(variance);
    for (const [i, observer] of hosts.entries()) {
      const rate = rates[i] as number;
      if (rate >= threshold) continue;
      const seen = `${rate.toFixed(1)} % of its requests succeed, ${mean.toFixed(1)} % on average`;
      this.#eject(observer.endpoint, observer, "success_rate", rule.enforce, seen, nowMs);
    }
  }

  #byFailures(rule: NonNullable<OutlierConfig["failurePercentage"]>, nowMs: number): void {
    for (const observer of this.#candidates(rule.minHosts, (one) => one.total >= rule.volume)) {
      const failed = (1 - observer.good / observer.total) * 100;
      if (failed < rule.threshold) continue;
      this.#eject(observer.endpoint, observer, "failure_percentage", rule.enforce, `${failed.toFixed(1)} % of its requests fail`, nowMs);
    }
  }

  #byLatency(rule: NonNullable<OutlierConfig["latency"]>, nowMs: number): void {
    const hosts = this.#candidates(rule.minHosts, (one) => one.latencyCount >= rule.volume);
    if (hosts.length === 0) return;
    const means = hosts.map((one) => one.latencySumMs / one.latencyCount);
    const sorted = [...means].sort((a, b) => a - b);
    const median = ((sorted[(sorted.length - 1) >> 1] as number) + (sorted[sorted.length >> 1] as number)) / 2;
    for (const [i, observer] of hosts.entries()) {
      const mean = means[i] as number;
      if (mean <= median * rule.factor || mean - median <= rule.floorMs) continue;
      const seen = `it answers in ${mean.toFixed(0)} ms on average, the others in ${median.toFixed(0)} ms`;
      this.#eject(observer.endpoint, observer, "latency", 100, seen, nowMs);
    }
  }
}

const words: Readonly<Record<LocalFailure, string>> = {
  connect: "the connection fails",
  reset: "the connection ends without an answer",
  timeout: "no answer in time",
};
