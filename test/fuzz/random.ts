// Owns: repeatable randomness for generated tests: the same seed gives the same run on every machine.

export interface Random {
  /** 0 <= n < bound. */
  below(bound: number): number;
  pick<T>(from: readonly T[]): T;
  /** True once in `n` times. */
  once(n: number): boolean;
}

/** A small generator of 32-bit state (Weyl sequence with a mixing step); more than good enough to choose mutations. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x9e3779b9) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (x ^ (x >>> 15)) >>> 0;
  };
  const below = (bound: number): number => next() % bound;
  return { below, pick: (from) => from[below(from.length)] as (typeof from)[number], once: (n) => below(n) === 0 };
}
