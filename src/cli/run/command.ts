// Owns: the application: can it be started, what its environment says, does its port answer. Never registers anything.

import { accessSync, constants, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { CliFailure } from "../failure.ts";
import type { Plan } from "./plan.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** The file that will be executed. Throws as a shell would: status 127 when there is none, 126 when it cannot be executed. */
export function findCommand(word: string, env: Environment, cwd: string): string {
  if (word.includes("/")) {
    const path = resolve(cwd, word);
    let directory: boolean;
    try {
      directory = statSync(path).isDirectory();
    } catch {
      throw new CliFailure(`there is no program ${word}; nothing was started or registered`, 127);
    }
    try {
      if (directory) throw new Error("directory");
      accessSync(path, constants.X_OK);
    } catch {
      throw new CliFailure(`${word} is ${directory ? "a folder" : "not executable"}; nothing was started or registered`, 126);
    }
    return path;
  }
  const found = Bun.which(word, { PATH: env.PATH ?? "" });
  if (found === null) throw new CliFailure(`there is no program "${word}" on the PATH; nothing was started or registered`, 127);
  return found;
}

/** Hosts that never go through the sidecar's forward proxy. */
const own = ["localhost", "127.0.0.1", "::1"];

/**
 * What the common runtimes look at: HTTP_PROXY and http_proxy (Go, Python, Ruby, Rust, .NET, Bun, Deno, curl, wget; curl reads only the
 * lower-case one; gRPC libraries tunnel through http_proxy by CONNECT), NODE_USE_ENV_PROXY (Node from 22.21 and 24.5), JAVA_TOOL_OPTIONS.
 * HTTPS_PROXY stays as it is: TLS to the outside world is none of the mesh's business.
 */
export function environmentFor(plan: Plan, httpProxyPort: number, env: Environment): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) if (value !== undefined) result[name] = value;
  const proxy = `http://127.0.0.1:${httpProxyPort}`;
  const bypass = [...own];
  for (const given of [env.NO_PROXY, env.no_proxy]) {
    for (const host of given?.split(",") ?? []) if (host.trim() !== "" && !bypass.includes(host.trim())) bypass.push(host.trim());
  }
  for (const name of ["HTTP_PROXY", "http_proxy"]) result[name] = proxy;
  for (const name of ["NO_PROXY", "no_proxy"]) result[name] = bypass.join(",");
  result.NODE_USE_ENV_PROXY = "1";
  const java = `-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=${httpProxyPort} -Dhttp.nonProxyHosts=localhost|127.*|[::1]`;
  // Outer settings of an outer `weft run` are dropped: the last one would win anyway, and the list would grow with each nesting.
  const before = (env.JAVA_TOOL_OPTIONS ?? "").replace(/-Dhttp\.(proxyHost|proxyPort|nonProxyHosts)=\S*/g, "").trim();
  result.JAVA_TOOL_OPTIONS = before === "" ? java : `${before.replace(/\s+/g, " ")} ${java}`;
  if (plan.portVariable !== undefined && plan.port !== undefined) result[plan.portVariable] = String(plan.port);
  return result;
}

const handlers = { data() {} };

/** Something takes connections there. */
export async function answers(hostname: string, port: number): Promise<boolean> {
  try {
    const socket = await Bun.connect({ hostname, port, socket: handlers });
    socket.end();
    return true;
  } catch {
    return false;
  }
}

/** Somebody has bound the UDP port, on `address` (an IP address) or on all; undefined where the system does not say (no /proc). */
export function takesDatagrams(address: string, port: number): boolean | undefined {
  const digits = port.toString(16).toUpperCase().padStart(4, "0");
  let known = false;
  for (const table of ["/proc/net/udp", "/proc/net/udp6"]) {
    let text: string;
    try {
      text = readFileSync(table, "utf8");
    } catch {
      continue; // no such system, or no IPv6
    }
    known = true;
    for (const line of text.split("\n")) {
      const [host = "", found] = line.trim().split(/\s+/)[1]?.split(":") ?? [];
      if (found === digits && hostFits(host, address)) return true;
    }
  }
  return known ? false : undefined;
}

/** `host` as the kernel writes it: words of 32 bits in the machine's order. */
function hostFits(host: string, address: string): boolean {
  if (/^0+$/.test(host)) return true;
  const words = host.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((word) => (word.match(/../g) ?? []).reverse().map((byte) => Number.parseInt(byte, 16)));
  if (bytes.length === 4) return bytes.join(".") === address;
  if (!address.includes(":")) return false;
  const groups = Array.from({ length: 8 }, (_none, at) => (((bytes[2 * at] as number) << 8) | (bytes[2 * at + 1] as number)).toString(16));
  return new URL(`http://[${groups.join(":")}]`).hostname === new URL(`http://[${address}]`).hostname;
}

/** Who listens on a port, for a message: `node (process 4711)`, or `another process` where /proc does not say (other users', other systems). */
export function ownerOf(port: number): string {
  try {
    const hex = port.toString(16).toUpperCase().padStart(4, "0");
    const inodes = new Set<string>();
    for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
      for (const line of readFileSync(table, "utf8").split("\n")) {
        const fields = line.trim().split(/\s+/);
        if (fields[3] === "0A" && fields[1]?.endsWith(`:${hex}`) === true) inodes.add(`socket:[${fields[9]}]`); // 0A: LISTEN
      }
    }
    for (const pid of readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name))) {
      if (holds(pid, inodes)) return `${readFileSync(`/proc/${pid}/comm`, "utf8").trim()} (process ${pid})`;
    }
  } catch {
    // No /proc, or a process that ended meanwhile.
  }
  return "another process";
}

function holds(pid: string, inodes: ReadonlySet<string>): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return inodes.has(readlinkSync(`/proc/${pid}/fd/${fd}`));
      } catch {
        return false;
      }
    });
  } catch {
    return false; // another user's
  }
}

/** Waits until `probe` says yes; `reminder` is called after 10 s, 30 s, 2 min and then every 10 min. False when `stop` fired first. */
export async function untilAnswers(
  probe: () => Promise<boolean> | boolean,
  stop: AbortSignal,
  nowMs: () => number,
  reminder: (waitedMs: number) => void,
): Promise<boolean> {
  const began = nowMs();
  let next = 10_000;
  while (!stop.aborted) {
    if (await probe()) return true;
    const waited = nowMs() - began;
    // A refused connection on loopback costs 50 us: look often while a start is likely, seldom afterwards.
    const delayMs = waited < 3000 ? 10 : waited < 30_000 ? 50 : 250;
    if (waited >= next) {
      reminder(waited);
      next = next === 10_000 ? 30_000 : next === 30_000 ? 120_000 : next + 600_000;
    }
    await Bun.sleep(delayMs);
  }
  return false;
}
