// Owns: one bound UDP address and its sessions: who is admitted, in which order they were used, and when they end.
// The sessions stand in a list from the longest quiet to the last used, so that idle ones are found, and room is made, without a timer or a search.

import { denial, judge, subject } from "../authz/judge.ts";
import { type CompiledRbac, compileRbac } from "../authz/rules.ts";
import type { Cluster, ClusterSlot } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { pick } from "../balance/pick.ts";
import type { HostPort, ListenerConfig, UdpProxyConfig } from "../config.ts";
import type { Timed } from "../resilience/ticker.ts";
import type { Core } from "../runtime/core.ts";
import { anyWants, type CompiledAccessLog, compileAccessLogs, logTo } from "../telemetry/access.ts";
import { inboundParties, outboundParties } from "../telemetry/labels.ts";
import type { AccessLogFactory, AccessRecord, ResponseFlag } from "../telemetry/record.ts";
import { udpLimits } from "./limits.ts";
import type { DropReason, EndReason, UdpCounters, UdpMetrics } from "./metrics.ts";
import { UdpSession } from "./session.ts";
import { bindSocket, type ServerOwner, type ServerSocket } from "./socket.ts";

/** A UDP listener's configuration, compiled; replaced as a whole. */
export interface UdpPlan {
  readonly config: UdpProxyConfig;
  readonly inbound: boolean;
  readonly slot: ClusterSlot;
  readonly rbac: readonly CompiledRbac[];
  readonly logs: readonly CompiledAccessLog[];
}

/** Throws a sentence. */
export function planUdp(
  listener: ListenerConfig,
  config: UdpProxyConfig,
  clusterSlot: (name: string) => ClusterSlot,
  accessLog: AccessLogFactory,
): UdpPlan {
  return {
    config,
    inbound: listener.direction === "inbound",
    slot: clusterSlot(config.cluster),
    rbac: config.rbac.map(compileRbac),
    logs: compileAccessLogs(config.accessLogs, accessLog),
  };
}

export class UdpListener implements Timed, ServerOwner {
  readonly core: Core;
  readonly name: string;
  readonly unreachable: { value: number };
  address: HostPort;
  deadlineMs = Number.POSITIVE_INFINITY;
  slot = -1;
  readonly #metrics: UdpMetrics;
  readonly #open: { value: number };
  readonly #drops = new Map<DropReason, { value: number }>();
  readonly #byHost = new Map<string, Map<number, UdpSession>>();
  #plan: UdpPlan;
  #socket: ServerSocket | null = null;
  #oldest: UdpSession | null = null;
  #newest: UdpSession | null = null;
  #count = 0;
  #going = false;
  readonly #shared: boolean;
  #closeAtMs = Number.POSITIVE_INFINITY;

  constructor(core: Core, metrics: UdpMetrics, name: string, address: HostPort, plan: UdpPlan, shared: boolean) {
    this.core = core;
    this.#shared = shared;
    this.name = name;
    this.address = address;
    this.#metrics = metrics;
    this.#plan = plan;
    this.#open = metrics.open(name);
    this.unreachable = metrics.unreachable(name);
  }

  /** Throws what Bun throws when the address cannot be bound. */
  bind(): void {
    this.#socket = bindSocket(this.address.host, this.address.port, this.#shared, this);
    this.address = { host: this.address.host, port: this.#socket.port };
  }

  get config(): UdpProxyConfig {
    return this.#plan.config;
  }

  get cluster(): Cluster | null {
    return this.#plan.slot.current;
  }

  get sessions(): number {
    return this.#count;
  }

  /** New settings on the same socket: every session is judged again, and keeps its endpoint if the cluster is the same. */
  replace(plan: UdpPlan): void {
    this.#plan = plan;
    this.deadlineMs = this.core.ticker.nowMs;
    for (let session = this.#oldest; session !== null; ) {
      const next: UdpSession | null = session.newer;
      const permit = this.#judge(session.host, session.port);
      if (permit === null) session.end("denied", "RBAC");
      else session.permit = permit;
      session = next;
    }
  }

  /** Endpoints may have gone: their sessions end at once. */
  sweep(): void {
    for (let session = this.#oldest; session !== null; ) {
      const next: UdpSession | null = session.newer;
      if (session.endpoint.retired) session.end("endpoint_gone", "UC");
      session = next;
    }
  }

  /** No new sessions; those that are there go on until they are quiet. The socket closes with the last one. Shared: see `sharedDrainMs`. */
  stop(): void {
    if (this.#going) return;
    this.#going = true;
    this.deadlineMs = this.core.ticker.now();
    if (this.#shared) this.#closeAtMs = this.deadlineMs + udpLimits.sharedDrainMs;
    this.#closeIfDone();
  }

  received(bytes: Uint8Array, port: number, host: string, truncated: boolean): void {
    if (truncated || bytes.length > this.#plan.config.maxRequestBytes) {
      this.drop("too_large");
      return;
    }
    const session = this.#byHost.get(host)?.get(port) ?? this.#admit(host, port);
    if (session !== null) session.forward(bytes);
  }

  /** A datagram we sent could not be delivered; which client it was for is not told. */
  refused(_error: Error): void {}

  /** To a client. False: dropped, and counted. */
  answer(bytes: Uint8Array, port: number, host: string): boolean {
    // Twice at most: the first may fail with an error that ICMP left for another client, which this clears (udp(7), Linux).
    for (let n = 0; n < 2; n++) {
      try {
        if (this.#socket?.send(bytes, port, host) === true) return true;
        this.drop("downstream_full");
        return false;
      } catch {
        // Else its route is gone, or a firewall refuses.
      }
    }
    this.drop("client_unreachable");
    return false;
  }

  drop(reason: DropReason): void {
    let series = this.#drops.get(reason);
    if (series === undefined) {
      series = this.#metrics.dropped(this.name, reason);
      this.#drops.set(reason, series);
    }
    series.value++;
  }

  /** It was used just now. */
  touch(session: UdpSession): void {
    session.lastMs = this.core.ticker.nowMs;
    if (this.#newest === session) return;
    this.#unlink(session);
    this.#append(session);
  }

  countersFor(cluster: Cluster, endpoint: Endpoint): UdpCounters {
    const { local } = this.core;
    return this.#metrics.resolve(
      this.#plan.inbound ? inboundParties(local, null, cluster.config.service) : outboundParties(local, cluster, endpoint.config, false),
    );
  }

  onDeadline(nowMs: number): void {
    if (nowMs >= this.#closeAtMs) {
      for (let oldest = this.#oldest; oldest !== null; oldest = this.#oldest) oldest.end("closed", "LR");
      return;
    }
    const own = this.#plan.config.idleTimeoutMs;
    const idleMs = this.#going && own > udpLimits.drainQuietMs ? udpLimits.drainQuietMs : own;
    for (let oldest = this.#oldest; oldest !== null && oldest.lastMs + idleMs <= nowMs; oldest = this.#oldest) oldest.end("idle", null);
    this.deadlineMs = this.#oldest === null ? this.#closeAtMs : Math.min(this.#oldest.lastMs + idleMs, this.#closeAtMs);
  }

  /** For a session that has ended. */
  ended(session: UdpSession, reason: EndReason, flag: ResponseFlag | null): void {
    const ports = this.#byHost.get(session.host);
    ports?.delete(session.port);
    if (ports?.size === 0) this.#byHost.delete(session.host);
    this.#unlink(session);
    this.#count--;
    this.#open.value--;
    this.#metrics.ended(this.name, reason).value++;
    if (this.#count === 0) this.core.ticker.remove(this);
    const logs = this.#plan.logs;
    if (logs.length > 0 && anyWants(logs, 0, flag ?? "")) logTo(logs, 0, flag ?? "", this.#record(session, reason, flag));
    this.core.closed(session);
    this.#closeIfDone();
  }

  #admit(host: string, port: number): UdpSession | null {
    const core = this.core;
    // Read, not the coarse one: without sessions nothing ticks.
    const now = core.ticker.now();
    if (port === 0) return this.#refuse("malformed");
    if (this.#going && !this.#shared) return this.#refuse("draining");
    const permit = this.#judge(host, port);
    if (permit === null) {
      this.#say(denial.reason, host);
      return this.#refuse("denied");
    }
    const cluster = this.cluster;
    if (cluster === null) return this.#refuse("no_cluster");
    if (this.#full(cluster) && !this.#makeRoom(cluster, now)) {
      if (this.#count < udpLimits.sessions) cluster.refused("max_connections");
      this.#say("too many sessions, and none of them was quiet for a second", host);
      return this.#refuse("overflow");
    }
    const endpoint = pick(cluster, permit, now, core.random, null);
    if (endpoint === null) return this.#refuse("no_endpoint");
    if (endpoint.transport.tls !== null) {
      this.#say(`${cluster.config.name} is reached by mutual TLS only, which datagrams cannot have`, host);
      return this.#refuse("needs_tls");
    }
    let session: UdpSession;
    try {
      session = new UdpSession(this, host, port, cluster, endpoint, permit, now);
    } catch (error) {
      endpoint.connectFailed(now);
      this.#say(`no socket to ${endpoint.host}:${endpoint.port}: ${error instanceof Error ? error.message : String(error)}`, host);
      return this.#refuse("unreachable");
    }
    let ports = this.#byHost.get(host);
    if (ports === undefined) {
      ports = new Map();
      this.#byHost.set(host, ports);
    }
    ports.set(port, session);
    this.#append(session);
    if (this.#count++ === 0) {
      core.ticker.add(this);
      this.deadlineMs = now + this.#plan.config.idleTimeoutMs;
    }
    this.#open.value++;
    core.open.add(session);
    return session;
  }

  #full(cluster: Cluster): boolean {
    return this.#count >= udpLimits.sessions || cluster.connections >= cluster.config.limits.maxConnections;
  }

  #makeRoom(cluster: Cluster, now: number): boolean {
    const oldest = this.#oldest;
    if (oldest === null || oldest.lastMs + udpLimits.evictQuietMs > now) return false;
    oldest.end("evicted", "UO");
    return !this.#full(cluster);
  }

  #judge(host: string, port: number): ReturnType<typeof judge> {
    client.remoteAddress = host;
    client.remotePort = port;
    client.localAddress = this.address.host;
    client.localPort = this.address.port;
    subject.head = null;
    subject.client = null;
    subject.peer = null;
    subject.wire = client;
    subject.port = this.address.port;
    return judge(this.#plan.rbac);
  }

  #refuse(reason: DropReason): null {
    this.drop(reason);
    return null;
  }

  #say(reason: string, host: string): void {
    if (this.core.mayLog()) this.core.log.info({ listener: this.name, reason, remote: host }, "A datagram was dropped.");
  }

  #append(session: UdpSession): void {
    session.older = this.#newest;
    session.newer = null;
    if (this.#newest === null) this.#oldest = session;
    else this.#newest.newer = session;
    this.#newest = session;
  }

  #unlink(session: UdpSession): void {
    const { older, newer } = session;
    if (older === null) this.#oldest = newer;
    else older.newer = newer;
    if (newer === null) this.#newest = older;
    else newer.older = older;
    session.older = null;
    session.newer = null;
  }

  #closeIfDone(): void {
    if (!this.#going || this.#count > 0) return;
    this.#socket?.close();
    this.#socket = null;
  }

  #record(session: UdpSession, reason: EndReason, flag: ResponseFlag | null): AccessRecord {
    const durationMs = this.core.ticker.now() - session.startMs;
    const { endpoint, cluster } = session;
    const self = this.core.local.workload || "unknown";
    const inbound = this.#plan.inbound;
    return {
      kind: "udp",
      startTimeMs: this.core.wallMs() - durationMs,
      durationMs,
      protocol: "UDP",
      method: "",
      scheme: "",
      authority: "",
      path: "",
      userAgent: "",
      requestId: "",
      status: 0,
      flags: flag === null ? [] : [flag],
      details: reason,
      reason: "",
      requestBytes: session.receivedBytes,
      responseBytes: session.sentBytes,
      routeName: "",
      upstreamCluster: cluster.config.name,
      upstreamAddress: { host: endpoint.host, port: endpoint.port },
      attempts: session.attempts,
      downstreamRemote: { host: session.host, port: session.port },
      downstreamLocal: this.address,
      downstreamPeer: null,
      upstreamPeer: null,
      tlsVersion: null,
      reporter: inbound ? "destination" : "source",
      source: inbound ? "unknown" : self,
      destination: inbound ? self : (endpoint.config.workload?.workload ?? cluster.config.service?.name ?? "unknown"),
    };
  }
}

/** What a policy may see of a datagram's sender. One object, filled before each question. */
const client = { remoteAddress: "", remotePort: 0, localAddress: "", localPort: 0 };
