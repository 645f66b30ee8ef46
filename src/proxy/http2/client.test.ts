import { describe, expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import { Http2Connection, type Transport } from "./client.ts";
import {
  cancel,
  compressionError,
  enhanceYourCalm,
  errorName,
  flowControlError,
  frameSizeError,
  noError,
  protocolError,
  streamClosed,
} from "./errors.ts";
import {
  type FrameHead,
  flagAck,
  flagEndHeaders,
  flagEndStream,
  flagPadded,
  frame,
  frameContinuation,
  frameData,
  frameGoaway,
  frameHeaders,
  framePing,
  framePushPromise,
  frameRstStream,
  frameSettings,
  frameWindowUpdate,
  numberFrame,
  parseFrameHead,
  readUint32,
} from "./frame.ts";
import { hpackEncode } from "./hpack.ts";
import type { ClientStream, StreamEvents } from "./stream.ts";

interface Sent extends FrameHead {
  readonly payload: Uint8Array;
}

/** A connection on a transport of arrays, and what its one stream hears. */
function harness() {
  const clock = new PausedClock();
  const out: Uint8Array[] = [];
  const heard: string[] = [];
  let closed: { code: number; reason: string } | undefined;
  const transport: Transport & { backlog: number } = {
    write: (bytes) => void out.push(bytes.slice()),
    backlog: 0,
    end: () => void heard.push("transport ended"),
  };
  const connection = new Http2Connection({ clock, transport, closed: (code, reason) => (closed = { code, reason }) });
  const events = (name: string): StreamEvents => ({
    headers: (fields) => heard.push(`${name} headers ${fields.map((f) => `${f.name}=${f.value}`).join(",")}`),
    data: (bytes) => heard.push(`${name} data ${Buffer.from(bytes).toString()}`),
    trailers: (fields) => heard.push(`${name} trailers ${fields.map((f) => `${f.name}=${f.value}`).join(",")}`),
    end: () => heard.push(`${name} end`),
    failed: (failure) => heard.push(`${name} failed ${errorName(failure.code)}${failure.unprocessed ? " unprocessed" : ""}`),
    writable: () => heard.push(`${name} writable`),
  });
  const sent = (): Sent[] => {
    const all = Buffer.concat(out);
    const frames: Sent[] = [];
    let at = all.indexOf("SM\r\n\r\n") + 6;
    while (at < all.length) {
      const head: FrameHead = { length: 0, type: 0, flags: 0, stream: 0 };
      expect(parseFrameHead(all, at, all.length, 0xffffff, head)).toBe(9);
      frames.push({ ...head, payload: new Uint8Array(all.subarray(at + 9, at + 9 + head.length)) });
      at += 9 + head.length;
    }
    return frames;
  };
  return {
    clock,
    connection,
    heard,
    transport,
    sent,
    closed: () => closed,
    open: (name = "s"): ClientStream => connection.openStream([{ name: ":method", value: "POST" }], events(name)) as ClientStream,
    settle: () => connection.receive(settings()),
  };
}

const settings = (...pairs: readonly (readonly [number, number])[]): Uint8Array =>
  frame(
    frameSettings,
    0,
    0,
    Uint8Array.from(
      pairs.flatMap(([id, value]) => [id >> 8, id & 255, value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]),
    ),
  );
const response = (stream: number, flags = 0): Uint8Array =>
  frame(frameHeaders, flagEndHeaders | flags, stream, hpackEncode([{ name: ":status", value: "200" }]));
const trailers = (stream: number): Uint8Array =>
  frame(frameHeaders, flagEndHeaders | flagEndStream, stream, hpackEncode([{ name: "grpc-status", value: "0" }]));
const data = (stream: number, text: string, flags = 0): Uint8Array => frame(frameData, flags, stream, Buffer.from(text));
const goaway = (last: number, code: number): Uint8Array => frame(frameGoaway, 0, 0, Uint8Array.of(0, 0, 0, last, 0, 0, 0, code));

test("the preface, SETTINGS and a larger window go out without waiting (section 3.4)", () => {
  const h = harness();
  expect(h.sent().map((f) => [f.type, f.stream])).toEqual([
    [frameSettings, 0],
    [frameWindowUpdate, 0],
  ]);
});

test("a whole answer, split at every byte, is heard the same", () => {
  const wire = Buffer.concat([
    settings([0x3, 100]),
    frame(framePing, 0, 0, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)),
    frame(frameHeaders, 0, 1, hpackEncode([{ name: ":status", value: "200" }])),
    frame(frameContinuation, flagEndHeaders, 1, hpackEncode([{ name: "x", value: "y" }])),
    data(1, "hello"),
    frame(frameData, flagPadded, 1, Uint8Array.of(2, 0x21, 0, 0)),
    frame(0xbe, 0xff, 1, Uint8Array.of(1, 2, 3)),
    trailers(1),
  ]);
  const wanted = ["s headers :status=200,x=y", "s data hello", "s data !", "s trailers grpc-status=0", "s end"];
  for (let cut = 0; cut <= wire.length; cut++) {
    const h = harness();
    h.open();
    h.connection.receive(wire.subarray(0, cut));
    h.connection.receive(wire.subarray(cut));
    expect(h.heard).toEqual(wanted);
  }
  const slow = harness();
  slow.open();
  for (const byte of wire) slow.connection.receive(Uint8Array.of(byte));
  expect(slow.heard).toEqual(wanted);
  const answers = slow.sent().slice(3);
  expect(answers.map((f) => [f.type, f.flags])).toEqual([
    [frameSettings, flagAck],
    [framePing, flagAck],
    [frameRstStream, 0],
  ]);
  expect([...(answers[1] as Sent).payload]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
});

describe("connection errors close with the right code", () => {
  const cases: Record<string, { wire: () => Uint8Array; code: number; before?: boolean }> = {
    "no SETTINGS first": { wire: () => frame(framePing, 0, 0, new Uint8Array(8)), code: protocolError, before: true },
    "HTTP/1.1 instead": { wire: () => Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"), code: frameSizeError, before: true },
    "a frame above 16384 bytes": { wire: () => Uint8Array.of(0, 0x40, 1, 0, 0, 0, 0, 0, 1), code: frameSizeError },
    PUSH_PROMISE: { wire: () => frame(framePushPromise, flagEndHeaders, 1, Uint8Array.of(0, 0, 0, 2)), code: protocolError },
    "ENABLE_PUSH from a server": { wire: () => settings([0x2, 1]), code: protocolError },
    "INITIAL_WINDOW_SIZE above 2^31-1": { wire: () => settings([0x4, 0x8000_0000]), code: flowControlError },
    "MAX_FRAME_SIZE below 16384": { wire: () => settings([0x5, 100]), code: protocolError },
    "a stream that was never opened": { wire: () => data(5, "x"), code: protocolError },
    "an even stream": { wire: () => response(2), code: protocolError },
    "RST_STREAM on an idle stream": { wire: () => numberFrame(frameRstStream, 7, 0), code: protocolError },
    "a WINDOW_UPDATE of zero": { wire: () => numberFrame(frameWindowUpdate, 0, 0), code: protocolError },
    "a window beyond 2^31-1": { wire: () => numberFrame(frameWindowUpdate, 0, 0x7fff_ffff), code: flowControlError },
    "an interrupted header block": {
      wire: () => Buffer.concat([frame(frameHeaders, 0, 1, new Uint8Array(0)), data(1, "x")]),
      code: protocolError,
    },
    "CONTINUATION of another stream": {
      wire: () => Buffer.concat([frame(frameHeaders, 0, 1, new Uint8Array(0)), frame(frameContinuation, 4, 3, new Uint8Array(0))]),
      code: protocolError,
    },
    "CONTINUATION out of nowhere": { wire: () => frame(frameContinuation, 4, 1, new Uint8Array(0)), code: protocolError },
    "a flood of CONTINUATION": {
      wire: () =>
        Buffer.concat([
          frame(frameHeaders, 0, 1, new Uint8Array(0)),
          ...Array.from({ length: 20 }, () => frame(frameContinuation, 0, 1, new Uint8Array(0))),
        ]),
      code: enhanceYourCalm,
    },
    "bad compression": { wire: () => frame(frameHeaders, flagEndHeaders, 1, Uint8Array.of(0x80)), code: compressionError },
    "bad padding": { wire: () => frame(frameData, flagPadded, 1, Uint8Array.of(9, 0)), code: protocolError },
  };
  for (const [name, one] of Object.entries(cases)) {
    test(name, () => {
      const h = harness();
      h.open();
      if (!one.before) h.settle();
      h.connection.receive(one.wire());
      expect(h.closed()?.code).toBe(one.code);
      expect(h.heard.at(-1)).toBe(`s failed ${errorName(one.code)}`);
      const last = h.sent().at(-1) as Sent;
      expect(last.type).toBe(frameGoaway);
      expect(readUint32(last.payload, 4)).toBe(one.code);
      // Terminal: whatever comes late is swallowed.
      const count = h.heard.length;
      h.connection.receive(response(1));
      h.connection.transportClosed("late");
      expect(h.heard.length).toBe(count);
    });
  }
});

describe("stream errors reset the stream and leave the connection", () => {
  const fields = (...pairs: readonly (readonly [string, string])[]): Uint8Array =>
    frame(frameHeaders, flagEndHeaders, 1, hpackEncode(pairs.map(([name, value]) => ({ name, value }))));
  const cases: Record<string, { wire: Uint8Array; code: number }> = {
    "data before headers": { wire: data(1, "x"), code: protocolError },
    "no :status": { wire: fields(["x", "y"]), code: protocolError },
    "two :status": { wire: fields([":status", "200"], [":status", "200"]), code: protocolError },
    "a bad :status": { wire: fields([":status", "20"]), code: protocolError },
    ":path in a response": { wire: fields([":status", "200"], [":path", "/"]), code: protocolError },
    ":status after a header": { wire: fields(["x", "y"], [":status", "200"]), code: protocolError },
    "an upper-case name": { wire: fields([":status", "200"], ["X", "y"]), code: protocolError },
    "a connection header": { wire: fields([":status", "200"], ["connection", "close"]), code: protocolError },
    "a value with a line feed": { wire: fields([":status", "200"], ["x", "a\nb"]), code: protocolError },
    "a bad content-length": { wire: fields([":status", "200"], ["content-length", "-1"]), code: protocolError },
    "101 (section 8.6)": { wire: fields([":status", "101"]), code: protocolError },
    "more than content-length": {
      wire: Buffer.concat([fields([":status", "200"], ["content-length", "1"]), data(1, "xx")]),
      code: protocolError,
    },
    "less than content-length": {
      wire: Buffer.concat([fields([":status", "200"], ["content-length", "3"]), data(1, "xx", flagEndStream)]),
      code: protocolError,
    },
    "trailers that do not end": {
      wire: Buffer.concat([response(1), frame(frameHeaders, flagEndHeaders, 1, hpackEncode([{ name: "a", value: "b" }]))]),
      code: protocolError,
    },
    "a pseudo-header in trailers": { wire: Buffer.concat([response(1), response(1, flagEndStream)]), code: protocolError },
    "a WINDOW_UPDATE of zero": { wire: numberFrame(frameWindowUpdate, 1, 0), code: protocolError },
    "a window beyond 2^31-1": { wire: numberFrame(frameWindowUpdate, 1, 0x7fff_ffff), code: flowControlError },
  };
  for (const [name, one] of Object.entries(cases)) {
    test(name, () => {
      const h = harness();
      h.open();
      h.settle();
      h.connection.receive(one.wire);
      expect(h.heard.at(-1)).toBe(`s failed ${errorName(one.code)}`);
      const reset = h.sent().find((f) => f.type === frameRstStream) as Sent;
      expect(readUint32(reset.payload, 0)).toBe(one.code);
      expect(h.closed()).toBeUndefined();
      const count = h.heard.length;
      h.connection.receive(Buffer.concat([data(1, "late"), numberFrame(frameRstStream, 1, 0), numberFrame(frameWindowUpdate, 1, 1)]));
      expect(h.heard.length).toBe(count);
      expect(h.connection.usable).toBe(true);
    });
  }

  test("interim responses are passed over (section 8.1)", () => {
    const h = harness();
    h.open();
    h.settle();
    h.connection.receive(Buffer.concat([fields([":status", "103"], ["link", "x"]), response(1)]));
    expect(h.heard).toEqual(["s headers :status=200"]);
  });

  test("data after the end is STREAM_CLOSED while we still send", () => {
    const h = harness();
    h.open();
    h.settle();
    h.connection.receive(Buffer.concat([response(1), data(1, "x", flagEndStream)]));
    expect(h.heard).toEqual(["s headers :status=200", "s data x", "s end"]);
    // Our side was open: the answer is whole, so we let go of the stream (section 8.1).
    expect(readUint32((h.sent().at(-1) as Sent).payload, 0)).toBe(noError);
    h.connection.receive(data(1, "y"));
    expect(h.closed()).toBeUndefined();
    expect(streamClosed).toBe(5);
  });
});

describe("flow control", () => {
  test("no more is sent than both windows allow, and it goes on with WINDOW_UPDATE", () => {
    const h = harness();
    h.settle();
    h.connection.receive(settings([0x4, 10]));
    const stream = h.open();
    h.connection.send(stream, Buffer.from("0123456789abcdef"));
    const bodies = (): string[] => h.sent().flatMap((f) => (f.type === frameData ? [Buffer.from(f.payload).toString()] : []));
    expect(bodies()).toEqual(["0123456789"]);
    h.connection.receive(numberFrame(frameWindowUpdate, 1, 3));
    expect(bodies()).toEqual(["0123456789", "abc"]);
    h.connection.finish(stream);
    h.connection.receive(settings([0x4, 20]));
    expect(bodies()).toEqual(["0123456789", "abc", "def"]);
    expect(h.sent().at(-1)).toMatchObject({ type: frameData, flags: flagEndStream });
  });

  test("a smaller initial window can go below zero and recovers (section 6.9.2)", () => {
    const h = harness();
    h.settle();
    h.connection.receive(settings([0x4, 10]));
    const stream = h.open();
    h.connection.send(stream, Buffer.alloc(10));
    h.connection.receive(settings([0x4, 4]));
    expect(stream.sendWindow).toBe(-6);
    h.connection.send(stream, Buffer.from("xy"));
    h.connection.receive(numberFrame(frameWindowUpdate, 1, 7));
    expect(stream.sendWindow).toBe(0);
    expect(stream.queuedBytes).toBe(1);
  });

  test("the connection's window stops all streams", () => {
    const h = harness();
    h.settle();
    h.connection.receive(settings([0x4, 1_000_000]));
    const one = h.open("one");
    const two = h.open("two");
    expect(h.connection.send(one, Buffer.alloc(65_535))).toBe(true);
    h.connection.send(two, Buffer.from("x"));
    expect(two.queuedBytes).toBe(1);
    h.connection.receive(numberFrame(frameWindowUpdate, 0, 1));
    expect(two.queuedBytes).toBe(0);
  });

  test("a full queue says so, tells when it has room, and in the end resets the stream", () => {
    const h = harness();
    h.settle();
    const stream = h.open();
    expect(h.connection.send(stream, Buffer.alloc(65_535 + 300 * 1024))).toBe(false);
    h.connection.receive(Buffer.concat([numberFrame(frameWindowUpdate, 0, 1_000_000), numberFrame(frameWindowUpdate, 1, 1_000_000)]));
    expect(h.heard).toEqual(["s writable"]);
    expect(h.connection.send(stream, Buffer.alloc(18 * 1024 * 1024))).toBe(false);
    expect(h.heard.at(-1)).toBe("s failed INTERNAL_ERROR");
  });

  test("windows we gave are given back, and enforced", () => {
    const h = harness();
    h.open();
    h.settle();
    h.connection.receive(response(1));
    const chunk = "x".repeat(16_384);
    for (let n = 0; n < 100; n++) h.connection.receive(data(1, chunk));
    expect(h.closed()).toBeUndefined();
    const given = h.sent().filter((f) => f.type === frameWindowUpdate && f.stream === 1);
    expect(given.reduce((sum, f) => sum + readUint32(f.payload, 0), 0)).toBeGreaterThan(1_000_000);
  });

  test("while the socket holds back, streams hold back too", () => {
    const h = harness();
    h.settle();
    const stream = h.open();
    h.transport.backlog = 300 * 1024;
    h.connection.send(stream, Buffer.from("later"));
    expect(stream.queuedBytes).toBe(5);
    h.transport.backlog = 0;
    h.connection.drained();
    expect(stream.queuedBytes).toBe(0);
  });

  test("a peer that provokes answers and does not read them loses the connection", () => {
    const h = harness();
    h.open();
    h.settle();
    h.transport.backlog = 5 * 1024 * 1024;
    h.connection.receive(frame(framePing, 0, 0, new Uint8Array(8)));
    expect(h.closed()?.code).toBe(enhanceYourCalm);
  });
});

describe("the end of things", () => {
  test("GOAWAY: streams beyond it are unprocessed, the others finish, then the connection closes", () => {
    const h = harness();
    h.settle();
    h.open("one");
    h.open("two");
    h.connection.receive(goaway(1, noError));
    expect(h.heard).toEqual(["two failed REFUSED_STREAM unprocessed"]);
    expect(h.connection.usable).toBe(false);
    expect(h.connection.openStream([], {} as StreamEvents)).toBeUndefined();
    h.connection.receive(Buffer.concat([response(1), trailers(1)]));
    expect(h.heard.slice(1)).toContain("one end");
    expect(h.closed()?.code).toBe(noError);
  });

  test("GOAWAY: a stream that never ends is let go after a while", () => {
    const h = harness();
    h.settle();
    h.open();
    h.connection.receive(goaway(1, noError));
    h.clock.advance(4_999);
    expect(h.closed()).toBeUndefined();
    h.clock.advance(1);
    expect(h.closed()?.code).toBe(noError);
    expect(h.heard.at(-1)).toBe("s failed NO_ERROR");
  });

  test("GOAWAY with an error ends everything at once", () => {
    const h = harness();
    h.settle();
    h.open();
    h.connection.receive(goaway(1, enhanceYourCalm));
    expect(h.heard[0]).toBe("transport ended");
    expect(h.heard[1]).toBe("s failed ENHANCE_YOUR_CALM");
  });

  test("RST_STREAM from the peer, and ours", () => {
    const h = harness();
    h.settle();
    h.open("one");
    const two = h.open("two");
    h.connection.receive(numberFrame(frameRstStream, 1, 7));
    expect(h.heard).toEqual(["one failed REFUSED_STREAM unprocessed"]);
    h.connection.reset(two);
    h.connection.reset(two);
    expect(
      h
        .sent()
        .filter((f) => f.type === frameRstStream)
        .map((f) => [f.stream, readUint32(f.payload, 0)]),
    ).toEqual([[3, cancel]]);
    expect(h.connection.send(two, Buffer.from("x"))).toBe(false);
    expect(h.heard.length).toBe(1);
  });

  test("MAX_CONCURRENT_STREAMS is kept", () => {
    const h = harness();
    h.connection.receive(settings([0x3, 1]));
    const first = h.open();
    expect(h.connection.usable).toBe(false);
    h.connection.reset(first);
    expect(h.connection.usable).toBe(true);
  });

  test("a silent peer is pinged after 20 s and given up 10 s later", () => {
    const h = harness();
    h.settle();
    h.open();
    h.clock.advance(19_000);
    expect(h.sent().some((f) => f.type === framePing)).toBe(false);
    h.clock.advance(6_000);
    expect(h.sent().filter((f) => f.type === framePing).length).toBe(1);
    h.connection.receive(frame(framePing, flagAck, 0, new Uint8Array(8)));
    h.clock.advance(15_000);
    expect(h.closed()).toBeUndefined();
    h.clock.advance(20_000);
    expect(h.closed()?.reason).toBe("the peer does not answer pings");
  });
});
