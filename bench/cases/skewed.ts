// Owns: balancing over origins of which one of ten is ten times slower, at 60 % of what all can serve together: p99 of Weft's default for HTTP beside those of
// Envoy's policies, in the same run, round by round. CPU time is not judged here.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { atRate } from "../load/drive.ts";
import { freePorts } from "../machine.ts";
import { spread } from "../stats.ts";
import { address, bootstrap, cluster, type Json, listener, route, virtualHost } from "../subjects/bootstrap.ts";
import { envoy, weftProxy } from "../subjects/build.ts";
import { HOST, LOAD_PATH, type Subject } from "../subjects/subject.ts";
import { Collector, type QuietCase, type QuietResult } from "./collect.ts";
import { running } from "./connections.ts";

const endpoints = 10;
const meanMs = 10;
/** Requests a second that nine quick ones and one slow one serve with one hand each. */
const capacity = 9 * (1_000 / meanMs) + 1_000 / (10 * meanMs);
const load = 0.6;
/** Enough requests for a p99, and for the smoothing to have seen all origins. */
const seconds = 5;

interface Way {
  readonly name: string;
  readonly proxy: "weft" | "envoy";
  readonly policy: Readonly<Record<string, Json>>;
}

const ways: readonly Way[] = [
  {
    name: "weft",
    proxy: "weft",
    policy: { lb_policy: "LEAST_REQUEST", metadata: { filter_metadata: { "weft.dev": { balance: "peak_ewma" } } } },
  },
  { name: "weft-least-request", proxy: "weft", policy: { lb_policy: "LEAST_REQUEST" } },
  { name: "envoy-round-robin", proxy: "envoy", policy: { lb_policy: "ROUND_ROBIN" } },
  { name: "envoy-random", proxy: "envoy", policy: { lb_policy: "RANDOM" } },
  { name: "envoy-least-request", proxy: "envoy", policy: { lb_policy: "LEAST_REQUEST" } },
  {
    name: "envoy-least-request-5",
    proxy: "envoy",
    policy: { lb_policy: "LEAST_REQUEST", least_request_lb_config: { choice_count: 5 } },
  },
];

export async function skewed(input: QuietCase): Promise<QuietResult> {
  const collector = new Collector(input);
  const origins = await freePorts(endpoints);
  const script = new URL("../load/skewed-origin.ts", import.meta.url).pathname;
  const origin = input.shop.start(
    "skewed-origin",
    [process.execPath, script, String(meanMs), ...origins.map(String)],
    input.plan.driver.cores,
  );
  if (!(await origin.untilSays("READY"))) throw new Error(`the origins did not start: ${origin.output()}`);
  const p99 = new Map<string, number[]>();
  const version = new Map<string, string>();
  for (let round = 0; round < Math.min(3, input.plan.rounds); round++) {
    for (const way of ways) {
      const tool = way.proxy === "envoy" ? input.tools.envoy : null;
      if (tool?.path === null || !collector.wanted(way.name)) continue;
      // Even shares overrun the slow one's queue, and end in errors: such a policy is out of the comparison, and said so.
      const act = async (): Promise<void> => {
        const [listen = 0, admin = 0] = await freePorts(2);
        const file = join(input.shop.dir, `skewed-${way.name}.json`);
        writeFileSync(file, text(way, listen, admin, origins));
        const subject: Subject = {
          name: way.name,
          version: tool?.version ?? "",
          proxies: [{ side: "proxy", command: tool === null ? weftProxy(file) : envoy(tool.path, file) }],
          port: listen,
        };
        await running(input, subject, async () => {
          const result = await atRate(input.plan.driver, { port: listen, host: HOST, path: LOAD_PATH }, capacity * load, seconds);
          version.set(way.name, subject.version);
          p99.set(way.name, [...(p99.get(way.name) ?? []), result.p99Us / 1_000]);
          input.plan.say(
            `  round ${round + 1} ${way.name.padEnd(22)} p50 ${(result.p50Us / 1_000).toFixed(1)} ms, p99 ${(result.p99Us / 1_000).toFixed(1)} ms`,
          );
        });
      };
      await collector.guard(way.name, act, null, way.proxy === "envoy");
    }
  }
  await origin.stop();
  for (const { name } of ways) {
    const own = p99.get(name);
    if (own === undefined) continue;
    const best = own.map((_, round) =>
      Math.min(...[...p99].filter(([other]) => other.startsWith("envoy")).map(([, rounds]) => rounds[round] ?? Number.POSITIVE_INFINITY)),
    );
    const ratios = own.map((value, round) => value / (best[round] ?? Number.NaN)).filter((ratio) => Number.isFinite(ratio) && ratio > 0);
    collector.add({
      subject: name,
      version: version.get(name) ?? "",
      tookMs: spread(own),
      ...(ratios.length === 0 ? {} : { timesBest: spread(ratios) }),
    });
  }
  return collector.result();
}

function text(way: Way, listen: number, admin: number, origins: readonly number[]): string {
  const hosts = [virtualHost("shop", HOST, [route({ prefix: "/" }, "origin")])];
  const lb_endpoints = origins.map((port): Json => ({ endpoint: { address: address(port) } }));
  const clusters = [cluster("origin", 0, { ...way.policy, load_assignment: { cluster_name: "origin", endpoints: [{ lb_endpoints }] } })];
  return bootstrap("skewed", admin, [listener("skewed", listen, "OUTBOUND", hosts, [], null)], clusters);
}
