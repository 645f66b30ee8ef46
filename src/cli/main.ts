// Owns: a verb from argv to exit status: parse, help, run, print failures. The only place where an error becomes text on stderr.

import { ApiFailure } from "./client.ts";
import { CliFailure, reasonOf, UsageFailure } from "./failure.ts";
import { overview, verbHelp } from "./help.ts";
import { loaders } from "./load.ts";
import { parse } from "./parse.ts";
import { didYouMean } from "./suggest.ts";
import { paint, processTerminal, type Terminal } from "./terminal.ts";
import { verbNamed, verbs } from "./verbs.ts";

export async function main(argv: readonly string[]): Promise<number> {
  const terminal = processTerminal();
  const [first, ...rest] = argv;
  if (first === "__complete") {
    const { complete } = await import("./complete.ts");
    return complete(rest, terminal, process.env);
  }
  if (first === "__unregister") {
    const { unregister } = await import("./run/guard.ts");
    return unregister(String(rest[0]));
  }
  if (first === undefined) {
    terminal.err(overview(verbs, terminal.errColour, terminal.columns));
    return 2;
  }
  if (first === "--help" || first === "-h") {
    terminal.out(overview(verbs, terminal.colour, terminal.columns));
    return 0;
  }
  return runVerb(first === "--version" || first === "-v" ? "version" : first, rest, terminal);
}

async function runVerb(name: string, argv: readonly string[], terminal: Terminal): Promise<number> {
  const fault = (text: string) => terminal.err(`${paint(terminal.errColour, "red", "error:")} ${text}\n`);
  const spec = verbNamed(name);
  if (spec === undefined) {
    const what = name.startsWith("-") ? `weft has no flag ${name} before a verb` : `weft has no verb "${name}"`;
    fault(
      `${what}${didYouMean(
        name,
        verbs.map((v) => v.name),
      )}\nweft help lists all verbs.`,
    );
    return 2;
  }
  const stop = new AbortController();
  try {
    const args = parse(spec, argv);
    if (args.on("help")) {
      terminal.out(verbHelp(spec, terminal.colour, terminal.columns));
      return 0;
    }
    const load = loaders[name];
    if (load === undefined) throw new CliFailure(`weft ${name} is started by itself`);
    // The first signal ends a watch in good order; a second one is the default and kills.
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
    const { run } = await load();
    const status = await run({ spec, args, terminal, env: process.env, stop: stop.signal });
    // An answered request leaves its connection open for a while; there is nothing to wait for.
    return finish(status);
  } catch (error) {
    if (stop.signal.aborted) return finish(130);
    if (error instanceof UsageFailure) {
      fault(`${error.message}\nweft ${name} --help has flags and examples.`);
      return finish(2);
    }
    if (error instanceof ApiFailure && error.causes.length > 0) {
      fault(`${error.message}\n${error.causes.map((c) => `  ${c.field}${c.field === "" ? "" : ": "}${c.message}`).join("\n")}`);
      return finish(1);
    }
    if (error instanceof CliFailure) {
      fault(error.message);
      return finish(error.status);
    }
    fault(`this is a fault in weft itself: ${error instanceof Error ? (error.stack ?? error.message) : reasonOf(error)}`);
    return finish(1);
  }
}

/** Leaves by exit code, so that what was written to a pipe still goes out. */
function finish(status: number): number {
  process.exitCode = status;
  return status;
}
