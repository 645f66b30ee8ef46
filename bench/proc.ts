// Owns: the processes the bench starts: each one in a process group of its own, pinned, with its CPU time and private memory read from
// /proc for the whole group, and ended by pid. Must never signal a process it did not start.
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const TICK_MS = 10; // USER_HZ is 100 on every Linux that Debian builds

export interface CpuTime {
  readonly userMs: number;
  readonly kernelMs: number;
}

/** A started program. `name` is for messages. */
export interface Started {
  readonly name: string;
  readonly pid: number;
  /** False once the first process has ended. */
  alive(): boolean;
  /** The end of what it wrote to standard error and output. */
  output(): string;
  /** Resolves once its output holds `text`: waiting costs it nothing, unlike asking it. False: it ended, or 15 s are over. */
  untilSays(text: string): Promise<boolean>;
  /** SIGTERM to the group, SIGKILL after `graceMs` (default 2000). */
  stop(graceMs?: number): Promise<void>;
}

/** Everything one run leaves behind unless `close` is called: a temporary folder and running processes. */
export class Workshop {
  readonly dir = mkdtempSync(join(tmpdir(), "weft-bench-"));
  #started: Started[] = [];
  #serial = 0;

  /** Starts `command` as leader of a new session (so its group is its pid), pinned to `cores` (`taskset -c` syntax). */
  start(name: string, command: readonly string[], cores: string, env: Readonly<Record<string, string>> = {}): Started {
    const log = join(this.dir, `${this.#serial++}-${name}.log`);
    const file = openSync(log, "w");
    const child = Bun.spawn(["setsid", "taskset", "-c", cores, ...command], {
      stdin: "ignore",
      stdout: file,
      stderr: file,
      env: { ...process.env, ...env },
    });
    closeSync(file);
    const started: Started = {
      name,
      pid: child.pid,
      alive: () => child.exitCode === null && child.signalCode === null,
      output: () => readFileSync(log, "utf8").slice(-4000),
      untilSays: async (text) => {
        for (const giveUpAt = performance.now() + 15_000; performance.now() < giveUpAt; await Bun.sleep(1)) {
          if (readFileSync(log, "utf8").includes(text)) return true;
          if (!started.alive()) return false;
        }
        return false;
      },
      stop: async (graceMs = 2000) => {
        signalGroup(child.pid, "SIGTERM");
        const ended = await Promise.race([child.exited.then(() => true), Bun.sleep(graceMs).then(() => false)]);
        if (!ended || groupMembers(child.pid).length > 0) signalGroup(child.pid, "SIGKILL");
        await child.exited;
        this.#started = this.#started.filter((other) => other !== started);
      },
    };
    this.#started.push(started);
    return started;
  }

  /** Ends what still runs. */
  async stopAll(): Promise<void> {
    await Promise.all([...this.#started].map((one) => one.stop()));
  }

  /** Ends what still runs and removes the folder. */
  async close(): Promise<void> {
    await this.stopAll();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

function signalGroup(group: number, signal: "SIGTERM" | "SIGKILL"): void {
  try {
    process.kill(-group, signal);
  } catch {
    // ESRCH: the group has ended already, which is what was wanted.
  }
}

/** The pids of a process group. */
export function groupMembers(group: number): number[] {
  const members: number[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    const fields = statFields(pid);
    if (fields !== null && Number(fields[2]) === group && fields[0] !== "Z") members.push(pid);
  }
  return members;
}

/** utime + stime of every process in the groups. Children that ended are counted by their parent (cutime, cstime). */
export function groupCpu(groups: readonly number[]): CpuTime {
  let user = 0;
  let kernel = 0;
  for (const group of groups) {
    for (const pid of groupMembers(group)) {
      const fields = statFields(pid);
      if (fields === null) continue;
      user += Number(fields[11]) + Number(fields[13]);
      kernel += Number(fields[12]) + Number(fields[14]);
    }
  }
  return { userMs: user * TICK_MS, kernelMs: kernel * TICK_MS };
}

/**
 * What a group needed so far, exactly (schedstat, in ms): time on a core, and time it was ready to run while others had the core. The second is the
 * part of a wall-clock figure that belongs to the machine's other load.
 */
export function groupRunTime(group: number): { readonly ranMs: number; readonly waitedMs: number } {
  let ran = 0;
  let waited = 0;
  for (const pid of groupMembers(group)) {
    for (const task of tasksOf(pid)) {
      try {
        const [on, off] = readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ").map(Number);
        ran += on!;
        waited += off!;
      } catch {
        // The thread ended between the listing and the reading.
      }
    }
  }
  return { ranMs: ran / 1e6, waitedMs: waited / 1e6 };
}

function tasksOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** Private memory (RssAnon) of the groups in MB of 1024 x 1024 bytes. */
export function groupRssAnonMb(groups: readonly number[]): number {
  return groups.flatMap((group) => groupMembers(group)).reduce((sum, pid) => sum + rssAnonMb(pid), 0);
}

/** Private memory (RssAnon) of one process in MB of 1024 x 1024 bytes; 0 when it has ended. */
export function rssAnonMb(pid: number): number {
  try {
    return Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

/** /proc/PID/stat after the command name, which may hold spaces: [0] is the state, [2] the group, [11] utime, [12] stime. */
function statFields(pid: number): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return null;
  }
}
