// Owns: the private places of one run: a folder for bootstrap and token, and three ports that no other run takes. Both are given back at the end.

import {
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CliFailure } from "../failure.ts";

export interface Ports {
  readonly inbound: number;
  readonly httpProxy: number;
  readonly admin: number;
}

export interface Place {
  /** 0700, removed by `leave`. */
  readonly dir: string;
  readonly ports: Ports;
  /** Files to remove at the end, besides `dir`; for the guard. */
  readonly locks: readonly string[];
  /** Idempotent. */
  leave(): void;
}

/** Throws CliFailure when no ports are free or no folder can be made. `again`: exactly these ports, as a run before had them. */
export function takePlace(
  address: string,
  avoid: ReadonlySet<number>,
  env: Readonly<Record<string, string | undefined>>,
  random: () => number,
  nowMs: number,
  again?: Ports,
): Place {
  const root = privateRoot(env);
  sweep(root, nowMs);
  const dir = mkdtempSync(join(root, `run-${process.pid}-`));
  const locks: string[] = [];
  const lockDir = join(root, "ports");
  const take = (host: string) => takePort(host, avoid, lockDir, locks, random);
  const leave = () => {
    for (const lock of locks.splice(0)) rmSync(lock, { force: true });
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const ports =
      again === undefined
        ? { inbound: take(address), httpProxy: take("127.0.0.1"), admin: take("127.0.0.1") }
        : retake(address, again, lockDir, locks);
    return { dir, ports, locks: [...locks], leave };
  } catch (error) {
    leave();
    throw error;
  }
}

/** A guard that cleans up after a killed supervisor is done long before. */
const sweepAfterMs = 60_000;

/** Removes what runs left behind that were killed together with their guard (a machine that lost power, a killed process tree). */
function sweep(root: string, nowMs: number): void {
  for (const name of readdirSync(root)) {
    const pid = /^run-([0-9]+)-/.exec(name)?.[1];
    const path = join(root, name);
    try {
      if (pid !== undefined && gone(Number(pid)) && nowMs - statSync(path).mtimeMs > sweepAfterMs)
        rmSync(path, { recursive: true, force: true });
    } catch {
      // Another run sweeps too.
    }
  }
  const locks = join(root, "ports");
  mkdirSync(locks, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(locks)) if (abandoned(join(locks, name))) rmSync(join(locks, name), { force: true });
}

/** A file that only this user can read. */
export function writePrivate(path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o600 });
}

/** $XDG_RUNTIME_DIR/weft or TMPDIR/weft-UID; a folder of that name that is not ours alone is not used. */
export function privateRoot(env: Readonly<Record<string, string | undefined>>): string {
  const uid = process.getuid?.() ?? 0;
  for (const candidate of [
    env.XDG_RUNTIME_DIR ? join(env.XDG_RUNTIME_DIR, "weft") : undefined,
    join(env.TMPDIR || tmpdir(), `weft-${uid}`),
  ]) {
    if (candidate === undefined) continue;
    try {
      mkdirSync(candidate, { recursive: true, mode: 0o700 });
      const stat = lstatSync(candidate);
      if (stat.isDirectory() && stat.uid === uid && (stat.mode & 0o077) === 0) return candidate;
    } catch {
      // Not writable here; try the next.
    }
  }
  return mkdtempSync(join(tmpdir(), "weft-"));
}

/**
 * Ports below the range from which the kernel takes the ports of outgoing connections: such a connection can never sit on a port
 * that a sidecar wants back after a restart. A lock file keeps two runs that start at once apart: the sidecar binds a moment later.
 */
function takePort(host: string, avoid: ReadonlySet<number>, lockDir: string, locks: string[], random: () => number): number {
  const top = firstOutgoingPort();
  const bottom = top > 25_000 ? 15_000 : 1024;
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = bottom + Math.floor(random() * (top - bottom));
    if (avoid.has(port)) continue;
    const lock = join(lockDir, String(port));
    if (!locked(lock)) continue;
    if (bindable(host, port)) {
      locks.push(lock);
      return port;
    }
    rmSync(lock, { force: true });
    if (attempt === 0) refuseForeign(host);
  }
  throw new CliFailure(`no free port was found on ${host} between ${bottom} and ${top}`);
}

/** A port that is wanted again has somebody else. It may be the sidecar of a run that has just been killed, on its way out. */
export class PortTaken extends CliFailure {}

/** The ports of a run before; peers may still know them. */
function retake(address: string, ports: Ports, lockDir: string, locks: string[]): Ports {
  for (const [host, port] of [
    [address, ports.inbound] as const,
    ["127.0.0.1", ports.httpProxy] as const,
    ["127.0.0.1", ports.admin] as const,
  ]) {
    const lock = join(lockDir, String(port));
    const free = locked(lock);
    if (free) locks.push(lock);
    if (!free || !bindable(host, port))
      throw new PortTaken(`port ${port} of ${host}, which this instance had, is taken by ${free ? "another process" : "another run"}`);
  }
  return ports;
}

function firstOutgoingPort(): number {
  try {
    const first = Number(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").trim().split(/\s+/)[0]);
    return first > 2048 ? Math.min(first, 60_000) : 32_768;
  } catch {
    return 32_768; // macOS: 49152
  }
}

function locked(lock: string): boolean {
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const fd = openSync(lock, "wx", 0o600);
      writeSync(fd, String(process.pid));
      closeSync(fd);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST" || !abandoned(lock)) return false;
      rmSync(lock, { force: true });
    }
  }
  return false;
}

function abandoned(lock: string): boolean {
  try {
    const pid = Number(readFileSync(lock, "utf8"));
    return pid !== 0 && gone(pid); // 0: being written
  } catch {
    return false;
  }
}

function gone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

const handlers = { data() {} };

function bindable(hostname: string, port: number): boolean {
  try {
    Bun.listen({ hostname, port, socket: handlers }).stop(true);
    return true;
  } catch {
    return false;
  }
}

/** An address that is not this machine's fails on every port: say that rather than "no free port". */
function refuseForeign(host: string): void {
  if (!bindable(host, 0)) throw new CliFailure(`--address ${host} cannot be listened on: it is not an address of this machine`);
}
