// Owns: what clients have rejected, beyond the end of their stream: a client that comes back with what it held is not offered again what it rejected, until
// the content changes. Whoever comes with nothing (a new process, in another place or of another build) or as another build is offered everything.
// Bounded; forgets the longest unheard-of first. Never decides what is sent: each stream's ledger does.

import { streamOrder } from "../../wire/xds-types.ts";
import type { Ledger } from "./ledger.ts";
import type { Quarantined } from "./type-ledger.ts";

/** Clients remembered: as many as there may be streams. */
export const maxRemembered = 10_000;
/** Rejected resources of one client. One that rejects more is broken as a whole, and is told of as that. */
export const maxRememberedNames = 256;
/** Of a reason that is kept. */
const mostReason = 1_000;

interface Remembered {
  readonly agent: string;
  readonly byType: ReadonlyMap<string, readonly Quarantined[]>;
}

export class Quarantine {
  /** By snapshot key; the one heard of last is at the end. */
  readonly #clients = new Map<string, Remembered>();

  get size(): number {
    return this.#clients.size;
  }

  /** What this client's stream has come to. Call when something was rejected, and when the stream ends. */
  remember(key: string, agent: string, ledger: Ledger): void {
    const before = this.#clients.get(key);
    this.#clients.delete(key);
    const byType = new Map<string, readonly Quarantined[]>();
    let room = maxRememberedNames;
    for (const type of streamOrder) {
      const found: Quarantined[] = [];
      for (const { name, version, reason } of ledger.type(type).remembered()) {
        if (room-- <= 0) break;
        found.push({ name, version, reason: reason.slice(0, mostReason) });
      }
      if (found.length > 0) byType.set(type, found);
    }
    // A stream of another build that ends says nothing of this one's.
    if (byType.size === 0) {
      if (before !== undefined && before.agent !== agent) this.#clients.set(key, before);
      return;
    }
    this.#clients.set(key, { agent, byType });
    if (this.#clients.size > maxRemembered) this.#clients.delete(this.#clients.keys().next().value as string);
  }

  /** The client has shown that it goes on with what it held. */
  recall(key: string, agent: string, ledger: Ledger): void {
    const known = this.#clients.get(key);
    if (known === undefined || known.agent !== agent) return;
    for (const type of streamOrder) ledger.type(type).recall(known.byType.get(type) ?? []);
  }
}
