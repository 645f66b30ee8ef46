// Owns: Maglev's table (Eisenbud et al., NSDI 2016), weighted and seeded as Envoy's: the same endpoints give the same table in any order and in Envoy.
// It depends on the set of endpoints alone, never on its history, so that all proxies agree; hence it is made anew, when it is first asked.

import type { Endpoint } from "./endpoint.ts";
import { addressText, hash64 } from "./wanted.ts";

interface Seeds {
  readonly key: string;
  readonly size: number;
  readonly offset: number;
  readonly skip: number;
}

const seeds = new WeakMap<Endpoint, Seeds>();

function seedsOf(endpoint: Endpoint, size: number): Seeds {
  let known = seeds.get(endpoint);
  if (known === undefined || known.size !== size) {
    const key = addressText(endpoint.host, endpoint.port);
    const modulus = BigInt(size);
    known = { key, size, offset: Number(hash64(key) % modulus), skip: Number(hash64(key, 1n) % (modulus - 1n)) + 1 };
    seeds.set(endpoint, known);
  }
  return known;
}

/** Index of the owner among `members` for each place of the table. `members` must not be empty; `size` is a prime. */
export function maglevTable(members: readonly Endpoint[], weights: (endpoint: Endpoint) => number, size: number): Int32Array {
  const table = new Int32Array(size).fill(-1);
  const count = members.length;
  const order = members.map((_member, i) => i);
  const all = members.map((member) => seedsOf(member, size));
  order.sort((a, b) => ((all[a] as Seeds).key < (all[b] as Seeds).key ? -1 : 1));
  const place = new Int32Array(count);
  const skip = new Int32Array(count);
  const share = new Float64Array(count);
  const target = new Float64Array(count);
  let most = 0;
  for (let i = 0; i < count; i++) {
    const one = all[order[i] as number] as Seeds;
    place[i] = one.offset;
    skip[i] = one.skip;
    const weight = weights(members[order[i] as number] as Endpoint);
    share[i] = weight;
    if (weight > most) most = weight;
  }
  let filled = 0;
  for (let round = 1; filled < size; round++) {
    for (let i = 0; i < count && filled < size; i++) {
      // The heaviest is asked in each round, one of half its weight in each second.
      if (round * (share[i] as number) < (target[i] as number)) continue;
      target[i] = (target[i] as number) + most;
      let at = place[i] as number;
      const step = skip[i] as number;
      while ((table[at] as number) >= 0) {
        at += step;
        if (at >= size) at -= size;
      }
      table[at] = order[i] as number;
      at += step;
      place[i] = at >= size ? at - size : at;
      filled++;
    }
  }
  return table;
}

/** Envoy: the size must be a prime of at most 5 000 011. */
export const largestTable = 5_000_011;

export function isPrime(number: number): boolean {
  if (number < 2 || (number % 2 === 0 && number !== 2)) return false;
  for (let i = 3; i * i <= number; i += 2) if (number % i === 0) return false;
  return true;
}
