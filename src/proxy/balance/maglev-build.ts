// Owns: making a Maglev table from nothing (Eisenbud et al., NSDI 2016), weighted as Envoy's. The truth that maglev-picks.ts has to arrive at when it
// changes a table. Keeps nothing.

import type { Endpoint } from "./endpoint.ts";
import { type Permutation, permutationOf } from "./maglev-permutation.ts";

export interface Built {
  /** Index into `members` for each place. */
  readonly owners: Int32Array<ArrayBuffer>;
  /** Indices into `members` in the order in which they choose. */
  readonly order: Int32Array<ArrayBuffer>;
}

/** `members` must not be empty, `weights` go with them, `size` is a prime. */
export function buildTable(members: readonly Endpoint[], weights: Float64Array, size: number): Built {
  const owners = new Int32Array(size).fill(-1);
  const count = members.length;
  const all = members.map((member) => permutationOf(member, size));
  const order = Int32Array.from(
    members.map((_member, i) => i).sort((a, b) => ((all[a] as Permutation).key < (all[b] as Permutation).key ? -1 : 1)),
  );
  const next = new Int32Array(count);
  const skip = new Int32Array(count);
  const share = new Float64Array(count);
  const target = new Float64Array(count);
  let most = 0;
  for (let i = 0; i < count; i++) {
    const own = all[order[i] as number] as Permutation;
    next[i] = own.offset;
    skip[i] = own.skip;
    const weight = weights[order[i] as number] as number;
    share[i] = weight;
    if (weight > most) most = weight;
  }
  let filled = 0;
  for (let round = 1; filled < size; round++) {
    for (let i = 0; i < count && filled < size; i++) {
      // The heaviest is asked in each round, one of half its weight in each second.
      if (round * (share[i] as number) < (target[i] as number)) continue;
      target[i] = (target[i] as number) + most;
      let at = next[i] as number;
      const step = skip[i] as number;
      while ((owners[at] as number) >= 0) {
        at += step;
        if (at >= size) at -= size;
      }
      owners[at] = order[i] as number;
      at += step;
      next[i] = at >= size ? at - size : at;
      filled++;
    }
  }
  return { owners, order };
}
