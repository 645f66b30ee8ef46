// The load generator of the demo: an open loop of shoppers against the storefront. It keeps its own counts and prints them as one JSON
// line every 200 ms; the story is judged by these counts alone. Lines on stdin ask for single probes: `{"id":1,"method":"GET","url":"…"}`.

const perSecond = Number(process.env.RATE ?? "60");
const target = process.env.TARGET ?? "http://web";
/** More than this many unanswered requests means that the shop is stuck; the loop then waits instead of piling up. */
const maxInFlight = 200;
const tickMs = 10;

interface Failure {
  at: number;
  startedAt: number;
  method: string;
  path: string;
  status: number;
  detail: string;
}

let sent = 0;
let ok = 0;
let failed = 0;
let inFlight = 0;
const byVersion: Record<string, number> = {};
const byRater: Record<string, number> = {};
let failures: Failure[] = [];
let latencies: number[] = [];

async function shop(method: "GET" | "POST", path: string, body?: string): Promise<void> {
  const startedAt = Date.now();
  const start = performance.now();
  sent++;
  inFlight++;
  let status = 0;
  let detail = "";
  try {
    const answer = await fetch(target + path, { method, ...(body === undefined ? {} : { body }), signal: AbortSignal.timeout(10_000) });
    status = answer.status;
    const text = await answer.text();
    if (answer.ok) {
      const page = JSON.parse(text) as { reviewsVersion?: string; ratedBy?: string };
      if (page.reviewsVersion !== undefined) byVersion[page.reviewsVersion] = (byVersion[page.reviewsVersion] ?? 0) + 1;
      if (page.ratedBy !== undefined) byRater[page.ratedBy] = (byRater[page.ratedBy] ?? 0) + 1;
    } else detail = text.slice(0, 300);
  } catch (error) {
    detail = String(error);
  }
  inFlight--;
  if (status >= 200 && status < 300) ok++;
  else {
    failed++;
    failures.push({ at: Date.now(), startedAt, method, path, status, detail });
  }
  latencies.push(performance.now() - start);
}

let turn = 0;
let due = 0;
setInterval(() => {
  due = Math.min(due + (perSecond * tickMs) / 1000, 20);
  for (; due >= 1; due--) {
    if (inFlight >= maxInFlight) return;
    turn++;
    const user = `user${turn % 7}`;
    if (turn % 10 === 3) void shop("POST", `/cart/${user}`, JSON.stringify({ sku: String(1 + (turn % 6)) }));
    else if (turn % 10 === 7) void shop("GET", `/cart/${user}`);
    else void shop("GET", `/product/${1 + (turn % 6)}`);
  }
}, tickMs);

function quantile(sorted: readonly number[], q: number): number {
  return sorted.length === 0 ? 0 : Number((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0).toFixed(2));
}

setInterval(() => {
  const sorted = latencies.sort((a, b) => a - b);
  const line = {
    type: "counts",
    at: Date.now(),
    sent,
    ok,
    failed,
    inFlight,
    byVersion,
    byRater,
    p50: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    failures,
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
  failures = [];
  latencies = [];
}, 200);

async function probe(line: string): Promise<void> {
  const { id, method, url } = JSON.parse(line) as { id: number; method: string; url: string };
  try {
    const answer = await fetch(url, { method, signal: AbortSignal.timeout(10_000) });
    const headers = Object.fromEntries(answer.headers.entries());
    process.stdout.write(
      `${JSON.stringify({ type: "probe", id, status: answer.status, headers, body: (await answer.text()).slice(0, 2000) })}\n`,
    );
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ type: "probe", id, status: 0, headers: {}, body: String(error) })}\n`);
  }
}

// The load generator is itself registered as a workload; this port is how its sidecar sees that it runs.
Bun.serve({ hostname: "127.0.0.1", port: Number(process.env.PORT), fetch: () => new Response("shopping") });

for await (const line of console) if (line.trim() !== "") void probe(line);
