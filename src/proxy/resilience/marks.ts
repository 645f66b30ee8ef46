// Owns: how a retry is told from a first attempt across hops, so that it is not multiplied by the next: the header `x-envoy-attempt-count` above 1, and,
// for applications that pass `x-request-id` on but no other header, the ids of the retries that are under way towards the application beside us.

import { latin1, text } from "../http/bytes.ts";
import { fieldNamed } from "../http/grpc.ts";
import { field, type Head } from "../http1/head.ts";

const countName = latin1("x-envoy-attempt-count");

/** What the request says of itself: the number of its attempt, 1 where it says nothing that can be read. */
export function attemptCount(bytes: Uint8Array, head: Head): number {
  const i = fieldNamed(bytes, head, countName);
  if (i < 0) return 1;
  let value = 0;
  const to = head.valueTo[i] as number;
  const from = head.valueFrom[i] as number;
  if (to === from || to - from > 3) return 1;
  for (let at = from; at < to; at++) {
    const digit = (bytes[at] as number) - 48;
    if (digit < 0 || digit > 9) return 1;
    value = value * 10 + digit;
  }
  return value < 1 ? 1 : value;
}

/** The line that marks an attempt, instead of what the head has of it. */
export function markAttempt(bytes: Uint8Array, head: Head, own: number): Uint8Array {
  const count = attemptCount(bytes, head) + own - 1;
  const i = fieldNamed(bytes, head, countName);
  if (i >= 0) head.kind[i] = field.edited;
  return latin1(`x-envoy-attempt-count: ${count > 999 ? 999 : count}\r\n`);
}

export function requestIdOf(bytes: Uint8Array, head: Head): string {
  const i = head.requestId;
  return i < 0 ? "" : text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
}

/** Ids of retries under way to the application beside this proxy. As many as there are such requests. */
export class RetriedIds {
  readonly #counts = new Map<string, number>();

  get size(): number {
    return this.#counts.size;
  }

  add(id: string): void {
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
  }

  remove(id: string): void {
    const count = this.#counts.get(id);
    if (count === undefined) return;
    if (count > 1) this.#counts.set(id, count - 1);
    else this.#counts.delete(id);
  }

  has(id: string): boolean {
    return this.#counts.has(id);
  }
}
