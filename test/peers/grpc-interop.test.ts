// Judge: gRPC's own interoperability suite with grpc-go on both sides: every kind of call, deadlines, cancellation, statuses, metadata.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { freePort } from "../../demo/cast.ts";
import { execute, type Ran } from "../support/execute.ts";
import { eventually } from "../support/mesh.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { openWay, shapes, type Way } from "../support/way.ts";

const run = needsPeers("test/peers/grpc-interop.test.ts", "grpc-interop-client", "grpc-interop-server", "ghz");

/** Bugs of ours that are still open: not judged until they are closed. */
const open: readonly string[] = [];

const cases = [
  "empty_unary",
  "large_unary",
  "client_streaming",
  "server_streaming",
  "ping_pong",
  "empty_stream",
  "timeout_on_sleeping_server",
  "cancel_after_begin",
  "cancel_after_first_response",
  "status_code_and_message",
  "special_status_message",
  "custom_metadata",
  "unimplemented_method",
  "unimplemented_service",
  "rpc_soak",
  "channel_soak",
];

describe.skipIf(!run)("gRPC interoperability", () => {
  let server: Bun.Subprocess;
  let port = 0;
  const reachable = (to: number): Promise<boolean> =>
    Bun.connect({ hostname: "127.0.0.1", port: to, socket: { data() {} } }).then(
      (socket) => {
        socket.end();
        return true;
      },
      () => false,
    );

  beforeAll(async () => {
    port = await freePort();
    const argv = [findPeer("grpc-interop-server") as string, "-port", String(port)];
    server = Bun.spawn(argv, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    expect(await eventually(10_000, () => reachable(port), Boolean)).toBe(true);
  });
  afterAll(async () => {
    server?.kill("SIGKILL");
    await server?.exited;
  });

  for (const shape of shapes) {
    describe(shape, () => {
      let way: Way;
      beforeAll(async () => {
        way = await openWay({ shape, origin: port, originHttp2: true });
      });
      afterAll(() => way?.stop());

      const client = (...args: string[]): Promise<Ran> =>
        execute([findPeer("grpc-interop-client") as string, "-server_host", "127.0.0.1", "-server_port", String(way.port), ...args]);

      for (const name of cases) {
        (open.includes(name) ? test.todo : test)(name, async () => {
          const { code, err } = await client("-test_case", name, "-soak_iterations", "48", "-soak_num_threads", "4");
          expect({ code, err: code === 0 ? "" : err.slice(-1_000) }).toEqual({ code: 0, err: "" });
        });
      }

      test("2 000 calls over 4 connections, 50 at once, without an error", async () => {
        const proto = `${import.meta.dir}/go/interop.proto`;
        const load = ["-n", "2000", "-c", "50", "--connections", "4", "--insecure", "-O", "json"];
        const call = ["--proto", proto, "--call", "grpc.testing.TestService/UnaryCall", "-d", '{"response_size":1000}'];
        const { code, out } = await execute([findPeer("ghz") as string, ...load, ...call, `127.0.0.1:${way.port}`]);
        expect(code).toBe(0);
        expect((JSON.parse(out) as { statusCodeDistribution: unknown }).statusCodeDistribution).toEqual({ OK: 2000 });
      });
    });
  }
});
