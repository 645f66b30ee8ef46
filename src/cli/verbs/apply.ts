// Owns: `weft apply`: brings the control plane's objects to what files say. Every fault of every document is shown; one fault = exit 1.

import type { KubeObject } from "../../api/meta.ts";
import { ApiFailure, type Client, mergePatch } from "../client.ts";
import { pathOf, type Resource, resourceFor, shownName } from "../discovery.ts";
import { CliFailure, UsageFailure } from "../failure.ts";
import { inOrder, type Manifest, readManifests } from "../manifest.ts";
import { onlyMemory, remembered, threeWay, withMemory } from "../merge.ts";
import { openSession } from "../session.ts";
import { paint, type Terminal } from "../terminal.ts";
import type { Invocation } from "../verb.ts";

export type Outcome = "created" | "configured" | "unchanged";

export interface Result {
  readonly name: string;
  readonly outcome: Outcome;
  readonly object: KubeObject;
}

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const sources = [...args.list("filename"), ...args.operands];
  const { manifests, faults } = await readManifests(sources, () => Bun.stdin.text());
  const session = openSession(invocation);
  const asked = args.text("namespace");
  const dryRun = dryRunOf(args.text("dry-run"));
  // What would come of a folder is seen in the folder as a whole: its objects may contradict or need each other.
  if (args.on("atomic") || dryRun) {
    const { applyTogether } = await import("../together.ts");
    return applyTogether(invocation, session, manifests, faults, { dryRun });
  }
  const heard = new Set<string>();
  session.client.onWarning = (text) => {
    if (!heard.has(text)) terminal.err(`${paint(terminal.errColour, "yellow", "warning:")} ${text}\n`);
    heard.add(text);
  };
  const resources = await session.resources();
  const problems = [...faults];
  const results: Result[] = [];
  const format = args.text("output");

  for (const manifest of inOrder(manifests)) {
    try {
      const resource = resourceFor(resources, manifest.object);
      const namespace = namespaceOf(manifest, resource, asked, session.namespace);
      const result = await applyOne(session.client, resource, namespace, manifest.object);
      results.push(result);
      if (format === undefined || format === "text") terminal.out(outcomeLine(terminal, result.name, result.outcome, false));
      else if (format === "name") terminal.out(`${result.name}\n`);
    } catch (error) {
      if (!(error instanceof CliFailure) || (!(error instanceof ApiFailure) && "retryable" in error)) throw error;
      problems.push(describeFault(manifest, error));
    }
  }
  return report(invocation, results, problems, manifests.length + faults.length);
}

/** `shop/reviews configured (server dry run)`, as kubectl has it. */
export function outcomeLine(terminal: Terminal, name: string, outcome: string, dryRun: boolean): string {
  const tone = outcome === "unchanged" ? "dim" : outcome === "created" ? "green" : "yellow";
  return `${name} ${paint(terminal.colour, tone, outcome)}${dryRun ? " (server dry run)" : ""}\n`;
}

/** Prints for programs, then the faults; answers the exit status. `proxies`: what they would do otherwise, of a dry run. */
export async function report(
  { args, terminal }: Invocation,
  results: readonly Result[],
  problems: readonly string[],
  asked: number,
  proxies?: unknown,
): Promise<number> {
  const format = args.text("output");
  if (format === "json" || format === "yaml") {
    const { printed } = await import("../output.ts");
    await printed(terminal, format, {
      applied: results.map(({ name, outcome, object }) => ({
        name,
        outcome,
        namespace: object.metadata.namespace,
        resourceVersion: object.metadata.resourceVersion,
      })),
      faults: problems,
      ...(proxies !== undefined && { proxies }),
    });
  }
  if (problems.length === 0) return 0;
  const red = (text: string) => paint(terminal.errColour, "red", text);
  for (const problem of problems) terminal.err(`${red("error:")} ${problem}\n`);
  if (problems.length > 1 || args.on("atomic"))
    terminal.err(
      `${red("error:")} ${problems.length === 1 ? "1 fault" : `${problems.length} faults`}, ${results.length} of ${asked} objects ${args.text("dry-run") === undefined ? "applied" : "would be applied"}\n`,
    );
  return 1;
}

function dryRunOf(value: string | undefined): boolean {
  if (value === "client") throw new UsageFailure("--dry-run=server asks the control plane; without one: weft validate -f");
  return value === "server";
}

export function namespaceOf(manifest: Manifest, resource: Resource, asked: string | undefined, fallback: string): string | undefined {
  const written = manifest.object.metadata.namespace;
  if (!resource.namespaced) {
    if (written !== undefined)
      throw new CliFailure(`metadata.namespace: ${manifest.object.kind} belongs to no namespace; remove "${written}"`);
    return undefined;
  }
  if (asked !== undefined && written !== undefined && asked !== written) {
    throw new CliFailure(`metadata.namespace: the file says "${written}", --namespace says "${asked}"; remove one of them`);
  }
  return written ?? asked ?? fallback;
}

/** Creates, patches or leaves alone. A race with another writer is tried again a few times. */
export async function applyOne(client: Client, resource: Resource, namespace: string | undefined, object: KubeObject): Promise<Result> {
  const name = shownName(resource, object.metadata.name);
  for (let attempt = 1; ; attempt++) {
    const live = await readLive(client, resource, namespace, object);
    const ask = askFor(resource, namespace, object, live);
    if (ask === undefined) return { name, outcome: "unchanged", object: live as KubeObject };
    try {
      const { path, ...rest } = ask;
      const answer = await client.json<KubeObject>(path, rest);
      return { name, outcome: outcomeOf(ask, live, answer), object: answer };
    } catch (error) {
      if (attempt < 4 && error instanceof ApiFailure && error.code === 409) continue;
      throw error;
    }
  }
}

export interface ApplyAsk {
  readonly method: "POST" | "PATCH";
  readonly path: string;
  readonly body: Record<string, unknown>;
  readonly contentType: string;
}

export async function readLive(
  client: Client,
  resource: Resource,
  namespace: string | undefined,
  object: KubeObject,
): Promise<KubeObject | undefined> {
  return client.json<KubeObject>(pathOf(resource, namespace, object.metadata.name)).catch((error: unknown) => {
    if (error instanceof ApiFailure && error.code === 404) return undefined;
    throw error;
  });
}

/** The request that brings `live` to what the manifest says; undefined = nothing to do. */
export function askFor(
  resource: Resource,
  namespace: string | undefined,
  object: KubeObject,
  live: KubeObject | undefined,
): ApplyAsk | undefined {
  const wanted = remembered(object, namespace);
  if (live === undefined) {
    const body = withMemory(wanted) as unknown as Record<string, unknown>;
    return { method: "POST", path: pathOf(resource, namespace), body, contentType: "application/json" };
  }
  const patch = threeWay(live, wanted);
  if (patch === undefined) return undefined;
  return { method: "PATCH", path: pathOf(resource, namespace, object.metadata.name), body: patch, contentType: mergePatch };
}

export function outcomeOf(ask: ApplyAsk, live: KubeObject | undefined, answer: KubeObject): Outcome {
  if (ask.method === "POST") return "created";
  return onlyMemory(ask.body) && answer.metadata.generation === live?.metadata.generation ? "unchanged" : "configured";
}

/** `shop.yaml:12: HTTPRoute shop/reviews (document 2): …`, with one indented line for each cause at its own line of the file. */
export function describeFault(manifest: Manifest, error: CliFailure): string {
  const { object } = manifest;
  const label = `${object.kind} ${object.metadata.namespace === undefined ? "" : `${object.metadata.namespace}/`}${object.metadata.name} (document ${manifest.document})`;
  const causes = error instanceof ApiFailure ? error.causes : [];
  if (causes.length > 0) {
    const inOrderOfLines = [...causes].sort((a, b) => manifest.line(a.field) - manifest.line(b.field));
    const lines = inOrderOfLines.map(
      (c) => `  ${manifest.place(c.field)}: ${c.field === "" || c.message.startsWith(c.field) ? "" : `${c.field}: `}${c.message}`,
    );
    return `${manifest.place()}: ${label} is refused:\n${lines.join("\n")}`;
  }
  const field = /^([a-zA-Z][\w.[\]]*): /.exec(error.message)?.[1];
  return `${manifest.place(field ?? "")}: ${label}: ${error.message}`;
}
