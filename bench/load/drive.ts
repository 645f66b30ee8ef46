// Owns: running a load generator against a port and reading its counts. Any error it reports makes the run fail: a figure taken while
// requests failed says nothing.
import type { OpenLoopResult } from "./openloop.ts";

/** What the generators send; the host and path decide route and policy in the subject. */
export interface Target {
  readonly port: number;
  readonly host: string;
  readonly path: string;
  /** https, without checking the certificate: default false. */
  readonly tls?: boolean;
  /** POST this many bytes to the path instead of asking for it (wrk only). */
  readonly uploadBytes?: number;
}

export interface SaturationResult {
  readonly requests: number;
  readonly requestsPerSecond: number;
  /** Of the answers, as the generator counts them: with heads for wrk, bodies alone for h2load. */
  readonly bytes: number;
  /** null where the generator gives none. */
  readonly p50Us: number | null;
  readonly p99Us: number | null;
}

export interface Driver {
  readonly wrk: string;
  /** null: not installed. */
  readonly h2load: string | null;
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
      ...(target.uploadBytes === undefined ? [] : ["env", `WEFT_BENCH_UPLOAD=${target.uploadBytes}`]),
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
      `${target.tls === true ? "https" : "http"}://127.0.0.1:${target.port}${target.path}`,
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
    bytes: counts.bytes!,
    p50Us: counts.p50Us!,
    p99Us: counts.p99Us!,
  };
}

/** What h2load sends besides the target. */
export interface Http2Load {
  readonly connections: number;
  readonly streams: number;
  /** A file to POST as a unary gRPC call; without it a GET. */
  readonly grpcFile?: string;
}

/** Closed loop over HTTP/2: each stream's place is taken by the next request when it ends. Plain text is prior knowledge, TLS is ALPN h2. */
export async function saturateHttp2(driver: Driver, target: Target, load: Http2Load, seconds: number): Promise<SaturationResult> {
  if (driver.h2load === null) throw new Error("h2load is missing: apt-get install --no-install-recommends nghttp2-client");
  const grpc = load.grpcFile === undefined ? [] : ["-d", load.grpcFile, "-H", "content-type: application/grpc", "-H", "te: trailers"];
  const args = ["-t", "1", "-c", load.connections, "-m", load.streams, "-D", seconds, "--warm-up-time", "0", "-w", "20", "-W", "24"].map(
    String,
  );
  const url = `${target.tls === true ? "https" : "http"}://${target.host}${target.path}`;
  const command = [driver.h2load, ...args, "--npn-list", "h2", ...grpc, `--connect-to=127.0.0.1:${target.port}`, url];
  // The grace period is for a subject that stops answering: h2load itself would wait for ever.
  const child = Bun.spawn(["taskset", "-c", driver.cores, "timeout", "-k", "1", String(seconds + 15), ...command], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const text = await new Response(child.stdout).text();
  await child.exited;
  return readH2load(text, seconds);
}

/** Reads h2load's report. Throws on any request that failed, as wrk's counts do. Exported for its test. */
export function readH2load(text: string, seconds: number): SaturationResult {
  const counts = /^requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout$/m.exec(text);
  const codes = /^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx$/m.exec(text);
  const data = /^traffic: .* \((\d+)\) data$/m.exec(text);
  if (counts === null || codes === null || data === null) throw new Error(`h2load gave no counts: ${text.trim().slice(-300)}`);
  const [succeeded, failed, errored, timeouts] = counts.slice(1).map(Number);
  const others = Number(codes[2]) + Number(codes[3]) + Number(codes[4]);
  if (failed! + errored! + timeouts! + others > 0)
    throw new Error(
      `errors under load: failed ${failed}, errored ${errored}, timeout ${timeouts}, not 2xx ${others}; ${succeeded} succeeded`,
    );
  if (succeeded === 0) throw new Error("no request was answered under load: the port may not speak HTTP/2");
  return { requests: succeeded!, requestsPerSecond: succeeded! / seconds, bytes: Number(data[1]), p50Us: null, p99Us: null };
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
