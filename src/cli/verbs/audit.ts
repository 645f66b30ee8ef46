// Owns: `weft audit`: the control plane's audit log for people, or as the JSON lines it consists of. Judges nothing.

import type { Client } from "../client.ts";
import { Unreachable } from "../client.ts";
import { openSession } from "../session.ts";
import { paint, type Terminal } from "../terminal.ts";
import type { Invocation } from "../verb.ts";

interface Touched {
  readonly verb: string;
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly code: number;
}

/** A line of the log; see docs/access.md. */
interface Line {
  readonly at: string;
  readonly user: string;
  readonly actingAs?: string;
  readonly verb: string;
  readonly resource?: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly path?: string;
  readonly dryRun?: true;
  readonly operations?: readonly Touched[];
  readonly code: number;
  readonly reason?: string;
  readonly from: string;
  readonly agent: string;
}

const path = "/weft/v1alpha1/audit";

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal, stop } = invocation;
  const { client, namespace } = openSession(invocation);
  const query = new URLSearchParams();
  for (const name of ["user", "verb", "resource", "name", "from"]) {
    const value = args.text(name);
    if (value !== undefined) query.set(name, value);
  }
  // Without the flag all of it: requests that are about no namespace are wanted most.
  if (args.on("namespace")) query.set("namespace", namespace);
  if (args.on("denied")) query.set("denied", "true");
  const sinceMs = args.durationMs("since");
  if (sinceMs !== undefined) query.set("since", new Date(Date.now() - sinceMs).toISOString());
  const limit = args.integer("limit", 0, 10_000);
  if (limit !== undefined) query.set("limit", String(limit));
  const json = args.text("output") === "json";
  const print = (line: string): void => terminal.out(json ? `${line}\n` : `${auditLine(JSON.parse(line) as Line, terminal.colour)}\n`);
  if (args.on("follow")) {
    query.set("follow", "true");
    await follow(client, query, stop, print, terminal);
    return 0;
  }
  let any = false;
  for await (const line of client.lines(`${path}?${query}`, { signal: stop, timeoutMs: 60_000 })) {
    any = true;
    print(line);
  }
  if (!any && !json) terminal.err("the audit log has nothing of the kind\n");
  return 0;
}

/** Goes on over restarts of the control plane, from the last line seen. */
async function follow(
  client: Client,
  query: URLSearchParams,
  stop: AbortSignal,
  print: (line: string) => void,
  terminal: Terminal,
): Promise<void> {
  const say = (text: string) => terminal.err(`${paint(terminal.errColour, "yellow", text)}\n`);
  const seen = new Set<string>();
  let connected = false;
  let away = false;
  while (!stop.aborted) {
    try {
      for await (const line of client.lines(`${path}?${query}`, { signal: stop })) {
        if (away) say("the control plane is back");
        [connected, away] = [true, false];
        if (seen.has(line)) continue;
        const { at } = JSON.parse(line) as Line;
        // Only lines of the last moment can come twice.
        if (query.get("since") !== at) seen.clear();
        seen.add(line);
        query.set("since", at);
        query.set("limit", "10000");
        print(line);
      }
    } catch (error) {
      if (stop.aborted) return;
      if (!(error instanceof Unreachable) || !error.retryable || !(connected || away)) throw error;
      if (!away) say(`${error.message}; waiting for it`);
      away = true;
    }
    if (!stop.aborted) await Bun.sleep(500);
  }
}

/** One line for people. */
export function auditLine(line: Line, colour: boolean): string {
  const time = paint(colour, "dim", line.at.replace("T", " ").replace(/\.\d+Z$/, "Z"));
  const code = paint(colour, line.code >= 400 ? "red" : "green", String(line.code));
  const who = paint(colour, "bold", line.actingAs === undefined ? line.user : `${line.actingAs} as ${line.user}`);
  const object = (each: { resource?: string | undefined; namespace?: string | undefined; name?: string | undefined }): string =>
    [each.resource, each.name].filter(Boolean).join("/") + (each.namespace ? ` in ${each.namespace}` : "");
  const what = line.resource === undefined ? (line.path ?? "") : object(line);
  const operations = (line.operations ?? []).map(
    (each) => `\n    ${paint(colour, each.code >= 400 ? "red" : "green", String(each.code))} ${each.verb} ${object(each)}`,
  );
  const more = [line.dryRun ? "dry run" : "", line.reason ?? ""].filter(Boolean).join(", ");
  return `${time} ${code} ${who} ${line.verb} ${what}${more === "" ? "" : ` (${more})`} ${paint(colour, "dim", `from ${line.from || "here"} ${line.agent}`)}${operations.join("")}`;
}
