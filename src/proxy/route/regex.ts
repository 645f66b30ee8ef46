// Owns: regular expressions of the data path: RE2 syntax, parsed by re2js (the same parser that checks configuration), run by automaton.ts in linear
// time. Compiled when a configuration is, never for a request. Why not JavaScript's own: docs/decisions/0021.

import { parseExpression } from "../../wire/expression.ts";
import { Automaton, type Instruction, op, type Program } from "./automaton.ts";

type RE2JS = import("re2js").RE2JS;

export interface Expression {
  /** Does the whole of bytes[from, to) match? */
  readonly matches: (bytes: Uint8Array, from: number, to: number) => boolean;
  /** What every match begins with; "" where that differs. ASCII. */
  readonly prefix: string;
}

/** Throws a sentence on what is no expression in RE2 syntax, or one that is too large. */
export function compileExpression(source: string, ignoreCase: boolean): Expression {
  const program = programOf(parseExpression(source, ignoreCase));
  const automaton = new Automaton(program);
  return { matches: (bytes, from, to) => automaton.matches(bytes, from, to), prefix: prefixOf(program) };
}

/** For replacing: re2js itself, which is linear too and knows groups. Slower, so for routes that ask for it and nothing else. */
export function compileReplacer(source: string): RE2JS {
  return parseExpression(source);
}

/** The program within re2js's object. It is no part of its published interface: a test holds the pinned version to this shape. */
function programOf(pattern: RE2JS): Program {
  return (pattern.re2() as unknown as { readonly prog: Program }).prog;
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
