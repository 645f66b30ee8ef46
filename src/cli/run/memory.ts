// Owns: what one run of `weft run` leaves for the next of the same instance, so that it can start while the control plane is away: the name and ports
// it had, what it was told of the mesh, and the folder of its sidecar's snapshot. Private to the user. Never decides whether to use it.

import {
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { startTimeOf } from "./family.ts";
import type { Template } from "./group.ts";
import type { Lock } from "./guard.ts";
import type { ChosenPort } from "./objects.ts";
import { type Ports, privateRoot } from "./place.ts";
import type { Plan } from "./plan.ts";

/** Raised when the meaning of a field changes; another one is not used. */
const formatVersion = 1;
/** Instances of one service with the same flags on one machine: those that only call others, as a port is one instance's. */
const mostSlots = 64;
/** What no run has touched for this long is removed: its certificate has long expired. */
const forgetMs = 30 * 24 * 3600 * 1000;

export interface Remembered {
  /** Of the WorkloadEntry. */
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly ports: Ports;
  readonly chosen: ChosenPort | undefined;
  readonly trustDomain: string;
  readonly xdsAddress: string;
  readonly caBundle: string;
  /** What the WorkloadGroup said. */
  readonly template?: Template | undefined;
  /** What ProxyConfigs said. */
  readonly workers?: string | undefined;
}

export interface Memory {
  /** For the sidecar's `--snapshot`. */
  readonly snapshot: string;
  /** Of the last run; undefined when there was none, or it left no snapshot. */
  readonly last: Remembered | undefined;
  /** A start with another name: what was kept is another's. */
  forget(): void;
  keep(now: Remembered): void;
  /** Tells this run's hold on it from a later one's. */
  readonly lock: Lock;
  /** Another run may have it. */
  leave(): void;
}

/** Who the instance is: what of flags and control plane must be the same for what was kept to fit. */
export function instanceKey(plan: Plan, namespace: string, serviceAccount: string, server: string): string {
  const { service, version, port, protocol, servicePort, address, upstreamsText, usesText, group } = plan;
  const more = [...(usesText === "" ? [] : [usesText]), ...(group === undefined ? [] : [`group ${group}`])];
  const flags = [service, version, port, protocol, servicePort, address, upstreamsText, ...more];
  const text = JSON.stringify([server, namespace, serviceAccount, ...flags]);
  return `${service}.${namespace}-${new Bun.CryptoHasher("sha256").update(text).digest("hex").slice(0, 16)}`;
}

/** Takes the first free place of this instance; undefined, and nothing is kept, where no folder of the user's own can be made. */
export function takeMemory(key: string, env: Readonly<Record<string, string | undefined>>, nowMs: number): Memory | undefined {
  const root = stateRoot(env);
  if (root === undefined) return undefined;
  sweep(root, nowMs);
  for (let slot = 0; slot < mostSlots; slot++) {
    const dir = join(root, `${key}-${slot}`);
    try {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
    } catch {
      return undefined;
    }
    const lock = join(dir, "run.lock");
    const text = taken(lock, nowMs);
    if (text === undefined) continue;
    const file = join(dir, "run.json");
    const snapshot = join(dir, "snapshot");
    return {
      snapshot,
      lock: { file: lock, text },
      last: readLast(file, join(snapshot, "snapshot")),
      forget() {
        rmSync(file, { force: true });
        rmSync(join(snapshot, "snapshot"), { force: true });
      },
      keep: (now) => replace(file, JSON.stringify({ format: formatVersion, ...now })),
      leave: () => rmSync(lock, { force: true }),
    };
  }
  return undefined;
}

/** A lock that is being written has no words in it for a moment only. */
const writingMs = 10_000;

/** Makes the file, with this process in it, and answers its text; undefined when another that lives has. By start time too: these files outlive a restart of the machine. */
function taken(lock: string, nowMs: number): string | undefined {
  const text = `${process.pid} ${startTimeOf(process.pid) ?? ""}`;
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const fd = openSync(lock, "wx", 0o600);
      try {
        writeSync(fd, text);
      } finally {
        closeSync(fd);
      }
      return text;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST" || !abandoned(lock, nowMs)) return undefined;
      rmSync(lock, { force: true });
    }
  }
  return undefined;
}

function abandoned(lock: string, nowMs: number): boolean {
  try {
    const [pid, startTime = ""] = readFileSync(lock, "utf8").split(" ");
    if (!pid) return nowMs - statSync(lock).mtimeMs > writingMs;
    // Where there is no /proc, a number that is in use is taken for the same process.
    if (startTime !== "") return startTimeOf(Number(pid)) !== startTime;
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return ["ESRCH", "ENOENT"].includes((error as NodeJS.ErrnoException).code ?? "");
  }
}

/** $XDG_STATE_HOME/weft/run, else ~/.local/state/weft/run, which a restart of the machine leaves; else beside the other private places. */
function stateRoot(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const home = env.XDG_STATE_HOME || (env.HOME ? join(env.HOME, ".local", "state") : undefined);
  const uid = process.getuid?.() ?? 0;
  for (const candidate of [home === undefined ? undefined : join(home, "weft", "run"), join(privateRoot(env), "state")]) {
    if (candidate === undefined) continue;
    try {
      mkdirSync(candidate, { recursive: true, mode: 0o700 });
      const stat = lstatSync(candidate);
      if (stat.isDirectory() && stat.uid === uid && (stat.mode & 0o077) === 0) return candidate;
    } catch {
      // Not writable here; try the next.
    }
  }
  return undefined;
}

function sweep(root: string, nowMs: number): void {
  for (const name of readdirSync(root)) {
    const dir = join(root, name);
    try {
      const unused = nowMs - Math.max(statSync(dir).mtimeMs, newest(dir)) > forgetMs;
      if (unused && abandoned(join(dir, "run.lock"), nowMs)) rmSync(dir, { recursive: true, force: true });
    } catch {
      // Another run sweeps too.
    }
  }
}

function newest(dir: string): number {
  const snapshot = join(dir, "snapshot");
  const there = [dir, snapshot].filter((each) => existsSync(each));
  return Math.max(0, ...there.flatMap((each) => readdirSync(each).map((name) => statSync(join(each, name)).mtimeMs)));
}

function readLast(file: string, snapshot: string): Remembered | undefined {
  try {
    if (!statSync(snapshot).isFile()) return undefined;
    const read = JSON.parse(readFileSync(file, "utf8")) as Remembered & { readonly format: number };
    const texts = [read.name, read.namespace, read.serviceAccount, read.trustDomain, read.xdsAddress, read.caBundle];
    const ports = [read.ports.inbound, read.ports.httpProxy, read.ports.admin];
    const whole =
      texts.every((text) => typeof text === "string") && ports.every((port) => Number.isInteger(port) && port > 0 && port < 65536);
    return read.format === formatVersion && whole ? read : undefined;
  } catch {
    return undefined; // none, or half of one
  }
}

/** Whole or not at all. A disk that is full costs the next start without a control plane, not this run. */
function replace(file: string, text: string): void {
  const making = `${file}.new`;
  try {
    const fd = openSync(making, "w", 0o600);
    try {
      writeSync(fd, text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(making, file);
  } catch {
    rmSync(making, { force: true });
  }
}
