// Owns: reading a whole stream of HTTP/1 messages with the codec, as the connections of the proxy do, for any way in which the stream is cut.
// What comes out can be compared: between two cuts of one stream, and with what other parsers make of it.

import { text } from "../../src/proxy/http/bytes.ts";
import { BodyReader, framing } from "../../src/proxy/http1/body.ts";
import { field, form, Head, parseAnswer, parseRequest } from "../../src/proxy/http1/head.ts";
import { refusal } from "../../src/proxy/http1/limits.ts";

export type RefusalName = keyof typeof refusal;

export interface Message {
  /** `GET /a` or `200`. */
  readonly start: string;
  readonly minor: number;
  /** What routing would see. */
  readonly authority: string;
  readonly path: string;
  /** Every field as it came, spelling and order kept. */
  readonly fields: readonly (readonly [string, string])[];
  /** Names of the fields that would not be forwarded, and the lines of those that would, as they stand in the buffer after parsing. */
  readonly dropped: readonly string[];
  readonly kept: readonly string[];
  /** Payload. */
  readonly body: string;
  /** What is passed on when framing is kept; the empty line after trailers is the writer's. */
  readonly passed: string;
  readonly trailers: string;
  /** How many bytes of the stream it took. */
  readonly size: number;
}

export interface Reading {
  readonly messages: readonly Message[];
  /** The stream ends within a message, at its end, in other protocols' bytes, or was refused. */
  readonly end: "whole" | "more" | "tunnel" | RefusalName;
}

const refusalNames = Object.fromEntries(Object.entries(refusal).map(([name, code]) => [code, name])) as Readonly<
  Record<number, RefusalName>
>;

/** The name of a negative parser result. */
export function refusalName(code: number): RefusalName {
  const name = refusalNames[-code];
  if (name === undefined) throw new Error(`${code} is no refusal`);
  return name;
}

/** Positions at which a stream is cut, in ascending order; none = whole. */
export type Cuts = readonly number[];

export function everyByte(size: number): Cuts {
  return Array.from({ length: Math.max(0, size - 1) }, (_, i) => i + 1);
}

/** Reads requests one after another, until the stream ends or something is refused. The given bytes are left as they are. */
export function readRequests(stream: Uint8Array, cuts: Cuts = []): Reading {
  return read(stream, cuts, (head, bytes, to, body) => {
    const used = parseRequest(bytes, 0, to, head);
    if (used <= 0) return used;
    if (head.chunked) body.begin(framing.chunked, 0, false);
    else body.begin(framing.length, head.contentLength, false);
    return used;
  });
}

/** Reads answers to requests that are no HEAD; interim ones are messages of their own. An answer without length takes the rest. */
export function readAnswers(stream: Uint8Array, cuts: Cuts = []): Reading {
  return read(stream, cuts, (head, bytes, to, body) => {
    const used = parseAnswer(bytes, 0, to, head);
    if (used <= 0) return used;
    if (head.status < 200 || head.status === 204 || head.status === 304) body.begin(framing.none, 0, false);
    else if (head.chunked) body.begin(framing.chunked, 0, false);
    else if (head.contentLength >= 0) body.begin(framing.length, head.contentLength, false);
    else body.begin(framing.untilClose, 0, false);
    return used;
  });
}

/** Reads a head from bytes[0, to) and begins the body. */
type ReadHead = (head: Head, bytes: Buffer, to: number, body: BodyReader) => number;

function read(stream: Uint8Array, cuts: Cuts, readHead: ReadHead): Reading {
  const messages: Message[] = [];
  const head = new Head();
  const body = new BodyReader();
  body.keepTrailers = true;
  /** The head under way, then null while its body is read. */
  let stash: Buffer | null = Buffer.alloc(0);
  let current: Draft | null = null;
  const finish = (draft: Draft): void => {
    messages.push({
      ...draft.head,
      body: draft.body,
      passed: draft.passed,
      trailers: body.trailers === null ? "" : body.trailers.toString("latin1"),
      size: draft.size,
    });
  };
  let from = 0;
  for (const to of [...cuts, stream.length]) {
    if (to < from) throw new Error("cuts must ascend");
    let piece: Buffer = Buffer.from(stream.subarray(from, to));
    from = to;
    while (piece.length > 0 || (stash !== null && stash.length > 0)) {
      if (stash !== null) {
        const bytes: Buffer = Buffer.concat([stash, piece]);
        const used = readHead(head, bytes, bytes.length, body);
        if (used < 0) return { messages, end: refusalName(used) };
        if (used === 0) {
          stash = bytes;
          break;
        }
        current = { head: headOf(head, bytes), body: "", passed: "", size: used };
        stash = null;
        piece = bytes.subarray(used);
        if (head.form === form.authority && head.status === 0) {
          finish(current);
          return { messages, end: "tunnel" };
        }
      }
      const draft: Draft = current as Draft;
      if (!body.done) {
        const before = body.bytes;
        const copy: Buffer = Buffer.from(piece);
        const used = body.scan(copy, 0, copy.length);
        if (used < 0) return { messages, end: refusalName(used) };
        const kept = copy.toString("latin1", 0, body.keptTo);
        draft.passed += kept;
        draft.size += used;
        draft.body += body.framing === framing.chunked ? "" : kept;
        if (body.framing === framing.chunked && body.bytes > before) draft.body = payload(draft.passed);
        piece = piece.subarray(used);
      }
      if (!body.done) break;
      finish(draft);
      current = null;
      stash = Buffer.alloc(0);
      if (piece.length === 0) break;
    }
  }
  if (current !== null) {
    if (body.framing === framing.untilClose) {
      finish(current);
      return { messages, end: "whole" };
    }
    return { messages, end: "more" };
  }
  return { messages, end: stash !== null && stash.length > 0 ? "more" : "whole" };
}

interface Draft {
  readonly head: Pick<Message, "start" | "minor" | "authority" | "path" | "fields" | "dropped" | "kept">;
  body: string;
  passed: string;
  size: number;
}

function headOf(head: Head, bytes: Uint8Array): Draft["head"] {
  const fields: [string, string][] = [];
  const dropped: string[] = [];
  const kept: string[] = [];
  for (let i = 0; i < head.count; i++) {
    const name = text(bytes, head.nameFrom[i] as number, head.nameTo[i] as number);
    fields.push([name, text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number)]);
    if ((head.kind[i] as number) >= field.dropFrom) dropped.push(name);
    else kept.push(text(bytes, head.nameFrom[i] as number, i + 1 < head.count ? (head.nameFrom[i + 1] as number) : head.to - 2));
  }
  const isAnswer = head.status > 0;
  return {
    start: isAnswer ? String(head.status) : `${text(bytes, head.from, head.methodTo)} ${text(bytes, head.targetFrom, head.targetTo)}`,
    minor: head.minor,
    authority: isAnswer ? "" : text(bytes, head.authorityFrom, head.authorityTo),
    path: isAnswer ? "" : text(bytes, head.pathFrom, head.pathTo),
    fields,
    dropped,
    kept,
  };
}

/** Undoes chunks that were passed on: the plainest way there is, as a check on the reader's own. */
export function payload(chunked: string): string {
  let out = "";
  for (let at = 0; at < chunked.length; ) {
    const line = chunked.indexOf("\r\n", at);
    if (line < 0) return out;
    const size = Number.parseInt(chunked.slice(at, line), 16);
    out += chunked.slice(line + 2, line + 2 + size);
    at = line + 2 + size + 2;
    if (size === 0) return out;
  }
  return out;
}
