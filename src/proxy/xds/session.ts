// Owns: what the two variants of the discovery protocol share: the client as they see it, and the form of a rejection. No state.

import type { Logger } from "../../base/log.ts";
import type { Node } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import { type StreamType, xdsTypeOf } from "../../wire/xds-types.ts";
import type { Incoming, ResourceStore } from "./store.ts";

/** One stream's bookkeeping; made anew for each stream. */
export interface AdsSession {
  /** Bytes of one response. */
  receive(bytes: Uint8Array): void;
  /** Asks for what is wanted now; the first call opens the subscriptions. */
  subscribe(): void;
  /** Tells the server what of the accepted is not in force; nothing = all of it is, again. */
  tellLate(type: StreamType, problems: readonly string[]): void;
}

/** What a session needs of the client. */
export interface AdsHost {
  readonly node: Node | undefined;
  readonly store: ResourceStore;
  /** Names wanted of a type; "all" for a wildcard; null: not subscribed. */
  wanted(type: StreamType): ReadonlySet<string> | "all" | null;
  /** Takes a response. Answers what is wrong; empty = acknowledge. */
  take(type: StreamType, resources: readonly Incoming[], removed: readonly string[]): readonly string[];
  /** The response has its answer: what is said now about its type is about that response. */
  answered(type: StreamType): void;
  /** Versions of what is in force, for the first request of a stream. */
  versions(type: StreamType): Record<string, string>;
  send(message: Uint8Array): void;
  readonly log: Logger;
}

/** The type behind a response's type URL if it is subscribed; undefined (and a line in the log) otherwise. */
export function subscribedType(host: AdsHost, url: string): StreamType | undefined {
  const type = xdsTypeOf(url);
  if (type !== undefined && host.wanted(type) !== null) return type;
  host.log.warn({ typeUrl: url }, "The control plane sent a type that was not asked for.");
  return undefined;
}

/** gRPC's INVALID_ARGUMENT, which is what Envoy puts into a rejection. */
export const rejectionCode = 3;

/** Long enough for every sane list of problems; a request must not grow without bound. */
const maxDetail = 16_384;

export function rejection(problems: readonly string[]): { readonly code: number; readonly message: string } {
  const message = problems.join("\n");
  return { code: rejectionCode, message: message.length > maxDetail ? `${message.slice(0, maxDetail)}... (cut)` : message };
}
