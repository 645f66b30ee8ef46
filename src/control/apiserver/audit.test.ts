// The audit log on disk: whole lines, rotation with a bound, and a disk that takes nothing.

import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kinds } from "../../api/kinds.ts";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { type AuditEntry, auditFiles, openAuditLog } from "./audit.ts";
import { makeTestServer } from "./testing.ts";

const dir = mkdtempSync(join(tmpdir(), "weft-audit-"));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const entry = (name: string): AuditEntry => ({ user: "alice", verb: "create", resource: "services", name, code: 201, from: "", agent: "" });

test("lines are whole, files are few, and a log that cannot be written is said once", () => {
  const audit = openAuditLog(dir, new PausedClock(), silentLogger, 1_000);
  for (let at = 0; at < 200; at++) audit.record(entry(`s${at}`));
  audit.close();
  const files = readdirSync(dir).filter((name) => name.startsWith("audit.log"));
  expect(files).toHaveLength(auditFiles);
  for (const name of files) {
    expect(statSync(join(dir, name)).size).toBeLessThanOrEqual(1_000);
    for (const line of readFileSync(join(dir, name), "utf8").trim().split("\n")) expect(JSON.parse(line)).toMatchObject({ user: "alice" });
  }
  expect(readFileSync(join(dir, "audit.log"), "utf8")).toContain('"s199"');

  const said: string[] = [];
  const log = { ...silentLogger, error: (_fields: unknown, message: string) => void said.push(message) };
  const broken = openAuditLog(join(dir, "missing"), new PausedClock(), log);
  broken.record(entry("a"));
  broken.record(entry("b"));
  expect(said).toHaveLength(1);
});

test("renewals of a Lease do not fill the log; who makes and deletes one is in it", async () => {
  const seen: string[] = [];
  const server = makeTestServer({
    kinds,
    audit: { record: ({ verb, name, code }) => void seen.push(`${verb} ${name} ${code}`) },
  });
  const path = "/apis/coordination.k8s.io/v1/namespaces/shop/leases";
  const lease = (metadata: object, holder: string) => ({
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: { name: "leader", ...metadata },
    spec: { holderIdentity: holder, leaseDurationSeconds: 15, renewTime: "2026-01-01T00:00:00.000001Z" },
  });
  const made = (await (await server.ask("POST", path, lease({}, "one"))).json()) as { metadata: { resourceVersion: string } };
  const { resourceVersion } = made.metadata;
  expect((await server.ask("PUT", `${path}/leader`, lease({ resourceVersion }, "two"))).status).toBe(200);
  // Who was too late.
  expect((await server.ask("PUT", `${path}/leader`, lease({ resourceVersion }, "three"))).status).toBe(409);
  expect((await server.ask("PUT", `${path}/leader`, { ...lease({}, "four"), spec: { leaseDurationSeconds: 0 } })).status).toBe(422);
  expect((await server.ask("DELETE", `${path}/leader`)).status).toBe(200);
  expect(seen).toEqual(["create leader 201", "update leader 422", "delete leader 200"]);
});
