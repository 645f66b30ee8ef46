// Owns: the order in which an endpoint wants the places of a Maglev table: from its `offset` on, each `skip` places further, all of them, as the size is a
// prime. The k-th place it wants is (offset + k * skip) mod size; backwards, it comes to a place as its (place - offset) / skip mod size-th. Envoy's seeds.

import type { Endpoint } from "./endpoint.ts";
import { addressText, hash64 } from "./wanted.ts";

export interface Permutation {
  /** Endpoints choose in the order of their keys. */
  readonly key: string;
  readonly size: number;
  readonly offset: number;
  readonly skip: number;
}

const known = new WeakMap<Endpoint, Permutation>();

export function permutationOf(endpoint: Endpoint, size: number): Permutation {
  let own = known.get(endpoint);
  if (own === undefined || own.size !== size) {
    const key = addressText(endpoint.host, endpoint.port);
    const modulus = BigInt(size);
    own = { key, size, offset: Number(hash64(key) % modulus), skip: Number(hash64(key, 1n) % (modulus - 1n)) + 1 };
    known.set(endpoint, own);
  }
  return own;
}

/** a * b mod size, for a and b below size. Exact: a table has at most 5 000 011 places, so the product is below 2^45 and the quotient never rounds up. */
export function timesModulo(a: number, b: number, size: number): number {
  const product = a * b;
  return product - Math.floor(product / size) * size;
}

/** What times `skip` is 1 mod size (Euclid). `size` is a prime, 0 < skip < size. */
export function inverseModulo(skip: number, size: number): number {
  let [low, high] = [skip, size];
  let [x, y] = [1, 0];
  while (low > 1) {
    const times = Math.floor(high / low);
    [low, high] = [high - times * low, low];
    [x, y] = [y - times * x, x];
  }
  return x < 0 ? x + size : x;
}
