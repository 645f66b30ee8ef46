// Judge: Node's HTTP/2 client and curl while the proxy is told to stop: what was sent is answered, GOAWAY says when to leave, the process ends.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execute } from "../support/execute.ts";
import { eventually } from "../support/mesh.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type Program, startOrigin, startProgram } from "../support/program.ts";
import { openWay, shapes } from "../support/way.ts";

const run = needsPeers("test/peers/drain.test.ts", "node", "curl");

interface Told {
  readonly answered: number;
  readonly refused: number;
  readonly lost: readonly string[];
  readonly goaways: number;
}

describe.skipIf(!run)("a proxy that is told to stop", () => {
  const node = findPeer("node") as string;
  let origin: Program<{ http1: number; http2: number }>;
  beforeAll(async () => {
    origin = await startOrigin(node);
  });
  afterAll(() => origin?.stop());

  for (const shape of shapes) {
    for (const path of ["/hello", "/slow?size=300"]) {
      test(`${shape}: loses no HTTP/2 request to ${path}`, async () => {
        const way = await openWay({ shape, origin: origin.ready.http1, drainSeconds: 10 });
        const client = await startProgram<object>([node, "--no-warnings", `${import.meta.dir}/drain-program.mjs`, String(way.port), path]);
        await Bun.sleep(400);
        way.entry.child.kill("SIGTERM");
        const told = await eventually(
          8_000,
          async () => client.lines[1],
          (line) => line !== undefined,
        );
        const { answered, lost, goaways } = JSON.parse(told ?? '{"lost":["no word"]}') as Told;
        expect({ lost, goaways: goaways >= 4 }).toEqual({ lost: [], goaways: true });
        expect(answered).toBeGreaterThanOrEqual(32);
        const status = await Promise.race([way.entry.child.exited, Bun.sleep(3_000).then(() => "still there")]);
        expect(status).toBe(0);
        await client.stop();
        await way.stop();
      });
    }

    test(`${shape}: ends a download that curl began`, async () => {
      const way = await openWay({ shape, origin: origin.ready.http1, drainSeconds: 10 });
      const url = `http://127.0.0.1:${way.port}/length?size=${6 * 1024 * 1024}`;
      const going = execute([findPeer("curl") as string, "-sS", "--http2-prior-knowledge", "--limit-rate", "4M", url]);
      await Bun.sleep(300);
      way.entry.child.kill("SIGTERM");
      const { code, bytes } = await going;
      expect({ code, size: bytes.length }).toEqual({ code: 0, size: 6 * 1024 * 1024 });

      expect(await way.entry.child.exited).toBe(0);
      await way.stop();
    });
  }
});
