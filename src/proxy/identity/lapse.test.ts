// The end of a certificate that nobody renews: told before, never used after, and mended by a renewal or a clock that is set right.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import { createTestAuthority, type TestAuthority } from "../xds/testing.ts";
import { createKeyAndRequest } from "./csr.ts";
import { Identity, type WhenUnrenewed } from "./identity.ts";
import { KeyPair } from "./key-pair.ts";

const uri = "spiffe://cluster.local/ns/shop/sa/cart";
const dayMs = 24 * 3600 * 1000;
let authority: TestAuthority;
let certificate: KeyPair;
let beganMs = 0;
beforeAll(async () => {
  authority = createTestAuthority();
  const key = await createKeyAndRequest(uri);
  beganMs = Date.now();
  certificate = new KeyPair(authority.signRequest(key.csrPem, 1), key.privateKeyPem());
});
afterAll(() => authority.close());

function restored(whenUnrenewed: WhenUnrenewed, afterMs = 0) {
  const clock = new PausedClock(beganMs + afterMs);
  const said: string[] = [];
  const problems: unknown[] = [];
  const line = (level: string) => (fields: object, text: string) => {
    said.push(`${level}: ${text}`);
    if ("problem" in fields) problems.push(fields.problem);
  };
  const log = { debug() {}, info() {}, warn: line("warn"), error: line("error") } as unknown as Logger;
  let changes = 0;
  const metrics = new MetricRegistry();
  const changed = (): void => void changes++;
  const identity = new Identity({ clock, log, random: () => 0.5, metrics, uri, changed, whenUnrenewed });
  const problem = identity.restore({ certificate, rootsPem: authority.caPem });
  return { clock, identity, said, problems, problem, changes: () => changes };
}

describe("a life of a day without a control plane", () => {
  for (const stance of ["keep", "close"] as const) {
    test(stance, () => {
      const { clock, identity, said, problem, changes } = restored(stance);
      expect(problem).toBeUndefined();
      expect(identity.certificate("default")?.certificatePem).toBe(certificate.certificatePem);
      expect(identity.waitingFor()).toEqual([]);
      clock.advance(dayMs * 0.7);
      expect(said).toEqual([]);
      clock.advance(dayMs * 0.1);
      expect(said).toEqual(["warn: The certificate nears its end and nobody has renewed it."]);
      clock.advance(dayMs * 0.15);
      expect(said.slice(1)).toEqual(["error: The certificate nears its end and nobody has renewed it."]);
      const generation = identity.generation;
      expect([identity.lapsed("default"), identity.closed, changes()]).toEqual([undefined, false, 0]);
      clock.advance(dayMs * 0.05 + 2_000);
      expect(identity.certificate("default")).toBeUndefined();
      expect(identity.current()).toBeUndefined();
      expect(identity.lapsed("default")).toMatch(/^the certificate of this proxy expired on .* and has not been renewed$/);
      expect([identity.generation, changes(), identity.closed]).toEqual([generation + 1, 1, stance === "close"]);
      expect(identity.waitingFor().length).toBe(stance === "close" ? 1 : 0);
      expect(said[2]).toContain(stance === "close" ? "every listener is closed" : "no new handshakes");
      clock.advance(3 * 3_600_000);
      expect(said.length).toBe(5);
      identity.stop();
      clock.advance(dayMs);
      expect(said.length).toBe(5);
    });
  }
});

test("an alarm comes when it is due and not up to a minute later, and says that there is nobody to renew", () => {
  // Looked at in the middle of each minute, as a certificate of minutes would be gone before it is told of.
  const { clock, identity, said, problems } = restored("keep", 30_000);
  clock.advance(dayMs * 0.75 - 30_000 + 5_000);
  expect(said).toEqual(["warn: The certificate nears its end and nobody has renewed it."]);
  clock.advance(dayMs * 0.15);
  expect(said[1]).toBe("error: The certificate nears its end and nobody has renewed it.");
  expect(problems).toEqual(["no control plane answers", "no control plane answers"]);
  identity.stop();
});

test("a clock that was set forward and then right: not used in between, used again within a minute", () => {
  const { clock, identity, changes } = restored("close");
  let offMs = 0;
  const now = clock.now.bind(clock);
  clock.now = () => now() + offMs;
  offMs = 2 * dayMs;
  clock.advance(60_000);
  expect([identity.closed, identity.certificate("default"), changes()]).toEqual([true, undefined, 1]);
  offMs = 0;
  clock.advance(60_000);
  expect([identity.closed, identity.certificate("default")?.certificatePem, changes()]).toEqual([false, certificate.certificatePem, 2]);
  // Years back, as a machine without a battery: what was issued serves; peers judge by their own clocks.
  offMs = -1000 * dayMs;
  clock.advance(60_000);
  expect([identity.closed, identity.certificate("default") === undefined, changes()]).toEqual([false, false, 2]);
  identity.stop();
});

test("what is another's, or no certificate, is not taken up", () => {
  const { identity } = restored("keep");
  identity.forget();
  expect([identity.certificate("default"), identity.kept()]).toEqual([undefined, null]);
  expect(identity.restore({ certificate: new KeyPair("nothing", "k"), rootsPem: authority.caPem })).toBe(
    "it holds no certificate, or no root",
  );
  const { cert, key } = authority.issue("URI:spiffe://cluster.local/ns/shop/sa/other");
  expect(identity.restore({ certificate: new KeyPair(cert, key), rootsPem: authority.caPem })).toBe(
    `its certificate is for spiffe://cluster.local/ns/shop/sa/other instead of ${uri}`,
  );
  expect(identity.kept()).toBeNull();
  identity.stop();
});
