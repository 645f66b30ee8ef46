// Owns: replacing the matched prefix of a path. Allocates: only routes with a rewrite pay for it.

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
