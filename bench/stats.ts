// Owns: the few numbers a row is made of (median, spread, ratios of paired rounds). Pure; must never look at processes or clocks.

/** Middle of the spread of several rounds. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** In the order of the rounds. */
  readonly rounds: readonly number[];
}

/** Median of at least one number; the mean of the middle two for an even count. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("median of no values");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Median, least and greatest of the rounds. */
export function spread(rounds: readonly number[]): Spread {
  return { median: median(rounds), min: Math.min(...rounds), max: Math.max(...rounds), rounds };
}

/**
 * Ratios of two subjects that were measured alternately, taken round by round: what disturbed the machine in one round
 * disturbed both sides of that ratio. Rounds that only one of them has are left out.
 */
export function pairedRatio(numerator: readonly number[], denominator: readonly number[]): Spread {
  const count = Math.min(numerator.length, denominator.length);
  const ratios: number[] = [];
  for (let i = 0; i < count; i++) ratios.push(numerator[i]! / denominator[i]!);
  return spread(ratios);
}

/** The value below which `share` (0..1) of the sorted samples lie; nearest rank. */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  if (sorted.length === 0) return Number.NaN;
  const rank = Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1));
  return sorted[rank]!;
}

/**
 * By how much the lowest value of the second half lies above that of the first. Of a figure that climbs until a collection and falls back, only what
 * stays after collections counts: a line through all of it rises or falls with the place where the measuring happened to end.
 */
export function riseOfFloor(values: readonly number[]): number {
  const middle = values.length >> 1;
  return Math.min(...values.slice(middle)) - Math.min(...values.slice(0, middle));
}
