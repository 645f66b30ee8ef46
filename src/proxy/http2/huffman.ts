// Owns: the Huffman code of RFC 7541 appendix B, decoded half a byte at a time. The code is canonical, so the lengths alone say it: codes of one length
// follow each other in the order of their symbols. The table is built with the first string that needs it.

import { compressionError, enhanceYourCalm, refuse } from "./errors.ts";

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

/** Bits of a table entry: the next node above them, the symbol in the low byte. */
const emits = 0x100;
const fails = 0x200;
const nodeShift = 10;

/** Entry 16n + half of node n. */
let table: Int32Array | null = null;
/** 1: a string may end in this node, being at most seven ones into the end-of-string symbol (section 5.2). */
let mayEnd: Uint8Array | null = null;

/** A binary tree in one array: entry 2n + bit of node n is the next node, or ~symbol; 0 is a hole that only the end-of-string symbol leads to. */
function buildTree(): { tree: Int16Array; nodes: number } {
  const tree = new Int16Array(2 * 300);
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
        if (tree[slot] === 0) tree[slot] = nodes++;
        node = tree[slot] as number;
      }
      tree[2 * node + (code & 1)] = ~symbol;
    }
  }
  return { tree, nodes };
}

function build(): Int32Array {
  const { tree, nodes } = buildTree();
  const made = new Int32Array(nodes * 16);
  for (let start = 0; start < nodes; start++) {
    for (let half = 0; half < 16; half++) {
      let node = start;
      let entry = 0;
      for (let bit = 3; bit >= 0; bit--) {
        const next = tree[2 * node + ((half >> bit) & 1)] as number;
        if (next > 0) node = next;
        else if (next === 0) {
          entry = fails;
          break;
        } else {
          // The shortest code has five bits, so half a byte ends at most one.
          entry |= emits | ~next;
          node = 0;
        }
      }
      made[16 * start + half] = entry | (node << nodeShift);
    }
  }
  const ends = new Uint8Array(nodes);
  for (let node = 0, ones = 0; ones <= 7; ones++) {
    ends[node] = 1;
    node = tree[2 * node + 1] as number;
  }
  mayEnd = ends;
  table = made;
  return made;
}

/**
 * Decodes bytes [at, end) into `out` from `from` on and answers the position after what came out. Negative: a code that is the end-of-string symbol or
 * padding that is not its beginning (RFC 7541 section 5.2), or more than `out` holds.
 */
export function huffmanDecode(buf: Uint8Array, at: number, end: number, out: Uint8Array, from: number): number {
  const steps = table ?? build();
  // The shortest code has five bits.
  if (from + Math.floor(((end - at) * 8) / 5) > out.length) return refuse(enhanceYourCalm);
  let node = 0;
  let to = from;
  for (let n = at; n < end; n++) {
    const byte = buf[n] as number;
    let entry = steps[(node << 4) | (byte >> 4)] as number;
    if ((entry & fails) !== 0) return refuse(compressionError);
    if ((entry & emits) !== 0) out[to++] = entry & 0xff;
    entry = steps[((entry >> nodeShift) << 4) | (byte & 15)] as number;
    if ((entry & fails) !== 0) return refuse(compressionError);
    if ((entry & emits) !== 0) out[to++] = entry & 0xff;
    node = entry >> nodeShift;
  }
  return (mayEnd as Uint8Array)[node] === 1 ? to : refuse(compressionError);
}
