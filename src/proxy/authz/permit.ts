// Owns: the proof that a request or a connection was authorized (rule 12). Only `authz/judge.ts` may call `grant`; a test holds everyone else to it.

declare const brand: unique symbol;

/** What `balance.pick` and `tcp` forwarding take; there is no other way to get one than to pass the policies. */
export interface Permit {
  readonly [brand]: true;
}

const only = Object.freeze({}) as Permit;

/** For `authz/judge.ts` alone. */
export function grant(): Permit {
  return only;
}
