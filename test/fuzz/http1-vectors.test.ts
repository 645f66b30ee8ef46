// Every vector read whole, byte by byte and at every split: the same messages, the same verdict.

import { describe, expect, test } from "bun:test";
import { everyByte, type Message, type Reading, readAnswers, readRequests } from "./reading.ts";
import { answers } from "./vectors/http1-answers.ts";
import { requests } from "./vectors/http1-requests.ts";
import type { Vector } from "./vectors/vector.ts";

/** A message in one line; the path is named where it is not the target. */
export function summary(message: Message): string {
  const target = message.start.slice(message.start.indexOf(" ") + 1);
  const isAnswer = !message.start.includes(" ");
  return [
    message.start,
    message.minor === 0 ? " 1.0" : "",
    message.authority === "" ? "" : ` @${message.authority}`,
    isAnswer || message.path === target ? "" : ` ${message.path === "" ? "()" : message.path}`,
    message.body === "" ? "" : ` [${message.body}]`,
    message.trailers === "" ? "" : ` {${message.trailers}}`,
    message.dropped.length === 0 ? "" : ` -${message.dropped.join(",")}`,
  ].join("");
}

/** Streams beyond this size are split at some places only. */
const smallStream = 1_200;

function splitsOf(size: number): readonly number[] {
  if (size <= smallStream) return everyByte(size);
  return Array.from({ length: 100 }, (_, i) => 1 + Math.floor((i * (size - 1)) / 100));
}

function judge(vector: Vector, readAll: typeof readRequests): void {
  const stream = Buffer.from(vector.raw, "latin1");
  const whole = readAll(stream);
  expect({ messages: whole.messages.map(summary), end: whole.end }).toEqual({ messages: [...vector.messages], end: vector.end });
  const same = (reading: Reading, how: string): void => {
    if (!Bun.deepEquals(reading, whole)) expect([how, reading]).toEqual([how, whole]);
  };
  if (stream.length <= 4 * smallStream) same(readAll(stream, everyByte(stream.length)), "byte by byte");
  for (const cut of splitsOf(stream.length)) same(readAll(stream, [cut]), `cut at ${cut}`);
}

describe("requests", () => {
  for (const vector of requests) test(`${vector.rule}: ${vector.name}`, () => judge(vector, readRequests));
});

describe("answers", () => {
  for (const vector of answers) test(`${vector.rule}: ${vector.name}`, () => judge(vector, readAnswers));
});

test("no vector stands twice", () => {
  for (const vectors of [requests, answers]) expect(new Set(vectors.map((vector) => vector.raw)).size).toBe(vectors.length);
});
