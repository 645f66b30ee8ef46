// Owns: changing a seed into something near it. Knows that protocols are made of lines and tokens; knows no protocol: its words come from the target.

import type { Random } from "./random.ts";

/** Bytes on which parsers stumble, whatever they parse. */
const oddBytes = [0, 1, 9, 10, 11, 12, 13, 32, 34, 43, 44, 45, 48, 58, 59, 61, 95, 127, 128, 160, 255];

/** One to five changes of `seed`. `words` are the target's vocabulary, `others` the seeds that parts are borrowed from. Never longer than `most`. */
export function mutate(
  seed: Uint8Array,
  words: readonly Uint8Array[],
  others: readonly Uint8Array[],
  most: number,
  random: Random,
): Uint8Array {
  let bytes = seed;
  for (let left = 1 + random.below(5); left > 0; left--) bytes = change(bytes, words, others, random);
  return bytes.length > most ? bytes.subarray(0, most) : bytes;
}

function change(bytes: Uint8Array, words: readonly Uint8Array[], others: readonly Uint8Array[], random: Random): Uint8Array {
  const at = random.below(bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + random.below(random.once(4) ? 64 : 4));
  switch (random.below(10)) {
    case 0:
      return splice(bytes, at, end, none);
    case 1:
      return splice(bytes, at, at, bytes.subarray(at, end));
    case 2:
      return splice(bytes, at, Math.min(bytes.length, at + 1), Uint8Array.of(random.pick(oddBytes)));
    case 3:
      return splice(bytes, at, at, Uint8Array.of(random.pick(oddBytes)));
    case 4:
      return splice(bytes, at, Math.min(bytes.length, at + 1), Uint8Array.of(random.below(256)));
    case 5:
      return splice(bytes, at, at, random.pick(words));
    case 6:
      return splice(bytes, at, end, random.pick(words));
    case 7: {
      // A line of this seed again, or one of another seed.
      const from = random.once(2) ? bytes : random.pick(others);
      const [first, last] = line(from, random.below(from.length + 1));
      const [here] = line(bytes, at);
      return splice(bytes, here, here, from.subarray(first, last));
    }
    case 8: {
      const [first, last] = line(bytes, at);
      return splice(bytes, first, last, none);
    }
    default: {
      // The beginning of this, the rest of another.
      const other = random.pick(others);
      return splice(bytes, at, bytes.length, other.subarray(random.below(other.length + 1)));
    }
  }
}

const none = new Uint8Array(0);

/** The line around `at`, with its LF. */
function line(bytes: Uint8Array, at: number): [number, number] {
  const first = bytes.lastIndexOf(10, Math.max(0, at - 1)) + 1;
  const last = bytes.indexOf(10, at);
  return [Math.min(first, bytes.length), last < 0 ? bytes.length : last + 1];
}

function splice(bytes: Uint8Array, from: number, to: number, insert: Uint8Array): Uint8Array {
  const out = new Uint8Array(bytes.length - (to - from) + insert.length);
  out.set(bytes.subarray(0, from));
  out.set(insert, from);
  out.set(bytes.subarray(to), from + insert.length);
  return out;
}

/** The smallest part of `input` that `fails` still fails for, as far as leaving out ranges finds it. Bounded. */
export function minimise(input: Uint8Array, fails: (input: Uint8Array) => boolean): Uint8Array {
  let best = input;
  let tries = 0;
  for (let size = Math.ceil(best.length / 2); size >= 1 && tries < 3_000; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < best.length && tries < 3_000; tries++) {
      const less = splice(best, at, Math.min(best.length, at + size), none);
      if (fails(less)) best = less;
      else at += size;
    }
  }
  return best;
}
