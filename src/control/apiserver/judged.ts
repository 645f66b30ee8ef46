// Owns: verdicts over other objects that must still be true at the moment of the write: another control plane, or this one beside its API, may write
// between the two. The store asks again then, and the verdict is made anew on what is there by now. Never writes.

import type { Guard } from "../store/store.ts";
import type { Core } from "./core.ts";

export interface Judged<V> {
  /** The last one. */
  readonly verdict: V;
  /** Goes with the write; a write that it refuses is refused for `verdict`. */
  readonly guard: Guard | undefined;
}

/** Judges now, and again as often as the store asks. */
export async function judge<V>(core: Core, run: () => V | Promise<V>, isGood: (verdict: V) => boolean): Promise<Judged<V>> {
  const { followed } = core.deps;
  if (followed === undefined) return { verdict: await run(), guard: undefined };
  // What is looked at is never older than this.
  let at = followed.revision();
  let verdict = await run();
  const again = async (head: number): Promise<boolean> => {
    await followed.reached(head);
    at = followed.revision();
    verdict = await run();
    return isGood(verdict);
  };
  return {
    get verdict() {
      return verdict;
    },
    guard: (head) => (head <= at ? true : again(head)),
  };
}
