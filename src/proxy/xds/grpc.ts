// Owns: gRPC over an HTTP/2 stream (github.com/grpc/grpc, PROTOCOL-HTTP2.md): message framing, metadata, and the status from trailers, from a reset, or
// from an answer that is no gRPC at all. Never reconnects.

import { text } from "../http/bytes.ts";
import type { Head } from "../http1/head.ts";
import type { HeaderField, Http2Connection } from "../http2/client.ts";
import { cancel, enhanceYourCalm, protocolError } from "../http2/errors.ts";
import type { SessionStream, StreamUser } from "../http2/session-stream.ts";

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
export class GrpcCall implements StreamUser {
  /** The session's; null before and after. */
  stream: SessionStream | null = null;
  readonly #connection: Http2Connection;
  readonly #events: GrpcEvents;
  #stream: SessionStream | undefined;
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
    this.#stream = connection.open(fields, this);
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

  onHead(bytes: Buffer, head: Head, from: number, to: number, end: boolean): void {
    this.#headers(head.status, fieldsOf(bytes, head.lineTo + 2, head.to - 2));
    if (to > from) this.#data(bytes.subarray(from, to));
    if (end) this.#finished();
  }

  onInterim(): void {}

  onData(bytes: Buffer, from: number, to: number, end: boolean): void {
    if (to > from) this.#data(bytes.subarray(from, to));
    if (end) this.#finished();
  }

  onTrailers(bytes: Buffer, from: number, to: number): void {
    this.#status ??= statusOf(fieldsOf(bytes, from, to)) ?? { code: grpcUnknown, message: "the answer ended without grpc-status" };
    this.#finished();
  }

  onReset(code: number, why: string): void {
    this.#end(this.#status ?? statusOfReset(code, why));
  }

  onWritable(): void {
    if (!this.#ended) this.#events.writable();
  }

  onClosed(): void {
    this.stream = null;
  }

  #finished(): void {
    const unfinished = this.#prefixBytes > 0 || this.#message !== undefined;
    const status = this.#status ?? { code: grpcInternal, message: "the answer ended without trailers" };
    this.#end(unfinished && status.code === grpcOk ? { code: grpcInternal, message: "the answer ended inside a message" } : status);
  }

  #headers(http: number, fields: ReadonlyMap<string, string>): void {
    const type = fields.get("content-type") ?? "";
    const encoding = fields.get("grpc-encoding") ?? "identity";
    // A trailers-only answer has its status here.
    this.#status = statusOf(fields);
    if (this.#status !== undefined) return;
    if (http !== 200) this.#status = { code: codeOfHttp(http), message: `HTTP status ${http}` };
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

/** The fields of lines `name: value CRLF`. */
function fieldsOf(bytes: Uint8Array, from: number, to: number): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const line of text(bytes, from, to).split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  return fields;
}

function statusOf(fields: ReadonlyMap<string, string>): GrpcStatus | undefined {
  const code = fields.get("grpc-status");
  if (code === undefined) return undefined;
  const message = fields.get("grpc-message") ?? "";
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
function statusOfReset(reset: number, message: string): GrpcStatus {
  switch (reset) {
    case cancel:
      return { code: grpcCancelled, message };
    case enhanceYourCalm:
      return { code: grpcResourceExhausted, message };
    case protocolError:
      return { code: grpcInternal, message };
    default:
      // REFUSED_STREAM among them.
      return { code: grpcUnavailable, message };
  }
}

/** github.com/grpc/grpc, http-grpc-status-mapping.md */
function codeOfHttp(status: number): number {
  switch (status) {
    case 400:
      return grpcInternal;
    case 401:
      return grpcUnauthenticated;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return grpcUnavailable;
    default:
      return grpcUnknown;
  }
}
