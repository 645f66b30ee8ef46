// Owns: the rounds. Every subject is started, checked and warmed; then each round takes all subjects in turn (A B C, A B C) for each load, so
// that what disturbs the machine disturbs all of them. Must never drop a round.
import { atRate, type Driver } from "./load/drive.ts";
import type { Load, Unit } from "./load/loads.ts";
import { type Cores, coreBusyTicks } from "./machine.ts";
import { untilAnswering } from "./probe.ts";
import { groupCpu, groupRssAnonMb, type Started, type Workshop } from "./proc.ts";
import { median, type Spread, spread } from "./stats.ts";
import { HOST, LOAD_PATH, type Subject } from "./subjects/subject.ts";

export interface Plan {
  readonly rounds: number;
  readonly seconds: number;
  readonly warmSeconds: number;
  readonly driver: Driver;
  readonly cores: Cores;
  readonly say: (line: string) => void;
}

/** Figures of one subject under one load. CPU figures are per unit of the load and per side of a pair. */
export interface Figures {
  readonly subject: string;
  /** Which load of the case; null for the only one. */
  readonly load: string | null;
  readonly unit: Unit;
  readonly version: string;
  readonly cpuUs: Spread;
  readonly userUs: Spread;
  readonly kernelUs: Spread;
  /** Of a pair: `a` and `b` alone; of a hop: `proxy`. */
  readonly sidesUs: Readonly<Record<string, Spread>>;
  readonly requestsPerSecond: Spread;
  readonly unitsPerSecond: Spread;
  /** null where the load generator gives none. */
  readonly p50Us: Spread | null;
  readonly p99Us: Spread | null;
  /** At the fixed rate of the case; null when it has none. */
  readonly fixedRate: {
    readonly requestsPerSecond: number;
    readonly cpuUs: Spread;
    readonly p50Us: Spread;
    readonly p99Us: Spread;
  } | null;
  /** Per process of the subject, in MB. */
  readonly idleRssAnonMb: number;
  readonly loadRssAnonMb: number;
  /** Share of the subject's core that somebody else used during its windows; above 0.05 the machine is too busy to believe times. */
  readonly foreignShare: Spread;
  /** Share of the subject's core that was in use: 1 = the subject was the bottleneck. */
  readonly busyShare: Spread;
  readonly requests: number;
  readonly proven: readonly string[];
  readonly note?: string;
}

export interface Failed {
  readonly subject: string;
  /** The load that failed; null: the subject could not start or failed its checks, so that none of its loads ran. */
  readonly load: string | null;
  readonly reason: string;
  /** It is a second way of a subject (Subject.optional): worth a line, not a failed run, unless its budget has no other way. */
  readonly optional: boolean;
}

export interface CaseResult {
  readonly figures: readonly Figures[];
  readonly failed: readonly Failed[];
}

/** What a case hands over. */
export interface Work {
  readonly subjects: readonly Subject[];
  readonly loads: readonly Load[];
  /** Proves, before anything is measured, that the subject does the work; returns what was proven. Throws with what was expected. */
  readonly check: (subject: Subject) => Promise<readonly string[]>;
  /** Also load it at half of Envoy's saturation rate, the same for all (HTTP/1.1, plain text). */
  readonly fixedRate: boolean;
  /** Called after the rounds with what runs, while it runs. */
  readonly after?: (running: readonly Alive[], load: Load) => Promise<void>;
}

/** A subject that runs, and the groups of its processes in the order of `subject.proxies`. */
export interface Alive {
  readonly subject: Subject;
  readonly groups: readonly number[];
}

interface Round {
  readonly requests: number;
  readonly units: number;
  readonly sideMs: readonly number[];
  readonly userMs: number;
  readonly kernelMs: number;
  readonly requestsPerSecond: number;
  readonly unitsPerSecond: number;
  readonly p50Us: number | null;
  readonly p99Us: number | null;
  readonly foreign: number;
  readonly busy: number;
  readonly rssMb: number;
  readonly fixed: { readonly cpuUs: number; readonly p50Us: number; readonly p99Us: number } | null;
}

interface Running extends Alive {
  readonly idleMb: number;
  readonly proven: readonly string[];
  readonly processes: readonly Started[];
}

/** One subject under one load. */
interface Lane {
  readonly running: Running;
  readonly load: Load;
  warmRate: number;
  readonly rounds: Round[];
}

/** Runs all rounds. A subject that fails a check or a request is left out and named; it never spoils the others' figures. */
export async function measureCase(shop: Workshop, work: Work, plan: Plan): Promise<CaseResult> {
  const failed: Failed[] = [];
  let lanes: Lane[] = [];
  const started: Started[] = [];
  const guard = async (subject: Subject, load: string | null, act: () => Promise<void>): Promise<boolean> => {
    try {
      await act();
      return true;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      failed.push({ subject: subject.name, load, reason, optional: subject.optional === true });
      plan.say(`  FAILED ${subject.name}${load === null ? "" : ` (${load})`}: ${reason}`);
      return false;
    }
  };
  const running: Running[] = [];
  for (const subject of work.subjects) {
    await guard(subject, null, async () => {
      running.push(await launch(shop, subject, work, plan, started));
    });
  }
  const onLane = async (lane: Lane, act: () => Promise<void>): Promise<void> => {
    const went = await guard(lane.running.subject, lane.load.name, async () => {
      try {
        await act();
      } catch (error) {
        throw lane.running.processes.every((process) => process.alive()) ? error : ended(lane.running.processes, error);
      }
    });
    if (!went) lanes = lanes.filter((other) => other !== lane);
  };
  for (const load of work.loads) {
    for (const one of running) {
      if (load.without?.includes(one.subject.name) === true) continue;
      const lane: Lane = { running: one, load, warmRate: 0, rounds: [] };
      lanes.push(lane);
      await onLane(lane, async () => {
        lane.warmRate = await warm(load, one.subject, plan);
      });
    }
  }
  const reference = lanes.filter((lane) => lane.running.subject.name.startsWith("envoy"));
  const rates = (reference.length > 0 ? reference : lanes).map((lane) => lane.warmRate);
  const fixedRate = work.fixedRate && rates.length > 0 ? Math.round(Math.min(...rates) / 2) : null;
  for (let round = 0; round < plan.rounds; round++) {
    for (const lane of [...lanes]) {
      await onLane(lane, async () => {
        const taken = await takeRound(lane, fixedRate, plan);
        lane.rounds.push(taken);
        const cpuUs = ((taken.userMs + taken.kernelMs) * 1000) / taken.units / lane.running.groups.length;
        const name = lane.load.name === null ? "" : `${lane.load.name.padEnd(12)} `;
        plan.say(
          `  round ${round + 1}/${plan.rounds} ${name}${lane.running.subject.name.padEnd(12)} ${cpuUs.toFixed(1)} us/${lane.load.unit}, ${Math.round(taken.unitsPerSecond)}/s, others on the core ${(taken.foreign * 100).toFixed(0)} %`,
        );
      });
    }
  }
  const figures = lanes.map((lane) => summarize(lane, fixedRate));
  if (work.after !== undefined)
    for (const load of work.loads)
      await work.after(
        lanes.filter((lane) => lane.load === load).map((lane) => lane.running),
        load,
      );
  for (const process of started) await process.stop();
  return { figures, failed };
}

/** Time for slow subjects to get to `warmRequests` all the same. */
const longestWarmMs = 10_000;

/** The same for every subject: `warmSeconds`, and on until it has served the load's `warmRequests`. Answers its last rate. A run of one-second rounds tries the machinery and does not wait. */
async function warm(load: Load, subject: Subject, plan: Plan): Promise<number> {
  const since = performance.now();
  let served = 0;
  for (;;) {
    const { requests, requestsPerSecond } = await load.run(plan.driver, subject, plan.warmSeconds);
    served += requests;
    if (served >= (load.warmRequests ?? 0) || plan.seconds <= 1 || performance.now() - since > longestWarmMs) return requestsPerSecond;
  }
}

/** A subject that died under load says why in its last words. */
function ended(processes: readonly Started[], error: unknown): Error {
  const gone = processes.filter((process) => !process.alive());
  const words = gone.map((process) => `${process.name} ended under load: ${process.output().trim().slice(-500)}`);
  return new Error(`${words.join("; ")} (${error instanceof Error ? error.message : String(error)})`);
}

async function launch(shop: Workshop, subject: Subject, work: Work, plan: Plan, started: Started[]): Promise<Running> {
  const since = performance.now();
  const processes = subject.proxies.map((proxy) =>
    shop.start(`${subject.name}-${proxy.side}`, proxy.command, String(plan.cores.subject), proxy.env),
  );
  started.push(...processes);
  await untilAnswering(processes.at(-1)!, { port: subject.port, host: HOST, path: LOAD_PATH }, since);
  const proven = await work.check(subject);
  await Bun.sleep(1000); // start-up garbage goes before "idle" is read
  const groups = processes.map((process) => process.pid);
  return { subject, groups, processes, idleMb: groupRssAnonMb(groups) / groups.length, proven };
}

async function takeRound(lane: Lane, fixedRate: number | null, plan: Plan): Promise<Round> {
  const { groups, subject } = lane.running;
  const sides = () => groups.map((group) => groupCpu([group]));
  const before = sides();
  const busyBefore = coreBusyTicks(plan.cores.subject);
  const since = performance.now();
  const load = lane.load.run(plan.driver, subject, plan.seconds);
  await Promise.race([Bun.sleep(plan.seconds * 800), load]);
  const rssMb = groupRssAnonMb(groups) / groups.length;
  const result = await load;
  const wallMs = performance.now() - since;
  const busyMs = (coreBusyTicks(plan.cores.subject) - busyBefore) * 10;
  const after = sides();
  const sideMs = after.map((cpu, i) => cpu.userMs + cpu.kernelMs - before[i]!.userMs - before[i]!.kernelMs);
  const ownMs = sideMs.reduce((sum, ms) => sum + ms, 0);
  const userMs = after.reduce((sum, cpu, i) => sum + cpu.userMs - before[i]!.userMs, 0);
  return {
    requests: result.requests,
    units: result.units,
    sideMs,
    userMs,
    kernelMs: ownMs - userMs,
    requestsPerSecond: result.requestsPerSecond,
    unitsPerSecond: (result.requestsPerSecond * result.units) / result.requests,
    p50Us: result.p50Us,
    p99Us: result.p99Us,
    foreign: Math.max(0, (busyMs - ownMs) / wallMs),
    busy: Math.min(1, ownMs / wallMs),
    rssMb,
    fixed: fixedRate === null ? null : await takeFixed(lane, fixedRate, plan),
  };
}

async function takeFixed(lane: Lane, fixedRate: number, plan: Plan): Promise<NonNullable<Round["fixed"]>> {
  const { groups, subject } = lane.running;
  const target = { port: subject.port, host: HOST, path: LOAD_PATH };
  const before = groupCpu(groups);
  const result = await atRate(plan.driver, target, fixedRate, Math.max(1, Math.round((plan.seconds * 2) / 3)));
  const after = groupCpu(groups);
  const ms = after.userMs + after.kernelMs - before.userMs - before.kernelMs;
  return { cpuUs: (ms * 1000) / result.answered / groups.length, p50Us: result.p50Us, p99Us: result.p99Us };
}

function summarize(lane: Lane, fixedRate: number | null): Figures {
  const { running, load, rounds } = lane;
  const { subject } = running;
  const of = (read: (round: Round) => number): Spread => spread(rounds.map(read));
  const latency = (read: (round: Round) => number | null): Spread | null =>
    rounds.some((round) => read(round) === null) ? null : of((round) => read(round)!);
  const count = running.groups.length;
  const sidesUs: Record<string, Spread> = {};
  subject.proxies.forEach((proxy, i) => {
    sidesUs[proxy.side] = of((round) => (round.sideMs[i]! * 1000) / round.units);
  });
  return {
    subject: subject.name,
    load: load.name,
    unit: load.unit,
    version: subject.version,
    cpuUs: of((round) => ((round.userMs + round.kernelMs) * 1000) / round.units / count),
    userUs: of((round) => (round.userMs * 1000) / round.units / count),
    kernelUs: of((round) => (round.kernelMs * 1000) / round.units / count),
    sidesUs,
    requestsPerSecond: of((round) => round.requestsPerSecond),
    unitsPerSecond: of((round) => round.unitsPerSecond),
    p50Us: latency((round) => round.p50Us),
    p99Us: latency((round) => round.p99Us),
    fixedRate:
      fixedRate === null
        ? null
        : {
            requestsPerSecond: fixedRate,
            cpuUs: of((round) => round.fixed!.cpuUs),
            p50Us: of((round) => round.fixed!.p50Us),
            p99Us: of((round) => round.fixed!.p99Us),
          },
    idleRssAnonMb: running.idleMb,
    loadRssAnonMb: median(rounds.map((round) => round.rssMb)),
    foreignShare: of((round) => round.foreign),
    busyShare: of((round) => round.busy),
    requests: rounds.reduce((sum, round) => sum + round.requests, 0),
    proven: running.proven,
    ...(subject.note === undefined ? {} : { note: subject.note }),
  };
}
