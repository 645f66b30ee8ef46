// Owns: `npm run bench:fleet`: arguments, the order of the cases, the table and the exit status (0 every budget met, 1 one missed or a case failed,
// 2 wrong usage). Runs the simulated proxies itself, on the cores that the control plane does not have.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { describeMachine, pickCores, pin } from "../machine.ts";
import { Workshop } from "../proc.ts";
import { takeTurn } from "../turn.ts";
import { fleetBudgets, fleetTable, judgeFleet } from "./budgets.ts";
import { type Figures, type FleetOptions, load, narrowOnly, wholeFleet } from "./cases.ts";

const CASES = ["fleet", "growth", "load"] as const;

const USAGE = `usage: npm run bench:fleet -- [--only ${CASES.join("|")}]... [--services N] [--proxies N] [--changes N] [--quick] [--json FILE]

fleet: 1000 services, 2000 proxies that use 20 each: changes, restart, API. growth: a change that touches ten proxies, in half the fleet and in all of
it (needs fleet). load: 10000 services and 100000 endpoints at a start.
--quick: a tenth of everything; to try the machinery, not for figures.`;

async function main(): Promise<number> {
  let values: ReturnType<typeof args>;
  try {
    values = args();
  } catch (cause) {
    console.error(`${cause instanceof Error ? cause.message : String(cause)}\n\n${USAGE}`);
    return 2;
  }
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const part = values.quick ? 0.1 : 1;
  const count = (text: string | undefined, full: number) => (text === undefined ? Math.round(full * part) : Number(text));
  const shape = { services: count(values.services, 1000), proxies: count(values.proxies, 2000), uses: 20 };
  const only = new Set(values.only ?? CASES);
  const wrong = [...only].find((name) => !(CASES as readonly string[]).includes(name));
  if (wrong !== undefined || !(shape.services >= 20 && shape.proxies >= 20)) {
    console.error(`${wrong === undefined ? "a fleet has at least 20 services and 20 proxies" : `there is no case ${wrong}`}\n\n${USAGE}`);
    return 2;
  }
  const cores = pickCores();
  pin(process.pid, cores.others);
  const release = await takeTurn((line) => console.error(line));
  const shop = new Workshop();
  const options: FleetOptions = {
    shop,
    core: cores.subject,
    effort: { changes: count(values.changes, 40), apiSeconds: values.quick ? 1 : 4 },
    say: (line) => console.error(line),
  };
  const figures: Figures = new Map();
  let failed = false;
  const attempt = async (name: string, run: () => Promise<void>) => {
    if (!only.has(name)) return;
    try {
      await run();
    } catch (cause) {
      failed = true;
      console.error(`${name} failed: ${cause instanceof Error ? cause.message : String(cause)}`);
      await shop.stopAll();
    }
  };
  try {
    await attempt("fleet", () => wholeFleet(shape, options, figures));
    await attempt("growth", async () => {
      const half = { ...shape, services: shape.services >> 1, proxies: shape.proxies >> 1 };
      const before = await narrowOnly(half, options);
      figures.set("narrow-half", before);
      const whole = figures.get("narrow-cpu");
      if (whole !== undefined) figures.set("narrow-growth", whole / before);
    });
    await attempt("load", async () => {
      for (const [name, value] of await load(Math.round(10_000 * part), Math.round(100_000 * part), options)) figures.set(name, value);
    });
  } finally {
    await shop.close();
    release();
  }
  const machine = describeMachine();
  console.log(`${shape.services} services, ${shape.proxies} proxies that use ${shape.uses} each; ${machine.cpu}, Bun ${machine.bun}`);
  console.log(fleetTable(figures));
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify({ shape, machine, figures: Object.fromEntries(figures) }, null, 2)}\n`);
  const missed = fleetBudgets.filter((budget) => judgeFleet(budget, figures.get(budget.figure)) === "missed");
  if (missed.length > 0) console.log(`missed: ${missed.map(({ what }) => what.trim()).join("; ")}`);
  return failed || missed.length > 0 ? 1 : 0;
}

function args() {
  return parseArgs({
    options: {
      only: { type: "string", multiple: true },
      services: { type: "string" },
      proxies: { type: "string" },
      changes: { type: "string" },
      quick: { type: "boolean" },
      json: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  }).values;
}

process.exit(await main());
