// Owns: reading from a stream's account which ports of a Gateway its proxy does not have open, and why. Pure.

import type { ClosedListener } from "../../api/kinds/closed-listeners.ts";
import type { Ledger } from "./ledger.ts";

/** undefined = nothing can be said yet: what it was sent has no answer. */
export function closedListenersOf(ledger: Ledger): readonly ClosedListener[] | undefined {
  const listeners = ledger.type("listener");
  if (!listeners.hasRejected) return listeners.settled() && listeners.subscribed ? [] : undefined;
  const account = listeners.account();
  const out: ClosedListener[] = [];
  for (const { name, version, reason } of listeners.quarantined()) {
    // As `gatewayListener` writes it.
    const [, port, udp] = /^gateway\|(\d+)(\|udp)?$/.exec(name) ?? [];
    if (port === undefined) continue;
    const entry = account.get(name);
    const older = entry?.state === "rejected" && entry.resource !== undefined && entry.resource.version !== version;
    const transport = udp === undefined ? "tcp" : "udp";
    out.push({ port: Number(port), transport, reason: older ? "Outdated" : "NotOpen", words: wordsAbout(name, reason) });
  }
  return out.sort((a, b) => a.port - b.port || (a.transport < b.transport ? -1 : 1));
}

/** One rejection speaks of several resources, a line for each, as our proxies and Envoys write them. */
function wordsAbout(name: string, reason: string): string {
  const own = reason.split("\n").filter((line) => line.includes(name));
  const lines = own.length === 0 ? [reason] : own;
  return lines.map((line) => (line.startsWith(`listener ${name}: `) ? line.slice(`listener ${name}: `.length) : line)).join("; ");
}
