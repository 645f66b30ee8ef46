// Owns: the fuzz target of whole connections: many messages, any split, and what would be forwarded of them.

import { filterTrailers } from "../../../src/proxy/http1/trailers.ts";
import { type Message, readRequests } from "../reading.ts";
import { bytesOf, must, type Target } from "../target.ts";
import { requests } from "../vectors/http1-requests.ts";
import { http1Words } from "./words.ts";

/**
 * What an origin is to get of a message: origin-form and HTTP/1.1 (RFC 9112 2.3, 3.2.1), one Host, the fields for one hop gone, all other lines and the
 * framing as they stand. The plain form of what `http1/write.ts` does with byte ranges.
 */
export function forwarded(message: Message): string {
  const absolute = message.start.slice(message.start.indexOf(" ") + 1) !== message.path;
  const host = message.kept.find((line) => isHost(line));
  const ownHost = absolute || host === undefined ? `Host: ${message.authority === "" ? "unnamed" : message.authority}\r\n` : "";
  const lines = message.kept.filter((line) => ownHost === "" || !isHost(line));
  const trailers = filterTrailers(Buffer.from(message.trailers, "latin1")).toString("latin1");
  const end = message.trailers === "" ? "" : `${trailers}\r\n`;
  return `${method(message)} ${originForm(message)} HTTP/1.1\r\n${ownHost}${lines.join("")}\r\n${message.passed}${end}`;
}

/** RFC 9110 7.1: an empty path is `/`. */
export function originForm(message: Message): string {
  return message.path.startsWith("/") || message.path === "*" ? message.path : `/${message.path}`;
}

export function method(message: Message): string {
  return message.start.slice(0, message.start.indexOf(" "));
}

function isHost(line: string): boolean {
  return line.slice(0, 5).toLowerCase() === "host:";
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
        same?.start === `${method(message)} ${originForm(message)}` &&
          same.body === message.body &&
          same.authority === (message.authority === "" ? "unnamed" : message.authority) &&
          same.dropped.length === 0,
        "what is forwarded means something else",
        same,
        message,
      );
    }
  },
};
