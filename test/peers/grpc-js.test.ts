// Judge: @grpc/grpc-js on Node as client and as server: each kind of call message by message, deadlines, failures, metadata; and what a call that we
// refuse ourselves looks like to it.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { freePort } from "../../demo/cast.ts";
import { denyFilter, type JsonObject, routeTo } from "../support/bootstrap.ts";
import { execute } from "../support/execute.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type Program, startProgram } from "../support/program.ts";
import { judged } from "../support/proxy.ts";
import { openWay, shapes, type Way } from "../support/way.ts";

const run = needsPeers("test/peers/grpc-js.test.ts", "node");
const program = `${import.meta.dir}/grpc-js-program.mjs`;

/** Below a path of its own that no route takes. */
const nowhere: JsonObject = { match: { prefix: "/nowhere.Service" }, direct_response: { status: 404 } };

describe.skipIf(!run)("grpc-js", () => {
  let server: Program<{ port: number }>;
  let silent: Bun.TCPSocketListener<undefined>;
  beforeAll(async () => {
    server = await startProgram<{ port: number }>([findPeer("node") as string, program, "server"]);
    // Takes connections and never says a word.
    silent = Bun.listen<undefined>({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  });
  afterAll(async () => {
    silent?.stop(true);
    await server?.stop();
  });

  for (const shape of shapes) {
    describe(shape, () => {
      let way: Way;
      let results: Map<string, unknown>;
      beforeAll(async () => {
        way = await openWay({
          shape,
          origin: server.ready.port,
          originHttp2: true,
          filters: [denyFilter("/denied.Service")],
          routes: [
            routeTo("nobody", "/nobody.Service"),
            routeTo("silent", "/late.Service", { timeout: "0.3s" }),
            nowhere,
            routeTo("origin"),
          ],
          clusters: [
            { name: "nobody", port: await freePort(), http2: true },
            { name: "silent", port: silent.port, http2: true },
          ],
        });
        const { code, out, err } = await execute([findPeer("node") as string, program, "client", String(way.port)]);
        expect({ code, err }).toEqual({ code: 0, err: "" });
        results = new Map(
          out
            .trim()
            .split("\n")
            .map((line) => JSON.parse(line) as [string, unknown]),
        );
      });
      afterAll(() => way?.stop());

      const expected: readonly (readonly [string, unknown])[] = [
        ["unary of 0", true],
        ["unary of 1", true],
        ["unary of 100000", true],
        ["unary of 8388608", true],
        ["client streaming", true],
        ["server streaming", [300, true, 0]],
        ["message by message", true],
        ["a failure in trailers alone", [{ code: 9, details: "not ready: 50 % ünder way\n" }, ["kept"], "0001feff"]],
        ["a failure after messages", [["first", "second"], { code: 15, details: "lost the third" }]],
        ["a method that is not there", 12],
        ["the client's own deadline", 4],
        ["the server is told the deadline", true],
        ["metadata both ways", [16_000, "0900ff", "one, two", 8_000]],
        ["the server learns of a cancellation", 1],
        ["/denied.Service/Call", { code: 7, details: expect.stringMatching(/access denied/i) }],
        ["/nobody.Service/Call", { code: 14, details: expect.stringMatching(/connect|refused/i) }],
        ["/late.Service/Call", { code: judged === "weft" ? 4 : 14, details: expect.stringMatching(/time|deadline/i) }],
        ["/nowhere.Service/Call", { code: 12, details: expect.any(String) }],
        ["a stream that is denied", 7],
      ];
      for (const [what, outcome] of expected) test(what, () => expect(results.get(what)).toEqual(outcome));
    });
  }
});
