// Owns: an aid for whoever makes the proxy faster: runs Weft's proxy under the bench's load with Bun's CPU profiler and prints where its own
// time goes; with strace installed also the system calls per request. Its times are not figures: the profiler itself costs.
// Run: bun bench/profile.ts [--case NAME] [--seconds N] [--top N] [--keep DIR]
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { frontBench } from "./cases/load.ts";
import { makeCertificates } from "./certs.ts";
import { countCalls } from "./count.ts";
import type { Driver } from "./load/drive.ts";
import { bodies, fullHandshakes, grpcUnary, type Load, opaque, small, smallHttp2 } from "./load/loads.ts";
import { type Cores, freePorts, pickCores, pin } from "./machine.ts";
import type { Plan } from "./measure.ts";
import { findTool } from "./peers.ts";
import { probe, untilAnswering } from "./probe.ts";
import { groupCpu, type Started, Workshop } from "./proc.ts";
import { callTable } from "./report.ts";
import { hopBootstrap, pairClientBootstrap, pairServerBootstrap } from "./subjects/bootstrap.ts";
import { proxyTree, weftProxy } from "./subjects/build.ts";
import { HOST, LOAD_PATH, type Subject } from "./subjects/subject.ts";
import { takeTurn } from "./turn.ts";

const frontCases: Readonly<
  Record<string, { http2: boolean; tcp: boolean; load: (certs: Parameters<typeof fullHandshakes>[0], file: string) => Load }>
> = {
  "http2-h2": { http2: true, tcp: false, load: () => smallHttp2("h2-h2", false, "http2") },
  "http2-http1": { http2: true, tcp: false, load: () => smallHttp2("h2-http1", false, "http1") },
  "http2-tls": { http2: true, tcp: false, load: () => smallHttp2("tls-h2", true, "http2") },
  "grpc-unary": { http2: true, tcp: false, load: (_, file) => grpcUnary(file) },
  "body-64k": { http2: false, tcp: false, load: () => bodies("http1", false, "64k") },
  "body-1m": { http2: false, tcp: false, load: () => bodies("http1", false, "1m") },
  "body-64k-tls": { http2: false, tcp: false, load: () => bodies("http1", true, "64k") },
  "body-64k-http2": { http2: true, tcp: false, load: () => bodies("http2", false, "64k") },
  "body-1m-http2": { http2: true, tcp: false, load: () => bodies("http2", false, "1m") },
  tcp: { http2: false, tcp: true, load: () => opaque },
  handshakes: { http2: false, tcp: false, load: (certs) => fullHandshakes(certs) },
};
const pairCases = ["mtls-a", "mtls-b", "mtls-http2-a", "mtls-http2-b"];
const CASES = ["http1-hop", ...pairCases, ...Object.keys(frontCases)];

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    case: { type: "string", default: "http1-hop" },
    seconds: { type: "string", default: "8" },
    top: { type: "string", default: "30" },
    keep: { type: "string" },
  },
});

const tools = {
  envoy: { path: null, install: "" },
  haproxy: findTool("haproxy", process.env),
  nginx: findTool("nginx", process.env),
  wrk: findTool("wrk", process.env),
  h2load: findTool("h2load", process.env),
  nghttpd: findTool("nghttpd", process.env),
  curl: findTool("curl", process.env),
  taskset: findTool("taskset", process.env),
  openssl: findTool("openssl", process.env),
  strace: findTool("strace", process.env),
};

/** What is started, by side, from which bootstrap file; `looked` is the side under the profiler. */
interface Set {
  readonly subject: Subject;
  readonly files: Readonly<Record<string, string>>;
  readonly looked: string;
  readonly load: Load;
}

async function prepare(shop: Workshop, plan: Plan, name: string): Promise<Set> {
  const front = frontCases[name];
  if (front !== undefined) {
    const bench = await frontBench({ shop, tools, plan }, { http2: front.http2, tls: !front.tcp, tcp: front.tcp }, front.http2 && "small");
    const subject = bench.subjects[0]!;
    return {
      subject,
      files: { proxy: subject.proxies[0]!.command.at(-1)! },
      looked: "proxy",
      load: front.load(bench.certs, bench.grpcFile),
    };
  }
  if (name !== "http1-hop" && !pairCases.includes(name)) throw new Error(`--case ${name}: one of ${CASES.join(", ")} is wanted`);
  const [origin, listen, middle, adminA, adminB, nobody] = await freePorts(6);
  const script = new URL("./load/origin.ts", import.meta.url).pathname;
  const behind = shop.start("origin", [process.execPath, script, String(origin)], plan.driver.cores);
  await untilAnswering(behind, { port: origin!, host: HOST, path: LOAD_PATH }, performance.now());
  const subject: Subject = { name: "weft", version: "this tree", port: listen!, proxies: [] };
  const write = async (side: string, text: string): Promise<string> => {
    const file = join(shop.dir, `${side}.json`);
    await Bun.write(file, text);
    return file;
  };
  if (name === "http1-hop") {
    const file = await write("proxy", hopBootstrap({ listen: listen!, admin: adminA!, origin: origin! }));
    return { subject, files: { proxy: file }, looked: "proxy", load: small };
  }
  if (tools.openssl.path === null) throw new Error(`openssl is missing: ${tools.openssl.install}`);
  const certs = makeCertificates(tools.openssl.path, shop.dir);
  const rogues = { impostor: nobody!, stranger: nobody! };
  const ports = { listen: listen!, middle: middle!, adminA: adminA!, adminB: adminB!, origin: origin!, ...rogues };
  const between = name.includes("http2") ? "http2" : "http1";
  const files = {
    b: await write("b", pairServerBootstrap(ports, certs, between)),
    a: await write("a", pairClientBootstrap(ports, certs, between)),
  };
  return { subject, files, looked: name.at(-1)!, load: small };
}

async function main(shop: Workshop, cores: Cores): Promise<void> {
  if (tools.wrk.path === null) throw new Error(`wrk is missing: ${tools.wrk.install}`);
  const driver: Driver = { wrk: tools.wrk.path, h2load: tools.h2load.path, connections: 64, cores: cores.others };
  const plan: Plan = { rounds: 1, seconds: Number(values.seconds), warmSeconds: 2, driver, cores, say };
  const { subject, files, looked, load } = await prepare(shop, plan, values.case);
  const profileDir = join(shop.dir, "profile");
  mkdirSync(profileDir);
  let profiled: Started | undefined;
  let last: Started | undefined;
  for (const [side, file] of Object.entries(files)) {
    const flags = ["--cpu-prof", "--cpu-prof-md", `--cpu-prof-dir=${profileDir}`, "--cpu-prof-interval=500"];
    // From the sources, not from the bundle: its one file would hide where the time goes.
    const from = `const { main } = await import(${JSON.stringify(join(proxyTree, "src/proxy/app.ts"))}); await main(process.argv.slice(1));`;
    const main = [process.execPath, ...flags, "-e", from, "--", "--bootstrap", file];
    const command = side === looked ? main : weftProxy(file);
    last = shop.start(side, command, String(cores.subject));
    if (side === looked) profiled = last;
  }
  if (profiled === undefined || last === undefined) throw new Error("nothing was started");
  await untilAnswering(last, { port: subject.port, host: HOST, path: LOAD_PATH }, performance.now());
  await load.run(driver, subject, plan.warmSeconds);
  const before = groupCpu([profiled.pid]);
  const result = await load.run(driver, subject, plan.seconds);
  const after = groupCpu([profiled.pid]);
  const each = (ms: number): string => `${((ms * 1000) / result.units).toFixed(1)} us`;
  say(
    `${values.case}: ${Math.round(result.units)} x ${load.unit}, ${Math.round(result.units / plan.seconds)}/s; with the profiler: user ${each(after.userMs - before.userMs)}, kernel ${each(after.kernelMs - before.kernelMs)} each`,
  );
  if (tools.strace.path === null) say(`(no system calls: ${tools.strace.install})`);
  else {
    const alive = { subject: { ...subject, proxies: [{ side: looked, command: [] }] }, groups: [profiled.pid] };
    say(`\n${callTable(await countCalls(alive, load, plan, tools.strace))}`);
  }
  await probe({ port: subject.port, host: HOST, path: LOAD_PATH });
  await profiled.stop(15_000);
  printProfile(profileDir);
  printRooms(profileDir, ((after.userMs - before.userMs + after.kernelMs - before.kernelMs) * 1000) / result.units);
}

interface CpuProfile {
  readonly nodes: readonly { readonly id: number; readonly callFrame: { readonly functionName: string; readonly url: string } }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** Samples that mean waiting: the profiler books them on whatever function ran last, `dlopen` and module code among them. */
const waiting = new Set(["dlopen", "(idle)", "(program)", "(root)"]);

/** CPU time by file: where the user-space share of one request goes. Native code has no file; of it, writing to sockets stands out. */
function printRooms(dir: string, usEach: number): void {
  const name = readdirSync(dir).find((file) => file.endsWith(".cpuprofile"));
  if (name === undefined) return;
  const profile = JSON.parse(readFileSync(join(dir, name), "utf8")) as CpuProfile;
  const places = new Map(
    profile.nodes.map(({ id, callFrame: { functionName, url } }) => {
      const at = url.indexOf("/src/");
      if (at >= 0) return [id, url.slice(at + 1)];
      return [id, waiting.has(functionName) ? "" : functionName === "write" ? "(sockets: write)" : "(native)"];
    }),
  );
  const spent = new Map<string, number>();
  let total = 0;
  profile.samples.forEach((id, i) => {
    const place = places.get(id) ?? "";
    if (place === "") return;
    const us = profile.timeDeltas[i] ?? 0;
    total += us;
    spent.set(place, (spent.get(place) ?? 0) + us);
  });
  const rows = [...spent].sort((a, b) => b[1] - a[1]).filter(([, us]) => us * 200 > total);
  say(`\n## Where a request's ${usEach.toFixed(1)} us go (files above half a percent)\n`);
  for (const [place, us] of rows) say(`${((us / total) * usEach).toFixed(2).padStart(6)} us  ${place}`);
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
      .replaceAll(proxyTree, "")}`,
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
