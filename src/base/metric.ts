// Owns: metric families and their series. A hot path keeps the series object and bumps its field; nothing is looked up per event.
// Never formats: exposition is `proxy/telemetry` (text, protobuf) and `control` (text).

export type MetricKind = "counter" | "gauge" | "histogram";

/** A counter or a gauge: add to `value` directly. */
export interface Series {
  readonly labels: readonly string[];
  value: number;
}

/** Cumulative on export; here each cell counts its own bucket. `counts` has one cell more than `bounds` (+Inf). */
export interface HistogramSeries {
  readonly labels: readonly string[];
  readonly counts: Float64Array;
  sum: number;
}

export interface Family<S> {
  readonly name: string;
  readonly help: string;
  readonly kind: MetricKind;
  readonly labelNames: readonly string[];
  /** Upper bounds, ascending, without +Inf; empty unless a histogram. */
  readonly bounds: readonly number[];
  /** All series in order of creation. */
  readonly series: readonly S[];
  /** The series with these label values (in the order of `labelNames`), made on first use. Call at configuration time, not per event. */
  with(labels: readonly string[]): S;
  /** Forgets a series, so that it is no longer exported. */
  remove(series: S): void;
}

export type AnyFamily = Family<Series> | Family<HistogramSeries>;

/** What exporters read: every family, freshly collected. */
export interface MetricSource {
  families(): readonly AnyFamily[];
}

export class MetricRegistry implements MetricSource {
  readonly #families = new Map<string, AnyFamily>();
  readonly #beforeExport: (() => void)[] = [];

  counter(name: string, help: string, labelNames: readonly string[] = []): Family<Series> {
    return this.#add(name, help, "counter", labelNames, [], (labels): Series => ({ labels, value: 0 }));
  }

  gauge(name: string, help: string, labelNames: readonly string[] = []): Family<Series> {
    return this.#add(name, help, "gauge", labelNames, [], (labels): Series => ({ labels, value: 0 }));
  }

  histogram(name: string, help: string, labelNames: readonly string[], bounds: readonly number[]): Family<HistogramSeries> {
    const make = (labels: readonly string[]): HistogramSeries => ({ labels, counts: new Float64Array(bounds.length + 1), sum: 0 });
    return this.#add(name, help, "histogram", labelNames, bounds, make);
  }

  /** Runs before each export; for gauges that are read rather than kept. */
  beforeExport(run: () => void): void {
    this.#beforeExport.push(run);
  }

  /** Every family, in order of creation, freshly collected. */
  families(): readonly AnyFamily[] {
    for (const run of this.#beforeExport) run();
    return [...this.#families.values()];
  }

  #add<S extends { readonly labels: readonly string[] }>(
    name: string,
    help: string,
    kind: MetricKind,
    labelNames: readonly string[],
    bounds: readonly number[],
    make: (labels: readonly string[]) => S,
  ): Family<S> {
    if (this.#families.has(name)) throw new Error(`metric ${name} is registered twice`);
    const byKey = new Map<string, S>();
    const list: S[] = [];
    const family: Family<S> = {
      name,
      help,
      kind,
      labelNames,
      bounds,
      series: list,
      with(labels) {
        if (labels.length !== labelNames.length) throw new Error(`metric ${name} takes ${labelNames.length} labels, got ${labels.length}`);
        const key = labels.join("\u0000");
        let found = byKey.get(key);
        if (found === undefined) {
          found = make([...labels]);
          byKey.set(key, found);
          list.push(found);
        }
        return found;
      },
      remove(series) {
        const at = list.indexOf(series);
        if (at >= 0) list.splice(at, 1);
        byKey.delete(series.labels.join("\u0000"));
      },
    };
    this.#families.set(name, family as unknown as AnyFamily);
    return family;
  }
}

/** Adds one observation. Linear scan: bounds are few and most observations land in the first cells. */
export function observe(series: HistogramSeries, bounds: readonly number[], value: number): void {
  let cell = 0;
  while (cell < bounds.length && value > (bounds[cell] as number)) cell++;
  series.counts[cell]!++;
  series.sum += value;
}
