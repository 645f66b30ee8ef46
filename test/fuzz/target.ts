// Owns: what a fuzz target is. One file under targets/ each, one line in targets.ts.

import type { Random } from "./random.ts";

export interface Target {
  /** As `--target` names it and as its folder under found/ is called. */
  readonly name: string;
  /** Inputs to begin with, good and bad ones. */
  readonly seeds: readonly Uint8Array[];
  /** Words of the protocol, to be thrown in. */
  readonly words: readonly Uint8Array[];
  /** Bytes of the largest input. */
  readonly most: number;
  /** Throws when an invariant does not hold. May change `input`; `random` is for the choices that a check makes, such as where to cut. */
  check(input: Uint8Array, random: Random): void;
}

/** Throws with a sentence; `details` are put behind it. */
export function must(holds: boolean, sentence: string, ...details: readonly unknown[]): void {
  if (!holds) throw new Error([sentence, ...details.map((detail) => JSON.stringify(detail))].join(" "));
}

export function bytesOf(texts: readonly string[]): readonly Uint8Array[] {
  return texts.map((text) => new Uint8Array(Buffer.from(text, "latin1")));
}
