// Owns: gRPC over an HTTP/2 stream (github.com/grpc/grpc, PROTOCOL-HTTP2.md): message framing, metadata, and the status from trailers, from a reset, or
// from an answer that is no gRPC at all. Never reconnects.

import type { Http2Connection } from "../http2/client.ts";
import { cancel, enhanceYourCalm, protocolError, refusedStream } from "../http2/errors.ts";
import type { HeaderField } from "../http2/hpack.ts";
import type { ClientStream, StreamEvents, StreamFailure } from "../http2/stream.ts";

/** Status codes we act on by name (google.rpc.Code). */
export const grpcOk = 0;
export const grpcCancelled = 1;
export const grpcUnknown = 2;
export const grpcInvalidArgument = 3;
export const grpcResourceExhausted = 8;
export const grpcInternal = 13;
export const grpcUnavailable = 14;
export const grpcUnauthenticated = 16;

const codeNames = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

export interface GrpcStatus {
  readonly code: number;
  readonly message: string;
}

export function sayStatus(status: GrpcStatus): string {
  return `${codeNames[status.code] ?? `code ${status.code}`}${status.message === "" ? "" : `: ${status.message}`}`;
}

export interface GrpcEvents {
  /** One whole message; the bytes are the receiver's to keep. */
  message(bytes: Uint8Array): void;
  /** Called once, last. */
  ended(status: GrpcStatus): void;
  /** What was queued has drained after `send` answered false. */
  writable(): void;
}

export interface GrpcTargetCall {
  /** `/package.Service/Method` */
  readonly path: string;
  readonly authority: string;
  readonly scheme: "http" | "https";
  readonly metadata: readonly HeaderField[];
}

/** A snapshot of a large mesh in one message is a few megabytes; ten times that is a mistake. */
const maxMessageBytes = 64 * 1024 * 1024;

/** One call. Messages go out by `send`, come in by the events; `cancel` ends it without a sound. */
export class GrpcCall {
  readonly #connection: Http2Connection;
  readonly #events: GrpcEvents;
  #stream: ClientStream | undefined;
  #ended = false;
  #status: GrpcStatus | undefined;
  /** The message being collected: its five bytes of prefix, then its payload. */
  #prefix = new Uint8Array(5);
  #prefixBytes = 0;
  #message: Uint8Array | undefined;
  #messageBytes = 0;

  constructor(connection: Http2Connection, target: GrpcTargetCall, events: GrpcEvents) {
    this.#connection = connection;
    this.#events = events;
    const fields: HeaderField[] = [
      { name: ":method", value: "POST" },
      { name: ":scheme", value: target.scheme },
      { name: ":path", value: target.path },
      { name: ":authority", value: target.authority },
      { name: "te", value: "trailers" },
      { name: "content-type", value: "application/grpc" },
      { name: "user-agent", value: "weft" },
      ...target.metadata,
    ];
    this.#stream = connection.openStream(fields, this.#streamEvents());
    if (this.#stream === undefined) {
      // Told later, as every end is: a caller in its constructor is not ready to hear it.
      queueMicrotask(() => this.#end({ code: grpcUnavailable, message: "the connection takes no more streams" }));
    }
  }

  /** Queues one message (its bytes are copied). false: wait for `writable`. */
  send(message: Uint8Array): boolean {
    if (this.#stream === undefined || this.#ended) return false;
    const framed = new Uint8Array(5 + message.length);
    new DataView(framed.buffer).setUint32(1, message.length);
    framed.set(message, 5);
    return this.#connection.send(this.#stream, framed);
  }

  /** No more messages from our side. */
  finish(): void {
    if (this.#stream !== undefined) this.#connection.finish(this.#stream);
  }

  cancel(): void {
    this.#ended = true;
    if (this.#stream !== undefined) this.#connection.reset(this.#stream, cancel);
  }

  #streamEvents(): StreamEvents {
    return {
      headers: (fields) => this.#headers(fields),
      data: (bytes) => this.#data(bytes),
      trailers: (fields) => {
        this.#status ??= statusOf(fields) ?? { code: grpcUnknown, message: "the answer ended without grpc-status" };
      },
      end: () => {
        const unfinished = this.#prefixBytes > 0 || this.#message !== undefined;
        const status = this.#status ?? { code: grpcInternal, message: "the answer ended without trailers" };
        this.#end(unfinished && status.code === grpcOk ? { code: grpcInternal, message: "the answer ended inside a message" } : status);
      },
      failed: (failure) => this.#end(this.#status ?? statusOfReset(failure)),
      writable: () => {
        if (!this.#ended) this.#events.writable();
      },
    };
  }

  #headers(fields: readonly HeaderField[]): void {
    const http = fields.find((f) => f.name === ":status")?.value ?? "";
    const type = fields.find((f) => f.name === "content-type")?.value ?? "";
    const encoding = fields.find((f) => f.name === "grpc-encoding")?.value ?? "identity";
    // A trailers-only answer has its status here.
    this.#status = statusOf(fields);
    if (this.#status !== undefined) return;
    if (http !== "200") this.#status = { code: codeOfHttp(http), message: `HTTP status ${http}` };
    else if (!/^application\/grpc($|[+;])/.test(type)) this.#status = { code: grpcUnknown, message: `content-type "${type}" is not gRPC` };
    else if (encoding !== "identity") this.#status = { code: grpcInternal, message: `grpc-encoding ${encoding} was not offered` };
    if (this.#status !== undefined) this.#abort(this.#status);
  }

  #data(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && !this.#ended) {
      if (this.#message === undefined) {
        const take = Math.min(5 - this.#prefixBytes, bytes.length - at);
        this.#prefix.set(bytes.subarray(at, at + take), this.#prefixBytes);
        this.#prefixBytes += take;
        at += take;
        if (this.#prefixBytes < 5) return;
        if (this.#prefix[0] !== 0) return this.#abort({ code: grpcInternal, message: "a compressed message, which was not offered" });
        const length = new DataView(this.#prefix.buffer).getUint32(1);
        if (length > maxMessageBytes) return this.#abort({ code: grpcResourceExhausted, message: `a message of ${length} bytes` });
        this.#message = new Uint8Array(length);
        this.#messageBytes = 0;
      }
      const take = Math.min(this.#message.length - this.#messageBytes, bytes.length - at);
      this.#message.set(bytes.subarray(at, at + take), this.#messageBytes);
      this.#messageBytes += take;
      at += take;
      if (this.#messageBytes < this.#message.length) return;
      const whole = this.#message;
      this.#message = undefined;
      this.#prefixBytes = 0;
      this.#events.message(whole);
    }
  }

  #abort(status: GrpcStatus): void {
    if (this.#stream !== undefined) this.#connection.reset(this.#stream, cancel);
    this.#end(status);
  }

  #end(status: GrpcStatus): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#events.ended(status);
  }
}

function statusOf(fields: readonly HeaderField[]): GrpcStatus | undefined {
  const code = fields.find((f) => f.name === "grpc-status")?.value;
  if (code === undefined) return undefined;
  const message = fields.find((f) => f.name === "grpc-message")?.value ?? "";
  return { code: /^\d{1,2}$/.test(code) ? Number(code) : grpcUnknown, message: percentDecode(message) };
}

/** grpc-message is percent-encoded UTF-8; what is not is shown as it came. */
function percentDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** PROTOCOL-HTTP2.md, "HTTP2 Transport Mapping: Errors". */
function statusOfReset(failure: StreamFailure): GrpcStatus {
  const code =
    failure.code === refusedStream
      ? grpcUnavailable
      : failure.code === cancel
        ? grpcCancelled
        : failure.code === enhanceYourCalm
          ? grpcResourceExhausted
          : failure.code === protocolError
            ? grpcInternal
            : grpcUnavailable;
  return { code, message: failure.reason };
}

/** github.com/grpc/grpc, http-grpc-status-mapping.md */
function codeOfHttp(status: string): number {
  switch (status) {
    case "400":
      return grpcInternal;
    case "401":
      return grpcUnauthenticated;
    case "403":
      return 7;
    case "404":
      return 12;
    case "429":
    case "502":
    case "503":
    case "504":
      return grpcUnavailable;
    default:
      return grpcUnknown;
  }
}
