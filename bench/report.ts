// Owns: how figures look on a terminal and in JSON. Pure text; must never measure or judge.

import type { QuietFigures } from "./cases/collect.ts";
import type { CallCount, RecordCount } from "./count.ts";
import type { Figures } from "./measure.ts";
import type { Spread } from "./stats.ts";
import type { Verdict } from "./verdict.ts";

/** Pads columns; the first is left-aligned, the others right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

const one = (value: Spread, digits = 1): string => value.median.toFixed(digits);
const range = (value: Spread, digits = 1): string =>
  `${value.median.toFixed(digits)} (${value.min.toFixed(digits)} - ${value.max.toFixed(digits)})`;
const ms = (value: Spread | null): string => (value === null ? "-" : (value.median / 1000).toFixed(2));

/** Cases under load. CPU times are microseconds a unit of the load (and a side, for a pair). A case with several loads has a line for each. */
export function loadTable(figures: readonly Figures[], pair: boolean): string {
  if (figures.length === 0) return "nothing was measured";
  const fixed = figures.some((row) => row.fixedRate !== null);
  const named = figures.some((row) => row.load !== null);
  const unit = figures[0]!.unit;
  const head = [
    ...(named ? ["load"] : []),
    "subject",
    unit === "request" ? "cpu us (min - max)" : `cpu us/${unit} (min - max)`,
    "user",
    "kernel",
    ...(pair ? ["A us", "B us"] : []),
    unit === "request" ? "req/s" : `${unit}/s`,
    `${unit}/cpu s`,
    "p50 ms",
    "p99 ms",
    ...(fixed ? ["@rate", "cpu us", "p50 ms", "p99 ms"] : []),
    "idle MB",
    "load MB",
    "core",
    "others",
  ];
  const rows = figures.map((row) => [
    ...(named ? [row.load ?? ""] : []),
    row.subject,
    range(row.cpuUs),
    one(row.userUs),
    one(row.kernelUs),
    ...(pair ? [one(row.sidesUs.a!), one(row.sidesUs.b!)] : []),
    one(row.unitsPerSecond, 0),
    (1e6 / row.cpuUs.median).toFixed(0),
    ms(row.p50Us),
    ms(row.p99Us),
    ...(row.fixedRate === null
      ? fixed
        ? ["-", "-", "-", "-"]
        : []
      : [String(row.fixedRate.requestsPerSecond), one(row.fixedRate.cpuUs), ms(row.fixedRate.p50Us), ms(row.fixedRate.p99Us)]),
    row.idleRssAnonMb.toFixed(1),
    row.loadRssAnonMb.toFixed(1),
    `${(row.busyShare.median * 100).toFixed(0)} %`,
    `${(row.foreignShare.max * 100).toFixed(0)} %`,
  ]);
  return table([head, ...rows]);
}

/** System calls per unit: what is left out of a line is below 0.005. */
export function callTable(counts: readonly CallCount[]): string {
  const rows = counts.map((row) => [
    `${row.subject}${row.side === "proxy" ? "" : ` ${row.side.toUpperCase()}`}`,
    row.load ?? "",
    row.total.toFixed(2),
    Object.entries(row.calls)
      .map(([name, count]) => `${name} ${count.toFixed(2)}`)
      .join(", "),
  ]);
  return table([["subject", "load", `calls/${counts[0]?.unit ?? "request"}`, "which"], ...rows]);
}

/** TLS records of application data on the middle hop. */
export function recordTable(counts: readonly RecordCount[]): string {
  const rows = counts.map((row) => [
    row.subject,
    row.toServer.toFixed(2),
    row.toClient.toFixed(2),
    row.bytesToServer.toFixed(0),
    row.bytesToClient.toFixed(0),
    String(row.connections),
  ]);
  return table([["subject", "records/req A to B", "B to A", "bytes/req A to B", "B to A", "connections"], ...rows]);
}

/** Cases without load: the columns that any of the subjects has. "waited" is the part of a start during which others had the core. */
export function quietTable(figures: readonly QuietFigures[]): string {
  const columns: readonly (readonly [string, (row: QuietFigures) => string | undefined])[] = [
    ["load", (row) => row.load],
    ["took ms", (row) => show(row.tookMs)],
    ["x best peer", (row) => (row.timesBest === undefined ? undefined : one(row.timesBest, 2))],
    ["p99 ms", (row) => show(row.p99Ms)],
    ["failed", (row) => (row.failed === undefined ? undefined : one(row.failed, 0))],
    ["lost %", (row) => (row.lostPercent === undefined ? undefined : one(row.lostPercent, 2))],
    ["x unloaded", (row) => (row.timesIdle === undefined ? undefined : one(row.timesIdle, 2))],
    ["ready ms from exec", (row) => show(row.readyMs)],
    ["ran ms", (row) => show(row.ranMs)],
    ["waited ms", (row) => show(row.waitedMs)],
    ["KB each", (row) => (row.eachKb === undefined ? undefined : one(row.eachKb, 2))],
    ["grown MB", (row) => (row.grownMb === undefined ? undefined : one(row.grownMb))],
    ["req/s", (row) => (row.requestsPerSecond === undefined ? undefined : one(row.requestsPerSecond, 0))],
    ["private MB", (row) => (row.rssAnonMb === undefined ? undefined : one(row.rssAnonMb))],
  ];
  const present = columns.filter(([, read]) => figures.some((row) => read(row) !== undefined));
  const rows = figures.map((row) => [row.subject, ...present.map(([, read]) => read(row) ?? "-")]);
  return table([["subject", ...present.map(([name]) => name)], ...rows]);
}

const show = (value: Spread | undefined): string | undefined => (value === undefined ? undefined : range(value));

export function budgetTable(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map((verdict) => [
    verdict.budget,
    verdict.against === null ? "" : `/ ${verdict.against}`,
    verdict.value === null ? "-" : range(verdict.value, verdict.unit === "x" || verdict.unit === "KB" ? 2 : 1),
    `${verdict.bound === "least" ? ">= " : ""}${verdict.limit} ${verdict.unit}`,
    verdict.verdict,
  ]);
  const why = verdicts.filter((verdict) => verdict.why !== null).map((verdict) => `${verdict.budget}: ${verdict.why}`);
  return [table([["budget", "against", "value (min - max)", "limit", "verdict"], ...rows]), ...why].join("\n");
}
