// Owns: a certificate with its private key, as the TLS stack wants it, in a form that prints as nothing: the key sits in a private field behind a
// getter of the prototype, where neither JSON, spreading nor an inspector looks.

/** `privateKeyPem` is for the TLS stack only. */
export class KeyPair {
  readonly certificatePem: string;
  readonly #privateKeyPem: string;

  constructor(certificatePem: string, privateKeyPem: string) {
    this.certificatePem = certificatePem;
    this.#privateKeyPem = privateKeyPem;
  }

  get privateKeyPem(): string {
    return this.#privateKeyPem;
  }

  toJSON(): object {
    return { certificatePem: this.certificatePem, privateKeyPem: "[redacted]" };
  }

  toString(): string {
    return "[key pair]";
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "[key pair]";
  }
}
