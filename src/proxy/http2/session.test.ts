import { describe, expect, test } from "bun:test";
import { defaultLimits } from "../http1/limits.ts";
import { cancel, errorName, noError, refusedStream } from "./errors.ts";
import {
  flagAck,
  flagEndHeaders,
  flagEndStream,
  flagPadded,
  flagPriority,
  frame,
  frameContinuation,
  frameData,
  frameGoaway,
  frameHeaders,
  framePing,
  framePriority,
  framePriorityUpdate,
  framePushPromise,
  frameRstStream,
  frameSettings,
  frameWindowUpdate,
  largestWindow,
  numberFrame,
  readUint32,
} from "./frame.ts";
import { floods, limits } from "./limits.ts";
import { SessionStream, streamEvent, streamState, transition } from "./session-stream.ts";
import { clientPreface } from "./session-words.ts";
import { block, data, get, greeting, headers, post, Recorder, type Rig, rig, settings } from "./testing.ts";

const none = new Uint8Array(0);
const goaway = (last: number, code: number): Uint8Array => {
  const payload = Buffer.alloc(8);
  payload.writeUInt32BE(last, 0);
  payload.writeUInt32BE(code, 4);
  return frame(frameGoaway, 0, 0, payload);
};

/** Everything that can be seen of a rig after its frames. */
function outcome(one: Rig): unknown {
  return {
    ends: one.ends(),
    ended: one.ended,
    users: one.users.map((user) => [user.head, user.body, user.trailers, user.ended, user.reset]),
  };
}

/** Feeds the bytes whole, one by one, and cut in two at every place: what comes of it must be the same. */
function everyWay(server: boolean, bytes: Buffer, check: (one: Rig) => void): void {
  const whole = rig(server, { greeted: false });
  whole.feed(bytes);
  check(whole);
  const expected = rig(server, { greeted: false });
  expected.feed(bytes);
  const wanted = outcome(expected);
  const single = rig(server, { greeted: false });
  for (let i = 0; i < bytes.length; i++) single.session.receive(Buffer.from(bytes.subarray(i, i + 1)));
  expect(outcome(single)).toEqual(wanted);
  const step = bytes.length > 600 ? 7 : 1;
  for (let cut = 1; cut < bytes.length; cut += step) {
    const split = rig(server, { greeted: false });
    split.session.receive(Buffer.from(bytes.subarray(0, cut)));
    split.session.receive(Buffer.from(bytes.subarray(cut)));
    expect(outcome(split)).toEqual(wanted);
  }
}

type Case = readonly [name: string, frames: readonly Uint8Array[], end: string | null, resets?: readonly string[]];

/** For a server that has been greeted: how the connection ends (null: it goes on), and what is reset. */
const serverCases: readonly Case[] = [
  ["5.1: DATA on an idle stream", [data(1, true, "x")], "PROTOCOL_ERROR"],
  ["5.1: RST_STREAM on an idle stream", [numberFrame(frameRstStream, 1, cancel)], "PROTOCOL_ERROR"],
  ["5.1: WINDOW_UPDATE on an idle stream", [numberFrame(frameWindowUpdate, 1, 1)], "PROTOCOL_ERROR"],
  ["5.1: DATA after END_STREAM", [headers(1, true, ...get), data(1, true, "x")], null, ["RST_STREAM 1 STREAM_CLOSED"]],
  ["5.1: HEADERS after END_STREAM", [headers(1, true, ...get), headers(1, true, ...get)], null, ["RST_STREAM 1 STREAM_CLOSED"]],
  [
    "5.1: DATA after our RST_STREAM is ignored",
    [headers(1, false, ...get, ["A", "b"]), data(1, true, "x")],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "5.1: DATA after the peer's own RST_STREAM",
    [headers(1, false, ...post), numberFrame(frameRstStream, 1, cancel), data(1, true, "x")],
    null,
    ["RST_STREAM 1 STREAM_CLOSED"],
  ],
  ["5.1.1: an even stream", [headers(2, true, ...get)], "PROTOCOL_ERROR"],
  ["5.1.1: a stream below the last", [headers(5, true, ...get), headers(3, true, ...get)], "PROTOCOL_ERROR"],
  ["5.5: an unknown frame is ignored", [frame(0xbe, 0xff, 7, Buffer.from("abc"))], null, []],
  ["5.5: an unknown frame within a header block", [frame(frameHeaders, 0, 1, block(...get)), frame(0xbe, 0, 1, none)], "PROTOCOL_ERROR"],
  [
    "6.1: padding beyond the frame",
    [headers(1, false, ...post), frame(frameData, flagPadded, 1, Uint8Array.of(5, 1, 2))],
    "PROTOCOL_ERROR",
  ],
  ["6.1: padding without its size", [headers(1, false, ...post), frame(frameData, flagPadded, 1, none)], "FRAME_SIZE_ERROR"],
  ["6.1: DATA on stream 0", [data(0, true, "x")], "PROTOCOL_ERROR"],
  ["6.2: HEADERS on stream 0", [frame(frameHeaders, flagEndHeaders, 0, block(...get))], "PROTOCOL_ERROR"],
  ["6.2: padding beyond the block", [frame(frameHeaders, flagEndHeaders | flagPadded, 1, Uint8Array.of(200, 1))], "PROTOCOL_ERROR"],
  ["6.3: PRIORITY is ignored, also on idle streams", [frame(framePriority, 0, 9, Uint8Array.of(0, 0, 0, 0, 1))], null, []],
  ["6.3: PRIORITY of four bytes", [frame(framePriority, 0, 9, Uint8Array.of(0, 0, 0, 0))], "FRAME_SIZE_ERROR"],
  ["6.4: RST_STREAM of five bytes", [headers(1, false, ...post), frame(frameRstStream, 0, 1, new Uint8Array(5))], "FRAME_SIZE_ERROR"],
  ["6.5: SETTINGS on a stream", [frame(frameSettings, 0, 1, none)], "PROTOCOL_ERROR"],
  ["6.5: SETTINGS of five bytes", [frame(frameSettings, 0, 0, new Uint8Array(5))], "FRAME_SIZE_ERROR"],
  ["6.5.2: ENABLE_PUSH of two", [settings([2, 2])], "PROTOCOL_ERROR"],
  ["6.5.2: INITIAL_WINDOW_SIZE above 2^31-1", [settings([4, 0x8000_0000])], "FLOW_CONTROL_ERROR"],
  ["6.5.2: MAX_FRAME_SIZE below 16 384", [settings([5, 16_383])], "PROTOCOL_ERROR"],
  ["6.5.2: an unknown setting is ignored", [settings([0x99, 1])], null, []],
  ["RFC 8441 3: ENABLE_CONNECT_PROTOCOL taken back", [settings([8, 1]), settings([8, 0])], "PROTOCOL_ERROR"],
  ["6.6: PUSH_PROMISE from a client", [frame(framePushPromise, flagEndHeaders, 1, Uint8Array.of(0, 0, 0, 2))], "PROTOCOL_ERROR"],
  ["6.7: PING on a stream", [frame(framePing, 0, 1, new Uint8Array(8))], "PROTOCOL_ERROR"],
  ["6.7: PING of seven bytes", [frame(framePing, 0, 0, new Uint8Array(7))], "FRAME_SIZE_ERROR"],
  ["6.8: GOAWAY on a stream", [frame(frameGoaway, 0, 1, new Uint8Array(8))], "PROTOCOL_ERROR"],
  ["6.9: WINDOW_UPDATE of zero on the connection", [numberFrame(frameWindowUpdate, 0, 0)], "PROTOCOL_ERROR"],
  [
    "6.9: WINDOW_UPDATE of zero on a stream",
    [headers(1, false, ...post), numberFrame(frameWindowUpdate, 1, 0)],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  ["6.9.1: the connection's window above 2^31-1", [numberFrame(frameWindowUpdate, 0, largestWindow)], "FLOW_CONTROL_ERROR"],
  [
    "6.9.1: a stream's window above 2^31-1",
    [headers(1, false, ...post), numberFrame(frameWindowUpdate, 1, largestWindow)],
    null,
    ["RST_STREAM 1 FLOW_CONTROL_ERROR"],
  ],
  [
    "6.9.2: SETTINGS that overflow a window",
    [headers(1, false, ...post), numberFrame(frameWindowUpdate, 1, largestWindow - 65_535), settings([4, 70_000])],
    "FLOW_CONTROL_ERROR",
  ],
  ["6.10: CONTINUATION without HEADERS", [frame(frameContinuation, flagEndHeaders, 1, block(...get))], "PROTOCOL_ERROR"],
  ["6.10: DATA within a header block", [frame(frameHeaders, 0, 1, block(...get)), data(1, true, "x")], "PROTOCOL_ERROR"],
  [
    "6.10: CONTINUATION of another stream",
    [frame(frameHeaders, 0, 1, block(...get)), frame(frameContinuation, flagEndHeaders, 3, none)],
    "PROTOCOL_ERROR",
  ],
  ["4.2: a frame above 16 384", [frame(0xbe, 0, 0, new Uint8Array(16_385))], "FRAME_SIZE_ERROR"],
  ["4.3: a block that cannot be decoded", [frame(frameHeaders, flagEndHeaders, 1, Uint8Array.of(0x80))], "COMPRESSION_ERROR"],
  [
    "8.1: trailers that do not end the stream",
    [headers(1, false, ...post), headers(1, false, ["x", "y"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "8.1: a pseudo-header field in trailers",
    [headers(1, false, ...post), headers(1, true, [":path", "/"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "8.1.1: more content than announced",
    [headers(1, false, ...post, ["content-length", "1"]), data(1, true, "xy")],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "8.1.1: less content than announced",
    [headers(1, false, ...post, ["content-length", "3"]), data(1, true, "xy")],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "8.1.1: less content than announced, ended by trailers",
    [headers(1, false, ...post, ["content-length", "3"]), data(1, false, "xy"), headers(1, true, ["x", "y"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  ["8.1.1: content announced and none there", [headers(1, true, ...post, ["content-length", "3"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.2: an upper-case name", [headers(1, true, ...get, ["X-A", "b"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.2.1: an empty name", [headers(1, true, ...get, ["", "b"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.2.1: a space in a name", [headers(1, true, ...get, ["a b", "c"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.2.1: a colon in a name", [headers(1, true, ...get, ["a:b", "c"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.2.1: CR LF in a value", [headers(1, true, ...get, ["a", "b\r\nc: d"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.2.1: NUL in a value", [headers(1, true, ...get, ["a", "b\0"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.2.1: white space before a value", [headers(1, true, ...get, ["a", " b"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.2.1: white space after a value", [headers(1, true, ...get, ["a", "b\t"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ...["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"].map(
    (name): Case => [`8.2.2: ${name}`, [headers(1, true, ...get, [name, "x"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ),
  ["8.2.2: te other than trailers", [headers(1, true, ...get, ["te", "gzip"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.3: an unknown pseudo-header field", [headers(1, true, ...get, [":x", "y"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.3: :status in a request", [headers(1, true, ...get, [":status", "200"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  [
    "8.3: a pseudo-header field after a field",
    [headers(1, true, ...get.slice(0, 3), ["a", "b"], [":authority", "x"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  ["8.3: a pseudo-header field twice", [headers(1, true, ...get, [":path", "/"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.3.1: no :method", [headers(1, true, ...get.slice(1))], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.3.1: no :scheme", [headers(1, true, [":method", "GET"], [":path", "/"], [":authority", "a"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  [
    "8.3.1: no :path",
    [headers(1, true, [":method", "GET"], [":scheme", "http"], [":authority", "a"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "8.3.1: an empty :path",
    [headers(1, true, [":method", "GET"], [":scheme", "http"], [":path", ""], [":authority", "a"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "8.3.1: a :path without /",
    [headers(1, true, [":method", "GET"], [":scheme", "http"], [":path", "x"], [":authority", "a"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "8.3.1: a :path that holds a space",
    [headers(1, true, [":method", "GET"], [":scheme", "http"], [":path", "/ HTTP/1.1"], [":authority", "a"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "8.3.1: * for GET",
    [headers(1, true, [":method", "GET"], [":scheme", "http"], [":path", "*"], [":authority", "a"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "8.3.1: user information in :authority",
    [headers(1, true, ...get.slice(0, 3), [":authority", "u@a"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  ["8.3.1: neither :authority nor host", [headers(1, true, ...get.slice(0, 3))], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.3.1: host at odds with :authority", [headers(1, true, ...get, ["host", "b.example"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["8.3.1: two hosts", [headers(1, true, ...get.slice(0, 3), ["host", "a"], ["host", "a"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  [
    "a :scheme that is neither http nor https",
    [headers(1, true, [":method", "GET"], [":scheme", "ftp"], [":path", "/"], [":authority", "a"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  [
    "8.5: CONNECT with :path",
    [headers(1, false, [":method", "CONNECT"], [":scheme", "http"], [":path", "/"], [":authority", "a:1"])],
    null,
    ["RST_STREAM 1 PROTOCOL_ERROR"],
  ],
  ["8.5: CONNECT without a port", [headers(1, false, [":method", "CONNECT"], [":authority", "a"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
  ["RFC 8441 4: :protocol without CONNECT", [headers(1, false, ...get, [":protocol", "websocket"])], null, ["RST_STREAM 1 PROTOCOL_ERROR"]],
];

describe("what a server refuses (RFC 9113), whole, byte by byte and at every split", () => {
  for (const [name, frames, end, resets] of serverCases) {
    test(name, () => {
      everyWay(true, Buffer.concat([greeting(true), ...frames]), (one) => {
        const ends = one.ends();
        if (end !== null) {
          expect(one.ended).toBe(end);
          expect(ends.at(-1)).toBe(`GOAWAY ${end}`);
        } else {
          expect(one.ended).toBe("");
          expect(ends).toEqual([...(resets ?? [])]);
        }
      });
    });
  }

  test("3.4: a preface that is none", () => {
    const one = rig(true, { greeted: false });
    one.feed(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
    expect(one.ended).toBe("PROTOCOL_ERROR");
  });

  test("3.4: a preface without SETTINGS", () => {
    const one = rig(true, { greeted: false });
    one.feed(clientPreface, headers(1, true, ...get));
    expect(one.ended).toBe("PROTOCOL_ERROR");
  });

  test("one bad stream leaves the others alone", () => {
    const one = rig(true);
    one.feed(headers(1, true, ...get), headers(3, true, ...get, ["X", "y"]), headers(5, true, ...get));
    expect(one.users.map((user) => user.ended)).toEqual([true, true]);
    expect(one.ends()).toEqual(["RST_STREAM 3 PROTOCOL_ERROR"]);
    expect(one.malformed.length).toBe(1);
  });
});

describe("requests as HTTP/1.1 text", () => {
  const cases: readonly (readonly [string, readonly Uint8Array[], string, string])[] = [
    ["a GET", [headers(1, true, ...get, ["a", "b"])], "GET / HTTP/1.1\r\nHost: a.example\r\na: b\r\n\r\n", ""],
    [
      "8.2.3: the crumbs of a cookie are joined",
      [headers(1, true, ...get, ["cookie", "a=1"], ["x", "y"], ["cookie", "b=2"], ["cookie", "c=3"])],
      "GET / HTTP/1.1\r\nHost: a.example\r\nx: y\r\ncookie: a=1; b=2; c=3\r\n\r\n",
      "",
    ],
    ["8.3.1: host alone", [headers(1, true, ...get.slice(0, 3), ["host", "b"])], "GET / HTTP/1.1\r\nhost: b\r\n\r\n", ""],
    ["8.3.1: host as :authority", [headers(1, true, ...get, ["host", "A.example"])], "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", ""],
    [
      "8.3.1: OPTIONS *",
      [headers(1, true, [":method", "OPTIONS"], [":scheme", "https"], [":path", "*"], [":authority", "a"])],
      "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
      "",
    ],
    [
      "8.5: CONNECT",
      [headers(1, false, [":method", "CONNECT"], [":authority", "a:443"]), data(1, false, "hello")],
      "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
      "hello",
    ],
    [
      "RFC 8441 4: a WebSocket",
      [
        headers(
          1,
          false,
          [":method", "CONNECT"],
          [":protocol", "websocket"],
          [":scheme", "http"],
          [":path", "/c"],
          [":authority", "a"],
          ["sec-websocket-version", "13"],
        ),
      ],
      "GET /c HTTP/1.1\r\nHost: a\r\nsec-websocket-version: 13\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: gICAgICAgICAgICAgICAgA==\r\n\r\n",
      "",
    ],
    [
      "a body in pieces, padded, with an empty frame before its end",
      [
        headers(1, false, ...post, ["content-length", "5"]),
        frame(frameData, flagPadded, 1, Buffer.from("\x03ab\0\0\0")),
        data(1, false, "cde"),
        data(1, true, ""),
      ],
      "POST / HTTP/1.1\r\nHost: a.example\r\ncontent-length: 5\r\n\r\n",
      "abcde",
    ],
    [
      "RFC 9218 5: priority passes",
      [frame(framePriorityUpdate, 0, 0, Buffer.from("\0\0\0\x01u=1")), headers(1, true, ...get, ["priority", "u=1"])],
      "GET / HTTP/1.1\r\nHost: a.example\r\npriority: u=1\r\n\r\n",
      "",
    ],
    [
      "a block in three frames, padded and with priority fields",
      [
        frame(
          frameHeaders,
          flagEndStream | flagPadded | flagPriority,
          1,
          Buffer.concat([Uint8Array.of(2, 0, 0, 0, 0, 9), block(...get).subarray(0, 11), Uint8Array.of(0, 0)]),
        ),
        frame(frameContinuation, 0, 1, block(...get).subarray(11, 20)),
        frame(frameContinuation, flagEndHeaders, 1, block(...get).subarray(20)),
      ],
      "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
      "",
    ],
    [
      "RFC 7541 6.2.3: what must never be indexed is marked by the missing space",
      [frame(frameHeaders, flagEndStream | flagEndHeaders, 1, Buffer.concat([block(...get), Buffer.from("\x10\x01a\x01b")]))],
      "GET / HTTP/1.1\r\nHost: a.example\r\na:b\r\n\r\n",
      "",
    ],
  ];
  for (const [name, frames, head, body] of cases) {
    test(name, () => {
      everyWay(true, Buffer.concat([greeting(true), ...frames]), (one) => {
        expect(one.ends()).toEqual([]);
        expect(one.users.map((user) => user.head)).toEqual([head]);
        expect(one.users[0]?.body).toBe(body);
      });
    });
  }

  test("trailers", () => {
    everyWay(
      true,
      Buffer.concat([greeting(true), headers(1, false, ...post), data(1, false, "x"), headers(1, true, ["grpc-status", "0"], ["a", "b"])]),
      (one) => {
        expect(one.users[0]?.trailers).toBe("grpc-status: 0\r\na: b\r\n");
        expect(one.users[0]?.ended).toBe(true);
      },
    );
  });

  test("too large and too many are answered, not reset; the connection goes on", () => {
    const one = rig(true, { http: { ...defaultLimits, headBytes: 2_000, fields: 5 } });
    one.feed(headers(1, true, ...get, ["a", "x".repeat(2_100)]));
    one.feed(headers(3, true, ...get, ...Array.from({ length: 6 }, (_, i): [string, string] => [`a${i}`, "b"])));
    one.feed(headers(5, true, ...get, ["a", "b"]));
    expect(one.faults.map((fault) => fault.slice(0, 3))).toEqual(["431", "431"]);
    expect(one.users.length).toBe(1);
    expect(one.defended("header_list")).toBe(1);
    expect(one.ended).toBe("");
  });

  test("a :protocol that is not known is answered 501", () => {
    const one = rig(true);
    one.feed(
      headers(1, false, [":method", "CONNECT"], [":protocol", "connect-udp"], [":scheme", "http"], [":path", "/c"], [":authority", "a"]),
    );
    expect(one.faults[0]).toStartWith("501");
  });
});

describe("what a client refuses", () => {
  function asked(...frames: readonly Uint8Array[]): { one: Rig; user: Recorder } {
    const one = rig(false);
    const user = new Recorder();
    ask(one, user);
    one.said();
    one.feed(...frames);
    return { one, user };
  }
  function ask(one: Rig, user: Recorder, end = true): void {
    const stream = one.session.openStream(user);
    one.session.beginBlock(64).indexed(2);
    one.session.endBlock(stream, end);
  }
  const ok: [string, string] = [":status", "200"];
  const cases: readonly (readonly [string, readonly Uint8Array[], string, string])[] = [
    ["6.6: PUSH_PROMISE", [frame(framePushPromise, flagEndHeaders, 1, Uint8Array.of(0, 0, 0, 2))], "PROTOCOL_ERROR", "PROTOCOL_ERROR by 2"],
    ["5.1.1: HEADERS on a stream of its own", [headers(2, true, ok)], "PROTOCOL_ERROR", "PROTOCOL_ERROR by 2"],
    ["6.5.2: ENABLE_PUSH of one from a server", [settings([2, 1])], "PROTOCOL_ERROR", "PROTOCOL_ERROR by 2"],
    ["8.1: DATA before HEADERS", [data(1, true, "x")], "", "PROTOCOL_ERROR by 3"],
    ["8.1: an interim answer that ends the stream", [headers(1, true, [":status", "103"])], "", "PROTOCOL_ERROR by 3"],
    ["8.6: 101", [headers(1, false, [":status", "101"])], "", "PROTOCOL_ERROR by 3"],
    ["8.3.2: no :status", [headers(1, true, ["a", "b"])], "", "PROTOCOL_ERROR by 3"],
    ["8.3.2: :status twice", [headers(1, true, ok, ok)], "", "PROTOCOL_ERROR by 3"],
    ["8.3.2: a :status of two digits", [headers(1, true, [":status", "20"])], "", "PROTOCOL_ERROR by 3"],
    ["8.3: :path in an answer", [headers(1, true, ok, [":path", "/"])], "", "PROTOCOL_ERROR by 3"],
    ["8.2: upper case", [headers(1, true, ok, ["A", "b"])], "", "PROTOCOL_ERROR by 3"],
    ["8.1.1: more than content-length", [headers(1, false, ok, ["content-length", "1"]), data(1, true, "xy")], "", "PROTOCOL_ERROR by 3"],
    ["6.4: RST_STREAM", [numberFrame(frameRstStream, 1, cancel)], "", "CANCEL by 0"],
    ["8.7: REFUSED_STREAM is safe to repeat", [numberFrame(frameRstStream, 1, refusedStream)], "", "REFUSED_STREAM by 1"],
    ["6.8: GOAWAY below the stream is safe to repeat", [goaway(0, noError)], "NO_ERROR", "NO_ERROR by 1"],
  ];
  for (const [name, frames, ended, reset] of cases) {
    test(name, () => {
      const { one, user } = asked(...frames);
      expect(user.reset).toBe(reset);
      expect(user.closed).toBe(1);
      expect(one.ended).toBe(ended);
    });
  }

  test("answers as text: interim, head, content, trailers", () => {
    const { one, user } = asked(
      headers(1, false, [":status", "103"], ["link", "</a>"]),
      headers(1, false, ok, ["a", "b"]),
      data(1, false, "one"),
      data(1, false, "two"),
      headers(1, true, ["grpc-status", "0"]),
    );
    expect(user.interims).toEqual(["HTTP/1.1 103 \r\nlink: </a>\r\n\r\n"]);
    expect([user.head, user.body, user.trailers]).toEqual(["HTTP/1.1 200 \r\na: b\r\n\r\n", "onetwo", "grpc-status: 0\r\n"]);
    expect([user.ended, user.closed, one.ended]).toEqual([true, 1, ""]);
  });

  test("6.8: after GOAWAY open streams finish, then the connection ends", () => {
    const { one, user } = asked(goaway(1, noError));
    expect(one.session.hasRoom).toBe(false);
    expect([user.reset, one.ended]).toEqual(["", ""]);
    one.feed(headers(1, true, ok));
    expect([user.ended, one.ended]).toEqual([true, "NO_ERROR"]);
  });

  test("5.1.2: no stream beyond the peer's SETTINGS_MAX_CONCURRENT_STREAMS", () => {
    const one = rig(false);
    one.feed(settings([3, 1]));
    expect(one.session.hasRoom).toBe(true);
    ask(one, new Recorder());
    expect(one.session.hasRoom).toBe(false);
    one.feed(headers(1, true, ok));
    expect(one.session.hasRoom).toBe(true);
  });

  test("a request that is given up is reset, and what comes late is ignored", () => {
    const one = rig(false);
    const user = new Recorder();
    ask(one, user);
    one.said();
    one.session.reset(user.stream as SessionStream, cancel);
    expect(one.ends()).toEqual(["RST_STREAM 1 CANCEL"]);
    one.feed(headers(1, false, ok), data(1, true, "late"));
    expect([user.head, user.closed, one.ended]).toEqual(["", 1, ""]);
  });
});

describe("stream states (section 5.1)", () => {
  test("every change, and closed swallows all", () => {
    const { idle, open, halfClosedLocal, halfClosedRemote, closed } = streamState;
    const table: readonly (readonly [number, number, number])[] = [
      [idle, streamEvent.open, open],
      [idle, streamEvent.localEnd, idle],
      [idle, streamEvent.reset, closed],
      [open, streamEvent.open, open],
      [open, streamEvent.localEnd, halfClosedLocal],
      [open, streamEvent.remoteEnd, halfClosedRemote],
      [open, streamEvent.reset, closed],
      [halfClosedLocal, streamEvent.localEnd, halfClosedLocal],
      [halfClosedLocal, streamEvent.remoteEnd, closed],
      [halfClosedRemote, streamEvent.localEnd, closed],
      [halfClosedRemote, streamEvent.remoteEnd, halfClosedRemote],
      ...Object.values(streamEvent).map((event): [number, number, number] => [closed, event, closed]),
    ];
    for (const [from, event, to] of table) {
      const stream = new SessionStream();
      stream.state = from;
      expect(transition(stream, event)).toBe(to);
    }
  });

  test("a closed session takes and says nothing more", () => {
    const one = rig(true, { onHead: () => {} });
    one.feed(headers(1, false, ...post));
    const user = one.users[0] as Recorder;
    const stream = user.stream as SessionStream;
    one.feed(data(0, true, ""));
    expect([one.ended, user.reset, user.closed]).toEqual(["PROTOCOL_ERROR", "PROTOCOL_ERROR by 2", 1]);
    one.said();
    one.feed(headers(3, true, ...get), frame(framePing, 0, 0, new Uint8Array(8)));
    one.session.reset(stream, cancel);
    one.session.resume(stream);
    expect(one.session.send(stream, Buffer.from("x"), 0, 1, true)).toBe(true);
    one.session.sendTrailers(stream, Buffer.from("a: b\r\n"), 0, 6);
    one.session.drained();
    one.session.onDeadline(1e9);
    one.session.close(cancel, "again");
    one.session.lost("again");
    expect(one.said()).toEqual([]);
    expect([user.closed, one.users.length]).toEqual([1, 1]);
  });
});

describe("flow control (section 6.9)", () => {
  const sent = (one: Rig): number => one.said().reduce((sum, said) => sum + (said.type === frameData ? said.length : 0), 0);

  test("6.9.1: nothing beyond either window, and the rest as they open", () => {
    const one = rig(true);
    one.feed(headers(1, true, ...get));
    const stream = one.users[0]?.stream as SessionStream;
    expect(one.session.send(stream, Buffer.alloc(100_000), 0, 100_000, true)).toBe(false);
    expect(sent(one)).toBe(65_535);
    one.feed(numberFrame(frameWindowUpdate, 1, 10));
    expect(sent(one)).toBe(0);
    one.feed(numberFrame(frameWindowUpdate, 0, 5));
    expect(sent(one)).toBe(5);
    one.feed(numberFrame(frameWindowUpdate, 0, 100_000), numberFrame(frameWindowUpdate, 1, 100_000));
    expect(sent(one)).toBe(100_000 - 65_540);
    expect([one.users[0]?.writable, one.users[0]?.closed]).toEqual([0, 1]);
  });

  test("6.9.2: a smaller INITIAL_WINDOW_SIZE makes windows negative, and they recover", () => {
    const one = rig(true);
    one.feed(headers(1, true, ...get));
    const stream = one.users[0]?.stream as SessionStream;
    one.session.send(stream, Buffer.alloc(60_000), 0, 60_000, false);
    sent(one);
    one.feed(settings([4, 1_000]));
    expect(stream.sendWindow).toBe(65_535 - 60_000 - 64_535);
    expect(one.session.send(stream, Buffer.alloc(10), 0, 10, true)).toBe(false);
    one.feed(numberFrame(frameWindowUpdate, 1, 59_000));
    expect(sent(one)).toBe(0);
    one.feed(numberFrame(frameWindowUpdate, 1, 100));
    expect(sent(one)).toBe(10);
  });

  test("turns are fair: two streams behind one window share it", () => {
    const one = rig(true);
    one.feed(headers(1, true, ...get), headers(3, true, ...get), headers(5, true, ...get), settings([4, 10_000_000]));
    const [a, b, c] = one.users.map((user) => user.stream as SessionStream);
    one.session.send(a as SessionStream, Buffer.alloc(65_535), 0, 65_535, true);
    one.session.send(b as SessionStream, Buffer.alloc(65_535), 0, 65_535, true);
    one.session.send(c as SessionStream, Buffer.alloc(65_535), 0, 65_535, true);
    one.said();
    one.feed(numberFrame(frameWindowUpdate, 0, 65_536));
    expect(
      one
        .said()
        .filter((said) => said.type === frameData)
        .map((said) => said.stream),
    ).toEqual([3, 5, 3, 5]);
  });

  test("6.9: DATA beyond the stream's window, and beyond the connection's", () => {
    const stream = rig(true);
    stream.feed(headers(1, false, ...post));
    stream.session.pause(stream.users[0]?.stream as SessionStream);
    for (let i = 0; i < 4; i++) stream.feed(data(1, false, new Uint8Array(16_384)));
    expect(stream.ends()).toEqual(["RST_STREAM 1 FLOW_CONTROL_ERROR"]);
    const small = rig(true, { session: { connectionWindow: 65_535, streamWindow: 1_000_000 } });
    small.feed(headers(1, false, ...post));
    let ended = "";
    // Its acknowledgements are not waited for: twice the window in one go.
    small.session.receive(Buffer.concat(Array.from({ length: 8 }, () => Buffer.from(data(1, false, new Uint8Array(16_384))))));
    ended = small.ended;
    expect(["", "FLOW_CONTROL_ERROR"]).toContain(ended);
  });

  test("a sink that does not keep up holds its stream's window, not the connection's", () => {
    const one = rig(true);
    one.feed(headers(1, false, ...post), headers(3, false, ...post));
    const [slow, fast] = one.users as [Recorder, Recorder];
    one.session.pause(slow.stream as SessionStream);
    one.said();
    for (let i = 0; i < 3; i++) one.feed(data(1, false, new Uint8Array(16_384)), data(3, false, new Uint8Array(16_384)));
    const updates = one.said().filter((said) => said.type === frameWindowUpdate);
    expect(updates.some((said) => said.stream === 1)).toBe(false);
    expect(updates.some((said) => said.stream === 3)).toBe(true);
    expect((slow.stream as SessionStream).held).toBe(49_152);
    one.session.resume(slow.stream as SessionStream);
    expect(
      one
        .said()
        .filter((said) => said.type === frameWindowUpdate && said.stream === 1)
        .map((said) => readUint32(said.payload, 0)),
    ).toEqual([49_152]);
    expect(fast.body.length).toBe(49_152);
  });

  test("too much held by sinks holds the connection's window too", () => {
    const window = 16_000_000;
    const one = rig(true, { session: { streamWindow: window, connectionWindow: window } });
    one.feed(headers(1, false, ...post));
    const stream = one.users[0]?.stream as SessionStream;
    one.session.pause(stream);
    const frames = Math.ceil(limits.heldBytes / 16_384) + 60;
    one.said();
    let given = 0;
    for (let i = 0; i < frames; i++) one.feed(data(1, false, new Uint8Array(16_384)));
    for (const said of one.said()) if (said.type === frameWindowUpdate && said.stream === 0) given += readUint32(said.payload, 0);
    expect(given).toBeLessThanOrEqual(limits.heldBytes + 16_384);
    one.session.resume(stream);
    for (const said of one.said()) if (said.type === frameWindowUpdate && said.stream === 0) given += readUint32(said.payload, 0);
    expect(given + one.session.flow.unacknowledged).toBe(frames * 16_384);
    expect(one.session.flow.held).toBe(0);
  });

  test("what others hold beyond their share never keeps a stream from its own: windows that have grown are taken back", () => {
    const one = rig(true, { session: { streamWindow: 65_535, connectionWindow: 8_388_608 } });
    const grown = 4_194_304;
    one.session.flow.streamWindow = grown;
    one.feed(settings(), headers(1, false, ...post), headers(3, false, ...post));
    const greedy = [1, 3].map((_, n) => one.users[n]?.stream as SessionStream);
    for (const stream of greedy) one.session.pause(stream);
    one.said();
    const piece = new Uint8Array(16_384);
    // Beyond half of what may be held, the windows go back to the first one.
    for (let i = 0; i < 150; i++) one.feed(data(1, false, piece), data(3, false, piece));
    const told = one.said().filter((said) => said.type === frameSettings && (said.flags & flagAck) === 0);
    expect(told.map((said) => [said.payload[1], readUint32(said.payload, 2)])).toEqual([[4, 65_535]]);
    // What comes before the acknowledgement may use the old window, and a stream may begin with it.
    one.feed(data(1, false, piece), headers(5, false, ...post));
    const late = one.users[2]?.stream as SessionStream;
    expect(late.receiveWindow).toBe(grown);
    for (let n = one.session.settingsUnacknowledged; n > 0; n--) one.feed(frame(frameSettings, flagAck, 0, none));
    expect([late.receiveWindow, one.session.flow.streamWindow]).toEqual([65_535, 65_535]);
    expect((greedy[0] as SessionStream).receiveWindow).toBeLessThan(0);
    // The late stream's share gets through, and the connection's window stays open for it.
    one.session.pause(late);
    for (let i = 0; i < 3; i++) one.feed(data(5, false, piece));
    expect([one.ended, (one.users[2] as Recorder).body.length]).toEqual(["", 49_152]);
    // Beyond it a stream is refused.
    one.feed(data(1, false, piece));
    expect(one.said().some((said) => said.type === frameRstStream && said.stream === 1 && readUint32(said.payload, 0) === 3)).toBe(true);
  });

  test("incident: a stream that the old windows were large enough for is given what it needs when they are taken back", () => {
    const one = rig(true, { session: { streamWindow: 65_535, connectionWindow: 8_388_608 } });
    one.session.flow.streamWindow = 4_194_304;
    one.feed(headers(1, false, ...post), headers(3, false, ...post, ["content-length", "1048576"]), headers(5, false, ...post));
    one.feed(headers(7, false, ...post));
    for (const n of [0, 3]) one.session.pause(one.users[n]?.stream as SessionStream);
    const piece = new Uint8Array(16_384);
    for (let i = 0; i < 20; i++) one.feed(data(3, false, piece), data(5, false, piece));
    for (let i = 0; i < 140; i++) {
      one.feed(data(1, false, piece), data(7, false, piece));
      one.said();
    }
    for (let n = one.session.settingsUnacknowledged; n > 0; n--) one.feed(frame(frameSettings, flagAck, 0, none));
    const updates = one.said().filter((said) => said.type === frameWindowUpdate && said.stream !== 0);
    expect(updates.map((said) => [said.stream, readUint32(said.payload, 0)])).toEqual([
      [3, 20 * 16_384],
      [5, 20 * 16_384],
    ]);
  });

  test("incident: a message as long as its window is given more of it, as nghttp2 needs some for its empty last frame", () => {
    const one = rig(true);
    one.feed(headers(1, false, ...post, ["content-length", "65535"]));
    one.said();
    for (const size of [16_384, 16_384, 16_384, 16_383]) one.feed(data(1, false, new Uint8Array(size)));
    expect(one.said().some((said) => said.type === frameWindowUpdate && said.stream === 1)).toBe(true);
    const enough = rig(true);
    enough.feed(headers(1, false, ...post, ["content-length", "65534"]));
    enough.said();
    for (const size of [16_384, 16_384, 16_384, 16_382]) enough.feed(data(1, false, new Uint8Array(size)));
    expect(enough.said().some((said) => said.type === frameWindowUpdate && said.stream === 1)).toBe(false);
  });

  test("windows double while the path fills them, and stop at their bound", () => {
    const one = rig(true, { session: {} });
    one.feed(headers(1, false, ...post));
    const stream = one.users[0]?.stream as SessionStream;
    let largest = 0;
    let asked: Uint8Array[] = [];
    for (let round = 0; round < 40; round++) {
      // A peer that fills the window it has, once in each of the path's ten milliseconds; what it is asked it answers one such time later.
      const answers = asked;
      asked = [];
      const budget = Math.min(stream.receiveWindow, one.session.flow.window);
      for (let at = 0; at < budget; at += 16_384) {
        one.feed(data(1, false, new Uint8Array(Math.min(budget - at, 16_384))));
        if (at * 2 < budget) continue;
        for (const answer of answers.splice(0)) one.feed(answer);
      }
      (one.users[0] as Recorder).body = "";
      one.nowMs += 10;
      for (const said of one.said()) {
        if (said.type === framePing && (said.flags & flagAck) === 0) asked.push(frame(framePing, flagAck, 0, said.payload));
        if (said.type === frameSettings && said.length === 6) asked.push(frame(frameSettings, flagAck, 0, none));
      }
      largest = Math.max(largest, one.session.flow.streamWindow);
    }
    expect(largest).toBe(limits.largestStreamWindow);
    expect(one.session.flow.connectionWindow).toBe(limits.largestConnectionWindow);
    expect(one.ended).toBe("");
  });

  test("a socket that takes nothing: DATA waits in its stream, and goes on when it drains", () => {
    const one = rig(true);
    one.feed(headers(1, true, ...get), settings([4, 1_000_000]), numberFrame(frameWindowUpdate, 0, 1_000_000));
    one.said();
    one.wire.room = 100;
    const stream = one.users[0]?.stream as SessionStream;
    expect(one.session.send(stream, Buffer.alloc(200_000, 97), 0, 200_000, true)).toBe(false);
    one.flush();
    expect(one.box.waiting).toBeGreaterThan(0);
    expect(one.box.waiting).toBeLessThan(100_000);
    one.wire.room = Number.POSITIVE_INFINITY;
    let bytes = 0;
    for (let i = 0; i < 20 && bytes < 200_000; i++) {
      if (one.box.drain()) one.session.drained();
      one.flush();
    }
    const chunks = Buffer.concat(one.wire.chunks);
    bytes = chunks.filter((byte) => byte === 97).length;
    expect(bytes).toBe(200_000);
    expect(one.users[0]?.closed).toBe(1);
  });
});

describe("answers", () => {
  test("8.1: an answer before the request has ended: END_STREAM, then RST_STREAM with NO_ERROR", () => {
    const one = rig(true);
    one.feed(headers(1, false, ...post));
    const stream = one.users[0]?.stream as SessionStream;
    one.said();
    one.session.beginBlock(64).indexed(8);
    one.session.endBlock(stream, false);
    one.session.send(stream, Buffer.from("no"), 0, 2, true);
    one.session.stopReceiving(stream);
    expect(one.said().map((said) => [said.type, said.flags])).toEqual([
      [frameHeaders, flagEndHeaders],
      [frameData, flagEndStream],
      [frameRstStream, 0],
    ]);
    one.feed(data(1, true, "late"));
    expect(one.ended).toBe("");
  });

  test("trailers go out after what is queued", () => {
    const one = rig(true);
    one.feed(settings([4, 3]), headers(1, true, ...get));
    const stream = one.users[0]?.stream as SessionStream;
    one.said();
    one.session.send(stream, Buffer.from("hello"), 0, 5, false);
    const lines = Buffer.from("grpc-status: 0\r\n");
    one.session.sendTrailers(stream, lines, 0, lines.length);
    lines.fill(0);
    expect(one.said().map((said) => said.length)).toEqual([3]);
    one.feed(numberFrame(frameWindowUpdate, 1, 100));
    const last = one.said();
    expect(last.map((said) => [said.type, said.flags & flagEndStream])).toEqual([
      [frameData, 0],
      [frameHeaders, flagEndStream],
    ]);
    expect(last[1]?.payload.toString("latin1")).toContain("grpc-status");
  });

  test("a head larger than a frame goes out in CONTINUATION frames", () => {
    const one = rig(true);
    one.feed(headers(1, true, ...get));
    one.said();
    const line = Buffer.from(`a: ${"x".repeat(40_000)}\r\n`);
    const encoder = one.session.beginBlock(60_000);
    encoder.indexed(8);
    encoder.field(line, 0, 1, 3, 40_003, false);
    one.session.endBlock(one.users[0]?.stream as SessionStream, true);
    expect(one.said().map((said) => [said.type, said.flags, said.length])).toEqual([
      [frameHeaders, flagEndStream, 16_384],
      [frameContinuation, 0, 16_384],
      [frameContinuation, flagEndHeaders, 40_008 - 32_768 - 1 + 1],
    ]);
  });

  test("the frames of one event leave in one write", () => {
    const one = rig(true, {
      onHead: (user, session) => {
        const stream = user.stream as SessionStream;
        session.beginBlock(64).indexed(8);
        session.endBlock(stream, false);
        session.send(stream, Buffer.from("hello"), 0, 5, true);
      },
    });
    one.wire.chunks.length = 0;
    one.feed(Buffer.concat(Array.from({ length: 16 }, (_, i) => Buffer.from(headers(2 * i + 1, true, ...get)))));
    expect(one.wire.chunks.length).toBe(1);
    expect(one.said().length).toBe(32);
  });
});

describe("drain (section 6.8)", () => {
  test("GOAWAY with 2^31-1, then the last stream once the PING is answered; open streams finish", () => {
    const one = rig(true);
    one.feed(headers(1, false, ...post));
    one.session.drain("over");
    const first = one.said();
    expect(first.map((said) => said.type)).toEqual([frameGoaway, framePing]);
    expect(readUint32(first[0]?.payload as Buffer, 0)).toBe(largestWindow);
    one.feed(headers(3, true, ...get));
    expect(one.users.length).toBe(2);
    one.feed(frame(framePing, flagAck, 0, first[1]?.payload as Buffer));
    expect(readUint32(one.said()[0]?.payload as Buffer, 0)).toBe(3);
    // Beyond the last one nothing is looked at, but the table is kept.
    one.feed(headers(5, true, ...get), data(1, true, "x"));
    expect(one.users.length).toBe(2);
    for (const user of one.users) {
      one.session.beginBlock(64).indexed(8);
      one.session.endBlock(user.stream as SessionStream, true);
    }
    expect(one.ended).toBe("NO_ERROR");
  });

  test("a peer that does not answer the PING does not hold it up", () => {
    const one = rig(true);
    one.session.drain("over");
    one.nowMs += limits.goawayMs + 1;
    one.session.onDeadline(one.nowMs);
    expect(one.ended).toBe("NO_ERROR");
    expect(one.said().filter((said) => said.type === frameGoaway).length).toBe(2);
  });
});

describe("time", () => {
  const cases: readonly (readonly [string, (one: Rig) => void, number, string])[] = [
    [
      "6.5.3: SETTINGS that are not acknowledged",
      (one) => one.feed(clientPreface, settings()),
      limits.settingsAckMs + 1,
      "SETTINGS_TIMEOUT settings_ack",
    ],
    ["a slow preface", () => {}, 10_001, "PROTOCOL_ERROR slow_start"],
    [
      "a slow header block",
      (one) => one.feed(greeting(true), frame(frameHeaders, 0, 1, block(...get))),
      10_001,
      "ENHANCE_YOUR_CALM slow_head",
    ],
  ];
  for (const [name, run, ms, end] of cases) {
    test(name, () => {
      const one = rig(true, { greeted: false });
      run(one);
      one.nowMs += ms - 2;
      one.session.onDeadline(one.nowMs);
      expect(one.ended).toBe("");
      one.nowMs += 2;
      expect(one.session.deadlineMs).toBeLessThanOrEqual(one.nowMs);
      one.session.onDeadline(one.nowMs);
      expect(one.ended).toBe(end);
    });
  }

  test("a stream that gets no window is reset, the others go on", () => {
    const one = rig(true);
    one.feed(settings([4, 0]), headers(1, true, ...get), headers(3, true, ...get));
    one.session.send(one.users[0]?.stream as SessionStream, Buffer.from("x"), 0, 1, true);
    one.nowMs += limits.stallMs + 1;
    one.session.onDeadline(one.nowMs);
    expect(one.ends()).toEqual(["RST_STREAM 1 CANCEL"]);
    expect([one.users[0]?.reset, one.defended("stall"), one.ended]).toEqual(["CANCEL by 4", 1, ""]);
  });

  test("6.7: a keepalive PING, answered and not", () => {
    const one = rig(false, { session: { keepaliveMs: 1_000 } });
    one.nowMs += 1_001;
    one.session.onDeadline(one.nowMs);
    const ping = one.said();
    expect(ping.map((said) => said.type)).toEqual([framePing]);
    one.feed(frame(framePing, flagAck, 0, ping[0]?.payload as Buffer));
    one.nowMs += 1_001;
    one.session.onDeadline(one.nowMs);
    expect(one.said().length).toBe(1);
    one.nowMs += limits.pingTimeoutMs + 1;
    one.session.onDeadline(one.nowMs);
    expect([one.why, one.defended("keepalive")]).toEqual(["the peer did not answer a PING", 1]);
  });

  test("a PING that is late behind a long body kills nobody: any byte proves the peer alive", () => {
    const one = rig(false, { session: { keepaliveMs: 1_000, pingTimeoutMs: 500 } });
    one.nowMs += 1_001;
    one.session.onDeadline(one.nowMs);
    one.nowMs += 400;
    one.feed(frame(framePing, 0, 0, Buffer.from("12345678")));
    one.nowMs += 200;
    one.session.onDeadline(one.nowMs);
    expect(one.ended).toBe("");
    one.nowMs += 301;
    one.session.onDeadline(one.nowMs);
    expect(one.why).toContain("PING");
  });

  test("jitter puts the PING off by its share of chance", () => {
    const one = rig(false, { session: { keepaliveMs: 1_000, keepaliveJitter: 0.2, random: () => 0.5 } });
    expect(one.session.deadlineMs).toBe(one.nowMs + 1_100);
  });

  test("a stream on a connection that was silent is announced by a PING, one at a time", () => {
    const one = rig(false, { session: { idlePingMs: 1_000, pingTimeoutMs: 500 } });
    one.session.openStream(new Recorder());
    expect(one.said().length).toBe(0);
    one.nowMs += 1_000;
    one.session.openStream(new Recorder());
    one.session.openStream(new Recorder());
    const ping = one.said();
    expect(ping.map((said) => said.type)).toEqual([framePing]);
    one.feed(frame(framePing, flagAck, 0, ping[0]?.payload as Buffer));
    one.nowMs += 501;
    one.session.onDeadline(one.nowMs);
    expect(one.ended).toBe("");
    one.nowMs += 1_000;
    one.session.openStream(new Recorder());
    one.nowMs += 501;
    one.session.onDeadline(one.nowMs);
    expect(one.why).toContain("PING");
  });

  test("a client opens no more streams at once than it was told to, nor than the peer allows", () => {
    const one = rig(false, { session: { mostStreams: 2 } });
    one.session.openStream(new Recorder());
    expect(one.session.hasRoom).toBe(true);
    one.session.openStream(new Recorder());
    expect(one.session.hasRoom).toBe(false);
    const other = rig(false, { session: { mostStreams: 2 } });
    other.feed(settings([3, 1]));
    other.session.openStream(new Recorder());
    expect(other.session.hasRoom).toBe(false);
  });

  test("the idle deadline is told once", () => {
    const one = rig(true);
    one.session.idleAt(one.nowMs + 5);
    one.nowMs += 6;
    one.session.onDeadline(one.nowMs);
    one.session.onDeadline(one.nowMs + 100);
    expect(one.idles).toBe(1);
  });
});

describe("floods end the connection with ENHANCE_YOUR_CALM", () => {
  const repeat = (count: number, make: (i: number) => Uint8Array): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, i) => Buffer.from(make(i))));
  const cases: readonly (readonly [string, string, (count: number) => Uint8Array, number])[] = [
    [
      "CVE-2023-44487: rapid reset",
      "rapid_reset",
      (n) => repeat(n, (i) => Buffer.concat([headers(2 * i + 1, false, ...get), numberFrame(frameRstStream, 2 * i + 1, cancel)])),
      floods.rapid_reset,
    ],
    [
      "CVE-2025-8671: made you reset",
      "made_you_reset",
      (n) => repeat(n, (i) => Buffer.concat([headers(2 * i + 1, false, ...get), numberFrame(frameWindowUpdate, 2 * i + 1, 0)])),
      floods.made_you_reset,
    ],
    [
      "CVE-2019-9518: empty DATA",
      "empty_data",
      (n) => Buffer.concat([headers(1, false, ...post), repeat(n, () => data(1, false, ""))]),
      floods.empty_data,
    ],
    ["CVE-2019-9515: SETTINGS", "settings", (n) => repeat(n - 1, () => settings()), floods.settings],
    ["CVE-2019-9512: PING", "ping", (n) => repeat(n, () => frame(framePing, 0, 0, new Uint8Array(8))), floods.ping],
    ["CVE-2019-9513: PRIORITY", "ignored", (n) => repeat(n, () => frame(framePriority, 0, 1, new Uint8Array(5))), floods.ignored + 4],
    ["unknown frames", "ignored", (n) => repeat(n, () => frame(0x77, 0, 0, none)), floods.ignored + 4],
    ["CVE-2019-9517: WINDOW_UPDATE", "window_update", (n) => repeat(n, () => numberFrame(frameWindowUpdate, 0, 1)), floods.window_update],
    [
      "CVE-2024-27316: CONTINUATION",
      "continuation",
      (n) => Buffer.concat([frame(frameHeaders, 0, 1, block(...get)), repeat(n, () => frame(frameContinuation, 0, 1, none))]),
      limits.continuations,
    ],
  ];
  for (const [name, reason, make, bound] of cases) {
    test(name, () => {
      const spared = rig(true);
      spared.feed(make(bound));
      expect(spared.ended).toBe("");
      const ended = rig(true);
      ended.feed(make(bound + 1));
      expect(ended.ended).toBe(`ENHANCE_YOUR_CALM ${reason}`);
      expect(ended.ends().at(-1)).toBe("GOAWAY ENHANCE_YOUR_CALM");
      expect(ended.defended(reason as "ping")).toBe(1);
    });
  }

  test("a server that resets each stream after its answer is no flood", () => {
    const one = rig(false);
    for (let i = 0; i < floods.ignored + 1_000; i++) {
      const stream = one.session.openStream(new Recorder());
      one.session.beginBlock(64).indexed(2);
      one.session.endBlock(stream, true);
      one.feed(headers(stream.id, true, [":status", "200"]), numberFrame(frameRstStream, stream.id, noError));
      one.said();
    }
    expect(one.ended).toBe("");
  });

  test("the counts start anew with their window", () => {
    const one = rig(true);
    for (let i = 0; i < 5; i++) {
      one.feed(repeat(floods.ping, () => frame(framePing, 0, 0, new Uint8Array(8))));
      one.nowMs += limits.floodWindowMs + 1;
    }
    expect(one.ended).toBe("");
  });

  test("resets of answered streams are no rapid reset", () => {
    const one = rig(true, {
      onHead: (user, session) => {
        const stream = user.stream as SessionStream;
        stream.answered = true;
        session.beginBlock(64).indexed(8);
        session.endBlock(stream, false);
      },
    });
    one.feed(repeat(500, (i) => Buffer.concat([headers(2 * i + 1, true, ...get), numberFrame(frameRstStream, 2 * i + 1, cancel)])));
    expect(one.ended).toBe("");
  });

  test("a peer that does not read the answers to its PINGs", () => {
    const one = rig(true);
    one.wire.room = 0;
    // Slow enough for the count of PINGs itself.
    for (let i = 0; i < 12 && one.ended === ""; i++) {
      one.feed(repeat(floods.ping, () => frame(framePing, 0, 0, new Uint8Array(8))));
      one.nowMs += limits.floodWindowMs + 1;
    }
    expect(one.ended).toBe("ENHANCE_YOUR_CALM control_backlog");
    expect(one.box.waiting).toBeLessThan(200_000);
  });

  test("a window opened byte by byte", () => {
    const one = rig(true);
    one.feed(settings([4, 0]), headers(1, true, ...get));
    one.session.send(one.users[0]?.stream as SessionStream, Buffer.alloc(5_000), 0, 5_000, true);
    one.feed(repeat(floods.tiny_window + 1, () => numberFrame(frameWindowUpdate, 1, 1)));
    expect(one.ended).toBe("ENHANCE_YOUR_CALM tiny_window");
  });

  test("5.1.2: streams beyond the bound are refused, not the connection", () => {
    const one = rig(true);
    one.feed(repeat(limits.concurrentStreams + 5, (i) => headers(2 * i + 1, true, ...get)));
    expect(one.users.length).toBe(limits.concurrentStreams);
    expect(one.ends()).toEqual([201, 203, 205, 207, 209].map((id) => `RST_STREAM ${id} ${errorName(refusedStream)}`));
    expect([one.defended("stream_limit"), one.ended]).toEqual([5, ""]);
  });

  test("a header bomb costs its bytes, not what it would decode to", () => {
    const one = rig(true);
    const value = "y".repeat(3_900);
    const entry = Buffer.concat([Buffer.from([0x40, 1, 0x78, 0x7f, ((3_900 - 127) & 127) | 128, (3_900 - 127) >> 7]), Buffer.from(value)]);
    one.feed(frame(frameHeaders, flagEndHeaders | flagEndStream, 1, Buffer.concat([block(...get), entry, Buffer.alloc(10_000, 0xbe)])));
    expect(one.faults[0]).toStartWith("431");
    one.feed(headers(3, true, ...get));
    expect(one.users.length).toBe(1);
  });
});
