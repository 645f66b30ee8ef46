// Owns: Istio's TCP metric families. Opened and closed count connections, the byte counters grow as bytes flow.

import type { Family, MetricRegistry, Series } from "../../base/metric.ts";
import { type Parties, tcpLabelNames } from "./labels.ts";

/** `sent` is what went to the downstream peer, `received` what came from it (Istio's words are from the proxy's clients' view). */
export interface TcpCounters {
  readonly opened: Series;
  readonly closed: Series;
  readonly sent: Series;
  readonly received: Series;
}

export class TcpMetrics {
  readonly #opened: Family<Series>;
  readonly #closed: Family<Series>;
  readonly #sent: Family<Series>;
  readonly #received: Family<Series>;

  constructor(metrics: MetricRegistry) {
    this.#opened = metrics.counter("istio_tcp_connections_opened_total", "TCP connections opened.", tcpLabelNames);
    this.#closed = metrics.counter("istio_tcp_connections_closed_total", "TCP connections closed.", tcpLabelNames);
    this.#sent = metrics.counter("istio_tcp_sent_bytes_total", "Bytes sent to downstream peers.", tcpLabelNames);
    this.#received = metrics.counter("istio_tcp_received_bytes_total", "Bytes received from downstream peers.", tcpLabelNames);
  }

  /** Once per connection. */
  resolve(parties: Parties, flags: string): TcpCounters {
    const labels = [...parties.labels, "tcp", flags, parties.security];
    return {
      opened: this.#opened.with(labels),
      closed: this.#closed.with(labels),
      sent: this.#sent.with(labels),
      received: this.#received.with(labels),
    };
  }
}
