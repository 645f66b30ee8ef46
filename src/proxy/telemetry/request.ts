// Owns: Istio's HTTP metric families and the series that requests bump. A `RequestCounters` sits on an endpoint, a cluster or a connection and
// resolves its series once per status; a request then costs one array load and four additions.
// A gRPC call has its status and its messages counted too, and its method in a family of our own (Istio's labels have no method).
// Bounded: past `maxSets` sets of series, further ones share one whose labels are all "unknown".

import { type Family, type HistogramSeries, type MetricRegistry, observe, type Series } from "../../base/metric.ts";
import { equals } from "../http/bytes.ts";
import { methodOf } from "../http/grpc.ts";
import { type GrpcCall, GrpcMethod } from "../http/grpc-call.ts";
import { type Parties, requestLabelNames } from "./labels.ts";

/** Istio's (Envoy's) default buckets, for all three histograms. */
export const bucketBounds: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
];

/** Each set is four series of some 0.5 KB: 2 000 sets are what 100 services with 5 statuses and 4 versions make. */
const maxSets = 4_000;

/** Methods that are named; further ones share the name "other". */
const maxMethods = 500;

/** Methods found by their bytes alone; a power of two. */
const rememberedMethods = 256;

/** Codes of the gRPC project's statuscodes.md, by number. */
const grpcCodes = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

interface RequestSet {
  readonly requestMessages: Series | null;
  readonly responseMessages: Series | null;
  readonly total: Series;
  readonly duration: HistogramSeries;
  readonly requestBytes: HistogramSeries;
  readonly responseBytes: HistogramSeries;
}

export class RequestMetrics {
  readonly #total: Family<Series>;
  readonly #duration: Family<HistogramSeries>;
  readonly #requestBytes: Family<HistogramSeries>;
  readonly #responseBytes: Family<HistogramSeries>;
  readonly #overflow: Series;
  readonly #requestMessages: Family<Series>;
  readonly #responseMessages: Family<Series>;
  readonly #methods: Family<Series>;
  readonly #methodSeries = new Map<string, Series>();
  readonly #remembered: (GrpcMethod | undefined)[] = new Array(rememberedMethods).fill(undefined);
  #sets = 0;

  constructor(metrics: MetricRegistry) {
    this.#total = metrics.counter("istio_requests_total", "Requests, counted on both sides.", requestLabelNames);
    this.#duration = metrics.histogram(
      "istio_request_duration_milliseconds",
      "Time from the request's head to the end of its answer.",
      requestLabelNames,
      bucketBounds,
    );
    this.#requestBytes = metrics.histogram("istio_request_bytes", "Size of request bodies.", requestLabelNames, bucketBounds);
    this.#responseBytes = metrics.histogram("istio_response_bytes", "Size of answer bodies.", requestLabelNames, bucketBounds);
    this.#requestMessages = metrics.counter("istio_request_messages_total", "gRPC messages from clients.", requestLabelNames);
    this.#responseMessages = metrics.counter("istio_response_messages_total", "gRPC messages to clients.", requestLabelNames);
    this.#methods = metrics.counter("weft_grpc_calls_total", "gRPC calls by method and status.", [
      "reporter",
      "grpc_service",
      "grpc_method",
      "grpc_status",
    ]);
    this.#overflow = metrics
      .counter("weft_metric_overflow_total", "Requests counted under unknown labels because there are too many series.")
      .with([]);
  }

  /** Configuration time, or first use. */
  resolve(parties: Parties, status: number, flags: string, grpcStatus: number | null): RequestSet {
    const grpc = grpcStatus === null ? "" : grpcStatus < 0 ? "unknown" : String(grpcStatus);
    let labels = [...parties.labels, grpcStatus === null ? "http" : "grpc", String(status), grpc, flags, parties.security];
    if (this.#sets >= maxSets) {
      this.#overflow.value++;
      labels = labels.map((value, i) => (i === 0 || i === 16 || i === 17 ? value : "unknown"));
    } else this.#sets++;
    return {
      requestMessages: grpcStatus === null ? null : this.#requestMessages.with(labels),
      responseMessages: grpcStatus === null ? null : this.#responseMessages.with(labels),
      total: this.#total.with(labels),
      duration: this.#duration.with(labels),
      requestBytes: this.#requestBytes.with(labels),
      responseBytes: this.#responseBytes.with(labels),
    };
  }

  /** The method that a path names. Known ones are found by their bytes; a table of fixed size remembers the last of each place. */
  method(bytes: Uint8Array, from: number, to: number): GrpcMethod {
    let hash = 0x811c9dc5;
    for (let i = from; i < to; i++) hash = Math.imul(hash ^ (bytes[i] as number), 0x01000193);
    const place = (hash ^ (hash >>> 15)) & (rememberedMethods - 1);
    const known = this.#remembered[place];
    if (known !== undefined && equals(bytes, from, to, known.path)) return known;
    const named = methodOf(bytes, from, to);
    const made = new GrpcMethod(Uint8Array.from(bytes.subarray(from, to)), named?.service ?? "", named?.method ?? "");
    this.#remembered[place] = made;
    return made;
  }

  countMethod(reporter: string, call: GrpcCall): void {
    const { method, status } = call;
    if (status >= grpcCodes.length) {
      // No code of gRPC's: rare, and found anew each time.
      this.#methodSeriesOf(reporter, method, status).value++;
      return;
    }
    const at = (status + 1) * 2 + (reporter === "source" ? 0 : 1);
    let series = method.series[at];
    if (series === undefined) {
      series = this.#methodSeriesOf(reporter, method, status);
      method.series[at] = series;
    }
    series.value++;
  }

  #methodSeriesOf(reporter: string, { service, method }: GrpcMethod, status: number): Series {
    const code = status < 0 ? "unknown" : (grpcCodes[status] ?? String(status));
    const key = `${reporter}/${service}/${method}/${code}`;
    let series = this.#methodSeries.get(key);
    if (series === undefined) {
      const named = this.#methodSeries.size < maxMethods;
      series = this.#methods.with([reporter, named ? service : "other", named ? method : "other", code]);
      if (named) this.#methodSeries.set(key, series);
    }
    return series;
  }
}

/** The series of one pair of parties, by status; flags other than "-" are rare and have a map. */
export class RequestCounters {
  readonly parties: Parties;
  readonly #metrics: RequestMetrics;
  #lastOutcome = 0;
  #last: RequestSet | null = null;
  readonly #plain = new Map<number, RequestSet>();
  readonly #flagged = new Map<string, RequestSet>();

  constructor(metrics: RequestMetrics, parties: Parties) {
    this.#metrics = metrics;
    this.parties = parties;
  }

  /** One finished request. `flags` is "-" when nothing went wrong; `call` is null unless it is a gRPC call. */
  count(status: number, flags: string, durationMs: number, requestBytes: number, responseBytes: number, call: GrpcCall | null): void {
    // One number for both: HTTP statuses stay below 1 000, gRPC codes from -1 on.
    const outcome = call === null ? status : 1_000 * (call.status + 2) + status;
    let set = this.#last;
    if (set === null || outcome !== this.#lastOutcome || flags !== "-") set = this.#find(status, flags, outcome, call);
    set.total.value++;
    observe(set.duration, bucketBounds, durationMs);
    observe(set.requestBytes, bucketBounds, requestBytes);
    observe(set.responseBytes, bucketBounds, responseBytes);
    if (call !== null) {
      if (set.requestMessages !== null) set.requestMessages.value += call.received.messages;
      if (set.responseMessages !== null) set.responseMessages.value += call.sent.messages;
      this.#metrics.countMethod(this.parties.labels[0] ?? "unknown", call);
    }
  }

  #find(status: number, flags: string, outcome: number, call: GrpcCall | null): RequestSet {
    const grpcStatus = call === null ? null : call.status;
    if (flags === "-") {
      let set = this.#plain.get(outcome);
      if (set === undefined) {
        set = this.#metrics.resolve(this.parties, status, flags, grpcStatus);
        this.#plain.set(outcome, set);
      }
      this.#lastOutcome = outcome;
      this.#last = set;
      return set;
    }
    const key = `${outcome}${flags}`;
    let set = this.#flagged.get(key);
    if (set === undefined) {
      set = this.#metrics.resolve(this.parties, status, flags, grpcStatus);
      this.#flagged.set(key, set);
    }
    return set;
  }
}
