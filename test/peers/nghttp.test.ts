// Judge: nghttp2's client, load generator and server: many streams, small and large windows, padding, CONTINUATION, table sizes, early answers.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import { routeTo } from "../support/bootstrap.ts";
import { execute } from "../support/execute.ts";
import { eventually } from "../support/mesh.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type Program, startOrigin } from "../support/program.ts";
import { openWay, shapes, type Way } from "../support/way.ts";

const run = needsPeers("test/peers/nghttp.test.ts", "nghttp", "h2load", "nghttpd", "node");
const mebibyte = 1024 * 1024;

interface Load {
  readonly what: string;
  readonly requests: number;
  readonly args: readonly string[];
  readonly path: string;
  /** Bytes of body that must come back. */
  readonly bytes: number;
  readonly upload?: boolean;
}

const loads: readonly Load[] = [
  { what: "8 connections of 16 streams", requests: 3_000, args: ["-c", "8", "-m", "16"], path: "/hello", bytes: 0 },
  { what: "1 connection of 100 streams", requests: 2_000, args: ["-c", "1", "-m", "100"], path: "/hello", bytes: 0 },
  // Node's last frame is empty, and needs room all the same.
  { what: "answers as long as a first window", requests: 20, args: ["-c", "1", "-m", "4"], path: "/length?size=65535", bytes: 20 * 65_535 },
  { what: "1 MiB answers, 8 at once", requests: 60, args: ["-c", "2", "-m", "4"], path: `/length?size=${mebibyte}`, bytes: 60 * mebibyte },
  {
    what: "windows of 1 023 bytes",
    requests: 20,
    args: ["-c", "2", "-m", "4", "-w", "10", "-W", "10"],
    path: `/stream?size=${mebibyte / 16}`,
    bytes: (20 * mebibyte) / 16,
  },
  {
    what: "windows of 1 GiB",
    requests: 40,
    args: ["-c", "2", "-m", "8", "-w", "30", "-W", "30"],
    path: `/stream?size=${mebibyte}`,
    bytes: 40 * mebibyte,
  },
  { what: "1 MiB uploads, 8 at once", requests: 40, args: ["-c", "2", "-m", "4"], path: "/hash", bytes: 40 * 64, upload: true },
  { what: "1 MiB both ways, 8 at once", requests: 30, args: ["-c", "2", "-m", "4"], path: "/echo", bytes: 30 * mebibyte, upload: true },
];

/** Ways of asking that a server has to understand; each gets the same answer. */
const dialects: readonly (readonly [what: string, ...args: string[]])[] = [
  ["plainly"],
  ["with 255 bytes of padding in each frame", "--padding=255"],
  ["with a CONTINUATION frame", "--continuation"],
  ["without a header table on its side", "--header-table-size=0"],
  ["with a header table that shrinks", "--header-table-size=128", "--header-table-size=8192"],
  ["without a header table for its encoder", "--encoder-header-table-size=0"],
  ["without dependencies between streams", "--no-dep"],
  ["with dependencies between streams", "--weight=17"],
];

describe.skipIf(!run)("nghttp2", () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-nghttp-"));
  const upload = join(dir, "upload");
  let origin: Program<{ http1: number; http2: number }>;
  let nghttpd: Bun.Subprocess;
  let nghttpdPort = 0;

  beforeAll(async () => {
    writeFileSync(upload, Buffer.alloc(mebibyte, "0123456789abcdef"));
    origin = await startOrigin(findPeer("node") as string);
    nghttpdPort = await freePort();
    const args = ["--no-tls", "-a", "127.0.0.1", "-d", dir, "--max-concurrent-streams=3", "--trailer=x-end: yes", "--echo-upload"];
    nghttpd = Bun.spawn([findPeer("nghttpd") as string, ...args, String(nghttpdPort)], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    });
    const listens = async (): Promise<boolean> =>
      (await execute([findPeer("nghttp") as string, "-n", `http://127.0.0.1:${nghttpdPort}/upload`])).code === 0;
    expect(await eventually(5_000, listens, Boolean)).toBe(true);
  });
  afterAll(async () => {
    nghttpd?.kill("SIGKILL");
    await nghttpd?.exited;
    await origin?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  for (const shape of shapes) {
    for (const version of [1, 2] as const) {
      describe(`${shape}, to HTTP/${version}`, () => {
        let way: Way;
        beforeAll(async () => {
          way = await openWay({
            shape,
            origin: version === 1 ? origin.ready.http1 : origin.ready.http2,
            originHttp2: version === 2,
          });
        });
        afterAll(() => way?.stop());
        const url = (path: string): string => `http://127.0.0.1:${way.port}${path}`;

        for (const load of loads) {
          test(`h2load: ${load.what}`, async () => {
            const more = load.upload ? ["-d", upload] : [];
            const args = ["-n", String(load.requests), ...load.args, ...more, url(load.path)];
            expectAllSucceed(await execute([findPeer("h2load") as string, ...args]), load.requests, load.bytes);
          });
        }
        for (const [what, ...args] of dialects) {
          test(`nghttp asks ${what}`, async () => {
            const { code, out } = await execute([findPeer("nghttp") as string, "-H", "x-word: kept", ...args, url("/heads")]);
            expect(code).toBe(0);
            expect(out).toContain('"x-word":"kept"');
          });
        }
        test("nghttp takes an answer that comes before the end of its upload", async () => {
          const { out } = await execute([findPeer("nghttp") as string, "-v", "-d", upload, url("/early")]);
          expect(out).toContain(":status: 413");
          expect(out).toContain("too much");
        });
      });
    }

    describe(`${shape}, to nghttpd`, () => {
      let way: Way;
      beforeAll(async () => {
        // What a server refuses before its SETTINGS have come may be tried again without fear.
        const again = { retry_policy: { retry_on: "refused-stream", num_retries: 5 } };
        const cluster = { circuit_breakers: { thresholds: [{ max_retries: 1_000 }] } };
        way = await openWay({ shape, origin: nghttpdPort, originHttp2: true, routes: [routeTo("origin", "/", again)], cluster });
      });
      afterAll(() => way?.stop());

      test("40 requests at once where the server allows 3 streams a connection", async () => {
        const args = ["-n", "200", "-c", "2", "-m", "20", `http://127.0.0.1:${way.port}/upload`];
        expectAllSucceed(await execute([findPeer("h2load") as string, ...args]), 200, 200 * mebibyte);
      });
      test("uploads come back, with trailers", async () => {
        const ran = await execute([findPeer("nghttp") as string, "-v", "-d", upload, `http://127.0.0.1:${way.port}/any`]);
        expect(ran.code).toBe(0);
        expect(ran.out).toContain("x-end: yes");
        expect(ran.bytes.length).toBeGreaterThan(mebibyte);
      });
    });
  }
});

function expectAllSucceed(ran: { code: number; out: string; err: string }, requests: number, bytes: number): void {
  expect(ran.out.match(/^requests: .*$/m)?.[0]).toBe(
    `requests: ${requests} total, ${requests} started, ${requests} done, ${requests} succeeded, 0 failed, 0 errored, 0 timeout`,
  );
  expect(ran.out).toContain(`status codes: ${requests} 2xx`);
  const data = Number(/\((\d+)\) data/.exec(ran.out)?.[1]);
  expect(data).toBeGreaterThanOrEqual(bytes);
}
