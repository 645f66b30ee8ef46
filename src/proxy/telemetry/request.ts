// Owns: Istio's HTTP metric families and the series that requests bump. A `RequestCounters` sits on an endpoint, a cluster or a connection and
// resolves its series once per status; a request then costs one array load and four additions.
// Bounded: past `maxSets` sets of series, further ones share one whose labels are all "unknown".

import { type Family, type HistogramSeries, type MetricRegistry, observe, type Series } from "../../base/metric.ts";
import { type Parties, requestLabelNames } from "./labels.ts";

/** Istio's (Envoy's) default buckets, for all three histograms. */
export const bucketBounds: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
];

/** Each set is four series of some 0.5 KB: 2 000 sets are what 100 services with 5 statuses and 4 versions make. */
const maxSets = 4_000;

interface RequestSet {
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
    this.#overflow = metrics
      .counter("weft_metric_overflow_total", "Requests counted under unknown labels because there are too many series.")
      .with([]);
  }

  /** Configuration time, or first use. */
  resolve(parties: Parties, status: number, flags: string): RequestSet {
    let labels = [...parties.labels, "http", String(status), "", flags, parties.security];
    if (this.#sets >= maxSets) {
      this.#overflow.value++;
      labels = labels.map((value, i) => (i === 0 || i === 16 || i === 17 ? value : "unknown"));
    } else this.#sets++;
    return {
      total: this.#total.with(labels),
      duration: this.#duration.with(labels),
      requestBytes: this.#requestBytes.with(labels),
      responseBytes: this.#responseBytes.with(labels),
    };
  }
}

/** The series of one pair of parties, by status; flags other than "-" are rare and have a map. */
export class RequestCounters {
  readonly parties: Parties;
  readonly #metrics: RequestMetrics;
  #lastStatus = 0;
  #last: RequestSet | null = null;
  readonly #plain = new Map<number, RequestSet>();
  readonly #flagged = new Map<string, RequestSet>();

  constructor(metrics: RequestMetrics, parties: Parties) {
    this.#metrics = metrics;
    this.parties = parties;
  }

  /** One finished request. `flags` is "-" when nothing went wrong. */
  count(status: number, flags: string, durationMs: number, requestBytes: number, responseBytes: number): void {
    let set = this.#last;
    if (set === null || status !== this.#lastStatus || flags !== "-") set = this.#find(status, flags);
    set.total.value++;
    observe(set.duration, bucketBounds, durationMs);
    observe(set.requestBytes, bucketBounds, requestBytes);
    observe(set.responseBytes, bucketBounds, responseBytes);
  }

  #find(status: number, flags: string): RequestSet {
    if (flags === "-") {
      let set = this.#plain.get(status);
      if (set === undefined) {
        set = this.#metrics.resolve(this.parties, status, flags);
        this.#plain.set(status, set);
      }
      this.#lastStatus = status;
      this.#last = set;
      return set;
    }
    const key = `${status}${flags}`;
    let set = this.#flagged.get(key);
    if (set === undefined) {
      set = this.#metrics.resolve(this.parties, status, flags);
      this.#flagged.set(key, set);
    }
    return set;
  }
}
