// Owns: `weft diff`: what files would change, object by object and proxy by proxy. Changes nothing.

import type { KubeObject } from "../../api/meta.ts";
import { unified } from "../difference.ts";
import { shownName } from "../discovery.ts";
import { readManifests } from "../manifest.ts";
import { printed, toYaml } from "../output.ts";
import { openSession } from "../session.ts";
import { paint, type Terminal } from "../terminal.ts";
import { type Effect, failureOf, makeSteps, type TransactionResult, transact } from "../together.ts";
import type { Invocation } from "../verb.ts";
import { asWritten } from "../written.ts";
import { type ApplyAsk, describeFault } from "./apply.ts";

export interface ObjectDifference {
  readonly name: string;
  readonly namespace: string | undefined;
  readonly before: KubeObject | undefined;
  readonly after: KubeObject | undefined;
}

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const { manifests, faults } = await readManifests([...args.list("filename"), ...args.operands], () => Bun.stdin.text());
  const session = openSession(invocation);
  const made = await makeSteps(session, args.text("namespace"), manifests);
  const problems = [...faults, ...made.faults];
  const steps = made.steps.filter((step) => step.ask !== undefined);
  const none: TransactionResult = { committed: false, outcomes: [], warnings: [], proxies: [] };
  const asks = steps.map((step) => step.ask as ApplyAsk);
  const answer = asks.length === 0 ? none : await transact(session.client, asks, { dryRun: true, preview: true });
  const changed: ObjectDifference[] = [];
  for (const [at, outcome] of answer.outcomes.entries()) {
    const step = steps[at];
    if (step === undefined) continue;
    if ("status" in outcome) problems.push(describeFault(step.manifest, failureOf(outcome.status)));
    else {
      const name = shownName(step.resource, outcome.object.metadata.name);
      changed.push({ name, namespace: outcome.object.metadata.namespace, before: step.live, after: outcome.object });
    }
  }
  if (problems.length > 0) {
    for (const problem of problems) terminal.err(`${paint(terminal.errColour, "red", "error:")} ${problem}\n`);
    return 1;
  }
  return showDifference(invocation, changed, answer.proxies ?? []);
}

/** Prints both halves; the exit status is 1 with --exit-code when there is a difference. */
export async function showDifference(
  invocation: Invocation,
  objects: readonly ObjectDifference[],
  proxies: readonly Effect[],
): Promise<number> {
  const { args, terminal } = invocation;
  const texts = await Promise.all(
    objects.map(async (each) => ({
      ...each,
      lines: unified(
        each.before === undefined ? "" : await toYaml(asWritten(each.before)),
        each.after === undefined ? "" : await toYaml(asWritten(each.after)),
      ),
    })),
  );
  const different = texts.filter((each) => each.lines.length > 0);
  const status = args.on("exit-code") && different.length > 0 ? 1 : 0;
  const plain = different.map(({ name, namespace, before, after }) => ({
    name,
    namespace,
    before: before === undefined ? null : asWritten(before),
    after: after === undefined ? null : asWritten(after),
  }));
  if (await printed(terminal, args.text("output"), { objects: plain, proxies })) return status;
  if (different.length === 0) terminal.err("nothing would change\n");
  for (const { name, namespace, before, after, lines } of different) {
    const what = before === undefined ? "would be created" : after === undefined ? "would be deleted" : "would change";
    terminal.out(`${paint(terminal.colour, "bold", `${name}${namespace === undefined ? "" : ` in ${namespace}`} ${what}`)}\n`);
    for (const line of lines) terminal.out(`${coloured(terminal, line)}\n`);
    terminal.out("\n");
  }
  if (different.length > 0) showProxies(terminal, proxies);
  return status;
}

function coloured(terminal: Terminal, line: string): string {
  if (line.startsWith("@@")) return paint(terminal.colour, "dim", line);
  return line.startsWith("+") ? paint(terminal.colour, "green", line) : line.startsWith("-") ? paint(terminal.colour, "red", line) : line;
}

const shownProxies = 5;

/** What proxies would do otherwise; those that change alike stand together. */
export function showProxies(terminal: Terminal, proxies: readonly Effect[]): void {
  if (proxies.length === 0) {
    terminal.out("No proxy would do anything else.\n");
    return;
  }
  terminal.out(`${paint(terminal.colour, "bold", "Proxies")}\n`);
  // What changes for the same proxies stands together.
  for (const [who, effects] of Map.groupBy(proxies, (effect) => (effect.all ? "all" : effect.proxies.join(",")))) {
    const names = effects[0]?.proxies ?? [];
    const more = names.length > shownProxies ? ` and ${names.length - shownProxies} more` : "";
    const listed = `${names.slice(0, shownProxies).join(", ")}${more}`;
    terminal.out(`${who === "all" ? `all ${names.length} (${listed})` : listed}\n`);
    for (const { change, kind, what } of effects)
      terminal.out(`${coloured(terminal, `${change === "appears" ? "+" : "-"} ${kind} ${what}`)}\n`);
  }
}
