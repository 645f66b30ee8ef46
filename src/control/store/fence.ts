// Owns: what keeps two holders of one lease apart: a fence that goes with each write, checked by the store in the same step as the write itself.

import { StoreFailure } from "./store.ts";

/** Proof of holding a lease. A write under it is refused by the store as soon as the lease has ended, whatever its holder believes. */
export interface Fence {
  /** Of the lease, for messages. */
  readonly name: string;
  /** Where the store keeps it. */
  readonly key: string;
  /** Grows with each holder. */
  readonly token: bigint;
}

/** The lease was lost; nothing was written. Whoever holds it now does the work. */
export class FencedError extends StoreFailure {
  readonly lease: string;
  constructor(lease: string) {
    super(`this control plane no longer holds the lease ${JSON.stringify(lease)}; nothing was written, its new holder does the work`);
    this.lease = lease;
  }
}
