// Owns: applying manifests as one: all of them or none, or not at all but to see what would come of it (`weft apply --atomic`, `weft diff`).
// The control plane judges and writes; here the requests are made, as `weft apply` makes them one by one.

import type { KubeObject } from "../api/meta.ts";
import { ApiFailure, type Cause, type Client } from "./client.ts";
import { type Resource, resourceFor, shownName } from "./discovery.ts";
import { CliFailure } from "./failure.ts";
import { inOrder, type Manifest } from "./manifest.ts";
import type { Session } from "./session.ts";
import type { Invocation } from "./verb.ts";
import { type ApplyAsk, askFor, describeFault, namespaceOf, outcomeLine, outcomeOf, type Result, readLive, report } from "./verbs/apply.ts";

interface Status {
  readonly message: string;
  readonly reason: string;
  readonly code: number;
  readonly details?: { readonly causes?: readonly Cause[] };
}

export type Outcome =
  | {
      readonly code: number;
      readonly change: "created" | "configured" | "unchanged" | "deleted";
      readonly object: KubeObject;
      readonly before?: KubeObject;
    }
  | { readonly code: number; readonly status: Status };

/** Something that proxies do only before or only after. */
export interface Effect {
  readonly change: "appears" | "vanishes";
  readonly kind: string;
  readonly what: string;
  readonly proxies: readonly string[];
  readonly all: boolean;
}

export interface TransactionResult {
  readonly committed: boolean;
  readonly outcomes: readonly Outcome[];
  readonly proxies?: readonly Effect[];
  readonly warnings: readonly string[];
}

/** One manifest with its request; without one there is nothing to do about it. */
export interface Step {
  readonly manifest: Manifest;
  readonly resource: Resource;
  readonly live: KubeObject | undefined;
  readonly ask: ApplyAsk | undefined;
}

/** Reads what is there and makes the requests. Faults are whole lines, one for each manifest that names nothing the server has. */
export async function makeSteps(
  session: Session,
  asked: string | undefined,
  manifests: readonly Manifest[],
): Promise<{ readonly steps: readonly Step[]; readonly faults: readonly string[] }> {
  const resources = await session.resources();
  const steps: Step[] = [];
  const faults: string[] = [];
  const seen = new Map<string, Manifest>();
  for (const manifest of inOrder(manifests)) {
    try {
      const resource = resourceFor(resources, manifest.object);
      const namespace = namespaceOf(manifest, resource, asked, session.namespace);
      const id = `${resource.plural}.${resource.group} ${namespace ?? ""}/${manifest.object.metadata.name}`;
      const twice = seen.get(id);
      if (twice !== undefined) throw new CliFailure(`stands there twice: also at ${twice.place()}`);
      seen.set(id, manifest);
      const live = await readLive(session.client, resource, namespace, manifest.object);
      steps.push({ manifest, resource, live, ask: askFor(resource, namespace, manifest.object, live) });
    } catch (error) {
      if (!(error instanceof CliFailure) || "retryable" in error) throw error;
      faults.push(describeFault(manifest, error));
    }
  }
  return { steps, faults };
}

export async function transact(
  client: Client,
  asks: readonly ApplyAsk[],
  options: { readonly dryRun: boolean; readonly preview: boolean },
): Promise<TransactionResult> {
  const body = { operations: asks, ...options };
  return client.json<TransactionResult>("/weft/v1alpha1/transactions", { method: "POST", body, alsoGood: [422], timeoutMs: 60_000 });
}

/** What would come of it, with what proxies would do where the caller may see that. */
async function rehearse(client: Client, asks: readonly ApplyAsk[], hidden: (why: string) => void): Promise<TransactionResult> {
  try {
    return await transact(client, asks, { dryRun: true, preview: true });
  } catch (error) {
    if (!(error instanceof ApiFailure) || error.code !== 403) throw error;
    const answer = await transact(client, asks, { dryRun: true, preview: false });
    hidden(error.message);
    return answer;
  }
}

/** The refusal of one operation as the failure it would have been alone. */
export function failureOf(status: Status): ApiFailure {
  return new ApiFailure(status.code, status.reason, status.message, status.details?.causes ?? []);
}

const maxTries = 4;

/** Applies all or none; with `dryRun` nothing is stored, and without --atomic what is good is shown beside what is not. */
export async function applyTogether(
  invocation: Invocation,
  session: Session,
  manifests: readonly Manifest[],
  faults: readonly string[],
  { dryRun }: { readonly dryRun: boolean },
): Promise<number> {
  const { args, terminal } = invocation;
  const total = manifests.length + faults.length;
  for (let attempt = 1; ; attempt++) {
    const made = await makeSteps(session, args.text("namespace"), manifests);
    const problems = [...faults, ...made.faults];
    const steps = made.steps.filter((step) => step.ask !== undefined);
    const nothing: TransactionResult = { committed: true, outcomes: [], warnings: [] };
    let answer = nothing;
    let hidden: string | undefined;
    try {
      // Also when something is wrong already: every fault of every document is shown.
      const asks = steps.map((step) => step.ask as ApplyAsk);
      if (steps.length > 0)
        answer = dryRun
          ? await rehearse(session.client, asks, (why) => (hidden = why))
          : await transact(session.client, asks, { dryRun: problems.length > 0, preview: false });
    } catch (error) {
      if (error instanceof ApiFailure && error.code === 409 && attempt < maxTries) continue;
      throw error;
    }
    for (const warning of answer.warnings) terminal.err(`warning: ${warning}\n`);
    const outcomes = new Map(steps.map((step, at) => [step, answer.outcomes[at]]));
    const raced = answer.outcomes.some((outcome) => "status" in outcome && outcome.code === 409);
    if (raced && attempt < maxTries) continue;
    const results: Result[] = [];
    for (const step of made.steps) {
      const outcome = outcomes.get(step);
      const name = shownName(step.resource, step.manifest.object.metadata.name);
      if (outcome === undefined) results.push({ name, outcome: "unchanged", object: step.live as KubeObject });
      else if ("status" in outcome) problems.push(describeFault(step.manifest, failureOf(outcome.status)));
      else results.push({ name, outcome: outcomeOf(step.ask as ApplyAsk, step.live, outcome.object), object: outcome.object });
    }
    if (problems.length > 0 && (!dryRun || args.on("atomic"))) return report(invocation, [], problems, total);
    const format = args.text("output");
    for (const { name, outcome } of results) {
      if (format === undefined || format === "text") terminal.out(outcomeLine(terminal, name, outcome, dryRun));
      else if (format === "name") terminal.out(`${name}\n`);
    }
    const status = await report(invocation, results, problems, total, dryRun && problems.length === 0 ? (answer.proxies ?? []) : undefined);
    if (dryRun && status === 0 && (format === undefined || format === "text")) {
      if (hidden !== undefined) terminal.err(`what proxies would do is not shown: ${hidden}\n`);
      else if (results.some(({ outcome }) => outcome !== "unchanged"))
        (await import("./verbs/diff.ts")).showProxies(terminal, answer.proxies ?? []);
    }
    return status;
  }
}
