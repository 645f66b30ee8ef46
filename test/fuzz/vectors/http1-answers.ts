// Owns: what RFC 9110 and RFC 9112 say about answers, one vector each. Written as in `http1-requests.ts`; answers have no authority.

import { more, no, type Vector, yes } from "./vector.ts";

const ok = (fields: string, after = ""): string => `HTTP/1.1 200 OK\r\n${fields}\r\n${after}`;
const next = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

export const answers: readonly Vector[] = [
  yes("9112 4", "a length", ok("Content-Length: 5\r\n", `hello${next}`), "200 [hello]", "201"),
  yes("9112 4", "an empty reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "200"),
  yes("9112 4", "no space before an empty reason, as many send it", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200"),
  yes("9112 4", "a reason beyond ASCII", "HTTP/1.1 200 \xe4\t!\r\nContent-Length: 0\r\n\r\n", "200"),
  yes("9112 2.3", "HTTP/1.0 until close", "HTTP/1.0 200 OK\r\n\r\nhello", "200 1.0 [hello]"),
  yes("9110 15", "a status nobody has heard of", "HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n", "799"),
  no("9112 4", "status below 100", "statusLine", "HTTP/1.1 099 x\r\n\r\n"),
  no("9112 4", "two digits", "statusLine", "HTTP/1.1 20 OK\r\n\r\n"),
  no("9112 4", "four digits", "statusLine", "HTTP/1.1 2000 OK\r\n\r\n"),
  no("9112 4", "no digits", "statusLine", "HTTP/1.1 abc OK\r\n\r\n"),
  no("9112 4", "two spaces", "statusLine", "HTTP/1.1  200 OK\r\n\r\n"),
  no("9112 4", "a tab", "statusLine", "HTTP/1.1\t200 OK\r\n\r\n"),
  no("9112 4", "another protocol", "statusLine", "ICY 200 OK\r\n\r\n"),
  no("9112 4", "HTTP/2", "statusLine", "HTTP/2 200\r\n\r\n"),
  no("9112 4", "an empty line before it", "statusLine", `\r\n${ok("")}`),
  no("9112 4", "NUL in the reason", "lineEnd", "HTTP/1.1 200 O\0K\r\n\r\n"),
  no("9112 2.2", "bare LF after the status line", "lineEnd", "HTTP/1.1 200 OK\nA: b\r\n\r\n"),
  no("9112 2.2", "bare LF after a field", "lineEnd", ok("A: b\nC: d\r\n")),
  no("9112 5.2", "a folded field", "folding", ok("A: b\r\n c\r\n")),
  no("9112 5.1", "space before the colon", "fieldName", ok("Content-Length : 5\r\n", "hello")),
  yes(
    "9112 6.3 (1)",
    "204 and 304 end with their head",
    `HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nHTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n${next}`,
    "204",
    "304",
    "201",
  ),
  yes(
    "9110 15.2",
    "interim answers before the final one",
    `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${next}`,
    "100",
    "103",
    "201",
  ),
  yes("9112 6.3 (8)", "until close", ok("", "all the rest"), "200 [all the rest]"),
  yes(
    "9112 7.1",
    "chunks and trailers",
    ok("Transfer-Encoding: chunked\r\n", `3;a=b\r\nabc\r\n0\r\nGrpc-Status: 0\r\n\r\n${next}`),
    "200 [abc] {Grpc-Status: 0\r\n}",
    "201",
  ),
  no("9112 6.1", "both framings", "bothFramings", ok("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
  no("9112 6.1", "chunked in HTTP/1.0", "bothFramings", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
  no("9112 6.3", "two lengths", "contentLength", ok("Content-Length: 3\r\nContent-Length: 4\r\n", "abc")),
  no("9112 6.3", "a length that is none", "contentLength", ok("Content-Length: abc\r\n")),
  yes("9110 8.6", "a length padded by a device", ok("Content-Length: 0000003\r\n", "abc"), "200 [abc]"),
  no("9112 6.1", "another coding", "coding", ok("Transfer-Encoding: gzip, chunked\r\n")),
  no("9112 6.1", "identity", "codingOrder", ok("Transfer-Encoding: identity\r\n")),
  yes(
    "9110 7.6.1",
    "fields for one hop",
    ok("Connection: close, x-a\r\nX-A: 1\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n"),
    "200 -Connection,X-A,Keep-Alive",
  ),
  yes("9110 10.1.1", "Expect means nothing here", ok("Expect: what\r\nContent-Length: 0\r\n"), "200"),
  more("9112 8", "cut off", ok("Content-Length: 5\r\n", "hell")),
  more("9112 8", "cut off within a chunk", ok("Transfer-Encoding: chunked\r\n", "5\r\nhel")),
];
