// Owns: one place that requests can go to, with what is known about it right now. Outlives configurations while its address and transport stay.

import type { EndpointConfig, UpstreamProtocol } from "../config.ts";
import type { TlsMaterial } from "../tls/material.ts";
import { TlsSession } from "../tls/session.ts";
import type { Cluster } from "./cluster.ts";
import type { Observer } from "./observer.ts";

/** A connection that waits in an endpoint's pool. */
export interface Pooled {
  /** Secret generation its handshake was made with; 0 for plain text. */
  readonly generation: number;
  /** Closes it; it then leaves the pool by itself. */
  dispose(): void;
}

/** How one endpoint is reached: everything here makes connections differ, so `key` is part of the endpoint's identity. */
export interface Transport {
  readonly key: string;
  readonly tls: TlsMaterial | null;
  /** For connections that must not speak HTTP/2 whatever the cluster does (HTTP/1.1, opaque bytes): the same without h2 in ALPN. */
  readonly tlsHttp1: TlsMaterial | null;
  readonly protocol: UpstreamProtocol;
}

const firstAvoidMs = 1_000;
const longestAvoidMs = 10_000;

export class Endpoint {
  readonly cluster: Cluster;
  readonly transport: Transport;
  readonly host: string;
  readonly port: number;
  config: EndpointConfig;
  /** As configured, less what slow start, a return from ejection and rate limits take of it. Above 0. */
  weight: number;
  /** Requests (or TCP connections) under way. */
  active = 0;
  /** Of `active`, those that have failed before; only counted where a limit asks. */
  activeRetries = 0;
  /** Open or opening connections. */
  connections = 0;
  /** Idle connections, the last used at the end. */
  readonly idle: Pooled[] = [];
  /** Connections that carry many requests at once (HTTP/2), the oldest first. `dispose` lets the requests under way finish. */
  readonly shared: Pooled[] = [];
  /** What the last handshake agreed on where HTTP/1.1 and HTTP/2 were both offered; null: none yet. */
  agreed: "h2" | "http/1.1" | null = null;
  /** When that was. HTTP/1.1 is not for ever: a new version of the instance may have learned HTTP/2. */
  agreedAtMs = 0;
  /** Not part of the configuration any more: connections are let go when idle. */
  retired = false;
  /** Failed to connect just now, or asked to be left alone (Retry-After): not chosen before this while others exist. */
  avoidUntilMs = 0;
  /** Ejected as an outlier; out of the balance until this time. */
  ejected = false;
  ejectedUntilMs = 0;
  ejectedSinceMs = 0;
  /** Active health checks say that it is down. */
  failing = false;
  /** Its share grows from `warmFromMs` for `warmMs`; 0 = it has its whole share. */
  warmFromMs = 0;
  warmMs = 0;
  /** What is seen of its answers; null where nobody asks. */
  observer: Observer | null = null;
  #failures = 0;
  /** Why the last connection to it failed; empty since one has been made. */
  whyFailed = "";
  /** Series per answer status; belongs to `telemetry/request.ts`. */
  requestSeries: object | null = null;
  /** Makes the next TLS connection cheaper. */
  readonly tlsSession = new TlsSession();
  /** Belongs to `telemetry/tcp.ts`. */
  tcpSeries: object | null = null;

  constructor(cluster: Cluster, transport: Transport, config: EndpointConfig) {
    this.cluster = cluster;
    this.transport = transport;
    this.host = config.address.host;
    this.port = config.address.port;
    this.config = config;
    this.weight = baseWeight(config);
  }

  /** May be chosen: what the control plane, its answers and health checks say, all together. */
  get available(): boolean {
    return this.config.healthy && !this.ejected && !this.failing;
  }

  /** A connection could not be made: 1 s, then 2, 4, 8, at most 10 s of avoidance. `why`: for whoever asks why nobody takes requests. */
  connectFailed(nowMs: number, why = ""): void {
    if (why !== "") this.whyFailed = why;
    if (nowMs < this.avoidUntilMs) return;
    const wait = firstAvoidMs * 2 ** Math.min(this.#failures, 4);
    this.#failures++;
    this.avoidUntilMs = nowMs + (wait < longestAvoidMs ? wait : longestAvoidMs);
  }

  connected(): void {
    this.#failures = 0;
    this.avoidUntilMs = 0;
    this.whyFailed = "";
  }

  /** Takes it out of service; idle connections close, busy ones close when they are done. */
  retire(): void {
    this.retired = true;
    for (const connection of this.idle.splice(0)) connection.dispose();
    for (const connection of this.shared.splice(0)) connection.dispose();
  }
}

/** 0 is how some control planes spell "not set". */
export function baseWeight(config: EndpointConfig): number {
  return config.weight > 0 ? config.weight : 1;
}
