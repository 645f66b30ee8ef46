// Owns: the fuzz target of whole connections: many messages, any split, and what would be forwarded of them.

import { filterTrailers } from "../../../src/proxy/http1/trailers.ts";
import { type Message, readRequests } from "../reading.ts";
import { bytesOf, must, type Target } from "../target.ts";
import { requests } from "../vectors/http1-requests.ts";
import { http1Words } from "./words.ts";

/** What an origin gets of a message: the fields for one hop gone, framing and spelling kept. */
export function forwarded(message: Message): string {
  const left = [...message.dropped];
  const fields = message.fields.filter(([name]) => {
    const at = left.indexOf(name);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
  const trailers = filterTrailers(Buffer.from(message.trailers, "latin1")).toString("latin1");
  const end = message.trailers === "" ? "" : `${trailers}\r\n`;
  const head = `${message.start} HTTP/1.${message.minor}\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
  return head + message.passed + end;
}

export const http1Stream: Target = {
  name: "http1-stream",
  seeds: bytesOf(requests.filter((vector) => vector.raw.length < 1_000).map((vector) => vector.raw)),
  words: bytesOf(http1Words),
  most: 1_500,
  check: (input, random) => {
    const whole = readRequests(input);
    const cuts = [random.below(input.length + 1), random.below(input.length + 1), random.below(input.length + 1)].sort((a, b) => a - b);
    const cut = readRequests(input, cuts);
    must(Bun.deepEquals(cut, whole), "another split reads differently", cuts, cut, whole);
    must(whole.messages.reduce((sum, message) => sum + message.size, 0) <= input.length, "messages are longer than their stream");
    for (const message of whole.messages) {
      if (message.start.startsWith("CONNECT ")) continue;
      const again = readRequests(Buffer.from(forwarded(message), "latin1"));
      const same = again.messages[0];
      must(again.end === "whole" && again.messages.length === 1 && same !== undefined, "what is forwarded is not one message", again);
      must(
        same?.start === message.start && same.body === message.body && same.authority === message.authority && same.dropped.length === 0,
        "what is forwarded means something else",
        same,
        message,
      );
    }
  },
};
