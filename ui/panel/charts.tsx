// Owns: the three charts of a panel (rate, success, latency) from one series answer.

import { type ReactNode, useMemo } from "react";
import type { SeriesAnswer } from "../../src/api/live.ts";
import { duration, rate, span, success } from "../model/format.ts";
import { Chart, type ChartLine } from "./chart.tsx";

export function Charts({ series, theme, unit }: { series: SeriesAnswer; theme: string; unit: string }): ReactNode {
  const { points } = series;
  const atSeconds = useMemo(() => points.map((p) => p.at / 1000), [points]);
  const lines = useMemo(
    () => ({
      rate: [{ name: "rate", color: "--accent", fill: true, values: points.map((p) => p.requestsPerSecond) }],
      success: [{ name: "success", color: "--good", values: points.map((p) => p.successRatio) }],
      latency: [
        { name: "p50", color: "--accent", values: points.map((p) => p.p50Ms) },
        { name: "p99", color: "--second", dashed: true, values: points.map((p) => p.p99Ms) },
      ],
    }),
    [points],
  );
  if (points.length === 0) return <p className="quiet">No measurements yet.</p>;
  const covered = span(points.length * series.stepSeconds * 1000);
  return (
    <section className="charts" aria-label={`Last ${covered}`}>
      <h3>
        Last minutes{" "}
        <small>
          {covered}, one point each {series.stepSeconds} s
        </small>
      </h3>
      <Chart title={unit} atSeconds={atSeconds} lines={lines.rate} format={perSecond} range={fromZero} theme={theme} />
      {hasAny(lines.success) && (
        <Chart title="Success" atSeconds={atSeconds} lines={lines.success} format={success} range={nearOne} theme={theme} />
      )}
      {hasAny(lines.latency) && (
        <Chart title="Latency" atSeconds={atSeconds} lines={lines.latency} format={duration} range={fromZero} theme={theme} />
      )}
    </section>
  );
}

function perSecond(value: number | null): string {
  return value === null ? "–" : `${rate(value)}/s`;
}

function fromZero(_min: number, max: number): [number, number] {
  return [0, max > 0 ? max * 1.12 : 1];
}

/** At least from 90 % to 100 %, so that a flat healthy line looks flat; lower when the data is. */
function nearOne(min: number): [number, number] {
  return [Math.max(0, Math.min(0.9, min - 0.03)), 1.005];
}

/** Opaque TCP has no ratio and no latency: an empty chart would only puzzle. */
function hasAny(lines: readonly ChartLine[]): boolean {
  return lines.some((line) => line.values.some((value) => value !== null));
}
