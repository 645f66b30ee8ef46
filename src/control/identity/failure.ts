// Owns: the errors of identity: what a person did wrong or has in the wrong place, in words that name it and the way out.

/** The data folder or a flag is at fault; `weft up` stops with this sentence. */
export class IdentityError extends Error {
  override readonly name = "IdentityError";
}

/** A certificate signing request that is refused. Maps to INVALID_ARGUMENT or, where the name is not the caller's, PERMISSION_DENIED. */
export class CsrRefused extends Error {
  override readonly name = "CsrRefused";
  readonly kind: "malformed" | "forbidden";
  constructor(kind: "malformed" | "forbidden", message: string) {
    super(message);
    this.kind = kind;
  }
}
