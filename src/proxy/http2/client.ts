// Owns: an HTTP/2 connection of our own to a server, for the streams to the control plane: a session with its keepalive, and streams that are opened by
// fields. Knows no sockets. Never retries and never reconnects.

import type { Clock, Timer } from "../../base/clock.ts";
import { defaultLimits, type HttpLimits } from "../http1/limits.ts";
import type { Outbox } from "../net/outbox.ts";
import { cancel, enhanceYourCalm, noError } from "./errors.ts";
import { limits } from "./limits.ts";
import { enter, leave } from "./output.ts";
import { Session } from "./session.ts";
import type { SessionStream, StreamUser } from "./session-stream.ts";
import type { SessionOwner } from "./session-words.ts";

/** One field to send. `sensitive`: never to be indexed by anybody (RFC 7541 section 7.1.3). */
export interface HeaderField {
  readonly name: string;
  readonly value: string;
  readonly sensitive?: boolean;
}

export interface ConnectionOptions {
  readonly clock: Clock;
  readonly out: Outbox;
  /** Called once. `code` is an HTTP/2 error code; `reason` is for people. What the outbox holds goes out before the socket is closed. */
  readonly closed: (code: number, reason: string) => void;
  /** A PING goes out after this long without a byte from the peer; default 20 000. */
  readonly keepaliveMs?: number;
  /** The connection is given up this long after an unanswered PING; default 10 000. */
  readonly keepaliveTimeoutMs?: number;
}

/** A message of ours is up to megabytes and read at once: windows that hold the usual one. */
const streamWindow = 512 * 1024;
const connectionWindow = 1024 * 1024;
/** More than this is a caller that does not listen: the stream is reset. */
const maxQueuedBytes = 16 * 1024 * 1024;
/** From a graceful GOAWAY to our own close: long enough for calls in flight, short enough that a discovery stream moves to the next server soon. */
const drainMs = 5_000;

export class Http2Connection implements SessionOwner {
  readonly #options: ConnectionOptions;
  readonly #session: Session;
  readonly #watch: Timer;
  #draining: Timer | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const clock = options.clock;
    const keepaliveMs = options.keepaliveMs ?? 20_000;
    const pingTimeoutMs = options.keepaliveTimeoutMs ?? limits.pingTimeoutMs;
    this.#session = new Session({
      server: false,
      owner: this,
      out: options.out,
      time: {
        get nowMs() {
          return clock.mono();
        },
        now: () => clock.mono(),
      },
      metrics: null,
      random: () => 0,
      maxStreams: 0,
      streamWindow,
      connectionWindow,
      startTimeoutMs: limits.settingsAckMs,
      keepaliveMs,
      pingTimeoutMs,
      early: true,
    });
    const period = Math.max(50, Math.min(keepaliveMs, pingTimeoutMs) / 2);
    this.#watch = clock.every(period, () => {
      if (this.#session.deadlineMs <= clock.mono()) this.#session.onDeadline(clock.mono());
    });
  }

  get closed(): boolean {
    return this.#session.closed;
  }

  /** Whether `open` can answer with a stream now. */
  get usable(): boolean {
    return this.#session.hasRoom;
  }

  /** Sends a request's fields, pseudo-header fields first. undefined: the connection takes no more streams. */
  open(fields: readonly HeaderField[], user: StreamUser): SessionStream | undefined {
    const session = this.#session;
    if (!session.hasRoom) return undefined;
    const stream = session.openStream(user);
    let room = 64;
    for (const { name, value } of fields) room += name.length + value.length + 12;
    const encoder = session.beginBlock(room);
    for (const { name, value, sensitive } of fields) {
      const line = Buffer.from(name + value, "latin1");
      encoder.field(line, 0, name.length, name.length, line.length, sensitive === true);
    }
    session.endBlock(stream, false);
    return stream;
  }

  /** Queues body bytes (kept, not copied). false: wait for `onWritable` before more. */
  send(stream: SessionStream, bytes: Uint8Array): boolean {
    const all = this.#session.send(stream, bytes, 0, bytes.length, false);
    if (stream.queued > maxQueuedBytes) {
      const user = stream.user;
      this.#session.reset(stream, enhanceYourCalm);
      user.onReset(enhanceYourCalm, "more was queued than a stream may hold", 0);
    }
    return all;
  }

  /** END_STREAM after what is queued. */
  finish(stream: SessionStream): void {
    this.#session.send(stream, nothing, 0, 0, true);
  }

  /** Its user hears nothing more. */
  reset(stream: SessionStream, code: number = cancel): void {
    this.#session.reset(stream, code);
  }

  /** Says GOAWAY and closes. Streams that are open fail with `reason`. */
  close(reason: string, code: number = noError): void {
    this.#session.close(code, reason);
  }

  // ---- the socket ------------------------------------------------------------------------------------------------------------------------

  received(bytes: Buffer): void {
    enter();
    try {
      this.#session.receive(bytes);
    } finally {
      leave();
    }
  }

  drained(): void {
    if (this.#options.out.drain()) this.#session.drained();
  }

  /** The socket is gone. */
  transportClosed(reason: string): void {
    this.#session.lost(reason);
  }

  // ---- the session -----------------------------------------------------------------------------------------------------------------------

  httpLimits(): HttpLimits {
    return defaultLimits;
  }

  accept(): StreamUser | null {
    return null;
  }

  answerFault(): void {}
  malformed(): void {}
  settled(): void {}
  streamClosed(): void {}
  idle(): void {}

  goneAway(_code: number, why: string): void {
    this.#draining ??= this.#options.clock.after(drainMs, () => this.#session.close(noError, why));
  }

  sessionEnded(code: number, why: string): void {
    this.#watch.cancel();
    this.#draining?.cancel();
    this.#options.closed(code, why);
  }
}

const nothing = new Uint8Array(0);
