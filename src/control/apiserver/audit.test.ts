// The audit log on disk: whole lines, rotation with a bound, and a disk that takes nothing.

import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { type AuditEntry, auditFiles, openAuditLog } from "./audit.ts";

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
