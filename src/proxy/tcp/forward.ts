// Owns: one opaque TCP connection: permit, endpoint, upstream connection, and the two byte streams with half close and back pressure.
// States: connecting -> open -> closed. It registers with its chain before the first policy check, so that no change of policy is missed.

import { denial, judge, subject } from "../authz/judge.ts";
import type { Permit } from "../authz/permit.ts";
import type { Cluster, ClusterSlot } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { whyNobody } from "../balance/nobody.ts";
import { pick } from "../balance/pick.ts";
import { hash64, wanted } from "../balance/wanted.ts";
import type { ChainMember, ChainSlot, CompiledChain, TcpChain } from "../chain/chain.ts";
import type { HostPort, TcpProxyConfig } from "../config.ts";
import { type Failure, failures } from "../http/failure.ts";
import type { UpstreamHalf, UpstreamOwner } from "../http/halves.ts";
import { Upstream } from "../http1/client.ts";
import { closeGently, discard, Outbox, type Wire } from "../net/outbox.ts";
import type { Timed } from "../resilience/ticker.ts";
import type { Core, Downstream } from "../runtime/core.ts";
import { anyWants, logTo } from "../telemetry/access.ts";
import { inboundParties, outboundParties, type Parties } from "../telemetry/labels.ts";
import type { AccessRecord, ResponseFlag } from "../telemetry/record.ts";
import type { TcpCounters } from "../telemetry/tcp.ts";
import type { Peer } from "../tls/peer.ts";
import { proxyHeaderBytes, putProxyHeader } from "./proxy-header.ts";

/** Attempts to connect where the configuration does not say: one endpoint may be down while another is not. */
const connectAttempts = 3;

const nowhere: HostPort = { host: "", port: 0 };

export class TcpConnection implements Downstream, ChainMember, Timed, UpstreamOwner {
  readonly core: Core;
  readonly #chain: ChainSlot;
  readonly out = new Outbox();
  readonly #peer: Peer | null;
  #closed = false;
  #cluster: Cluster | null = null;
  #endpoint: Endpoint | null = null;
  #conn: UpstreamHalf | null = null;
  #permit: Permit | null = null;
  #ready = false;
  #attempts = 0;
  #downEnded = false;
  #upEnded = false;
  #downPaused = false;
  #upPaused = false;
  #counters: TcpCounters | null = null;
  #parties: Parties | null = null;
  readonly #startMs: number;
  #received = 0;
  #sent = 0;
  /** For the log. */
  #remote: HostPort = nowhere;
  #flag: ResponseFlag | null = null;
  #reason = "";
  /** When its time is over however busy it is. */
  #endMs = Number.POSITIVE_INFINITY;
  deadlineMs = Number.POSITIVE_INFINITY;
  slot = -1;

  get peer(): Peer | null {
    return this.#peer;
  }

  get upstreamPeer(): Peer | null {
    return this.#conn?.peer ?? null;
  }

  /** `wire` is open, its handshake (if any) done and judged. Data must not have been read yet. */
  constructor(core: Core, chain: ChainSlot, wire: Wire, peer: Peer | null, nowMs: number) {
    this.core = core;
    this.#chain = chain;
    this.#peer = peer;
    this.#startMs = nowMs;
    this.out.wire = wire;
    core.open.add(this);
    core.activeRequests++;
    chain.members.add(this);
    core.ticker.add(this);
    // A socket that is gone says nothing any more.
    if (this.#tcp().logs.length > 0) this.#remote = { host: wire.remoteAddress, port: wire.remotePort };
    const mostMs = this.#config().maxDurationMs ?? 0;
    if (mostMs > 0) this.#endMs = nowMs + mostMs;
    this.deadlineMs = this.#endMs;
    this.#pauseDown();
  }

  /** Asks the policies and connects. */
  start(): void {
    // The cluster first, so that a refusal is counted for the service it was meant for.
    const cluster = chooseCluster(this.#tcp(), this.core.random).current;
    this.#cluster = cluster;
    if (!this.#judge()) return;
    if (cluster === null) {
      this.#refuse(failures.noCluster, "");
      return;
    }
    const mostMs = cluster.config.connections?.opaqueMs;
    if (mostMs !== undefined && this.#startMs + mostMs < this.#endMs) {
      this.#endMs = this.#startMs + mostMs;
      this.deadlineMs = this.#endMs;
    }
    this.#connect(null);
  }

  #config(): TcpProxyConfig {
    return this.#chain.current.config.terminal as TcpProxyConfig;
  }

  #tcp(): TcpChain {
    return this.#chain.current.terminal as TcpChain;
  }

  #judge(): boolean {
    const chain = this.#chain.current;
    subject.head = null;
    subject.client = null;
    subject.peer = this.#peer;
    subject.wire = this.out.wire;
    subject.port = chain.port;
    const permit = judge(chain.networkRbac);
    if (permit === null) {
      this.#refuse(failures.denied, denial.reason);
      return false;
    }
    this.#permit = permit;
    return true;
  }

  #connect(not: Endpoint | null): void {
    const cluster = this.#cluster as Cluster;
    const now = this.core.ticker.now();
    if (this.#config().hashesSource === true) {
      wanted.hashed = true;
      wanted.hash = hash64(this.out.wire?.remoteAddress ?? "");
    }
    const endpoint = pick(cluster, this.#permit as Permit, now, this.core.random, not);
    if (endpoint === null) {
      if (cluster.full) cluster.refused("instances");
      const why = cluster.full ? "" : whyNobody(cluster, now);
      this.#refuse(cluster.full ? failures.overflow : why === "" ? failures.noEndpoint : failures.noneTakes, why);
      return;
    }
    if (cluster.connections >= cluster.config.limits.maxConnections) {
      cluster.refused("max_connections");
      this.#refuse(failures.overflow, "");
      return;
    }
    this.#attempts++;
    this.#endpoint = endpoint;
    endpoint.active++;
    const conn = new Upstream(this.core, endpoint, this, now);
    this.#conn = conn;
    conn.connect();
  }

  // ---- downstream events ---------------------------------------------------------------------------------------------------

  received(bytes: Uint8Array): void {
    if (this.#closed) return;
    const conn = this.#conn;
    this.#received += bytes.length;
    if (this.#counters !== null) this.#counters.received.value += bytes.length;
    if (conn === null) return;
    this.#touch();
    // Reading is paused until the upstream side is there; a read that was already under way waits in its outbox.
    if (!this.#ready) {
      this.#early.push(bytes);
      return;
    }
    if (!conn.sendRaw(bytes, 0, bytes.length)) this.#pauseDown();
  }

  readonly #early: Uint8Array[] = [];

  drained(): void {
    if (this.#closed) return;
    // Being read is being used: a slow reader of a long answer is not idle.
    this.#touch();
    if (!this.out.drain()) return;
    if (this.#upPaused) {
      this.#upPaused = false;
      this.#conn?.resumeReading();
    }
    if (this.#upEnded && this.#downEnded) this.#finish();
  }

  ended(): void {
    if (this.#closed) return;
    this.#downEnded = true;
    if (this.#ready) this.#conn?.finishRaw();
    if (this.#upEnded) this.#finish();
  }

  lost(error?: Error): void {
    this.out.wire = null;
    if (this.#closed) return;
    // The client's FIN after ours is told as the socket's end: what it sent before still goes out to the upstream.
    if (error === undefined && this.#upEnded && !this.#downEnded && this.out.waiting === 0) {
      this.ended();
      return;
    }
    if (!(this.#downEnded && this.#upEnded)) this.#flag ??= "DC";
    this.#close();
  }

  onDeadline(nowMs: number): void {
    this.#flag ??= nowMs >= this.#endMs ? "DT" : "SI";
    this.destroy();
  }

  // ---- upstream events -----------------------------------------------------------------------------------------------------

  onUpstreamReady(conn: UpstreamHalf): void {
    if (conn !== this.#conn) return;
    conn.becomeRaw();
    this.#ready = true;
    this.#opened();
    this.#touch();
    let all = true;
    const version = (this.#cluster as Cluster).config.proxyProtocol;
    if (version !== undefined) all = this.#introduce(conn, version);
    for (const bytes of this.#early) all = conn.sendRaw(bytes, 0, bytes.length);
    this.#early.length = 0;
    if (this.#downEnded) conn.finishRaw();
    if (all) this.#resumeDown();
  }

  /** The first bytes an upstream gets: who the client is. */
  #introduce(conn: UpstreamHalf, version: 1 | 2): boolean {
    const wire = this.out.wire;
    // Its own buffer: what a socket does not take is kept as it is.
    const bytes = Buffer.alloc(proxyHeaderBytes);
    const size =
      wire === null
        ? putProxyHeader(version, "", 0, "", 0, bytes)
        : putProxyHeader(version, wire.remoteAddress, wire.remotePort, wire.localAddress, wire.localPort, bytes);
    return conn.sendRaw(bytes, 0, size);
  }

  onUpstreamFailed(conn: UpstreamHalf, failure: Failure, why: string): void {
    if (conn !== this.#conn) return;
    const last = this.#endpoint;
    this.#leave();
    if (this.#attempts < (this.#config().maxConnectAttempts ?? connectAttempts) && (this.#cluster as Cluster).usable.length > 1) {
      this.core.retries.value++;
      this.#connect(last);
    } else this.#refuse(failure, why);
  }

  onUpstreamLost(conn: UpstreamHalf, _failure: Failure, why: string): void {
    if (conn !== this.#conn) return;
    this.#leave();
    if (this.#upEnded && this.#downEnded) {
      this.#finish();
      return;
    }
    this.#flag ??= "UC";
    this.#reason = why;
    this.destroy();
  }

  onRawBytes(conn: UpstreamHalf, bytes: Uint8Array): void {
    if (conn !== this.#conn) return;
    this.#sent += bytes.length;
    (this.#counters as TcpCounters).sent.value += bytes.length;
    this.#touch();
    if (!this.out.write(bytes, 0, bytes.length) && !this.#upPaused) {
      this.#upPaused = true;
      conn.pauseReading();
    }
    // A whole read of a connection that is ours alone, written or copied by now.
    if (conn.version === 1) discard(bytes);
  }

  onRawEnd(conn: UpstreamHalf): void {
    if (conn !== this.#conn) return;
    this.#upEnded = true;
    this.out.finish();
    if (this.#downEnded) this.#finish();
  }

  onUpstreamDrained(conn: UpstreamHalf): void {
    if (conn !== this.#conn) return;
    this.#touch();
    this.#resumeDown();
    if (this.#upEnded && this.#downEnded) this.#finish();
  }

  // An opaque connection has no messages; these belong to HTTP owners.
  onAnswer(): void {}
  onInterim(): void {}
  onSwitch(): void {}
  onAnswerBody(): void {}
  onAnswerTrailers(): void {}

  // ---- flow and ends -------------------------------------------------------------------------------------------------------

  #pauseDown(): void {
    if (this.#downPaused) return;
    this.#downPaused = true;
    this.core.pauses.value++;
    this.out.wire?.pause();
  }

  #resumeDown(): void {
    if (!this.#downPaused) return;
    this.#downPaused = false;
    this.out.wire?.resume();
  }

  #touch(): void {
    const idle = this.#tcp().idleTimeoutMs;
    if (idle <= 0) return;
    const quietMs = this.core.ticker.nowMs + idle;
    this.deadlineMs = quietMs < this.#endMs ? quietMs : this.#endMs;
  }

  #opened(): void {
    const endpoint = this.#endpoint;
    const cluster = this.#cluster;
    this.#parties = this.#chain.current.inbound
      ? inboundParties(this.core.local, this.#peer, cluster?.config.service ?? null)
      : outboundParties(this.core.local, cluster, endpoint?.config ?? null, endpoint !== null && endpoint.transport.tls !== null);
    this.#counters = this.core.tcp.resolve(this.#parties, "-");
    this.#counters.opened.value++;
    this.#counters.received.value += this.#received;
  }

  #leave(): void {
    const endpoint = this.#endpoint;
    if (this.#conn !== null && endpoint !== null) endpoint.active--;
    this.#conn = null;
    this.#ready = false;
  }

  #refuse(failure: Failure, why: string): void {
    this.#flag = failure.flag;
    this.#reason = why === "" ? failure.sentence : failure === failures.denied ? why : `${failure.sentence}: ${why}`;
    const chain = this.#chain.current;
    if (this.core.mayLog())
      this.core.log.info(
        { listener: chain.name, flag: this.#flag, reason: this.#reason, peer: this.#peer?.principal ?? null },
        "A TCP connection was refused.",
      );
    this.destroy();
  }

  /** Both directions ended: it is over once both have taken everything. */
  #finish(): void {
    if (this.out.waiting > 0 || (this.#conn !== null && this.#conn.waiting > 0)) return;
    const wire = this.out.wire;
    this.#close();
    this.out.wire = null;
    if (wire !== null) closeGently(wire);
  }

  rejudge(): void {
    if (!this.#closed) this.#judge();
  }

  /** An opaque connection has no pause between messages: it goes on until its ends are done, or drain forces it. */
  retire(): void {}

  destroy(): void {
    const wire = this.out.wire;
    this.#close();
    this.out.wire = null;
    wire?.terminate();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const conn = this.#conn;
    const clean = this.#downEnded && this.#upEnded;
    this.#leave();
    if (conn !== null) {
      conn.owner = null;
      // Bytes for the upstream peer that wait still go out before its FIN.
      if (!clean || conn.waiting === 0) conn.dispose();
    }
    this.core.activeRequests--;
    this.core.ticker.remove(this);
    this.#chain.members.delete(this);
    const flag = this.#flag;
    // One that never reached its endpoint was opened and closed too: that is how a failing edge shows.
    if (this.#counters === null) this.#opened();
    if (this.#parties !== null) this.core.tcp.resolve(this.#parties, flag ?? "-").closed.value++;
    const logs = this.#tcp().logs;
    if (logs.length > 0 && anyWants(logs, 0, flag ?? "")) {
      logTo(logs, 0, flag ?? "", this.#record());
    }
    this.out.clear();
    this.core.closed(this);
  }

  #record(): AccessRecord {
    const durationMs = this.core.ticker.now() - this.#startMs;
    const chain: CompiledChain = this.#chain.current;
    const endpoint = this.#endpoint;
    const cluster = this.#cluster;
    const wire = this.out.wire;
    const self = this.core.local.workload || "unknown";
    return {
      kind: "tcp",
      startTimeMs: this.core.wallMs() - durationMs,
      durationMs,
      protocol: "TCP",
      method: "",
      scheme: "",
      authority: "",
      path: "",
      userAgent: "",
      requestId: "",
      status: 0,
      flags: this.#flag === null ? [] : [this.#flag],
      details: this.#flag === "RBAC" ? denial.details : "",
      reason: this.#reason,
      requestBytes: this.#received,
      responseBytes: this.#sent,
      routeName: "",
      upstreamCluster: cluster?.config.name ?? "",
      upstreamAddress: endpoint === null ? null : { host: endpoint.host, port: endpoint.port },
      attempts: this.#attempts,
      downstreamRemote: this.#remote,
      downstreamLocal: { host: wire?.localAddress ?? "", port: wire?.localPort ?? chain.port },
      downstreamPeer: this.#peer?.principal ?? null,
      upstreamPeer: endpoint?.config.identity ?? null,
      tlsVersion: this.#peer?.tlsVersion ?? null,
      reporter: chain.inbound ? "destination" : "source",
      source: chain.inbound ? this.#peer?.serviceAccount || "unknown" : self,
      destination: chain.inbound ? self : (endpoint?.config.workload?.workload ?? cluster?.config.service?.name ?? "unknown"),
    };
  }
}

function chooseCluster(tcp: TcpChain, random: () => number): ClusterSlot {
  const targets = tcp.targets;
  const aim = random() * tcp.totalWeight;
  for (const target of targets) if (aim < target.upTo) return target.slot;
  return (targets[targets.length - 1] as TcpChain["targets"][number]).slot;
}
