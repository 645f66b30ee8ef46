// Owns: `weft delete`: by kind and name, by files, or by label. Never deletes everything of a kind without --all.

import type { KubeObject } from "../../api/meta.ts";
import { ApiFailure } from "../client.ts";
import { pathOf, type Resource, resourceFor, shownName } from "../discovery.ts";
import { CliFailure, UsageFailure } from "../failure.ts";
import { inOrder, readManifests } from "../manifest.ts";
import { openSession } from "../session.ts";
import { paint } from "../terminal.ts";
import type { Invocation } from "../verb.ts";

interface Target {
  readonly resource: Resource;
  readonly namespace: string | undefined;
  readonly name: string;
}

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const files = args.list("filename");
  const [kind, ...names] = args.operands;
  if (files.length > 0 === (kind !== undefined)) throw new UsageFailure("weft delete needs either KIND NAME or -f FILE");
  const session = openSession(invocation);
  const targets: Target[] = [];
  if (kind === undefined) {
    const { manifests, faults } = await readManifests(files, () => Bun.stdin.text());
    if (faults.length > 0) throw new CliFailure(faults.join("\n"));
    const resources = await session.resources();
    // In the reverse of apply's order: what leans on others goes first.
    for (const { object } of inOrder(manifests).reverse()) {
      const resource = resourceFor(resources, object);
      const namespace = resource.namespaced ? (object.metadata.namespace ?? session.namespace) : undefined;
      targets.push({ resource, namespace, name: object.metadata.name });
    }
  } else {
    const slash = kind.indexOf("/");
    const resource = await session.find(slash < 0 ? kind : kind.slice(0, slash));
    const namespace = resource.namespaced ? session.namespace : undefined;
    const wanted = slash < 0 ? names : [kind.slice(slash + 1), ...names.map((n) => n.slice(n.indexOf("/") + 1))];
    const selector = args.text("selector");
    if (wanted.length === 0 && selector === undefined && !args.on("all")) {
      throw new UsageFailure(`weft delete ${kind} needs a NAME, a selector (-l app=x) or --all`);
    }
    if (wanted.length > 0 && (selector !== undefined || args.on("all")))
      throw new UsageFailure("weft delete takes names, or -l, or --all: one of them");
    for (const name of wanted) targets.push({ resource, namespace, name });
    if (wanted.length === 0) {
      const query = selector === undefined ? "" : `?labelSelector=${encodeURIComponent(selector)}`;
      const list = await session.client.json<{ items: KubeObject[] }>(pathOf(resource, namespace) + query);
      for (const { metadata } of list.items) targets.push({ resource, namespace, name: metadata.name });
      if (list.items.length === 0)
        terminal.err(`no ${resource.plural} to delete${namespace === undefined ? "" : ` in namespace ${namespace}`}\n`);
    }
  }

  let failed = 0;
  for (const { resource, namespace, name } of targets) {
    try {
      await session.client.json(pathOf(resource, namespace, name), { method: "DELETE" });
      terminal.out(args.text("output") === "name" ? `${shownName(resource, name)}\n` : `${shownName(resource, name)} deleted\n`);
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error;
      if (error.code === 404 && args.on("ignore-not-found")) continue;
      failed++;
      const causes = error.causes.map((c) => `\n  ${c.field}${c.field === "" ? "" : ": "}${c.message}`).join("");
      terminal.err(`${paint(terminal.errColour, "red", "error:")} ${error.message}${causes}\n`);
    }
  }
  return failed === 0 ? 0 : 1;
}
