// Owns: which filter chain takes a connection: by transport (TLS or plain) for now. Server names and ALPN in a match are refused when the
// listener is compiled, so nothing is silently ignored.

import type { ListenerConfig } from "../config.ts";
import type { ChainSlot } from "./chain.ts";

/** The chains of one listener, in order. */
export interface Chains {
  readonly slots: readonly ChainSlot[];
  /** The chain of every connection, when no look at the bytes is needed. */
  readonly first: ChainSlot | null;
  /** The first byte decides. */
  readonly sniff: boolean;
  /** Every connection starts with TLS. */
  readonly allTls: boolean;
  byTransport(isTls: boolean): ChainSlot | null;
}

/** Throws a sentence for matches that are not supported. */
export function checkMatches(config: ListenerConfig): void {
  if (config.chains.length === 0) throw new Error("a listener needs at least one filter chain");
  for (const chain of config.chains) {
    if (chain.match.serverNames.length > 0) throw new Error(`filter chain ${chain.name}: matching on server names is not supported yet`);
    if (chain.match.alpn.length > 0) throw new Error(`filter chain ${chain.name}: matching on ALPN is not supported yet`);
    if (chain.match.transport !== null && !config.inspectTls) {
      throw new Error(`filter chain ${chain.name} matches on the transport, which needs the tls_inspector listener filter`);
    }
  }
  if (config.chains.length > 1 && config.chains.every((chain) => chain.match.transport === null))
    throw new Error("several filter chains match every connection");
}

export function makeChains(slots: readonly ChainSlot[]): Chains {
  const sniff = slots.some((slot) => slot.current.config.match.transport !== null);
  const byTransport = (isTls: boolean): ChainSlot | null => {
    for (const slot of slots) {
      const wanted = slot.current.config.match.transport;
      if (wanted === null || (wanted === "tls") === isTls) return slot;
    }
    return null;
  };
  return { slots, first: slots[0] ?? null, sniff, allTls: !sniff && slots.every((slot) => slot.current.tls !== null), byTransport };
}
