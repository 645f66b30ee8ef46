// Owns: what the bench asks of the machine: which cores the subject and everything else are pinned to, free ports, and how busy a
// core was with others' work. Linux only (/proc, taskset). Must never start or end a subject (proc.ts does).
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { cpus, release } from "node:os";

/** The proxy under test has one core to itself; load generator, origin and the bench share the rest. */
export interface Cores {
  readonly subject: number;
  /** As `taskset -c` takes it. */
  readonly others: string;
}

/** Reads the allowed cores of this process. Throws when there are fewer than two: then nothing can be told apart. */
export function pickCores(): Cores {
  const status = readFileSync("/proc/self/status", "utf8");
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? "0";
  const all: number[] = [];
  for (const part of list.split(",")) {
    const [from, to] = part.split("-").map(Number);
    for (let core = from!; core <= (to ?? from!); core++) all.push(core);
  }
  if (all.length < 2)
    throw new Error(
      `the bench needs two cores, this process may use ${all.length} (${list}): start it with more, for example \`taskset -c 0,1\``,
    );
  return { subject: all[0]!, others: all.slice(1).join(",") };
}

/** Pins a running process, all its threads included. */
export function pin(pid: number, coreList: string): void {
  Bun.spawnSync(["taskset", "-a", "-c", "-p", coreList, String(pid)], { stdout: "ignore", stderr: "ignore" });
}

/** Busy time of one core since boot, in clock ticks of 10 ms. */
export function coreBusyTicks(core: number): number {
  const line = new RegExp(`^cpu${core} (.*)$`, "m").exec(readFileSync("/proc/stat", "utf8"))?.[1];
  if (line === undefined) return 0;
  const [user, nice, system, , , irq, softirq, steal] = line.split(" ").map(Number);
  return user! + nice! + system! + irq! + softirq! + steal!;
}

/** `count` ports of 127.0.0.1 that were free a moment ago; held together while asked, so they differ. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
          const server = createServer();
          server.once("error", reject);
          server.listen(0, "127.0.0.1", () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port was assigned");
    return address.port;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** What the figures were taken on, for the report. */
export function describeMachine(): { cpu: string; cores: number; kernel: string; bun: string } {
  const all = cpus();
  return { cpu: all[0]?.model ?? "unknown", cores: all.length, kernel: release(), bun: Bun.version };
}
