// Owns: regular expressions of the data path: RE2 syntax, parsed by re2js (the same parser that checks configuration), run by automaton.ts in linear
// time. Compiled when a configuration is, never for a request. Why not JavaScript's own: docs/decisions/0021.

import { Automaton, type Instruction, op, type Program } from "./automaton.ts";

type RE2JS = import("re2js").RE2JS;
type Library = typeof import("re2js").RE2JS;

/** Loaded with the first expression: it costs 2.6 MB and 6 ms, which a sidecar without one need not pay. */
let engine: Library | null = null;

/**
 * Instructions of one expression. A byte may cost a walk over all of them (automaton.ts), so this bounds what a hostile request can make of a careless
 * pattern. RE2 itself only bounds memory; Envoy had 100 as its default for long, which refuses honest ones such as `[a-z]{1,63}(\.[a-z]{1,63})*`.
 */
export const largestProgram = 2_000;

export interface Expression {
  /** Does the whole of bytes[from, to) match? */
  readonly matches: (bytes: Uint8Array, from: number, to: number) => boolean;
  /** What every match begins with; "" where that differs. ASCII. */
  readonly prefix: string;
}

function load(): Library {
  engine ??= (require("re2js") as typeof import("re2js")).RE2JS;
  return engine;
}

/** Throws a sentence on what is no expression in RE2 syntax, or one that is too large. */
export function compileExpression(source: string, ignoreCase: boolean): Expression {
  const pattern = compile(source, ignoreCase);
  const program = programOf(pattern);
  const automaton = new Automaton(program);
  return { matches: (bytes, from, to) => automaton.matches(bytes, from, to), prefix: prefixOf(program) };
}

/** For replacing: re2js itself, which is linear too and knows groups. Slower, so for routes that ask for it and nothing else. */
export function compileReplacer(source: string): RE2JS {
  const pattern = compile(source, false);
  programOf(pattern);
  return pattern;
}

function compile(source: string, ignoreCase: boolean): RE2JS {
  const lib = load();
  try {
    return lib.compile(source, ignoreCase ? lib.CASE_INSENSITIVE : 0);
  } catch (error) {
    throw new Error(`"${source}" is not a regular expression in RE2 syntax: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The program within re2js's object. It is no part of its published interface: a test holds the pinned version to this shape. */
function programOf(pattern: RE2JS): Program {
  const inner = pattern.re2() as unknown as { readonly prog: Program };
  const program = inner.prog;
  if (program.inst.some((one) => one.op < op.alt || one.op > op.lastRune)) {
    throw new Error(`"${pattern.pattern()}" looks behind, which RE2 does not have`);
  }
  if (program.inst.length > largestProgram) {
    throw new Error(
      `"${pattern.pattern()}" compiles to ${program.inst.length} instructions, more than ${largestProgram}: count less in {}, or use a prefix`,
    );
  }
  return program;
}

/** Enough to tell routes apart. */
const longestPrefix = 64;

function prefixOf(program: Program): string {
  let prefix = "";
  let pc = program.start;
  for (;;) {
    const one = program.inst[pc] as Instruction;
    // `^` changes nothing: the whole value must match anyhow.
    if (one.op === op.capture || one.op === op.nop || (one.op === op.empty && prefix === "" && (one.arg & ~5) === 0)) pc = one.out;
    else if (one.op >= op.firstRune && one.runes.length === 1 && (one.arg & 1) === 0 && (one.runes[0] as number) < 128) {
      prefix += String.fromCharCode(one.runes[0] as number);
      pc = one.out;
    } else return prefix;
    if (prefix.length === longestPrefix) return prefix;
  }
}
