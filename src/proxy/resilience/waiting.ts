// Owns: a bounded queue of requests for a service that is full: by criticality first, then in turn between those who share it (so that nobody's flood takes
// what others need), and with a bound on the wait that falls once the queue does not empty (controlled delay). Decides; calls nobody.

/** How much a request matters, best first. */
export const level = { critical: 0, standard: 1, sheddable: 2 } as const;
export const levels = 3;

export interface Waiting {
  /** One of `level`. */
  readonly level: number;
  /** Who it shares the queue with: requests of one key take one turn. */
  readonly key: string;
  readonly sinceMs: number;
  /** Left by itself, or was taken: passed over. */
  gone: boolean;
}

/** A queue that has not been empty for this long is one that does not drain. */
export const standingMs = 100;
/** A burst that drains may wait for so many times the target. */
const burst = 3;

interface Lane<T> {
  readonly key: string;
  readonly items: T[];
}

export class WaitingRoom<T extends Waiting> {
  size = 0;
  readonly #levels: Lane<T>[][] = Array.from({ length: levels }, () => []);
  #emptyAtMs = 0;

  /** Takes it in, and returns whom that puts out: another, itself, or null for nobody. `most` is how many may wait. */
  add(item: T, most: number, nowMs: number): T | null {
    if (this.size === 0) this.#emptyAtMs = nowMs;
    this.#put(item);
    if (this.size <= most) return null;
    // Of the least important, the newest of whoever has the most.
    for (let at = levels - 1; at >= 0; at--) {
      let longest: Lane<T> | null = null;
      for (const lane of this.#levels[at] as Lane<T>[]) if (longest === null || lane.items.length > longest.items.length) longest = lane;
      const victim = longest?.items.findLast((one) => !one.gone);
      if (victim === undefined) continue;
      this.remove(victim);
      return victim;
    }
    return null;
  }

  /** The next one; undefined: none waits. The newest of its key where the queue stands: the oldest have waited for nothing already. */
  next(nowMs: number): T | undefined {
    for (const lanes of this.#levels) {
      while (lanes.length > 0) {
        const lane = lanes.shift() as Lane<T>;
        const items = lane.items;
        let found: T | undefined;
        while (items.length > 0 && found === undefined) {
          const one = (this.standing(nowMs) ? items.pop() : items.shift()) as T;
          if (!one.gone) found = one;
        }
        if (items.length > 0) lanes.push(lane);
        if (found === undefined) continue;
        found.gone = true;
        this.size--;
        return found;
      }
    }
    return undefined;
  }

  /** Those who have waited for longer than they may, which then wait no more. */
  expired(nowMs: number, targetMs: number): T[] {
    const most = this.standing(nowMs) ? targetMs : targetMs * burst;
    const out: T[] = [];
    for (const lanes of this.#levels) {
      for (let l = lanes.length - 1; l >= 0; l--) {
        const { items } = lanes[l] as Lane<T>;
        while (items.length > 0) {
          const oldest = items[0] as T;
          if (!oldest.gone && nowMs - oldest.sinceMs < most) break;
          items.shift();
          if (oldest.gone) continue;
          oldest.gone = true;
          this.size--;
          out.push(oldest);
        }
        if (items.length === 0) lanes.splice(l, 1);
      }
    }
    return out;
  }

  /** It waits no more, for reasons of its own. */
  remove(item: T): void {
    if (item.gone) return;
    item.gone = true;
    this.size--;
  }

  standing(nowMs: number): boolean {
    return this.size > 0 && nowMs - this.#emptyAtMs >= standingMs;
  }

  #put(item: T): void {
    const lanes = this.#levels[item.level] as Lane<T>[];
    this.size++;
    for (const lane of lanes) {
      if (lane.key !== item.key) continue;
      lane.items.push(item);
      return;
    }
    lanes.push({ key: item.key, items: [item] });
  }
}
