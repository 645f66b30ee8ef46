// Owns: what an edge proxy says about the client it has met (Envoy's `use_remote_address`): its address at the end of X-Forwarded-For, and the scheme it
// came by in X-Forwarded-Proto, whatever the client says of it. Both stand in the head before anything reads it, so that routes, policies, logs and
// instances see the same. Never decides whom to believe: what a client wrote before its own address is a claim.

import { Head, parseRequest } from "../http1/head.ts";
import type { HttpLimits } from "../http1/limits.ts";
import { equalsIgnoreCase, latin1, text } from "./bytes.ts";

const forName = latin1("x-forwarded-for");
const protoName = latin1("x-forwarded-proto");
/** An address, both names and what is between. */
const mostAdded = 128;

/** Of the request that was told last; valid until the next one. */
export const toldHead = new Head();

/**
 * The request's head with both fields; `toldHead` is filled for it. null: with them it would be above the listener's limits, which hold for the head as it
 * goes on. `address` is the connection's, without port.
 */
export function tellForwarded(bytes: Uint8Array, head: Head, limits: HttpLimits, address: string, secure: boolean): Uint8Array | null {
  const made = Buffer.allocUnsafe(head.to - head.from + head.count * 4 + mostAdded);
  let to = 0;
  const copy = (from: number, until: number): void => {
    made.set(bytes.subarray(from, until), to);
    to += until - from;
  };
  const put = (words: string): void => {
    to += made.write(words, to, "latin1");
  };
  copy(head.from, head.targetTo);
  put(head.minor === 0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
  let claimed = "";
  for (let i = 0; i < head.count; i++) {
    const from = head.nameFrom[i] as number;
    const size = (head.nameTo[i] as number) - from;
    if (size === forName.length && equalsIgnoreCase(bytes, from, from + size, forName)) {
      const value = text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
      // RFC 9110 5.3: several lines of a list are one.
      if (value !== "") claimed += `${value}, `;
      continue;
    }
    if (size === protoName.length && equalsIgnoreCase(bytes, from, from + size, protoName)) continue;
    copy(from, from + size);
    put(": ");
    copy(head.valueFrom[i] as number, head.valueTo[i] as number);
    put("\r\n");
  }
  put(`x-forwarded-for: ${claimed}${plainAddress(address)}\r\nx-forwarded-proto: ${secure ? "https" : "http"}\r\n\r\n`);
  if (to > limits.headBytes) return null;
  toldHead.limits = limits;
  toldHead.openBody = head.openBody;
  return parseRequest(made, 0, to, toldHead) > 0 ? made.subarray(0, to) : null;
}

/** A client of IPv4 at a socket for both families has an address of its own all the same. */
function plainAddress(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice("::ffff:".length) : address;
}
