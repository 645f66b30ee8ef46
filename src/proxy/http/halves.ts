// Owns: the seam between an exchange and the protocol on either side of it: what an HTTP/1 connection and an HTTP/2 stream both are to a request.
// Types only. Whatever version a message came in, its head is HTTP/1.1 text in bytes with offsets in a `Head` (http1/head.ts): HTTP/2 heads are
// written out in that form when they are decoded, so routing, policies, edits, retries and logs know one shape. Never import a protocol from here.

import type { Cluster } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import type { CompiledChain, HttpChain } from "../chain/chain.ts";
import type { HostPort } from "../config.ts";
import type { Head } from "../http1/head.ts";
import type { RequestPlan } from "../http1/write.ts";
import type { Wire } from "../net/outbox.ts";
import type { CompiledEdits } from "../route/edit.ts";
import type { CompiledHost, TableSlot } from "../route/table.ts";
import type { Core } from "../runtime/core.ts";
import type { RequestCounters } from "../telemetry/request.ts";
import type { Peer } from "../tls/peer.ts";
import type { Failure } from "./failure.ts";

/** What the connection under a downstream half knows, whatever its protocol: shared by all its exchanges. */
export interface DownstreamConnection {
  readonly core: Core;
  /** Verified; null for plain text. */
  readonly peer: Peer | null;
  /** The virtual host of an authority; the last answer is remembered. */
  findHost(slot: TableSlot, bytes: Uint8Array, from: number, to: number): CompiledHost | null;
  /** Destination-side counters of the last request, and the cluster they are for. */
  counters: RequestCounters | null;
  countersOf: Cluster | null;
  /** null once the socket is gone. */
  readonly wire: Wire | null;
  remote(): HostPort;
  local(): HostPort;
}

/**
 * Where a request comes from and its answer goes: an HTTP/1 connection, or one HTTP/2 stream. Every `send…` answers false when not everything was
 * taken: the exchange then pauses its source until `downDrained`. After `exchangeDone`, `cut` or `tunnelDone` the half is the protocol's again.
 */
export interface DownstreamHalf {
  readonly connection: DownstreamConnection;
  readonly version: 1 | 2;
  /** HTTP/1: the connection ends after this answer (drain, or the client asked). Always false for a stream. */
  readonly closing: boolean;
  /** Payload bytes of the request so far. */
  readonly requestBytes: number;
  /** The client's last byte has come (FIN or END_STREAM). */
  readonly inputEnded: boolean;
  /** A 1xx head that came from upstream. HTTP/1.0 clients are the exchange's to spare. */
  sendInterim(bytes: Uint8Array, head: Head): void;
  /** The final head, and what came of the body with it: [from, to), all of it if `end`. `how` says what to change. */
  sendAnswer(bytes: Uint8Array, head: Head, how: AnswerPlan, from: number, to: number, end: boolean): boolean;
  /** More of the body. */
  sendBody(bytes: Uint8Array, from: number, to: number, end: boolean): boolean;
  /** Ends the answer with trailer fields: complete field lines in bytes[from, to), each with its CRLF, without the empty line. Hop-by-hop and framing fields are already gone. */
  sendTrailers(bytes: Uint8Array, from: number, to: number): void;
  /** A whole local answer, head and body in HTTP/1.1 form in scratch[0, size). */
  sendReply(size: number): void;
  /** A tunnel begins: the upstream's 101 head (`bytes` null: our own 200 to CONNECT). */
  sendSwitch(bytes: Uint8Array | null, head: Head | null, edits: CompiledEdits | null): void;
  /** Opaque bytes of a tunnel, and its end. */
  sendRaw(bytes: Uint8Array, from: number, to: number): boolean;
  finishRaw(): void;
  pauseReading(): void;
  resumeReading(): void;
  /** The exchange's next deadline has changed. */
  arm(): void;
  becomeTunnel(): void;
  /** The answer is out. `close`: the connection cannot be used again (HTTP/1). `complete`: the request was read to its end. */
  exchangeDone(close: boolean, complete: boolean): void;
  tunnelDone(): void;
  /** A failure after the answer began: nothing can be said but by breaking off (HTTP/1: the connection; HTTP/2: RST_STREAM). */
  cut(failure: Failure): void;
}

/** How an answer's head is changed on its way. One object, reused. */
export interface AnswerPlan {
  edits: CompiledEdits | null;
  /** A whole Via line to add; null = none. */
  viaLine: Uint8Array | null;
  /** More whole lines; null = none. */
  lines: Uint8Array | null;
  /** One of `persistence`; HTTP/2 ignores it. */
  persistence: number;
  /** Our own reason header came from a sidecar that we verified. */
  keepReason: boolean;
  /** The chunked coding was undone by the reader (HTTP/1.0 client or HTTP/2 stream). */
  dropFraming: boolean;
  /** No body follows whatever the head says: HEAD, 204, 304. */
  bodyless: boolean;
  /** The answer has neither length nor end in its head: an HTTP/1.1 client gets chunks, made by its half; HTTP/1.0 the close. HTTP/2 ignores it. */
  addChunks: boolean;
  /** An HTTP/2 answer without a body and without a length: HTTP/1 needs `Content-Length: 0`. HTTP/2 ignores it. */
  needsLength: boolean;
}

/** Who uses an upstream half at the moment. Every call names the half, so that late calls of a former one are told apart. */
export interface UpstreamOwner {
  onUpstreamReady(half: UpstreamHalf): void;
  /** It never became usable; nothing was sent. */
  onUpstreamFailed(half: UpstreamHalf, failure: Failure, why: string): void;
  onInterim(half: UpstreamHalf, bytes: Uint8Array, head: Head): void;
  /** The final head in bytes[head.from, head.to), and what of its body came along: [from, to), complete if `done`. */
  onAnswer(half: UpstreamHalf, bytes: Uint8Array, head: Head, from: number, to: number, done: boolean): void;
  onAnswerBody(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number, done: boolean): void;
  /** Instead of a body call with `done`: field lines in bytes[from, to), not yet filtered. */
  onAnswerTrailers(half: UpstreamHalf, bytes: Uint8Array, from: number, to: number): void;
  /** 101, or 2xx to CONNECT: from now on raw; [from, to) are the first bytes. */
  onSwitch(half: UpstreamHalf, bytes: Uint8Array, head: Head, from: number, to: number): void;
  /** It ended before the answer did. */
  onUpstreamLost(half: UpstreamHalf, failure: Failure, why: string): void;
  /** What was not taken has gone out. */
  onUpstreamDrained(half: UpstreamHalf): void;
  onRawBytes(half: UpstreamHalf, bytes: Uint8Array): void;
  onRawEnd(half: UpstreamHalf): void;
}

/** What a protocol calls on the exchange of one of its requests. */
export interface RequestSink {
  /** No request is under way. */
  readonly isIdle: boolean;
  /** The answer's head is out: nothing else can be said any more. */
  readonly answering: boolean;
  /** When `onDeadline` wants to be called; Infinity = never. */
  readonly deadlineMs: number;
  /** A parsed head; [bodyFrom, bodyTo) is what came of the body, complete if `done`. */
  begin(
    chain: CompiledChain,
    http: HttpChain,
    bytes: Uint8Array,
    head: Head,
    bodyFrom: number,
    bodyTo: number,
    done: boolean,
    nowMs: number,
  ): void;
  requestBody(bytes: Uint8Array, from: number, to: number, done: boolean): void;
  /** Ends the request: field lines in bytes[from, to), not yet filtered. */
  requestTrailers(bytes: Uint8Array, from: number, to: number): void;
  /** The client is gone, or broke the protocol. */
  abandon(failure: Failure): void;
  /** A request whose head cannot be read: counted and logged like any other; the protocol answers it. */
  refuse(chain: CompiledChain, failure: Failure, status: number, reason: string): void;
  onDeadline(nowMs: number): void;
  /** What `send…` did not take has gone out. */
  downDrained(): void;
  tunnelBytes(bytes: Uint8Array): void;
  tunnelEnd(): void;
}

/** What the writer of a request must know beside its plan. */
export interface RequestNeeds {
  /** HEAD. */
  readonly isHead: boolean;
  /** An Upgrade was asked for and is allowed. */
  readonly allowSwitch: boolean;
  /** Answers of HTTP/1 are unchunked by the reader. */
  readonly unchunk: boolean;
  /** The request's body arrives without chunk framing and has no length: an HTTP/1 half must make chunks. */
  readonly addChunks: boolean;
  /** Nothing follows the first body bytes. */
  readonly end: boolean;
  /** gRPC over HTTP/2: a request without a message ends with an empty DATA frame; servers wait for it (grpc PROTOCOL-HTTP2.md, "EOS"). */
  readonly endsWithData: boolean;
}

/** Where a request goes: an HTTP/1 connection taken from the pool, or a stream of an HTTP/2 connection in it. */
export interface UpstreamHalf {
  owner: UpstreamOwner | null;
  readonly endpoint: Endpoint;
  readonly version: 1 | 2;
  readonly peer: Peer | null;
  /** Can be sent to now. When not, `onUpstreamReady` or `onUpstreamFailed` comes later, never within the call that acquired it. */
  readonly open: boolean;
  /** The answer's body ends with its connection (RFC 9112 6.3 (8)). */
  readonly endsWithConnection: boolean;
  /** Payload bytes of the answer so far. */
  readonly answerBytes: number;
  /** Head and first body bytes in one write: [0, count) of `body`. False: not everything was taken. */
  sendRequest(bytes: Uint8Array, head: Head, plan: RequestPlan, needs: RequestNeeds, body: readonly Uint8Array[]): boolean;
  sendBody(bytes: Uint8Array, from: number, to: number, end: boolean): boolean;
  /** Ends the request with trailer field lines, already filtered, each with its CRLF, without the empty line. */
  sendTrailers(bytes: Uint8Array, from: number, to: number): void;
  /** From now on every byte goes to the owner as it is (opaque TCP, CONNECT terminated here). HTTP/1 transport only. */
  becomeRaw(): void;
  sendRaw(bytes: Uint8Array, from: number, to: number): boolean;
  finishRaw(): void;
  /** Raw bytes accepted and not yet out. */
  readonly waiting: number;
  pauseReading(): void;
  resumeReading(): void;
  /** The answer is complete: back to the pool, or closed (reset) if it cannot be used again. */
  release(requestComplete: boolean, nowMs: number): void;
  /** Given up: HTTP/1 closes the connection, HTTP/2 resets the stream. */
  dispose(): void;
}
