// Owns: one UDP session: a client address and port, the endpoint it was given, and the socket connected to that endpoint.
// A session keeps its endpoint until it is gone, unhealthy or said to be unreachable; the next datagram then goes to another. Nothing is ever queued:
// what a full kernel buffer does not take is dropped and counted, as the network itself would.

import type { Permit } from "../authz/permit.ts";
import type { Cluster } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { pick } from "../balance/pick.ts";
import type { Downstream } from "../runtime/core.ts";
import type { ResponseFlag } from "../telemetry/record.ts";
import type { UdpListener } from "./listener.ts";
import type { EndReason, UdpCounters } from "./metrics.ts";
import { connectSocket, type EndpointOwner, type EndpointSocket } from "./socket.ts";

export class UdpSession implements Downstream, EndpointOwner {
  readonly listener: UdpListener;
  readonly host: string;
  readonly port: number;
  readonly startMs: number;
  cluster: Cluster;
  endpoint: Endpoint;
  permit: Permit;
  #socket: EndpointSocket | null;
  #counters: UdpCounters;
  /** Something that was sent was refused: the next datagram looks for another endpoint. */
  #suspect = false;
  #over = false;
  /** The last datagram either way; coarse clock. */
  lastMs: number;
  /** Neighbours in the listener's order of last use. */
  older: UdpSession | null = null;
  newer: UdpSession | null = null;
  receivedBytes = 0;
  sentBytes = 0;
  /** Endpoints it was given. */
  attempts = 1;

  /** Throws when no socket to the endpoint can be had; nothing is counted then. */
  constructor(listener: UdpListener, host: string, port: number, cluster: Cluster, endpoint: Endpoint, permit: Permit, nowMs: number) {
    this.listener = listener;
    this.host = host;
    this.port = port;
    this.cluster = cluster;
    this.endpoint = endpoint;
    this.permit = permit;
    this.startMs = nowMs;
    this.lastMs = nowMs;
    this.#socket = connectSocket(endpoint.host, endpoint.port, this);
    this.#counters = listener.countersFor(cluster, endpoint);
    this.#counters.sessions.value++;
    hold(endpoint);
  }

  /** A datagram from the client. */
  forward(bytes: Uint8Array): void {
    const counters = this.#counters;
    counters.received.value++;
    counters.receivedBytes.value += bytes.length;
    this.receivedBytes += bytes.length;
    this.listener.touch(this);
    const endpoint = this.endpoint;
    if (
      (this.#suspect || endpoint.retired || !endpoint.config.healthy || this.listener.cluster !== this.cluster) &&
      (this.#over || !this.#move())
    )
      return;
    if (this.#send(bytes) || this.#over || !this.#suspect) return;
    // That told of an earlier datagram, and this one has not gone yet.
    if (this.#move() && !this.#send(bytes)) this.listener.drop("unreachable");
  }

  /** False: the socket had an error to tell instead. */
  #send(bytes: Uint8Array): boolean {
    try {
      if (this.#socket?.send(bytes) === false) this.listener.drop("upstream_full");
      return true;
    } catch (error) {
      this.#failed(error as Error);
      return false;
    }
  }

  answered(bytes: Uint8Array, truncated: boolean): void {
    if (this.#over) return;
    const listener = this.listener;
    listener.touch(this);
    if (truncated || bytes.length > listener.config.maxAnswerBytes) {
      listener.drop("too_large");
      return;
    }
    if (this.endpoint.avoidUntilMs > 0) this.endpoint.connected();
    if (!listener.answer(bytes, this.port, this.host)) return;
    const counters = this.#counters;
    counters.sent.value++;
    counters.sentBytes.value += bytes.length;
    this.sentBytes += bytes.length;
  }

  /** ICMP told the socket that nobody listens at the endpoint. */
  refused(error: Error): void {
    if (!this.#over) this.#failed(error);
  }

  #failed(error: Error): void {
    if ((error as { code?: string }).code === "EMSGSIZE") {
      this.listener.drop("too_large");
      return;
    }
    this.listener.unreachable.value++;
    this.#suspect = true;
    this.endpoint.connectFailed(this.listener.core.ticker.nowMs);
  }

  /** Another endpoint, if there is one. False: the session is over, and this datagram dropped. */
  #move(): boolean {
    const listener = this.listener;
    const cluster = listener.cluster;
    const core = listener.core;
    const last = this.endpoint;
    this.#suspect = false;
    const next = cluster === null ? null : pick(cluster, this.permit, core.ticker.nowMs, core.random, last);
    if (cluster === null || next === null || next.transport.tls !== null) {
      listener.drop(cluster === null ? "no_cluster" : next === null ? "no_endpoint" : "needs_tls");
      this.end("no_endpoint", "UH");
      return false;
    }
    if (next === last && cluster === this.cluster) return true;
    let socket: EndpointSocket;
    try {
      socket = connectSocket(next.host, next.port, this);
    } catch {
      next.connectFailed(core.ticker.nowMs);
      listener.drop("unreachable");
      this.end("unreachable", "UF");
      return false;
    }
    this.#letGo();
    this.#socket = socket;
    this.cluster = cluster;
    this.endpoint = next;
    this.attempts++;
    hold(next);
    this.#counters = listener.countersFor(cluster, next);
    return true;
  }

  #letGo(): void {
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    socket.owner = null;
    socket.close();
    const endpoint = this.endpoint;
    endpoint.active--;
    endpoint.connections--;
    endpoint.cluster.connections--;
  }

  /** Ends it; idempotent. */
  end(reason: EndReason, flag: ResponseFlag | null): void {
    if (this.#over) return;
    this.#over = true;
    this.#letGo();
    this.listener.ended(this, reason, flag);
  }

  /** It goes on until it is quiet, or drain forces it: datagrams have no last one. */
  retire(): void {}

  destroy(): void {
    this.end("closed", "LR");
  }
}

function hold(endpoint: Endpoint): void {
  endpoint.active++;
  endpoint.connections++;
  endpoint.cluster.connections++;
}
