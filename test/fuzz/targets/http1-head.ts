// Owns: the fuzz target of request heads, and what must hold for any head parser of the codec.

import { text } from "../../../src/proxy/http/bytes.ts";
import { Head, parseRequest } from "../../../src/proxy/http1/head.ts";
import type { Random } from "../random.ts";
import { bytesOf, must, type Target } from "../target.ts";
import { requests } from "../vectors/http1-requests.ts";
import { http1Words } from "./words.ts";

type Parse = (bytes: Uint8Array, from: number, to: number, head: Head) => number;

const head = new Head();
const other = new Head();

/**
 * Positive is at most what there is, and exactly that much is needed; zero asks for more for every prefix too; negative stays, whatever comes after,
 * and no prefix is refused for another reason. Accepted fields hold no control bytes. The place in the buffer does not matter.
 */
export function checkHead(parse: Parse, input: Uint8Array, random: Random): void {
  const size = input.length;
  const verdict = parse(Buffer.from(input), 0, size, head);
  must(Number.isInteger(verdict) && verdict <= size, "the verdict is no size and no reason", verdict);
  for (let i = 0; i < 4; i++) {
    const to = random.below((verdict > 0 ? verdict : size) + 1);
    if (to === verdict) continue;
    const part = parse(Buffer.from(input.subarray(0, to)), 0, to, other);
    if (verdict >= 0) must(part === 0, "a prefix does not ask for more", to, part, verdict);
    else must(part === 0 || part === verdict || to === size, "a prefix is refused for another reason", to, part, verdict);
  }
  if (verdict !== 0) {
    const longer = Buffer.concat([input, Uint8Array.of(random.below(256), 13, 10, random.below(256))]);
    must(parse(longer, 0, longer.length, other) === verdict, "more bytes change the verdict", verdict);
  }
  const shifted = Buffer.concat([Uint8Array.of(65, 10, 13), input]);
  must(parse(shifted, 3, shifted.length, other) === verdict, "the place in the buffer changes the verdict", verdict);
  if (verdict <= 0) return;
  const alone = Buffer.from(input.subarray(0, verdict));
  must(parse(alone, 0, verdict, head) === verdict, "an accepted head alone reads differently");
  for (let i = 0; i < head.count; i++) {
    const name = text(alone, head.nameFrom[i] as number, head.nameTo[i] as number);
    const value = text(alone, head.valueFrom[i] as number, head.valueTo[i] as number);
    must(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name), "a name is no token", name);
    must(isValue(value), "a value holds control bytes or white space at its ends", value);
  }
  must(!(head.chunked && head.contentLength >= 0 && head.contentLength !== 0), "both framings were accepted");
  // Once more: what the parser may have changed in place reads the same.
  must(
    parse(alone, 0, verdict, other) === verdict && other.contentLength === head.contentLength && other.chunked === head.chunked,
    "the second reading differs",
  );
}

function isValue(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code === 127 || (code < 32 && code !== 9)) return false;
  }
  return !" \t".includes(value.at(0) ?? "x") && !" \t".includes(value.at(-1) ?? "x");
}

export const http1Head: Target = {
  name: "http1-head",
  seeds: bytesOf(requests.filter((vector) => vector.raw.length < 2_000).map((vector) => vector.raw)),
  words: bytesOf(http1Words),
  most: 4_096,
  check: (input, random) => {
    checkHead(parseRequest, input, random);
    const verdict = parseRequest(input, 0, input.length, head);
    if (verdict > 0) must(head.minor === 0 || head.authorityTo > head.authorityFrom, "HTTP/1.1 without a host was accepted");
  },
};
