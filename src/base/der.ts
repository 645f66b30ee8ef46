// Owns: writing DER (ITU-T X.690), as far as certificate requests and certificates need it. Never reads DER.

/** One element: tag, length, content. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(parts);
  const length = content.length;
  if (length > 0xffffff) throw new RangeError("a DER element above 16 MiB is not needed here");
  const size = [length >>> 16, (length >>> 8) & 0xff, length & 0xff].slice(length < 0x100 ? 2 : length < 0x10000 ? 1 : 0);
  const head = length < 0x80 ? [tag, length] : [tag, 0x80 | size.length, ...size];
  return Buffer.concat([Uint8Array.from(head), content]);
}

export const sequence = (...parts: readonly Uint8Array[]): Uint8Array => der(0x30, ...parts);
export const set = (...parts: readonly Uint8Array[]): Uint8Array => der(0x31, ...parts);
export const octets = (bytes: Uint8Array): Uint8Array => der(0x04, bytes);
/** A whole number of bits. */
export const bits = (bytes: Uint8Array): Uint8Array => der(0x03, Uint8Array.of(0), bytes);
export const smallInteger = (value: number): Uint8Array => der(0x02, Uint8Array.of(value));
/** An unsigned number of any size, most significant byte first. */
export function integer(bytes: Uint8Array): Uint8Array {
  let from = 0;
  while (from < bytes.length - 1 && bytes[from] === 0) from++;
  // A leading one bit would make it negative.
  const lead = (bytes[from] as number) >= 0x80 ? Uint8Array.of(0) : new Uint8Array(0);
  return der(0x02, lead, bytes.subarray(from));
}
export const yes = (): Uint8Array => der(0x01, Uint8Array.of(0xff));

/** `1.2.840.10045.4.3.2` */
export function objectId(dotted: string): Uint8Array {
  const arcs = dotted.split(".").map(Number);
  const out: number[] = [(arcs[0] as number) * 40 + (arcs[1] as number)];
  for (const arc of arcs.slice(2)) {
    const septets = [arc & 0x7f];
    for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) septets.unshift((rest & 0x7f) | 0x80);
    out.push(...septets);
  }
  return der(0x06, Uint8Array.from(out));
}
