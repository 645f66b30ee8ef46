// Owns: the Prometheus text exposition format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). Never collects anything.

import type { AnyFamily, Family, HistogramSeries, MetricSource, Series } from "../../base/metric.ts";

export const prometheusContentType = "text/plain; version=0.0.4; charset=utf-8";

/** Everything in the registry as text. Families without series are left out, as there is nothing to say of them. */
export function prometheusText(metrics: MetricSource): string {
  let out = "";
  for (const family of metrics.families()) {
    if (family.series.length === 0) continue;
    out += `# HELP ${family.name} ${family.help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}\n# TYPE ${family.name} ${family.kind}\n`;
    out += isHistogram(family) ? histogramLines(family) : plainLines(family as Family<Series>);
  }
  return out;
}

export function isHistogram(family: AnyFamily): family is Family<HistogramSeries> {
  return family.kind === "histogram";
}

function plainLines(family: Family<Series>): string {
  let out = "";
  for (const series of family.series) {
    const labels = labelText(family.labelNames, series.labels);
    out += `${family.name}${labels === "" ? "" : `{${labels}}`} ${numberText(series.value)}\n`;
  }
  return out;
}

function histogramLines(family: Family<HistogramSeries>): string {
  let out = "";
  for (const series of family.series) {
    const labels = labelText(family.labelNames, series.labels);
    const lead = labels === "" ? "" : `${labels},`;
    const tail = labels === "" ? "" : `{${labels}}`;
    let count = 0;
    for (let cell = 0; cell < series.counts.length; cell++) {
      count += series.counts[cell] as number;
      const bound = cell < family.bounds.length ? numberText(family.bounds[cell] as number) : "+Inf";
      out += `${family.name}_bucket{${lead}le="${bound}"} ${count}\n`;
    }
    out += `${family.name}_sum${tail} ${numberText(series.sum)}\n${family.name}_count${tail} ${count}\n`;
  }
  return out;
}

function labelText(names: readonly string[], values: readonly string[]): string {
  let out = "";
  for (let n = 0; n < names.length; n++) out += `${n === 0 ? "" : ","}${names[n]}="${escapeLabel(values[n] as string)}"`;
  return out;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function numberText(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  return String(value);
}
