// Owns: `npm run bench`: arguments, the order of the cases, the report and the exit status (0 every measured budget met, 1 a budget missed or a
// subject failed, 2 wrong usage). Must never hide a failure: a case that fails prints why and makes the status 1.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { budgets } from "./budgets.ts";
import type { QuietCase, QuietResult } from "./cases/collect.ts";
import { idleConnections, slowReaders } from "./cases/connections.ts";
import { change, firstTraffic } from "./cases/demo.ts";
import { brownOut, kill, overload } from "./cases/faults.ts";
import { idleMemory, start } from "./cases/idle.ts";
import {
  bodiesHttp1,
  bodiesHttp2,
  grpc,
  handshakes,
  http2Hop,
  httpHop,
  type LoadCase,
  type LoadCaseResult,
  mtlsPair,
  tcp,
} from "./cases/load.ts";
import { soak, workers } from "./cases/long.ts";
import { skewed } from "./cases/skewed.ts";
import { describeMachine, pickCores, pin } from "./machine.ts";
import type { Plan } from "./measure.ts";
import { type Found, findTool, type Tool } from "./peers.ts";
import { Workshop } from "./proc.ts";
import { budgetTable, callTable, loadTable, quietTable, recordTable } from "./report.ts";
import { takeTurn } from "./turn.ts";
import { brief, judge, type Measured, type Verdict } from "./verdict.ts";

/** The cases under load, with what their load is; the first two have rounds of their own, the others fewer and shorter ones. */
const loadCases = {
  "http1-hop": { run: httpHop, what: "answers of 100 bytes", whole: true },
  "mtls-pair": { run: mtlsPair, what: "answers of 100 bytes", whole: true },
  "http2-hop": { run: http2Hop, what: "8 connections x 16 streams, answers of 100 bytes", whole: false },
  "grpc-unary": { run: grpc, what: "8 connections x 16 streams, messages of 48 bytes", whole: false },
  "bodies-http1": { run: bodiesHttp1, what: "16 connections, answers of 64 KiB and 1 MiB", whole: false },
  "bodies-http2": { run: bodiesHttp2, what: "8 connections x 2 streams, answers of 64 KiB and 1 MiB", whole: false },
  tcp: { run: tcp, what: "16 connections, answers of 1 MiB through an opaque port", whole: false },
  handshakes: { run: handshakes, what: "8 lanes, mutual TLS, one request each, nothing resumed", whole: false },
} as const;

/** The cases that are not about CPU time. */
const quietCases = {
  "idle-connections": idleConnections,
  "slow-readers": slowReaders,
  workers,
  "idle-memory": idleMemory,
  start,
  "skewed-backends": skewed,
  kill,
  "brown-out": brownOut,
  overload,
  change,
  "first-traffic": firstTraffic,
  soak,
} as const;

type CaseName = keyof typeof loadCases | keyof typeof quietCases;
const CASES = [...Object.keys(loadCases), ...Object.keys(quietCases)] as CaseName[];
/** Taken only when they are named: they take longer than all others together. */
const ON_REQUEST: readonly CaseName[] = ["soak"];
const FRONT_ROUNDS = 3;
const FRONT_SECONDS = 2;

const USAGE = `usage: npm run bench -- [--only CASE]... [--subject NAME]... [--quick] [--rounds N] [--seconds N] [--warm N] [--connections N]
                         [--syscalls] [--held N] [--readers N] [--soak-seconds N] [--json FILE] [--quiet]

cases: ${CASES.filter((name) => !ON_REQUEST.includes(name)).join(", ")}; only when named: ${ON_REQUEST.join(", ")}
example: npm run bench -- --only http1-hop --rounds 3 --json hop.json

--quick: two rounds of one second, 2000 held connections, 200 slow readers; to try the machinery, not for figures.
--syscalls: after the rounds, system calls (strace) and TLS records per request of each subject.

Exit status: 0 every measured budget is met, 1 a budget is missed or a subject failed, 2 wrong usage or a tool the bench cannot do without.`;

class UsageError extends Error {}

interface Options {
  readonly cases: readonly CaseName[];
  readonly subjects: readonly string[];
  readonly rounds: number;
  readonly seconds: number;
  readonly warmSeconds: number;
  readonly connections: number;
  readonly held: number;
  readonly readers: number;
  readonly soakSeconds: number;
  readonly syscalls: boolean;
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
        rounds: { type: "string" },
        seconds: { type: "string" },
        warm: { type: "string" },
        connections: { type: "string" },
        held: { type: "string" },
        readers: { type: "string" },
        "soak-seconds": { type: "string" },
        syscalls: { type: "boolean", default: false },
        quick: { type: "boolean", default: false },
        json: { type: "string" },
        quiet: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    }));
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  if (values.help === true) return null;
  const quick = values.quick === true;
  const number = (name: string, usual: number, whenQuick: number, most: number): number => {
    if (values[name] === undefined) return quick ? whenQuick : usual;
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
    cases: CASES.filter((name) => (list("only").length === 0 ? !ON_REQUEST.includes(name) : list("only").includes(name))),
    subjects: list("subject"),
    rounds: number("rounds", 5, 2, 100),
    seconds: number("seconds", 3, 1, 60),
    warmSeconds: number("warm", 3, 1, 60),
    connections: number("connections", 64, 64, 1024),
    held: number("held", 10_000, 2000, 15_000),
    readers: number("readers", 1000, 200, 5000),
    soakSeconds: number("soak-seconds", 600, 60, 86_400),
    syscalls: values.syscalls === true,
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
    h2load: find("h2load"),
    nghttpd: find("nghttpd"),
    curl: find("curl"),
    taskset: find("taskset"),
    openssl: find("openssl"),
    strace: find("strace"),
  };
}

function announce(tools: Readonly<Record<Tool, Found>>): void {
  for (const [name, found] of Object.entries(tools)) {
    if (found.path === null) say(`missing: ${name}; install it with: ${found.install}`);
  }
}

interface Ran {
  readonly figures: LoadCaseResult["figures"] | QuietResult["figures"];
  readonly failed: QuietResult["failed"];
  /** For JSON. */
  readonly counts: readonly object[];
}

/** Runs one case and prints its table. */
async function runCase(name: CaseName, base: Pick<LoadCase, "shop" | "tools" | "plan">, options: Options): Promise<Ran> {
  const { subjects } = options;
  if (name in loadCases) {
    const { run, what, whole } = loadCases[name as keyof typeof loadCases];
    const plan = whole
      ? base.plan
      : {
          ...base.plan,
          rounds: Math.min(base.plan.rounds, FRONT_ROUNDS),
          seconds: Math.min(base.plan.seconds, FRONT_SECONDS),
          warmSeconds: Math.min(base.plan.warmSeconds, 1),
        };
    say(`\n${name}: ${plan.rounds} rounds of ${plan.seconds} s, ${whole ? `${plan.driver.connections} connections, ` : ""}${what}`);
    const result = await run({ ...base, plan, subjects, countCalls: options.syscalls });
    say(loadTable(result.figures, name === "mtls-pair"));
    if (result.calls.length > 0) say(`\n${callTable(result.calls)}`);
    if (result.records.length > 0) say(`\n${recordTable(result.records)}`);
    const counts = [
      ...result.calls.map((row) => ({ kind: "calls", ...row })),
      ...result.records.map((row) => ({ kind: "records", ...row })),
    ];
    return { figures: result.figures, failed: result.failed, counts };
  }
  say(`\n${name}`);
  const { held, readers, soakSeconds } = options;
  const input: QuietCase = { ...base, subjects, held, readers, soakSeconds };
  const result = await quietCases[name as keyof typeof quietCases](input);
  say(quietTable(result.figures));
  return { ...result, counts: [] };
}

async function bench(options: Options): Promise<number> {
  const tools = findTools();
  announce(tools);
  if (tools.wrk.path === null || tools.taskset.path === null) return 2;
  const cores = pickCores();
  pin(process.pid, cores.others);
  const driver = { wrk: tools.wrk.path, h2load: tools.h2load.path, connections: options.connections, cores: cores.others };
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
      const result = await runCase(name, { shop, tools, plan }, options);
      const notes = result.figures.flatMap((row) => (row.note === undefined ? [] : [`note: ${row.subject}: ${row.note}`]));
      for (const note of new Set(notes)) say(note);
      for (const failed of result.failed)
        say(
          `${failed.optional ? "not run" : "FAILED"} ${name} ${failed.subject}${failed.load === null ? "" : ` (${failed.load})`}: ${brief(failed.reason)}`,
        );
      failures += result.failed.filter((failed) => !failed.optional).length;
      const judged = budgets
        .filter((budget) => budget.case === name)
        .map((budget) => judge(budget, result.figures as readonly Measured[], result.failed));
      if (judged.length > 0) say(`\n${budgetTable(judged)}`);
      verdicts.push(...judged);
      records.push(
        ...result.figures.map((row) => ({ kind: "figures", case: name, ...row })),
        ...result.failed.map((row) => ({ kind: "failed", case: name, ...row })),
        ...result.counts.map((row) => ({ case: name, ...row })),
      );
      records.push(...judged.map(({ value, ...row }) => ({ kind: "budget", ...row, value: value?.median ?? null, spread: value })));
      await shop.stopAll();
    }
  } finally {
    await shop.close();
    leave();
  }
  say(`\nall budgets\n${budgetTable(verdicts)}`);
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
