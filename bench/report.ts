// Owns: how figures look on a terminal and in JSON. Pure text; must never measure or judge.

import type { QuietFigures } from "./cases/idle.ts";
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
const ms = (value: Spread): string => (value.median / 1000).toFixed(2);

/** Cases under load. CPU times are microseconds a request (and a side, for a pair). */
export function loadTable(figures: readonly Figures[], pair: boolean): string {
  const head = [
    "subject",
    "cpu us (min - max)",
    "user",
    "kernel",
    ...(pair ? ["A us", "B us"] : []),
    "req/s",
    "p50 ms",
    "p99 ms",
    "@rate",
    "cpu us",
    "p50 ms",
    "p99 ms",
    "idle MB",
    "load MB",
    "core",
    "others",
  ];
  const rows = figures.map((row) => [
    row.subject,
    range(row.cpuUs),
    one(row.userUs),
    one(row.kernelUs),
    ...(pair ? [one(row.sidesUs.a!), one(row.sidesUs.b!)] : []),
    one(row.requestsPerSecond, 0),
    ms(row.p50Us),
    ms(row.p99Us),
    String(row.fixedRate.requestsPerSecond),
    one(row.fixedRate.cpuUs),
    ms(row.fixedRate.p50Us),
    ms(row.fixedRate.p99Us),
    row.idleRssAnonMb.toFixed(1),
    row.loadRssAnonMb.toFixed(1),
    `${(row.busyShare.median * 100).toFixed(0)} %`,
    `${(row.foreignShare.max * 100).toFixed(0)} %`,
  ]);
  return table([head, ...rows]);
}

/** Cases without load. "waited" is the part of a start during which others had the core. */
export function quietTable(figures: readonly QuietFigures[]): string {
  if (figures.some((row) => row.tookMs !== undefined))
    return table([["subject", "took ms"], ...figures.map((row) => [row.subject, row.tookMs === undefined ? "-" : range(row.tookMs)])]);
  const starts = figures.some((row) => row.readyMs !== undefined);
  const head = starts ? ["subject", "ready ms from exec", "ran ms", "waited ms"] : ["subject", "private MB"];
  const rows = figures.map((row) =>
    starts
      ? [row.subject, ...[row.readyMs, row.ranMs, row.waitedMs].map((value) => (value === undefined ? "-" : range(value)))]
      : [row.subject, row.rssAnonMb === undefined ? "-" : one(row.rssAnonMb)],
  );
  return table([head, ...rows]);
}

export function budgetTable(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map((verdict) => [
    verdict.budget,
    verdict.against === null ? "" : `/ ${verdict.against}`,
    verdict.value === null ? "-" : range(verdict.value, verdict.unit === "x" ? 2 : 1),
    `${verdict.limit} ${verdict.unit}`,
    verdict.why === null ? verdict.verdict : `${verdict.verdict}: ${verdict.why}`,
  ]);
  return table([["budget", "against", "value (min - max)", "limit", "verdict"], ...rows]);
}
