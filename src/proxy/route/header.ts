// Owns: matching a request's header (or pseudo-header) by name and value, over bytes.

import type { HeaderMatch } from "../config.ts";
import { equalsIgnoreCase, latin1, text } from "../http/bytes.ts";
import { toldScheme } from "../http/forwarded.ts";
import type { Head } from "../http1/head.ts";
import { type BytesPredicate, compileBytes } from "./match.ts";

export type HeadPredicate = (bytes: Uint8Array, head: Head) => boolean;

/** Throws on a bad regular expression or an unknown pseudo-header. Several fields of one name are joined with a comma, as Envoy does. */
export function compileHeader(config: HeaderMatch): HeadPredicate {
  const invert = config.invert;
  const range = config.range;
  const value = range !== undefined ? inRange(range.start, range.end) : config.match === null ? null : compileBytes(config.match);
  switch (config.name) {
    case ":method":
      return (bytes, head) => (value === null || value(bytes, head.from, head.methodTo)) !== invert;
    case ":path":
      return (bytes, head) => (value === null || value(bytes, head.pathFrom, head.pathTo)) !== invert;
    case ":authority":
    case "host":
      return (bytes, head) =>
        (head.authorityTo > head.authorityFrom && (value === null || value(bytes, head.authorityFrom, head.authorityTo))) !== invert;
    case ":scheme": {
      const [plain, secure] = [latin1("http"), latin1("https")];
      // An edge has written there what the client came by; elsewhere it is the word of whoever called, as in Envoy.
      return (bytes, head) => {
        const scheme = toldScheme(bytes, head, false) ? secure : plain;
        return (value === null || value(scheme, 0, scheme.length)) !== invert;
      };
    }
    default:
  }
  if (config.name.startsWith(":")) throw new Error(`header match on ${config.name} is not supported`);
  const name = latin1(config.name.toLowerCase());
  const missing = config.missingIsEmpty === true && value !== null ? value(nothing, 0, 0) !== invert : invert;
  return (bytes, head) => {
    let found = -1;
    for (let i = 0; i < head.count; i++) {
      if (!equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, name)) continue;
      if (found >= 0) {
        if (value === null) return !invert;
        const all = joinValues(bytes, head, name);
        return value(all, 0, all.length) !== invert;
      }
      found = i;
    }
    // A header that is absent matches nothing, and so fulfils an inverted match (Envoy's `invert_match`).
    if (found < 0) return missing;
    return (value === null || value(bytes, head.valueFrom[found] as number, head.valueTo[found] as number)) !== invert;
  };
}

const nothing = new Uint8Array(0);

/** A whole number in decimal, as Envoy's `range_match` reads it: an optional minus and digits, nothing else. */
function inRange(start: number, end: number): BytesPredicate {
  return (bytes, from, to) => {
    const negative = to > from && bytes[from] === 45;
    const first = negative ? from + 1 : from;
    if (first === to || to - first > 15) return false;
    let value = 0;
    for (let i = first; i < to; i++) {
      const digit = (bytes[i] as number) - 48;
      if (digit < 0 || digit > 9) return false;
      value = value * 10 + digit;
    }
    if (negative) value = -value;
    return value >= start && value < end;
  };
}

function joinValues(bytes: Uint8Array, head: Head, name: Uint8Array): Uint8Array {
  let out = "";
  for (let i = 0; i < head.count; i++) {
    if (!equalsIgnoreCase(bytes, head.nameFrom[i] as number, head.nameTo[i] as number, name)) continue;
    out += (out === "" ? "" : ",") + text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
  }
  return latin1(out);
}
