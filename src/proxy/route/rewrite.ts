// Owns: replacing the matched prefix of a path, and what a regular expression matches in it. Allocates: only routes with a rewrite pay for it.

import { parseSubstitution } from "../../wire/expression.ts";
import type { Substitution } from "../config.ts";
import { latin1, text } from "../http/bytes.ts";

/** What becomes of a path (without its query); null where the result is no path or host: longer than `largestResult`, or with bytes that neither has. */
export type PathRewrite = (bytes: Uint8Array, from: number, to: number) => string | null;

/** A substitution may hold a group often: what comes out must still fit a head. */
const largestResult = 8 * 1024;

/** Every match is replaced, as RE2's GlobalReplace does; `\\0` to `\\9` in the substitution are groups, `\\\\` a backslash. Throws a sentence. */
export function compileRewrite({ pattern, substitution }: Substitution): PathRewrite {
  const expression = (require("./regex.ts") as typeof import("./regex.ts")).compileReplacer(pattern);
  const pieces = parseSubstitution(substitution, expression);
  return (bytes, from, to) => {
    const path = text(bytes, from, to);
    const matcher = expression.matcher(path);
    let out = "";
    let kept = 0;
    while (matcher.find()) {
      out += path.slice(kept, matcher.start());
      for (const piece of pieces) out += typeof piece === "string" ? piece : (matcher.group(piece) ?? "");
      kept = matcher.end();
      if (out.length > largestResult) return null;
    }
    out += path.slice(kept);
    return out.length > largestResult ? null : out;
  };
}

/** A whole target of a rewritten path and the query of source[pathTo, to), which keeps its `?`. */
export function withQuery(path: string, source: Uint8Array, pathTo: number, to: number): Uint8Array {
  const rooted = path.startsWith("/") ? path : `/${path}`;
  const out = new Uint8Array(rooted.length + to - pathTo);
  out.set(latin1(rooted));
  out.set(source.subarray(pathTo, to), rooted.length);
  return out;
}

const SLASH = 47;

/**
 * The target `source[from, to)` with its path's first `matchedSize` bytes (-1: the whole path, which ends at `pathTo`) replaced; the query stays.
 * Gateway API's rule for slashes: `/` in place of `/foo` makes `/bar` of `/foo/bar`, never `//bar`; `/x` in place of `/foo/` makes `/x/bar`.
 */
export function rewritePrefix(
  replacement: Uint8Array,
  matchedSize: number,
  source: Uint8Array,
  from: number,
  pathTo: number,
  to: number,
): Uint8Array {
  let rest = matchedSize < 0 ? pathTo : Math.min(from + matchedSize, pathTo);
  let size = replacement.length;
  const endsWithSlash = size > 0 && replacement[size - 1] === SLASH;
  if (rest < pathTo) {
    if (endsWithSlash && source[rest] === SLASH) size--;
    else if (!endsWithSlash && source[rest] !== SLASH && source[rest - 1] === SLASH) rest--;
  }
  const rooted = size > 0 ? replacement[0] === SLASH : rest < pathTo && source[rest] === SLASH;
  const start = rooted ? 0 : 1;
  const out = new Uint8Array(start + size + to - rest);
  if (start === 1) out[0] = SLASH;
  out.set(replacement.subarray(0, size), start);
  out.set(source.subarray(rest, to), start + size);
  return out;
}
