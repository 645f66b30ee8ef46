// The demo: `npm run demo` brings up a mesh of real processes on this machine and plays a story; `-- --seconds 30 --check` plays it
// without a terminal and exits 1 with the step that failed. Flags: --seconds N (length of the story and of what follows), --check.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cast, freePort, manifest, shop } from "./cast.ts";
import { type Instance, Processes, type Workload } from "./processes.ts";
import { Shopper } from "./shopper-client.ts";
import { type Stage, story } from "./story.ts";
import { drawEdges, readEdges } from "./table.ts";

const { values: flags } = parseArgs({ options: { seconds: { type: "string" }, check: { type: "boolean", default: false } }, strict: true });
const seconds = flags.seconds === undefined ? undefined : Number(flags.seconds);
if (seconds !== undefined && !(seconds >= 10 && seconds <= 3600)) {
  process.stderr.write(`--seconds takes a number from 10 to 3600, not ${JSON.stringify(flags.seconds)}\n`);
  process.exit(2);
}
const onTerminal = process.stdout.isTTY === true && !flags.check;
const started = performance.now();
const dataDir = mkdtempSync(join(tmpdir(), "weft-demo-"));
const processes = new Processes(dataDir);
let tableLines = 0;
let table: readonly string[] = [];

/** Prints above the live table. */
function say(line: string): void {
  clearTable();
  process.stdout.write(`${line}\n`);
  drawTable();
}

function clearTable(): void {
  if (tableLines > 0) process.stdout.write(`\u001b[${tableLines}A\u001b[0J`);
  tableLines = 0;
}

function drawTable(): void {
  if (table.length === 0) return;
  process.stdout.write(`\n${table.join("\n")}\n`);
  tableLines = table.length + 1;
}

async function showTable(): Promise<void> {
  table = drawEdges(await readEdges(processes.dashboardUrl));
  clearTable();
  drawTable();
}

async function play(): Promise<void> {
  await processes.startControlPlane(["--api-port", "0", "--xds-port", "0", "--dashboard-port", "0"]);
  say(`dashboard: ${processes.dashboardUrl}`);
  say(`to look around in another terminal: export WEFT_DATA=${dataDir}; weft status; weft top; weft get httproutes -n shop`);
  const applied = await processes.weft(["apply", "-f", manifest]);
  if (applied.code !== 0) throw new Error(`weft apply -f demo/mesh.yaml: ${applied.err || applied.out}`);

  const workloads = new Map<string, Workload>();
  for (const instance of await cast(dataDir)) workloads.set(instance.name, processes.startInstance(instance));
  interface Conditions {
    items: { status?: { conditions?: { type: string; status: string }[] } }[];
  }
  await processes.waitFor("all instances of the shop are registered", 30_000, async () => {
    for (const workload of workloads.values()) {
      if (workload.child.exitCode !== null)
        throw new Error(`${workload.name} ended with status ${workload.child.exitCode}:\n${workload.words.join("\n")}`);
    }
    const { items } = await processes.weftJson<Conditions>(["get", "workloadentries", "-n", "shop"]);
    return (
      items.filter((item) => item.status?.conditions?.some((c) => c.type === "Healthy" && c.status === "True")).length === workloads.size
    );
  });
  const rate = { RATE: "100" };
  const client = processes.startInstance({
    service: "shopper",
    name: "shopper",
    port: await freePort(),
    command: shop("shopper.ts"),
    env: rate,
  });
  workloads.set("shopper", client);
  const shopper = new Shopper(client);
  await processes.waitFor(`the first good answer (last words: ${client.words.slice(-3).join(" | ")})`, 20_000, () => shopper.counts.ok > 0);
  say(`first traffic after ${((performance.now() - started) / 1000).toFixed(1)} s; ${workloads.size} instances, each with its own sidecar`);

  const ports = new Map<string, number>();
  const stage: Stage = {
    processes,
    shopper,
    workloads,
    pace: seconds === undefined ? 1 : Math.min(4, Math.max(0.5, (seconds - 8) / 20)),
    say,
    startInstance(name, service) {
      const instance: Instance = { service, name, port: ports.get(name) ?? 0, command: shop(`${service}.ts`) };
      return processes.startInstance(instance);
    },
  };
  ports.set("ratings-c", await freePort());

  const drawing = onTerminal ? setInterval(() => void showTable(), 1000) : undefined;
  let number = 0;
  for (const step of story) {
    number++;
    say(`step ${number}/${story.length}: ${step.title}`);
    try {
      say(`  ok: ${await step.run(stage)}`);
    } catch (error) {
      clearInterval(drawing);
      table = [];
      throw new Error(`step ${number} (${step.title}) failed: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const counts = await shopper.fresh();
  say(
    `the story holds: ${counts.ok} good answers, ${counts.failed} failed, p50 ${counts.p50} ms, p99 ${counts.p99} ms, by the client's own count`,
  );
  if (!onTerminal) for (const line of drawEdges(await readEdges(processes.dashboardUrl))) say(`  ${line}`);
  if (flags.check) return;
  if (onTerminal && seconds === undefined) say("traffic goes on until you press Ctrl-C");
  const left = seconds === undefined ? (onTerminal ? Number.POSITIVE_INFINITY : 0) : seconds * 1000 - (performance.now() - started);
  await Promise.race([stopAsked, left === Number.POSITIVE_INFINITY ? new Promise<never>(() => {}) : Bun.sleep(Math.max(0, left))]);
  clearInterval(drawing);
  table = [];
}

const { promise: stopAsked, resolve: askToStop } = Promise.withResolvers<void>();
let interrupted = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    interrupted = true;
    askToStop();
  });
}

let status = 0;
try {
  await Promise.race([play(), stopAsked]);
} catch (error) {
  status = interrupted ? 0 : 1;
  if (!interrupted) {
    clearTable();
    process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
  }
} finally {
  table = [];
  say("stopping everything that was started");
  await processes.stopAll();
  rmSync(dataDir, { recursive: true, force: true });
}
process.exit(status);
