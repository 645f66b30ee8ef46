import { expect, test } from "bun:test";
import { BodyReader, framing } from "./body.ts";
import { limits } from "./limits.ts";

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
  ["data longer than its size", "5\r\nhelloo\r\n0\r\n\r\n"],
  ["bare LF after the data", "5\r\nhello\n0\r\n\r\n"],
  ["endless extension", `5;${"a".repeat(limits.chunkLine + 1)}\r\n`],
  ["trailer without a name", "0\r\n: x\r\n\r\n"],
  ["folded trailer", "0\r\nA: b\r\n c\r\n\r\n"],
  ["endless trailers", `0\r\n${"A: b\r\n".repeat(limits.trailers / 4)}\r\n`],
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
