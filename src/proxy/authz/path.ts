// Owns: the form of a path that policies judge, so that two spellings of one resource cannot be judged differently.
// As Envoy with `normalize_path` and `merge_slashes`: unreserved characters are decoded (RFC 3986 6.2.2.2), `\` is `/`, runs of `/` become one,
// dot segments are removed (RFC 3986 5.2.4). `%2F` and `%5C` stay as they are (Envoy's default), but a path
// that holds one is judged a second time as if it were `/`, since some applications decode it. The application gets the form that was judged.

import { hexValue } from "../http/bytes.ts";

const SLASH = 47;
const DOT = 46;
const PERCENT = 37;
const BACKSLASH = 92;
const QUERY = 63;

/** Does the path in [from, to) (without query) need work? The usual answer is no, in one pass. */
export function needsNormalizing(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    const byte = bytes[i];
    if (byte === PERCENT || byte === BACKSLASH) return true;
    if (byte === SLASH && i + 1 < to) {
      const next = bytes[i + 1];
      if (next === SLASH || next === DOT) return true;
    }
  }
  return false;
}

/** Where the query starts in [from, to), or `to`. */
export function pathEnd(bytes: Uint8Array, from: number, to: number): number {
  for (let i = from; i < to; i++) if (bytes[i] === QUERY) return i;
  return to;
}

/** Is there a `%2F` or `%5C` in [from, to)? */
export function hasEscapedSlash(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i + 2 < to; i++) {
    if (bytes[i] !== PERCENT) continue;
    const value = (hexValue[bytes[i + 1] as number] as number) * 16 + (hexValue[bytes[i + 2] as number] as number);
    if (value === SLASH || value === BACKSLASH) return true;
  }
  return false;
}

/**
 * Writes the normal form of [from, to) to `out` and returns its length; never longer than the input. `-1`: the path climbs above its root, or
 * holds `%00`. `unescapeSlashes`: `%2F` and `%5C` are `/`.
 */
export function normalize(bytes: Uint8Array, from: number, to: number, out: Uint8Array, unescapeSlashes = false): number {
  let size = 0;
  for (let i = from; i < to; i++) {
    let byte = bytes[i] as number;
    if (byte === BACKSLASH) byte = SLASH;
    else if (byte === PERCENT && i + 2 < to) {
      const high = hexValue[bytes[i + 1] as number] as number;
      const low = hexValue[bytes[i + 2] as number] as number;
      if (high !== 255 && low !== 255) {
        const value = high * 16 + low;
        if (value === 0) return -1;
        if (isUnreserved(value)) {
          byte = value;
          i += 2;
        } else if (unescapeSlashes && (value === SLASH || value === BACKSLASH)) {
          byte = SLASH;
          i += 2;
        }
      }
    }
    if (byte === SLASH) {
      size = closeSegment(out, size);
      if (size < 0) return -1;
      if (size > 0 && out[size - 1] === SLASH) continue;
    }
    out[size++] = byte;
  }
  size = closeSegment(out, size);
  return size;
}

/** Removes a `.` or `..` segment that ends at `size`. -1: above the root. */
function closeSegment(out: Uint8Array, size: number): number {
  if (size >= 2 && out[size - 1] === DOT && out[size - 2] === SLASH) return size - 1;
  if (size >= 3 && out[size - 1] === DOT && out[size - 2] === DOT && out[size - 3] === SLASH) {
    let at = size - 3;
    if (at === 0) return -1;
    while (at > 0 && out[at - 1] !== SLASH) at--;
    return at;
  }
  return size;
}

function isUnreserved(byte: number): boolean {
  return (
    (byte >= 48 && byte <= 57) ||
    (byte >= 65 && byte <= 90) ||
    (byte >= 97 && byte <= 122) ||
    byte === 45 ||
    byte === 46 ||
    byte === 95 ||
    byte === 126
  );
}
