// A real service of known capacity (four at a time, 30 to 50 ms each: 100 a second) behind admission with no setting, under an open-loop load.
import { afterEach, expect, test } from "bun:test";
import type { AdmissionConfig } from "../../src/proxy/config.ts";
import { catchAll, cluster, endpoint, hop, type Running, start } from "../../src/proxy/testing/fixture.ts";

const program = `
let busy = 0; const line = [];
const next = () => { while (busy < 4 && line.length > 0) { busy++; const done = line.shift(); setTimeout(() => { busy--; done(); next(); }, 30 + Math.random() * 20); } };
const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Promise((resolve) => { line.push(() => resolve(new Response("ok"))); next(); }) });
console.log(server.port);`;
let child: Bun.Subprocess | null = null;
let running: Running | null = null;
afterEach(() => {
  running?.engine.close();
  child?.kill("SIGKILL");
});

const admission: AdmissionConfig = {
  concurrency: 0,
  maxConcurrency: 1_000,
  maxQueue: 0,
  targetMs: 0,
  criticalityHeader: null,
  shareBy: { kind: "nobody" },
  status: 503,
};

/** Latencies of what was answered well after `fromMs`, and how long that was. */
async function drive(port: number, perSecond: number, forMs: number, fromMs: number): Promise<{ latencies: number[]; perSecond: number }> {
  const latencies: number[] = [];
  const asked: Promise<void>[] = [];
  const began = performance.now();
  for (;;) {
    const passed = performance.now() - began;
    if (passed > forMs) break;
    while (asked.length < (passed * perSecond) / 1_000) {
      const from = performance.now();
      asked.push(
        fetch(`http://127.0.0.1:${port}/`).then(
          async (answer) => {
            await answer.text();
            const now = performance.now();
            if (answer.status === 200 && now - began > fromMs && now - began <= forMs) latencies.push(now - from);
          },
          () => {},
        ),
      );
    }
    await Bun.sleep(2);
  }
  await Promise.all(asked);
  return { latencies: latencies.sort((a, b) => a - b), perSecond: (latencies.length * 1_000) / (forMs - fromMs) };
}

const p99 = (sorted: readonly number[]) => sorted[Math.floor(sorted.length * 0.99)] as number;

test("twice the capacity: the service goes on at its capacity, and who is served is served in time", async () => {
  child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "ignore" });
  const { value } = await (child.stdout as ReadableStream<Uint8Array>).getReader().read();
  const one = cluster("c", [endpoint(Number(new TextDecoder().decode(value).trim()))]);
  running = start(hop([one], catchAll("c", { retry: null }), { stages: { admission } }, { direction: "inbound" }));
  const idle = await drive(running.port(), 30, 3_000, 500);
  const full = await drive(running.port(), 200, 8_000, 4_000);
  const told = `${full.perSecond.toFixed(0)} a second of 100, p99 ${p99(full.latencies).toFixed(0)} ms after ${p99(idle.latencies).toFixed(0)}`;
  // Room for a machine that others use too; the budget itself (90 %, twice) is judged in simulated time, test/sim/overload.test.ts.
  expect(full.perSecond, told).toBeGreaterThan(80);
  expect(p99(full.latencies), told).toBeLessThan(3 * p99(idle.latencies));
  if (process.env.WEFT_TELL !== undefined) console.log(told);
}, 30_000);
