// Owns: whether a change costs the plain hop anything: this checkout's proxy and another's, both alive, loaded in turns within one run, so that what
// disturbs the machine disturbs both. Exit status: 0 at most `--limit` percent slower, 1 slower than that, 2 wrong usage.
// Run: bun bench/compare.ts --with ../before [--rounds N] [--seconds N] [--limit PERCENT]
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type Load, small } from "./load/loads.ts";
import { freePorts, pickCores, pin } from "./machine.ts";
import { findTool } from "./peers.ts";
import { untilAnswering } from "./probe.ts";
import { groupCpu, Workshop } from "./proc.ts";
import { median, pairedRatio } from "./stats.ts";
import { hopBootstrap } from "./subjects/bootstrap.ts";
import { HOST, LOAD_PATH, type Subject } from "./subjects/subject.ts";
import { takeTurn } from "./turn.ts";

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    with: { type: "string" },
    rounds: { type: "string", default: "12" },
    seconds: { type: "string", default: "2" },
    limit: { type: "string", default: "3" },
  },
});
const [rounds, seconds, limit] = [Number(values.rounds), Number(values.seconds), Number(values.limit)];
const own = resolve(import.meta.dir, "..");
const other = values.with === undefined ? null : resolve(values.with);
if (other === null || !existsSync(join(other, "bin/weft")))
  usage(`--with ${values.with ?? ""}: the folder of another checkout is wanted, after its \`npm ci\``);
if (!(rounds >= 3 && seconds >= 1 && limit > 0)) usage("--rounds is at least 3, --seconds at least 1, --limit above 0");

function usage(what: string): never {
  console.error(`${what}\nusage: bun bench/compare.ts --with DIR [--rounds N] [--seconds N] [--limit PERCENT]`);
  process.exit(2);
}

interface Side {
  readonly name: string;
  readonly pid: number;
  readonly subject: Subject;
  /** Of each round: CPU time in us a request. */
  readonly userUs: number[];
  readonly allUs: number[];
}

async function startSide(shop: Workshop, name: string, tree: string, origin: number, core: string): Promise<Side> {
  const [listen, admin] = await freePorts(2);
  const file = join(shop.dir, `${name}.json`);
  await Bun.write(file, hopBootstrap({ listen: listen!, admin: admin!, origin }));
  const proxy = shop.start(name, [join(tree, "bin/weft"), "proxy", "--bootstrap", file], core);
  await untilAnswering(proxy, { port: listen!, host: HOST, path: LOAD_PATH }, performance.now());
  return { name, pid: proxy.pid, subject: { name, version: "", port: listen!, proxies: [] }, userUs: [], allUs: [] };
}

async function oneRound(side: Side, run: Load["run"], driver: Parameters<Load["run"]>[0], counts: boolean): Promise<void> {
  const before = groupCpu([side.pid]);
  const { units } = await run(driver, side.subject, seconds);
  const after = groupCpu([side.pid]);
  if (!counts) return;
  const userUs = ((after.userMs - before.userMs) * 1000) / units;
  side.userUs.push(userUs);
  side.allUs.push(userUs + ((after.kernelMs - before.kernelMs) * 1000) / units);
}

async function main(shop: Workshop, wrk: string): Promise<number> {
  const cores = pickCores();
  pin(process.pid, cores.others);
  const [origin] = await freePorts(1);
  const script = join(import.meta.dir, "load/origin.ts");
  const behind = shop.start("origin", [process.execPath, script, String(origin)], cores.others);
  await untilAnswering(behind, { port: origin!, host: HOST, path: LOAD_PATH }, performance.now());
  const core = String(cores.subject);
  const here = await startSide(shop, "this", own, origin!, core);
  const there = await startSide(shop, "other", other!, origin!, core);
  const driver = { wrk, h2load: null, connections: 64, cores: cores.others };
  // The first two warm up. Who begins alternates: the second of a pair finds warmer caches.
  for (let round = -2; round < rounds; round++) {
    const order = round % 2 === 0 ? [here, there] : [there, here];
    for (const side of order) await oneRound(side, small.run, driver, round >= 0);
  }
  for (const side of [here, there])
    console.log(
      `${side.name.padEnd(6)} ${median(side.allUs).toFixed(2)} us a request (least ${Math.min(...side.allUs).toFixed(2)}), user ${median(side.userUs).toFixed(2)}`,
    );
  const ratio = pairedRatio(here.allUs, there.allUs).median;
  console.log(
    `this / other: ${ratio.toFixed(3)} (median of ${rounds} pairs), user ${pairedRatio(here.userUs, there.userUs).median.toFixed(3)}; limit ${(1 + limit / 100).toFixed(2)}`,
  );
  return ratio <= 1 + limit / 100 ? 0 : 1;
}

const wrk = findTool("wrk", process.env);
if (wrk.path === null) usage(`wrk is missing: ${wrk.install}`);
const leave = await takeTurn((line) => console.log(line));
const shop = new Workshop();
try {
  process.exitCode = await main(shop, wrk.path);
} finally {
  await shop.close();
  leave();
}
