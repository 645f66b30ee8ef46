// Owns: what a client sees while instances fail or are asked for more than they can do: one of three killed, one of three answering errors, one service at
// twice its capacity. Judged by the client's counts alone, beside Envoy with the same configuration in the same run.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Witnessed } from "../load/witness.ts";
import { freePorts } from "../machine.ts";
import type { Started } from "../proc.ts";
import { spread } from "../stats.ts";
import { ANY, address, bootstrap, cluster, type Json, listener, virtualHost } from "../subjects/bootstrap.ts";
import { envoy, weftProxy } from "../subjects/build.ts";
import { HOST, LOAD_PATH, type Subject } from "../subjects/subject.ts";
import { Collector, type QuietCase, type QuietFigures, type QuietResult } from "./collect.ts";
import { running } from "./connections.ts";

const rounds = 2;
/** Of idempotent calls, while one of three instances is killed or falls ill. */
const perSecond = 2_000;

interface Way {
  readonly name: string;
  readonly proxy: "weft" | "envoy";
}

const both: readonly Way[] = [
  { name: "weft", proxy: "weft" },
  { name: "envoy", proxy: "envoy" },
];

/** What every service of ours has without configuration (docs/retries-and-timeouts.md). */
const safeRetries: Json = { retry_on: "connect-failure,refused-stream,reset", num_retries: 2 };

interface Shape {
  readonly ports: readonly number[];
  readonly cluster?: Readonly<Record<string, Json>>;
  readonly filters?: readonly Json[];
  readonly retry?: Json;
  readonly direction: "INBOUND" | "OUTBOUND";
}

function subjectOf(input: QuietCase, way: Way, ports: readonly number[], shape: Shape): Subject {
  const [listen = 0, admin = 0] = ports;
  const tool = way.proxy === "envoy" ? input.tools.envoy : null;
  const routed: Json = {
    match: { prefix: "/" },
    route: { cluster: "origin", ...(shape.retry === undefined ? {} : { retry_policy: shape.retry }) },
  };
  const lb_endpoints = shape.ports.map((port): Json => ({ endpoint: { address: address(port) } }));
  // Istio's bound: Envoy's own of three retries at once would be all that the row shows.
  const circuit_breakers: Json = { thresholds: [{ max_retries: 1024 }] };
  const clusters = [
    cluster("origin", 0, {
      circuit_breakers,
      ...shape.cluster,
      load_assignment: { cluster_name: "origin", endpoints: [{ lb_endpoints }] },
    }),
  ];
  const text = bootstrap(
    "faults",
    admin,
    [listener("faults", listen, shape.direction, [virtualHost("shop", HOST, [routed])], shape.filters ?? [], null)],
    clusters,
  );
  const file = join(input.shop.dir, `faults-${way.name}-${listen}.json`);
  writeFileSync(file, text);
  return {
    name: way.name,
    version: tool?.path == null ? "" : tool.version,
    proxies: [{ side: "proxy", command: tool?.path == null ? weftProxy(file) : envoy(tool.path, file) }],
    port: listen,
  };
}

/** Drives `port` for `seconds`; `act` runs at `atMs`. What falls due from `fromMs` on is counted apart. */
async function witness(
  input: QuietCase,
  port: number,
  load: { readonly rate: number; readonly seconds: number; readonly fromMs: number; readonly connections?: number },
  atMs = 0,
  act: () => void = () => {},
): Promise<Witnessed> {
  const script = new URL("../load/witness.ts", import.meta.url).pathname;
  const args = [port, HOST, LOAD_PATH, load.rate, load.seconds, load.connections ?? 64, load.fromMs].map(String);
  const client = input.shop.start("witness", [process.execPath, script, ...args], input.plan.driver.cores);
  if (!(await client.untilSays("START"))) throw new Error(`the client did not start: ${client.output()}`);
  await Bun.sleep(atMs);
  act();
  for (const giveUpAt = performance.now() + (load.seconds + 15) * 1_000; client.alive() && performance.now() < giveUpAt; )
    await Bun.sleep(20);
  const last = client.output().trim().split("\n").at(-1) ?? "";
  await client.stop();
  if (!last.startsWith("{")) throw new Error(`the client gave no counts: ${last}`);
  return JSON.parse(last) as Witnessed;
}

async function three(input: QuietCase, script: string): Promise<{ ports: readonly number[]; origins: readonly Started[] }> {
  const ports = await freePorts(3);
  const path = new URL(`../load/${script}`, import.meta.url).pathname;
  const origins = ports.map((port, n) => input.shop.start(`origin-${n}`, [process.execPath, path, String(port)], input.plan.driver.cores));
  for (const origin of origins) if (!(await origin.untilSays("READY"))) throw new Error(`an origin did not start: ${origin.output()}`);
  return { ports, origins };
}

function available(input: QuietCase, way: Way): boolean {
  return way.proxy === "weft" || input.tools.envoy.path !== null;
}

/** Everything of a way, round by round, as one row. */
function row(collector: Collector, way: Way, version: string, taken: readonly Witnessed[], more: Partial<QuietFigures>): void {
  if (taken.length === 0) return;
  collector.add({
    subject: way.name,
    version,
    requestsPerSecond: spread(taken.map((one) => one.perSecond)),
    p99Ms: spread(taken.map((one) => one.p99Ms)),
    ...more,
  });
}

const words = (one: Witnessed): string => `${one.asked} asked, ${JSON.stringify(one.seen)}, p99 ${one.p99Ms.toFixed(1)} ms`;

/** SIGKILL of one of three instances after a second: requests that failed at the client. */
export async function kill(input: QuietCase): Promise<QuietResult> {
  const collector = new Collector(input);
  for (const way of both) {
    if (!available(input, way) || !collector.wanted(way.name)) continue;
    const taken: Witnessed[] = [];
    let version = "";
    await collector.guard(
      way.name,
      async () => {
        for (let round = 0; round < Math.min(rounds, input.plan.rounds); round++) {
          const { ports, origins } = await three(input, "moody-origin.ts");
          const subject = subjectOf(input, way, await freePorts(2), { ports, retry: safeRetries, direction: "OUTBOUND" });
          version = subject.version;
          await running(input, subject, async () => {
            await witness(input, subject.port, { rate: 500, seconds: 1, fromMs: 0 });
            const one = await witness(input, subject.port, { rate: perSecond, seconds: 4, fromMs: 0 }, 1_000, () =>
              process.kill(origins[0]?.pid as number, "SIGKILL"),
            );
            taken.push(one);
            input.plan.say(`  round ${round + 1} ${way.name.padEnd(6)} ${words(one)}`);
          });
          await Promise.all(origins.map((origin) => origin.stop()));
        }
      },
      null,
      way.proxy === "envoy",
    );
    if (taken.length > 0) row(collector, way, version, taken, { failed: spread(taken.map((one) => one.failed)) });
  }
  return collector.result();
}

/** One of three answers half of its requests with 500 from the first second on: share of errors at the client from two seconds later on. */
export async function brownOut(input: QuietCase): Promise<QuietResult> {
  const collector = new Collector(input);
  const outlier_detection: Json = { consecutive_5xx: 5, interval: "1s", base_ejection_time: "30s", max_ejection_percent: 50 };
  for (const way of both) {
    if (!available(input, way) || !collector.wanted(way.name)) continue;
    const taken: Witnessed[] = [];
    let version = "";
    await collector.guard(
      way.name,
      async () => {
        for (let round = 0; round < Math.min(rounds, input.plan.rounds); round++) {
          const { ports, origins } = await three(input, "moody-origin.ts");
          const shape: Shape = { ports, retry: safeRetries, cluster: { outlier_detection }, direction: "OUTBOUND" };
          const subject = subjectOf(input, way, await freePorts(2), shape);
          version = subject.version;
          await running(input, subject, async () => {
            await witness(input, subject.port, { rate: 500, seconds: 1, fromMs: 0 });
            const load = { rate: perSecond, seconds: 5, fromMs: 3_000 };
            const one = await witness(input, subject.port, load, 1_000, () => process.kill(origins[0]?.pid as number, "SIGUSR2"));
            taken.push(one);
            input.plan.say(`  round ${round + 1} ${way.name.padEnd(6)} ${words(one)}; later ${one.lateFailed} of ${one.lateAsked}`);
          });
          await Promise.all(origins.map((origin) => origin.stop()));
        }
      },
      null,
      way.proxy === "envoy",
    );
    const shares = taken.map((one) => (100 * one.lateFailed) / one.lateAsked);
    if (taken.length > 0)
      row(collector, way, version, taken, { lostPercent: spread(shares), failed: spread(taken.map((one) => one.failed)) });
  }
  return collector.result();
}

const hands = 16;
const meanMs = 20;
const weftAdmission: Json = {
  name: "weft.filters.http.admission",
  typed_config: { "@type": "type.googleapis.com/weft.extensions.v1.Admission" },
};
/** Envoy's own defaults need minutes to find a limit; these are what its documentation starts with. */
const envoyAdmission: Json = {
  name: "envoy.filters.http.adaptive_concurrency",
  typed_config: {
    "@type": `${ANY}extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency`,
    gradient_controller_config: {
      sample_aggregate_percentile: { value: 90 },
      concurrency_limit_params: { concurrency_update_interval: "0.1s" },
      min_rtt_calc_params: { jitter: { value: 10 }, interval: "60s", request_count: 50 },
    },
  },
};

/** Open loop at twice what the service can do: what of its capacity goes on being served in time, and how late that is against an idle service. */
export async function overload(input: QuietCase): Promise<QuietResult> {
  const collector = new Collector(input);
  const [port = 0] = await freePorts(1);
  const path = new URL("../load/hands-origin.ts", import.meta.url).pathname;
  const origin = input.shop.start("origin", [process.execPath, path, ...[port, hands, meanMs].map(String)], input.plan.driver.cores);
  if (!(await origin.untilSays("READY"))) throw new Error(`the origin did not start: ${origin.output()}`);
  // By itself, always busy: what it can do on this machine.
  const alone = await witness(input, port, { rate: ((2 * 1_000) / meanMs) * hands, seconds: 3, fromMs: 1_000, connections: 4 * hands });
  const capacity = alone.perSecond;
  input.plan.say(`  the service alone does ${capacity.toFixed(0)} a second`);
  for (const way of both) {
    if (!available(input, way) || !collector.wanted(way.name)) continue;
    await collector.guard(
      way.name,
      async () => {
        const filters = [way.proxy === "weft" ? weftAdmission : envoyAdmission];
        const subject = subjectOf(input, way, await freePorts(2), { ports: [port], filters, direction: "INBOUND" });
        await running(input, subject, async () => {
          const idle = await witness(input, subject.port, { rate: capacity * 0.3, seconds: 3, fromMs: 500 });
          const full = await witness(input, subject.port, { rate: capacity * 2, seconds: 6, fromMs: 3_000, connections: 512 });
          input.plan.say(`  ${way.name.padEnd(6)} unloaded: ${words(idle)}`);
          input.plan.say(`  ${way.name.padEnd(6)} at twice: ${words(full)}; ${full.perSecond.toFixed(0)} a second`);
          row(collector, way, subject.version, [full], {
            lostPercent: spread([Math.max(0, 100 * (1 - full.perSecond / capacity))]),
            timesIdle: spread([full.p99Ms / idle.p99Ms]),
          });
        });
      },
      null,
      way.proxy === "envoy",
    );
  }
  await origin.stop();
  return collector.result();
}
