// Owns: one stream of a session: its state (RFC 9113 section 5.1), its windows and what waits to be sent. Never touches frames: the session does.

import type { Head } from "../http1/head.ts";

/** Section 5.1. `idle` streams have no object until they are opened; `closed` swallows what comes late. */
export const streamState = { idle: 0, open: 1, halfClosedLocal: 2, halfClosedRemote: 3, closed: 4 } as const;

/** What happens to a stream. */
export const streamEvent = { open: 0, localEnd: 1, remoteEnd: 2, reset: 3 } as const;

/** The one function that changes a stream's state; answers the new one. */
export function transition(stream: SessionStream, event: number): number {
  const from = stream.state;
  let to: number = from;
  switch (event) {
    // to: open
    case streamEvent.open:
      if (from === streamState.idle) to = streamState.open;
      break;
    // to: halfClosedLocal, closed
    case streamEvent.localEnd:
      if (from === streamState.open) to = streamState.halfClosedLocal;
      else if (from === streamState.halfClosedRemote) to = streamState.closed;
      break;
    // to: halfClosedRemote, closed
    case streamEvent.remoteEnd:
      if (from === streamState.open) to = streamState.halfClosedRemote;
      else if (from === streamState.halfClosedLocal) to = streamState.closed;
      break;
    // to: closed
    default:
      to = streamState.closed;
  }
  stream.state = to;
  return to;
}

/** Why a stream was reset, other than by its user. */
export const resetBy = {
  /** The peer's RST_STREAM. */
  peer: 0,
  /** The peer says that it never looked at the request: REFUSED_STREAM, or beyond the last stream of its GOAWAY. */
  unprocessed: 1,
  /** The connection is gone. */
  connection: 2,
  /** The peer broke a rule on this stream. */
  rule: 3,
  /** The peer took nothing for too long. */
  stall: 4,
} as const;

/** Who uses a stream. After `onReset` nothing follows but `onClosed`, which comes once and last, whatever ended the stream. */
export interface StreamUser {
  /** Set by the session before anything is heard. */
  stream: SessionStream | null;
  /** A request, or a final answer: its head, and what came of its body with it, [from, to). `end`: nothing follows. The bytes are the receiver's. */
  onHead(bytes: Buffer, head: Head, from: number, to: number, end: boolean): void;
  /** A 1xx answer. */
  onInterim(bytes: Buffer, head: Head): void;
  /** Payload. The bytes may be kept. */
  onData(bytes: Buffer, from: number, to: number, end: boolean): void;
  /** Trailer lines, which end the message. */
  onTrailers(bytes: Buffer, from: number, to: number): void;
  /** `by` is one of `resetBy`. */
  onReset(code: number, why: string, by: number): void;
  /** All that was queued is on its way. */
  onWritable(): void;
  /** Forget the stream now where its session uses streams again: it is another's from the next turn of the loop on. */
  onClosed(): void;
}

/** Of a stream that only carries our refusal, and of those that are over. */
class Nobody implements StreamUser {
  stream: SessionStream | null = null;
  onHead(): void {}
  onInterim(): void {}
  onData(): void {}
  onTrailers(): void {}
  onReset(): void {}
  onWritable(): void {}
  onClosed(): void {}
}
export const nobody: StreamUser = new Nobody();

/** The queue of streams that never had one: most. */
const noParts: Uint8Array[] = [];

export class SessionStream {
  id = 0;
  state: number = streamState.idle;
  user: StreamUser = nobody;
  /** What the peer lets us send; negative after a SETTINGS that took some away (6.9.2). */
  sendWindow = 0;
  /** What the peer may still send. */
  receiveWindow = 0;
  /** Taken by the sink and not given back to the peer's window yet. */
  unacknowledged = 0;
  /** Handed on while reading was paused: counted as taken when it resumes. */
  held = 0;
  paused = false;
  /** The final head (or the request's) has come. */
  gotHead = false;
  interims = 0;
  /** Payload that must still come (content-length); -1: not told. */
  expected = -1;
  /** Payload that has come. */
  received = 0;
  /** What waits to be sent, in order. */
  queue: Uint8Array[] = noParts;
  queued = 0;
  endQueued = false;
  /** Trailer lines that follow the queue. */
  trailers: Buffer | null = null;
  /** In the session's list of streams with something to send. */
  listed = false;
  /** When the windows began to hold us up; 0: they do not. */
  stalledSinceMs = 0;
  /** After our END_STREAM: RST_STREAM with NO_ERROR, as the rest of the request is not wanted (RFC 9113 8.1). */
  resetAfterEnd = false;
  /** RST_STREAM with NO_ERROR once the queue is out. */
  resetAfterQueue = false;
  /** An answer of ours has begun, or an answer of the peer's: it was no rapid reset. */
  answered = false;
  /** A HEAD request: the answer to it has no content whatever its head says. */
  bodyless = false;
  /** A tunnel: lengths mean nothing. */
  tunnel = false;

  /** For a new stream, whatever it was before. */
  begin(id: number, user: StreamUser, sendWindow: number, receiveWindow: number): void {
    this.id = id;
    this.state = streamState.idle;
    this.user = user;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
    this.unacknowledged = 0;
    this.held = 0;
    this.paused = false;
    this.gotHead = false;
    this.interims = 0;
    this.expected = -1;
    this.received = 0;
    this.queue = noParts;
    this.queued = 0;
    this.endQueued = false;
    this.trailers = null;
    this.listed = false;
    this.stalledSinceMs = 0;
    this.resetAfterEnd = false;
    this.resetAfterQueue = false;
    this.answered = false;
    this.bodyless = false;
    this.tunnel = false;
  }

  get canSend(): boolean {
    return this.state === streamState.open || this.state === streamState.halfClosedRemote;
  }

  get canReceive(): boolean {
    return this.state === streamState.open || this.state === streamState.halfClosedLocal;
  }
}

/** Streams that are over and may be used again; those of this turn, which callers up the stack may still look at, and those of earlier ones. */
const most = 256;
const over: SessionStream[] = [];
const free: SessionStream[] = [];

export function takeStream(): SessionStream {
  return free.pop() ?? new SessionStream();
}

/** Its user has forgotten it. A burst's are left to the collector. */
export function giveBackStream(stream: SessionStream): void {
  stream.user = nobody;
  if (over.length < most) over.push(stream);
}

/** Call where nothing is on the stack that may hold a stream: between two turns of the loop. */
export function recycleStreams(): void {
  while (over.length > 0) {
    const stream = over.pop() as SessionStream;
    if (free.length < most) free.push(stream);
  }
}
