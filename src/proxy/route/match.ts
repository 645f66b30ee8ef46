// Owns: compiling the configured string matches into predicates, over strings and over byte ranges. Configuration time; throws on a bad expression:
// the resource is then refused.

import type { StringMatch } from "../config.ts";
import { latin1, lower } from "../http/bytes.ts";

/** Loaded with the first expression. */
const expressions = () => require("./regex.ts") as typeof import("./regex.ts");

export type StringPredicate = (value: string) => boolean;
export type BytesPredicate = (bytes: Uint8Array, from: number, to: number) => boolean;

export function compileString(match: StringMatch): StringPredicate {
  const wanted = match.ignoreCase ? match.value.toLowerCase() : match.value;
  const fold = match.ignoreCase;
  switch (match.kind) {
    case "regex": {
      const { matches } = expressions().compileExpression(match.value, fold);
      return (value) => {
        const bytes = encoder.encode(value);
        return matches(bytes, 0, bytes.length);
      };
    }
    case "exact":
      return fold ? (value) => value.toLowerCase() === wanted : (value) => value === wanted;
    case "prefix":
      return (value) => (fold ? value.toLowerCase() : value).startsWith(wanted);
    case "suffix":
      return (value) => (fold ? value.toLowerCase() : value).endsWith(wanted);
    case "contains":
      return (value) => (fold ? value.toLowerCase() : value).includes(wanted);
  }
}

const encoder = new TextEncoder();

/** The same over bytes, which are taken as UTF-8. */
export function compileBytes(match: StringMatch): BytesPredicate {
  const wanted = latin1(utf8(match.ignoreCase ? match.value.toLowerCase() : match.value));
  const size = wanted.length;
  const fold = match.ignoreCase;
  const same = (bytes: Uint8Array, at: number): boolean => {
    if (fold) {
      for (let i = 0; i < size; i++) if (lower[bytes[at + i] as number] !== wanted[i]) return false;
    } else {
      for (let i = 0; i < size; i++) if (bytes[at + i] !== wanted[i]) return false;
    }
    return true;
  };
  switch (match.kind) {
    case "regex":
      return expressions().compileExpression(match.value, fold).matches;
    case "exact":
      return (bytes, from, to) => to - from === size && same(bytes, from);
    case "prefix":
      return (bytes, from, to) => to - from >= size && same(bytes, from);
    case "suffix":
      return (bytes, from, to) => to - from >= size && same(bytes, to - size);
    case "contains":
      return (bytes, from, to) => {
        for (let at = from; at + size <= to; at++) if (same(bytes, at)) return true;
        return false;
      };
  }
}

/** A string whose char codes are the UTF-8 bytes of `value`: what the wire carries. */
function utf8(value: string): string {
  let out = "";
  for (const byte of new TextEncoder().encode(value)) out += String.fromCharCode(byte);
  return out;
}
