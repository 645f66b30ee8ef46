// Owns: walking DER (ITU-T X.690; definite lengths below 16 MiB), as far as certificates need it. Never judges what it walks over.

/** One element of `der`: its own bytes are `start` to `end`, its content `from` to `end`. */
export interface DerElement {
  readonly tag: number;
  readonly start: number;
  readonly from: number;
  readonly end: number;
}

/** Bytes that are not DER, or not what was expected. */
export class DerError extends Error {
  override readonly name = "DerError";
}

/** The element at `at`, which must end by `limit`. Throws DerError. */
export function derElement(der: Uint8Array, at = 0, limit = der.length): DerElement {
  const tag = der[at];
  let length = der[at + 1];
  if (tag === undefined || length === undefined || at + 2 > limit) throw new DerError("truncated");
  let from = at + 2;
  if (length >= 0x80) {
    const count = length & 0x7f;
    if (count < 1 || count > 3 || from + count > limit) throw new DerError("a bad length");
    length = 0;
    for (let n = 0; n < count; n++) length = length * 256 + (der[from + n] as number);
    from += count;
  }
  if (from + length > limit) throw new DerError("a length beyond the end");
  return { tag, start: at, from, end: from + length };
}

/** The elements inside another. Throws DerError. */
export function derChildren(der: Uint8Array, of: DerElement): DerElement[] {
  const found: DerElement[] = [];
  for (let at = of.from; at < of.end; ) {
    const one = derElement(der, at, of.end);
    found.push(one);
    at = one.end;
  }
  return found;
}

/** The bytes of an element, tag and all. */
export function derBytes(der: Uint8Array, element: DerElement): Uint8Array {
  return der.slice(element.start, element.end);
}
