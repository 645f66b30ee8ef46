// Owns: the metric families of UDP forwarding. A session resolves its counters once; drops and ends are counted by listener and reason.

import type { Family, MetricRegistry, Series } from "../../base/metric.ts";
import { type Parties, tcpLabelNames } from "../telemetry/labels.ts";

/** `received` is what came from the downstream peer, `sent` what went to it, as in Istio's TCP families. */
export interface UdpCounters {
  readonly sessions: Series;
  readonly received: Series;
  readonly receivedBytes: Series;
  readonly sent: Series;
  readonly sentBytes: Series;
}

/** Why a datagram went nowhere. */
export type DropReason =
  | "denied" // a policy refused the client
  | "no_cluster" // the configuration names none that is there
  | "no_endpoint" // none is healthy
  | "needs_tls" // the endpoint takes mutual TLS only, which UDP has not
  | "overflow" // too many sessions, all of them busy
  | "unreachable" // no socket to the endpoint could be had, or it refused this datagram
  | "client_unreachable" // the kernel refuses to send to the client
  | "upstream_full" // the kernel's buffer towards the endpoint was full
  | "downstream_full" // the kernel's buffer towards the client was full
  | "too_large" // above the configured size, or cut by the kernel
  | "malformed" // a source no answer could be sent to (port 0)
  | "draining"; // a new client of a listener that is going

/** Why a session ended. */
export type EndReason = "idle" | "evicted" | "endpoint_gone" | "no_endpoint" | "denied" | "unreachable" | "closed";

/** Of the TCP families, without the flags: a session is counted when it begins. */
const labelNames = tcpLabelNames.filter((name) => name !== "response_flags");

export class UdpMetrics {
  readonly #sessions: Family<Series>;
  readonly #received: Family<Series>;
  readonly #receivedBytes: Family<Series>;
  readonly #sent: Family<Series>;
  readonly #sentBytes: Family<Series>;
  readonly #open: Family<Series>;
  readonly #dropped: Family<Series>;
  readonly #ended: Family<Series>;
  readonly #unreachable: Family<Series>;

  constructor(metrics: MetricRegistry) {
    this.#open = metrics.gauge("weft_udp_sessions", "Open UDP sessions.", ["listener"]);
    this.#sessions = metrics.counter("weft_udp_sessions_total", "UDP sessions begun.", labelNames);
    this.#received = metrics.counter("weft_udp_datagrams_received_total", "Datagrams received from downstream peers.", labelNames);
    this.#sent = metrics.counter("weft_udp_datagrams_sent_total", "Datagrams sent to downstream peers.", labelNames);
    this.#receivedBytes = metrics.counter("weft_udp_received_bytes_total", "Payload bytes received from downstream peers.", labelNames);
    this.#sentBytes = metrics.counter("weft_udp_sent_bytes_total", "Payload bytes sent to downstream peers.", labelNames);
    this.#dropped = metrics.counter("weft_udp_datagrams_dropped_total", "Datagrams that were not forwarded, by reason.", [
      "listener",
      "reason",
    ]);
    this.#ended = metrics.counter("weft_udp_sessions_ended_total", "UDP sessions ended, by reason.", ["listener", "reason"]);
    this.#unreachable = metrics.counter(
      "weft_udp_upstream_unreachable_total",
      "Times an endpoint's host said that nobody listens there (ICMP).",
      ["listener"],
    );
  }

  /** Once per session. */
  resolve(parties: Parties): UdpCounters {
    const labels = [...parties.labels, "udp", parties.security];
    return {
      sessions: this.#sessions.with(labels),
      received: this.#received.with(labels),
      receivedBytes: this.#receivedBytes.with(labels),
      sent: this.#sent.with(labels),
      sentBytes: this.#sentBytes.with(labels),
    };
  }

  /** Once per listener. */
  open(listener: string): Series {
    return this.#open.with([listener]);
  }

  unreachable(listener: string): Series {
    return this.#unreachable.with([listener]);
  }

  dropped(listener: string, reason: DropReason): Series {
    return this.#dropped.with([listener, reason]);
  }

  ended(listener: string, reason: EndReason): Series {
    return this.#ended.with([listener, reason]);
  }
}
