// Owns: the control plane's own metrics as Prometheus text (version 0.0.4), and those of its process. Reads the registry; changes nothing.

import { readFileSync } from "node:fs";
import type { AnyFamily, HistogramSeries, MetricRegistry, Series } from "../base/metric.ts";

export const contentType = "text/plain; version=0.0.4; charset=utf-8";

/** Registers what Prometheus's clients call process metrics. */
export function processMetrics(registry: MetricRegistry, startedAtMs: number): void {
  const cpu = registry.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.").with([]);
  const resident = registry.gauge("process_resident_memory_bytes", "Resident memory size in bytes.").with([]);
  const anonymous = registry
    .gauge("process_private_memory_bytes", "Private (anonymous resident) memory in bytes, 0 where the system does not tell.")
    .with([]);
  const start = registry.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.").with([]);
  start.value = startedAtMs / 1000;
  registry.beforeExport(() => {
    const usage = process.cpuUsage();
    cpu.value = (usage.user + usage.system) / 1e6;
    resident.value = process.memoryUsage.rss();
    anonymous.value = privateBytes();
  });
}

function privateBytes(): number {
  try {
    const kilobytes = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    return Number(kilobytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** Every family, in the text format. */
export function exposition(registry: MetricRegistry): string {
  return registry.families().map(family).join("");
}

function family(f: AnyFamily): string {
  let text = `# HELP ${f.name} ${f.help.replace(/\\/g, "\\\\").replace(/\n/g, "\\n")}\n# TYPE ${f.name} ${f.kind}\n`;
  for (const series of f.series)
    text +=
      f.kind === "histogram"
        ? histogram(f, series as HistogramSeries)
        : `${f.name}${labels(f.labelNames, series.labels)} ${(series as Series).value}\n`;
  return text;
}

function histogram(f: AnyFamily, series: HistogramSeries): string {
  let text = "";
  let total = 0;
  for (let cell = 0; cell < series.counts.length; cell++) {
    total += series.counts[cell] as number;
    const bound = f.bounds[cell];
    text += `${f.name}_bucket${labels([...f.labelNames, "le"], [...series.labels, bound === undefined ? "+Inf" : String(bound)])} ${total}\n`;
  }
  const own = labels(f.labelNames, series.labels);
  return `${text}${f.name}_sum${own} ${series.sum}\n${f.name}_count${own} ${total}\n`;
}

function labels(names: readonly string[], values: readonly string[]): string {
  if (names.length === 0) return "";
  return `{${names.map((name, at) => `${name}="${(values[at] ?? "").replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n")}"`).join(",")}}`;
}
