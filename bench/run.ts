// Owns: `npm run bench`: arguments, the order of the cases, the report and the exit status (0 every measured budget met, 1 a budget missed or a
// subject failed, 2 wrong usage). Must never hide a failure: a case that fails prints why and makes the status 1.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { budgets } from "./budgets.ts";
import { change, firstTraffic } from "./cases/demo.ts";
import { idleMemory, type QuietResult, start } from "./cases/idle.ts";
import { httpHop, mtlsPair } from "./cases/load.ts";
import { describeMachine, pickCores, pin } from "./machine.ts";
import type { CaseResult, Plan } from "./measure.ts";
import { type Found, findTool, type Tool } from "./peers.ts";
import { Workshop } from "./proc.ts";
import { budgetTable, loadTable, quietTable } from "./report.ts";
import { takeTurn } from "./turn.ts";
import { judge, type Measured, type Verdict } from "./verdict.ts";

const USAGE = `usage: npm run bench -- [--only CASE]... [--subject NAME]... [--rounds N] [--seconds N] [--warm N] [--connections N] [--json FILE] [--quiet]

cases: http1-hop, mtls-pair, idle-memory, start, change, first-traffic
example: npm run bench -- --only http1-hop --rounds 3 --json hop.json

Exit status: 0 every measured budget is met, 1 a budget is missed or a subject failed, 2 wrong usage or a tool the bench cannot do without.`;

const CASES = ["http1-hop", "mtls-pair", "idle-memory", "start", "change", "first-traffic"] as const;
type CaseName = (typeof CASES)[number];

/** The cases without load. */
const quietCases = { "idle-memory": idleMemory, start, change, "first-traffic": firstTraffic } as const;

class UsageError extends Error {}

interface Options {
  readonly cases: readonly CaseName[];
  readonly subjects: readonly string[];
  readonly rounds: number;
  readonly seconds: number;
  readonly warmSeconds: number;
  readonly connections: number;
  readonly json: string | null;
  readonly quiet: boolean;
}

function parse(argv: readonly string[]): Options | null {
  let values: Record<string, string | boolean | (string | boolean)[] | undefined>;
  try {
    ({ values } = parseArgs({
      args: [...argv],
      options: {
        only: { type: "string", multiple: true },
        subject: { type: "string", multiple: true },
        rounds: { type: "string", default: "5" },
        seconds: { type: "string", default: "3" },
        warm: { type: "string", default: "3" },
        connections: { type: "string", default: "64" },
        json: { type: "string" },
        quiet: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    }));
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  if (values.help === true) return null;
  const number = (name: string, most: number): number => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 1 || value > most)
      throw new UsageError(`--${name} ${String(values[name])}: a whole number from 1 to ${most} is wanted`);
    return value;
  };
  const list = (name: string): string[] => (values[name] as string[] | undefined) ?? [];
  for (const name of list("only")) {
    if (!CASES.some((known) => known === name))
      throw new UsageError(`--only ${name}: there is no such case; the cases are ${CASES.join(", ")}`);
  }
  return {
    cases: CASES.filter((name) => list("only").length === 0 || list("only").includes(name)),
    subjects: list("subject"),
    rounds: number("rounds", 100),
    seconds: number("seconds", 60),
    warmSeconds: number("warm", 60),
    connections: number("connections", 1024),
    json: (values.json as string | undefined) ?? null,
    quiet: values.quiet === true,
  };
}

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

function findTools(): Record<Tool, Found> {
  const find = (tool: Tool): Found => findTool(tool, process.env);
  return {
    envoy: find("envoy"),
    haproxy: find("haproxy"),
    nginx: find("nginx"),
    wrk: find("wrk"),
    taskset: find("taskset"),
    openssl: find("openssl"),
  };
}

function announce(tools: Readonly<Record<Tool, Found>>): void {
  for (const [name, found] of Object.entries(tools)) {
    if (found.path === null) say(`missing: ${name}; install it with: ${found.install}`);
  }
}

async function bench(options: Options): Promise<number> {
  const tools = findTools();
  announce(tools);
  if (tools.wrk.path === null || tools.taskset.path === null) return 2;
  const cores = pickCores();
  pin(process.pid, cores.others);
  const driver = { wrk: tools.wrk.path, connections: options.connections, cores: cores.others };
  const progress = options.quiet ? () => {} : say;
  const plan: Plan = { rounds: options.rounds, seconds: options.seconds, warmSeconds: options.warmSeconds, driver, cores, say: progress };
  const machine = describeMachine();
  say(
    `${machine.cpu}, ${machine.cores} cores, Linux ${machine.kernel}, Bun ${machine.bun}; subject on core ${cores.subject}, load and origin on ${cores.others}`,
  );

  const leave = await takeTurn(say);
  const shop = new Workshop();
  const end = (): void => {
    void shop.close().finally(() => {
      leave();
      process.exit(130);
    });
  };
  process.on("SIGINT", end);
  process.on("SIGTERM", end);
  const records: object[] = [];
  const verdicts: Verdict[] = [];
  let failures = 0;
  try {
    for (const name of options.cases) {
      say(
        `\n${name}${name.includes("-hop") || name.includes("-pair") ? `: ${options.rounds} rounds of ${options.seconds} s, ${options.connections} connections, 100-byte answers` : ""}`,
      );
      const input = { shop, tools, plan, subjects: options.subjects };
      let result: CaseResult | QuietResult;
      if (name === "http1-hop" || name === "mtls-pair") {
        const loaded = await (name === "http1-hop" ? httpHop(input) : mtlsPair(input));
        say(loadTable(loaded.figures, name === "mtls-pair"));
        result = loaded;
      } else {
        result = await quietCases[name](input);
        say(quietTable(result.figures));
      }
      for (const row of result.figures) if (row.note !== undefined) say(`note: ${row.subject}: ${row.note}`);
      for (const failed of result.failed) say(`FAILED ${name} ${failed.subject}: ${failed.reason}`);
      failures += result.failed.length;
      const judged = budgets.filter((budget) => budget.case === name).map((budget) => judge(budget, result.figures as readonly Measured[]));
      say(`\n${budgetTable(judged)}`);
      verdicts.push(...judged);
      records.push(
        ...result.figures.map((row) => ({ kind: "figures", case: name, ...row })),
        ...result.failed.map((row) => ({ kind: "failed", case: name, ...row })),
      );
      records.push(...judged.map(({ value, ...row }) => ({ kind: "budget", ...row, value: value?.median ?? null, spread: value })));
      await shop.stopAll();
    }
  } finally {
    await shop.close();
    leave();
  }
  if (options.json !== null) {
    const versions = Object.fromEntries(Object.entries(tools).map(([name, found]) => [name, found.path === null ? null : found.version]));
    writeFileSync(
      options.json,
      `${JSON.stringify({ schema: "weft-bench/1", machine, cores, versions, rounds: options.rounds, seconds: options.seconds, connections: options.connections, records }, null, 1)}\n`,
    );
  }
  const count = (verdict: Verdict["verdict"]): number => verdicts.filter((one) => one.verdict === verdict).length;
  say(
    `\nbudgets: ${count("met")} met, ${count("missed")} missed, ${count("not measured")} not measured${failures === 0 ? "" : `; ${failures} subjects FAILED`}`,
  );
  return count("missed") > 0 || failures > 0 ? 1 : 0;
}

try {
  const options = parse(process.argv.slice(2));
  if (options === null) say(USAGE);
  process.exitCode = options === null ? 0 : await bench(options);
} catch (error) {
  const usage = error instanceof UsageError;
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n${usage ? `${USAGE}\n` : ""}`);
  process.exitCode = usage ? 2 : 1;
}
