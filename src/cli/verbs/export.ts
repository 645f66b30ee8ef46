// Owns: `weft export`: everything that was configured, as YAML that can be applied again. Writes to stdout only.

import type { KubeObject } from "../../api/meta.ts";
import { pathOf } from "../discovery.ts";
import { rankOf } from "../manifest.ts";
import { toYaml } from "../output.ts";
import { openSession } from "../session.ts";
import type { Invocation } from "../verb.ts";
import { asWritten } from "../written.ts";

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const session = openSession(invocation);
  const everywhere = !args.on("namespace");
  const objects: KubeObject[] = [];
  for (const resource of await session.resources()) {
    // Live state and Events are nobody's wish.
    if (!resource.verbs.includes("create") || (resource.group === "" && resource.plural === "events")) continue;
    if (!everywhere && !resource.namespaced) continue;
    const list = await session.client.json<{ items: KubeObject[] }>(pathOf(resource, everywhere ? undefined : session.namespace));
    const group = resource.group === "" ? "" : `${resource.group}/`;
    for (const item of list.items) {
      // Part of every control plane.
      if (item.metadata.labels?.["kubernetes.io/bootstrapping"] === "rbac-defaults") continue;
      if (item.metadata.annotations?.["weft.dev/health"] === "reported" || item.metadata.deletionTimestamp !== undefined) continue;
      objects.push(asWritten({ ...item, apiVersion: `${group}${resource.version}`, kind: resource.kind }));
    }
  }
  objects.sort((a, b) => rankOf(a) - rankOf(b));
  const texts = await Promise.all(objects.map((object) => toYaml(object)));
  terminal.out(texts.join("---\n"));
  terminal.err(
    `${objects.length} object${objects.length === 1 ? "" : "s"}; registrations of running instances, statuses and Events are left out\n`,
  );
  return 0;
}
