import { afterEach, describe, expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import type { ChainSlot, CompiledChain, HttpChain } from "../chain/chain.ts";
import type { Failure } from "../http/failure.ts";
import { failures } from "../http/failure.ts";
import type { AnswerPlan, DownstreamHalf, RequestSink } from "../http/halves.ts";
import { writeReply } from "../http/reply.ts";
import { Head, parseAnswer } from "../http1/head.ts";
import { defaultLimits, type HttpLimits } from "../http1/limits.ts";
import { Core } from "../runtime/core.ts";
import { localWorkload, noSecrets } from "../testing/fixture.ts";
import { cancel, errorName } from "./errors.ts";
import { http2Failures } from "./failures.ts";
import {
  flagEndStream,
  frameData,
  frameGoaway,
  frameHeaders,
  framePing,
  frameRstStream,
  frameWindowUpdate,
  numberFrame,
  readUint32,
} from "./frame.ts";
import { fault, headFrom, headTo, readSection, section, takeAnswer, takeTrailers } from "./head-reader.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import { limits } from "./limits.ts";
import { Http2ServerConnection } from "./server.ts";
import { ArrayWire, data, framesOf, get, greeting, headers, post } from "./testing.ts";

const plan: AnswerPlan = {
  edits: null,
  viaLine: null,
  lines: null,
  persistence: 0,
  keepReason: false,
  dropFraming: true,
  bodyless: false,
  addChunks: false,
  needsLength: false,
};

/** An exchange that does what its test tells it to. */
class FakeSink implements RequestSink {
  readonly half: DownstreamHalf;
  isIdle = true;
  answering = false;
  deadlineMs = Number.POSITIVE_INFINITY;
  readonly heard: string[] = [];
  drains = 0;
  readonly #onBegin: (sink: FakeSink) => void;

  constructor(half: DownstreamHalf, onBegin: (sink: FakeSink) => void) {
    this.half = half;
    this.#onBegin = onBegin;
  }
  begin(_chain: CompiledChain, _http: HttpChain, bytes: Uint8Array, head: Head, from: number, to: number, done: boolean): void {
    this.isIdle = false;
    const text = Buffer.from(bytes).toString("latin1");
    this.heard.push(`begin ${text.slice(head.from, head.targetTo)} ${head.contentLength} ${text.slice(from, to)}${done ? " done" : ""}`);
    this.#onBegin(this);
  }
  requestBody(bytes: Uint8Array, from: number, to: number, done: boolean): void {
    this.heard.push(`body ${Buffer.from(bytes).toString("latin1", from, to)}${done ? " done" : ""}`);
  }
  requestTrailers(bytes: Uint8Array, from: number, to: number): void {
    this.heard.push(`trailers ${Buffer.from(bytes).toString("latin1", from, to)}`);
  }
  abandon(failure: Failure): void {
    if (!this.isIdle) this.heard.push(`abandon ${failure.kind}`);
    this.isIdle = true;
  }
  refuse(_chain: CompiledChain, failure: Failure, status: number): void {
    this.heard.push(`refuse ${failure.kind} ${status}`);
  }
  onDeadline(): void {
    this.heard.push("deadline");
    this.deadlineMs = Number.POSITIVE_INFINITY;
  }
  downDrained(): void {
    this.drains++;
  }
  tunnelBytes(bytes: Uint8Array): void {
    this.heard.push(`tunnel ${Buffer.from(bytes).toString("latin1")}`);
  }
  tunnelEnd(): void {
    this.heard.push("tunnel end");
  }

  /** A whole answer; `complete` as the exchange would say it. */
  answer(text: string, complete = true): void {
    const bytes = Buffer.from(text, "latin1");
    const head = new Head();
    parseAnswer(bytes, 0, bytes.length, head);
    this.half.sendAnswer(bytes, head, plan, head.to, bytes.length, true);
    this.isIdle = true;
    this.half.exchangeDone(false, complete);
  }
}

const made: Core[] = [];
afterEach(() => {
  for (const core of made.splice(0)) for (const open of [...core.open]) open.destroy();
});

function connection(onBegin: (sink: FakeSink) => void = () => {}, more: Partial<HttpLimits> = {}) {
  const clock = new PausedClock();
  const core = new Core({
    clock,
    log: silentLogger,
    metrics: new MetricRegistry(),
    random: () => 0.5,
    secrets: noSecrets,
    local: localWorkload,
    accessLog: () => ({ write: () => {} }),
  });
  made.push(core);
  const terminal = { kind: "http", limits: { ...defaultLimits, ...more }, http2: {}, rbac: [], logs: [] } as unknown as HttpChain;
  const chain = { name: "in", port: 1, networkRbac: [], terminal } as unknown as CompiledChain;
  const slot: ChainSlot = { current: chain, members: new Set() };
  const wire = new ArrayWire();
  const sinks: FakeSink[] = [];
  const one = new Http2ServerConnection(core, slot, wire, null, core.ticker.now(), (half) => {
    const sink = new FakeSink(half, onBegin);
    sinks.push(sink);
    return sink;
  });
  const decoder = new HpackDecoder(limits.headerTable);
  return {
    core,
    clock,
    one,
    wire,
    sinks,
    slot,
    feed(...frames: readonly Uint8Array[]) {
      one.received(Buffer.concat(frames.map((bytes) => Buffer.from(bytes))));
    },
    /** What was said since the last call: heads as text, the rest by name. */
    said(): string[] {
      one.session.output.flush();
      return framesOf(Buffer.concat(wire.chunks.splice(0))).flatMap((sent) => {
        const end = (sent.flags & flagEndStream) !== 0 ? " end" : "";
        if (sent.type === frameHeaders) {
          const trailers = readSection(decoder, sent.payload, 0, sent.payload.length, section.answer, 10_000, 100) !== fault.none;
          const text = trailers ? takeTrailers().toString("latin1", headFrom, headTo) : takeAnswer(0).toString("latin1", headFrom, headTo);
          return [`${sent.stream} ${text.replaceAll("\r\n", "|")}${end}`];
        }
        if (sent.type === frameData) return [`${sent.stream} ${sent.payload.toString("latin1")}${end}`];
        if (sent.type === frameRstStream) return [`${sent.stream} RST ${errorName(readUint32(sent.payload, 0))}`];
        if (sent.type === frameGoaway) return [`GOAWAY ${readUint32(sent.payload, 0)} ${errorName(readUint32(sent.payload, 4))}`];
        return [];
      });
    },
  };
}
const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\nX-App: a\r\n\r\nhi";

describe("a server connection", () => {
  test("says its SETTINGS at once, and answers requests in one write", () => {
    const it = connection((sink) => sink.answer(ok));
    it.said();
    it.feed(greeting(true), headers(1, true, ...get), headers(3, true, ...get));
    it.one.session.output.flush();
    expect(it.wire.chunks.length).toBe(1);
    expect(it.said()).toEqual([
      "1 HTTP/1.1 200 |content-length: 2|x-app: a||",
      "1 hi end",
      "3 HTTP/1.1 200 |content-length: 2|x-app: a||",
      "3 hi end",
    ]);
    // Streams come back: the second request used the exchange of the first.
    expect(it.sinks.length).toBe(1);
  });

  test("a body that came with its head, one that comes later, and trailers", () => {
    const it = connection();
    it.feed(greeting(true), headers(1, false, ...post), data(1, false, "abc"), data(1, true, "def"));
    expect(it.sinks[0]?.heard).toEqual(["begin POST / -1 abc", "body def done"]);
    it.feed(headers(3, false, ...post, ["content-length", "1"]), data(3, false, "x"), headers(3, true, ["a", "b"]));
    expect(it.sinks[1]?.heard).toEqual(["begin POST / 1 x", "trailers a: b\r\n"]);
    expect(it.sinks[0]?.half.requestBytes).toBe(6);
  });

  test("trailers of an answer, and an interim one", () => {
    const it = connection((sink) => {
      const bytes = Buffer.from("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
      const head = new Head();
      parseAnswer(bytes, 0, bytes.length, head);
      sink.half.sendInterim(bytes, head);
      const final = Buffer.from("HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n\r\nabc");
      parseAnswer(final, 0, final.length, head);
      sink.half.sendAnswer(final, head, plan, head.to, final.length, false);
      const lines = Buffer.from("grpc-status: 0\r\n");
      sink.half.sendTrailers(lines, 0, lines.length);
      sink.isIdle = true;
      sink.half.exchangeDone(false, true);
    });
    it.feed(greeting(true), headers(1, true, ...get));
    expect(it.said()).toEqual([
      "1 HTTP/1.1 103 |link: </a>||",
      "1 HTTP/1.1 200 |content-type: application/grpc||",
      "1 abc",
      "1 grpc-status: 0| end",
    ]);
  });

  test("a local reply, also before the request has ended", () => {
    const it = connection((sink) => {
      sink.half.sendReply(writeReply(403, "RBAC", "no", false, false, false));
      sink.isIdle = true;
      sink.half.exchangeDone(true, false);
    });
    it.feed(greeting(true), headers(1, false, ...post));
    const said = it.said();
    expect(said[0]).toStartWith("1 HTTP/1.1 403 |x-weft-reason: RBAC no|");
    expect(said.slice(1)).toEqual(["1 no\n end", "1 RST NO_ERROR"]);
    it.feed(data(1, true, "late"));
    expect(it.said()).toEqual([]);
  });

  // A stream whose reset was told within the answer's end was given back twice: two later requests shared it, and one was never answered.
  test("incident: after an answer that was cut, each request has a stream of its own", () => {
    const waiting: FakeSink[] = [];
    const it = connection((sink) => void waiting.push(sink));
    it.feed(greeting(true), headers(1, true, ...get), headers(3, false, ...post), headers(5, false, ...post));
    const [cut, early, refused] = waiting.splice(0);
    cut?.half.cut(failures.truncated);
    early?.answer(ok, false);
    refused?.half.sendReply(writeReply(403, "RBAC", "no", false, false, false));
    refused?.half.exchangeDone(true, false);
    it.said();
    it.feed(...[7, 9, 11, 13, 15, 17].map((id) => headers(id, true, ...get)));
    expect(new Set(waiting).size).toBe(6);
    for (const sink of waiting) sink.answer(ok);
    expect(it.said().filter((line) => line.endsWith("hi end"))).toEqual([7, 9, 11, 13, 15, 17].map((id) => `${id} hi end`));
  });

  test("a failure within the answer resets the stream alone", () => {
    const it = connection((sink) => {
      const bytes = Buffer.from("HTTP/1.1 200 OK\r\n\r\n");
      const head = new Head();
      parseAnswer(bytes, 0, bytes.length, head);
      sink.half.sendAnswer(bytes, head, plan, 0, 0, false);
      sink.isIdle = true;
      sink.half.cut(failures.truncated);
    });
    it.feed(greeting(true), headers(1, true, ...get), headers(3, true, ...get));
    expect(it.said()).toEqual(["1 HTTP/1.1 200 ||", "1 RST INTERNAL_ERROR", "3 HTTP/1.1 200 ||", "3 RST INTERNAL_ERROR"]);
  });

  test("incident: what an instance ended by a reset without error reaches the client whole, and then as the same reset", () => {
    const one = connection();
    one.feed(greeting(true, [4, 3]), headers(1, true, ...get), headers(3, true, ...get));
    one.said();
    const head = new Head();
    const bytes = Buffer.from("HTTP/1.1 200 \r\n\r\nhello", "latin1");
    parseAnswer(bytes, 0, bytes.length, head);
    for (const sink of one.sinks.slice(0, 2)) {
      sink.half.sendAnswer(bytes, head, plan, head.to, bytes.length, false);
      sink.isIdle = true;
    }
    one.sinks[0]?.half.cut(http2Failures.unmarkedEnd);
    one.sinks[1]?.half.cut(failures.truncated);
    const first = one.said();
    expect(first.filter((line) => !line.includes("200"))).toEqual(["1 hel", "3 hel", "3 RST INTERNAL_ERROR"]);
    one.feed(numberFrame(frameWindowUpdate, 1, 100));
    expect(one.said()).toEqual(["1 lo", "1 RST NO_ERROR"]);
    expect(one.one.session.active).toBe(0);
  });

  test("a client that resets, or goes, ends its exchanges", () => {
    const it = connection();
    it.feed(greeting(true), headers(1, true, ...get), headers(3, true, ...get), numberFrame(frameRstStream, 1, cancel));
    expect(it.sinks[0]?.heard.at(-1)).toBe("abandon client-reset");
    it.one.lost();
    expect(it.sinks[1]?.heard.at(-1)).toBe("abandon gone");
    expect([it.core.open.size, it.slot.members.size, it.core.ticker.size]).toEqual([0, 0, 0]);
    it.one.lost();
    it.one.ended();
    it.one.received(Buffer.from("x"));
    it.one.drained();
    it.one.retire();
    expect(it.core.open.size).toBe(0);
  });

  test("CONNECT: 200 without END_STREAM, bytes both ways, half close", () => {
    const it = connection((sink) => {
      sink.half.sendSwitch(null, null, null);
      sink.half.becomeTunnel();
    });
    it.feed(greeting(true), headers(1, false, [":method", "CONNECT"], [":authority", "a:443"]));
    const sink = it.sinks[0] as FakeSink;
    it.feed(data(1, false, "ping"), data(1, true, ""));
    expect(sink.heard).toEqual(["begin CONNECT a:443 0  done", "tunnel ping", "tunnel end"]);
    expect(sink.half.inputEnded).toBe(true);
    const bytes = Buffer.from("pong");
    sink.half.sendRaw(bytes, 0, 4);
    sink.half.finishRaw();
    expect(it.said()).toEqual(["1 HTTP/1.1 200 ||", "1 pong", "1  end"]);
    sink.isIdle = true;
    sink.half.tunnelDone();
    it.feed(headers(3, false, [":method", "CONNECT"], [":authority", "a:443"]));
    expect(it.sinks.length).toBe(1);
  });

  test("RFC 8441: a WebSocket looks like HTTP/1.1's, and what came early waits for the switch", () => {
    const it = connection();
    it.feed(
      greeting(true),
      headers(1, false, [":method", "CONNECT"], [":protocol", "websocket"], [":scheme", "http"], [":path", "/c"], [":authority", "a"]),
      data(1, false, "early"),
    );
    const sink = it.sinks[0] as FakeSink;
    expect(sink.heard).toEqual(["begin GET /c 0  done"]);
    const bytes = Buffer.from(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
    );
    const head = new Head();
    parseAnswer(bytes, 0, bytes.length, head);
    sink.half.sendSwitch(bytes, head, null);
    sink.half.becomeTunnel();
    expect(sink.heard.slice(1)).toEqual(["tunnel early"]);
    expect(it.said()).toEqual(["1 HTTP/1.1 200 |sec-websocket-protocol: chat||"]);
  });

  test("RFC 8441 5: a plain 200 to a WebSocket never opens a tunnel; another status passes", () => {
    const it = connection((sink) => sink.answer(ok));
    const ask = (id: number): Uint8Array =>
      headers(id, false, [":method", "CONNECT"], [":protocol", "websocket"], [":scheme", "http"], [":path", "/c"], [":authority", "a"]);
    it.feed(greeting(true), ask(1));
    expect(it.said()).toEqual(["1 HTTP/1.1 502 || end", "1 RST NO_ERROR"]);
    const refused = connection((sink) => sink.answer("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n"));
    refused.feed(greeting(true), ask(1));
    expect(refused.said()).toEqual(["1 HTTP/1.1 403 |content-length: 0|| end", "1 RST NO_ERROR"]);
  });
});

describe("limits that HTTP/1 has too", () => {
  test("a head that is malformed is counted and reset, one that is too large is answered", () => {
    const it = connection(() => {}, { headBytes: 1_000 });
    it.feed(greeting(true), headers(1, true, ...get, ["A", "b"]), headers(3, true, ...get, ["a", "x".repeat(1_100)]));
    expect(it.sinks[0]?.heard).toEqual(["refuse http2-malformed 400", "refuse http2-malformed 431"]);
    const said = it.said();
    expect(said[0]).toBe("1 RST PROTOCOL_ERROR");
    expect(said[1]).toStartWith("3 HTTP/1.1 431 |");
    expect(it.core.malformed.value).toBe(2);
  });

  test("a target that is too long is answered 414", () => {
    const it = connection(() => {}, { targetBytes: 50 });
    it.feed(greeting(true), headers(1, true, ...get.slice(0, 2), [":path", `/${"x".repeat(60)}`], [":authority", "a"]));
    expect(it.said()[0]).toStartWith("1 HTTP/1.1 414 |");
  });

  test("a body above its bound is answered 413, with a length or without", () => {
    const it = connection(() => {}, { bodyBytes: 5 });
    it.feed(greeting(true), headers(1, false, ...post), data(1, false, "abc"));
    it.feed(data(1, false, "def"));
    it.feed(headers(3, false, ...post), data(3, true, "abcdef"));
    it.feed(headers(5, false, ...post, ["content-length", "6"]));
    const said = it.said().filter((line) => /413|RST/.test(line));
    expect(said.map((line) => line.slice(0, 16))).toEqual([
      "1 HTTP/1.1 413 |",
      "1 RST NO_ERROR",
      "3 HTTP/1.1 413 |",
      "5 HTTP/1.1 413 |",
      "5 RST NO_ERROR",
    ]);
    expect(it.sinks[0]?.heard).toContain("abandon http2-malformed");
  });

  test("a request that does not come whole in time is answered 408", () => {
    const it = connection(() => {}, { requestTimeoutMs: 1_000 });
    it.feed(greeting(true), headers(1, false, ...post));
    it.said();
    it.clock.advance(1_200);
    expect(it.said()[0]).toStartWith("1 HTTP/1.1 408 |");
    expect(it.sinks[0]?.heard.at(-1)).toBe("abandon slow-request");
  });

  test("deadlines of exchanges are kept stream by stream", () => {
    const it = connection((sink) => {
      sink.deadlineMs = it.core.ticker.nowMs + 100;
    });
    it.feed(greeting(true), headers(1, true, ...get));
    it.clock.advance(200);
    expect(it.sinks[0]?.heard).toEqual(["begin GET / 0  done", "deadline"]);
  });

  test("an idle connection says GOAWAY; so does one that is old, or has carried its requests", () => {
    const idle = connection((sink) => sink.answer(ok), { idleTimeoutMs: 10_000 });
    idle.feed(greeting(true), headers(1, true, ...get));
    idle.said();
    idle.clock.advance(9_000);
    expect(idle.said()).toEqual([]);
    idle.clock.advance(3_000);
    expect(idle.said()).toEqual(["GOAWAY 2147483647 NO_ERROR", "GOAWAY 1 NO_ERROR"]);
    expect(idle.wire.shut).toBe(true);
    const old = connection((sink) => sink.answer(ok), { connectionDurationMs: 1_000 });
    old.feed(greeting(true));
    old.said();
    old.clock.advance(1_100);
    expect(old.said()).toEqual(["GOAWAY 2147483647 NO_ERROR"]);
  });

  test("drain: the request under way finishes, then FIN, then the socket goes", () => {
    const it = connection();
    it.feed(greeting(true), headers(1, true, ...get));
    it.said();
    it.one.retire();
    it.one.session.output.flush();
    const ping = framesOf(Buffer.concat(it.wire.chunks)).find((sent) => sent.type === framePing);
    expect(it.said()).toEqual(["GOAWAY 2147483647 NO_ERROR"]);
    expect(ping).toBeDefined();
    it.clock.advance(1_200);
    expect(it.said()).toEqual(["GOAWAY 1 NO_ERROR"]);
    it.sinks[0]?.answer(ok);
    expect(it.said().length).toBe(2);
    expect([it.wire.shut, it.core.open.size]).toEqual([true, 1]);
    it.clock.advance(limits.lingerMs + 100);
    expect([it.wire.terminated, it.core.open.size]).toEqual([true, 0]);
  });
});

test("back pressure: what the client does not take pauses the exchange's source, and its drain is told", () => {
  const it = connection();
  it.feed(greeting(true), headers(1, true, ...get));
  const sink = it.sinks[0] as FakeSink;
  const bytes = Buffer.from("HTTP/1.1 200 OK\r\n\r\n");
  const head = new Head();
  parseAnswer(bytes, 0, bytes.length, head);
  sink.half.sendAnswer(bytes, head, plan, 0, 0, false);
  const body = Buffer.alloc(100_000, 97);
  expect(sink.half.sendBody(body, 0, body.length, false)).toBe(false);
  it.said();
  it.feed(numberFrame(8, 0, 100_000), numberFrame(8, 1, 100_000));
  expect(sink.drains).toBe(1);
  expect(it.said().join("").replaceAll(/[^a]/g, "").length).toBe(100_000 - 65_535);
});
