// Owns: the Huffman code of RFC 7541 appendix B. The code is canonical, so the lengths alone say it: codes of one length follow each other in the
// order of their symbols. Never decides whether to use it.

import { compressionError, refuse } from "./errors.ts";

// Code lengths of symbols 0 to 255 (appendix B); the end-of-string symbol is 30 ones.
const lengths = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10,
  12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7,
  7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22,
  23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22,
  23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20,
  24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/** A binary tree in one array: entry 2n + bit of node n is the next node, or ~symbol. 256 inner nodes and a few for the end of string. */
const tree = buildTree();

function buildTree(): Int16Array {
  const made = new Int16Array(2 * 300);
  let nodes = 1;
  let code = 0;
  let before = 0;
  for (let length = 5; length <= 30; length++) {
    for (let symbol = 0; symbol < 256; symbol++) {
      if (lengths[symbol] !== length) continue;
      // At most 30 bits: shifts of whole numbers do.
      if (before !== 0) code = (code + 1) << (length - before);
      before = length;
      let node = 0;
      for (let bit = length - 1; bit > 0; bit--) {
        const slot = 2 * node + ((code >>> bit) & 1);
        if (made[slot] === 0) made[slot] = nodes++;
        node = made[slot] as number;
      }
      made[2 * node + (code & 1)] = ~symbol;
    }
  }
  return made;
}

/**
 * Decodes bytes `at` to `end` into `out` and answers how many came out. Negative: a code that is the end-of-string symbol or padding that is not its
 * beginning (RFC 7541 section 5.2), or more than `out` holds.
 */
export function huffmanDecode(buf: Uint8Array, at: number, end: number, out: Uint8Array): number {
  let node = 0;
  let written = 0;
  let pending = 0;
  let ones = true;
  for (let n = at; n < end; n++) {
    const byte = buf[n] as number;
    for (let bit = 7; bit >= 0; bit--) {
      const one = (byte >> bit) & 1;
      const next = tree[2 * node + one] as number;
      pending++;
      if (one === 0) ones = false;
      if (next > 0) {
        node = next;
        continue;
      }
      // Zero is a hole: only the end-of-string symbol leads there, and it must not be in a string.
      if (next === 0 || written >= out.length) return refuse(compressionError);
      out[written++] = ~next;
      node = 0;
      pending = 0;
      ones = true;
    }
  }
  // At most seven bits of padding, all ones.
  if (pending > 7 || !ones) return refuse(compressionError);
  return written;
}
