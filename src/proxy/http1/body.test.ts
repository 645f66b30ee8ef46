import { expect, test } from "bun:test";
import { BodyReader, framing } from "./body.ts";
import { defaultLimits, refusal } from "./limits.ts";
import { filterTrailers } from "./trailers.ts";

/** Feeds a body in pieces of these sizes; returns what is passed on, or the refusal. */
function feed(
  body: string,
  sizes: (at: number) => number,
  unchunk = false,
): { kept: string; used: number; payload: number; done: boolean } | number {
  const reader = new BodyReader();
  reader.begin(framing.chunked, 0, unchunk);
  let kept = "";
  let used = 0;
  for (let at = 0; at < body.length && !reader.done; ) {
    const piece = Buffer.from(body.slice(at, at + sizes(at)), "latin1");
    const size = reader.scan(piece, 0, piece.length);
    if (size < 0) return size;
    kept += piece.subarray(0, reader.keptTo).toString("latin1");
    used += size;
    at += piece.length;
  }
  return { kept, used, payload: reader.bytes, done: reader.done };
}

const plain = "5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n";
const dressed = '5;a=b;c="d"\r\nhello\r\nA;x\r\n0123456789\r\n0;last\r\nX-Trailer: 1\r\nY: 2\r\n\r\n';

test("every split of a chunked body gives the same bytes and the same end", () => {
  for (const body of [plain, dressed]) {
    for (let cut = 1; cut <= body.length; cut++) {
      expect(feed(`${body}NEXT`, (at) => (at === 0 ? cut : 10_000))).toMatchObject({ kept: plain, payload: 15, done: true });
      expect(feed(body, () => cut)).toMatchObject({ kept: plain, used: body.length, done: true });
      expect(feed(body, () => cut, true)).toMatchObject({ kept: "hello0123456789", used: body.length, done: true });
    }
  }
});

test("what follows the body is left alone", () => {
  const reader = new BodyReader();
  reader.begin(framing.chunked, 0, false);
  const raw = Buffer.from(`${dressed}GET / HTTP/1.1`, "latin1");
  expect(reader.scan(raw, 0, raw.length)).toBe(dressed.length);
  expect(raw.subarray(dressed.length).toString()).toBe("GET / HTTP/1.1");
});

for (const [name, body] of [
  ["no size", "\r\nhello\r\n0\r\n\r\n"],
  ["size that is no number", "g\r\n"],
  ["signed size", "+5\r\nhello\r\n"],
  ["0x", "0x5\r\nhello\r\n"],
  ["space after the size", "5 \r\nhello\r\n"],
  ["space before the size", " 5\r\nhello\r\n"],
  ["size beyond counting", "ffffffffffffffff\r\n"],
  ["bare LF after the size", "5\nhello\r\n"],
  ["bare CR in an extension", "5;a\rb\r\nhello\r\n"],
  ["bare LF in an extension", "5;a\nhello\r\n"],
  ["extension without a name", "5;\r\nhello\r\n"],
  ["extension that is no token", "5;a/b\r\nhello\r\n"],
  ["extension with an open quote", '5;a="b\r\nhello\r\n'],
  ["NUL in a quoted extension", '5;a="\0"\r\nhello\r\n'],
  ["data longer than its size", "5\r\nhelloo\r\n0\r\n\r\n"],
  ["bare LF after the data", "5\r\nhello\n0\r\n\r\n"],
  ["endless extension", `5;${"a".repeat(defaultLimits.chunkLineBytes + 1)}\r\n`],
  ["trailer without a name", "0\r\n: x\r\n\r\n"],
  ["folded trailer", "0\r\nA: b\r\n c\r\n\r\n"],
  ["endless trailers", `0\r\n${"A: b\r\n".repeat(defaultLimits.trailerBytes / 4)}\r\n`],
  ["bare LF at the end", "0\r\n\n"],
] as const) {
  test(`refused: ${name}`, () => {
    expect(feed(body, () => 10_000_000)).toBeNegative();
    expect(feed(body, () => 1)).toBeNegative();
  });
}

test("a length counts down over reads and leaves the next message", () => {
  const reader = new BodyReader();
  reader.begin(framing.length, 7, false);
  expect(reader.scan(Buffer.from("abc"), 0, 3)).toBe(3);
  expect(reader.done).toBe(false);
  expect(reader.scan(Buffer.from("defgHTTP"), 0, 8)).toBe(4);
  expect([reader.done, reader.keptTo, reader.bytes]).toEqual([true, 4, 7]);
});

/** As `feed`, with trailers set aside. */
function feedTrailers(body: string, cut: number, unchunk: boolean): { kept: string; trailers: string | null } {
  const reader = new BodyReader();
  reader.keepTrailers = true;
  reader.begin(framing.chunked, 0, unchunk);
  let kept = "";
  for (let at = 0; at < body.length; at += cut) {
    const piece = Buffer.from(body.slice(at, at + cut), "latin1");
    expect(reader.scan(piece, 0, piece.length)).toBe(piece.length);
    kept += piece.subarray(0, reader.keptTo).toString("latin1");
    piece.fill(0);
  }
  expect(reader.done).toBe(true);
  return { kept, trailers: reader.trailers === null ? null : reader.trailers.toString("latin1") };
}

test("trailers are set aside at every split, and the empty line is left to the writer only then", () => {
  for (let cut = 1; cut <= dressed.length; cut++) {
    const withoutEnd = plain.slice(0, -2);
    expect(feedTrailers(dressed, cut, false)).toEqual({ kept: withoutEnd, trailers: "X-Trailer: 1\r\nY: 2\r\n" });
    expect(feedTrailers(dressed, cut, true)).toEqual({ kept: "hello0123456789", trailers: "X-Trailer: 1\r\nY: 2\r\n" });
    expect(feedTrailers(plain, cut, false)).toEqual({ kept: plain, trailers: null });
    expect(feedTrailers(plain, cut, true)).toEqual({ kept: "hello0123456789", trailers: null });
  }
});

test("a reader that is used again has forgotten the trailers", () => {
  const reader = new BodyReader();
  reader.keepTrailers = true;
  reader.begin(framing.chunked, 0, false);
  const raw = Buffer.from("0\r\nA: b\r\n\r\n");
  reader.scan(raw, 0, raw.length);
  expect(String(reader.trailers)).toBe("A: b\r\n");
  reader.begin(framing.length, 1, false);
  expect(reader.trailers).toBeNull();
});

test("bounds of a body are the listener's", () => {
  const scan = (body: string, own: Partial<typeof defaultLimits>): number => {
    const reader = new BodyReader();
    reader.limits = { ...defaultLimits, ...own };
    reader.begin(framing.chunked, 0, false);
    return reader.scan(Buffer.from(body, "latin1"), 0, body.length);
  };
  expect(scan("5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n", { bodyBytes: 10 })).toBe(25);
  // Refused with the size, before the data that would be too much.
  expect(scan("5\r\nhello\r\n6\r\n", { bodyBytes: 10 })).toBe(-refusal.bodyTooLarge);
  expect(scan("0\r\nA: b\r\nC: d\r\n\r\n", { fields: 2 })).toBe(17);
  expect(scan("0\r\nA: b\r\nC: d\r\nE: f\r\n\r\n", { fields: 2 })).toBe(-refusal.trailersTooLarge);
  expect(scan("0\r\nA: bcdefghij\r\n\r\n", { trailerBytes: 10 })).toBe(-refusal.trailersTooLarge);
  expect(scan("0;abc\r\n\r\n", { chunkLineBytes: 2 })).toBe(-refusal.chunk);
});

test("a thousand bytes of extension for each byte of data come to an end", () => {
  const line = `1;${"a".repeat(1_000)}\r\nx\r\n`;
  const few = `${line.repeat(10)}0\r\n\r\n`;
  expect(feed(few, () => 10_000_000)).toMatchObject({ done: true, payload: 10 });
  expect(feed(`${line.repeat(20)}0\r\n\r\n`, () => 10_000_000)).toBe(-refusal.chunk);
  // Honest small chunks, and extensions of a usual size, do for ever.
  expect(feed(`${"1\r\nx\r\n".repeat(50_000)}0\r\n\r\n`, () => 10_000_000)).toMatchObject({ done: true, payload: 50_000 });
  const signed = `40;chunk-signature=${"a".repeat(64)}\r\n${"x".repeat(64)}\r\n`;
  expect(feed(`${signed.repeat(2_000)}0\r\n\r\n`, () => 10_000_000)).toMatchObject({ done: true, payload: 128_000 });
});

test("trailers that would change a message's meaning are not forwarded", () => {
  const filter = (lines: string) => filterTrailers(Buffer.from(lines, "latin1")).toString("latin1");
  const good = "grpc-status: 0\r\nGrpc-Message: \xe4\r\nX-Checksum:1\r\nServer-Timing: a\r\n";
  const same = Buffer.from(good, "latin1");
  expect(filterTrailers(same)).toBe(same);
  const bad = [
    "Content-Length: 1",
    "transfer-encoding: chunked",
    "HOST: x",
    "Authorization: a",
    "Set-Cookie: a",
    "Content_Length: 5",
    "X-Forwarded-For: 1.2.3.4",
    "x_weft_reason: no",
    "Trailer: a",
    "Cache-Control: no-store",
    "Content-Encoding: gzip",
    "Connection: close",
  ];
  for (const line of bad) {
    expect(filter(`${line}\r\n`)).toBe("");
    const source = Buffer.from(`A: b\r\n${line}\r\nC: d\r\n`, "latin1");
    expect(filterTrailers(source).toString("latin1")).toBe("A: b\r\nC: d\r\n");
    expect(source.toString("latin1")).toBe(`A: b\r\n${line}\r\nC: d\r\n`);
  }
  expect(filter("")).toBe("");
});
