// Judge: Envoy as the other sidecar of a pair, before ours and behind it, with mutual TLS and HTTP/1.1 or HTTP/2 between them.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execute } from "../support/execute.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type Program, startOrigin, startProgram } from "../support/program.ts";
import type { Subject } from "../support/proxy.ts";
import { openWay, type Way } from "../support/way.ts";

const run = needsPeers("test/peers/envoy-mixed.test.ts", "envoy", "node", "h2load", "curl");
const mebibyte = 1024 * 1024;

const pairs: readonly (readonly [outbound: Subject, inbound: Subject])[] = [
  ["envoy", "weft"],
  ["weft", "envoy"],
];

describe.skipIf(!run)("Envoy and Weft as a pair", () => {
  const node = findPeer("node") as string;
  let origin: Program<{ http1: number; http2: number }>;
  let grpc: Program<{ port: number }>;
  beforeAll(async () => {
    origin = await startOrigin(node);
    grpc = await startProgram<{ port: number }>([node, `${import.meta.dir}/grpc-js-program.mjs`, "server"]);
  });
  afterAll(async () => {
    await grpc?.stop();
    await origin?.stop();
  });

  for (const [outbound, inbound] of pairs) {
    for (const middle of ["http1", "http2"] as const) {
      describe(`${outbound} to ${inbound} over ${middle}`, () => {
        let way: Way;
        beforeAll(async () => {
          way = await openWay({ shape: "pair", outbound, inbound, middle, origin: origin.ready.http1 });
        });
        afterAll(() => way?.stop());
        const url = (path: string): string => `http://127.0.0.1:${way.port}${path}`;

        test("1 000 requests over 4 connections, 8 at once each", async () => {
          const { out } = await execute([findPeer("h2load") as string, "-n", "1000", "-c", "4", "-m", "8", url("/hello")]);
          expect(out).toContain("1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout");
        });
        test("20 answers of 1 MiB", async () => {
          const { out } = await execute([findPeer("h2load") as string, "-n", "20", "-c", "2", "-m", "4", url(`/length?size=${mebibyte}`)]);
          expect(out).toContain("20 done, 20 succeeded, 0 failed, 0 errored, 0 timeout");
          expect(Number(/\((\d+)\) data/.exec(out)?.[1])).toBe(20 * mebibyte);
        });
        test("1 MiB there and back over HTTP/1.1", async () => {
          const body = Buffer.alloc(mebibyte, "there and back ");
          const { code, bytes } = await execute([findPeer("curl") as string, "-sS", "--data-binary", "@-", url("/echo")], { stdin: body });
          expect({ code, same: Buffer.from(bytes).equals(body) }).toEqual({ code: 0, same: true });
        });
      });
    }

    test(`${outbound} to ${inbound}: every kind of gRPC call`, async () => {
      const way = await openWay({ shape: "pair", outbound, inbound, origin: grpc.ready.port, originHttp2: true });
      const { code, out, err } = await execute([node, `${import.meta.dir}/grpc-js-program.mjs`, "client", String(way.port)]);
      await way.stop();
      expect({ code, err }).toEqual({ code: 0, err: "" });
      const results = new Map(
        out
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line) as [string, unknown]),
      );
      expect(results.get("unary of 8388608")).toBe(true);
      expect(results.get("client streaming")).toBe(true);
      expect(results.get("server streaming")).toEqual([300, true, 0]);
      expect(results.get("message by message")).toBe(true);
      expect(results.get("a failure after messages")).toEqual([["first", "second"], { code: 15, details: "lost the third" }]);
      expect(results.get("metadata both ways")).toEqual([16_000, "0900ff", "one, two", 8_000]);
      expect(results.get("the server learns of a cancellation")).toBe(1);
    });
  }
});
