// Owns: the UDP listeners that are in force. `apply` is called within the engine's own; a listener that fails is reported and its predecessor stays.

import type { MetricRegistry } from "../../base/metric.ts";
import type { ClusterSlot } from "../balance/cluster.ts";
import type { HostPort, ListenerConfig } from "../config.ts";
import type { Core } from "../runtime/core.ts";
import type { AccessLogFactory } from "../telemetry/record.ts";
import { planUdp, UdpListener } from "./listener.ts";
import { UdpMetrics } from "./metrics.ts";

export interface UdpContext {
  readonly metrics: MetricRegistry;
  readonly accessLog: AccessLogFactory;
  readonly clusterSlot: (name: string) => ClusterSlot;
  /** Other processes bind the same addresses. */
  readonly shared: boolean;
}

interface LiveUdp {
  readonly config: ListenerConfig;
  readonly bound: UdpListener;
}

export class UdpListeners {
  readonly #core: Core;
  readonly #context: UdpContext;
  readonly #metrics: UdpMetrics;
  readonly #live = new Map<string, LiveUdp>();

  constructor(core: Core, context: UdpContext) {
    this.#core = core;
    this.#context = context;
    this.#metrics = new UdpMetrics(context.metrics);
  }

  /** Call after the clusters are in force. `failed` hears what could not be applied. */
  apply(listeners: ReadonlyMap<string, ListenerConfig>, failed: (listener: ListenerConfig, error: unknown) => void): void {
    for (const [name, live] of this.#live) {
      if (listeners.get(name)?.udp !== undefined) continue;
      this.#live.delete(name);
      live.bound.stop();
    }
    for (const next of listeners.values()) {
      if (next.udp === undefined || this.#live.get(next.name)?.config === next) continue;
      try {
        this.#put(next, next.udp);
      } catch (error) {
        failed(next, error);
      }
    }
    for (const live of this.#live.values()) live.bound.sweep();
  }

  #put(next: ListenerConfig, udp: NonNullable<ListenerConfig["udp"]>): void {
    const live = this.#live.get(next.name);
    const plan = planUdp(next, udp, this.#context.clusterSlot, this.#context.accessLog);
    if (live !== undefined && live.config.address.host === next.address.host && live.config.address.port === next.address.port) {
      live.bound.replace(plan);
      this.#live.set(next.name, { config: next, bound: live.bound });
      return;
    }
    // The new address is bound before the old one is let go; if that fails, nothing has changed.
    const bound = new UdpListener(this.#core, this.#metrics, next.name, next.address, plan, this.#context.shared);
    bound.bind();
    live?.bound.stop();
    this.#live.set(next.name, { config: next, bound });
  }

  /** No new sessions anywhere. */
  stop(): void {
    for (const live of this.#live.values()) live.bound.stop();
  }

  stats(): readonly { readonly name: string; readonly address: HostPort }[] {
    return [...this.#live].map(([name, { bound }]) => ({ name, address: bound.address }));
  }
}
