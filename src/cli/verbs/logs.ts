// Owns: `weft logs`: lines of sidecars and of the control plane, for people or as the JSON lines they came as.

import type { LogLine } from "../../api/live.ts";
import { type Client, Unreachable } from "../client.ts";
import { milliseconds } from "../output.ts";
import { openSession } from "../session.ts";
import { paint, type Tone } from "../terminal.ts";
import type { Invocation } from "../verb.ts";

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal, stop } = invocation;
  const { client, namespace } = openSession(invocation);
  const query = new URLSearchParams();
  if (args.on("namespace") && !args.on("all-namespaces")) query.set("namespace", namespace);
  const [app] = args.operands;
  if (app !== undefined) query.set("app", app);
  const follow = args.on("follow");
  if (follow) query.set("follow", "true");
  const json = args.text("output") === "json";
  const print = (line: string) => {
    if (json) terminal.out(`${line}\n`);
    else terminal.out(`${logLine(JSON.parse(line) as LogLine, terminal.colour)}\n`);
  };
  const path = `/insight/v1alpha1/logs?${query}`;
  if (!follow) {
    let any = false;
    for await (const line of client.lines(path, { signal: stop })) {
      any = true;
      print(line);
    }
    if (!any && !json) terminal.err(`nothing is logged${app === undefined ? "" : ` of ${app}`} yet\n`);
    return 0;
  }
  await followLines(client, path, stop, print, (text) => terminal.err(`${paint(terminal.errColour, "yellow", text)}\n`));
  return 0;
}

/** Goes on over restarts of the control plane; lines seen already are not printed again. */
async function followLines(
  client: Client,
  path: string,
  stop: AbortSignal,
  print: (line: string) => void,
  say: (text: string) => void,
): Promise<void> {
  let last = "";
  let connected = false;
  let away = false;
  while (!stop.aborted) {
    try {
      for await (const line of client.lines(path, { signal: stop })) {
        connected = true;
        if (away) say("the control plane is back");
        away = false;
        const { at } = JSON.parse(line) as LogLine;
        if (at < last) continue;
        last = at;
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

const levelTone: Readonly<Record<LogLine["level"], Tone>> = { info: "dim", warn: "yellow", error: "red" };

/** One line for people. */
export function logLine(line: LogLine, colour: boolean): string {
  const time = paint(colour, "dim", line.at.slice(11, 23));
  const where = line.workload === "" ? line.namespace : `${line.namespace}/${line.workload}`;
  const { access } = line;
  if (access === undefined) {
    return [time, paint(colour, levelTone[line.level], line.level.padEnd(5)), where, line.message].filter((part) => part !== "").join(" ");
  }
  const bad = access.status >= 500 || access.status === 0 || (access.flags !== "" && access.flags !== "-");
  const status = paint(
    colour,
    bad ? "red" : access.status >= 400 ? "yellow" : "green",
    access.status === 0 ? "tcp" : String(access.status),
  );
  const request = access.method === "" ? access.authority : `${access.method} ${access.authority}${access.path}`;
  const tail = [
    milliseconds(access.durationMs),
    access.attempts > 1 ? `${access.attempts} attempts` : "",
    access.flags === "" || access.flags === "-" ? "" : paint(colour, "red", access.flags),
    access.reason,
  ].filter((part) => part !== "" && part !== "-");
  return `${time} ${status} ${paint(colour, "bold", access.source || "?")} → ${paint(colour, "bold", access.destination || "?")} ${request} ${paint(colour, "dim", `(${access.reporter})`)} ${tail.join(", ")}`;
}
