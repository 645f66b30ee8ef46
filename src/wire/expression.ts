// Owns: which regular expressions a mesh takes: RE2 syntax, so long and so large at most. The control plane asks where one is written, the proxy where one is
// compiled, so that neither takes what the other refuses. Never runs one.

type RE2JS = import("re2js").RE2JS;
type Library = typeof import("re2js").RE2JS;

/**
 * Instructions of one expression. A byte may cost a walk over all of them (src/proxy/route/automaton.ts), so this bounds what a hostile request can make of
 * a careless pattern. RE2 itself only bounds memory; Envoy had 100 as its default for long, which refuses honest ones such as `[a-z]{1,63}(\.[a-z]{1,63})*`.
 */
export const largestProgram = 2_000;

/** RE2 limits nothing by length; we do, since a pattern is compiled before its size is known. */
export const longestPattern = 4_096;

/** re2js's numbers of the first and the last instruction that RE2 has. */
const [firstOp, lastOp] = [1, 11] as const;

/** Loaded with the first expression: it costs 2.6 MB and 6 ms, which a process without one need not pay. */
let engine: Library | null = null;

/** Throws a sentence on what is no expression in RE2 syntax, or one that is too large. */
export function parseExpression(source: string, ignoreCase = false): RE2JS {
  if (source.length > longestPattern) throw new Error(`the expression has ${source.length} characters, more than ${longestPattern}`);
  engine ??= (require("re2js") as typeof import("re2js")).RE2JS;
  let pattern: RE2JS;
  try {
    pattern = engine.compile(source, ignoreCase ? engine.CASE_INSENSITIVE : 0);
  } catch (error) {
    throw new Error(`"${source}" is not a regular expression in RE2 syntax: ${error instanceof Error ? error.message : String(error)}`);
  }
  // No part of its published interface: a test of the proxy holds the pinned version to this shape.
  const { inst } = (pattern.re2() as unknown as { readonly prog: { readonly inst: readonly { readonly op: number }[] } }).prog;
  if (inst.some((one) => one.op < firstOp || one.op > lastOp)) throw new Error(`"${source}" looks behind, which RE2 does not have`);
  if (inst.length > largestProgram)
    throw new Error(`"${source}" compiles to ${inst.length} instructions, more than ${largestProgram}: count less in {}, or use a prefix`);
  return pattern;
}

/** Text, and numbers of groups. */
export type SubstitutionPieces = readonly (string | number)[];

/** Reads what is put where an expression with so many groups matches: `\\0` to `\\9` are groups, `\\\\` a backslash. Throws a sentence. */
export function parseSubstitution(substitution: string, pattern: RE2JS): SubstitutionPieces {
  const groups = pattern.groupCount();
  const pieces: (string | number)[] = [];
  for (let i = 0; i < substitution.length; i++) {
    const char = substitution[i] as string;
    if (char !== "\\") {
      if (char <= " " || char > "~" || char === "#")
        throw new Error(`the substitution "${substitution}" holds what no path may: write it %XX`);
      pieces.push(char);
      continue;
    }
    const next = substitution[++i] ?? "";
    if (next === "\\") pieces.push("\\");
    else if (/^\d$/.test(next) && Number(next) <= groups) pieces.push(Number(next));
    else throw new Error(`the substitution "${substitution}" names the group "\\${next}", and "${pattern.pattern()}" has ${groups}`);
  }
  return pieces;
}
