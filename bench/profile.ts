// Owns: an aid for whoever makes the proxy faster: runs Weft's proxy under the bench's load with Bun's CPU profiler and prints where its own
// time goes; with strace installed also the system calls per request. Its times are not figures: the profiler itself costs.
// Run: bun bench/profile.ts [--case http1-hop|mtls-a|mtls-b] [--seconds N] [--top N] [--keep DIR]
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { makeCertificates } from "./certs.ts";
import { type Driver, saturate, type Target } from "./load/drive.ts";
import { type Cores, freePorts, pickCores, pin } from "./machine.ts";
import { findTool } from "./peers.ts";
import { probe, untilAnswering } from "./probe.ts";
import { groupCpu, type Started, Workshop } from "./proc.ts";
import { hopBootstrap, pairClientBootstrap, pairServerBootstrap } from "./subjects/bootstrap.ts";
import { weftProxy } from "./subjects/build.ts";
import { HOST, LOAD_PATH } from "./subjects/subject.ts";
import { takeTurn } from "./turn.ts";

const ROOT = new URL("..", import.meta.url).pathname;

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    case: { type: "string", default: "http1-hop" },
    seconds: { type: "string", default: "8" },
    top: { type: "string", default: "30" },
    keep: { type: "string" },
  },
});

async function main(shop: Workshop, cores: Cores): Promise<void> {
  const wrk = findTool("wrk", process.env);
  const openssl = findTool("openssl", process.env);
  if (wrk.path === null) throw new Error(`wrk is missing: ${wrk.install}`);
  const driver: Driver = { wrk: wrk.path, h2load: null, connections: 64, cores: cores.others };
  const seconds = Number(values.seconds);
  const [origin, listen, middle, adminA, adminB, nobody] = await freePorts(6);
  const behind = shop.start("origin", [process.execPath, join(ROOT, "bench/load/origin.ts"), String(origin)], cores.others);
  await untilAnswering(behind, { port: origin!, host: HOST, path: LOAD_PATH }, performance.now());

  const files: Record<string, string> = {};
  if (values.case === "http1-hop") files.proxy = hopBootstrap({ listen: listen!, admin: adminA!, origin: origin! });
  else if (values.case === "mtls-a" || values.case === "mtls-b") {
    if (openssl.path === null) throw new Error(`openssl is missing: ${openssl.install}`);
    const certs = makeCertificates(openssl.path, shop.dir);
    const ports = {
      listen: listen!,
      middle: middle!,
      adminA: adminA!,
      adminB: adminB!,
      origin: origin!,
      impostor: nobody!,
      stranger: nobody!,
    };
    files.b = pairServerBootstrap(ports, certs, "http1");
    files.a = pairClientBootstrap(ports, certs, "http1");
  } else throw new Error(`--case ${values.case}: http1-hop, mtls-a or mtls-b is wanted`);

  const looked = values.case === "http1-hop" ? "proxy" : values.case === "mtls-a" ? "a" : "b";
  const profileDir = join(shop.dir, "profile");
  mkdirSync(profileDir);
  let subject: Started | undefined;
  for (const [side, text] of Object.entries(files)) {
    const file = join(shop.dir, `${side}.json`);
    await Bun.write(file, text);
    const flags = ["--cpu-prof", "--cpu-prof-md", `--cpu-prof-dir=${profileDir}`, "--cpu-prof-interval=500"];
    const command =
      side === looked ? [process.execPath, ...flags, join(ROOT, "src/main.ts"), "proxy", "--bootstrap", file] : weftProxy(file);
    const started = shop.start(side, command, String(cores.subject));
    if (side === looked) subject = started;
    else if (side === "a") await untilAnswering(started, { port: listen!, host: HOST, path: LOAD_PATH }, performance.now());
  }
  if (subject === undefined) throw new Error("nothing was started");
  const target: Target = { port: listen!, host: HOST, path: LOAD_PATH };
  await untilAnswering(subject, { port: listen!, host: HOST, path: LOAD_PATH }, performance.now());
  await saturate(driver, target, 2);
  const before = groupCpu([subject.pid]);
  const result = await saturate(driver, target, seconds);
  const after = groupCpu([subject.pid]);
  const perRequest = (ms: number): string => `${((ms * 1000) / result.requests).toFixed(1)} us`;
  say(
    `${values.case}: ${result.requests} requests, ${Math.round(result.requestsPerSecond)}/s; with the profiler: user ${perRequest(after.userMs - before.userMs)}, kernel ${perRequest(after.kernelMs - before.kernelMs)} a request`,
  );
  await systemCalls(subject.pid, driver, target);
  await probe({ port: listen!, host: HOST, path: LOAD_PATH });
  await subject.stop(15_000);
  printProfile(profileDir);
}

/** Counts system calls for a second with strace, where it is installed. */
async function systemCalls(pid: number, driver: Driver, target: Target): Promise<void> {
  const strace = ["/usr/bin/strace", "/usr/local/bin/strace"].find((path) => existsSync(path));
  if (strace === undefined) {
    say("(strace is not installed: no system calls per request; apt-get install --no-install-recommends strace)");
    return;
  }
  const traced = Bun.spawn([strace, "-c", "-f", "-p", String(pid)], { stdout: "ignore", stderr: "pipe" });
  const result = await saturate(driver, target, 2);
  traced.kill("SIGINT");
  const text = await new Response(traced.stderr).text();
  await traced.exited;
  say(`\nsystem calls per request (${result.requests} requests under strace)`);
  for (const line of text.split("\n")) {
    const fields = line.trim().split(/\s+/);
    const calls = Number(fields[3]);
    if (fields.length >= 5 && calls / result.requests >= 0.005)
      say(`  ${fields.at(-1)!.padEnd(16)} ${(calls / result.requests).toFixed(2)}`);
  }
}

function printProfile(dir: string): void {
  const report = readdirSync(dir).find((name) => name.endsWith(".md"));
  if (report === undefined) throw new Error("the profiler left no report: the proxy did not end by itself on SIGTERM");
  const lines = readFileSync(join(dir, report), "utf8").split("\n");
  const from = lines.findIndex((line) => line.startsWith("## Hot Functions"));
  say(
    `\n${lines
      .slice(from, from + 4 + Number(values.top))
      .join("\n")
      .replaceAll(ROOT, "")}`,
  );
  if (values.keep !== undefined) {
    mkdirSync(values.keep, { recursive: true });
    for (const name of readdirSync(dir)) copyFileSync(join(dir, name), join(values.keep, name));
    say(`\nkept in ${values.keep}`);
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

const cores = pickCores();
pin(process.pid, cores.others);
const leave = await takeTurn(say);
const shop = new Workshop();
try {
  await main(shop, cores);
} finally {
  await shop.close();
  leave();
}
