// Owns: every limit of the HTTP/1 codec, and the reasons for which it refuses a message. One table each (rule 4).

/** Sizes in bytes unless the name says otherwise. The size of a head comes from the listener (`maxHeadBytes`). */
export const limits = {
  /** Longest method we would ever forward; RFC 9110 9.1 names none over 7, WebDAV none over 16. */
  method: 32,
  /** RFC 9112 3: at least 8 000 octets are recommended. */
  target: 16_384,
  /** Fields in one head; Envoy's default `max_headers_count`. */
  fields: 100,
  /** A chunk's size line with its extensions: bounded so that extensions cannot carry a payload past accounting (RFC 9112 7.1.1). */
  chunkLine: 1_024,
  /** The whole trailer section. We drop trailers, as RFC 9112 7.1.2 allows, but must read past them. */
  trailers: 16_384,
  /** Head of an answer. */
  answerHead: 65_536,
  /** 1xx answers before the final one. */
  interim: 16,
  /** What an early body may add to a request that waits for its upstream, and what a retry may replay (Envoy's buffer default is 1 MiB; ours is per request and small). */
  replay: 65_536,
} as const;

/** Why a head or a body was refused; the parsers return the negative of these. */
export const refusal = {
  /** RFC 9112 3: the request line is not `method SP target SP version CRLF`. */
  startLine: 1,
  /** RFC 9110 9.1: a method longer than any known one. */
  method: 2,
  /** RFC 9112 3: target too long. */
  targetTooLong: 3,
  /** RFC 9112 3.2: a byte that no target may hold, or a form that does not fit the method. */
  target: 4,
  /** RFC 9110 2.5: a major version that is not 1. */
  version: 5,
  /** RFC 9112 5.1: empty name, byte that is no token, or white space before the colon. */
  fieldName: 6,
  /** RFC 9110 5.5: CR, LF, NUL or another control byte in a value. */
  fieldValue: 7,
  /** RFC 9112 5.2: obsolete line folding. */
  folding: 8,
  /** RFC 9112 2.2: a line must end with CRLF; a bare CR or LF is what smuggling is made of. */
  lineEnd: 9,
  /** More fields than `limits.fields`. */
  fields: 10,
  /** RFC 9112 6.3: Content-Length that is no number, too large, or given twice. */
  contentLength: 11,
  /** RFC 9112 6.1: Transfer-Encoding beside Content-Length, or in HTTP/1.0. */
  bothFramings: 12,
  /** RFC 9112 6.1: a transfer coding other than a single `chunked`. */
  coding: 13,
  /** RFC 9112 3.2: no Host, more than one, or one that is no authority. */
  host: 14,
  /** The head is larger than the listener allows. */
  headTooLarge: 15,
  /** RFC 9112 4: the status line is not `version SP 3DIGIT SP reason CRLF`. */
  statusLine: 16,
  /** RFC 9112 7.1: a chunk size that is no hexadecimal number, too large, or not followed by its CRLF. */
  chunk: 17,
  /** RFC 9112 7.1.2: trailer section malformed or larger than `limits.trailers`. */
  trailers: 18,
} as const;

interface Refused {
  readonly status: 400 | 414 | 431 | 501 | 505;
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
  { status: 400, sentence: "the trailer section is malformed or too large" },
];

/** What a refusal (a negative parser result) means for a client. */
export function explainRefusal(code: number): Refused {
  return refused[-code] ?? (refused[0] as Refused);
}
