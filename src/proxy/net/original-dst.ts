// Owns: asking the kernel where a redirected connection was meant to go (SO_ORIGINAL_DST of netfilter's NAT, Linux).

import type { HostPort } from "../config.ts";
import { formatIp } from "./address.ts";
import { libc } from "./libc.ts";

// linux/in.h, linux/in6.h, linux/netfilter_ipv4.h and netfilter_ipv6/ip6_tables.h
const solIp = 0;
const solIpv6 = 41;
const soOriginalDst = 80;

/** Opens the library now, so that a listener that needs it fails when it is configured, not with its first connection. Throws a sentence. */
export function prepareOriginalDestination(): void {
  if (process.platform !== "linux") throw new Error("original destinations are known on Linux only");
  libc();
}

const room = new Uint8Array(28);
const size = new Uint32Array(1);

/** Where the connection on this descriptor went before it was redirected; null: it was not. */
export function originalDestination(fd: number): HostPort | null {
  const { getsockopt } = libc();
  // A connection is tracked under its own family; an IPv4 client of a dual-stack socket is tracked as IPv4.
  size[0] = 16;
  if (getsockopt(fd, solIp, soOriginalDst, room, size) === 0) return { host: formatIp(room, 4, 4), port: portOf() };
  size[0] = 28;
  if (getsockopt(fd, solIpv6, soOriginalDst, room, size) === 0) return { host: formatIp(room, 8, 16), port: portOf() };
  return null;
}

/** struct sockaddr_in and sockaddr_in6 both have the port after the family, in network order. */
function portOf(): number {
  return ((room[2] as number) << 8) | (room[3] as number);
}
