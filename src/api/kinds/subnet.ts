// Owns: networks in CIDR form where two of them must be told to be the same: the address without what lies within the network. Pure.

import { isIPv6 } from "node:net";
import { parseCidr } from "./authorizationpolicy.ts";

export interface Subnet {
  /** In its canonical form, bits of the host cleared. */
  readonly prefix: string;
  readonly length: number;
}

/** An address, or ADDRESS/LENGTH; undefined = it is neither. */
export function parseSubnet(text: string): Subnet | undefined {
  const parsed = parseCidr(text);
  if (parsed === undefined) return undefined;
  const { prefix, length } = parsed;
  const six = isIPv6(prefix);
  const [size, bits] = six ? [8, 16] : [4, 8];
  const groups = (six ? sixGroups(prefix) : prefix.split(".").map(Number)).map((group, at) => {
    const kept = Math.min(bits, Math.max(0, length - at * bits));
    return group & ~(2 ** (bits - kept) - 1);
  });
  if (groups.length !== size) return undefined;
  return { prefix: six ? canonicalSix(groups) : groups.join("."), length };
}

function canonicalSix(groups: readonly number[]): string {
  const host = new URL(`http://[${groups.map((group) => group.toString(16)).join(":")}]/`).hostname;
  return host.slice(1, -1);
}

function sixGroups(address: string): number[] {
  // The URL standard writes addresses in hexadecimal throughout, with at most one "::".
  const host = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const [head = "", tail] = host.split("::");
  const read = (part: string) => (part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16)));
  const [first, last] = [read(head), tail === undefined ? [] : read(tail)];
  return [...first, ...Array.from({ length: tail === undefined ? 0 : 8 - first.length - last.length }, () => 0), ...last];
}
