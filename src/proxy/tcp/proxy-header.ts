// Owns: writing the PROXY protocol header (HAProxy's specification, versions 1 and 2) that tells an upstream who its client is. The reader is
// net/proxy-protocol.ts. Never decides who gets one: a cluster's configuration does.

import { parseAddress } from "../authz/address.ts";

export type ProxyHeaderVersion = 1 | 2;

/** The longest: version 1 says so itself (section 2.1, 107 characters); version 2 over IPv6 has 52. */
export const proxyHeaderBytes = 107;

const signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

/**
 * Writes the header of a TCP connection to `out` (at least `proxyHeaderBytes`) and returns its size. Addresses that are no IP addresses, as on a
 * connection that is gone already, make it UNKNOWN or LOCAL: the receiver then takes the connection's own (sections 2.1 and 2.2).
 */
export function putProxyHeader(
  version: ProxyHeaderVersion,
  sourceHost: string,
  sourcePort: number,
  destinationHost: string,
  destinationPort: number,
  out: Uint8Array,
): number {
  let source = parseAddress(sourceHost);
  let destination = parseAddress(destinationHost);
  // Both must be of one family: an IPv4 address has a form in IPv6.
  if (source !== null && destination !== null && source.length !== destination.length) {
    source = mapped(source);
    destination = mapped(destination);
  }
  return version === 1
    ? putText(source, sourcePort, destination, destinationPort, out)
    : putBinary(source, sourcePort, destination, destinationPort, out);
}

function putText(
  source: Uint8Array | null,
  sourcePort: number,
  destination: Uint8Array | null,
  destinationPort: number,
  out: Uint8Array,
): number {
  let line = "PROXY UNKNOWN\r\n";
  if (source !== null && destination !== null) {
    const family = source.length === 4 ? "TCP4" : "TCP6";
    line = `PROXY ${family} ${text(source)} ${text(destination)} ${sourcePort} ${destinationPort}\r\n`;
  }
  for (let i = 0; i < line.length; i++) out[i] = line.charCodeAt(i);
  return line.length;
}

/** Section 2.2: signature, version and command, family and transport, length, addresses and ports in network order. */
function putBinary(
  source: Uint8Array | null,
  sourcePort: number,
  destination: Uint8Array | null,
  destinationPort: number,
  out: Uint8Array,
): number {
  out.set(signature);
  out[14] = 0;
  if (source === null || destination === null) {
    out[12] = 0x20;
    out[13] = 0;
    out[15] = 0;
    return 16;
  }
  const size = source.length;
  out[12] = 0x21;
  out[13] = size === 4 ? 0x11 : 0x21;
  out[15] = 2 * size + 4;
  out.set(source, 16);
  out.set(destination, 16 + size);
  const ports = 16 + 2 * size;
  out[ports] = sourcePort >> 8;
  out[ports + 1] = sourcePort & 0xff;
  out[ports + 2] = destinationPort >> 8;
  out[ports + 3] = destinationPort & 0xff;
  return ports + 4;
}

/** Every group written out: the double colon is allowed and not needed. */
function text(address: Uint8Array): string {
  if (address.length === 4) return address.join(".");
  let made = "";
  for (let i = 0; i < 16; i += 2)
    made += `${i === 0 ? "" : ":"}${(((address[i] as number) << 8) | (address[i + 1] as number)).toString(16)}`;
  return made;
}

function mapped(address: Uint8Array): Uint8Array {
  if (address.length === 16) return address;
  const out = new Uint8Array(16);
  out[10] = 0xff;
  out[11] = 0xff;
  out.set(address, 12);
  return out;
}
