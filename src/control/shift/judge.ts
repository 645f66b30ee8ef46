// Owns: whether a newer backend does as well as it must, from counts that are looked at again and again. Pure.
//
// The test. Under "each request fails with a probability of at most p0", the likelihood ratio of any larger p against p0 is a supermartingale, and so is a
// mixture of several. By Ville's inequality it ever exceeds 1/alpha with a probability of at most alpha: however often one looks, and whenever one stops
// looking. (A test made for one look, repeated every second, would take nearly every good version back sooner or later.) Ville 1939; Robbins 1970;
// Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021.

import { quantile } from "../../insight/histogram.ts";
import type { Totals } from "../../insight/window.ts";

/** How often a backend that is within the limit may be taken back all the same. */
export const falseAlarm = 0.01;
/** How much larger than p0 the alternatives are. */
const alternatives = [1.25, 1.5, 2, 3, 5, 10, 20, 50, 100] as const;
/** A limit of nothing at all would call the first failure of a million proof. */
const leastShare = 0.0001;

/** Is it shown, at `falseAlarm`, that more than the share `p0` of `total` trials fail? Counts may be fractions. */
export function exceeds(p0: number, failures: number, total: number): boolean {
  if (total <= 0 || failures <= 0 || p0 >= 1) return false;
  const null0 = Math.max(p0, leastShare);
  const bad = Math.min(failures, total);
  let sum = 0;
  let count = 0;
  for (const times of alternatives) {
    const p = Math.min(null0 * times, null0 + (1 - null0) * 0.95);
    const log = bad * Math.log(p / null0) + (total - bad) * Math.log((1 - p) / (1 - null0));
    sum += Math.exp(Math.min(log, 600));
    count++;
  }
  return sum / count >= 1 / falseAlarm;
}

/** Upper end of Wilson's interval for a share, at 99.5 % on that side: what the older backend may well do. */
export function upperShare(failures: number, total: number): number {
  if (total <= 0) return 0;
  const z = 2.576;
  const share = Math.min(1, failures / total);
  const middle = share + (z * z) / (2 * total);
  const spread = z * Math.sqrt((share * (1 - share) + (z * z) / (4 * total)) / total);
  return Math.min(1, (middle + spread) / (1 + (z * z) / total));
}

/** What the older backend did. `slowMs` null: latency is not judged. */
export interface Baseline {
  readonly requests: number;
  readonly failures: number;
  readonly slowMs: number | null;
  readonly slow: number;
}

/** Requests that took longer than `ms`, which is a bound of the histogram or above one: those of the cells that begin there. */
export function slowerThan(totals: Totals, ms: number): number {
  let slow = 0;
  for (let cell = 0; cell < totals.latency.length; cell++) {
    const from = cell === 0 ? 0 : (totals.bounds[cell - 1] as number);
    if (from >= ms) slow += totals.latency[cell] as number;
  }
  return slow;
}

/** `factor` 0: latency is not judged. */
export function baselineOf(older: Totals, factor: number): Baseline {
  const { requests, failures } = older;
  const p90 = factor === 0 ? null : quantile({ bounds: older.bounds, counts: older.latency }, 0.9);
  // Up to the next bound of the histogram: within a cell nothing can be told apart.
  const slowMs = p90 === null ? null : (older.bounds.find((bound) => bound >= p90 * factor) ?? null);
  return { requests, failures, slowMs, slow: slowMs === null ? 0 : slowerThan(older, slowMs) };
}

/** undefined: nothing speaks against it; otherwise what does, as a sentence. */
export function fault(newer: Totals, older: Baseline, maxErrorRate: number): string | undefined {
  const { requests, failures } = newer;
  const allowed = Math.max(maxErrorRate, upperShare(older.failures, older.requests));
  if (maxErrorRate === 0 && older.failures === 0 && failures >= 0.5)
    return `${Math.round(failures)} of ${Math.round(requests)} requests failed, and none may`;
  if (exceeds(allowed, failures, requests))
    return `${percent(failures / requests)} of ${Math.round(requests)} requests failed; allowed are ${percent(maxErrorRate)}, and the older backend failed ${percent(share(older.failures, older.requests))}`;
  if (older.slowMs === null) return undefined;
  const slow = slowerThan(newer, older.slowMs);
  const counted = newer.latency.reduce((sum, each) => sum + each, 0);
  if (!exceeds(Math.max(0.02, upperShare(older.slow, older.requests)), slow, counted)) return undefined;
  return `${percent(share(slow, counted))} of ${Math.round(counted)} requests took longer than ${older.slowMs} ms; of the older backend's ${percent(share(older.slow, older.requests))}`;
}

function share(part: number, whole: number): number {
  return whole <= 0 ? 0 : Math.min(1, part / whole);
}

function percent(value: number): string {
  return `${Number((value * 100).toPrecision(2))} %`;
}
