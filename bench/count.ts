// Owns: counting what a request costs in system calls (strace -c) and, between the two sides of a pair, in TLS records. Counts are exact enough
// to compare; times under strace are not figures and are thrown away.
import type { Load } from "./load/loads.ts";
import type { RecordCounts } from "./load/relay.ts";
import type { Alive, Plan } from "./measure.ts";
import type { Found } from "./peers.ts";
import { untilAnswering } from "./probe.ts";
import { groupMembers, type Workshop } from "./proc.ts";
import { HOST, LOAD_PATH, type Subject } from "./subjects/subject.ts";

export interface CallCount {
  readonly subject: string;
  readonly load: string | null;
  readonly side: string;
  readonly unit: string;
  /** Per unit of the load, most frequent first. */
  readonly calls: Readonly<Record<string, number>>;
  readonly total: number;
}

/** Application data records per request through the middle hop, and their mean size in bytes. */
export interface RecordCount {
  readonly subject: string;
  readonly toServer: number;
  readonly toClient: number;
  readonly bytesToServer: number;
  readonly bytesToClient: number;
  readonly connections: number;
}

const COUNT_SECONDS = 2;
const RARE = 0.005; // below: housekeeping, not part of a request

/** One count for each process of the subject. Throws when strace is missing or may not attach. */
export async function countCalls(alive: Alive, load: Load, plan: Plan, strace: Found): Promise<CallCount[]> {
  if (strace.path === null) throw new Error(`--syscalls needs strace: ${strace.install}`);
  const counts: CallCount[] = [];
  for (const [i, group] of alive.groups.entries()) {
    const attach = groupMembers(group).flatMap((pid) => ["-p", String(pid)]);
    const traced = Bun.spawn([strace.path, "-c", "-f", "-q", ...attach], { stdout: "ignore", stderr: "pipe" });
    const result = await load.run(plan.driver, alive.subject, COUNT_SECONDS);
    traced.kill("SIGINT");
    const text = await new Response(traced.stderr).text();
    await traced.exited;
    const calls = readStrace(text, result.units);
    if (Object.keys(calls).length === 0) throw new Error(`strace counted nothing: ${text.trim().slice(-300)}`);
    const total = Object.values(calls).reduce((sum, count) => sum + count, 0);
    counts.push({ subject: alive.subject.name, load: load.name, side: alive.subject.proxies[i]!.side, unit: load.unit, calls, total });
  }
  return counts;
}

/** Reads the table of `strace -c`: % time, seconds, usecs/call, calls, errors, name. Exported for its test. */
export function readStrace(text: string, units: number): Record<string, number> {
  const found: [string, number][] = [];
  for (const line of text.split("\n")) {
    const fields = line.trim().split(/\s+/);
    const name = fields.at(-1)!;
    const calls = Number(fields[3]);
    if (fields.length >= 5 && name !== "total" && Number.isFinite(calls) && calls / units >= RARE) found.push([name, calls / units]);
  }
  return Object.fromEntries(found.sort((a, b) => b[1] - a[1]));
}

/** Starts a second A whose way to B leads through a counting relay, loads it and reads the counts. */
export async function countRecords(shop: Workshop, subject: Subject, load: Load, plan: Plan): Promise<RecordCount> {
  const { tap } = subject;
  if (tap === undefined || subject.middlePort === undefined) throw new Error(`${subject.name} is no pair`);
  const script = new URL("./load/relay.ts", import.meta.url).pathname;
  const relay = shop.start("relay", [process.execPath, script, String(tap.relayPort), String(subject.middlePort)], plan.driver.cores);
  const side = shop.start(`${subject.name}-tap`, tap.command, String(plan.cores.subject));
  try {
    await untilAnswering(side, { port: tap.port, host: HOST, path: LOAD_PATH }, performance.now());
    const result = await load.run(plan.driver, { ...subject, port: tap.port }, COUNT_SECONDS);
    await side.stop();
    await relay.stop();
    const line = /^RECORDS (\{.*\})$/m.exec(relay.output())?.[1];
    if (line === undefined) throw new Error(`the relay gave no counts: ${relay.output()}`);
    const counts: RecordCounts = JSON.parse(line);
    const per = (value: number): number => value / result.requests;
    return {
      subject: subject.name,
      toServer: per(counts.toServer),
      toClient: per(counts.toClient),
      bytesToServer: per(counts.bytesToServer),
      bytesToClient: per(counts.bytesToClient),
      connections: counts.connections,
    };
  } finally {
    await side.stop();
    await relay.stop();
  }
}
