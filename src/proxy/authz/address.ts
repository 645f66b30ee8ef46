// Owns: CIDR prefixes over printed addresses. Configuration compiles; a match parses the peer's address (rules on addresses are rare).

import { hexValue } from "../http/bytes.ts";

/** Throws when the prefix is no address or too long. */
export function addressInPrefix(prefix: string, length: number): (address: string) => boolean {
  const wanted = parseAddress(prefix);
  if (wanted === null || length < 0 || length > wanted.length * 8) throw new Error(`${prefix}/${length} is no address prefix`);
  return (address) => {
    const found = parseAddress(address);
    if (found === null || found.length !== wanted.length) return false;
    const whole = length >> 3;
    for (let i = 0; i < whole; i++) if (found[i] !== wanted[i]) return false;
    const bits = length & 7;
    return bits === 0 || (found[whole] as number) >> (8 - bits) === (wanted[whole] as number) >> (8 - bits);
  };
}

/** 4 or 16 bytes; an IPv4 address mapped into IPv6 (`::ffff:10.0.0.1`) is the IPv4 one. null: neither. */
export function parseAddress(text: string): Uint8Array | null {
  if (!text.includes(":")) return parseV4(text);
  const percent = text.indexOf("%");
  const plain = percent < 0 ? text : text.slice(0, percent);
  const halves = plain.split("::");
  if (halves.length > 2) return null;
  const head = groups(halves[0] as string, halves.length === 1);
  const tail = halves.length === 2 ? groups(halves[1] as string, true) : [];
  if (head === null || tail === null) return null;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const all = [...head, ...new Array<number>(missing).fill(0), ...tail];
  const out = new Uint8Array(16);
  all.forEach((group, i) => {
    out[i * 2] = group >> 8;
    out[i * 2 + 1] = group & 0xff;
  });
  const mapped = all.slice(0, 5).every((group) => group === 0) && all[5] === 0xffff;
  return mapped ? out.slice(12) : out;
}

/** `last`: nothing follows, so that the end may be spelt as IPv4. */
function groups(text: string, last: boolean): number[] | null {
  if (text === "") return [];
  const out: number[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    if (part.includes(".")) {
      const v4 = last && i === parts.length - 1 ? parseV4(part) : null;
      if (v4 === null) return null;
      out.push(((v4[0] as number) << 8) | (v4[1] as number), ((v4[2] as number) << 8) | (v4[3] as number));
      continue;
    }
    if (part.length === 0 || part.length > 4) return null;
    let value = 0;
    for (let at = 0; at < part.length; at++) {
      const digit = hexValue[part.charCodeAt(at)] ?? 255;
      if (digit > 15) return null;
      value = value * 16 + digit;
    }
    out.push(value);
  }
  return out;
}

function parseV4(text: string): Uint8Array | null {
  const out = new Uint8Array(4);
  let at = 0;
  for (let i = 0; i < 4; i++) {
    if (i > 0 && text.charCodeAt(at++) !== 46) return null;
    const from = at;
    let value = 0;
    for (let digit = text.charCodeAt(at) - 48; digit >= 0 && digit <= 9; digit = text.charCodeAt(++at) - 48) value = value * 10 + digit;
    // A zero in front is octal to some: what two readers could take differently is no address.
    if (at === from || at - from > 3 || value > 255 || (at - from > 1 && text.charCodeAt(from) === 48)) return null;
    out[i] = value;
  }
  return at === text.length ? out : null;
}
