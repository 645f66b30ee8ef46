// Owns: the two cases without load: private memory of an idle sidecar, and the time from exec to the first answer. Peers do the same from the
// configurations of the plain hop.
import { freePorts } from "../machine.ts";
import { untilAnswering } from "../probe.ts";
import { groupRssAnonMb, groupRunTime } from "../proc.ts";
import { type Spread, spread } from "../stats.ts";
import { hopSubjects } from "../subjects/build.ts";
import { HOST, LOAD_PATH, type Subject } from "../subjects/subject.ts";
import { Collector, type QuietCase, type QuietResult } from "./collect.ts";
import { answeringControlPlane, meshSidecar, type StartTime, sidecarStarts, snapshotStarts } from "./mesh.ts";

const SETTLE_MS = 3000; // runtimes give back start-up garbage within two seconds

async function originPort(input: QuietCase): Promise<number> {
  const [port] = await freePorts(1);
  const script = new URL("../load/origin.ts", import.meta.url).pathname;
  const origin = input.shop.start("origin", [process.execPath, script, String(port)], input.plan.driver.cores);
  await untilAnswering(origin, { port: port!, host: HOST, path: LOAD_PATH }, performance.now());
  return port!;
}

/** Starts each subject, one request, waits, reads. `weft` runs from a static file, `weft-sidecar` is one that `weft run` started. */
export async function idleMemory(input: QuietCase): Promise<QuietResult> {
  const subjects = await hopSubjects({ dir: input.shop.dir, originPort: await originPort(input), tools: input.tools });
  const collector = new Collector(input);
  await collector.take("weft-sidecar", "this tree", async () => {
    const { sidecarMb, supervisorMb } = await meshSidecar(input.shop, input.plan.cores, SETTLE_MS);
    const note = `\`weft run\` beside it takes another ${supervisorMb.toFixed(1)} MB`;
    return { rssAnonMb: spread([sidecarMb]), note };
  });
  for (const subject of subjects) {
    await collector.take(subject.name, subject.version, async () => {
      const { processes } = await up(input, subject);
      await Bun.sleep(SETTLE_MS);
      const rssAnonMb = spread([groupRssAnonMb(processes.map((process) => process.pid))]);
      for (const process of processes) await process.stop();
      return { rssAnonMb };
    });
  }
  return collector.result();
}

/**
 * Ten starts of each subject in turn; `weft-up` is the control plane on a warm folder, `weft-sidecar` a proxy that gets everything from it,
 * `weft-sidecar-snapshot` one that starts without it. */
export async function start(input: QuietCase): Promise<QuietResult> {
  const context = { dir: input.shop.dir, originPort: await originPort(input), tools: input.tools };
  const subjects = [...(await hopSubjects(context)), await bareRuntime()];
  const collector = new Collector(input);
  const times = new Map<string, StartTime[]>();
  const starts = Math.max(3, input.plan.rounds * 2);
  for (let i = 0; i < starts; i++) {
    for (const subject of subjects) {
      if (collector.lost(subject.name)) continue;
      await collector.guard(subject.name, async () => {
        const { processes, time } = await up(input, subject);
        for (const process of processes) await process.stop();
        times.set(subject.name, [...(times.get(subject.name) ?? []), time]);
      });
    }
  }
  await collector.take("weft-up", "this tree", async () => ({
    ...summary(await answeringControlPlane(input.shop, input.plan.cores, starts)),
  }));
  await collector.take("weft-sidecar", "this tree", async () => ({
    ...summary(await sidecarStarts(input.shop, input.plan.cores, starts)),
  }));
  await collector.take("weft-sidecar-snapshot", "this tree", async () => ({
    ...summary(await snapshotStarts(input.shop, input.plan.cores, starts)),
  }));
  for (const subject of subjects) {
    if (collector.lost(subject.name)) continue;
    await collector.take(subject.name, subject.version, async () => summary(times.get(subject.name) ?? []));
  }
  return collector.result();
}

/** The runtime with a server of forty lines: what a start costs before Weft adds anything, and how fast the machine is in this minute. */
async function bareRuntime(): Promise<Subject> {
  const [port] = await freePorts(1);
  const script = new URL("../load/origin.ts", import.meta.url).pathname;
  const proxies = [{ side: "proxy", command: [process.execPath, script, String(port)] }];
  return { name: "bare-bun", version: Bun.version, port: port!, proxies };
}

async function up(input: QuietCase, subject: Subject) {
  const since = performance.now();
  const processes = subject.proxies.map((proxy) =>
    input.shop.start(`${subject.name}-${proxy.side}`, proxy.command, String(input.plan.cores.subject), proxy.env),
  );
  const readyMs = await untilAnswering(processes.at(-1)!, { port: subject.port, host: HOST, path: LOAD_PATH }, since);
  return { processes, time: { readyMs, ...groupRunTime(processes[0]!.pid) } };
}

function summary(times: readonly StartTime[]) {
  const of = (read: (time: StartTime) => number): Spread => spread(times.map(read));
  return { readyMs: of((time) => time.readyMs), ranMs: of((time) => time.ranMs), waitedMs: of((time) => time.waitedMs) };
}
