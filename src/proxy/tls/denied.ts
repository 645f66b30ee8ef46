// Owns: the deny list as a handshake asks it: who is refused although a root of the mesh vouches for them. Where nothing is denied there is none, and
// nobody asks. Never decides whom it lists.

import { backdateMs, type DenyList, plainSerial } from "../../wire/trust.ts";

/** What is known of a certificate. */
export interface Presented {
  /** As in the certificate, upper-case hexadecimal. */
  readonly serial: string;
  readonly notBeforeMs: number;
  readonly principal: string | null;
}

export class Denied {
  readonly list: DenyList;
  readonly #serials: ReadonlySet<string>;
  /** By SPIFFE ID: only certificates issued before, ms; Infinity: all. */
  readonly #identities: ReadonlyMap<string, number>;

  constructor(list: DenyList) {
    this.list = list;
    this.#serials = new Set(list.serials.map(plainSerial));
    const identities = new Map<string, number>();
    for (const { uri, issuedBefore } of list.identities) {
      const before = issuedBefore === null ? Number.POSITIVE_INFINITY : issuedBefore * 1000;
      identities.set(uri, Math.max(before, identities.get(uri) ?? 0));
    }
    this.#identities = identities;
  }

  /** Why this one is refused, as the end of a sentence; null: it is not. */
  why({ serial, notBeforeMs, principal }: Presented): string | null {
    if (this.#serials.size > 0 && this.#serials.has(plainSerial(serial))) return `the certificate ${serial} has been revoked`;
    const before = principal === null ? undefined : this.#identities.get(principal);
    if (before === undefined || notBeforeMs + backdateMs >= before) return null;
    return `${principal} has been revoked${before === Number.POSITIVE_INFINITY ? "" : ` for certificates issued before ${new Date(before).toISOString()}`}`;
  }
}
