// Owns: the soak (no growth of private memory under half of what the subject can do) and the gain of a second worker.
import { atRate, saturate } from "../load/drive.ts";
import { groupCpu, groupRssAnonMb } from "../proc.ts";
import { riseOfFloor, spread } from "../stats.ts";
import { weftProxy } from "../subjects/build.ts";
import { HOST, LOAD_PATH, type Subject } from "../subjects/subject.ts";
import { Collector, type QuietCase, type QuietResult } from "./collect.ts";
import { running } from "./connections.ts";
import { frontBench } from "./load.ts";

const SLICE_SECONDS = 10; // each slice opens its connections anew
const WARM_SHARE = 0.25; // of the time: not judged

/**
 * Half of the saturation rate for `input.soakSeconds`. Garbage makes the figure go up and down, so the least reading of each slice counts,
 * and what the lowest of the second half of the judged time lies above that of the first is the growth.
 */
export async function soak(input: QuietCase): Promise<QuietResult> {
  const { subjects } = await frontBench(input, { http2: false, tls: false, tcp: false });
  const collector = new Collector(input);
  const names = input.subjects.length === 0 ? ["weft"] : input.subjects;
  for (const subject of subjects.filter((one) => names.includes(one.name))) {
    await collector.take(subject.name, subject.version, async () => {
      let result: { grown: number; note: string } | undefined;
      await running(input, subject, async (groups) => {
        const target = { port: subject.port, host: HOST, path: LOAD_PATH };
        const rate = (await saturate(input.plan.driver, target, input.plan.warmSeconds)).requestsPerSecond / 2;
        const slices = Math.max(4, Math.round(input.soakSeconds / SLICE_SECONDS));
        const least: number[] = [];
        for (let i = 0; i < slices; i++) {
          let low = Number.POSITIVE_INFINITY;
          const timer = setInterval(() => {
            low = Math.min(low, groupRssAnonMb(groups));
          }, 500);
          await atRate(input.plan.driver, target, rate, SLICE_SECONDS).finally(() => clearInterval(timer));
          least.push(low);
          input.plan.say(`  ${subject.name} ${(i + 1) * SLICE_SECONDS} s: ${low.toFixed(1)} MB at ${Math.round(rate)}/s`);
        }
        const judged = least.slice(Math.floor(slices * WARM_SHARE));
        const grown = riseOfFloor(judged);
        const seconds = judged.length * SLICE_SECONDS;
        const note = `${Math.round(rate)} requests/s; between ${Math.min(...judged).toFixed(1)} and ${Math.max(...judged).toFixed(1)} MB over the last ${seconds} s of ${slices * SLICE_SECONDS}`;
        result = { grown, note };
      });
      return { grownMb: spread([result!.grown]), note: result!.note };
    });
  }
  return collector.result();
}

/** Saturation with one and with two workers, not pinned: on two cores the load generator takes its share, so this informs and judges nothing. */
export async function workers(input: QuietCase): Promise<QuietResult> {
  const { subjects } = await frontBench(input, { http2: false, tls: false, tcp: false });
  const weft = subjects.find((subject) => subject.name === "weft")!;
  const collector = new Collector({ ...input, subjects: [] });
  const cores = `${input.plan.cores.subject},${input.plan.cores.others}`;
  for (const count of [1, 2]) {
    const name = `weft-workers-${count}`;
    await collector.guard(
      name,
      async () => {
        const file = weft.proxies[0]!.command.at(-1)!;
        const subject: Subject = { ...weft, name, proxies: [{ side: "proxy", command: weftProxy(file, "--workers", String(count)) }] };
        await running(
          input,
          subject,
          async (groups) => {
            const target = { port: subject.port, host: HOST, path: LOAD_PATH };
            await saturate(input.plan.driver, target, input.plan.warmSeconds);
            const before = groupCpu(groups);
            const result = await saturate(input.plan.driver, target, input.plan.seconds);
            const after = groupCpu(groups);
            const cpuMs = after.userMs + after.kernelMs - before.userMs - before.kernelMs;
            collector.add({
              subject: name,
              version: weft.version,
              requestsPerSecond: spread([result.requestsPerSecond]),
              rssAnonMb: spread([groupRssAnonMb(groups)]),
              note: `${((cpuMs * 1000) / result.requests).toFixed(1)} us a request over all its processes`,
            });
          },
          cores,
        );
      },
      null,
      true,
    );
  }
  return collector.result();
}
