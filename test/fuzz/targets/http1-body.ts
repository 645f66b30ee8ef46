// Owns: the fuzz target of the body reader. The first byte of an input chooses how it is read, the rest is the body and what follows it.

import { BodyReader, framing } from "../../../src/proxy/http1/body.ts";
import type { Random } from "../random.ts";
import { payload } from "../reading.ts";
import { bytesOf, must, type Target } from "../target.ts";
import { requests } from "../vectors/http1-requests.ts";
import { http1Words } from "./words.ts";

interface Result {
  readonly verdict: "done" | "more" | number;
  readonly kept: string;
  readonly used: number;
  readonly payload: number;
  readonly trailers: string | null;
}

function readBody(input: Uint8Array, kind: number, unchunk: boolean, keepTrailers: boolean, cuts: readonly number[]): Result {
  const reader = new BodyReader();
  reader.keepTrailers = keepTrailers;
  reader.begin(kind, 7, unchunk);
  let kept = "";
  let used = 0;
  let from = 0;
  for (const to of [...cuts, input.length]) {
    const piece = Buffer.from(input.subarray(from, to));
    const before = Buffer.from(piece);
    from = to;
    const size = reader.scan(piece, 0, piece.length);
    if (size < 0) return { verdict: size, kept: "", used: 0, payload: 0, trailers: null };
    must(size <= piece.length && reader.keptTo <= size, "more was used or kept than there was", size, reader.keptTo, piece.length);
    must(piece.subarray(size).equals(before.subarray(size)), "bytes after the body were changed");
    kept += piece.toString("latin1", 0, reader.keptTo);
    used += size;
    if (reader.done) break;
    must(size === piece.length, "a body that goes on left bytes unread", size, piece.length);
  }
  return {
    verdict: reader.done ? "done" : "more",
    kept,
    used,
    payload: reader.bytes,
    trailers: reader.trailers === null ? null : reader.trailers.toString("latin1"),
  };
}

function isSubsequence(part: string, whole: Uint8Array): boolean {
  let at = 0;
  for (let i = 0; i < whole.length && at < part.length; i++) if (whole[i] === part.charCodeAt(at)) at++;
  return at === part.length;
}

function check(input: Uint8Array, random: Random): void {
  const mode = input[0] ?? 0;
  const body = input.subarray(1);
  const kind = (mode & 12) === 12 ? framing.length : framing.chunked;
  const unchunk = (mode & 1) === 1;
  const keepTrailers = (mode & 2) === 2;
  const whole = readBody(body, kind, unchunk, keepTrailers, []);
  must(isSubsequence(whole.kept, body), "what is kept was not sent in this order");
  const cuts = [random.below(body.length + 1), random.below(body.length + 1), random.below(body.length + 1)].sort((a, b) => a - b);
  for (const split of [cuts, Array.from({ length: Math.max(0, body.length - 1) }, (_, i) => i + 1)]) {
    const again = readBody(body, kind, unchunk, keepTrailers, split);
    must(Bun.deepEquals(again, whole), "another split reads differently", split.length, again, whole);
  }
  if (typeof whole.verdict === "number") {
    const longer = Buffer.concat([body, Uint8Array.of(random.below(256), 13, 10)]);
    must(readBody(longer, kind, unchunk, keepTrailers, []).verdict === whole.verdict, "more bytes change the refusal");
    return;
  }
  if (kind !== framing.chunked) return;
  const plain = unchunk ? whole.kept : payload(whole.kept);
  if (whole.verdict === "done" || unchunk)
    must(plain.length === whole.payload, "the payload is not as long as it was counted", plain.length, whole.payload);
  if (whole.verdict !== "done") return;
  must(unchunk || whole.kept.endsWith(whole.trailers === null ? "\r\n\r\n" : "\r\n"), "what is passed on has no end");
  // What was passed on is a body again, of the same payload, without extensions.
  if (!unchunk) {
    const passed = Buffer.from(`${whole.kept}${whole.trailers === null ? "" : `${whole.trailers}\r\n`}`, "latin1");
    const again = readBody(passed, kind, false, keepTrailers, []);
    must(Bun.deepEquals(again, { ...whole, used: passed.length }), "what was passed on reads differently", again, whole);
  }
}

const bodies = requests
  .filter((vector) => vector.raw.includes("Transfer-Encoding: chunked\r\n\r\n"))
  .map((vector) => vector.raw.slice(vector.raw.indexOf("\r\n\r\n") + 4))
  .filter((body) => body.length < 2_000);

export const http1Body: Target = {
  name: "http1-body",
  seeds: bytesOf(bodies.flatMap((body, i) => [String.fromCharCode(i & 3) + body, `${String.fromCharCode(2)}${body}`])),
  words: bytesOf(http1Words),
  most: 2_048,
  check,
};
