// Owns: opening a listener on a port that this process listens on already, so that it takes the other one's place and no connection is refused or reset.
// Linux only, loaded when it is first needed: Bun's HTTPS server cannot be given another certificate.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/**
 * New connections go to what `open` opens (with `reusePort`) from then on; the listener that was there accepts what has begun and is the caller's to end.
 * At most two listeners at a time. Throws where the system cannot, or what `open` throws: then all is as before.
 */
export async function openBeside<L>(port: number, open: () => L): Promise<L> {
  const { leadToSecond, sharePort } = await import("../../base/system.ts");
  const fd = listeningDescriptor(port);
  sharePort(fd);
  const next = open();
  try {
    leadToSecond(fd);
  } catch {
    // A kernel that spreads them (before Linux 4.5): some go to the other listener until that is closed.
  }
  return next;
}

/** Bun does not tell the descriptor of an HTTP server. proc(5): state 0A listens, the tenth word is the inode. */
function listeningDescriptor(port: number): number {
  const end = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const sockets = new Set<string>();
  for (const table of ["/proc/self/net/tcp", "/proc/self/net/tcp6"]) {
    for (const line of linesOf(table)) {
      const words = line.trim().split(/\s+/);
      if (words[3] === "0A" && words[1]?.endsWith(end) === true) sockets.add(`socket:[${words[9]}]`);
    }
  }
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      if (sockets.has(readlinkSync(`/proc/self/fd/${name}`))) return Number(name);
    } catch {
      // Closed since the folder was read.
    }
  }
  throw new Error(`the socket that listens on port ${port} was not found among the descriptors of this process`);
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n").slice(1);
  } catch {
    // A machine without IPv6 has no tcp6.
    return [];
  }
}
