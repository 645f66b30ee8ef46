// Owns: `weft history`: what was written, by whom and when, as far back as the control plane keeps it.

import { ageOf, printed, table } from "../output.ts";
import { openSession } from "../session.ts";
import type { Invocation } from "../verb.ts";
import { scopeOf } from "./rollback.ts";

interface Entry {
  readonly revision: number;
  readonly transaction: number;
  readonly at: string | null;
  readonly by: string;
  readonly type: "added" | "modified" | "deleted";
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
}

interface History {
  readonly revision: number;
  readonly oldest: number;
  readonly entries: readonly Entry[];
}

const words = { added: "created", modified: "changed", deleted: "deleted" } as const;

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const session = openSession(invocation);
  const [kind, name] = args.operands;
  const scope = await scopeOf(session, kind, name, args.on("all-namespaces"));
  const query = new URLSearchParams({ limit: String(args.integer("limit", 1, 1000) ?? 20), ...(args.on("all") && { all: "true" }) });
  for (const [field, value] of Object.entries(scope)) query.set(field, value);
  const history = await session.client.json<History>(`/weft/v1alpha1/history?${query}`);
  if (await printed(terminal, args.text("output"), history)) return 0;
  if (history.entries.length === 0) {
    const { namespace } = scope;
    const elsewhere = "; weft history -n NAMESPACE shows another, weft history -A all of them";
    const where = namespace === undefined ? "" : ` in namespace ${namespace}`;
    terminal.err(`nothing was written${where} since revision ${history.oldest}${namespace === undefined ? "" : elsewhere}\n`);
    return 0;
  }
  const now = Date.now();
  // Several writes of one transaction can only be undone together: going back goes to before the first of them.
  const together = new Map<number, number>();
  for (const { transaction } of history.entries) together.set(transaction, (together.get(transaction) ?? 0) + 1);
  const rows = history.entries.map((entry) => [
    String(entry.revision),
    entry.at === null ? "<unknown>" : ageOf(entry.at, now),
    entry.by === "" ? "weft itself" : entry.by,
    words[entry.type],
    `${entry.resource}/${entry.name}`,
    entry.namespace === "" ? "-" : entry.namespace,
    (together.get(entry.transaction) ?? 0) > 1 ? `with ${entry.transaction}` : "",
  ]);
  const header = ["REVISION", "AGE", "BY", "DID", "OBJECT", "NAMESPACE", "TRANSACTION"];
  const fit = terminal.interactive ? { columns: terminal.columns, drop: ["TRANSACTION", "NAMESPACE", "BY"] } : undefined;
  terminal.out(table(header, rows, terminal.colour, fit));
  terminal.err(`back to what was there after a revision: weft rollback REVISION; the oldest kept is ${history.oldest}\n`);
  return 0;
}
