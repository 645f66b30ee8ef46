// Owns: one client stream: its state (RFC 9113 section 5.1), its windows and what waits to be sent. Never touches the socket: the connection does.

import type { HeaderField } from "./hpack.ts";

/** How a stream ended other than by the peer's END_STREAM. */
export interface StreamFailure {
  /** RFC 9113 section 7. */
  readonly code: number;
  readonly reason: string;
  /** The peer says it never looked at the request (REFUSED_STREAM, or beyond the last stream of a GOAWAY): safe to retry. */
  readonly unprocessed: boolean;
}

/** What the owner of a stream hears, in this order: headers, data, trailers, end; or failed at any time, and then nothing more. */
export interface StreamEvents {
  headers(fields: readonly HeaderField[]): void;
  /** `bytes` is valid during the call only. */
  data(bytes: Uint8Array): void;
  trailers(fields: readonly HeaderField[]): void;
  end(): void;
  failed(failure: StreamFailure): void;
  /** What was queued has gone below the mark after `send` answered false. */
  writable(): void;
}

/** Named as in section 5.1; `closed` swallows whatever comes late. */
export type StreamState = "open" | "half-closed (local)" | "half-closed (remote)" | "closed";

/** Above this many queued bytes `send` answers false. */
export const highWaterBytes = 256 * 1024;
/** More than this is a caller that does not listen: the stream is reset. */
export const maxQueuedBytes = 16 * 1024 * 1024;

export class ClientStream {
  readonly id: number;
  readonly events: StreamEvents;
  state: StreamState = "open";
  sendWindow: number;
  receiveWindow: number;
  /** Received and not yet given back to the peer. */
  unacknowledged = 0;
  gotHeaders = false;
  gotTrailers = false;
  /** -1: not announced. */
  contentLength = -1;
  receivedBytes = 0;
  queuedBytes = 0;
  endQueued = false;
  blocked = false;
  readonly queue: Uint8Array[] = [];

  constructor(id: number, events: StreamEvents, sendWindow: number, receiveWindow: number) {
    this.id = id;
    this.events = events;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
  }

  /** open -> half-closed (local) -> closed; half-closed (remote) -> closed. */
  localEnd(): void {
    this.state = this.state === "open" ? "half-closed (local)" : "closed";
  }

  /** open -> half-closed (remote) -> closed; half-closed (local) -> closed. */
  remoteEnd(): void {
    this.state = this.state === "open" ? "half-closed (remote)" : "closed";
  }

  get canReceive(): boolean {
    return this.state === "open" || this.state === "half-closed (local)";
  }

  get canSend(): boolean {
    return this.state === "open" || this.state === "half-closed (remote)";
  }
}
