// Owns: how often each credential may ask: token buckets by user, and by address for credentials that are refused. Pure but for its state.

import type { Clock } from "../../base/clock.ts";
import type { Caller } from "./deps.ts";

export interface RateLimits {
  /** Takes one request of this caller. 0 = go on; else seconds until there is room. */
  take(caller: Caller): number;
  /** A refused credential from this address. 0 = say why; else seconds until its next try is looked at. */
  refused(address: string): number;
}

export interface RateOptions {
  /** Requests a second of one user or service account; 0 = no limit. The administrator has none. */
  readonly perSecond: number;
}

export const defaultRatePerSecond = 200;
/** A burst of so many seconds' worth: clients list and watch every kind when they start. */
const burstSeconds = 5;
/** Wrong credentials: somebody guesses, or a program was left with an old one. */
const refusedPerSecond = 5;
const refusedBurst = 50;
/** Users and addresses remembered; those that have been quiet longest are forgotten, which is to their favour. */
const maxBuckets = 10_000;

class Buckets {
  readonly #clock: Clock;
  readonly #perSecond: number;
  readonly #burst: number;
  /** In order of last use. */
  readonly #byKey = new Map<string, { left: number; atMs: number }>();

  constructor(clock: Clock, perSecond: number, burst: number) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#burst = burst;
  }

  /** 0 = taken; else seconds to wait. */
  take(key: string): number {
    const now = this.#clock.mono();
    const known = this.#byKey.get(key);
    const left = known === undefined ? this.#burst : Math.min(this.#burst, known.left + ((now - known.atMs) / 1000) * this.#perSecond);
    const enough = left >= 1;
    this.#byKey.delete(key);
    this.#byKey.set(key, { left: enough ? left - 1 : left, atMs: now });
    if (this.#byKey.size > maxBuckets) {
      const [oldest] = this.#byKey.keys();
      if (oldest !== undefined) this.#byKey.delete(oldest);
    }
    return enough ? 0 : Math.max(1, Math.ceil((1 - left) / this.#perSecond));
  }
}

export function rateLimits(clock: Clock, options: RateOptions): RateLimits {
  const callers = options.perSecond === 0 ? undefined : new Buckets(clock, options.perSecond, options.perSecond * burstSeconds);
  const addresses = new Buckets(clock, refusedPerSecond, refusedBurst);
  return {
    take: (caller) => (caller.kind === "admin" ? 0 : (callers?.take(caller.user) ?? 0)),
    refused: (address) => addresses.take(address),
  };
}
