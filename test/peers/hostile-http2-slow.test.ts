// HTTP/2 peers that are slow, silent or half dead, against a whole process: each costs bounded memory and its time ends, and nobody else is harmed.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { eventually } from "../support/mesh.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type Program, startOrigin } from "../support/program.ts";
import { field, flag, frame, frameType, RawHttp2, requestBlock, uint32 } from "../support/raw-http2.ts";
import { openWay, type Way } from "../support/way.ts";

const run = needsPeers("test/peers/hostile-http2-slow.test.ts", "node");

const { data, headers, settings, ping, windowUpdate } = frameType;
const enhanceYourCalm = 11;
const settingsTimeout = 4;
const mebibyte = 1024 * 1024;
const whole = flag.endStream | flag.endHeaders;
const setting = (id: number, value: number): Buffer => Buffer.concat([Uint8Array.of(0, id), uint32(value)]);
const initialWindow = (size: number): Buffer => setting(4, size);
const ask = (stream: number, path: string): Buffer => frame(headers, whole, stream, requestBlock(path));
const seen = (value: unknown): boolean => value !== undefined;

/** What the kernel still holds for the clients of a port. */
function unsent(port: number): number {
  const own = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return readFileSync("/proc/net/tcp", "latin1")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local]) => local?.endsWith(own))
    .reduce((sum, fields) => sum + Number.parseInt(fields[4] as string, 16), 0);
}

/** An HTTP/1.1 application that opens a WebSocket for whoever asks and then pours bytes into it, as fast as they are taken. */
function startPouring(): { readonly port: number; readonly open: () => number; stop(): void } {
  const piece = Buffer.alloc(65_536, 0x81);
  let open = 0;
  const pour = (socket: Bun.Socket<undefined>): void => {
    while (socket.write(piece) === piece.length);
  };
  const server = Bun.listen<undefined>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: () => void open++,
      close: () => void open--,
      data(socket) {
        socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n");
        pour(socket);
      },
      drain: pour,
      error() {},
    },
  });
  return { port: server.port, open: () => open, stop: () => server.stop(true) };
}

for (const version of [1, 2] as const) {
  describe.skipIf(!run)(`slow HTTP/2 peers, an application over HTTP/${version}`, () => {
    let origin: Program<{ http1: number; http2: number }>;
    let way: Way;

    beforeAll(async () => {
      origin = await startOrigin(findPeer("node") as string);
      const thresholds = [{ max_connections: 2_000, max_requests: 2_000, max_pending_requests: 2_000 }];
      way = await openWay({
        shape: "one",
        origin: version === 1 ? origin.ready.http1 : origin.ready.http2,
        originHttp2: version === 2,
        cluster: { circuit_breakers: { thresholds } },
      });
      await unharmed();
    });
    afterAll(async () => {
      await way?.stop();
      await origin?.stop();
    });

    async function unharmed(): Promise<void> {
      expect((await fetch(`http://127.0.0.1:${way.port}/hello`)).status).toBe(200);
    }
    async function defended(reason: string): Promise<number> {
      const line = new RegExp(`^weft_http2_defence_total\\{reason="${reason}"\\} (\\d+)`, "m");
      return Number(line.exec(await way.entry.metrics())?.[1] ?? "0");
    }

    test("1 000 readers of 16 MiB on ten connections, who take 64 KiB each and then nothing", async () => {
      const before = way.entry.privateKiB();
      const peers = await Promise.all(Array.from({ length: 10 }, () => RawHttp2.open(way.port, initialWindow(65_535))));
      const got = (peer: RawHttp2): number => peer.frames.reduce((sum, one) => sum + (one.type === data ? one.payload.length : 0), 0);
      const all = 100 * 65_535;
      // One connection after the other, so that the application is not asked for more connections at once than it has room for.
      for (const peer of peers) {
        // The connection's window does not stand in the way of any stream.
        peer.send(frame(windowUpdate, 0, 0, uint32(100 * 65_536)));
        for (let n = 0; n < 100; n++) peer.send(ask(2 * n + 1, `/stream?size=${16 * mebibyte}`));
        expect(
          await eventually(
            20_000,
            async () => got(peer),
            (sum) => sum === all,
          ),
        ).toBe(all);
      }
      // Nothing may go on growing behind them.
      const full = way.entry.privateKiB();
      await unharmed();
      expect(full - before).toBeLessThan(256 * 1024);
      await Bun.sleep(300);
      expect(way.entry.privateKiB() - full).toBeLessThan(16 * 1024);
      for (const peer of peers) peer.close();
      await unharmed();
    }, 60_000);

    test("a window opened byte by byte", async () => {
      const count = await defended("tiny_window");
      const before = way.entry.privateKiB();
      const peer = await RawHttp2.open(way.port, initialWindow(1));
      peer.send(ask(1, `/length?size=${mebibyte}`));
      expect(await eventually(3_000, async () => peer.frames.find((one) => one.type === data)?.payload.length, seen)).toBe(1);
      // Each byte is paid for with 13; nobody who wants the answer does so.
      for (let n = 0; n < 1_500; n++) peer.send(frame(windowUpdate, 0, 1, uint32(1)));
      await eventually(5_000, async () => peer.closed, Boolean);
      expect([peer.closed, peer.goaway()?.code]).toEqual([true, enhanceYourCalm]);
      expect(await defended("tiny_window")).toBe(count + 1);
      expect(way.entry.privateKiB() - before).toBeLessThan(16 * 1024);
      await unharmed();
    }, 20_000);

    test("a peer that never reads and goes on asking for answers to its PINGs and SETTINGS", async () => {
      const count = await defended("control_backlog");
      const before = way.entry.privateKiB();
      const peer = await RawHttp2.open(way.port, initialWindow(64 * mebibyte));
      peer.send(frame(windowUpdate, 0, 0, uint32(64 * mebibyte)));
      peer.pauseReading();
      // First its socket is full, so that answers must wait; then fewer frames of either kind than are a flood.
      for (let n = 0; n < 4; n++) peer.send(ask(2 * n + 1, `/length?size=${16 * mebibyte}`));
      let last = 0;
      const settled = (size: number): boolean => {
        const same = size > 0 && size === last;
        last = size;
        return same;
      };
      expect(await eventually(5_000, async () => unsent(way.port), settled)).toBeGreaterThan(0);
      for (let n = 0; n < 990; n++) peer.send(frame(ping, 0, 0, "12345678"));
      for (let n = 0; n < 90; n++) peer.send(frame(settings, 0, 0));
      expect(
        await eventually(
          5_000,
          () => defended("control_backlog"),
          (now) => now > count,
        ),
      ).toBe(count + 1);
      expect(way.entry.privateKiB() - before).toBeLessThan(48 * 1024);
      await unharmed();
      peer.close();
    }, 20_000);
  });
}

describe.skipIf(!run)("HTTP/2 peers that are half dead", () => {
  test("SETTINGS that are never acknowledged end the connection after ten seconds", async () => {
    const origin = await startOrigin(findPeer("node") as string);
    const way = await openWay({ shape: "one", origin: origin.ready.http1 });
    const before = way.entry.privateKiB();
    const peer = await RawHttp2.open(way.port, null);
    const began = performance.now();
    peer.send(Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(settings, 0, 0), ask(1, "/hello")]));
    expect(await eventually(3_000, async () => peer.status(1), seen)).toBe(200);
    await eventually(15_000, async () => peer.closed, Boolean);
    expect([peer.closed, peer.goaway()?.code]).toEqual([true, settingsTimeout]);
    expect(performance.now() - began).toBeGreaterThan(9_000);
    expect(await way.entry.metrics()).toMatch(/^weft_http2_defence_total\{reason="settings_ack"\} 1$/m);
    expect(way.entry.privateKiB() - before).toBeLessThan(16 * 1024);
    await way.stop();
    await origin.stop();
  }, 25_000);

  test("a WebSocket whose client is gone without a word: bounded while it lasts, and over when idle, or when a PING is not answered", async () => {
    const pouring = startPouring();
    const upgrade = { upgrade_configs: [{ upgrade_type: "websocket" }] };
    const ways = [
      { manager: { ...upgrade, stream_idle_timeout: "1s" }, reason: undefined },
      { manager: { ...upgrade, http2_protocol_options: { connection_keepalive: { interval: "1s", timeout: "1s" } } }, reason: "keepalive" },
    ];
    for (const { manager, reason } of ways) {
      const way = await openWay({ shape: "one", origin: pouring.port, manager });
      const before = way.entry.privateKiB();
      const peer = await RawHttp2.open(way.port);
      const block = Buffer.concat([requestBlock("/chat", "CONNECT"), field("sec-websocket-version", "13")]);
      // :protocol has to stand among the pseudo fields.
      peer.send(frame(headers, flag.endHeaders, 1, Buffer.concat([field(":protocol", "websocket"), block])));
      expect(await eventually(3_000, async () => peer.status(1), seen)).toBe(200);
      expect(pouring.open()).toBe(1);
      // Half dead: its socket is open, and nobody reads or answers.
      peer.pauseReading();
      expect(
        await eventually(
          10_000,
          async () => pouring.open(),
          (open) => open === 0,
        ),
      ).toBe(0);
      expect(way.entry.privateKiB() - before).toBeLessThan(24 * 1024);
      if (reason !== undefined) expect(await way.entry.metrics()).toContain(`weft_http2_defence_total{reason="${reason}"} 1`);
      peer.close();
      await way.stop();
    }
    pouring.stop();
  }, 30_000);
});
