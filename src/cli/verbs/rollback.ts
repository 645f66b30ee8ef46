// Owns: `weft rollback`: objects as they were at an earlier revision, all or none.

import { CliFailure, UsageFailure } from "../failure.ts";
import { openSession, type Session } from "../session.ts";
import { paint } from "../terminal.ts";
import type { TransactionResult } from "../together.ts";
import type { Invocation } from "../verb.ts";
import { showDifference } from "./diff.ts";

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const [text = "", kind, name] = args.operands;
  if (!/^\d{1,15}$/.test(text)) throw new UsageFailure(`weft rollback takes a revision, as weft history lists them, not "${text}"`);
  const session = openSession(invocation);
  const scope = await scopeOf(session, kind, name, args.on("all-namespaces"));
  const dryRun = args.on("dry-run");
  const body = { revision: Number(text), ...scope, dryRun, preview: dryRun };
  const answer = await session.client.json<TransactionResult>("/weft/v1alpha1/rollback", {
    method: "POST",
    body,
    alsoGood: [422],
    timeoutMs: 60_000,
  });
  const refused = answer.outcomes.flatMap((outcome) => ("status" in outcome ? [outcome.status] : []));
  if (refused.length > 0) {
    const lines = refused.map((status) => `  ${status.message}`);
    throw new CliFailure(`revision ${text} cannot be gone back to; nothing was changed:\n${lines.join("\n")}`);
  }
  const done = answer.outcomes.flatMap((outcome) => ("object" in outcome ? [outcome] : []));
  const shown = (object: { kind: string; metadata: { name: string } }) => `${object.kind.toLowerCase()}/${object.metadata.name}`;
  if (dryRun) {
    const objects = done.map(({ change, object, before }) => ({
      name: shown(object),
      namespace: object.metadata.namespace,
      before: before ?? (change === "deleted" ? object : undefined),
      after: change === "deleted" ? undefined : object,
    }));
    return showDifference(invocation, objects, answer.proxies ?? []);
  }
  if (done.length === 0) terminal.err(`nothing differs from revision ${text}\n`);
  for (const { change, object } of done) {
    const tone = change === "created" ? "green" : change === "deleted" ? "red" : "yellow";
    terminal.out(`${shown(object)} ${paint(terminal.colour, tone, change === "created" ? "restored" : change)}\n`);
  }
  return 0;
}

/** What a command about the past is about: one object, a kind, a namespace, or with -A everything. */
export async function scopeOf(
  session: Session,
  kind: string | undefined,
  name: string | undefined,
  everywhere: boolean,
): Promise<Record<string, string>> {
  if (kind === undefined) return everywhere ? {} : { namespace: session.namespace };
  const [typed = "", after] = kind.split("/");
  const resource = await session.find(typed);
  const object = name ?? after;
  return {
    resource: resource.group === "" ? resource.plural : `${resource.plural}.${resource.group}`,
    ...(resource.namespaced && !everywhere && { namespace: session.namespace }),
    ...(object !== undefined && { name: object }),
  };
}
