// Owns: running a target for a while: mutate, check, and on a failure make the input small and keep it under found/.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { minimise, mutate } from "./mutate.ts";
import { seeded } from "./random.ts";
import type { Target } from "./target.ts";

const foundFolder = join(import.meta.dir, "found");

export interface Campaign {
  readonly seed: number;
  /** Ends it, whatever the count. */
  readonly milliseconds: number;
  /** Inputs at most. */
  readonly runs: number;
}

export interface Failed {
  readonly input: Uint8Array;
  readonly error: Error;
}

/** The failure of one input, or null. The choices of a check depend on the input alone, so that a found case fails again. */
export function attempt(target: Target, input: Uint8Array): Error | null {
  try {
    target.check(Uint8Array.from(input), seeded(input.length * 31 + (input[0] ?? 0)));
    return null;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** Runs until a failure (made small) or the budget's end (null). */
export function campaign(target: Target, budget: Campaign): { readonly runs: number; readonly failed: Failed | null } {
  const random = seeded(budget.seed);
  const until = performance.now() + budget.milliseconds;
  // Inputs that were mutated once become seeds themselves for a while, so that several changes meet.
  const recent: Uint8Array[] = [];
  let runs = 0;
  for (; runs < budget.runs; runs++) {
    if ((runs & 63) === 0 && performance.now() > until) break;
    const seed = recent.length > 0 && random.once(3) ? random.pick(recent) : random.pick(target.seeds);
    const input = mutate(seed, target.words, target.seeds, target.most, random);
    const error = attempt(target, input);
    if (error !== null) {
      const small = minimise(input, (less) => attempt(target, less) !== null);
      return { runs, failed: { input: small, error: attempt(target, small) ?? error } };
    }
    if (random.once(8)) recent[random.below(256) % (recent.length + 1)] = input;
  }
  return { runs, failed: null };
}

/** Keeps a case; returns its path. */
export function keep(target: Target, input: Uint8Array): string {
  const folder = join(foundFolder, target.name);
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${createHash("sha256").update(input).digest("hex").slice(0, 12)}.bin`);
  writeFileSync(path, input);
  return path;
}

/** Every case that was ever found for a target. */
export function found(target: Target): readonly { readonly name: string; readonly input: Uint8Array }[] {
  const folder = join(foundFolder, target.name);
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .map((name) => ({ name, input: new Uint8Array(readFileSync(join(folder, name))) }));
}
