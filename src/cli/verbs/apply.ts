// Owns: `weft apply`: brings the control plane's objects to what files say. Every fault of every document is shown; one fault = exit 1.

import type { KubeObject } from "../../api/meta.ts";
import { ApiFailure, type Client, mergePatch } from "../client.ts";
import { pathOf, type Resource, resourceFor, shownName } from "../discovery.ts";
import { CliFailure } from "../failure.ts";
import { inOrder, type Manifest, readManifests } from "../manifest.ts";
import { onlyMemory, remembered, threeWay, withMemory } from "../merge.ts";
import { openSession } from "../session.ts";
import { paint } from "../terminal.ts";
import type { Invocation } from "../verb.ts";

type Outcome = "created" | "configured" | "unchanged";

interface Result {
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
      if (format === undefined || format === "text") {
        const tone = result.outcome === "unchanged" ? "dim" : result.outcome === "created" ? "green" : "yellow";
        terminal.out(`${result.name} ${paint(terminal.colour, tone, result.outcome)}\n`);
      } else if (format === "name") terminal.out(`${result.name}\n`);
    } catch (error) {
      if (!(error instanceof CliFailure) || (!(error instanceof ApiFailure) && "retryable" in error)) throw error;
      problems.push(describeFault(manifest, error));
    }
  }
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
    });
  }
  if (problems.length === 0) return 0;
  const red = (text: string) => paint(terminal.errColour, "red", text);
  for (const problem of problems) terminal.err(`${red("error:")} ${problem}\n`);
  if (problems.length > 1)
    terminal.err(`${red("error:")} ${problems.length} faults, ${results.length} of ${manifests.length + faults.length} objects applied\n`);
  return 1;
}

function namespaceOf(manifest: Manifest, resource: Resource, asked: string | undefined, fallback: string): string | undefined {
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
  const wanted = remembered(object, namespace);
  const name = shownName(resource, object.metadata.name);
  const path = pathOf(resource, namespace, object.metadata.name);
  for (let attempt = 1; ; attempt++) {
    const live = await client.json<KubeObject>(path).catch((error: unknown) => {
      if (error instanceof ApiFailure && error.code === 404) return undefined;
      throw error;
    });
    try {
      if (live === undefined) {
        const created = await client.json<KubeObject>(pathOf(resource, namespace), { method: "POST", body: withMemory(wanted) });
        return { name, outcome: "created", object: created };
      }
      const patch = threeWay(live, wanted);
      if (patch === undefined) return { name, outcome: "unchanged", object: live };
      const patched = await client.json<KubeObject>(path, { method: "PATCH", body: patch, contentType: mergePatch });
      const still = onlyMemory(patch) && patched.metadata.generation === live.metadata.generation;
      return { name, outcome: still ? "unchanged" : "configured", object: patched };
    } catch (error) {
      if (attempt < 4 && error instanceof ApiFailure && error.code === 409) continue;
      throw error;
    }
  }
}

/** `shop.yaml:12: HTTPRoute shop/reviews (document 2): …`, with one indented line for each cause at its own line of the file. */
function describeFault(manifest: Manifest, error: CliFailure): string {
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
