// What other parsers make of the same bytes: llhttp (Node) and Go's net/http server. The same verdict and the same messages, or a listed difference.
// And what we forward of any stream means one thing to both: the message that we read.

import { describe, expect, test } from "bun:test";
import { needsPeers } from "../../support/peers.ts";
import { seeded } from "../random.ts";
import { readAnswers, readRequests } from "../reading.ts";
import { forwarded, method, originForm } from "../targets/http1-stream.ts";
import { compare, type Difference } from "./compare.ts";
import { type Explained, explained, explainedAnswers } from "./differences.ts";
import type { ForeignParser } from "./foreign.ts";
import { generateAnswers, generateRequests } from "./generate.ts";
import { goServer } from "./go.ts";
import { llhttp } from "./llhttp.ts";

/** Enough for every listed difference to happen; a second or two for each parser. */
const streams = generateRequests(30_000, seeded(9_112));
const readings = streams.map((stream) => readRequests(stream));

const parsers: ForeignParser[] = [];
const node = llhttp("requests");
if (node === null) process.stderr.write("left out: the comparison with llhttp, as undici is not installed\n");
else parsers.push(node);
if (needsPeers("the comparison with Go's net/http", "http1reader")) parsers.push(goServer());

/** Every difference has its reason, every reason still happens, and most streams are read alike. */
async function judge(
  parser: ForeignParser,
  all: readonly Uint8Array[],
  readAll: typeof readRequests,
  reasons: readonly Explained[],
): Promise<void> {
  const theirs = await parser.read(all);
  const unexplained: Pick<Difference, "kind" | "why" | "stream">[] = [];
  const seen = new Set<Explained>();
  let same = 0;
  all.forEach((stream, i) => {
    const difference = compare(stream, readAll(stream), theirs[i] as (typeof theirs)[number], parser, readAll);
    if (difference === null) {
      same++;
      return;
    }
    const entry = reasons.find((reason) => fits(reason, difference));
    if (entry !== undefined) seen.add(entry);
    else unexplained.push({ kind: difference.kind, why: difference.why, stream: difference.stream });
  });
  unexplained.sort((a, b) => a.stream.length - b.stream.length);
  expect(unexplained.slice(0, 10)).toEqual([]);
  expect(same).toBeGreaterThan(all.length / 2);
  expect(reasons.filter((reason) => !seen.has(reason)).map((reason) => `${reason.kind}: ${reason.reason}`)).toEqual([]);
}

function fits(reason: Explained, difference: Difference): boolean {
  const kind = typeof reason.kind === "string" ? reason.kind === difference.kind : reason.kind.test(difference.kind);
  return kind && (reason.when === undefined || reason.when(difference));
}

for (const parser of parsers) {
  describe(parser.name, () => {
    test("reads requests as we read them, but for what is listed", async () => {
      const reasons = explained.filter((entry) => entry.parser === parser.name || entry.parser === "both");
      await judge(parser, streams, readRequests, reasons);
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
          got.start === `${method(message)} ${originForm(message)}` &&
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

const answerReader = llhttp("answers");
test.skipIf(answerReader === null)(
  "llhttp reads answers as we read them, but for what is listed",
  async () => {
    await judge(answerReader as ForeignParser, generateAnswers(30_000, seeded(9_112)), readAnswers, explainedAnswers);
  },
  30_000,
);
