// Owns: what one edge did in each of the last seconds: a ring of one-second cells in one typed array. Bounded by construction. Pure.

import { addCounts, cellOf, type Histogram, istioBounds, sameBounds } from "./histogram.ts";

/** Five minutes and half a one, so that a five-minute question is answered whole. */
export const ringSeconds = 330;

const requests = 0;
const failures = 1;
const bytes = 2;
const plain = 3;
const fixed = 4;

/** What happened, to be added. All may be fractions: a late report is spread over the seconds it is about. */
export interface Amounts {
  readonly requests?: number;
  readonly failures?: number;
  readonly bytes?: number;
  /** Requests or connections without mutual TLS. */
  readonly plain?: number;
}

export interface Totals {
  requests: number;
  failures: number;
  bytes: number;
  plain: number;
  readonly bounds: readonly number[];
  readonly latency: Float64Array;
}

export class Window {
  #bounds: readonly number[] = istioBounds;
  #stride = fixed + istioBounds.length + 1;
  #cells = new Float32Array(0);
  /** The second each cell is about; a cell of another second is empty. */
  #seconds = new Float64Array(0);
  #lastSecond = Number.NEGATIVE_INFINITY;

  /** The newest second that anything happened in. */
  get lastSecond(): number {
    return this.#lastSecond;
  }

  add(second: number, amounts: Amounts): void {
    const at = this.#cell(second);
    const cells = this.#cells;
    cells[at + requests] = (cells[at + requests] as number) + (amounts.requests ?? 0);
    cells[at + failures] = (cells[at + failures] as number) + (amounts.failures ?? 0);
    cells[at + bytes] = (cells[at + bytes] as number) + (amounts.bytes ?? 0);
    cells[at + plain] = (cells[at + plain] as number) + (amounts.plain ?? 0);
  }

  /** Adds `share` of a latency histogram. The first one seen sets the bounds kept. */
  addLatency(second: number, histogram: Histogram, share: number): void {
    if (this.#cells.length === 0 && histogram.bounds.length > 0) {
      this.#bounds = histogram.bounds;
      this.#stride = fixed + histogram.bounds.length + 1;
    }
    const same = sameBounds(this.#bounds, histogram.bounds);
    const at = this.#cell(second) + fixed;
    for (let cell = 0; cell < histogram.counts.length; cell++) {
      const count = histogram.counts[cell] as number;
      if (count === 0) continue;
      const target = at + (same ? cell : cellOf(this.#bounds, histogram.bounds[cell] ?? Number.POSITIVE_INFINITY));
      this.#cells[target] = (this.#cells[target] as number) + count * share;
    }
  }

  /** Everything from second `from` up to but not `to`. */
  sum(from: number, to: number, into: Totals = emptyTotals(this.#bounds)): Totals {
    if (this.#cells.length === 0) return into;
    for (let second = Math.max(from, to - ringSeconds); second < to; second++) {
      const slot = ((second % ringSeconds) + ringSeconds) % ringSeconds;
      if (this.#seconds[slot] !== second) continue;
      const at = slot * this.#stride;
      into.requests += this.#cells[at + requests] as number;
      into.failures += this.#cells[at + failures] as number;
      into.bytes += this.#cells[at + bytes] as number;
      into.plain += this.#cells[at + plain] as number;
      addCounts(into.bounds, into.latency, { bounds: this.#bounds, counts: this.#cells.subarray(at + fixed, at + this.#stride) });
    }
    return into;
  }

  get bounds(): readonly number[] {
    return this.#bounds;
  }

  #cell(second: number): number {
    if (this.#cells.length === 0) {
      this.#cells = new Float32Array(ringSeconds * this.#stride);
      this.#seconds = new Float64Array(ringSeconds).fill(Number.NEGATIVE_INFINITY);
    }
    this.#lastSecond = Math.max(this.#lastSecond, second);
    const slot = ((second % ringSeconds) + ringSeconds) % ringSeconds;
    const at = slot * this.#stride;
    if (this.#seconds[slot] !== second) {
      this.#seconds[slot] = second;
      this.#cells.fill(0, at, at + this.#stride);
    }
    return at;
  }
}

export function emptyTotals(bounds: readonly number[]): Totals {
  return { requests: 0, failures: 0, bytes: 0, plain: 0, bounds, latency: new Float64Array(bounds.length + 1) };
}
