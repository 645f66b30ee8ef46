// Owns: what has been used of each limit in its present window, here and (as far as they have told) at the other control planes. In memory alone: no request is
// a write to the store. Time comes by parameter. Knows neither policies nor callers.

/** Counters kept; a few hundred bytes each. Beyond it the one unused for longest goes, and begins anew when it is asked for again. */
export const mostCounters = 100_000;
/** Counters told to the other control planes in one go, the most used first. */
export const mostTold = 2_000;
/** Characters of their names: etcd takes no request above 1.5 MB. */
const mostToldSize = 400_000;
/** In a window shorter than this, what others tell comes too late: each control plane gives out its share of the limit. */
export const sharedWindowMs = 10_000;

interface Counter {
  /** Number of the window since 1970, as control planes agree on it by their clocks. */
  window: number;
  used: number;
  /** Of other control planes. */
  readonly elsewhere: Map<string, { window: number; used: number }>;
  readonly windowMs: number;
  /** Since it was last told. */
  changed: boolean;
}

/** What is asked of one counter. */
export interface Ask {
  readonly key: string;
  readonly limit: number;
  readonly windowMs: number;
}

export interface Usage {
  readonly over: boolean;
  readonly remaining: number;
  readonly resetMs: number;
}

/** What one control plane tells the others: key, window's length, window's number, used. */
export type Told = readonly (readonly [string, number, number, number])[];

export class Counters {
  readonly #counters = new Map<string, Counter>();
  /** Control planes that are there, this one among them. */
  planes = 1;

  get size(): number {
    return this.#counters.size;
  }

  /** Takes `hits` of each, unless one of them has not so many left: then of none, so that what is refused by one limit uses up no other. */
  take(asks: readonly Ask[], hits: number, nowMs: number): Usage[] {
    const counters = asks.map((ask) => this.#counter(ask, nowMs));
    const left = asks.map((ask, n) => this.#left(ask, counters[n] as Counter));
    const over = left.map((each) => each < hits);
    const take = !over.includes(true);
    return asks.map((ask, n) => {
      const counter = counters[n] as Counter;
      if (take && hits > 0) {
        counter.used += hits;
        counter.changed = true;
      }
      const remaining = Math.max(0, (left[n] as number) - (take ? hits : 0));
      return { over: over[n] as boolean, remaining, resetMs: (counter.window + 1) * ask.windowMs - nowMs };
    });
  }

  #left({ limit, windowMs }: Ask, counter: Counter): number {
    if (windowMs < sharedWindowMs) return Math.max(1, Math.floor(limit / this.planes)) - counter.used;
    let used = counter.used;
    for (const other of counter.elsewhere.values()) if (other.window === counter.window) used += other.used;
    return limit - used;
  }

  #counter({ key, windowMs }: Pick<Ask, "key" | "windowMs">, nowMs: number): Counter {
    const window = Math.floor(nowMs / windowMs);
    let found = this.#counters.get(key);
    // A limit with another window is another limit.
    if (found === undefined || found.windowMs !== windowMs) {
      if (found === undefined && this.#counters.size >= mostCounters) this.#counters.delete(this.#counters.keys().next().value as string);
      found = { window, used: 0, elsewhere: new Map(), windowMs, changed: false };
    } else if (found.window !== window) {
      found.window = window;
      found.used = 0;
      for (const [id, other] of found.elsewhere) if (other.window !== window) found.elsewhere.delete(id);
    }
    // The last used stand at the end.
    this.#counters.delete(key);
    this.#counters.set(key, found);
    return found;
  }

  /** For the others: what has been used here in windows that are not over; undefined = nothing new since the last time. */
  tell(nowMs: number): Told | undefined {
    let news = false;
    const out: [string, number, number, number][] = [];
    for (const [key, counter] of this.#counters) {
      if (counter.windowMs < sharedWindowMs || counter.used === 0 || counter.window !== Math.floor(nowMs / counter.windowMs)) continue;
      news ||= counter.changed;
      counter.changed = false;
      out.push([key, counter.windowMs, counter.window, counter.used]);
    }
    if (!news) return undefined;
    let size = 0;
    return out
      .sort((a, b) => b[3] - a[3])
      .slice(0, mostTold)
      .filter(([key]) => {
        size += key.length;
        return size <= mostToldSize;
      });
  }

  /** What another control plane has told; what it told before and tells no more still counts until its window ends, also when that control plane is gone. */
  hear(id: string, told: Told, nowMs: number): void {
    for (const [key, windowMs, window, used] of told) {
      if (window !== Math.floor(nowMs / windowMs)) continue;
      const counter = this.#counter({ key, windowMs }, nowMs);
      const before = counter.elsewhere.get(id);
      if (before === undefined || before.window !== window) counter.elsewhere.set(id, { window, used });
      else before.used = Math.max(before.used, used);
    }
  }

  /** Forgets windows that are over; called now and then. */
  sweep(nowMs: number): void {
    for (const [key, counter] of this.#counters) if (counter.window !== Math.floor(nowMs / counter.windowMs)) this.#counters.delete(key);
  }
}

/** Reads what another control plane has written; undefined: it is nothing of the kind. */
export function parseTold(text: string): Told | undefined {
  try {
    const told = JSON.parse(text) as unknown;
    if (!Array.isArray(told) || told.length > mostTold) return undefined;
    const fits = (row: unknown) =>
      Array.isArray(row) &&
      row.length === 4 &&
      typeof row[0] === "string" &&
      row.slice(1, 4).every((n) => Number.isSafeInteger(n) && (n as number) >= 0) &&
      row[1] > 0;
    return told.every(fits) ? (told as unknown as Told) : undefined;
  } catch {
    return undefined;
  }
}
