// What other parsers make of the same bytes: llhttp (Node) and Go's net/http server. The same verdict and the same messages, or a listed difference.
// And what we forward of any stream means one thing to both: the message that we read.

import { describe, expect, test } from "bun:test";
import { needsPeers } from "../../support/peers.ts";
import { seeded } from "../random.ts";
import { readRequests } from "../reading.ts";
import { forwarded, method, originForm } from "../targets/http1-stream.ts";
import { compare, type Difference } from "./compare.ts";
import { explained } from "./differences.ts";
import type { ForeignParser } from "./foreign.ts";
import { generate } from "./generate.ts";
import { goServer } from "./go.ts";
import { llhttp } from "./llhttp.ts";

/** Enough for every listed difference to happen; a second or two for each parser. */
const streams = generate(30_000, seeded(9_112));
const readings = streams.map((stream) => readRequests(stream));

const parsers: ForeignParser[] = [];
const node = llhttp();
if (node === null) process.stderr.write("left out: the comparison with llhttp, as undici is not installed\n");
else parsers.push(node);
if (needsPeers("the comparison with Go's net/http", "http1reader")) parsers.push(goServer());

for (const parser of parsers) {
  const own = explained.filter((entry) => entry.parser === parser.name || entry.parser === "both");
  const explain = (d: Difference) =>
    own.find(
      (entry) =>
        (typeof entry.kind === "string" ? entry.kind === d.kind : entry.kind.test(d.kind)) && (entry.when === undefined || entry.when(d)),
    );

  describe(parser.name, () => {
    test("reads what we read, but for what is listed", async () => {
      const theirs = await parser.read(streams);
      const unexplained: Pick<Difference, "kind" | "why" | "stream">[] = [];
      const seen = new Set<string>();
      let same = 0;
      streams.forEach((stream, i) => {
        const difference = compare(stream, readings[i] as (typeof readings)[number], theirs[i] as (typeof theirs)[number], parser);
        if (difference === null) same++;
        else {
          const entry = explain(difference);
          if (entry !== undefined) seen.add(`${entry.kind}: ${entry.reason}`);
          else unexplained.push({ kind: difference.kind, why: difference.why, stream: difference.stream });
        }
      });
      unexplained.sort((a, b) => a.stream.length - b.stream.length);
      expect(unexplained.slice(0, 10)).toEqual([]);
      expect(same).toBeGreaterThan(streams.length / 2);
      expect(own.map((entry) => `${entry.kind}: ${entry.reason}`).filter((entry) => !seen.has(entry))).toEqual([]);
    }, 30_000);

    test("reads what we forward as the message that we read", async () => {
      const messages = readings.flatMap((reading) => reading.messages).filter((message) => !message.start.startsWith("CONNECT "));
      const sent = messages.map((message) => new Uint8Array(Buffer.from(forwarded(message), "latin1")));
      const theirs = await parser.read(sent);
      const wrong: unknown[] = [];
      let read = 0;
      messages.forEach((message, i) => {
        const reading = theirs[i] as (typeof theirs)[number];
        const got = reading.messages[0];
        if (got === undefined) {
          // Refused is no danger; only what parsers are known to refuse is left out.
          const known =
            parser.name === "llhttp"
              ? reading.why === "Invalid method encountered" || reading.why === "Expected space after method"
              : originForm(message) === "*" || reading.why.startsWith("400 ");
          if (!known) wrong.push([reading, forwarded(message)]);
          return;
        }
        read++;
        const right =
          got.method === method(message) &&
          got.target === originForm(message) &&
          got.body === message.body &&
          got.minor === 1 &&
          reading.messages.length === 1 &&
          reading.end === "whole";
        if (!right) wrong.push([reading, forwarded(message)]);
      });
      expect(wrong.slice(0, 5)).toEqual([]);
      expect(read).toBeGreaterThan(messages.length / 2);
    }, 30_000);
  });
}
