// Owns: running a load generator against a port and reading its counts. Any error it reports makes the run fail: a figure taken while
// requests failed says nothing.
import type { OpenLoopResult } from "./openloop.ts";

/** What both generators send; the host and path decide route and policy in the subject. */
export interface Target {
  readonly port: number;
  readonly host: string;
  readonly path: string;
}

export interface SaturationResult {
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

export interface Driver {
  readonly wrk: string;
  readonly connections: number;
  /** `taskset -c` syntax. */
  readonly cores: string;
}

/** Closed loop at saturation: each connection sends its next request when the last one is answered. */
export async function saturate(driver: Driver, target: Target, seconds: number): Promise<SaturationResult> {
  const script = new URL("./wrk.lua", import.meta.url).pathname;
  const child = Bun.spawn(
    [
      "taskset",
      "-c",
      driver.cores,
      driver.wrk,
      "-t",
      "1",
      "-c",
      String(driver.connections),
      "-d",
      `${seconds}s`,
      "--timeout",
      "10s",
      "--latency",
      "-s",
      script,
      "-H",
      `Host: ${target.host}`,
      "-H",
      "User-Agent: wrk",
      "-H",
      "Accept: */*",
      `http://127.0.0.1:${target.port}${target.path}`,
    ],
    { stdout: "pipe", stderr: "pipe" },
  );
  const text = await new Response(child.stdout).text();
  await child.exited;
  const line = /^WRK (\{.*\})$/m.exec(text)?.[1];
  if (line === undefined) throw new Error(`wrk gave no counts: ${text}${await new Response(child.stderr).text()}`);
  const counts: Record<string, number> = JSON.parse(line);
  const failed = ["connect", "read", "write", "status", "timeout"].filter((kind) => counts[kind] !== 0);
  if (failed.length > 0)
    throw new Error(`errors under load: ${failed.map((kind) => `${kind} ${counts[kind]}`).join(", ")} of ${counts.requests} requests`);
  if (counts.requests === 0) throw new Error("no request was answered under load");
  return {
    requests: counts.requests!,
    requestsPerSecond: (counts.requests! / counts.durationUs!) * 1e6,
    p50Us: counts.p50Us!,
    p99Us: counts.p99Us!,
  };
}

/** Open loop at a fixed rate, see openloop.ts. */
export async function atRate(driver: Driver, target: Target, requestsPerSecond: number, seconds: number): Promise<OpenLoopResult> {
  const script = new URL("./openloop.ts", import.meta.url).pathname;
  const args = [target.port, target.host, target.path, Math.round(requestsPerSecond), seconds, driver.connections].map(String);
  const child = Bun.spawn(["taskset", "-c", driver.cores, process.execPath, script, ...args], { stdout: "pipe", stderr: "pipe" });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`the fixed-rate generator failed: ${await new Response(child.stderr).text()}`);
  const result: OpenLoopResult = JSON.parse(text);
  if (result.errors > 0)
    throw new Error(`errors at a fixed rate of ${Math.round(requestsPerSecond)}/s: ${result.errors} of ${result.sent} requests`);
  return result;
}
