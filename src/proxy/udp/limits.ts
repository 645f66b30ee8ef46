// Owns: every bound of UDP forwarding, each with its reason. docs/reference/limits.md says them to users.

export const udpLimits = {
  /** Sessions of one listener, whatever its cluster's `max_connections` says (default 1024, and it counts here): a session holds a file descriptor. */
  sessions: 10_000,
  /**
   * A full listener makes room by ending the session that was quiet for longest, if it was for this long; else the new one is refused. Clients of
   * DNS use a port once and leave their session idle for a minute: refusing at once would stop them at a few per second. A session that was busy
   * within the last second is never the price of a newcomer, whose address may be forged.
   */
  evictQuietMs: 1_000,
  /** A listener that is going (removed, or the proxy drains) ends a session after this silence, if its own idle limit is not shorter. */
  drainQuietMs: 5_000,
  /**
   * Where another process has bound the address too (a worker, a successor), a listener that is going serves on for this long, so that answers under
   * way arrive; then it closes, and the kernel gives its clients to the other. Refusing them meanwhile would lose what they send.
   */
  sharedDrainMs: 1_000,
} as const;
