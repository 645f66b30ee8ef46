// Owns: byte classes of HTTP and comparisons of byte ranges with constants. No strings are made here unless a function says so.
// Hot: called several times for each request, so plain loops over typed arrays and no allocation.

/** 1 for `tchar` (RFC 9110 5.6.2). */
export const tchar = new Uint8Array(256);
/** 1 for what a field value may hold (RFC 9110 5.5): HTAB, SP, VCHAR, obs-text. */
export const fieldByte = new Uint8Array(256);
/** 1 for what a request target may hold: VCHAR without `#` (a fragment is never sent, RFC 9112 3.2). Wider than RFC 3986, as real clients send `|` and `{`. */
export const targetByte = new Uint8Array(256);
/** ASCII lower case. */
export const lower = new Uint8Array(256);
/** Value of a hexadecimal digit, 255 for any other byte. */
export const hexValue = new Uint8Array(256).fill(255);

for (let i = 0; i < 256; i++) {
  lower[i] = i >= 65 && i <= 90 ? i + 32 : i;
  if (i === 9 || (i >= 32 && i !== 127)) fieldByte[i] = 1;
  if (i > 32 && i < 127 && i !== 35) targetByte[i] = 1;
  const digit = i >= 48 && i <= 57;
  const alpha = (i >= 65 && i <= 90) || (i >= 97 && i <= 122);
  if (digit || alpha || "!#$%&'*+-.^_`|~".includes(String.fromCharCode(i))) tchar[i] = 1;
  if (digit) hexValue[i] = i - 48;
  else if (i >= 65 && i <= 70) hexValue[i] = i - 55;
  else if (i >= 97 && i <= 102) hexValue[i] = i - 87;
}

/** Latin-1 bytes of a constant, for the comparisons below. Configuration time only. */
export function latin1(text: string): Uint8Array {
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i) & 0xff;
  return out;
}

/** Bytes [from, to) as a Latin-1 string. Allocates: for matches on strings, records and logs. */
export function text(bytes: Uint8Array, from: number, to: number): string {
  let out = "";
  for (let i = from; i < to; i++) out += String.fromCharCode(bytes[i] as number);
  return out;
}

export function equals(bytes: Uint8Array, from: number, to: number, constant: Uint8Array): boolean {
  const size = constant.length;
  if (to - from !== size) return false;
  for (let i = 0; i < size; i++) if (bytes[from + i] !== constant[i]) return false;
  return true;
}

/** `constant` must be lower case. */
export function equalsIgnoreCase(bytes: Uint8Array, from: number, to: number, constant: Uint8Array): boolean {
  const size = constant.length;
  if (to - from !== size) return false;
  for (let i = 0; i < size; i++) if (lower[bytes[from + i] as number] !== constant[i]) return false;
  return true;
}

export function startsWith(bytes: Uint8Array, from: number, to: number, constant: Uint8Array): boolean {
  const size = constant.length;
  if (to - from < size) return false;
  for (let i = 0; i < size; i++) if (bytes[from + i] !== constant[i]) return false;
  return true;
}

/** Position of `byte` in [from, to), or -1. */
export function indexOf(bytes: Uint8Array, from: number, to: number, byte: number): number {
  for (let i = from; i < to; i++) if (bytes[i] === byte) return i;
  return -1;
}
