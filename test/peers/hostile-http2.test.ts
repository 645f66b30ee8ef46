// Hostile HTTP/2 peers against a whole process: each gets the right GOAWAY or reset, is counted under its name, costs bounded memory, and harms nobody else.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { eventually } from "../support/mesh.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type Program, startOrigin } from "../support/program.ts";
import { clientPreface, field, flag, frame, frameType, RawHttp2, requestBlock, uint32 } from "../support/raw-http2.ts";
import { openWay, type Way } from "../support/way.ts";

const run = needsPeers("test/peers/hostile-http2.test.ts", "node");

const { data, headers, priority, reset, settings, ping, windowUpdate, continuation } = frameType;
const [protocolError, flowControlError, frameSizeError, compressionError, enhanceYourCalm] = [1, 3, 6, 9, 11];
const whole = flag.endStream | flag.endHeaders;
const times = (count: number, make: (n: number) => Buffer): Buffer => Buffer.concat(Array.from({ length: count }, (_, n) => make(n)));
const ask = (stream: number, path: string, flags: number = whole): Buffer => frame(headers, flags, stream, requestBlock(path));
const settingsPayload = (id: number, value: number): Buffer => Buffer.concat([Uint8Array.of(0, id), uint32(value)]);

interface Attack {
  readonly name: string;
  readonly bytes: () => Buffer;
  readonly code: number;
  /** Label of `weft_http2_defence_total`; without one the count is `weft_http2_connection_errors_total`. */
  readonly reason?: string;
}

const attacks: readonly Attack[] = [
  {
    name: "rapid reset (CVE-2023-44487)",
    bytes: () => times(600, (n) => Buffer.concat([ask(2 * n + 1, "/slow?size=3000"), frame(reset, 0, 2 * n + 1, uint32(8))])),
    code: enhanceYourCalm,
    reason: "rapid_reset",
  },
  {
    name: "made you reset (CVE-2025-8671)",
    bytes: () => times(600, (n) => Buffer.concat([ask(2 * n + 1, "/slow?size=3000"), frame(windowUpdate, 0, 2 * n + 1, uint32(0))])),
    code: enhanceYourCalm,
    reason: "made_you_reset",
  },
  {
    name: "CONTINUATION flood (CVE-2024-27316)",
    bytes: () =>
      Buffer.concat([frame(headers, 0, 1, requestBlock("/hello")), times(500, (n) => frame(continuation, 0, 1, field(`x-${n}`, "y")))]),
    code: enhanceYourCalm,
    reason: "continuation",
  },
  {
    name: "empty DATA (CVE-2019-9518)",
    bytes: () => Buffer.concat([frame(headers, flag.endHeaders, 1, requestBlock("/hash", "POST")), times(1_000, () => frame(data, 0, 1))]),
    code: enhanceYourCalm,
    reason: "empty_data",
  },
  {
    name: "SETTINGS flood (CVE-2019-9515)",
    bytes: () => times(500, () => frame(settings, 0, 0)),
    code: enhanceYourCalm,
    reason: "settings",
  },
  {
    name: "PING flood (CVE-2019-9512)",
    bytes: () => times(3_000, () => frame(ping, 0, 0, "12345678")),
    code: enhanceYourCalm,
    reason: "ping",
  },
  {
    name: "PRIORITY flood (CVE-2019-9513)",
    bytes: () => times(10_000, () => frame(priority, 0, 1, Buffer.from("\0\0\0\0\x10", "latin1"))),
    code: enhanceYourCalm,
    reason: "ignored",
  },
  {
    name: "WINDOW_UPDATE flood (CVE-2019-9517)",
    bytes: () => times(5_000, () => frame(windowUpdate, 0, 0, uint32(1))),
    code: enhanceYourCalm,
    reason: "window_update",
  },
  { name: "a frame larger than announced", bytes: () => frame(headers, whole, 1, Buffer.alloc(16_385)), code: frameSizeError },
  {
    name: "a header block that no table explains",
    bytes: () => frame(headers, whole, 1, Uint8Array.of(0xff, 0xff, 0x7f)),
    code: compressionError,
  },
  { name: "HEADERS on stream 0", bytes: () => ask(0, "/hello"), code: protocolError },
  { name: "DATA on a stream that is idle", bytes: () => frame(data, flag.endStream, 1, "x"), code: protocolError },
  { name: "a stream number of servers", bytes: () => ask(2, "/hello"), code: protocolError },
  { name: "a window beyond 2^31 - 1", bytes: () => frame(windowUpdate, 0, 0, uint32(0x7fff_ffff)), code: flowControlError },
  {
    name: "an initial window beyond 2^31 - 1",
    bytes: () => frame(settings, 0, 0, settingsPayload(4, 0x8000_0000)),
    code: flowControlError,
  },
  {
    name: "another frame within a header block",
    bytes: () => Buffer.concat([ask(1, "/hello", flag.endStream), frame(ping, 0, 0, "12345678")]),
    code: protocolError,
  },
];

/** Requests that are malformed (RFC 9113 8.1.1): the stream is reset, nothing reaches the application, the connection goes on. */
const malformed: readonly (readonly [name: string, block: Buffer])[] = [
  ["CR LF in a value", requestBlock("/hello", "GET", ["x-a", "1\r\nx-b: 2"])],
  ["LF in a value", requestBlock("/hello", "GET", ["x-a", "1\nx-b: 2"])],
  ["NUL in a value", requestBlock("/hello", "GET", ["x-a", "1\x002"])],
  ["a colon in a name", requestBlock("/hello", "GET", ["x-a: b", "c"])],
  ["a space in a name", requestBlock("/hello", "GET", ["x a", "c"])],
  ["capital letters in a name", requestBlock("/hello", "GET", ["X-A", "c"])],
  ["an empty name", requestBlock("/hello", "GET", ["", "c"])],
  ["CR LF in the path", requestBlock("/hello HTTP/1.1\r\nhost: other\r\n\r\nGET /admin")],
  ["a space in the path", requestBlock("/hello HTTP/1.1")],
  ["CR LF in the method", requestBlock("/hello", "GET / HTTP/1.1\r\n\r\nGET")],
  ["transfer-encoding", requestBlock("/hello", "GET", ["transfer-encoding", "chunked"])],
  ["connection", requestBlock("/hello", "GET", ["connection", "x-a"])],
  ["te other than trailers", requestBlock("/hello", "GET", ["te", "gzip"])],
  ["two content-lengths", requestBlock("/hello", "GET", ["content-length", "0"], ["content-length", "5"])],
  ["content-length against the frames", requestBlock("/hello", "GET", ["content-length", "5"])],
  ["a second :path", requestBlock("/hello", "GET", [":path", "/admin"])],
  ["a pseudo field after others", requestBlock("/hello", "GET", ["x-a", "b"], [":scheme", "http"])],
  ["an unknown pseudo field", Buffer.concat([field(":word", "x"), requestBlock("/hello")])],
];

describe.skipIf(!run)("hostile HTTP/2 peers", () => {
  let origin: Program<{ http1: number; http2: number }>;
  let way: Way;
  let bystander: RawHttp2;
  let asked = 1;
  let firstKiB = 0;

  beforeAll(async () => {
    origin = await startOrigin(findPeer("node") as string);
    way = await openWay({ shape: "one", origin: origin.ready.http1, manager: { request_headers_timeout: "0.5s" } });
    bystander = await RawHttp2.open(way.port);
    await unharmed();
    firstKiB = way.entry.privateKiB();
  });
  afterAll(async () => {
    bystander?.close();
    await way?.stop();
    await origin?.stop();
  });

  /** The one who was there all the time is still served, and so is somebody new. */
  async function unharmed(): Promise<void> {
    const stream = asked;
    asked += 2;
    bystander.get(stream, "/hello");
    expect(
      await eventually(
        3_000,
        async () => bystander.status(stream),
        (status) => status !== undefined,
      ),
    ).toBe(200);
    expect((await fetch(`http://127.0.0.1:${way.port}/hello`)).status).toBe(200);
    expect(bystander.goaway()).toBeUndefined();
  }

  async function counted(line: RegExp): Promise<number> {
    return Number(line.exec(await way.entry.metrics())?.[1] ?? "0");
  }
  const counterOf = (reason: string | undefined): RegExp =>
    reason === undefined
      ? /^weft_http2_connection_errors_total (\d+)/m
      : new RegExp(`^weft_http2_defence_total\\{reason="${reason}"\\} (\\d+)`, "m");

  for (const { name, bytes, code, reason } of attacks) {
    test(name, async () => {
      const before = await counted(counterOf(reason));
      const peer = await RawHttp2.open(way.port);
      peer.send(bytes());
      await eventually(5_000, async () => peer.closed, Boolean);
      expect({ closed: peer.closed, code: peer.goaway()?.code }).toEqual({ closed: true, code });
      expect(peer.goaway()?.words).not.toBe("");
      expect(await counted(counterOf(reason))).toBe(before + 1);
      await unharmed();
    });
  }

  for (const [name, block] of malformed) {
    test(`malformed: ${name}`, async () => {
      const peer = await RawHttp2.open(way.port);
      peer.send(frame(headers, whole, 1, block));
      expect(
        await eventually(
          3_000,
          async () => peer.reset(1) ?? peer.status(1),
          (seen) => seen !== undefined,
        ),
      ).toBe(protocolError);
      peer.get(3, "/hello");
      expect(
        await eventually(
          3_000,
          async () => peer.status(3),
          (status) => status !== undefined,
        ),
      ).toBe(200);
      peer.close();
    });
  }

  test("an HPACK bomb: one field of 4 000 bytes, then 12 000 references to it", async () => {
    const peer = await RawHttp2.open(way.port);
    // Indexed (0x40) under a new name, then 0xbe: the youngest entry of the dynamic table.
    const bomb = Buffer.concat([
      requestBlock("/hello"),
      Uint8Array.of(0x40),
      field("x-bomb", "b".repeat(3_900)).subarray(1),
      Buffer.alloc(12_000, 0xbe),
    ]);
    peer.send(frame(headers, whole, 1, bomb));
    const seen = await eventually(
      3_000,
      async () => peer.status(1) ?? peer.reset(1) ?? peer.goaway()?.code,
      (value) => value !== undefined,
    );
    expect([431, protocolError, enhanceYourCalm]).toContain(seen as number);
    peer.close();
    await unharmed();
  });

  const large: readonly (readonly [name: string, fields: number, size: number, status: number | undefined, goaway: number | undefined])[] =
    [
      ["a head of 120 fields is refused, and the connection goes on", 120, 10, 431, undefined],
      ["a head far above 60 KiB is not read to its end", 7, 15_300, undefined, enhanceYourCalm],
    ];
  for (const [name, fields, size, status, goaway] of large) {
    test(name, async () => {
      const peer = await RawHttp2.open(way.port);
      const block = requestBlock(
        "/hello",
        "GET",
        ...Array.from({ length: fields }, (_, n): [string, string] => [`x-${n}`, "v".repeat(size)]),
      );
      const first = block.length > 16_384 ? flag.endStream : whole;
      peer.send(frame(headers, first, 1, block.subarray(0, 16_384)));
      for (let at = 16_384; at < block.length; at += 16_384) {
        peer.send(frame(continuation, at + 16_384 >= block.length ? flag.endHeaders : 0, 1, block.subarray(at, at + 16_384)));
      }
      await eventually(
        3_000,
        async () => peer.status(1) ?? peer.goaway(),
        (seen) => seen !== undefined,
      );
      expect([peer.status(1), peer.goaway()?.code]).toEqual([status, goaway]);
      peer.close();
      await unharmed();
    });
  }

  test("a hundred answers of 4 MiB and no window for them: bounded memory", async () => {
    const peer = await RawHttp2.open(way.port, settingsPayload(4, 0));
    const before = way.entry.privateKiB();
    peer.send(times(100, (n) => ask(2 * n + 1, `/length?size=${4 * 1024 * 1024}`)));
    const answered = (): number => peer.frames.filter((one) => one.type === headers).length;
    expect(
      await eventually(
        5_000,
        async () => answered(),
        (count) => count === 100,
      ),
    ).toBe(100);
    await unharmed();
    expect(way.entry.privateKiB() - before).toBeLessThan(64 * 1024);
    expect(peer.frames.some((one) => one.type === data && one.payload.length > 0)).toBe(false);
    peer.close();
  });

  const slow: readonly (readonly [name: string, reason: string, bytes: Buffer])[] = [
    ["a preface and no SETTINGS", "slow_start", clientPreface],
    [
      "a header block that never ends",
      "slow_head",
      Buffer.concat([clientPreface, frame(settings, 0, 0), ask(1, "/hello", flag.endStream)]),
    ],
  ];
  for (const [name, reason, bytes] of slow) {
    test(`${name} is not waited for`, async () => {
      const before = await counted(counterOf(reason));
      const peer = await RawHttp2.open(way.port, null);
      peer.send(bytes);
      await eventually(5_000, async () => peer.closed, Boolean);
      expect(peer.closed).toBe(true);
      expect(await counted(counterOf(reason))).toBe(before + 1);
      await unharmed();
    });
  }

  test("after all of it the process is alive and holds little more than before", async () => {
    await unharmed();
    expect(way.entry.child.exitCode).toBe(null);
    expect(
      await eventually(
        5_000,
        async () => way.entry.privateKiB() - firstKiB,
        (more) => more < 48 * 1024,
      ),
    ).toBeLessThan(48 * 1024);
  });
});
