// Owns: reading the PROXY protocol header that a load balancer puts before a connection (versions 1 and 2 of HAProxy's specification).
// Must never be asked on a listener that is not told to: whoever may write the header says who they are.

import { ipFamily } from "../xds/decode/ip.ts";
import { formatIp } from "./address.ts";
import { netLimits } from "./limits.ts";

export const proxyFault = { absent: -1, malformed: -2, tooLarge: -3, unsupported: -4 } as const;

/** One header; reused from call to call. */
export class ProxyHeader {
  version: 0 | 1 | 2 = 0;
  /** The header carries no addresses (LOCAL, UNKNOWN, UNSPEC): the connection's own hold. */
  local = true;
  sourceHost = "";
  sourcePort = 0;
  destinationHost = "";
  destinationPort = 0;
}

const signature = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const word = Buffer.from("PROXY ", "latin1");

/** Does the beginning of bytes[from, to) fit `wanted`? Its length, 0 for a part of it, -1. */
function begins(bytes: Uint8Array, from: number, to: number, wanted: Uint8Array): number {
  const size = Math.min(to - from, wanted.length);
  for (let i = 0; i < size; i++) if (bytes[from + i] !== wanted[i]) return -1;
  return size === wanted.length ? size : 0;
}

/** Reads the header in bytes[from, to). Positive: its length, with `header` filled; zero: more is needed; negative: a `proxyFault`. TLVs are passed over. */
export function parseProxyHeader(bytes: Uint8Array, from: number, to: number, header: ProxyHeader): number {
  header.local = true;
  header.version = 0;
  const two = begins(bytes, from, to, signature);
  if (two > 0) return version2(bytes, from, to, header);
  const one = begins(bytes, from, to, word);
  if (one > 0) return version1(bytes, from, to, header);
  return two === 0 || one === 0 ? 0 : proxyFault.absent;
}

/** Section 2.1: `PROXY TCP4 source destination port port CRLF`. */
function version1(bytes: Uint8Array, from: number, to: number, header: ProxyHeader): number {
  header.version = 1;
  const limit = Math.min(to, from + netLimits.proxyLineBytes);
  let end = from + word.length;
  let text = "";
  while (end < limit && bytes[end] !== 13) {
    const byte = bytes[end] as number;
    if (byte < 32 || byte > 126) return proxyFault.malformed;
    text += String.fromCharCode(byte);
    end++;
  }
  if (end - from > netLimits.proxyLineBytes - 2) return proxyFault.tooLarge;
  if (end + 1 >= to) return 0;
  if (bytes[end + 1] !== 10) return proxyFault.malformed;
  const used = end + 2 - from;
  // Section 2.1: whatever follows UNKNOWN is ignored.
  if (text === "UNKNOWN" || text.startsWith("UNKNOWN ")) return used;
  const parts = text.split(" ");
  const family = parts[0] === "TCP4" ? 4 : parts[0] === "TCP6" ? 6 : 0;
  if (family === 0 || parts.length !== 5) return proxyFault.malformed;
  const [, source, destination, sourcePort, destinationPort] = parts as [string, string, string, string, string];
  header.sourcePort = port(sourcePort);
  header.destinationPort = port(destinationPort);
  if (ipFamily(source) !== family || ipFamily(destination) !== family || header.sourcePort < 0 || header.destinationPort < 0)
    return proxyFault.malformed;
  header.sourceHost = source;
  header.destinationHost = destination;
  header.local = false;
  return used;
}

/** Decimal, 0 to 65535, no leading zeros (section 2.1); -1: not one. */
function port(text: string): number {
  if (text.length === 0 || text.length > 5 || (text.length > 1 && text.charCodeAt(0) === 48)) return -1;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value > 65_535 ? -1 : value;
}

/** Section 2.2: signature, version and command, family and transport, length, addresses, TLVs. */
function version2(bytes: Uint8Array, from: number, to: number, header: ProxyHeader): number {
  header.version = 2;
  if (to - from < 16) return 0;
  const how = bytes[from + 12] as number;
  const what = bytes[from + 13] as number;
  if (how >> 4 !== 2 || (how & 15) > 1) return proxyFault.malformed;
  const length = ((bytes[from + 14] as number) << 8) | (bytes[from + 15] as number);
  if (length > netLimits.proxyBlockBytes) return proxyFault.tooLarge;
  const used = 16 + length;
  const proxied = (how & 15) === 1 && what !== 0;
  const size = what === 0x11 ? 4 : what === 0x21 ? 16 : 0;
  // Sockets of the file system and datagrams cannot be the other end of a TCP connection.
  if (proxied && size === 0) return proxyFault.unsupported;
  if (proxied && length < 2 * size + 4) return proxyFault.malformed;
  if (to - from < used) return 0;
  if (!proxied) return used;
  const at = from + 16;
  header.sourceHost = formatIp(bytes, at, size);
  header.destinationHost = formatIp(bytes, at + size, size);
  const ports = at + 2 * size;
  header.sourcePort = ((bytes[ports] as number) << 8) | (bytes[ports + 1] as number);
  header.destinationPort = ((bytes[ports + 2] as number) << 8) | (bytes[ports + 3] as number);
  header.local = false;
  return used;
}

/** For the log. */
export function explainProxyFault(fault: number): string {
  switch (fault) {
    case proxyFault.absent:
      return "it does not begin with a PROXY protocol header";
    case proxyFault.tooLarge:
      return "its PROXY protocol header is too long";
    case proxyFault.unsupported:
      return "its PROXY protocol header names addresses that are not of TCP";
    default:
      return "its PROXY protocol header is malformed";
  }
}
