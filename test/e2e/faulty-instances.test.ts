// Real instances with real faults under an open-loop load of reads, judged by what the client counts: one that answers errors, resets, is slow, or has a
// narrow line. What dies or stops altogether stands in killed-instance.test.ts.

import { afterEach, expect, test } from "bun:test";
import type { ClusterConfig, OutlierConfig, RetryConfig } from "../../src/proxy/config.ts";
import { catchAll, cluster, endpoint, hop, type Running, start } from "../../src/proxy/testing/fixture.ts";

/** `/mood?MOOD` from outside the load: `errors`, `reset`, `slow`, `narrow`. Answers say who gave them. */
const program = `
import { createServer } from "node:http";
let mood = "well";
const large = Buffer.alloc(65536, 120);
const server = createServer((request, response) => {
  if (request.url.startsWith("/mood?")) { mood = request.url.slice(6); response.end("so be it"); return; }
  if (mood === "reset") { request.socket.resetAndDestroy(); return; }
  if (mood === "errors" && Math.random() < 0.5) { response.writeHead(500).end("no"); return; }
  if (mood === "slow") { setTimeout(() => response.end("late"), 300); return; }
  if (!request.url.startsWith("/large")) { response.end("ok"); return; }
  if (mood !== "narrow") { response.end(large); return; }
  response.writeHead(200, { "content-length": large.length });
  let at = 0;
  const line = setInterval(() => {
    response.write(large.subarray(at, at + 4096));
    at += 4096;
    if (at === large.length) { clearInterval(line); response.end(); }
  }, 50);
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));`;

const children: Bun.Subprocess[] = [];
const engines: Running[] = [];
afterEach(() => {
  for (const running of engines.splice(0)) running.engine.close();
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

async function instances(): Promise<readonly number[]> {
  const made = Array.from({ length: 3 }, async () => {
    const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "ignore" });
    children.push(child);
    const reader = (child.stdout as ReadableStream<Uint8Array>).getReader();
    const { value } = await reader.read();
    reader.releaseLock();
    return Number(new TextDecoder().decode(value).trim());
  });
  return await Promise.all(made);
}

const retry: RetryConfig = { attempts: 2, on: ["connect-failure", "reset", "refused-stream"], statusCodes: [], perTryTimeoutMs: 0 };

function proxy(ports: readonly number[], more: Partial<ClusterConfig> = {}): Running {
  const endpoints = ports.map((port) => endpoint(port));
  const running = start(hop([cluster("c", endpoints, more)], catchAll("c", { retry })));
  engines.push(running);
  return running;
}

interface Counted {
  readonly status: number;
  readonly dueMs: number;
  readonly tookMs: number;
}

/** So many reads a second, whatever becomes of them; the first instance falls ill half a second after the beginning. */
async function drive(at: Running, ill: string, perSecond: number, seconds: number, path = "/"): Promise<readonly Counted[]> {
  const counted: Counted[] = [];
  const asked: Promise<void>[] = [];
  const began = performance.now();
  const one = async (dueMs: number): Promise<void> => {
    const status = await fetch(`http://127.0.0.1:${at.port()}${path}`).then(
      async (answer) => ((await answer.arrayBuffer()).byteLength > 0 ? answer.status : 0),
      () => 0,
    );
    counted.push({ status, dueMs, tookMs: performance.now() - began - dueMs });
  };
  let well = true;
  for (let nowMs = 0; nowMs < seconds * 1_000; nowMs = performance.now() - began) {
    while (asked.length < (nowMs * perSecond) / 1_000) asked.push(one(nowMs));
    if (well && nowMs >= 500) {
      well = false;
      void fetch(ill);
    }
    await Bun.sleep(2);
  }
  await Promise.all(asked);
  return counted;
}

const failedOf = (counted: readonly Counted[]): number => counted.filter(({ status }) => status !== 200).length;
const mood = (ports: readonly number[], words: string): string => `http://127.0.0.1:${ports[0]}/mood?${words}`;

const outliers: OutlierConfig = {
  consecutive5xx: 5,
  enforce5xx: 100,
  consecutiveGateway: 0,
  enforceGateway: 0,
  splitLocal: false,
  consecutiveLocal: 5,
  enforceLocal: 100,
  intervalMs: 500,
  baseEjectionMs: 30_000,
  maxEjectionMs: 300_000,
  jitterMs: 0,
  maxEjectionPercent: 50,
  alwaysOne: true,
  successRate: null,
  failurePercentage: null,
  latency: null,
  returnMs: 10_000,
};

test("a brown-out: one of three answers half of its requests with 500; after two seconds less than 1 % fail", async () => {
  const ports = await instances();
  const at = proxy(ports, { outliers: { ...outliers, consecutive5xx: 3 } });
  const counted = await drive(at, mood(ports, "errors"), 300, 3.5);
  const late = counted.filter(({ dueMs }) => dueMs > 2_500);
  expect(late.length).toBeGreaterThan(100);
  expect(failedOf(late) / late.length).toBeLessThan(0.01);
  expect(at.count("weft_endpoint_ejections_total")).toBe(1);
}, 60_000);

test("one of three resets every connection: no read fails, and it is out", async () => {
  const ports = await instances();
  const at = proxy(ports, { outliers });
  const counted = await drive(at, mood(ports, "reset"), 300, 2);
  expect(counted.length).toBeGreaterThan(200);
  expect(failedOf(counted)).toBe(0);
  expect(at.count("weft_endpoint_ejections_total")).toBe(1);
}, 60_000);

test("one of three is slow: it is out with the second interval, and nobody waits any more", async () => {
  const ports = await instances();
  const latency = { minHosts: 3, volume: 5, factor: 3, floorMs: 50 };
  const at = proxy(ports, { outliers: { ...outliers, latency }, balance: { kind: "round_robin" } });
  const counted = await drive(at, mood(ports, "slow"), 200, 4);
  expect(failedOf(counted)).toBe(0);
  expect(at.count("weft_endpoint_ejections_total", "latency")).toBe(1);
  const waited = (fromMs: number, toMs: number): number =>
    counted.filter(({ dueMs, tookMs }) => dueMs >= fromMs && dueMs < toMs && tookMs > 250).length;
  expect(waited(500, 2_500)).toBeGreaterThan(5);
  // A machine that is busy elsewhere makes a few late too.
  const late = counted.filter(({ dueMs }) => dueMs >= 3_000).length;
  expect(waited(3_000, 4_000) / late).toBeLessThan(0.1);
}, 60_000);

test("one of three has a narrow line: nothing fails, and most is asked of the others", async () => {
  const ports = await instances();
  const at = proxy(ports, { balance: { kind: "least_request", choices: 2 } });
  const counted = await drive(at, mood(ports, "narrow"), 80, 3, "/large");
  expect(failedOf(counted)).toBe(0);
  const late = counted.filter(({ dueMs }) => dueMs > 1_500);
  // It alone takes 0.8 s for an answer; a third of all would go there if nobody minded.
  expect(late.filter(({ tookMs }) => tookMs > 600).length / late.length).toBeLessThan(0.2);
}, 60_000);
