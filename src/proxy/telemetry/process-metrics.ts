// Owns: the process_* gauges that Prometheus expects of every target (its client library guidelines, "Process metrics"). Read at export, never kept.

import { readdirSync, readFileSync } from "node:fs";
import type { MetricRegistry } from "../../base/metric.ts";

/** Registers the process families; files under /proc are read when somebody exports. `startedAtMs` is wall time of the start. */
export function registerProcessMetrics(metrics: MetricRegistry, startedAtMs: number): void {
  const cpu = metrics.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.").with([]);
  const memory = metrics.gauge("process_resident_memory_bytes", "Resident memory size in bytes.").with([]);
  const anonymous = metrics.gauge("process_private_memory_bytes", "Private (anonymous) resident memory size in bytes.").with([]);
  const start = metrics.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.").with([]);
  const files = metrics.gauge("process_open_fds", "Number of open file descriptors.").with([]);
  start.value = startedAtMs / 1000;
  metrics.beforeExport(() => {
    const usage = process.cpuUsage();
    cpu.value = (usage.user + usage.system) / 1e6;
    const status = readText("/proc/self/status");
    memory.value = kilobytes(status, "VmRSS") ?? process.memoryUsage.rss();
    anonymous.value = kilobytes(status, "RssAnon") ?? 0;
    files.value = openFiles();
  });
}

function kilobytes(status: string, field: string): number | undefined {
  const from = status.indexOf(`${field}:`);
  return from < 0 ? undefined : Number.parseInt(status.slice(from + field.length + 1), 10) * 1024;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // Not Linux.
  }
}

function openFiles(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return 0; // Not Linux.
  }
}
