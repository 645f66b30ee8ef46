// Owns: addresses of a connection's real ends: their text, and how a socket comes to say them when a PROXY protocol header or the kernel's redirection
// told us more than the socket knows. Policies, logs and forwarded headers read them off the socket as ever.

import type { HostPort } from "../config.ts";
import type { Wire } from "./outbox.ts";

/** The text of an address of 4 or 16 bytes (RFC 5952: lower case, the longest run of zeros left out), as the kernel's own would be. */
export function formatIp(bytes: Uint8Array, at: number, size: number): string {
  if (size === 4) return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
  const group = (n: number): number => ((bytes[at + 2 * n] as number) << 8) | (bytes[at + 2 * n + 1] as number);
  // ::ffff:a.b.c.d is an IPv4 address: policies on it are written in that form.
  if (group(0) === 0 && group(1) === 0 && group(2) === 0 && group(3) === 0 && group(4) === 0 && group(5) === 0xffff)
    return formatIp(bytes, at + 12, 4);
  let runAt = -1;
  let runSize = 1;
  for (let n = 0; n < 8; n++) {
    let size = 0;
    while (n + size < 8 && group(n + size) === 0) size++;
    if (size > runSize) {
      runAt = n;
      runSize = size;
    }
    n += size;
  }
  let text = "";
  for (let n = 0; n < 8; n++) {
    if (n === runAt) {
      text += n === 0 ? "::" : ":";
      n += runSize - 1;
      continue;
    }
    text += group(n).toString(16);
    if (n < 7) text += ":";
  }
  return text;
}

/**
 * From now on the socket says these ends. Own properties before the getters of Bun's socket: nothing else has to know, and connections that are not
 * redirected pay nothing. Call before any policy is asked; again on the socket that TLS makes of it.
 */
export function readdress(socket: Wire, remote: HostPort | null, local: HostPort | null): void {
  if (remote !== null) {
    Object.defineProperty(socket, "directAddress", { value: socket.remoteAddress });
    Object.defineProperty(socket, "remoteAddress", { value: remote.host });
    Object.defineProperty(socket, "remotePort", { value: remote.port });
  }
  if (local !== null) {
    Object.defineProperty(socket, "localAddress", { value: local.host });
    Object.defineProperty(socket, "localPort", { value: local.port });
  }
}
