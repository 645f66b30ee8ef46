// Owns: the demo's story: what is done to the mesh, and what the client must have seen of it. Judged by the client's own counts alone.

import type { Processes, Workload } from "./processes.ts";
import { killTree } from "./processes.ts";
import type { Counts, Failure, Shopper } from "./shopper-client.ts";
import { lookAt } from "./wire-check.ts";

export interface Stage {
  readonly processes: Processes;
  readonly shopper: Shopper;
  /** Running instances by name; the story kills and adds some. */
  readonly workloads: Map<string, Workload>;
  readonly startInstance: (name: string, service: string) => Workload;
  /** 1 = a story of about 30 s; more = longer looks. */
  readonly pace: number;
  readonly say: (line: string) => void;
}

export interface Step {
  readonly title: string;
  readonly run: (stage: Stage) => Promise<string>;
}

/** A step that did not hold. */
export class StepFailed extends Error {
  override readonly name = "StepFailed";
}

function must(holds: boolean, message: string): void {
  if (!holds) throw new StepFailed(message);
}

function describe(failures: readonly Failure[]): string {
  const first = failures[0];
  if (first === undefined) return "";
  return `${failures.length} failed, the first: ${first.method} ${first.path} -> ${first.status || "no answer"} ${first.detail}`;
}

/** What the client saw while `during` ran, and for `ms` after it. */
async function watch(
  stage: Stage,
  ms: number,
  during: () => Promise<void> = async () => {},
): Promise<{ before: Counts; after: Counts; failures: readonly Failure[] }> {
  const before = await stage.shopper.fresh();
  const mark = stage.shopper.failures.length;
  await during();
  await Bun.sleep(ms);
  const after = await stage.shopper.fresh();
  return { before, after, failures: stage.shopper.failures.slice(mark) };
}

const gained = (after: Readonly<Record<string, number>>, before: Readonly<Record<string, number>>, key: string): number =>
  (after[key] ?? 0) - (before[key] ?? 0);

function split(v1: number, v2: number): string {
  return `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, port: 80}]
  rules:
    - backendRefs:
        - {name: reviews-v1, port: 80, weight: ${v1}}
        - {name: reviews-v2, port: 80, weight: ${v2}}
`;
}

async function apply(stage: Stage, manifest: string): Promise<void> {
  const { code, out, err } = await stage.processes.weft(["apply", "-f", "-"], manifest);
  must(code === 0, `weft apply ended with status ${code}: ${err.trim() || out.trim()}`);
}

interface Entry {
  metadata: { name: string; labels?: Record<string, string> };
  spec: { address: string; ports: Record<string, number> };
}

const trafficFlows: Step = {
  title: "traffic flows, encrypted",
  async run(stage) {
    await stage.processes.waitFor("40 good answers", 15_000, () => stage.shopper.counts.ok >= 40);
    const { before, after, failures } = await watch(stage, 1500 * stage.pace);
    must(failures.length === 0, describe(failures));
    must(after.ok - before.ok > 20, `only ${after.ok - before.ok} good answers`);
    const { items } = await stage.processes.weftJson<{ items: Entry[] }>(["get", "workloadentries", "-n", "shop"]);
    must(items.length >= stage.workloads.size, `${items.length} of ${stage.workloads.size} instances are registered`);
    for (const entry of items) {
      for (const port of Object.values(entry.spec.ports)) {
        const facts = await lookAt(entry.spec.address, port);
        const account = entry.metadata.labels?.app ?? "";
        must(facts.protocol === "TLSv1.3", `${entry.metadata.name} speaks ${facts.protocol} on its port, not TLSv1.3`);
        must(
          facts.identity.includes(`spiffe://cluster.local/ns/shop/sa/${account}`),
          `${entry.metadata.name} shows the identity ${facts.identity}`,
        );
        must(!facts.answeredWithoutCertificate, `${entry.metadata.name} answers a caller that has no certificate`);
        must(!facts.answeredPlainText, `${entry.metadata.name} answers a caller in plain text`);
      }
    }
    return `${after.ok - before.ok} good answers, none failed; ${items.length} ports looked at: TLS 1.3, and nobody is answered without a certificate or in plain text`;
  },
};

/** A share of v2 that three standard deviations around the set one would still allow, but the neighbouring step would not. */
function shift(v1: number, v2: number, low: number, high: number): Step {
  return {
    title: `reviews moves to v2: ${v1}/${v2}`,
    async run(stage) {
      await apply(stage, split(v1, v2));
      // Counts of requests that were under way at the change still carry the old split.
      await Bun.sleep(300);
      await stage.shopper.fresh();
      const { before, after, failures } = await watch(stage, 2400 * stage.pace);
      must(failures.length === 0, describe(failures));
      const one = gained(after.byVersion, before.byVersion, "v1");
      const two = gained(after.byVersion, before.byVersion, "v2");
      must(one + two > 60, `only ${one + two} pages were served`);
      const share = two / (one + two);
      must(
        share >= low && share <= high,
        `v2 served ${(share * 100).toFixed(1)} % of ${one + two} pages, not between ${low * 100} and ${high * 100} %`,
      );
      return `v1 ${one}, v2 ${two} pages: ${(share * 100).toFixed(1)} % v2`;
    },
  };
}

const instanceDies: Step = {
  title: "an instance is killed with SIGKILL and another started",
  async run(stage) {
    const victim = stage.workloads.get("ratings-a");
    if (victim === undefined) throw new StepFailed("there is no instance ratings-a to kill");
    let killedAt = 0;
    const { before, after, failures } = await watch(stage, 2500 * stage.pace, async () => {
      killedAt = Date.now();
      const count = killTree(victim.child.pid);
      stage.workloads.delete("ratings-a");
      stage.say(`  ratings-a: supervisor, sidecar and application killed (${count} processes)`);
      stage.workloads.set("ratings-c", stage.startInstance("ratings-c", "ratings"));
    });
    const safe = failures.filter((failure) => failure.method === "GET");
    must(safe.length === 0, `requests that are safe to retry failed: ${describe(safe)}`);
    const late = failures.filter((failure) => failure.startedAt > killedAt);
    must(late.length === 0, `requests that began after the kill failed: ${describe(late)}`);
    await stage.processes.waitFor("ratings-c serves", 8000, () => gained(stage.shopper.counts.byRater, before.byRater, "ratings-c") > 0);
    const spared = failures.length === 0 ? "none failed" : `${failures.length} in flight on it failed, none after`;
    return `${after.ok - before.ok} good answers, ${spared}; ratings-c has taken its place`;
  },
};

const policyForbids: Step = {
  title: "a call that policy forbids is refused",
  async run(stage) {
    const mark = stage.shopper.failures.length;
    const answer = await stage.shopper.probe("GET", "http://cart/carts/user1");
    must(answer.status === 403, `the shopper's own call to cart was answered ${answer.status}: ${answer.body}`);
    const reason = answer.headers["x-weft-reason"] ?? "";
    must(reason !== "", `the refusal gives no reason: ${JSON.stringify(answer.headers)}`);
    const allowed = await stage.shopper.probe("GET", "http://web/cart/user1");
    must(allowed.status === 200, `the same cart by way of web was answered ${allowed.status}: ${allowed.body}`);
    must(stage.shopper.failures.length === mark, describe(stage.shopper.failures.slice(mark)));
    return `403, "${reason}"; by way of web the same cart answers 200`;
  },
};

const controlPlaneDies: Step = {
  title: "the control plane is killed and comes back",
  async run(stage) {
    const control = stage.processes.controlPlane;
    if (control === undefined) throw new StepFailed("no control plane is running");
    const away = await watch(stage, 2000 * stage.pace, async () => {
      killTree(control.pid);
      await control.exited;
      stage.say("  the control plane is gone");
    });
    must(away.failures.length === 0, `while it was away: ${describe(away.failures)}`);
    must(away.after.ok - away.before.ok > 20, `only ${away.after.ok - away.before.ok} good answers while it was away`);
    const back = await watch(stage, 500, async () => {
      await stage.processes.startControlPlane([]);
      stage.say("  the control plane is back");
      await stage.processes.waitFor("every sidecar is connected and in step again", 10_000, async () => {
        const { items } = await stage.processes.weftJson<{ items: { status: { connected: boolean; synced: boolean } }[] }>([
          "get",
          "proxies",
          "-n",
          "shop",
        ]);
        return items.filter((proxy) => proxy.status.connected && proxy.status.synced).length >= stage.workloads.size;
      });
    });
    must(back.failures.length === 0, `while it came back: ${describe(back.failures)}`);
    await apply(stage, split(50, 50));
    await Bun.sleep(300);
    const changed = await watch(stage, 800);
    must(gained(changed.after.byVersion, changed.before.byVersion, "v1") > 0, "a change made after its return is not in force");
    must(changed.failures.length === 0, describe(changed.failures));
    return `${away.after.ok - away.before.ok} good answers without it, none failed; back again, a new split is in force`;
  },
};

const contradiction: Step = {
  title: "configuration that contradicts itself is refused",
  async run(stage) {
    const other = split(0, 100)
      .replace("{name: reviews,", "{name: reviews-to-v2,")
      .replace("name: reviews, namespace", "name: reviews-to-v2, namespace");
    const { code, out, err } = await stage.processes.weft(["apply", "-f", "-"], other);
    const message = `${out}${err}`.trim();
    must(code === 1, `weft apply ended with status ${code}: ${message}`);
    must(message.includes("reviews-to-v2") && /shop\/reviews\b(?!-)/.test(message), `the message does not name both sides: ${message}`);
    const look = await stage.processes.weft(["get", "httproute", "reviews-to-v2", "-n", "shop"]);
    must(look.code === 1, "the refused route is there all the same");
    return message.split("\n").slice(-1)[0] ?? "";
  },
};

export const story: readonly Step[] = [
  trafficFlows,
  shift(90, 10, 0.03, 0.2),
  shift(50, 50, 0.36, 0.64),
  shift(0, 100, 1, 1),
  instanceDies,
  policyForbids,
  controlPlaneDies,
  contradiction,
];
