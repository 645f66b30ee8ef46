// Owns: the metric families of HTTP/2, made once for a process and held by the core. Never counts requests: `telemetry` does.

import type { MetricRegistry, Series } from "../../base/metric.ts";

/** Why a connection was closed, or a stream reset, in defence: the values of the label `reason`. */
export const defenceReasons = [
  "rapid_reset",
  "made_you_reset",
  "empty_data",
  "settings",
  "ping",
  "ignored",
  "window_update",
  "tiny_window",
  "continuation",
  "header_list",
  "control_backlog",
  "stall",
  "settings_ack",
  "slow_start",
  "slow_head",
  "stream_limit",
  "keepalive",
] as const;
export type DefenceReason = (typeof defenceReasons)[number];

export class Http2Metrics {
  /** Open HTTP/2 connections of either side. */
  readonly downstreamConnections: Series;
  readonly upstreamConnections: Series;
  /** Streams we reset because of what the peer sent on them, and connections we closed for a protocol error. */
  readonly streamErrors: Series;
  readonly connectionErrors: Series;
  readonly goawaysReceived: Series;
  readonly #defence: Readonly<Record<DefenceReason, Series>>;

  constructor(metrics: MetricRegistry) {
    const connections = metrics.gauge("weft_http2_connections", "Open HTTP/2 connections.", ["side"]);
    this.downstreamConnections = connections.with(["downstream"]);
    this.upstreamConnections = connections.with(["upstream"]);
    this.streamErrors = metrics.counter("weft_http2_stream_errors_total", "Streams reset because of what the peer sent on them.").with([]);
    this.connectionErrors = metrics
      .counter("weft_http2_connection_errors_total", "Connections closed because the peer broke the protocol.")
      .with([]);
    this.goawaysReceived = metrics.counter("weft_http2_goaways_total", "GOAWAY frames that upstream peers sent.").with([]);
    const defence = metrics.counter("weft_http2_defence_total", "Connections closed or streams reset in defence, by reason.", ["reason"]);
    this.#defence = Object.fromEntries(defenceReasons.map((reason) => [reason, defence.with([reason])])) as Record<DefenceReason, Series>;
  }

  defended(reason: DefenceReason): void {
    this.#defence[reason].value++;
  }
}
