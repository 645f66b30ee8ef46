// Owns: every limit of the HTTP/1 codec, and the reasons for which it refuses a message. One table each (rule 4).
// Beside each limit stands the Envoy field that sets it; docs/reference/limits.md is the same table for users.

/**
 * What a listener may set. Sizes in bytes, times in milliseconds; 0 = no limit where a default says so. "HCM" is Envoy's
 * HttpConnectionManager, "common" its `common_http_protocol_options`.
 */
export interface HttpLimits {
  /** A request head, start line included. 431. HCM `max_request_headers_kb`. */
  readonly headBytes: number;
  /** Fields in one head or trailer section. 431. common `max_headers_count`. */
  readonly fields: number;
  /** Request target. 414. Envoy has none but the head's. */
  readonly targetBytes: number;
  /** Payload of a request; 0 = none. 413. Envoy's nearest: `max_request_bytes` of its Buffer filter. */
  readonly bodyBytes: number;
  /** A chunk's size line without the size: extensions. 400. Envoy has none. */
  readonly chunkLineBytes: number;
  /** Framing beyond 16 bytes a chunk and twice its data, summed over a body. 400. Envoy has none. */
  readonly chunkExcessBytes: number;
  /** Trailer section. 431. Envoy takes `max_request_headers_kb`. */
  readonly trailerBytes: number;
  /** Requests on one connection, which closes after the last; 0 = none. common `max_requests_per_connection`. */
  readonly requestsPerConnection: number;
  /** Later requests read ahead while one is under way: reading stops beyond it. Listener `per_connection_buffer_limit_bytes`. */
  readonly pipelinedBytes: number;
  /** From the first byte of a head to its end; 0 = none. 408. HCM `request_headers_timeout`. */
  readonly headTimeoutMs: number;
  /** From the first byte of a head to the last of the body; 0 = none. 408. HCM `request_timeout`. */
  readonly requestTimeoutMs: number;
  /** Neither side of an exchange sends anything; 0 = none. 408 before the request is whole, 504 after, reset within an answer. HCM `stream_idle_timeout`. */
  readonly streamIdleTimeoutMs: number;
  /** A whole exchange, tunnels too; 0 = none. 504 or reset. common `max_stream_duration`. */
  readonly streamDurationMs: number;
  /** A connection without a request; 0 = none. Closed. common `idle_timeout`. */
  readonly idleTimeoutMs: number;
  /** Age of a connection, which closes after the exchange under way; 0 = none. common `max_connection_duration`. */
  readonly connectionDurationMs: number;
}

/** Envoy's default where it has the limit. */
export const defaultLimits: HttpLimits = {
  headBytes: 61_440,
  fields: 100,
  // RFC 9112 3: at least 8 000 octets are recommended.
  targetBytes: 16_384,
  bodyBytes: 0,
  // Extensions are dropped unread (RFC 9112 7.1.1: to be bounded); the longest in use, signatures of an object store, have 85 bytes.
  chunkLineBytes: 1_024,
  // As Go since CVE-2023-39326: otherwise a sender makes us read a thousand bytes for each that counts.
  chunkExcessBytes: 16_384,
  trailerBytes: 16_384,
  requestsPerConnection: 0,
  pipelinedBytes: 65_536,
  // Envoy has none; a head is small, and who drips one holds a connection for nothing.
  headTimeoutMs: 10_000,
  requestTimeoutMs: 0,
  streamIdleTimeoutMs: 300_000,
  streamDurationMs: 0,
  idleTimeoutMs: 3_600_000,
  connectionDurationMs: 0,
};

/** What cannot be set: bounds of our own buffers and tables. Bytes unless the name says otherwise. */
export const limits = {
  /** Longest method we would ever forward; RFC 9110 9.1 names none over 7, WebDAV none over 16. */
  method: 32,
  /** Digits of a Content-Length: what a double counts exactly. */
  lengthDigits: 15,
  /** Digits of a chunk size, for the same reason. */
  chunkDigits: 13,
  /** Head of an answer. Cluster `max_response_headers_kb` is Envoy's (60). */
  answerHead: 65_536,
  /** 1xx answers before the final one. */
  interim: 16,
  /** What an early body may add to a request that waits for its upstream (Envoy's buffer default is 1 MiB; ours is per request and small). What a retry may replay is its route's: resilience/retry.ts. */
  replay: 65_536,
} as const;

/** Why a head or a body was refused; the parsers return the negative of these. */
export const refusal = {
  /** RFC 9112 3: the request line is not `method SP target SP version CRLF`. */
  startLine: 1,
  /** RFC 9112 3: a method longer than any known one; RFC 9110 9.1: another spelling of HEAD or CONNECT. */
  method: 2,
  /** RFC 9112 3: target too long. */
  targetTooLong: 3,
  /** RFC 9112 3.2: a byte that no target may hold, or a form that does not fit the method. */
  target: 4,
  /** RFC 9110 2.5: a major version that is not 1. */
  version: 5,
  /** RFC 9112 5.1: empty name, byte that is no token, white space before the colon; a framing field spelt with `_`. */
  fieldName: 6,
  /** RFC 9110 5.5: CR, LF, NUL or another control byte in a value. */
  fieldValue: 7,
  /** RFC 9112 5.2: obsolete line folding. */
  folding: 8,
  /** RFC 9112 2.2: a line must end with CRLF; a bare CR or LF is what smuggling is made of. */
  lineEnd: 9,
  /** More fields than `HttpLimits.fields`. */
  fields: 10,
  /** RFC 9112 6.3: Content-Length that is no number, too large, given twice, or padded with zeros (some read octal). */
  contentLength: 11,
  /** RFC 9112 6.1: Transfer-Encoding beside Content-Length, or in HTTP/1.0. */
  bothFramings: 12,
  /** RFC 9112 6.1: a transfer coding before `chunked`. */
  coding: 13,
  /** RFC 9112 3.2: no Host, more than one, or one that is no authority. */
  host: 14,
  /** The head is larger than the listener allows. */
  headTooLarge: 15,
  /** RFC 9112 4: the status line is not `version SP 3DIGIT SP reason CRLF`. */
  statusLine: 16,
  /** RFC 9112 7.1: a chunk size that is no hexadecimal number, too large, or not followed by its CRLF; extensions malformed or too long. */
  chunk: 17,
  /** RFC 9112 7.1.2: trailer section malformed. */
  trailers: 18,
  /** RFC 9110 10.1.1: an expectation other than one `100-continue`. */
  expectation: 19,
  /** RFC 9110 15.5.14: the body is larger than the listener allows. */
  bodyTooLarge: 20,
  /** RFC 9112 6.3 (4): the last transfer coding is not `chunked`, or `chunked` is there twice. */
  codingOrder: 21,
  /** RFC 9110 7.6.1: Connection names a field that is for all recipients, and that others trust. */
  nominated: 22,
  /** RFC 9110 9.3.6, 9.3.8: CONNECT or TRACE with a body. */
  content: 23,
  /** RFC 9110 6.5: trailer section larger than the listener allows. */
  trailersTooLarge: 24,
} as const;

interface Refused {
  readonly status: 400 | 413 | 414 | 417 | 431 | 501 | 505;
  readonly sentence: string;
}

const refused: readonly Refused[] = [
  { status: 400, sentence: "malformed message" },
  { status: 400, sentence: "the request line is malformed" },
  { status: 501, sentence: "the method is not known" },
  { status: 414, sentence: "the request target is too long" },
  { status: 400, sentence: "the request target is malformed" },
  { status: 505, sentence: "the HTTP version is not supported; use HTTP/1.1" },
  { status: 400, sentence: "a header name is malformed" },
  { status: 400, sentence: "a header value holds a control character" },
  { status: 400, sentence: "a header is folded over several lines" },
  { status: 400, sentence: "a line does not end with CRLF" },
  { status: 431, sentence: "there are too many headers" },
  { status: 400, sentence: "Content-Length is malformed or given more than once" },
  { status: 400, sentence: "Transfer-Encoding is combined with Content-Length or HTTP/1.0" },
  { status: 501, sentence: "the transfer coding is not supported; only chunked is" },
  { status: 400, sentence: "Host is missing, malformed or given more than once" },
  { status: 431, sentence: "the header section is too large" },
  { status: 400, sentence: "the status line is malformed" },
  { status: 400, sentence: "the chunked body is malformed" },
  { status: 400, sentence: "the trailer section is malformed" },
  { status: 417, sentence: "the expectation is not supported; only 100-continue is" },
  { status: 413, sentence: "the body is too large" },
  { status: 400, sentence: "Transfer-Encoding does not end in a single chunked" },
  { status: 400, sentence: "Connection names a header that is not for this hop alone" },
  { status: 400, sentence: "the method takes no body" },
  { status: 431, sentence: "the trailer section is too large" },
];

/** What a refusal (a negative parser result) means for a client. */
export function explainRefusal(code: number): Refused {
  return refused[-code] ?? (refused[0] as Refused);
}
