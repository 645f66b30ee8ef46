// Owns: the one deadline of a request: the shortest of what its route, its stream, `grpc-timeout` and a peer's `x-envoy-expected-rq-timeout-ms` say, and how
// the next hop is told what is left of it. Clocks are never compared between hosts: what travels is a duration, shortened at each hop.

import type { HttpChain } from "../chain/chain.ts";
import { field, type Head } from "../http1/head.ts";
import { latin1 } from "./bytes.ts";
import type { Exchange } from "./exchange.ts";
import { fieldNamed } from "./grpc.ts";

const expectedName = latin1("x-envoy-expected-rq-timeout-ms");
const grpcName = latin1("grpc-timeout");

/**
 * What the caller's sidecar has left, in ms; -1: nothing is said, or nobody who may say it. Believed of a verified peer, and of the application beside us,
 * which may pass on what it was called with; it can only shorten the caller's own request.
 */
export function expectedMs(x: Exchange, bytes: Uint8Array, head: Head): number {
  if (x.chain.inbound && x.down.peer === null) return -1;
  const i = fieldNamed(bytes, head, expectedName);
  if (i < 0) return -1;
  const to = head.valueTo[i] as number;
  const from = head.valueFrom[i] as number;
  if (to === from || to - from > 9) return -1;
  let value = 0;
  for (let at = from; at < to; at++) {
    const digit = (bytes[at] as number) - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

/** The line that tells the next hop, in place of what the head says; null: nothing is told here. `leftMs` is above 0. */
export function deadlineLine(x: Exchange, bytes: Uint8Array, head: Head, leftMs: number): Uint8Array | null {
  if (x.grpc !== null) {
    drop(bytes, head, grpcName);
    return latin1(`grpc-timeout: ${grpcTimeout(leftMs)}\r\n`);
  }
  if (!(x.chain.terminal as HttpChain).tellsDeadline) return null;
  drop(bytes, head, expectedName);
  return expectedLine(leftMs < 1 ? 1 : Math.floor(leftMs + roundingMs));
}

/** By the number of digits; written anew where the last one says something else, and copied within the call. */
const expectedLines = Array.from({ length: 11 }, (_one, digits) => latin1(`x-envoy-expected-rq-timeout-ms: ${"0".repeat(digits)}\r\n`));
const valueFrom = expectedName.length + 2;
let lastMs = -1;
let lastLine = expectedLines[1] as Uint8Array;

/** What is left is the difference of two sums on a fractional clock: what was 15000 may have become 14999.999999998. */
const roundingMs = 1e-6;

/** The same again for most requests: all that a route gives as much time to, and that are forwarded within a tick. */
function expectedLine(ms: number): Uint8Array {
  if (ms === lastMs) return lastLine;
  lastMs = ms;
  lastLine = writtenLine(ms);
  return lastLine;
}

function writtenLine(ms: number): Uint8Array {
  let digits = 1;
  for (let rest = ms; rest >= 10 && digits < 10; digits++) rest = Math.floor(rest / 10);
  const line = expectedLines[digits] as Uint8Array;
  let rest = ms;
  for (let at = valueFrom + digits - 1; at >= valueFrom; at--) {
    const next = Math.floor(rest / 10);
    line[at] = 48 + rest - next * 10;
    rest = next;
  }
  return line;
}

/** At most eight digits and a unit (the gRPC project's PROTOCOL-HTTP2). Rounded down: the next hop must not wait longer than we do. */
function grpcTimeout(leftMs: number): string {
  if (leftMs < 1) return `${Math.max(1, Math.floor(leftMs * 1_000))}u`;
  return leftMs < 1e8 ? `${Math.floor(leftMs)}m` : `${Math.min(99_999_999, Math.floor(leftMs / 1_000))}S`;
}

function drop(bytes: Uint8Array, head: Head, name: Uint8Array): void {
  const i = fieldNamed(bytes, head, name);
  if (i >= 0) head.kind[i] = field.edited;
}
