// Owns: turning the cumulative numbers that proxies stream into what happened since: differences per node and series, across resets and
// reconnects, spread over the seconds they are about. Reads StreamMetricsMessage; writes edges. Bounded per node.

import type { StreamMetricsMessage } from "../wire/gen/envoy/service/metrics/v3/metrics_service_pb.ts";
import type { Metric, MetricFamily } from "../wire/gen/io/prometheus/client/metrics_pb.ts";
import { type Edge, type EdgeKey, type EdgeTable, noteWorkloads } from "./edges.ts";
import type { Amounts } from "./window.ts";

/** More than a sidecar of a large mesh reports; a label gone wild must not eat the control plane. */
export const maxSeriesPerNode = 20_000;
/** A late report is spread over at most so many seconds. */
const mostSpreadSeconds = 300;

const families = {
  requests: "istio_requests_total",
  duration: "istio_request_duration_milliseconds",
  requestBytes: "istio_request_bytes",
  responseBytes: "istio_response_bytes",
  opened: "istio_tcp_connections_opened_total",
  closed: "istio_tcp_connections_closed_total",
  sent: "istio_tcp_sent_bytes_total",
  received: "istio_tcp_received_bytes_total",
} as const;

/** A proxy has taken an endpoint out of its balance. */
export interface Ejection {
  /** Whose proxy, `NS/NAME`. */
  readonly by: string;
  readonly cluster: string;
  readonly endpoint: string;
  /** `NS/NAME` of the WorkloadEntry; undefined = the proxy does not know. */
  readonly workload: string | undefined;
  readonly reason: string;
}

/** A limit of a cluster has begun to refuse. */
export interface Opening {
  readonly by: string;
  readonly cluster: string;
  /** `max_requests` and so on. */
  readonly limit: string;
}

/** Told of each, once, also of those that happened while the control plane was away. */
export interface CircuitEvents {
  ejected(ejection: Ejection): void;
  opened(opening: Opening): void;
}

/** What stands now. */
export interface Circuits {
  readonly ejected: readonly Ejection[];
  readonly open: readonly Opening[];
}

const circuitFamilies = {
  ejections: "weft_endpoint_ejections_total",
  ejected: "weft_endpoint_ejected",
  opened: "weft_circuit_breaker_opened_total",
  open: "weft_circuit_breaker_open",
} as const;

const circuitNames: ReadonlySet<string> = new Set(Object.values(circuitFamilies));

interface Last {
  value: number;
  counts: readonly number[];
  labels: Labels | undefined;
}

type Labels = ReadonlyMap<string, string>;

/** What one proxy has reported so far. Outlives its stream, so that a reconnect is a difference and not a second helping. */
export class NodeIngest {
  readonly #node: string;
  readonly #edges: EdgeTable;
  readonly #series = new Map<string, Last>();
  #lastMs: number | undefined;
  /** The first second that this proxy's reports are about. */
  #firstSecond = Number.POSITIVE_INFINITY;
  #dropped = 0;
  readonly #events: CircuitEvents | undefined;
  readonly #out = new Map<string, Ejection>();
  readonly #open = new Map<string, Opening>();

  constructor(node: string, edges: EdgeTable, events?: CircuitEvents) {
    this.#node = node;
    this.#edges = edges;
    this.#events = events;
  }

  get circuits(): Circuits {
    return { ejected: [...this.#out.values()], open: [...this.#open.values()] };
  }

  /** A new stream, whose first message says everything that stands. */
  begin(): void {
    this.#out.clear();
    this.#open.clear();
  }

  /** Series that were not taken in because there were too many. */
  get dropped(): number {
    return this.#dropped;
  }

  /**
   * One message. The very first of a node is only a base to count from: it holds everything since the proxy's start, which may have
   * been long before ours.
   */
  message(message: StreamMetricsMessage, nowMs: number): void {
    const base = this.#lastMs === undefined;
    const second = Math.floor(nowMs / 1000);
    const sinceMs = this.#lastMs === undefined ? 0 : nowMs - this.#lastMs;
    const spread = Math.min(mostSpreadSeconds, Math.max(1, Math.round(sinceMs / 1000)));
    this.#lastMs = nowMs;
    if (!base) this.#firstSecond = Math.min(this.#firstSecond, second - spread + 1);
    for (const family of message.envoyMetrics) {
      for (const metric of family.metric) this.#metric(family, metric, base, second, spread);
    }
  }

  #metric(family: MetricFamily, metric: Metric, base: boolean, second: number, spread: number): void {
    const id = idOf(family.name, metric);
    let last = this.#series.get(id);
    if (last === undefined) {
      if (this.#series.size >= maxSeriesPerNode) {
        this.#dropped++;
        return;
      }
      last = { value: 0, counts: [], labels: undefined };
      this.#series.set(id, last);
    }
    const { histogram } = metric;
    const now = histogram === undefined ? (metric.counter?.value ?? metric.gauge?.value ?? 0) : histogram.sampleSum;
    const counts = histogram === undefined ? [] : cellCounts(metric);
    // A counter that fell began anew with its process.
    const fell = counts.length > 0 ? total(counts) < total(last.counts) : now < last.value;
    const delta = fell ? now : now - last.value;
    const deltas = counts.map((count, cell) => count - (fell ? 0 : (last.counts[cell] ?? 0)));
    last.value = now;
    last.counts = counts;
    if (circuitNames.has(family.name)) {
      last.labels ??= new Map(metric.label.map((pair) => [pair.name, pair.value]));
      this.#circuit(family.name, id, last.labels, now, delta, base);
      return;
    }
    if (base && family.name !== families.opened && family.name !== families.closed) return;
    if (delta === 0 && deltas.every((d) => d === 0)) return;

    last.labels ??= new Map(metric.label.map((pair) => [pair.name, pair.value]));
    const { labels } = last;
    const edge = this.#edges.edge(edgeKey(family.name, labels), second);
    if (edge === undefined) return;
    edge.firstSecond = Math.min(edge.firstSecond, this.#firstSecond);
    noteWorkloads(edge, labels.get("source_workload") ?? "unknown", labels.get("destination_workload") ?? "unknown");
    const add = (amounts: Amounts) => {
      for (let back = 0; back < spread; back++) edge.window.add(second - back, amounts);
    };
    const share = 1 / spread;
    switch (family.name) {
      case families.requests:
        noteSecurity(edge, labels);
        add({ requests: delta * share, failures: isFailure(labels) ? delta * share : 0, plain: isPlain(labels) ? delta * share : 0 });
        return;
      case families.duration: {
        const bounds = (histogram?.bucket ?? []).map((b) => b.upperBound).filter((b) => Number.isFinite(b));
        for (let back = 0; back < spread; back++) edge.window.addLatency(second - back, { bounds, counts: deltas }, share);
        return;
      }
      case families.requestBytes:
      case families.responseBytes:
      case families.sent:
      case families.received:
        add({ bytes: delta * share });
        return;
      case families.opened:
        this.#openBy(edge, delta);
        if (base) return;
        noteSecurity(edge, labels);
        add({ plain: isPlain(labels) ? delta * share : 0 });
        return;
      case families.closed:
        this.#openBy(edge, -delta);
        if (!base) add({});
        return;
    }
  }

  /** Counters say that it has happened, gauges what stands; of a proxy that was not heard before what stands is news. */
  #circuit(family: string, id: string, labels: Labels, value: number, delta: number, base: boolean): void {
    const text = (key: string) => labels.get(key) ?? "";
    const told = base ? value > 0 : delta > 0;
    if (family === circuitFamilies.open || family === circuitFamilies.opened) {
      const opening: Opening = { by: this.#node, cluster: text("cluster"), limit: text("limit") };
      if (family === circuitFamilies.open) {
        if (value > 0) this.#open.set(id, opening);
        else this.#open.delete(id);
      }
      if (told && (family === circuitFamilies.open) === base) this.#events?.opened(opening);
      return;
    }
    const [name = "", namespace = ""] = [labels.get("workload"), labels.get("workload_namespace")];
    const workload = name === "" || namespace === "" ? undefined : `${namespace}/${name}`;
    const ejection: Ejection = { by: this.#node, cluster: text("cluster"), endpoint: text("endpoint"), workload, reason: text("reason") };
    if (family === circuitFamilies.ejected) {
      if (value > 0) this.#out.set(id, ejection);
      else this.#out.delete(id);
    }
    if (told && (family === circuitFamilies.ejected) === base) this.#events?.ejected(ejection);
  }

  #openBy(edge: Edge, by: number): void {
    const open = (edge.open.get(this.#node) ?? 0) + by;
    if (open > 0) edge.open.set(this.#node, open);
    else if (open === 0) edge.open.delete(this.#node);
    // Closings of a pair may come before its openings within one message; below zero it is kept until they meet.
    else edge.open.set(this.#node, open);
  }
}

/** Cumulative on the wire; one count for each cell here, the last for everything above the last bound. */
function cellCounts(metric: Metric): number[] {
  const histogram = metric.histogram;
  if (histogram === undefined) return [];
  const counts: number[] = [];
  let below = 0;
  for (const bucket of histogram.bucket) {
    if (!Number.isFinite(bucket.upperBound)) continue;
    const cumulative = Number(bucket.cumulativeCount);
    counts.push(cumulative - below);
    below = cumulative;
  }
  counts.push(Number(histogram.sampleCount) - below);
  return counts;
}

function total(counts: readonly number[]): number {
  let sum = 0;
  for (const count of counts) sum += count;
  return sum;
}

function idOf(family: string, metric: Metric): string {
  let id = family;
  for (const { name, value } of metric.label) id += `\u0000${name}\u0001${value}`;
  return id;
}

const unknown = "unknown";

function known(value: string | undefined): string | undefined {
  return value === undefined || value === "" || value === unknown ? undefined : value;
}

function edgeKey(family: string, labels: Labels): EdgeKey {
  const get = (name: string) => known(labels.get(name));
  const protocol = get("request_protocol");
  const service = get("destination_service_name");
  return {
    reporter: get("reporter") === "destination" ? "destination" : "source",
    source: {
      namespace: get("source_workload_namespace") ?? unknown,
      app: get("source_app") ?? get("source_workload") ?? unknown,
      version: get("source_version") ?? "",
    },
    destination: {
      // A request that found no endpoint has a service and no workload.
      namespace: get("destination_workload_namespace") ?? get("destination_service_namespace") ?? unknown,
      app: get("destination_app") ?? get("destination_workload") ?? service ?? unknown,
      version: get("destination_version") ?? "",
      service: service ?? "",
    },
    sourcePrincipal: get("source_principal") ?? unknown,
    protocol: family.startsWith("istio_tcp_") || protocol === "tcp" ? "tcp" : protocol === "grpc" ? "grpc" : "http",
  };
}

/** gRPC codes that are the callee's fault: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS. */
const grpcFailures: ReadonlySet<string> = new Set(["2", "4", "12", "13", "14", "15"]);

function isFailure(labels: Labels): boolean {
  const code = Number(labels.get("response_code") ?? 0);
  // 0: the answer never came or was cut short.
  if (code === 0 || code >= 500) return true;
  return grpcFailures.has(labels.get("grpc_response_status") ?? "");
}

/** Flags of requests that reached no peer, so that nothing can be said of how they travelled. */
const unconnected: ReadonlySet<string> = new Set(["UH", "UF", "NR", "NC", "UO", "DPE", "FI", "RL", "RLSE"]);

function isConnected(labels: Labels): boolean {
  return !(labels.get("response_flags") ?? "").split(",").some((flag) => unconnected.has(flag));
}

function isPlain(labels: Labels): boolean {
  return labels.get("connection_security_policy") === "none" && isConnected(labels);
}

function noteSecurity(edge: Edge, labels: Labels): void {
  if (!isConnected(labels)) return;
  edge.lastMutual = labels.get("connection_security_policy") === "mutual_tls";
}
