import { describe, expect, test } from "bun:test";
import { frameSizeError, protocolError, refuse } from "./errors.ts";
import {
  defaultMaxFrameSize,
  type FrameHead,
  flagAck,
  flagPadded,
  flagPriority,
  frame,
  frameContinuation,
  frameData,
  frameGoaway,
  frameHeaders,
  framePing,
  framePriority,
  framePushPromise,
  frameRstStream,
  frameSettings,
  frameWindowUpdate,
  parseFrameHead,
  stripPadding,
  writeFrameHead,
} from "./frame.ts";

const head = (): FrameHead => ({ length: 0, type: 0, flags: 0, stream: 0 });

function parse(length: number, type: number, flags: number, stream: number, out = head()): number {
  const buf = new Uint8Array(9);
  writeFrameHead(buf, 0, length, type, flags, stream);
  return parseFrameHead(buf, 0, 9, defaultMaxFrameSize, out);
}

describe("frame heads (RFC 9113 sections 4.1, 6)", () => {
  test("every prefix asks for more", () => {
    const whole = frame(framePing, 0, 0, new Uint8Array(8));
    for (let n = 0; n < 9; n++) expect(parseFrameHead(whole, 0, n, defaultMaxFrameSize, head())).toBe(0);
    expect(parseFrameHead(whole, 0, 9, defaultMaxFrameSize, head())).toBe(9);
  });

  test("fields come out, the reserved bit does not", () => {
    const out = head();
    const buf = Uint8Array.of(0x00, 0x40, 0x00, 0x00, 0x09, 0x80 | 0x12, 0x34, 0x56, 0x78);
    expect(parseFrameHead(buf, 0, 9, defaultMaxFrameSize, out)).toBe(9);
    expect(out).toEqual({ length: 16_384, type: 0, flags: 9, stream: 0x12345678 });
  });

  const cases: readonly (readonly [string, number, number, number, number, number])[] = [
    ["DATA on stream 0", 0, frameData, 0, 0, refuse(protocolError)],
    ["HEADERS on stream 0", 0, frameHeaders, 0, 0, refuse(protocolError)],
    ["CONTINUATION on stream 0", 0, frameContinuation, 0, 0, refuse(protocolError)],
    ["PUSH_PROMISE on stream 0", 4, framePushPromise, 0, 0, refuse(protocolError)],
    ["PRIORITY on stream 0", 5, framePriority, 0, 0, refuse(protocolError)],
    ["PRIORITY of 4 bytes", 4, framePriority, 0, 1, refuse(frameSizeError)],
    ["RST_STREAM on stream 0", 4, frameRstStream, 0, 0, refuse(protocolError)],
    ["RST_STREAM of 5 bytes", 5, frameRstStream, 0, 1, refuse(frameSizeError)],
    ["SETTINGS on stream 1", 6, frameSettings, 0, 1, refuse(protocolError)],
    ["SETTINGS of 5 bytes", 5, frameSettings, 0, 0, refuse(frameSizeError)],
    ["a SETTINGS ack with a payload", 6, frameSettings, flagAck, 0, refuse(frameSizeError)],
    ["PING on stream 1", 8, framePing, 0, 1, refuse(protocolError)],
    ["PING of 7 bytes", 7, framePing, 0, 0, refuse(frameSizeError)],
    ["GOAWAY on stream 1", 8, frameGoaway, 0, 1, refuse(protocolError)],
    ["GOAWAY of 7 bytes", 7, frameGoaway, 0, 0, refuse(frameSizeError)],
    ["WINDOW_UPDATE of 3 bytes", 3, frameWindowUpdate, 0, 1, refuse(frameSizeError)],
    ["a frame above the limit", defaultMaxFrameSize + 1, frameData, 0, 1, refuse(frameSizeError)],
    ["an unknown type", 3, 0xbe, 0xff, 7, 9],
    ["the largest DATA", defaultMaxFrameSize, frameData, 0, 1, 9],
    ["a SETTINGS ack", 0, frameSettings, flagAck, 0, 9],
  ];
  for (const [name, length, type, flags, stream, wanted] of cases)
    test(name, () => expect(parse(length, type, flags, stream)).toBe(wanted));
});

describe("padding (RFC 9113 section 6.1)", () => {
  const cases: readonly (readonly [string, number, number, number[], number, number])[] = [
    ["none", frameData, 0, [1, 2, 3], 0, 3],
    ["two bytes of it", frameData, flagPadded, [2, 9, 0, 0], 1, 1],
    ["nothing but it", frameData, flagPadded, [2, 0, 0], 1, 0],
    ["more than there is", frameData, flagPadded, [3, 0, 0], refuse(protocolError), 3],
    ["its length missing", frameData, flagPadded, [], refuse(frameSizeError), 0],
    ["priority fields in HEADERS", frameHeaders, flagPriority, [0, 0, 0, 0, 0, 7], 5, 1],
    ["priority fields that do not fit", frameHeaders, flagPriority, [0, 0, 0], refuse(protocolError), 3],
    ["both", frameHeaders, flagPriority | flagPadded, [1, 0, 0, 0, 0, 0, 7, 0], 6, 1],
  ];
  for (const [name, type, flags, payload, wanted, rest] of cases) {
    test(name, () => {
      const one = { length: payload.length, type, flags, stream: 1 };
      expect(stripPadding(Uint8Array.from(payload), 0, one)).toBe(wanted);
      expect(one.length).toBe(rest);
    });
  }
});
