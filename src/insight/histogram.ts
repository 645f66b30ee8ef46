// Owns: latency histograms with bounds: adding one to another of different bounds, and reading quantiles. Pure.
// A count array has one cell more than its bounds: the last is for everything above.

export interface Histogram {
  /** Upper bounds, ascending, without infinity. */
  readonly bounds: readonly number[];
  readonly counts: ArrayLike<number>;
}

/** Istio's own bounds, in milliseconds; used until a proxy sends others. */
export const istioBounds: readonly number[] = [0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000];

/** The cell of `bounds` that takes observations counted under `bound`. */
export function cellOf(bounds: readonly number[], bound: number): number {
  let cell = 0;
  while (cell < bounds.length && bound > (bounds[cell] as number)) cell++;
  return cell;
}

export function sameBounds(a: readonly number[], b: readonly number[]): boolean {
  return a === b || (a.length === b.length && a.every((bound, at) => bound === b[at]));
}

/** Adds `from` to `into`, which has `bounds`. With different bounds an observation lands in the cell that surely covers it. */
export function addCounts(bounds: readonly number[], into: Float64Array, from: Histogram): void {
  const same = sameBounds(bounds, from.bounds);
  for (let cell = 0; cell < from.counts.length; cell++) {
    const count = from.counts[cell] as number;
    if (count === 0) continue;
    const target = same ? cell : cellOf(bounds, from.bounds[cell] ?? Number.POSITIVE_INFINITY);
    into[target] = (into[target] as number) + count;
  }
}

/**
 * The q-quantile (0 to 1) by linear interpolation within its cell, as Prometheus's histogram_quantile has it: the first cell begins at 0,
 * and beyond the last bound that bound is answered. null when nothing was counted.
 */
export function quantile(histogram: Histogram, q: number): number | null {
  const { bounds, counts } = histogram;
  let total = 0;
  for (let cell = 0; cell < counts.length; cell++) total += counts[cell] as number;
  if (total <= 0) return null;
  const rank = q * total;
  let below = 0;
  for (let cell = 0; cell < bounds.length; cell++) {
    const count = counts[cell] as number;
    if (count > 0 && below + count >= rank) {
      const low = cell === 0 ? 0 : (bounds[cell - 1] as number);
      const high = bounds[cell] as number;
      return low + ((high - low) * (rank - below)) / count;
    }
    below += count;
  }
  return bounds.at(-1) ?? null;
}
