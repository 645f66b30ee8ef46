// Owns: a cluster at run time: its endpoints, its limits and who waits for a connection. A `ClusterSlot` is what routes hold, so that
// a cluster can be replaced without touching them.

import type { ClusterConfig, EndpointConfig } from "../config.ts";
import { Endpoint, type Transport } from "./endpoint.ts";

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

export class Cluster {
  config: ClusterConfig;
  /** Everything configured, healthy or not. */
  endpoints: readonly Endpoint[] = [];
  /** What may be chosen: healthy, of the best priority that has any. */
  usable: readonly Endpoint[] = [];
  /** Running sums of `usable` weights; null when all are equal. */
  cumulative: Float64Array | null = null;
  /** No endpoint is avoided after this time: the balancer then skips the check. */
  avoidUntilMs = 0;
  rotation = 0;
  /** Open or opening upstream connections. */
  connections = 0;
  activeRequests = 0;
  activeRetries = 0;
  readonly waiting: Waiter[] = [];
  /** Series for requests that never reached an endpoint; belongs to `telemetry/request.ts`. */
  requestSeries: object | null = null;
  tcpSeries: object | null = null;

  constructor(config: ClusterConfig) {
    this.config = config;
  }

  /**
   * Puts a new set in force. Endpoints that stay (same address and transport) keep their state and connections; the rest retire.
   * `transportOf` names how an endpoint is reached.
   */
  setEndpoints(configs: readonly EndpointConfig[], transportOf: (config: EndpointConfig) => Transport): void {
    const known = new Map<string, Endpoint>();
    for (const endpoint of this.endpoints) known.set(endpointKey(endpoint.config, endpoint.transport), endpoint);
    const next: Endpoint[] = [];
    for (const config of configs) {
      const transport = transportOf(config);
      const key = endpointKey(config, transport);
      let endpoint = known.get(key);
      if (endpoint === undefined) endpoint = new Endpoint(this, transport, config);
      else {
        known.delete(key);
        if (endpoint.config.workload !== config.workload && !sameWorkload(endpoint.config, config)) {
          endpoint.requestSeries = null;
          endpoint.tcpSeries = null;
        }
        endpoint.config = config;
        endpoint.weight = config.weight > 0 ? config.weight : 1;
      }
      next.push(endpoint);
    }
    this.endpoints = next;
    let best = Number.POSITIVE_INFINITY;
    for (const endpoint of next) if (endpoint.config.healthy && endpoint.config.priority < best) best = endpoint.config.priority;
    this.usable = next.filter((endpoint) => endpoint.config.healthy && endpoint.config.priority === best);
    const first = this.usable[0]?.weight ?? 1;
    this.cumulative = null;
    if (this.usable.some((endpoint) => endpoint.weight !== first)) {
      let sum = 0;
      this.cumulative = Float64Array.from(this.usable, (endpoint) => {
        sum += endpoint.weight;
        return sum;
      });
    }
    for (const endpoint of known.values()) endpoint.retire();
  }

  /** Lets one waiter try again. Call when a connection was closed or became idle. */
  wakeOne(): void {
    this.waiting.shift()?.retryPick();
  }

  retire(): void {
    for (const endpoint of this.endpoints) endpoint.retire();
  }
}

function endpointKey(config: EndpointConfig, transport: Transport): string {
  return `${config.address.host}|${config.address.port}|${config.identity ?? ""}|${transport.key}`;
}

function sameWorkload(a: EndpointConfig, b: EndpointConfig): boolean {
  const x = a.workload;
  const y = b.workload;
  return x !== null && y !== null && x.workload === y.workload && x.namespace === y.namespace && x.app === y.app && x.version === y.version;
}
