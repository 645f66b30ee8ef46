// Owns: the rounds. Every subject is started, checked and warmed; then each round takes all subjects in turn (A B C, A B C), so that what
// disturbs the machine disturbs all of them. Must never drop a round.
import type { Certificates } from "./certs.ts";
import { checkSubject } from "./checks.ts";
import { atRate, type Driver, saturate, type Target } from "./load/drive.ts";
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

/** Figures of one subject in one case. CPU figures are per request and per side of a pair. */
export interface Figures {
  readonly subject: string;
  readonly version: string;
  readonly cpuUs: Spread;
  readonly userUs: Spread;
  readonly kernelUs: Spread;
  /** Of a pair: `a` and `b` alone; of a hop: `proxy`. */
  readonly sidesUs: Readonly<Record<string, Spread>>;
  readonly requestsPerSecond: Spread;
  readonly p50Us: Spread;
  readonly p99Us: Spread;
  /** At the fixed rate of the case. */
  readonly fixedRate: { readonly requestsPerSecond: number; readonly cpuUs: Spread; readonly p50Us: Spread; readonly p99Us: Spread };
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
  readonly reason: string;
}

export interface CaseResult {
  readonly figures: readonly Figures[];
  readonly failed: readonly Failed[];
}

interface Round {
  readonly requests: number;
  readonly sideMs: readonly number[];
  readonly userMs: number;
  readonly kernelMs: number;
  readonly requestsPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly foreign: number;
  readonly busy: number;
  readonly rssMb: number;
  readonly fixed: { readonly cpuUs: number; readonly p50Us: number; readonly p99Us: number };
}

interface Running {
  readonly subject: Subject;
  readonly groups: readonly number[];
  readonly target: Target;
  readonly idleMb: number;
  readonly proven: readonly string[];
  warmRate: number;
  readonly rounds: Round[];
}

/** Runs all rounds. A subject that fails a check or a request is left out and named; it never spoils the others' figures. */
export async function measureCase(
  shop: Workshop,
  subjects: readonly Subject[],
  certs: Certificates | null,
  plan: Plan,
): Promise<CaseResult> {
  const failed: Failed[] = [];
  let running: Running[] = [];
  const started = new Map<string, Started[]>();
  const guard = async (subject: Subject, act: () => Promise<void>): Promise<void> => {
    try {
      await act();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      failed.push({ subject: subject.name, reason });
      plan.say(`  FAILED ${subject.name}: ${reason}`);
      running = running.filter((one) => one.subject !== subject);
    }
  };
  for (const subject of subjects) {
    await guard(subject, async () => {
      started.set(subject.name, []);
      running.push(await launch(shop, subject, certs, plan, started.get(subject.name)!));
    });
  }
  for (const one of [...running]) {
    await guard(one.subject, async () => {
      one.warmRate = (await saturate(plan.driver, one.target, plan.warmSeconds)).requestsPerSecond;
    });
  }
  const reference = running.filter((one) => one.subject.name.startsWith("envoy"));
  const fixedRate = Math.round(Math.min(...(reference.length > 0 ? reference : running).map((one) => one.warmRate)) / 2);
  for (let round = 0; round < plan.rounds; round++) {
    for (const one of [...running]) {
      await guard(one.subject, async () => {
        const taken = await takeRound(one, fixedRate, plan);
        one.rounds.push(taken);
        const cpuUs = ((taken.userMs + taken.kernelMs) * 1000) / taken.requests / one.groups.length;
        plan.say(
          `  round ${round + 1}/${plan.rounds} ${one.subject.name.padEnd(12)} ${cpuUs.toFixed(1)} us, ${Math.round(taken.requestsPerSecond)}/s, others on the core ${(taken.foreign * 100).toFixed(0)} %`,
        );
      });
    }
  }
  const figures = running.map((one) => summarize(one, fixedRate));
  for (const processes of started.values()) for (const process of processes) await process.stop();
  return { figures, failed };
}

async function launch(shop: Workshop, subject: Subject, certs: Certificates | null, plan: Plan, processes: Started[]): Promise<Running> {
  const since = performance.now();
  for (const proxy of subject.proxies) {
    processes.push(shop.start(`${subject.name}-${proxy.side}`, proxy.command, String(plan.cores.subject), proxy.env));
  }
  const target: Target = { port: subject.port, host: HOST, path: LOAD_PATH };
  await untilAnswering(processes.at(-1)!, { port: subject.port, host: HOST, path: LOAD_PATH }, since);
  const proven = await checkSubject(subject, certs);
  await Bun.sleep(1000); // start-up garbage goes before "idle" is read
  const groups = processes.map((process) => process.pid);
  return { subject, groups, target, idleMb: groupRssAnonMb(groups) / groups.length, proven, warmRate: 0, rounds: [] };
}

async function takeRound(one: Running, fixedRate: number, plan: Plan): Promise<Round> {
  const sides = () => one.groups.map((group) => groupCpu([group]));
  const before = sides();
  const busyBefore = coreBusyTicks(plan.cores.subject);
  const since = performance.now();
  const load = saturate(plan.driver, one.target, plan.seconds);
  await Bun.sleep(plan.seconds * 800);
  const rssMb = groupRssAnonMb(one.groups) / one.groups.length;
  const result = await load;
  const wallMs = performance.now() - since;
  const busyMs = (coreBusyTicks(plan.cores.subject) - busyBefore) * 10;
  const after = sides();
  const sideMs = after.map((cpu, i) => cpu.userMs + cpu.kernelMs - before[i]!.userMs - before[i]!.kernelMs);
  const ownMs = sideMs.reduce((sum, ms) => sum + ms, 0);
  const userMs = after.reduce((sum, cpu, i) => sum + cpu.userMs - before[i]!.userMs, 0);

  const fixedBefore = groupCpu(one.groups);
  const fixed = await atRate(plan.driver, one.target, fixedRate, Math.max(1, Math.round((plan.seconds * 2) / 3)));
  const fixedAfter = groupCpu(one.groups);
  const fixedMs = fixedAfter.userMs + fixedAfter.kernelMs - fixedBefore.userMs - fixedBefore.kernelMs;
  return {
    requests: result.requests,
    sideMs,
    userMs,
    kernelMs: ownMs - userMs,
    requestsPerSecond: result.requestsPerSecond,
    p50Us: result.p50Us,
    p99Us: result.p99Us,
    foreign: Math.max(0, (busyMs - ownMs) / wallMs),
    busy: Math.min(1, ownMs / wallMs),
    rssMb,
    fixed: { cpuUs: (fixedMs * 1000) / fixed.answered / one.groups.length, p50Us: fixed.p50Us, p99Us: fixed.p99Us },
  };
}

function summarize(one: Running, fixedRate: number): Figures {
  const of = (read: (round: Round) => number): Spread => spread(one.rounds.map(read));
  const count = one.groups.length;
  const sidesUs: Record<string, Spread> = {};
  one.subject.proxies.forEach((proxy, i) => {
    sidesUs[proxy.side] = of((round) => (round.sideMs[i]! * 1000) / round.requests);
  });
  return {
    subject: one.subject.name,
    version: one.subject.version,
    cpuUs: of((round) => ((round.userMs + round.kernelMs) * 1000) / round.requests / count),
    userUs: of((round) => (round.userMs * 1000) / round.requests / count),
    kernelUs: of((round) => (round.kernelMs * 1000) / round.requests / count),
    sidesUs,
    requestsPerSecond: of((round) => round.requestsPerSecond),
    p50Us: of((round) => round.p50Us),
    p99Us: of((round) => round.p99Us),
    fixedRate: {
      requestsPerSecond: fixedRate,
      cpuUs: of((round) => round.fixed.cpuUs),
      p50Us: of((round) => round.fixed.p50Us),
      p99Us: of((round) => round.fixed.p99Us),
    },
    idleRssAnonMb: one.idleMb,
    loadRssAnonMb: median(one.rounds.map((round) => round.rssMb)),
    foreignShare: of((round) => round.foreign),
    busyShare: of((round) => round.busy),
    requests: one.rounds.reduce((sum, round) => sum + round.requests, 0),
    proven: one.proven,
    ...(one.subject.note === undefined ? {} : { note: one.subject.note }),
  };
}
