// Owns: the words that the files of a session share: whose it is, what it is given, its states, the one head of a frame being read. Never acts.

import { Head } from "../http1/head.ts";
import type { HttpLimits } from "../http1/limits.ts";
import type { Outbox } from "../net/outbox.ts";
import type { FrameHead } from "./frame.ts";
import type { DefenceReason, Http2Metrics } from "./metrics.ts";
import type { SessionStream, StreamUser } from "./session-stream.ts";

export const clientPreface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Whose connection it is. Nothing here may call back into `receive`. */
export interface SessionOwner {
  /** The limits of heads and trailers, as they are now. */
  httpLimits(): HttpLimits;
  /** Server: a new stream with a good head. Its user, or null to refuse it. */
  accept(): StreamUser | null;
  /** Server: a head that is answered, not reset (too large, not supported). The stream is the owner's to answer and finish. */
  answerFault(stream: SessionStream, status: number, why: string): void;
  /** A message of the peer is malformed; its stream was reset. `head`: nobody has heard of the request yet. */
  malformed(why: string, head: boolean): void;
  /** The peer's first SETTINGS have come (client: requests may go), or later ones. */
  settled(first: boolean): void;
  /** Client: the peer takes no stream above `last`; those have been told. */
  goneAway(code: number, why: string): void;
  /** A stream is over. */
  streamClosed(): void;
  /** `idleAtMs` has passed. */
  idle(): void;
  /** The connection is over, by our word or the peer's: its streams have been told, GOAWAY waits in the outbox. Close the socket. */
  sessionEnded(code: number, why: string, defence: DefenceReason | null): void;
}

export interface SessionOptions {
  readonly server: boolean;
  readonly owner: SessionOwner;
  readonly out: Outbox;
  /** The coarse and the fine clock. */
  readonly time: { readonly nowMs: number; now(): number };
  readonly metrics: Http2Metrics | null;
  readonly random: () => number;
  /** Streams the peer may have open; 0 for a client, as pushing is refused. */
  readonly maxStreams: number;
  /** Where our windows start. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  /** For the preface with its SETTINGS; 0 = none. */
  readonly startTimeoutMs: number;
  /** A PING after this long without a byte; 0 = none. */
  readonly keepaliveMs: number;
  /** For the answer to it, or any other byte; default `limits.pingTimeoutMs`. */
  readonly pingTimeoutMs?: number;
  /** Up to this share of `keepaliveMs` is added by chance. */
  readonly keepaliveJitter?: number;
  /** Client: a PING goes ahead of a stream that is opened after this long without a byte; 0 = none. */
  readonly idlePingMs?: number;
  /** Client: streams we open at once, whatever more the peer allows. */
  readonly mostStreams?: number;
  /** Client: streams we open in all; then `spent`. */
  readonly mostRequests?: number;
  /** Streams are used again once they are over: their users forget them in `onClosed`. */
  readonly reuseStreams?: boolean;
  /** Client: streams may be opened before the peer's SETTINGS are here (RFC 9113 3.4 lets it). */
  readonly early?: boolean;
}

export const never = Number.POSITIVE_INFINITY;
export const state = { starting: 0, open: 1, draining: 2, closed: 3 } as const;

/** Kinds of our PINGs. */
export const pingKind = { keepalive: 1, probe: 2, drain: 3 } as const;

/** Small bodies travel with their head to the receiver, as one piece of bytes. */
export const joinedBody = 16_384;
export const joinedSize = 32_768;

/** Shared: frames and heads are read one at a time, and reading never waits. */
export const frameHead: FrameHead = { length: 0, type: 0, flags: 0, stream: 0 };
export const requestHead = new Head();
export const answerHead = new Head();

export interface Block {
  readonly stream: number;
  readonly endStream: boolean;
  readonly parts: Uint8Array[];
  bytes: number;
  frames: number;
}
