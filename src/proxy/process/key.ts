// Owns: how the sockets of a listener are found again in another process. Loads nothing, as every start of a proxy needs it.

import type { HostPort } from "../config.ts";

/** By the address, which says it all, and where any port will do by the listener's name too. */
export function socketKey(name: string, { host, port }: HostPort): string {
  return port === 0 ? `${host} 0 ${name}` : `${host} ${port}`;
}
