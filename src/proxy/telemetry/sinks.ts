// Owns: which sink an access log configuration gets. Never formats or ships: the sinks do.

import type { Clock } from "../../base/clock.ts";
import type { MetricRegistry, Series } from "../../base/metric.ts";
import type { AccessLogConfig } from "../config.ts";
import type { FileLogs, LineOutput } from "./access-log.ts";
import type { AccessLogFactory, AccessSink } from "./record.ts";

export interface LogSinks {
  readonly factory: AccessLogFactory;
  /** Where ALS entries go, once there is a control-plane connection. */
  sendAlsTo(make: (logName: string, cluster: string) => AccessSink): void;
  flush(): Promise<void>;
}

export interface LogSinkDeps {
  readonly clock: Clock;
  readonly metrics: MetricRegistry;
  /** Takes the place of opening a path; undefined: open it after all. */
  readonly output?: (path: string) => LineOutput | undefined;
}

export function createLogSinks(deps: LogSinkDeps): LogSinks {
  const dropped = deps.metrics.counter("weft_access_log_dropped_total", "Access log entries dropped because a sink was full or gone.", [
    "sink",
  ]);
  const made = new WeakMap<AccessLogConfig, AccessSink>();
  let files: FileLogs | undefined;
  let als: ((logName: string, cluster: string) => AccessSink) | undefined;

  const make = (config: AccessLogConfig): AccessSink => {
    if (config.sink.kind === "als") return als?.(config.sink.logName, config.sink.cluster) ?? dropping(dropped.with(["als"]));
    if (files === undefined) {
      // Loaded on first use: access logs are off by default.
      const { createFileLogs, openOutput } = require("./access-log.ts") as typeof import("./access-log.ts");
      files = createFileLogs({
        clock: deps.clock,
        dropped: dropped.with(["file"]),
        open: (path) => deps.output?.(path) ?? openOutput(path),
      });
    }
    return files.sink(config.sink);
  };
  return {
    factory(config) {
      const known = made.get(config);
      if (known !== undefined) return known;
      const sink = make(config);
      made.set(config, sink);
      return sink;
    },
    sendAlsTo(maker) {
      als = maker;
    },
    flush: () => files?.flush() ?? Promise.resolve(),
  };
}

/** No way to the log service: entries are counted, not kept. */
function dropping(series: Series): AccessSink {
  return {
    write() {
      series.value++;
    },
  };
}
