// Owns: what COMMAND has started itself. A launcher such as npx or `sh -c` may end at a signal and leave the program behind, on the port and without
// its sidecar; so whoever is left over after COMMAND is told to end too. Linux only (/proc); elsewhere nobody is found.

import { readFileSync } from "node:fs";

/** A process, told apart from a later one with the same pid by its start time. */
export interface Relative {
  readonly pid: number;
  readonly startTime: string;
}

/** What a leftover may take to end by itself before it is killed. */
const patienceMs = 2000;

/** Everything below a process, as it is at this moment. */
export function descendants(pid: number): Relative[] {
  let children: number[];
  try {
    children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
  } catch {
    return [];
  }
  return children.flatMap((child) => {
    const startTime = startTimeOf(child);
    return startTime === undefined ? [] : [{ pid: child, startTime }, ...descendants(child)];
  });
}

/** Ends those that are still there: SIGTERM, then SIGKILL. Resolves to how many there were. */
export async function endLeftovers(relatives: readonly Relative[]): Promise<number> {
  const left = relatives.filter(isThere);
  for (const { pid } of left) signal(pid, "SIGTERM");
  const end = performance.now() + patienceMs;
  while (left.some(isThere) && performance.now() < end) await Bun.sleep(20);
  for (const one of left.filter(isThere)) signal(one.pid, "SIGKILL");
  return left.length;
}

function isThere(relative: Relative): boolean {
  return startTimeOf(relative.pid) === relative.startTime;
}

/** Field 22 of /proc/PID/stat; undefined for a process that is gone or only waits to be reaped. */
export function startTimeOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in brackets may hold anything; what follows the last one is plain.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Gone meanwhile.
  }
}
