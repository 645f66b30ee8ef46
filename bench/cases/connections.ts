// Owns: what connections cost in private memory while they do nothing: idle ones by the thousand, and readers that hardly read a large answer.

import { saturate } from "../load/drive.ts";
import type { Held } from "../load/hold.ts";
import type { Plan } from "../measure.ts";
import { untilAnswering } from "../probe.ts";
import { groupRssAnonMb, type Started, type Workshop } from "../proc.ts";
import { spread } from "../stats.ts";
import { bodyPath, HOST, LOAD_PATH, type Subject } from "../subjects/subject.ts";
import { Collector, type QuietCase, type QuietResult } from "./collect.ts";
import { frontBench } from "./load.ts";

const SETTLE_MS = 4000; // runtimes give garbage back within two or three seconds
const WATERMARK = 256 << 10; // of each downstream connection, configured in the bootstrap
const READ_MS = 6000;
const SAMPLE_MS = 50;

/** Ways to hold a connection; client certificates are what a mesh's inbound side sees. */
const kinds = ["plain", "tls", "mutual-tls"] as const;

/** Opens `input.held` keep-alive connections, one request on each, and reads what the subject has grown by; each kind on a fresh process. */
export async function idleConnections(input: QuietCase): Promise<QuietResult> {
  const { subjects, certs } = await frontBench(input, { http2: false, tls: true, tcp: false });
  const collector = new Collector(input);
  for (const subject of subjects) {
    if (!collector.wanted(subject.name)) continue;
    const count = Math.min(input.held, subject.mostConnections ?? input.held);
    for (const kind of kinds) {
      await collector.guard(
        subject.name,
        async () => {
          const hold = (count: number): Promise<Started> =>
            holdOpen(input.shop, input.plan, count, {
              port: kind === "plain" ? subject.port : kind === "tls" ? subject.front!.tls : subject.front!.mutual,
              flags: kind === "plain" ? [] : kind === "tls" ? ["-"] : [certs.client.certFile, certs.client.keyFile],
            });
          await running(input, subject, async (groups) => {
            // Code gets compiled and pools get filled before the first reading.
            await saturate(input.plan.driver, { port: subject.port, host: HOST, path: LOAD_PATH }, input.plan.warmSeconds);
            await (await hold(Math.ceil(count / 20))).stop();
            await Bun.sleep(SETTLE_MS);
            const before = groupRssAnonMb(groups);
            const held = await hold(count);
            await Bun.sleep(SETTLE_MS);
            const after = groupRssAnonMb(groups);
            await held.stop();
            const eachKb = spread([((after - before) * 1024) / count]);
            input.plan.say(`  ${kind.padEnd(10)} ${subject.name.padEnd(12)} ${eachKb.median.toFixed(2)} KB each`);
            collector.add({ subject: subject.name, load: kind, version: subject.version, eachKb, rssAnonMb: spread([before]) });
          });
        },
        kind,
      );
    }
  }
  return collector.result();
}

/** One reader of a 1 GiB answer, then `input.readers` of them at once, that take a piece every half second; growth of private memory at its peak. */
export async function slowReaders(input: QuietCase): Promise<QuietResult> {
  const { subjects } = await frontBench(input, { http2: false, tls: false, tcp: false, bufferBytes: WATERMARK });
  const collector = new Collector(input);
  const script = new URL("../load/slow.ts", import.meta.url).pathname;
  for (const subject of subjects) {
    if (!collector.wanted(subject.name)) continue;
    for (const readers of [1, input.readers]) {
      const load = readers === 1 ? "one" : "many";
      await collector.guard(
        subject.name,
        async () =>
          running(input, subject, async (groups) => {
            await saturate(input.plan.driver, { port: subject.port, host: HOST, path: LOAD_PATH }, input.plan.warmSeconds);
            await Bun.sleep(SETTLE_MS / 2);
            const before = groupRssAnonMb(groups);
            const args = [subject.port, HOST, bodyPath("1g"), readers].map(String);
            const clients = input.shop.start("slow", [process.execPath, script, ...args], input.plan.driver.cores);
            let peak = before;
            let reading = false;
            const giveUpAt = performance.now() + 30_000 + READ_MS;
            for (let until = giveUpAt; performance.now() < until; await Bun.sleep(SAMPLE_MS)) {
              peak = Math.max(peak, groupRssAnonMb(groups));
              if (!clients.alive()) break;
              if (!reading && clients.output().includes("READING")) {
                reading = true;
                until = performance.now() + READ_MS;
              }
            }
            const words = clients.output().trim();
            const ended = !clients.alive();
            await clients.stop();
            if (!reading || ended)
              throw new Error(`${readers} slow readers: ${words === "" ? "they were not all served within 30 s" : words}`);
            const grownMb = spread([peak - before]);
            input.plan.say(`  ${String(readers).padEnd(5)} ${subject.name.padEnd(12)} +${grownMb.median.toFixed(1)} MB at the peak`);
            collector.add({ subject: subject.name, load, version: subject.version, grownMb, rssAnonMb: spread([before]) });
          }),
        load,
      );
    }
  }
  return collector.result();
}

/** Starts the subject, waits until it answers, and ends it whatever `act` does. */
export async function running(
  input: Pick<QuietCase, "shop" | "plan">,
  subject: Subject,
  act: (groups: readonly number[]) => Promise<void>,
  cores = String(input.plan.cores.subject),
): Promise<void> {
  const since = performance.now();
  const processes = subject.proxies.map((proxy) => input.shop.start(`${subject.name}-${proxy.side}`, proxy.command, cores, proxy.env));
  try {
    await untilAnswering(processes.at(-1)!, { port: subject.port, host: HOST, path: LOAD_PATH }, since);
    await act(processes.map((process) => process.pid));
  } finally {
    for (const process of processes) await process.stop();
  }
}

async function holdOpen(
  shop: Workshop,
  plan: Plan,
  count: number,
  to: { readonly port: number; readonly flags: readonly string[] },
): Promise<Started> {
  const script = new URL("../load/hold.ts", import.meta.url).pathname;
  const holder = shop.start(
    "hold",
    [process.execPath, script, String(to.port), HOST, LOAD_PATH, String(count), ...to.flags],
    plan.driver.cores,
  );
  const giveUpAt = performance.now() + 120_000;
  while (!holder.output().includes("HELD")) {
    if (!holder.alive() || performance.now() > giveUpAt) throw new Error(`the connections were not opened: ${holder.output()}`);
    await Bun.sleep(50);
  }
  const held: Held = JSON.parse(/^HELD (\{.*\})$/m.exec(holder.output())![1]!);
  if (held.failed > 0 || held.held < count) {
    await holder.stop();
    throw new Error(`${held.held} of ${count} connections are held, ${held.failed} failed: ${held.why ?? "closed afterwards"}`);
  }
  return holder;
}
