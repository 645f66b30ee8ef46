// Judge: the ws library on Node as client and server, and RFC 8441 by hand over Node's HTTP/2 client; a browser's rules of closing, pings and sizes.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { denyFilter } from "../support/bootstrap.ts";
import { execute } from "../support/execute.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type Program, startOrigin, startProgram } from "../support/program.ts";
import { openWay, type Shape, type Way } from "../support/way.ts";

const run = needsPeers("test/peers/websocket.test.ts", "node");
const program = `${import.meta.dir}/websocket-program.mjs`;

const ways: readonly (readonly [name: string, shape: Shape, middle: "http1" | "http2"])[] = [
  ["one", "one", "http1"],
  ["pair over HTTP/1.1", "pair", "http1"],
  ["pair over HTTP/2", "pair", "http2"],
];

const expected: readonly (readonly [string, unknown])[] = [
  ["http1 opens", "v2.chat"],
  ["http1 keeps the path", "/chat?room=1"],
  ["http1 echoes", "hé"],
  ["http1 echoes 8 MiB", true],
  ["http1 server pings", "ponged p"],
  ["http1 client pings", "hello"],
  ["http1 many messages", 2_000],
  ["http1 server closes", [4321, "as asked"]],
  ["http1 client closes", [3456, "mine"]],
  ["http1 server is gone", 1006],
  ["http1 denied", 403],
  ["http2 offers extended CONNECT", true],
  // RFC 8441 5.1: no Sec-WebSocket-Accept, Upgrade or Connection over HTTP/2.
  ["http2 opens", ["v2.chat", null, null, null]],
  ["http2 keeps the path", [1, "/chat?room=2"]],
  ["http2 echoes", [1, "hé"]],
  ["http2 echoes 4 MiB", true],
  ["http2 client pings", [10, "hello"]],
  ["http2 server closes", [8, 4321, "as asked"]],
  ["http2 stream ends", 0],
  ["http2 a request beside a tunnel", 403],
  ["http2 server is gone", "over"],
  ["http2 denied", 403],
];

describe.skipIf(!run)("WebSocket", () => {
  const node = findPeer("node") as string;
  let server: Program<{ port: number }>;
  beforeAll(async () => {
    server = await startProgram<{ port: number }>([node, program, "server"]);
  });
  afterAll(() => server?.stop());

  for (const [name, shape, middle] of ways) {
    describe(name, () => {
      let way: Way;
      let results: Map<string, unknown>;
      beforeAll(async () => {
        const manager = { upgrade_configs: [{ upgrade_type: "websocket" }] };
        way = await openWay({ shape, middle, origin: server.ready.port, manager, filters: [denyFilter("/denied")] });
        const { code, out, err } = await execute([node, "--no-warnings", program, "client", String(way.port)]);
        expect({ code, err }).toEqual({ code: 0, err: "" });
        const lines = out.trim().split("\n");
        results = new Map(lines.map((line) => JSON.parse(line) as [string, unknown]));
      });
      afterAll(() => way?.stop());

      for (const [what, outcome] of expected) test(what, () => expect(results.get(what)).toEqual(outcome));
    });
  }

  test("without upgrade_configs no tunnel opens, whatever the application answers", async () => {
    const origin = await startOrigin(node);
    const way = await openWay({ shape: "one", origin: origin.ready.http1 });
    const { out } = await execute([node, "--no-warnings", program, "client", String(way.port)]);
    await way.stop();
    await origin.stop();
    const results = new Map(
      out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as [string, unknown]),
    );
    // Over HTTP/1.1 an Upgrade may be left unheard (RFC 9110 7.8): then the answer is the application's.
    expect([200, 403]).toContain(results.get("http1 opens") as number);
    // Over HTTP/2 a 200 would say that the tunnel is open (RFC 8441 5).
    expect(Number((results.get("http2 opens") as Record<string, unknown>)[":status"])).toBeGreaterThanOrEqual(400);
  });

  test("an idle tunnel ends", async () => {
    const manager = { upgrade_configs: [{ upgrade_type: "websocket" }], stream_idle_timeout: "0.5s" };
    const way = await openWay({ shape: "one", origin: server.ready.port, manager });
    const socket = new WebSocket(`ws://127.0.0.1:${way.port}/idle`);
    const closed = await new Promise<number>((resolve) => {
      socket.onclose = () => resolve(performance.now() - opened);
      let opened = 0;
      socket.onopen = () => {
        opened = performance.now();
      };
    });
    await way.stop();
    expect(closed).toBeGreaterThan(400);
    expect(closed).toBeLessThan(5_000);
  });
});
