// Owns: the analysis as one thing: ears for what proxies stream, the edges, the log, and the answers to questions about them over HTTP.
// Knows the API's types and the wire's, not the control plane: what it needs of it comes as functions.

import type { EdgeObject, LogLine } from "../api/live.ts";
import type { KubeObject } from "../api/meta.ts";
import type { Clock, Timer } from "../base/clock.ts";
import type { StreamAccessLogsMessage } from "../wire/gen/envoy/service/accesslog/v3/als_pb.ts";
import type { StreamMetricsMessage } from "../wire/gen/envoy/service/metrics/v3/metrics_service_pb.ts";
import { httpLine, tcpLine } from "./access.ts";
import { type EdgeKey, EdgeTable } from "./edges.ts";
import { edgeObjects, graph, type Instance, series, traffic } from "./graph.ts";
import { type CircuitEvents, type Circuits, NodeIngest } from "./ingest.ts";
import { LogRing, logBody } from "./logs.ts";
import type { Totals } from "./window.ts";

/** A proxy that was admitted. */
export interface Reporter {
  readonly namespace: string;
  readonly workload: string;
  readonly key: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface Receiver<M> {
  message(message: M): void;
  end(): void;
}

export interface InsightDeps {
  readonly clock: Clock;
  readonly trustDomain: string;
  /** All WorkloadEntries, for instances and versions. */
  readonly workloads: () => readonly KubeObject[];
  /** One of them; an event of one workload must not cost a look at all. */
  readonly workload: (namespace: string, name: string) => KubeObject | undefined;
  /** Told of what proxies take out of their balance, and of their limits that refuse. */
  readonly circuits?: CircuitEvents;
}

export interface Insight {
  metrics(node: Reporter): Receiver<StreamMetricsMessage>;
  accessLogs(node: Reporter): Receiver<StreamAccessLogsMessage>;
  /** What stands at a proxy that reports now; undefined = it does not report. */
  circuits(key: string): Circuits | undefined;
  event(event: Pick<LogLine, "level" | "message" | "namespace" | "workload">): void;
  edges(): readonly EdgeObject[];
  /** What came to the destinations that `matches`, in Unix seconds from `from` up to but not `to`. */
  traffic(matches: (destination: EdgeKey["destination"]) => boolean, from: number, to: number): Totals;
  /** Tells at most once a second that edges changed, while they do. */
  subscribe(onChange: () => void): () => void;
  /** `/insight/v1alpha1/graph|series|logs`; undefined for any other path. */
  handle(request: Request, hold: () => void): Response | undefined;
}

/** Edge objects speak of so many seconds: short enough to see a shift of traffic happen, long enough for a rate. */
const edgeWindowSeconds = 10;
/** What a gone proxy reported last is kept so long, in case it comes back. */
const rememberNodeMs = 600_000;
const maxNodes = 10_000;

interface NodeState {
  readonly ingest: NodeIngest;
  streams: number;
  endedAtMs: number;
}

export function createInsight(deps: InsightDeps): Insight {
  const { clock } = deps;
  const edges = new EdgeTable();
  const logs = new LogRing();
  const nodes = new Map<string, NodeState>();
  const listeners = new Set<() => void>();
  let announcement: Timer | undefined;
  let lastSweepMs = clock.now();

  const second = () => Math.floor(clock.now() / 1000);
  const changed = () => {
    if (listeners.size === 0) return;
    if (announcement !== undefined) return;
    announcement = clock.after(1000, () => {
      announcement = undefined;
      for (const listener of [...listeners]) listener();
    });
  };
  const sweep = () => {
    const now = clock.now();
    if (now - lastSweepMs < 60_000) return;
    lastSweepMs = now;
    edges.forgetIdle(second());
    for (const [key, node] of nodes) if (node.streams === 0 && now - node.endedAtMs > rememberNodeMs) nodes.delete(key);
  };

  return {
    metrics(reporter) {
      let node = nodes.get(reporter.key);
      if (node === undefined) {
        if (nodes.size >= maxNodes) for (const [key, old] of nodes) if (old.streams === 0) nodes.delete(key);
        node = { ingest: new NodeIngest(reporter.key, edges, deps.circuits), streams: 0, endedAtMs: 0 };
        nodes.set(reporter.key, node);
      }
      const mine = node;
      mine.streams++;
      mine.ingest.begin();
      return {
        message(message) {
          mine.ingest.message(message, clock.now());
          sweep();
          changed();
        },
        end() {
          mine.streams--;
          mine.endedAtMs = clock.now();
          changed();
          // Its connections are gone with it, unless it comes back; then its totals say so again.
          if (mine.streams === 0) clock.after(rememberNodeMs / 60, () => (mine.streams === 0 ? edges.forgetNode(reporter.key) : undefined));
        },
      };
    },
    accessLogs(reporter) {
      const app = reporter.labels.app ?? reporter.workload;
      return {
        message({ logEntries }) {
          const now = clock.now();
          if (logEntries.case === "httpLogs")
            for (const entry of logEntries.value.logEntry) logs.append(httpLine(entry, reporter, now), app);
          if (logEntries.case === "tcpLogs") for (const entry of logEntries.value.logEntry) logs.append(tcpLine(entry, reporter, now), app);
        },
        end() {},
      };
    },
    circuits(key) {
      const node = nodes.get(key);
      return node === undefined || node.streams === 0 ? undefined : node.ingest.circuits;
    },
    event({ level, message, namespace, workload }) {
      const entry = workload === "" ? undefined : deps.workload(namespace, workload);
      logs.append(
        { at: new Date(clock.now()).toISOString(), kind: "event", level, namespace, workload, message },
        entry?.metadata.labels?.app ?? "",
      );
    },
    traffic: (matches, from, to) => traffic(edges, second(), matches, from, to),
    edges: () => edgeObjects(edges, clock.now(), edgeWindowSeconds),
    subscribe(onChange) {
      listeners.add(onChange);
      return () => listeners.delete(onChange);
    },
    handle(request, hold) {
      const url = new URL(request.url);
      const match = /^\/insight\/v1alpha1\/(graph|series|logs)$/.exec(url.pathname);
      if (match === null) return undefined;
      if (request.method !== "GET") return problem(405, `${request.method} is not possible at ${url.pathname}; only GET is`);
      const query = new Query(url.searchParams);
      try {
        switch (match[1]) {
          case "graph":
            return Response.json(graph(edges, deps.workloads().map(instanceOf), clock.now(), query.integer("windowSeconds", 1, 300, 30)));
          case "series":
            return answerSeries(query);
          default: {
            const follow = query.flag("follow");
            if (follow) hold();
            const filter = { namespace: query.text("namespace"), app: query.text("app") };
            return new Response(logBody(logs, filter, query.integer("tail", 0, 4096, 200), follow), {
              headers: { "content-type": "application/jsonl; charset=utf-8", "cache-control": "no-store" },
            });
          }
        }
      } catch (cause) {
        if (cause instanceof QueryError) return problem(400, cause.message);
        throw cause;
      }
    },
  };

  function answerSeries(query: Query): Response {
    const node = query.text("node");
    const edge = query.text("edge");
    if ((node === undefined) === (edge === undefined))
      throw new QueryError("series wants either node=NAMESPACE/APP or edge=NAMESPACE/APP>NAMESPACE/APP");
    const subject = node === undefined ? { edge: edge as string } : { node };
    const answer = series(edges, subject, clock.now(), query.integer("minutes", 1, 5, 5));
    if (answer !== undefined) return Response.json(answer);
    // A service that nobody calls has a flat line, not an error.
    const exists = node !== undefined && deps.workloads().some((object) => idOf(instanceOf(object)) === node);
    if (exists) return Response.json({ stepSeconds: 5, points: [] });
    return problem(404, `no traffic of ${node ?? edge} in the last minutes`);
  }
}

function idOf(instance: Instance): string {
  return `${instance.namespace}/${instance.app}`;
}

function instanceOf(entry: KubeObject): Instance {
  const spec = entry.spec as { labels?: Record<string, string>; serviceAccount?: string; address?: string } | undefined;
  const labels = { ...entry.metadata.labels, ...spec?.labels };
  const conditions = (entry.status as { conditions?: { type: string; status: string }[] } | undefined)?.conditions;
  const healthy = conditions?.find((c) => c.type === "Healthy");
  return {
    namespace: entry.metadata.namespace ?? "default",
    app: labels.app ?? spec?.serviceAccount ?? entry.metadata.name,
    version: labels.version ?? "",
    ready: spec?.address !== undefined && (healthy === undefined || healthy.status === "True"),
  };
}

/** A question that cannot be understood; the message names the word. */
class QueryError extends Error {
  override readonly name = "QueryError";
}

class Query {
  readonly #values: URLSearchParams;

  constructor(values: URLSearchParams) {
    this.#values = values;
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name);
    return value === null || value === "" ? undefined : value;
  }

  flag(name: string): boolean {
    const value = this.#values.get(name);
    if (value === null || value === "false" || value === "0") return false;
    if (value === "" || value === "true" || value === "1") return true;
    throw new QueryError(`${name} is true or false, not ${JSON.stringify(value)}`);
  }

  integer(name: string, least: number, most: number, otherwise: number): number {
    const value = this.text(name);
    if (value === undefined) return otherwise;
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < least || number > most)
      throw new QueryError(`${name} is a whole number from ${least} to ${most}, not ${JSON.stringify(value)}`);
    return number;
  }
}

/** A Kubernetes Status, as every error of the API is. */
function problem(code: number, message: string): Response {
  const reason = code === 404 ? "NotFound" : code === 405 ? "MethodNotAllowed" : "BadRequest";
  return Response.json({ kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code }, { status: code });
}
