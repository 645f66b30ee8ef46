// Owns: the endpoints among which one choice is made, with what each policy keeps about them: running sums of weights, the ring, the table. What a policy
// does not need is not made, and what is costly is made when it is first asked. Never decides who is in it: layout.ts does.

import type { BalanceConfig } from "../config.ts";
import type { Endpoint } from "./endpoint.ts";
import { Maglev } from "./maglev.ts";
import { Ring, ringKey } from "./ring.ts";

const none: readonly Endpoint[] = [];

export class Pool {
  members: readonly Endpoint[] = none;
  /** Running sums of weights; null when all are equal. */
  cumulative: Float64Array | null = null;
  rotation = 0;
  #ring: Ring | null = null;
  #maglev: Maglev | null = null;
  /** Members or weights have changed since ring or table were made. */
  #stale = true;
  /** Which of them: [from, to). */
  #staleFrom = 0;
  #staleTo = 0;

  assign(members: readonly Endpoint[]): void {
    this.members = members;
    this.#stale = true;
    this.#staleFrom = 0;
    this.#staleTo = members.length;
    this.reweigh();
  }

  /** As `assign`, where only [from, to) may be others than before. */
  swap(members: readonly Endpoint[], from: number, to: number): void {
    this.members = members;
    // Two changes one after the other: where the first was is anywhere by now.
    this.#staleFrom = this.#stale ? 0 : from;
    this.#staleTo = this.#stale ? members.length : to;
    this.#stale = true;
    if (this.cumulative === null && members.length > 0) {
      const { weight } = members[from > 0 ? 0 : members.length - 1] as Endpoint;
      let equal = true;
      for (let i = from; equal && i < to; i++) equal = (members[i] as Endpoint).weight === weight;
      if (equal) return;
    }
    this.reweigh();
  }

  /** Weights may have changed. */
  reweigh(): void {
    const members = this.members;
    const first = members.length === 0 ? 1 : (members[0] as Endpoint).weight;
    let equal = true;
    for (let i = 1; i < members.length; i++) {
      if ((members[i] as Endpoint).weight === first) continue;
      equal = false;
      break;
    }
    if (equal) {
      this.cumulative = null;
      return;
    }
    const sums = this.cumulative?.length === members.length ? this.cumulative : new Float64Array(members.length);
    let sum = 0;
    for (let i = 0; i < members.length; i++) {
      sum += (members[i] as Endpoint).weight;
      sums[i] = sum;
    }
    this.cumulative = sums;
  }

  /** The `attempt`-th choice for a key; 0 = the first. Members must not be empty. */
  hashed(policy: BalanceConfig & { kind: "ring_hash" | "maglev" }, hash: bigint, attempt: number): Endpoint {
    if (this.#stale) this.#build(policy);
    if (policy.kind === "ring_hash") {
      const ring = this.#ring as Ring;
      const size = ring.owners.length;
      return ring.ownerAt((ring.find(ringKey(hash)) + attempt) % size);
    }
    const table = this.#maglev as Maglev;
    let at = Number(hash % BigInt(table.size)) + attempt;
    if (at >= table.size) at %= table.size;
    return table.ownerAt(at);
  }

  /** How many different places there are to try. */
  places(policy: BalanceConfig & { kind: "ring_hash" | "maglev" }): number {
    if (this.#stale) this.#build(policy);
    return policy.kind === "ring_hash" ? (this.#ring as Ring).owners.length : (this.#maglev as Maglev).size;
  }

  /** Weights as configured: what comes and goes with time would move keys. */
  #build(policy: BalanceConfig & { kind: "ring_hash" | "maglev" }): void {
    this.#stale = false;
    if (policy.kind === "ring_hash") {
      this.#maglev = null;
      this.#ring ??= new Ring();
      this.#ring.update(this.members, configured, policy.minSize, policy.maxSize);
    } else {
      this.#ring = null;
      this.#maglev ??= new Maglev();
      this.#maglev.update(this.members, configured, policy.tableSize, this.#staleFrom, this.#staleTo);
    }
  }

  /** Policy or sizes have changed. */
  forget(): void {
    this.#ring = null;
    this.#maglev = null;
    this.#stale = true;
    this.#staleFrom = 0;
    this.#staleTo = this.members.length;
  }
}

function configured(endpoint: Endpoint): number {
  const { weight } = endpoint.config;
  return weight > 0 ? weight : 1;
}
