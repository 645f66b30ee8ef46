// Owns: why another parser may read a stream differently than we do. One entry each; what is not listed here fails the test, and so does an entry
// that no longer happens. Two kinds are never listed for requests: both read a message and its body differs, or one of them waits for more of a body
// that the other has read whole.

import { method } from "../targets/http1-stream.ts";
import type { Difference } from "./compare.ts";

export interface Explained {
  readonly parser: "llhttp" | "go" | "both";
  readonly kind: string | RegExp;
  readonly reason: string;
  /** Narrows the entry. */
  readonly when?: (difference: Difference) => boolean;
}

const ofMethods = ["DELETE", "GET", "HEAD", "POST", "PUT", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
const isOptionsStar = (d: Difference): boolean => d.stream.includes("OPTIONS * HTTP/1.");

export const explained: readonly Explained[] = [
  // ---- we refuse, they do not ------------------------------------------------------------------------------------------
  {
    parser: "both",
    kind: "stricter host",
    reason: "RFC 9112 3.2: llhttp leaves Host to its user; Go takes an empty one, a comma, and any CONNECT",
  },
  {
    parser: "both",
    kind: "stricter target",
    reason: "RFC 9112 3.2: both take fragments, other schemes and user information, and Go judges a target when the line is whole",
  },
  {
    parser: "both",
    kind: "stricter startLine",
    reason: "RFC 9112 2.2: llhttp skips any empty lines, Go waits for the whole line before it judges",
  },
  {
    parser: "both",
    kind: "stricter version",
    reason: "RFC 9110 2.5: llhttp reads 0.9 and 2.0 in this syntax, Go waits for the whole line",
  },
  {
    parser: "both",
    kind: "stricter fieldName",
    reason: "framing fields spelt with an underscore are fields like any to both; Go judges names when the head is whole",
  },
  {
    parser: "both",
    kind: "stricter contentLength",
    reason: "both take leading zeros, and Go equal lengths given twice, as RFC 9110 8.6 allows",
  },
  {
    parser: "both",
    kind: "stricter bothFramings",
    reason: "RFC 9112 6.1: Go drops the length beside chunked, both ignore the coding in HTTP/1.0 or take it",
  },
  { parser: "both", kind: "stricter coding", reason: "llhttp hands other codings to its user; Go waits for the whole head" },
  {
    parser: "both",
    kind: "stricter codingOrder",
    reason: "llhttp judges codings at the end of the head and reads an empty list; Go waits for the whole head",
  },
  {
    parser: "both",
    kind: "stricter expectation",
    reason: "RFC 9110 10.1.1: llhttp leaves Expect to its user; Go answers 417 only to some",
  },
  { parser: "both", kind: "stricter content", reason: "RFC 9110 9.3.6, 9.3.8: neither looks at content in CONNECT and TRACE" },
  { parser: "both", kind: "stricter nominated", reason: "what Connection names is for a proxy to judge" },
  { parser: "both", kind: "stricter fields", reason: "a limit of ours" },
  { parser: "both", kind: "stricter trailersTooLarge", reason: "a limit of ours" },
  {
    parser: "both",
    kind: "stricter chunk",
    reason:
      "RFC 9112 7.1.1: Go skips extensions unread and takes white space after a size; llhttp takes sizes to 2^64 and empty extensions",
  },
  { parser: "go", kind: "stricter lineEnd", reason: "RFC 9112 2.2 allows to take a bare LF in a head, and Go does" },
  { parser: "go", kind: "stricter folding", reason: "RFC 9112 5.2 allows to unfold, and Go does" },
  { parser: "go", kind: "stricter fieldValue", reason: "Go judges values when the head is whole" },
  { parser: "go", kind: "stricter trailers", reason: "Go reads trailers as it reads heads: LF, folding" },
  { parser: "go", kind: "stricter method", reason: "head and connect are methods like any to Go" },

  // ---- they refuse, we do not ------------------------------------------------------------------------------------------
  {
    parser: "llhttp",
    kind: "laxer",
    reason: "RFC 9110 9.1: methods are an open set; llhttp has a list",
    when: (d) =>
      d.why === "Invalid method encountered" ||
      (d.why === "Expected space after method" && ofMethods.some((known) => d.stream.includes(known))),
  },
  {
    parser: "llhttp",
    kind: "laxer",
    reason: "RFC 9110 2.5: a higher minor version is read as 1.1, and written as 1.1",
    when: (d) => d.why === "Invalid HTTP version" && /HTTP\/1\.[2-9]/.test(d.stream),
  },
  {
    parser: "llhttp",
    kind: "laxer",
    reason: "RFC 9110 6.5.1: framing fields in trailers mean nothing; we filter them, llhttp refuses",
    when: (d) =>
      (d.why.startsWith("Content-Length can't be present") || d.why.startsWith("Invalid `Transfer-Encoding`")) &&
      /\r\n0+(;[^\r]*)?\r\n/.test(d.stream),
  },
  {
    parser: "llhttp",
    kind: "laxer",
    reason: "RFC 9110 5.6.3: a tab is white space around a length; what we forward has spaces there",
    when: (d) => d.why === "Invalid character in Content-Length" && /length:[^\r]*\t/i.test(d.stream),
  },
  {
    parser: "llhttp",
    kind: "laxer",
    reason: "RFC 9112 7.1.1: extensions may hold bad white space; none is forwarded",
    when: (d) => d.why.startsWith("Invalid character in chunk extensions") && /\n[0-9a-f]+;[^\r]*[ \t]/i.test(d.stream),
  },
  {
    parser: "go",
    kind: "laxer",
    reason: "RFC 9112 2.2: an empty line before a request is ignored; it is not forwarded",
    when: (d) => d.why.startsWith("400 ") && emptyLineBefore(d),
  },
  {
    parser: "go",
    kind: "laxer",
    reason: "Go undoes percent-encoding of targets, and refuses what is none",
    when: (d) => d.why.startsWith("400 ") && /%(?![0-9a-f]{2})/i.test(d.start),
  },
  // ---- elsewhere ---------------------------------------------------------------------------------------------------------
  {
    parser: "go",
    kind: "differs version",
    reason: "RFC 9110 2.5: Go keeps a higher minor version as it is",
    when: (d) => /HTTP\/1\.[2-9]/.test(d.stream),
  },
  {
    parser: "go",
    kind: "frames ours-more theirs-whole",
    reason: "Go begins with a request when four bytes of it are there",
    when: (d) => d.tail.length < 4,
  },
  {
    parser: "llhttp",
    kind: "frames ours-more theirs-whole",
    reason: "an empty line alone, or a part of it, is no request yet to either",
    when: (d) => d.tail === "\r" || d.tail === "\r\n",
  },
  {
    parser: "go",
    kind: /^(laxer|differs start|frames ours-done theirs-(more|whole))$/,
    reason: "Go answers OPTIONS * itself, before its handlers",
    when: isOptionsStar,
  },
  {
    parser: "go",
    kind: /^(laxer|frames ours-tunnel theirs-(more|whole|done))$/,
    reason: "CONNECT: Go's handlers take it like any request, we as the end of HTTP",
    when: isConnect,
  },
  {
    parser: "llhttp",
    kind: /^(stricter \w+|frames ours-(whole|more|done) theirs-tunnel)$/,
    reason: "RFC 9110 7.8: Upgrade is for the route to allow; llhttp stops at any",
    when: isUpgrade,
  },
  {
    parser: "llhttp",
    kind: "frames ours-done theirs-closed",
    reason: "RFC 9110 6.5.1: llhttp heeds Connection in trailers",
    when: (d) => /\n0+(;[^\r]*)?\r\n([^\r]+\r\n)*connection:/i.test(d.stream),
  },
];

/** The same for answers, which llhttp alone reads. */
export const explainedAnswers: readonly Explained[] = [
  {
    parser: "llhttp",
    kind: "stricter statusLine",
    reason: "RFC 9112 4: llhttp skips empty lines before an answer, and takes 2.0 and a status below 100",
  },
  { parser: "llhttp", kind: "stricter lineEnd", reason: "RFC 9112 4: llhttp takes control bytes in a reason" },
  { parser: "llhttp", kind: "stricter fieldName", reason: "framing fields spelt with an underscore are fields like any to llhttp" },
  {
    parser: "llhttp",
    kind: "stricter coding",
    reason: "RFC 9112 6.1: other codings, which we never asked for; llhttp hands them to its user",
  },
  {
    parser: "llhttp",
    kind: "stricter codingOrder",
    reason: "RFC 9112 6.3 (4) reads such an answer until close; no origin is known to send one",
  },
  { parser: "llhttp", kind: "stricter bothFramings", reason: "RFC 9112 6.1: chunked in HTTP/1.0 is a faulty framing; llhttp takes it" },
  { parser: "llhttp", kind: "stricter contentLength", reason: "RFC 9112 6.3 (5): llhttp takes an empty length, and counts beyond 2^53" },
  { parser: "llhttp", kind: "stricter host", reason: "Host means nothing in an answer; two of them are refused all the same" },
  { parser: "llhttp", kind: "stricter nominated", reason: "what Connection names is for a proxy to judge" },
  {
    parser: "llhttp",
    kind: "laxer",
    reason: "RFC 9110 2.5: a higher minor version is read as 1.1",
    when: (d) => d.why === "Invalid HTTP version" && /HTTP\/1\.[2-9]/.test(d.stream),
  },
  {
    parser: "llhttp",
    kind: "laxer",
    reason: "RFC 9110 6.5.1: framing fields in trailers mean nothing; we filter them, llhttp refuses",
    when: (d) =>
      (d.why.startsWith("Content-Length can't be present") || d.why.startsWith("Invalid `Transfer-Encoding`")) &&
      /\n0+(;[^\r]*)?\r\n/.test(d.stream),
  },
  {
    parser: "llhttp",
    kind: "frames ours-done theirs-closed",
    reason: "RFC 9110 6.5.1: llhttp heeds Connection in trailers",
    when: (d) => /\n0+(;[^\r]*)?\r\n([^\r]+\r\n)*connection:/i.test(d.stream),
  },
  {
    parser: "llhttp",
    kind: /^(stricter \w+|frames ours-\w+ theirs-tunnel)$/,
    reason: "101 ends HTTP for llhttp; for us the connection that asked for it knows",
    when: (d) => d.why.startsWith("Pause on") && d.stream.includes(" 101"),
  },
  {
    parser: "llhttp",
    kind: "laxer",
    reason: "RFC 9110 5.6.3: a tab is white space around a length; what we forward has spaces there",
    when: (d) => d.why === "Invalid character in Content-Length" && /length:[^\r]*\t/i.test(d.stream),
  },
  {
    parser: "llhttp",
    kind: "laxer",
    reason: "RFC 9112 7.1.1: extensions may hold bad white space; none is forwarded",
    when: (d) => d.why.startsWith("Invalid character in chunk extensions") && /\n[0-9a-f]+;[^\r]*[ \t]/i.test(d.stream),
  },
  { parser: "llhttp", kind: "stricter chunk", reason: "RFC 9112 7.1.1: llhttp takes extensions without a value" },
  {
    parser: "llhttp",
    kind: /^(laxer|differs body|frames ours-\w+ theirs-more)$/,
    reason:
      "RFC 9112 6.3 (1): llhttp knows 100 to 103 and reads a body after any other interim answer, so that none is forwarded with a framing field",
    when: (d) => /HTTP\/1\.\d 1(0[4-9]|[1-9]\d)/.test(d.stream),
  },
];

function isConnect(d: Difference): boolean {
  return d.message !== undefined && method(d.message) === "CONNECT";
}

function isUpgrade(d: Difference): boolean {
  return d.why.startsWith("Pause on") && /\nconnection:[^\r]*upgrade/i.test(d.stream) && /\nupgrade:/i.test(d.stream);
}

/** The message that it is about, or the part of one after the last, begins with an empty line. */
function emptyLineBefore(d: Difference): boolean {
  if (d.tail.startsWith("\r\n")) return true;
  if (d.message === undefined) return false;
  const start = d.stream.indexOf(`${d.message.start} HTTP/`);
  return d.stream.slice(Math.max(0, start - 2), start) === "\r\n";
}
