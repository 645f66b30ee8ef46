// Owns: a simulator for balancing under a paused clock: requests arrive at random, endpoints serve them with so many hands each, and the real `pick`,
// observers and outlier detection decide. Nothing waits for real time; equal seeds give equal runs. Used by tests and the bench alone.

import { judge } from "../../authz/judge.ts";
import type { Permit } from "../../authz/permit.ts";
import type { BalanceConfig, ClusterConfig, EndpointConfig } from "../../config.ts";
import { type EjectionReason, type HealthEvents, OutlierDetector } from "../../health/outliers.ts";
import { cluster as clusterConfig, endpoint as endpointConfig } from "../../testing/fixture.ts";
import { Cluster } from "../cluster.ts";
import type { Endpoint, Transport } from "../endpoint.ts";
import type { OwnLocality } from "../layout.ts";
import { pick } from "../pick.ts";

/** One is enough for tests: no rules, everything passes. */
export const permit = judge([]) as Permit;

const transport: Transport = { key: "t", tls: null, tlsHttp1: null, protocol: "http1" };
export const transportOf = (): Transport => transport;

/** Mulberry32: [0, 1), the same for equal seeds. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

export class Recorder implements HealthEvents {
  readonly out: { readonly port: number; readonly reason: EjectionReason; readonly detail: string; readonly forMs: number }[] = [];
  readonly back: number[] = [];
  sparedCount = 0;
  ejected({ port }: Endpoint, reason: EjectionReason, detail: string, forMs: number): void {
    this.out.push({ port, reason, detail, forMs });
  }
  returned({ port }: Endpoint): void {
    this.back.push(port);
  }
  spared(): void {
    this.sparedCount++;
  }
}

/** A cluster of `count` endpoints with ports from 1 on. */
export function makeCluster(
  count: number,
  more: Partial<ClusterConfig> = {},
  each: (i: number) => Partial<EndpointConfig> = () => ({}),
  own?: OwnLocality,
  random: () => number = seeded(1),
): { readonly cluster: Cluster; readonly events: Recorder } {
  const config = clusterConfig("c", [], more);
  const cluster = own === undefined ? new Cluster(config) : new Cluster(config, own);
  const events = new Recorder();
  if (config.outliers !== undefined) cluster.outliers = new OutlierDetector(cluster, config.outliers, events, random);
  cluster.setEndpoints(
    Array.from({ length: count }, (_, i) => endpointConfig(i + 1, each(i))),
    transportOf,
    0,
  );
  return { cluster, events };
}

/** How an endpoint behaves at a time. */
export interface Behaviour {
  /** Mean, exponentially distributed. */
  readonly serviceMs: number;
  /** Requests served at once; others wait there. */
  readonly hands: number;
  readonly status?: number;
}

export interface Run {
  readonly cluster: Cluster;
  readonly seed: number;
  readonly seconds: number;
  readonly perSecond: number;
  readonly behaviour: (port: number, nowMs: number) => Behaviour;
  readonly each?: (nowMs: number) => void;
}

export interface Outcome {
  readonly latencies: number[];
  readonly byPort: Map<number, number>;
  readonly bad: number;
  readonly refused: number;
  readonly mostActive: number;
  readonly endMs: number;
}

/** Plays the run. Requests are not retried. */
export function simulate({ cluster, seed, seconds, perSecond, behaviour, each }: Run): Outcome {
  const random = seeded(seed);
  const exponential = (mean: number) => -Math.log(1 - random()) * mean;
  const queues = new Map<Endpoint, { busy: number; readonly waiting: number[] }>();
  const ends: { readonly atMs: number; readonly endpoint: Endpoint; readonly sinceMs: number; readonly status: number }[] = [];
  const byPort = new Map<number, number>();
  const latencies: number[] = [];
  let [bad, refused, mostActive] = [0, 0, 0];
  const push = (end: (typeof ends)[number]) => {
    let at = ends.length;
    ends.push(end);
    while (at > 0 && (ends[(at - 1) >> 1] as typeof end).atMs > end.atMs) {
      ends[at] = ends[(at - 1) >> 1] as typeof end;
      at = (at - 1) >> 1;
    }
    ends[at] = end;
  };
  const pop = (): (typeof ends)[number] => {
    const first = ends[0] as (typeof ends)[number];
    const last = ends.pop() as typeof first;
    if (ends.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= ends.length) break;
      if (child + 1 < ends.length && (ends[child + 1] as typeof last).atMs < (ends[child] as typeof last).atMs) child++;
      if ((ends[child] as typeof last).atMs >= last.atMs) break;
      ends[at] = ends[child] as typeof last;
      at = child;
    }
    ends[at] = last;
    return first;
  };
  const start = (endpoint: Endpoint, sinceMs: number, nowMs: number) => {
    const { serviceMs, status = 200 } = behaviour(endpoint.port, nowMs);
    push({ atMs: nowMs + exponential(serviceMs), endpoint, sinceMs, status });
  };
  let nextMs = 0;
  const endMs = seconds * 1_000;
  for (;;) {
    nextMs += exponential(1_000 / perSecond);
    while (ends.length > 0 && ((ends[0] as (typeof ends)[number]).atMs <= nextMs || nextMs >= endMs)) {
      const { atMs, endpoint, sinceMs, status } = pop();
      endpoint.active--;
      latencies.push(atMs - sinceMs);
      if (status >= 500) bad++;
      endpoint.observer?.answered(status, atMs - sinceMs, atMs);
      const queue = queues.get(endpoint) as { busy: number; readonly waiting: number[] };
      const next = queue.waiting.shift();
      if (next === undefined) queue.busy--;
      else start(endpoint, next, atMs);
    }
    if (nextMs >= endMs) break;
    each?.(nextMs);
    const endpoint = pick(cluster, permit, nextMs, random, null);
    if (endpoint === null) {
      refused++;
      continue;
    }
    endpoint.active++;
    if (endpoint.active > mostActive) mostActive = endpoint.active;
    byPort.set(endpoint.port, (byPort.get(endpoint.port) ?? 0) + 1);
    let queue = queues.get(endpoint);
    if (queue === undefined) {
      queue = { busy: 0, waiting: [] };
      queues.set(endpoint, queue);
    }
    if (queue.busy < behaviour(endpoint.port, nextMs).hands) {
      queue.busy++;
      start(endpoint, nextMs, nextMs);
    } else queue.waiting.push(nextMs);
  }
  return { latencies, byPort, bad, refused, mostActive, endMs };
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** One of ten is ten times slower; load as a share of what all can serve. */
export function skewed(balance: BalanceConfig, seed: number, load: number, hands: number, more: Partial<ClusterConfig> = {}): Outcome {
  const { cluster } = makeCluster(10, { balance, ...more });
  const behaviour = (port: number): Behaviour => ({ serviceMs: port === 1 ? 100 : 10, hands });
  const perSecond = load * hands * (9 * 100 + 10);
  return simulate({ cluster, seed, seconds: 30, perSecond, behaviour });
}
