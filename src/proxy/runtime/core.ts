// Owns: what every connection of one engine shares: clock, randomness, log, metrics, and the counts of what is open. Made once; no globals.

import type { Logger } from "../../base/log.ts";
import type { Series } from "../../base/metric.ts";
import type { LocalWorkload } from "../config.ts";
import type { EngineDeps } from "../engine.ts";
import { Http2Metrics } from "../http2/metrics.ts";
import { RetriedIds } from "../resilience/marks.ts";
import { Ticker } from "../resilience/ticker.ts";
import { ExternalAuthMetrics } from "../telemetry/external-auth.ts";
import { RequestMetrics } from "../telemetry/request.ts";
import { FaultMetrics, MirrorMetrics } from "../telemetry/routing.ts";
import { SheddingMetrics } from "../telemetry/shedding.ts";
import { TcpMetrics } from "../telemetry/tcp.ts";
import { TokenMetrics } from "../telemetry/tokens.ts";
import type { Peer } from "../tls/peer.ts";
import { TlsRefusals } from "../tls/refusal.ts";

const linesPerSecond = 20;

/** An open downstream connection, as drain and close see it. */
export interface Downstream {
  /** Finish what is under way, then close; at once when idle. */
  retire(): void;
  /** Close now. */
  destroy(): void;
  /** Who is at the other end, by certificate; absent: nobody has shown one. */
  readonly peer?: Peer | null;
  /** The same of the instance that an opaque connection leads to. */
  readonly upstreamPeer?: Peer | null;
}

export class Core {
  readonly ticker: Ticker;
  readonly log: Logger;
  readonly random: () => number;
  readonly local: LocalWorkload;
  readonly wallMs: () => number;
  readonly requests: RequestMetrics;
  readonly tcp: TcpMetrics;
  readonly http2: Http2Metrics;
  readonly faults: FaultMetrics;
  readonly mirrors: MirrorMetrics;
  readonly open = new Set<Downstream>();
  activeRequests = 0;
  /** Some cluster speaks HTTP/2: request bodies lose their chunk framing as they are read. Set with the configuration and never unset, as requests are under way. */
  unchunkRequests = false;
  /** Set by drain: answers carry `Connection: close`. */
  draining = false;
  /** Called when a downstream connection or request ends while draining. */
  onQuiet: (() => void) | null = null;
  readonly malformed: Series;
  readonly malformedAnswers: Series;
  readonly unmatched: Series;
  readonly tlsRefusedDownstream: TlsRefusals;
  readonly tlsRefusedUpstream: TlsRefusals;
  readonly idleBytes: Series;
  readonly shedding: SheddingMetrics;
  readonly externalAuth: ExternalAuthMetrics;
  readonly tokens: TokenMetrics;
  readonly retries: Series;
  readonly retriesDenied: Series;
  readonly retriesMarked: Series;
  readonly hedges: Series;
  /** Retries on their way to the application beside us. */
  readonly retried = new RetriedIds();
  readonly pauses: Series;
  readonly connectFailures: Series;
  readonly bugs: Series;

  constructor(deps: EngineDeps) {
    this.ticker = new Ticker(deps.clock);
    this.log = deps.log;
    this.random = deps.random;
    this.local = deps.local;
    this.wallMs = () => deps.clock.now();
    this.requests = new RequestMetrics(deps.metrics);
    this.tcp = new TcpMetrics(deps.metrics);
    this.http2 = new Http2Metrics(deps.metrics);
    this.faults = new FaultMetrics(deps.metrics);
    this.mirrors = new MirrorMetrics(deps.metrics);
    const counter = (name: string, help: string) => deps.metrics.counter(name, help).with([]);
    this.malformed = counter("weft_downstream_malformed_total", "Requests refused because they are not HTTP/1 as RFC 9112 has it.");
    this.malformedAnswers = counter("weft_upstream_malformed_total", "Answers refused because they are not HTTP/1 as RFC 9112 has it.");
    this.unmatched = counter("weft_downstream_unmatched_total", "Connections that ended because no filter chain takes them.");
    this.tlsRefusedDownstream = new TlsRefusals(deps.metrics, "weft_downstream_tls_refused_total", "Downstream handshakes refused.");
    this.tlsRefusedUpstream = new TlsRefusals(deps.metrics, "weft_upstream_tls_refused_total", "Upstream handshakes refused.");
    this.idleBytes = counter(
      "weft_upstream_idle_bytes_total",
      "Idle pooled connections closed because the peer sent bytes nobody asked for.",
    );
    this.shedding = new SheddingMetrics(deps.metrics);
    this.externalAuth = new ExternalAuthMetrics(deps.metrics);
    this.tokens = new TokenMetrics(deps.metrics);
    this.retries = counter("weft_upstream_retries_total", "Attempts made again.");
    this.retriesDenied = counter("weft_upstream_retries_denied_total", "Attempts not made again because the budget of retries was spent.");
    this.retriesMarked = counter(
      "weft_upstream_retries_marked_total",
      "Attempts not made again because the request is a retry of an earlier hop.",
    );
    this.hedges = counter("weft_upstream_hedges_total", "Attempts started beside a slow one.");
    this.pauses = counter("weft_read_pauses_total", "Times reading stopped because the other side did not keep up.");
    this.connectFailures = counter("weft_upstream_connect_failures_total", "Upstream connections that could not be made.");
    this.bugs = counter("weft_bugs_total", "Unexpected errors that closed one connection.");
    const connections = deps.metrics.gauge("weft_downstream_connections", "Open downstream connections.").with([]);
    const active = deps.metrics.gauge("weft_active_requests", "Requests under way.").with([]);
    deps.metrics.beforeExport(() => {
      connections.value = this.open.size;
      active.value = this.activeRequests;
    });
  }

  /** May a line be written about one more refused peer? At most `linesPerSecond`, as anybody may make us refuse; the counters count them all. */
  mayLog(): boolean {
    const second = Math.floor(this.ticker.nowMs / 1_000);
    if (second !== this.#logSecond) {
      this.#logSecond = second;
      this.#logLines = 0;
    }
    return ++this.#logLines <= linesPerSecond;
  }

  #logSecond = 0;
  #logLines = 0;

  closed(connection: Downstream): void {
    this.open.delete(connection);
    if (this.draining) this.onQuiet?.();
  }
}
