// Owns: the stream of metrics to the control plane (envoy.service.metrics.v3): cumulative values, everything on a new stream, afterwards only the series
// that changed. Never keeps what could not be sent: the next message carries it.

import type { Clock, Timer } from "../../base/clock.ts";
import type { AnyFamily, HistogramSeries, MetricSource, Series } from "../../base/metric.ts";
import type { Node } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { ControlChannel } from "../xds/channel.ts";
import type { GrpcCall } from "../xds/grpc.ts";
import { LastingStream } from "../xds/lasting-stream.ts";
import { encodeBinary } from "../xds/proto/encode.ts";
import { StreamMetricsMessage } from "../xds/proto/types.ts";
import { isHistogram } from "./prometheus.ts";

export interface MetricsStreamOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly metrics: MetricSource;
  readonly channel: ControlChannel;
  readonly node: Node | undefined;
  readonly periodMs: number;
}

/** Besides what edges are made of: who is out of a balance and which limits refuse, of which the control plane makes Events and the state of the proxy. */
const toldBesides: ReadonlySet<string> = new Set([
  "weft_endpoint_ejections_total",
  "weft_endpoint_ejected",
  "weft_circuit_breaker_opened_total",
  "weft_circuit_breaker_open",
]);

const path = "/envoy.service.metrics.v3.MetricsService/StreamMetrics";

// io.prometheus.client.MetricType
const typeNumber = { counter: 0, gauge: 1, histogram: 4 } as const;

/** Starts streaming; answers how to stop. The last values go out on the way. */
export function streamMetrics(options: MetricsStreamOptions): { stop(): void } {
  let sent = new WeakMap<object, number>();
  let timer: Timer | undefined;
  let full = true;
  const flush = (call: GrpcCall, first: boolean): void => {
    if (full && !first) return; // The queue is full: later values replace what would have been said now.
    const families = changedFamilies(options.metrics, options.clock.now(), sent);
    if (families.length === 0 && !first) return;
    const message = { ...(first ? { identifier: { node: options.node } } : {}), envoyMetrics: families };
    full = !call.send(encodeBinary(StreamMetricsMessage, message));
  };
  const stream = new LastingStream({
    clock: options.clock,
    random: options.random,
    channel: options.channel,
    path,
    opened(call) {
      sent = new WeakMap();
      full = false;
      flush(call, true);
      timer?.cancel();
      timer = options.clock.every(options.periodMs, () => flush(call, false));
    },
    message() {},
    ended() {
      timer?.cancel();
      timer = undefined;
    },
    writable() {
      full = false;
    },
  });
  return {
    stop() {
      timer?.cancel();
      if (stream.call !== undefined) {
        full = false;
        flush(stream.call, false);
      }
      stream.stop();
    },
  };
}

/** Istio's families as messages, only with series whose value is not the one in `sent`; `sent` is brought up to date. */
export function changedFamilies(metrics: MetricSource, nowMs: number, sent: WeakMap<object, number>): object[] {
  const out: object[] = [];
  for (const family of metrics.families()) {
    if (!family.name.startsWith("istio_") && !toldBesides.has(family.name)) continue;
    const metric = changedSeries(family, nowMs, sent);
    if (metric.length > 0) out.push({ name: family.name, help: family.help, type: typeNumber[family.kind], metric });
  }
  return out;
}

function changedSeries(family: AnyFamily, nowMs: number, sent: WeakMap<object, number>): object[] {
  const out: object[] = [];
  const common = (labels: readonly string[]): object => ({
    label: labels.map((value, n) => ({ name: family.labelNames[n], value })),
    timestampMs: BigInt(Math.floor(nowMs)),
  });
  if (isHistogram(family)) {
    for (const series of family.series) {
      const count = total(series);
      if (sent.get(series) === count) continue;
      sent.set(series, count);
      out.push({ ...common(series.labels), histogram: histogram(series, family.bounds, count) });
    }
    return out;
  }
  for (const series of family.series as readonly Series[]) {
    if (sent.get(series) === series.value) continue;
    sent.set(series, series.value);
    out.push({ ...common(series.labels), [family.kind]: { value: series.value } });
  }
  return out;
}

function total(series: HistogramSeries): number {
  let count = 0;
  for (const cell of series.counts) count += cell;
  return count;
}

function histogram(series: HistogramSeries, bounds: readonly number[], count: number): object {
  let below = 0;
  const bucket = bounds.map((bound, n) => {
    below += series.counts[n] as number;
    return { cumulativeCount: BigInt(below), upperBound: bound };
  });
  return { sampleCount: BigInt(count), sampleSum: series.sum, bucket };
}
