// Owns: one view of the metrics of several processes: what each tells (only what changed), and their sum. A counter never goes backwards: what a process
// that ended has counted stays in the sum; its gauges leave it. Never formats.

import type { AnyFamily, HistogramSeries, MetricKind, MetricSource, Series } from "../../base/metric.ts";

/** What changed in a registry since the last time. Plain data. */
export interface MetricsDelta {
  readonly families: readonly {
    readonly id: number;
    readonly name: string;
    readonly help: string;
    readonly kind: MetricKind;
    readonly labelNames: readonly string[];
    readonly bounds: readonly number[];
  }[];
  readonly series: readonly { readonly id: number; readonly family: number; readonly labels: readonly string[] }[];
  /** Counters and gauges: id, value, one after another. */
  readonly values: Float64Array;
  readonly histograms: readonly { readonly id: number; readonly counts: Float64Array; readonly sum: number }[];
  /** Series that are no longer there. */
  readonly gone: readonly number[];
}

/** Tells what changed in one registry; for one reader, who takes every delta in order. */
export class MetricsTeller {
  readonly #metrics: MetricSource;
  readonly #skip: (name: string, kind: MetricKind) => boolean;
  readonly #families = new Map<string, number>();
  #series = new Map<object, { readonly id: number; last: number }>();
  #nextSeries = 0;

  constructor(metrics: MetricSource, skip: (name: string, kind: MetricKind) => boolean = () => false) {
    this.#metrics = metrics;
    this.#skip = skip;
  }

  next(): MetricsDelta {
    const families: MetricsDelta["families"][number][] = [];
    const fresh: MetricsDelta["series"][number][] = [];
    const values: number[] = [];
    const histograms: MetricsDelta["histograms"][number][] = [];
    const present = new Map<object, { readonly id: number; last: number }>();
    for (const family of this.#metrics.families()) {
      if (this.#skip(family.name, family.kind)) continue;
      let familyId = this.#families.get(family.name);
      if (familyId === undefined) {
        familyId = this.#families.size;
        this.#families.set(family.name, familyId);
        const { name, help, kind, labelNames, bounds } = family;
        families.push({ id: familyId, name, help, kind, labelNames, bounds });
      }
      for (const one of family.series as readonly (Series | HistogramSeries)[]) {
        let known = this.#series.get(one);
        if (known === undefined) {
          known = { id: this.#nextSeries++, last: Number.NaN };
          fresh.push({ id: known.id, family: familyId, labels: one.labels });
        }
        present.set(one, known);
        // A merged series has the fields of both kinds.
        const histogram = family.kind === "histogram" ? (one as HistogramSeries) : null;
        const mark = histogram !== null ? total(histogram.counts) : (one as Series).value;
        if (Object.is(mark, known.last)) continue;
        known.last = mark;
        if (histogram !== null) histograms.push({ id: known.id, counts: histogram.counts.slice(), sum: histogram.sum });
        else values.push(known.id, mark);
      }
    }
    const gone: number[] = [];
    for (const [one, known] of this.#series) if (!present.has(one)) gone.push(known.id);
    this.#series = present;
    return { families, series: fresh, values: Float64Array.from(values), histograms, gone };
  }
}

function total(counts: Float64Array): number {
  let sum = 0;
  for (const count of counts) sum += count;
  return sum;
}

interface MergedSeries {
  readonly labels: readonly string[];
  value: number;
  readonly counts: Float64Array;
  sum: number;
}

interface MergedFamily {
  readonly name: string;
  readonly help: string;
  readonly kind: MetricKind;
  readonly labelNames: readonly string[];
  readonly bounds: readonly number[];
  readonly series: MergedSeries[];
  readonly byKey: Map<string, MergedSeries>;
}

/** What one process has told so far. */
export class MetricsPart {
  readonly families = new Map<number, MergedFamily>();
  readonly series = new Map<
    number,
    { readonly kind: MetricKind; readonly merged: MergedSeries; value: number; counts: Float64Array | null; sum: number }
  >();
}

/** The sum of several processes. Series keep their identity from one export to the next. */
export class MergedMetrics implements MetricSource {
  readonly #families = new Map<string, MergedFamily>();
  readonly #own: MetricsTeller;
  readonly #ownPart = new MetricsPart();
  /** Runs before each export. */
  onExport: () => void = () => {};

  constructor(own: MetricSource) {
    this.#own = new MetricsTeller(own);
  }

  families(): readonly AnyFamily[] {
    this.onExport();
    this.take(this.#ownPart, this.#own.next());
    return [...this.#families.values()] as unknown as readonly AnyFamily[];
  }

  take(part: MetricsPart, delta: MetricsDelta): void {
    for (const one of delta.families) part.families.set(one.id, this.#family(one));
    for (const one of delta.series) {
      const family = part.families.get(one.family);
      if (family === undefined) continue;
      part.series.set(one.id, { kind: family.kind, merged: seriesIn(family, one.labels), value: 0, counts: null, sum: 0 });
    }
    for (let n = 0; n + 1 < delta.values.length; n += 2) {
      const known = part.series.get(delta.values[n] as number);
      if (known === undefined) continue;
      const value = delta.values[n + 1] as number;
      known.merged.value += value - known.value;
      known.value = value;
    }
    for (const one of delta.histograms) {
      const known = part.series.get(one.id);
      if (known === undefined) continue;
      const { merged } = known;
      for (let cell = 0; cell < merged.counts.length; cell++)
        merged.counts[cell] = (merged.counts[cell] as number) + (one.counts[cell] ?? 0) - (known.counts?.[cell] ?? 0);
      merged.sum += one.sum - known.sum;
      known.counts = one.counts;
      known.sum = one.sum;
    }
    for (const id of delta.gone) this.#forget(part, id);
  }

  /** The process has ended: its gauges no longer count, the rest stays. */
  end(part: MetricsPart): void {
    for (const id of [...part.series.keys()]) this.#forget(part, id);
    part.families.clear();
  }

  #forget(part: MetricsPart, id: number): void {
    const known = part.series.get(id);
    if (known?.kind === "gauge") known.merged.value -= known.value;
    part.series.delete(id);
  }

  #family(of: MetricsDelta["families"][number]): MergedFamily {
    let family = this.#families.get(of.name);
    if (family === undefined) {
      const { name, help, kind, labelNames, bounds } = of;
      family = { name, help, kind, labelNames, bounds, series: [], byKey: new Map() };
      this.#families.set(name, family);
    }
    return family;
  }
}

function seriesIn(family: MergedFamily, labels: readonly string[]): MergedSeries {
  const key = labels.join("\u0000");
  let found = family.byKey.get(key);
  if (found === undefined) {
    found = { labels, value: 0, counts: new Float64Array(family.kind === "histogram" ? family.bounds.length + 1 : 0), sum: 0 };
    family.byKey.set(key, found);
    family.series.push(found);
  }
  return found;
}
