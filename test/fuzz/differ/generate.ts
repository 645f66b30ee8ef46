// Owns: streams of requests and of answers for comparison: put together from parts that parsers disagree about, and the vectors, mutated. Repeatable.

import { mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import { bytesOf } from "../target.ts";
import { http1Words } from "../targets/words.ts";
import { answers } from "../vectors/http1-answers.ts";
import { requests } from "../vectors/http1-requests.ts";

const vectors = bytesOf(requests.filter((vector) => vector.raw.length < 1_500).map((vector) => vector.raw));
const answerVectors = bytesOf(answers.map((vector) => vector.raw));
const words = bytesOf(http1Words);

const methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "FROB"];
const targets = ["/", "/a?b", "*", "http://x/", "http://y:1", "//a", "/%zz", "/a#b", "x:1", "/|"];
const lengths = ["5", "5", "5", "0", "+5", "05", "5 ", " \t5", "5,5", "5;", "-0", "1e1", "0x5", "99999999999999999999", ""];
const codings = [
  "chunked",
  "chunked",
  "Chunked",
  "gzip, chunked",
  "chunked, chunked",
  "chunked ",
  "\tchunked",
  "x",
  "identity",
  ", chunked",
  "",
];
const bodies = [
  "",
  "hello",
  "5\r\nhello\r\n0\r\n\r\n",
  "5;a=b\r\nhello\r\n0;c\r\nT: u\r\n\r\n",
  "05\r\nhello\r\n00\r\n\r\n",
  "5 \r\nhello\r\n0\r\n\r\n",
  "5\nhello\n0\n\n",
  "5\r\nhelloXX0\r\n\r\n",
  "0\r\nContent-Length: 3\r\n\r\n",
  "0\r\nConnection: close\r\n\r\n",
];
const ends = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n"];
const others = [
  "A: b",
  "A:b",
  "A : b",
  "A:\t b \t",
  "a_b: c",
  "X: \xe9",
  "X: \x01",
  "Connection: close",
  "Connection: keep-alive",
  "Connection: upgrade",
  "Upgrade: websocket",
  "Connection: x, a",
  "TE: trailers",
  "Trailer: T",
  "Expect: 100-continue",
  "Expect: x",
  ": c",
  "nocolon",
  " folded",
  "Keep-Alive: 1",
  "Host: z",
];

/** One line in `n` is left as a parser hopes, else from the list. */
function message(random: Random): string {
  const eol = random.once(12) ? ends : ["\r\n"];
  const fields: string[] = [];
  if (!random.once(12))
    fields.push(random.once(10) ? random.pick(["Host: x:80", "Host:", "Host: a b", "Host: a,b", "host: [::1]", "Host: x/"]) : "Host: x");
  if (random.once(3))
    fields.push(`${random.pick(["Content-Length", "Content-Length", "content-length", "Content_Length"])}: ${random.pick(lengths)}`);
  if (random.once(3))
    fields.push(`${random.pick(["Transfer-Encoding", "Transfer-Encoding", "Transfer_Encoding"])}: ${random.pick(codings)}`);
  for (let n = random.below(3); n > 0; n--) fields.splice(random.below(fields.length + 1), 0, random.pick(others));
  const version = random.once(10)
    ? random.pick(["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.10", "HTTP/1"])
    : "HTTP/1.1";
  const usual = random.once(3);
  const start = `${usual ? random.pick(methods) : "POST"} ${usual ? random.pick(targets) : "/"} ${version}`;
  return `${random.once(20) ? random.pick(["\r\n", "\n", " ", "\r\n\r\n"]) : ""}${[start, ...fields, ""].map((line) => line + random.pick(eol)).join("")}${random.pick(bodies)}`;
}

const statuses = [
  "200 OK",
  "200 OK",
  "200 OK",
  "200",
  "204 No Content",
  "304 x",
  "100 Continue",
  "103 y",
  "500 \xe4",
  "99 x",
  "1000 x",
  "2x0 x",
  "200\tOK",
  "101 z",
];

function answer(random: Random): string {
  const eol = random.once(12) ? ends : ["\r\n"];
  const fields: string[] = [];
  if (random.once(2))
    fields.push(`${random.pick(["Content-Length", "Content-Length", "content-length", "Content_Length"])}: ${random.pick(lengths)}`);
  if (random.once(3))
    fields.push(`${random.pick(["Transfer-Encoding", "Transfer-Encoding", "Transfer_Encoding"])}: ${random.pick(codings)}`);
  for (let n = random.below(3); n > 0; n--) fields.splice(random.below(fields.length + 1), 0, random.pick(others));
  const version = random.once(8) ? random.pick(["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "ICY", "HTTP/1"]) : "HTTP/1.1";
  return `${[`${version} ${random.pick(statuses)}`, ...fields, ""].map((line) => line + random.pick(eol)).join("")}${random.pick(bodies)}`;
}

export function generateRequests(count: number, random: Random): readonly Uint8Array[] {
  return generate(count, random, vectors, message);
}

export function generateAnswers(count: number, random: Random): readonly Uint8Array[] {
  return generate(count, random, answerVectors, answer);
}

/** The seeds, then a quarter of them mutated, a quarter of made messages mutated, and half of them as they are. */
function generate(count: number, random: Random, seeds: readonly Uint8Array[], make: (random: Random) => string): readonly Uint8Array[] {
  const out: Uint8Array[] = [...seeds];
  while (out.length < count) {
    const kind = random.below(4);
    if (kind === 0) out.push(mutate(random.pick(seeds), words, seeds, 3_000, random));
    else {
      const text = Array.from({ length: random.once(3) ? 2 : 1 }, () => make(random)).join("");
      const bytes = new Uint8Array(Buffer.from(text, "latin1"));
      out.push(kind === 1 ? mutate(bytes, words, seeds, 3_000, random) : bytes);
    }
  }
  return out;
}
