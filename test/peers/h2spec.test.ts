// Judge: h2spec, a public conformance tool for HTTP/2 servers, all its cases (the strict ones too) against a listener.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execute } from "../support/execute.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type Program, startOrigin } from "../support/program.ts";
import { openWay, type Way } from "../support/way.ts";

const run = needsPeers("test/peers/h2spec.test.ts", "h2spec", "node");

/** Its parts, with the number of cases in h2spec 2.6. */
const parts: readonly [string, number][] = [
  ["generic", 44],
  ["http2", 95],
  ["hpack", 7],
];

/** What we answer otherwise than it expects, `package: case`, each with its reason. */
const known: readonly string[] = [
  // RFC 7540's tree of priorities: RFC 9113 5.3.2 took it away, 6.2 and 6.3 only name its fields, and no rule against a stream that depends on itself is left.
  "http2/5.3.1: Sends HEADERS frame that depend on itself",
  "http2/5.3.1: Sends PRIORITY frame that depend on itself",
];

describe.skipIf(!run)("h2spec", () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-h2spec-"));
  let origin: Program<{ http1: number; http2: number }>;
  let way: Way;
  beforeAll(async () => {
    origin = await startOrigin(findPeer("node") as string);
    // As HTTP/2 only: a port for both versions rightly answers a preface that is none with HTTP/1.1's 400, which h2spec takes for a frame.
    way = await openWay({ shape: "one", origin: origin.ready.http1, manager: { codec_type: "HTTP2" } });
  });
  afterAll(async () => {
    await way?.stop();
    await origin?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  for (const [part, cases] of parts) {
    test.concurrent(`${part}: ${cases} cases`, async () => {
      const report = join(dir, `${part}.xml`);
      const flags = ["-h", "127.0.0.1", "-p", String(way.port), "-P", "/hash", "-o", "2", "--strict", "-j", report];
      const { out } = await execute([findPeer("h2spec") as string, ...flags, part], { limitMs: 55_000 });
      const found = readReport(readFileSync(report, "utf8"));
      const failed = found.filter((one) => !one.passed).map((one) => one.name);
      expect(
        failed.filter((name) => !known.includes(name)),
        out.slice(-6_000),
      ).toEqual([]);
      expect(found.length).toBe(cases);
    });
  }
});

/** The cases of a JUnit report. */
function readReport(xml: string): readonly { name: string; passed: boolean }[] {
  return [...xml.matchAll(/<testcase package="([^"]*)" classname="([^"]*)"[^>]*?>(.*?)<\/testcase>/gs)].map((match) => ({
    name: `${match[1]}: ${match[2]}`,
    passed: match[3] === "",
  }));
}
