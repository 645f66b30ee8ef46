// Owns: the names of the control plane's own metrics, and what is timed for them.

import { type Family, type MetricRegistry, observe, type Series } from "../base/metric.ts";
import type { Publication } from "./publish/publisher.ts";
import type { Store } from "./store/store.ts";

export interface ControlMetrics {
  published(publication: Publication): void;
  /** From a response to a proxy until it was accepted. */
  acknowledged(ackMs: number): void;
  /** `verb`: a Kubernetes verb, or the method in small letters for what is no object. */
  answered(verb: string, code: number, durationMs: number): void;
  /** The same store, each operation timed. */
  timed(store: Store): Store;
  readonly compileFailures: Series;
  readonly rejections: Family<Series>;
  readonly responses: Family<Series>;
  readonly certificates: Series;
  readonly proxies: Series;
  /** Proxies that have not accepted all that is meant for them. */
  readonly behind: Series;
  /** Resources that proxies have rejected and that are not offered again until they change. */
  readonly quarantined: Series;
  /** Changes in the store that wait to be compiled. */
  readonly waiting: Series;
}

const seconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const timedOperations = ["get", "list", "listAll", "listAt", "history", "create", "update", "delete", "transact"] as const;

export function controlMetrics(registry: MetricRegistry): ControlMetrics {
  const push = registry.histogram(
    "weft_control_push_seconds",
    "A change on its way: wait (store event to compile), compile, send (until every open stream has its part), ack (a response until its proxy accepted it), total (wait to send).",
    ["stage"],
    seconds,
  );
  const stages = {
    wait: push.with(["wait"]),
    compile: push.with(["compile"]),
    send: push.with(["send"]),
    ack: push.with(["ack"]),
    total: push.with(["total"]),
  };
  const workloads = registry.counter("weft_control_published_snapshots_total", "Snapshots of workloads that changed.").with([]);
  const requests = registry.counter("weft_control_api_requests_total", "API requests answered.", ["verb", "code"]);
  const durations = registry.histogram("weft_control_api_request_seconds", "Time to the head of an answer of the API.", ["verb"], seconds);
  const store = registry.histogram("weft_control_store_seconds", "Time one operation of the store took.", ["operation"], seconds);
  return {
    published({ workloads: changed, waitMs, compileMs, pushMs }) {
      observe(stages.wait, push.bounds, waitMs / 1000);
      observe(stages.compile, push.bounds, compileMs / 1000);
      if (changed.length === 0) return;
      observe(stages.send, push.bounds, Math.max(0, pushMs - waitMs - compileMs) / 1000);
      observe(stages.total, push.bounds, pushMs / 1000);
      workloads.value += changed.length;
    },
    acknowledged: (ackMs) => observe(stages.ack, push.bounds, ackMs / 1000),
    answered(verb, code, durationMs) {
      requests.with([verb, String(code)]).value++;
      observe(durations.with([verb]), durations.bounds, durationMs / 1000);
    },
    timed(inner) {
      const out: Record<string, unknown> = {};
      for (const name of timedOperations) {
        const series = store.with([name]);
        const run = inner[name].bind(inner) as (...args: unknown[]) => Promise<unknown>;
        out[name] = async (...args: unknown[]) => {
          const from = performance.now();
          try {
            return await run(...args);
          } finally {
            observe(series, store.bounds, (performance.now() - from) / 1000);
          }
        };
      }
      const rest: Pick<Store, "revision" | "listAllAt" | "oldest" | "backup" | "watch" | "compact" | "close"> = {
        revision: () => inner.revision(),
        listAllAt: (revision) => inner.listAllAt(revision),
        oldest: () => inner.oldest(),
        backup: (path) => inner.backup(path),
        watch: (from, resource, onEvent) => inner.watch(from, resource, onEvent),
        compact: (before) => inner.compact(before),
        close: () => inner.close(),
      };
      return { ...(out as unknown as Pick<Store, (typeof timedOperations)[number]>), ...rest };
    },
    compileFailures: registry
      .counter("weft_control_compile_failures_total", "Compiles that failed by a bug; the last good configuration stayed in force.")
      .with([]),
    rejections: registry.counter("weft_control_xds_rejections_total", "Responses a proxy rejected.", ["type"]),
    responses: registry.counter("weft_control_xds_responses_total", "Responses sent to proxies.", ["type"]),
    certificates: registry.counter("weft_control_certificates_issued_total", "Workload certificates signed.").with([]),
    proxies: registry.gauge("weft_control_connected_proxies", "Proxies with an open stream.").with([]),
    behind: registry.gauge("weft_control_proxies_behind", "Connected proxies that have not accepted all that is meant for them.").with([]),
    quarantined: registry
      .gauge(
        "weft_control_resources_quarantined",
        "Resources that connected proxies have rejected and that are not offered again until they change.",
      )
      .with([]),
    waiting: registry.gauge("weft_control_push_queue_depth", "Changes in the store that wait to be compiled.").with([]),
  };
}
