// Owns: what makes two readings of one stream differ, in one word; the reasons stand in differences.ts.

import { type Cuts, type Message, type Reading, readRequests } from "../reading.ts";
import type { ForeignMessage, ForeignParser, ForeignReading } from "./foreign.ts";

/**
 * `stricter REFUSAL`: we refuse what the other reads, or waits to read. `laxer`: the other refuses what we read. `differs PART`: both read a
 * message, and not the same one: where requests are smuggled. `frames`: one waits where the other is done.
 */
export type Kind = `stricter ${string}` | "laxer" | `differs ${string}` | `frames ${string}`;

export interface Difference {
  readonly kind: Kind;
  readonly why: string;
  /** The message of ours that it is about, or the last one before. */
  readonly message: Message | undefined;
  /** The start line in question: of the message, or of what follows the last one. */
  readonly start: string;
  readonly stream: string;
  /** What is left of the stream after the messages that we have read. */
  readonly tail: string;
}

/** null: the same verdict and the same messages. */
export function compare(
  stream: Uint8Array,
  ours: Reading,
  theirs: ForeignReading,
  parser: ForeignParser,
  readAll: (stream: Uint8Array, cuts?: Cuts) => Reading = readRequests,
): Difference | null {
  const text = Buffer.from(stream).toString("latin1");
  const tail = text.slice(ours.messages.reduce((sum, message) => sum + message.size, 0));
  const difference = (kind: Kind, at: number): Difference => ({
    kind,
    why: theirs.why,
    message: ours.messages[at] ?? ours.messages.at(-1),
    start: ours.messages[at]?.start ?? tail.trimStart().split("\r\n")[0] ?? "",
    stream: text,
    tail,
  });
  const both = Math.min(ours.messages.length, theirs.messages.length);
  for (let i = 0; i < both; i++) {
    const part = differentPart(ours.messages[i] as Message, theirs.messages[i] as ForeignMessage, parser);
    if (part !== null) return difference(`differs ${part}`, i);
  }
  const weRefuse = !["whole", "more", "tunnel"].includes(ours.end);
  if (ours.messages.length > both) {
    const last = theirs.messages.length === 0 ? undefined : ours.messages[both - 1];
    if (theirs.end === "closed" && last !== undefined && saysClose(last)) return null;
    if (theirs.end === "refused") return difference("laxer", both);
    return difference(`frames ours-done theirs-${theirs.end}`, both);
  }
  if (theirs.messages.length > both) return difference(weRefuse ? `stricter ${ours.end}` : `frames ours-${ours.end} theirs-done`, both);
  if (weRefuse) return theirs.end === "refused" || (theirs.end === "closed" && both > 0) ? null : difference(`stricter ${ours.end}`, both);
  if (theirs.end === "refused") {
    // A head that is not whole yet: we may judge later what the other judges at once.
    if (ours.end === "more" && refusedOnceWhole(stream, readAll)) return null;
    return difference("laxer", both);
  }
  if (ours.end === theirs.end || theirs.end === "closed") return null;
  return difference(`frames ours-${ours.end} theirs-${theirs.end}`, both);
}

function refusedOnceWhole(stream: Uint8Array, readAll: (stream: Uint8Array) => Reading): boolean {
  for (const rest of ["\r\n\r\n", "\n\r\n", " / HTTP/1.1\r\nHost: x\r\n\r\n", ": \r\n\r\n"]) {
    const end = readAll(Buffer.concat([stream, Buffer.from(rest)])).end;
    if (end === "whole" || end === "more") return false;
  }
  return true;
}

function saysClose(message: Message): boolean {
  const options = message.fields
    .filter(([name]) => name.toLowerCase() === "connection")
    .flatMap(([, value]) =>
      value
        .toLowerCase()
        .split(",")
        .map((option) => option.trim()),
    );
  return options.includes("close") || (message.minor === 0 && !options.includes("keep-alive"));
}

function differentPart(ours: Message, theirs: ForeignMessage, parser: ForeignParser): string | null {
  if (ours.start !== theirs.start) return "start";
  if (ours.minor !== theirs.minor) return "version";
  if (ours.body !== theirs.body) return "body";
  const seen = (fields: readonly (readonly [string, string])[]): readonly (readonly [string, string])[] =>
    fields.map(([name, value]) => [name.toLowerCase(), value] as const).filter(([name]) => !parser.hides.includes(name));
  const mine = [...seen(ours.fields)];
  if (parser.sorted) mine.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  return Bun.deepEquals(mine, seen(theirs.fields)) ? null : "fields";
}
