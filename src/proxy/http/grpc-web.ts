// Owns: gRPC-Web (the gRPC project's PROTOCOL-WEB) translated to gRPC, for browsers, which see no trailers and may speak HTTP/1.1: the request's head and
// base64, and a downstream half that stands before the client's own and puts trailers into the body. Never buffers a message.

import { Head, parseAnswer, parseRequest } from "../http1/head.ts";
import { scratch } from "../net/outbox.ts";
import { equalsIgnoreCase, latin1, lower, text } from "./bytes.ts";
import { fieldNamed } from "./grpc.ts";
import type { AnswerPlan, DownstreamHalf } from "./halves.ts";
import { type Moves, StandIn } from "./stand-in.ts";

const contentTypeName = latin1("content-type");
const webType = latin1("application/grpc-web");
const textMark = latin1("-text");
const dropped = new Set(["content-type", "content-length", "transfer-encoding", "te", "connection"]);

/** One gRPC-Web request. */
export class WebCall {
  /** base64 both ways (`application/grpc-web-text`). */
  readonly isText: boolean;
  /** `+proto`, `+json` or nothing. */
  readonly suffix: string;
  /** base64 digits that wait for a whole group of four. */
  #digits = "";

  constructor(isText: boolean, suffix: string) {
    this.isText = isText;
    this.suffix = suffix;
  }

  /** Body bytes as gRPC has them. Null: no base64. */
  decode(bytes: Uint8Array, from: number, to: number): Uint8Array | null {
    if (!this.isText) return bytes.subarray(from, to);
    const all = this.#digits + text(bytes, from, to);
    const whole = all.length - (all.length % 4);
    this.#digits = all.slice(whole);
    if (!/^(?:[A-Za-z0-9+/]{2}(?:[A-Za-z0-9+/]{2}|[A-Za-z0-9+/]=|==))*$/.test(all.slice(0, whole))) return null;
    // Each group by itself: clients may pad within the stream, at the end of every message.
    const parts: Uint8Array[] = [];
    for (let at = 0; at < whole; ) {
      const pad = all.indexOf("=", at);
      const end = pad < 0 || pad >= whole ? whole : pad + 4 - (pad % 4);
      parts.push(Buffer.from(all.slice(at, end), "base64"));
      at = end;
    }
    return Buffer.concat(parts);
  }

  /** The stream ended within a group. */
  get torn(): boolean {
    return this.#digits !== "";
  }
}

/** The call when a request is gRPC-Web over HTTP/1.1 or HTTP/2, else null. */
export function webCallOf(bytes: Uint8Array, head: Head): WebCall | null {
  const i = fieldNamed(bytes, head, contentTypeName);
  if (i < 0 || head.minor === 0) return null;
  const from = head.valueFrom[i] as number;
  const to = head.valueTo[i] as number;
  let at = from + webType.length;
  if (at > to || !equalsIgnoreCase(bytes, from, at, webType)) return null;
  const isText = at + textMark.length <= to && equalsIgnoreCase(bytes, at, at + textMark.length, textMark);
  if (isText) at += textMark.length;
  const rest = text(bytes, at, to);
  const suffix = /^(\+[a-z0-9.-]+)?(?:$|[; ])/i.exec(rest);
  return suffix === null ? null : new WebCall(isText, suffix[1] ?? "");
}

/** The request's head as gRPC has it, in bytes of its own; `head` is filled for it. */
export function grpcHead(call: WebCall, bytes: Uint8Array, from: Head, head: Head): Uint8Array {
  let out = `${text(bytes, from.from, from.targetTo)} HTTP/1.1\r\n`;
  for (let i = 0; i < from.count; i++) {
    const name = text(bytes, from.nameFrom[i] as number, from.nameTo[i] as number);
    if (dropped.has(name.toLowerCase())) continue;
    out += `${name}: ${text(bytes, from.valueFrom[i] as number, from.valueTo[i] as number)}\r\n`;
  }
  const made = Buffer.from(`${out}content-type: application/grpc${call.suffix}\r\nte: trailers\r\n\r\n`, "latin1");
  parseRequest(made, 0, made.length, head);
  return made;
}

const answerHead = new Head();

/** The client's half for one request of gRPC-Web. To the exchange it speaks HTTP/2: bodies without framing, and trailers. */
export function webHalf(client: DownstreamHalf, call: WebCall): DownstreamHalf {
  return new StandIn(client, 2, new WebMoves(client, call));
}

class WebMoves implements Moves {
  readonly #client: DownstreamHalf;
  readonly #call: WebCall;
  /** Bytes that wait for a whole group of three. */
  #rest: Uint8Array = new Uint8Array(0);

  constructor(client: DownstreamHalf, call: WebCall) {
    this.#client = client;
    this.#call = call;
  }

  sendAnswer(bytes: Uint8Array, head: Head, how: AnswerPlan, from: number, to: number, end: boolean): boolean {
    let out = `HTTP/1.1 ${head.status} ${text(bytes, head.from + 13, head.lineTo)}\r\n`;
    for (let i = 0; i < head.count; i++) {
      const name = text(bytes, head.nameFrom[i] as number, head.nameTo[i] as number);
      const value = text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
      const lowerName = name.toLowerCase();
      if (lowerName === "content-type" && value.toLowerCase().startsWith("application/grpc"))
        out += `content-type: application/grpc-web${this.#call.isText ? "-text" : ""}${this.#call.suffix}\r\n`;
      else if (!dropped.has(lowerName) || lowerName === "content-type") out += `${name}: ${value}\r\n`;
    }
    const made = Buffer.from(`${out}\r\n`, "latin1");
    parseAnswer(made, 0, made.length, answerHead);
    const body = this.#encode(bytes, from, to, end);
    // The length is not what it was: chunks towards HTTP/1, unless there is nothing at all.
    const empty = end && body.length === 0;
    const plan = { ...how, dropFraming: true, addChunks: !empty, needsLength: empty };
    const whole = Buffer.concat([made, body]);
    return this.#client.sendAnswer(whole, answerHead, plan, made.length, whole.length, end);
  }

  sendBody(bytes: Uint8Array, from: number, to: number, end: boolean): boolean {
    const body = this.#encode(bytes, from, to, end);
    return this.#client.sendBody(body, 0, body.length, end);
  }

  /** A frame with the highest bit of its flags set holds the trailers, names in lower case. */
  sendTrailers(bytes: Uint8Array, from: number, to: number): void {
    const frame = Buffer.alloc(5 + to - from);
    frame[0] = 0x80;
    frame.writeUInt32BE(to - from, 1);
    let inName = true;
    for (let i = from; i < to; i++) {
      const byte = bytes[i] as number;
      if (byte === 58) inName = false;
      frame[5 + i - from] = inName ? (lower[byte] as number) : byte;
      if (byte === 10) inName = true;
    }
    const body = this.#encode(frame, 0, frame.length, true);
    this.#client.sendBody(body, 0, body.length, true);
  }

  /** A local reply in gRPC's terms: its status stands in the head, where gRPC-Web clients look too. */
  sendReply(size: number): void {
    const reply = text(scratch, 0, size).replace(
      "content-type: application/grpc\r\n",
      `content-type: application/grpc-web${this.#call.isText ? "-text" : ""}${this.#call.suffix}\r\ncontent-length: 0\r\n`,
    );
    this.#client.sendReply(scratch.write(reply, 0, "latin1"));
  }

  #encode(bytes: Uint8Array, from: number, to: number, end: boolean): Uint8Array {
    if (!this.#call.isText) return bytes.subarray(from, to);
    const all = Buffer.concat([this.#rest, bytes.subarray(from, to)]);
    const whole = end ? all.length : all.length - (all.length % 3);
    this.#rest = all.subarray(whole);
    return Buffer.from(all.subarray(0, whole).toString("base64"), "latin1");
  }
}
