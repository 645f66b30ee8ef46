// Hostile HTTP/1 peers against a whole process: heads that are read in two ways, heads and bodies that never end, heads without measure. Each is refused
// with its status, nothing of it reaches the application, and nobody else notices.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { RawPeer } from "../../src/proxy/testing/fixture.ts";
import { eventually } from "../support/mesh.ts";
import { openWay, type Way } from "../support/way.ts";

const post = "POST / HTTP/1.1\r\nHost: app.test\r\n";
const get = "GET / HTTP/1.1\r\nHost: app.test\r\n";
const inner = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";

/** What could be two requests to one reader and one to another. */
const ambiguous: readonly (readonly [name: string, bytes: string, status: number])[] = [
  ["Content-Length beside Transfer-Encoding", `${post}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${inner}`, 400],
  ["two Content-Lengths that differ", `${post}Content-Length: 0\r\nContent-Length: 44\r\n\r\n${inner}`, 400],
  ["a list of Content-Lengths", `${post}Content-Length: 0, 44\r\n\r\n${inner}`, 400],
  ["a signed Content-Length", `${post}Content-Length: +0\r\n\r\n${inner}`, 400],
  ["a hexadecimal Content-Length", `${post}Content-Length: 0x0\r\n\r\n${inner}`, 400],
  ["a space before the colon", `${post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${inner}`, 400],
  ["a folded Transfer-Encoding", `${post}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n${inner}`, 400],
  ["a bare LF between fields", `POST / HTTP/1.1\r\nHost: app.test\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${inner}`, 400],
  ["a bare CR in a value", `${get}X-A: b\rTransfer-Encoding: chunked\r\n\r\n`, 400],
  ["NUL in a value", `${get}X-A: b\0c\r\n\r\n`, 400],
  ["chunked twice", `${post}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n${inner}`, 400],
  ["a last coding that is not chunked", `${post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${inner}`, 400],
  ["a coding before chunked", `${post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n${inner}`, 501],
  ["Transfer-Encoding in HTTP/1.0", `POST / HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${inner}`, 400],
  ["a chunk size with a sign", `${post}Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n${inner}`, 400],
  ["a chunk size that overflows", `${post}Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n${inner}`, 400],
  ["a chunk line that ends in LF", `${post}Transfer-Encoding: chunked\r\n\r\n0\n\r\n${inner}`, 400],
  ["no Host", "GET / HTTP/1.1\r\n\r\n", 400],
  ["two Hosts", "GET / HTTP/1.1\r\nHost: app.test\r\nHost: other.test\r\n\r\n", 400],
  ["a Host with a path", "GET / HTTP/1.1\r\nHost: app.test/x\r\n\r\n", 400],
  ["HTTP/2.1 in a request line", "GET / HTTP/2.1\r\nHost: app.test\r\n\r\n", 505],
  ["no version at all", "GET /\r\n\r\n", 400],
  ["a TLS hello on a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400],
  ["a target of 20 000 bytes", `GET /${"a".repeat(20_000)} HTTP/1.1\r\nHost: app.test\r\n\r\n`, 414],
  ["a head of 100 KB", `${get}${Array.from({ length: 50 }, (_, n) => `X-${n}: ${"v".repeat(2_000)}\r\n`).join("")}\r\n`, 431],
  ["200 fields", `${get}${Array.from({ length: 200 }, (_, n) => `X-${n}: v\r\n`).join("")}\r\n`, 431],
];

describe("hostile HTTP/1 peers", () => {
  let way: Way;
  let bystander: RawPeer;
  let asked = 0;
  const reached: string[] = [];
  const origin = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const path = new URL(request.url).pathname;
      reached.push(path);
      await request.arrayBuffer().catch(() => {});
      return new Response("fine");
    },
  });

  beforeAll(async () => {
    const manager = { request_headers_timeout: "0.5s", stream_idle_timeout: "0.8s" };
    way = await openWay({ shape: "one", origin: origin.port as number, manager });
    bystander = await RawPeer.connect(way.port);
    await unharmed();
  });
  afterAll(async () => {
    bystander?.close();
    await way?.stop();
    await origin.stop(true);
  });

  /** The one who was there all the time is still served on its connection. */
  async function unharmed(): Promise<void> {
    asked++;
    await bystander.ask("GET /bystander HTTP/1.1\r\nHost: app.test\r\n\r\n", asked);
    expect(bystander.text.endsWith("fine")).toBe(true);
  }

  for (const [name, bytes, status] of ambiguous) {
    test(name, async () => {
      const before = reached.filter((path) => path !== "/bystander").length;
      const peer = await RawPeer.connect(way.port);
      peer.send(bytes);
      await eventually(3_000, async () => peer.ended || peer.closed, Boolean);
      const answers = peer.text.match(/^HTTP\/1\.[01] \d+/gm) ?? [];
      expect({ status: answers.map((line) => Number(line.slice(9))), ended: peer.ended }).toEqual({ status: [status], ended: true });
      peer.close();
      await unharmed();
      // A body may have begun before its framing turned out to be broken; what comes after must not become a request.
      const after = reached.filter((path) => path !== "/bystander");
      expect(after).not.toContain("/smuggled");
      if (!name.startsWith("a chunk")) expect(after.length).toBe(before);
    });
  }

  const slow: readonly (readonly [name: string, first: string, drip: string])[] = [
    ["a head by the byte", "GET / HTTP/1.1\r\nHost: app.test\r\nX-A: ", "a"],
    ["a head that stops", get, ""],
    ["a body that stops", `${post}Content-Length: 100\r\n\r\nonly this`, ""],
  ];
  for (const [name, first, drip] of slow) {
    test(`slowloris: ${name} ends in 408`, async () => {
      const peer = await RawPeer.connect(way.port);
      peer.send(first);
      await eventually(
        5_000,
        async () => {
          if (drip !== "" && !peer.ended) peer.send(drip);
          return peer.ended;
        },
        Boolean,
      );
      expect(peer.text.slice(0, 12)).toBe("HTTP/1.1 408");
      peer.close();
      await unharmed();
    });
  }

  test("500 peers that say nothing cost little and are let go", async () => {
    const before = way.entry.privateKiB();
    const peers = await Promise.all(Array.from({ length: 500 }, () => RawPeer.connect(way.port)));
    for (const peer of peers) peer.send("GET / HTTP/1.1\r\nHo");
    await unharmed();
    expect(way.entry.privateKiB() - before).toBeLessThan(16 * 1024);
    const left = await eventually(
      5_000,
      async () => peers.filter((peer) => !peer.ended).length,
      (count) => count === 0,
    );
    expect(left).toBe(0);
    for (const peer of peers) peer.close();
    await unharmed();
  });

  test("each refusal is counted by its status", async () => {
    const metrics = await way.entry.metrics();
    for (const status of [400, 408, 414, 431, 501, 505]) expect(metrics).toContain(`response_code="${status}"`);
    expect(way.entry.child.exitCode).toBe(null);
  });
});
