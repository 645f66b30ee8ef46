// Judge: tshark reads every byte that crosses the ports of a busy sidecar, both its sides: nothing malformed, no protocol error said by either.
// Captures on the loopback, which needs root.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execute } from "../support/execute.ts";
import { eventually } from "../support/mesh.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type Program, startOrigin, startProgram } from "../support/program.ts";
import { openWay, type Way } from "../support/way.ts";

const run = needsPeers("test/peers/tshark.test.ts", "tshark", "node", "nghttp", "h2load", "curl");
if (run && process.getuid?.() !== 0) process.stderr.write("left out: test/peers/tshark.test.ts needs root to capture\n");

describe.skipIf(!run || process.getuid?.() !== 0)("tshark", () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-tshark-"));
  const capture = join(dir, "capture.pcapng");
  const node = findPeer("node") as string;
  let origin: Program<{ http1: number; http2: number }>;
  let grpc: Program<{ port: number }>;
  let ways: Way[] = [];
  let ports: number[] = [];

  beforeAll(async () => {
    origin = await startOrigin(node);
    grpc = await startProgram<{ port: number }>([node, `${import.meta.dir}/grpc-js-program.mjs`, "server"]);
    ways = [
      await openWay({ shape: "one", origin: origin.ready.http1 }),
      await openWay({ shape: "one", origin: origin.ready.http2, originHttp2: true }),
      await openWay({ shape: "one", origin: grpc.ready.port, originHttp2: true }),
    ];
    ports = [...ways.map((way) => way.port), origin.ready.http2, grpc.ready.port];
    await record(async () => {
      for (const [n, way] of ways.slice(0, 2).entries()) {
        const url = (path: string): string => `http://127.0.0.1:${way.port}${path}`;
        for (const path of ["/hello", "/trailers", "/status?size=204", "/status?size=304", "/missing", "/hints"])
          await execute([findPeer("nghttp") as string, "-n", url(path)]);
        await execute([findPeer("nghttp") as string, "--continuation", "--padding=100", "-n", url("/heads")]);
        await execute([findPeer("h2load") as string, "-n", "200", "-c", "2", "-m", "16", url("/hello")]);
        await execute([findPeer("h2load") as string, "-n", "8", "-m", "4", "-w", "12", "-W", "14", url("/stream?size=100000")]);
        await execute([findPeer("curl") as string, "-s", "--http2-prior-knowledge", "-d", "x".repeat(50_000), url("/echo")]);
        await execute([findPeer("curl") as string, "-s", "-I", "--http2-prior-knowledge", url(`/length?size=${n}`)]);
      }
      await execute([node, `${import.meta.dir}/grpc-js-program.mjs`, "client", String(ways[2]?.port)]);
    });
  }, 60_000);
  afterAll(async () => {
    for (const way of ways) await way.stop();
    await grpc?.stop();
    await origin?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  async function record(work: () => Promise<void>): Promise<void> {
    const filter = ports.map((port) => `tcp port ${port}`).join(" or ");
    // A large buffer: a packet that the capture lost would look like one that is malformed.
    const child = Bun.spawn([findPeer("tshark") as string, "-i", "lo", "-B", "256", "-f", filter, "-w", capture], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    const said: string[] = [];
    void (async () => {
      for await (const part of child.stderr) said.push(new TextDecoder().decode(part));
    })();
    await eventually(
      10_000,
      async () => said.join(""),
      (text) => text.includes("Capturing on"),
    );
    // The kernel has the filter a moment after tshark says so: until something of ours is in the file, nothing is asked.
    await eventually(
      10_000,
      async () => {
        await execute([findPeer("nghttp") as string, "-n", `http://127.0.0.1:${ports[0]}/hello`]);
        return Bun.file(capture).size;
      },
      (size) => size > 1_000,
    );
    await work();
    await Bun.sleep(500);
    child.kill("SIGINT");
    await child.exited;
    expect(said.join("")).not.toMatch(/[1-9]\d* packets? dropped/);
  }

  async function read(filter: string, ...fields: readonly string[]): Promise<readonly string[]> {
    // Our gRPC messages are bytes that no protobuf reader would like.
    const decode = [
      ...ports.flatMap((port) => ["-d", `tcp.port==${port},http2`]),
      "--disable-protocol",
      "grpc",
      "--disable-protocol",
      "protobuf",
    ];
    const show = fields.flatMap((name) => ["-e", name]);
    const argv = ["-r", capture, "-2", ...decode, "-Y", filter, "-T", "fields", "-e", "frame.number", ...show];
    const { code, out, err } = await execute([findPeer("tshark") as string, ...argv], { limitMs: 50_000 });
    expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
    return out.trim() === "" ? [] : out.trim().split("\n");
  }

  test("the capture holds what was asked for", async () => {
    expect((await read("http2.headers.path")).length).toBeGreaterThan(100);
    expect((await read('http2.header.value contains "yes"')).length).toBeGreaterThan(0);
  }, 60_000);

  test("nothing is malformed", async () => {
    expect(await read("_ws.malformed || _ws.expert.severity == error", "_ws.expert.message", "tcp.srcport")).toEqual([]);
  }, 60_000);

  test("nobody complains of us: every GOAWAY says NO_ERROR, and streams are reset for cancelled calls alone", async () => {
    expect(await read("http2.goaway.error && http2.goaway.error != 0", "http2.goaway.error", "tcp.srcport")).toEqual([]);
    // 0: enough was said; 8: cancelled.
    expect(
      await read("http2.rst_stream.error && http2.rst_stream.error != 0 && http2.rst_stream.error != 8", "http2.rst_stream.error"),
    ).toEqual([]);
  }, 60_000);
});
