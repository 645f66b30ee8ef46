// Owns: the first argument, which picks a command. Never does a command's work, and imports none before it is asked for:
// `weft proxy` is started once per application instance, so what it does not need must not be loaded.

import { join } from "node:path";
import { type BundledCommand, bundledCommands, freshBundle } from "./bundled.ts";

const argv = process.argv.slice(2);
const [command, ...rest] = argv;

/** Resolves to the exit status; undefined leaves it to the process (a server that goes on running). */
type Main = (argv: readonly string[]) => unknown;

async function load(name: BundledCommand): Promise<Main> {
  const root = join(import.meta.dir, "..");
  const bundle = freshBundle(root, name);
  // A bundle is one file: there is nothing to load beside it, and so nothing to wait for.
  const loaded = bundle === undefined ? await import(join(root, bundledCommands[name])) : require(bundle);
  return (loaded as { main: Main }).main;
}

async function pick(name: string | undefined): Promise<Main> {
  const end = rest.indexOf("--");
  const own = end < 0 ? rest : rest.slice(0, end);
  const wantsHelp = own.includes("--help") || own.includes("-h");
  if ((name === "proxy" || name === "up" || name === "run") && !wantsHelp) return load(name);
  if (name === "gateway" && !wantsHelp) {
    const run = await load("run");
    return () => run(["__gateway", ...rest]);
  }
  if (name === "agent" && !wantsHelp) {
    // The command line says who it is; from there on it is a proxy without listeners.
    const prepared = await (await import("./cli/run/agent.ts")).prepare(rest);
    if (typeof prepared === "number") return () => prepared;
    const proxy = await load("proxy");
    return () => proxy(prepared);
  }
  // Puts files into a folder; the control plane is not there to be asked.
  if (name === "restore" && !wantsHelp) return (await import("./control/restore.ts")).main;
  // Neither is it for what moves a store.
  if (name === "store" && !wantsHelp) return (await import("./control/copy.ts")).main;
  // The authority's key is where its folder is, and nowhere else.
  if (name === "ca" && !wantsHelp && (rest[0] === "encrypt" || rest[0] === "decrypt")) return (await import("./control/ca-key.ts")).main;
  const main = await load("cli");
  return () => main(argv);
}

const status = await (await pick(command))(rest);
if (typeof status === "number") process.exitCode = status;
