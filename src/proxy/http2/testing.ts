// Owns: raw HTTP/2 peers for tests: a session on a wire of arrays, what it said as frames, what its streams heard as lines. Used by tests alone.

import { MetricRegistry } from "../../base/metric.ts";
import type { Head } from "../http1/head.ts";
import { defaultLimits, type HttpLimits } from "../http1/limits.ts";
import { Outbox, type Wire } from "../net/outbox.ts";
import { errorName } from "./errors.ts";
import {
  type FrameHead,
  flagEndHeaders,
  flagEndStream,
  frame,
  frameData,
  frameGoaway,
  frameHeaders,
  frameRstStream,
  frameSettings,
  parseFrameHead,
  readUint32,
} from "./frame.ts";
import { limits } from "./limits.ts";
import { type DefenceReason, Http2Metrics } from "./metrics.ts";
import { Session } from "./session.ts";
import type { SessionStream, StreamUser } from "./session-stream.ts";
import { clientPreface, type SessionOptions } from "./session-words.ts";
import { writeSetting } from "./settings.ts";

export interface Sent extends FrameHead {
  readonly payload: Buffer;
}

/** A wire that takes what it is told to take. */
export class ArrayWire implements Wire {
  readonly chunks: Buffer[] = [];
  /** Bytes it still takes; Infinity: all. */
  room = Number.POSITIVE_INFINITY;
  shut = false;
  terminated = false;
  remoteAddress = "127.0.0.1";
  remotePort = 1;
  localAddress = "127.0.0.1";
  localPort = 2;

  write(bytes: Uint8Array, from = 0, size = bytes.length - from): number {
    const taken = Math.min(size, this.room);
    this.room -= taken;
    if (taken > 0) this.chunks.push(Buffer.from(bytes.subarray(from, from + taken)));
    return taken;
  }
  end(): void {
    this.shut = true;
  }
  terminate(): void {
    this.terminated = true;
  }
  shutdown(): void {
    this.shut = true;
  }
  pause(): void {}
  resume(): void {}
  timeout(): void {}
}

export function framesOf(bytes: Buffer): Sent[] {
  const frames: Sent[] = [];
  let at = bytes.subarray(0, 3).toString() === "PRI" ? clientPreface.length : 0;
  while (at < bytes.length) {
    const head: FrameHead = { length: 0, type: 0, flags: 0, stream: 0 };
    if (parseFrameHead(bytes, at, bytes.length, 0xffffff, head) !== 9) throw new Error("a torn frame was written");
    frames.push({ ...head, payload: Buffer.from(bytes.subarray(at + 9, at + 9 + head.length)) });
    at += 9 + head.length;
  }
  return frames;
}

/** What the stream of one request hears, gathered so that the splits of its bytes do not show. */
export class Recorder implements StreamUser {
  stream: SessionStream | null = null;
  head = "";
  body = "";
  interims: string[] = [];
  trailers: string | null = null;
  ended = false;
  reset = "";
  writable = 0;
  closed = 0;
  readonly #onHead: ((self: Recorder) => void) | null;

  constructor(onHead: ((self: Recorder) => void) | null = null) {
    this.#onHead = onHead;
  }
  onHead(bytes: Buffer, head: Head, from: number, to: number, end: boolean): void {
    this.head = bytes.toString("latin1", head.from, head.to);
    this.#add(bytes, from, to, end);
    this.#onHead?.(this);
  }
  onInterim(bytes: Buffer, head: Head): void {
    this.interims.push(bytes.toString("latin1", head.from, head.to));
  }
  onData(bytes: Buffer, from: number, to: number, end: boolean): void {
    this.#add(bytes, from, to, end);
  }
  #add(bytes: Buffer, from: number, to: number, end: boolean): void {
    if (this.ended) throw new Error("bytes after the end");
    this.body += bytes.toString("latin1", from, to);
    this.ended = end;
  }
  onTrailers(bytes: Buffer, from: number, to: number): void {
    if (this.ended) throw new Error("trailers after the end");
    this.trailers = bytes.toString("latin1", from, to);
    this.ended = true;
  }
  onReset(code: number, _why: string, by: number): void {
    this.reset = `${errorName(code)} by ${by}`;
  }
  onWritable(): void {
    this.writable++;
  }
  onClosed(): void {
    this.closed++;
  }
}

export interface Rig {
  readonly session: Session;
  readonly wire: ArrayWire;
  readonly box: Outbox;
  readonly users: Recorder[];
  readonly metrics: Http2Metrics;
  readonly registry: MetricRegistry;
  readonly faults: string[];
  readonly malformed: string[];
  /** How the session ended: error name, and the defence's reason if it was one. */
  ended: string;
  why: string;
  nowMs: number;
  settledTimes: number;
  idles: number;
  gone: string;
  /** Bytes from the peer, then a flush. */
  feed(...frames: readonly Uint8Array[]): void;
  flush(): void;
  /** Frames said since the last call. */
  said(): Sent[];
  /** As lines: `RST_STREAM 1 PROTOCOL_ERROR`, `GOAWAY CANCEL`. Only ends. */
  ends(): string[];
  defended(reason: DefenceReason): number;
}

export interface RigOptions {
  readonly http?: HttpLimits;
  readonly session?: Partial<SessionOptions>;
  /** Called with each request of a server. */
  readonly onHead?: (user: Recorder, session: Session) => void;
  /** Preface and SETTINGS are exchanged before anything else; default true. */
  readonly greeted?: boolean;
}

export function rig(server: boolean, options: RigOptions = {}): Rig {
  const wire = new ArrayWire();
  const box = new Outbox();
  box.wire = wire;
  const registry = new MetricRegistry();
  const metrics = new Http2Metrics(registry);
  const users: Recorder[] = [];
  const http = options.http ?? defaultLimits;
  const made: Rig = {
    session: undefined as unknown as Session,
    wire,
    box,
    users,
    metrics,
    registry,
    faults: [],
    malformed: [],
    ended: "",
    why: "",
    nowMs: 1_000,
    settledTimes: 0,
    idles: 0,
    gone: "",
    feed(...frames) {
      for (const bytes of frames) made.session.receive(Buffer.from(bytes));
      made.flush();
    },
    flush() {
      made.session.output.flush();
    },
    said() {
      made.flush();
      return framesOf(Buffer.concat(wire.chunks.splice(0)));
    },
    ends() {
      return made.said().flatMap((sent) => {
        if (sent.type === frameRstStream) return [`RST_STREAM ${sent.stream} ${errorName(readUint32(sent.payload, 0))}`];
        if (sent.type === frameGoaway) return [`GOAWAY ${errorName(readUint32(sent.payload, 4))}`];
        return [];
      });
    },
    defended(reason) {
      let sum = 0;
      for (const family of registry.families())
        if (family.name === "weft_http2_defence_total")
          for (const series of family.series) if (series.labels[0] === reason && "value" in series) sum += series.value;
      return sum;
    },
  };
  const session = new Session({
    server,
    owner: {
      httpLimits: () => http,
      accept: () => {
        const user = new Recorder(options.onHead === undefined ? null : (self) => options.onHead?.(self, session));
        users.push(user);
        return user;
      },
      answerFault: (stream, status, why) => {
        made.faults.push(`${status} ${why}`);
        session.beginBlock(64).pseudo(8, Buffer.from(String(status)), 0, 3);
        session.endBlock(stream, true);
        session.stopReceiving(stream);
      },
      malformed: (why) => void made.malformed.push(why),
      settled: () => void made.settledTimes++,
      goneAway: (code, why) => {
        made.gone = `${errorName(code)} ${why}`;
      },
      streamClosed: () => {},
      idle: () => void made.idles++,
      sessionEnded: (code, why, defence) => {
        made.ended = defence === null ? errorName(code) : `${errorName(code)} ${defence}`;
        made.why = why;
      },
    },
    out: box,
    time: {
      get nowMs() {
        return made.nowMs;
      },
      now: () => made.nowMs,
    },
    metrics,
    random: () => 0.5,
    maxStreams: server ? limits.concurrentStreams : 0,
    streamWindow: limits.streamWindow,
    connectionWindow: limits.connectionWindow,
    startTimeoutMs: 10_000,
    keepaliveMs: 0,
    ...options.session,
  });
  (made as { session: Session }).session = session;
  if (options.greeted !== false) {
    made.feed(greeting(server));
    made.said();
  }
  return made;
}

/** What the peer of a server (or a client) says first, with its acknowledgement of our SETTINGS. */
export function greeting(server: boolean, ...pairs: readonly (readonly [number, number])[]): Buffer {
  return Buffer.concat([...(server ? [clientPreface] : []), settings(...pairs), frame(frameSettings, 1, 0, new Uint8Array(0))]);
}

export function settings(...pairs: readonly (readonly [number, number])[]): Uint8Array {
  const payload = new Uint8Array(pairs.length * 6);
  let at = 0;
  for (const [key, value] of pairs) at = writeSetting(payload, at, key, value);
  return frame(frameSettings, 0, 0, payload);
}

function prefixed(pattern: number, prefix: number, value: number): number[] {
  const mask = (1 << prefix) - 1;
  if (value < mask) return [pattern | value];
  const out = [pattern | mask];
  let rest = value - mask;
  for (; rest > 127; rest >>>= 7) out.push((rest & 127) | 128);
  return [...out, rest];
}

/** A header block of literals without indexing. */
export function block(...fields: readonly (readonly [string, string])[]): Buffer {
  const out: number[] = [];
  for (const [name, value] of fields) {
    out.push(0, ...prefixed(0, 7, name.length), ...Buffer.from(name, "latin1"));
    out.push(...prefixed(0, 7, value.length), ...Buffer.from(value, "latin1"));
  }
  return Buffer.from(out);
}

export const get: readonly (readonly [string, string])[] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "a.example"],
];
export const post: readonly (readonly [string, string])[] = [[":method", "POST"], ...get.slice(1)];

export function headers(stream: number, end: boolean, ...fields: readonly (readonly [string, string])[]): Uint8Array {
  return frame(frameHeaders, flagEndHeaders | (end ? flagEndStream : 0), stream, block(...fields));
}

export function data(stream: number, end: boolean, body: string | Uint8Array): Uint8Array {
  return frame(frameData, end ? flagEndStream : 0, stream, typeof body === "string" ? Buffer.from(body, "latin1") : body);
}
