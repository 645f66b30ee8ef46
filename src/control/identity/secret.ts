// Owns: a string that must not be seen. It prints as `[redacted]` wherever it is logged, inspected or serialised; only `reveal` gives it away.

import { createHash, timingSafeEqual } from "node:crypto";
import { inspect } from "node:util";

const redacted = "[redacted]";

export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The text itself. Each call is a place where it could leak: keep them few. */
  reveal(): string {
    return this.#value;
  }

  /** Compares in a time that does not depend on where the two differ. */
  equals(other: string): boolean {
    return timingSafeEqual(digest(this.#value), digest(other));
  }

  toString(): string {
    return redacted;
  }

  toJSON(): string {
    return redacted;
  }

  [inspect.custom](): string {
    return redacted;
  }
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
