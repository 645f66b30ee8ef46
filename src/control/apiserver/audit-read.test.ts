// Reading the audit log: filters, files newest first, broken lines, and following without a gap.

import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { type AuditEntry, openAuditLog } from "./audit.ts";
import { answerAudit, fits, mostFollowers, parseAuditQuery, readAudit } from "./audit-read.ts";

const dir = mkdtempSync(join(tmpdir(), "weft-audit-read-"));
afterEach(() => {
  for (const name of ["audit.log", ...[1, 2, 3, 4].map((n) => `audit.log.${n}`)]) rmSync(join(dir, name), { force: true });
});

const entry = (more: Partial<AuditEntry>): AuditEntry => ({
  user: "alice",
  verb: "create",
  code: 201,
  from: "127.0.0.1:5",
  agent: "t",
  ...more,
});
const query = (text: string) => {
  const parsed = parseAuditQuery(new URLSearchParams(text));
  if (typeof parsed === "string") throw new Error(parsed);
  return parsed;
};
const line = (more: Partial<AuditEntry> = {}) => ({ at: "2026-11-24T03:00:00.000Z", ...entry(more) });

test.each([
  ["user=alice", {}, true],
  ["user=bob", {}, false],
  ["user=bob", { actingAs: "bob" }, true],
  ["denied", {}, false],
  ["denied", { code: 403 }, true],
  ["denied", { operations: [{ verb: "delete", resource: "services", namespace: "a", name: "b", code: 409 }] }, true],
  ["resource=httproutes", { resource: "httproutes.gateway.networking.k8s.io" }, true],
  ["resource=httproutes.gateway.networking.k8s.io", { resource: "httproutes.gateway.networking.k8s.io/status" }, true],
  ["resource=httproutes/status", { resource: "httproutes.gateway.networking.k8s.io" }, false],
  ["resource=routes", { resource: "httproutes.gateway.networking.k8s.io" }, false],
  ["namespace=shop&name=a", { namespace: "shop", name: "a" }, true],
  ["namespace=shop&name=b", { namespace: "shop", name: "a" }, false],
  ["namespace=shop&verb=delete", { operations: [{ verb: "delete", resource: "services", namespace: "shop", name: "b", code: 200 }] }, true],
  ["from=127.0.0.1", {}, true],
  ["from=10.", {}, false],
  ["since=2026-11-24T03:00:00Z", {}, true],
  ["since=2026-11-24T03:00:01Z", {}, false],
] as const)("%s of %p: %p", (text, more, expected) => {
  expect(fits(line(more as Partial<AuditEntry>), query(text))).toBe(expected);
});

test("questions that are none are refused by name", () => {
  for (const [text, reason] of [
    ["users=a", /"users"/],
    ["limit=10001", /limit takes a number from 0 to 10000/],
    ["limit=x", /limit/],
    ["since=soon", /since takes a time/],
  ] as const)
    expect(parseAuditQuery(new URLSearchParams(text))).toMatch(reason);
});

test("the newest that fit come, oldest first, over several files; half a line costs itself alone", async () => {
  const audit = openAuditLog(dir, new PausedClock(), silentLogger, 1_000);
  for (let n = 0; n < 20; n++) audit.record(entry({ name: `s${n}`, user: n % 2 === 0 ? "alice" : "bob" }));
  audit.close();
  const whole = readFileSync(join(dir, "audit.log"), "utf8");
  writeFileSync(join(dir, "audit.log"), `${whole.slice(0, -20)}\n{"at":"2026\n`);
  const names = async (text: string) => (await readAudit(dir, query(text))).map(({ name }) => name);
  expect(await names("limit=3")).toEqual(["s16", "s17", "s18"]);
  expect(await names("user=bob&limit=4")).toEqual(["s11", "s13", "s15", "s17"]);
  expect((await names("limit=10000")).length).toBe(19);
  expect(await names("limit=0")).toEqual([]);
});

test("who follows gets what was and all that comes, each once, and followers are few", async () => {
  const audit = openAuditLog(dir, new PausedClock(), silentLogger);
  audit.record(entry({ name: "before" }));
  const open = async (text: string) => {
    const answer = await answerAudit(new URL(`https://x/weft/v1alpha1/audit?${text}`), dir, audit, () => {});
    return { status: answer.status, reader: (answer.body as ReadableStream<Uint8Array>).getReader() };
  };
  const { reader } = await open("follow&user=alice");
  audit.record(entry({ name: "meanwhile" }));
  let text = "";
  const until = async (word: string) => {
    while (!text.includes(word)) text += new TextDecoder().decode((await reader.read()).value);
  };
  await until("meanwhile");
  audit.record(entry({ name: "other", user: "bob" }));
  audit.record(entry({ name: "after" }));
  await until("after");
  expect([...text.matchAll(/"name":"(\w+)"/g)].map(([, name]) => name)).toEqual(["before", "meanwhile", "after"]);
  const more = [];
  for (let n = 1; n < mostFollowers; n++) more.push(await open("follow&limit=0"));
  expect(more.every(({ status }) => status === 200)).toBe(true);
  expect((await open("follow")).status).toBe(429);
  for (const each of [reader, ...more.map((one) => one.reader)]) await each.cancel();
  const again = await open("follow&limit=0");
  expect(again.status).toBe(200);
  await again.reader.cancel();
  audit.close();
});
