// Owns: the fuzz target of the trailer filter: lines go or stay whole, and what stays would stay again.

import { filterTrailers } from "../../../src/proxy/http1/trailers.ts";
import { bytesOf, must, type Target } from "../target.ts";
import { http1Words } from "./words.ts";

export const http1Trailers: Target = {
  name: "http1-trailers",
  seeds: bytesOf([
    "",
    "A: b\r\n",
    "A: b\r\nContent-Length: 5\r\nC: d\r\n",
    "Set-Cookie: a\r\nSet-Cookie: b\r\n",
    "X-Forwarded-For: a\r\nX: b\r\n",
  ]),
  words: bytesOf([...http1Words, "Authorization: a\r\n", "content_type: b\r\n", "x_forwarded_for: c\r\n", "grpc-status: 0\r\n"]),
  most: 2_048,
  check: (input) => {
    const lines = Buffer.from(input);
    const before = Buffer.from(lines);
    const kept = filterTrailers(lines);
    must(lines.equals(before), "the input was changed");
    must(filterTrailers(kept).equals(kept), "what was kept is not kept again");
    const all = linesOf(before);
    const left = linesOf(kept);
    let at = 0;
    for (const line of left) {
      while (at < all.length && all[at] !== line) at++;
      must(at < all.length, "a line is new or out of order", line);
      at++;
    }
    must(
      !left.some((line) => /^(content[-_]length|transfer[-_]encoding|host|authorization|set[-_]cookie):/i.test(line)),
      "a forbidden line stayed",
      left,
    );
  },
};

function linesOf(bytes: Buffer): readonly string[] {
  return bytes
    .toString("latin1")
    .split(/(?<=\n)/)
    .filter((line) => line !== "");
}
