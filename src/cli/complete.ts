// Owns: what may stand at the word under the cursor. `weft __complete WORD...` prints one candidate a line, `value<TAB>help`; the last
// WORD is the one being typed. Live names are asked of the control plane with a short limit: a key press must never hang.

import type { KubeObject } from "../api/meta.ts";
import { Client } from "./client.ts";
import { discover, findResource, pathOf, type Resource } from "./discovery.ts";
import { kubeconfigPath, readAccess } from "./kubeconfig.ts";
import { allFlags, type FlagSpec, type Operand, type VerbSpec } from "./spec.ts";
import type { Terminal } from "./terminal.ts";
import { verbNamed, verbs } from "./verbs.ts";

type Environment = Readonly<Record<string, string | undefined>>;

export interface Candidate {
  readonly value: string;
  readonly help?: string;
}

/** What is to be offered; `live` is filled by asking. Pure, for its test. */
export type Wanted =
  | { readonly from: "list"; readonly candidates: readonly Candidate[] }
  | { readonly from: "live"; readonly operand: Operand; readonly kind: string | undefined; readonly prefix: string }
  | { readonly from: "files" }
  | { readonly from: "nothing" };

const limitMs = 700;
/** Shells that ask for this as the only line complete file names themselves. */
const filesMark = ":files";

export async function complete(given: readonly string[], terminal: Terminal, env: Environment): Promise<number> {
  const words = joined(given);
  const current = words.at(-1) ?? "";
  const wanted = wantedAt(words);
  let candidates: readonly Candidate[] = [];
  if (wanted.from === "files") {
    terminal.out(`${filesMark}\n`);
    return 0;
  }
  if (wanted.from === "list") candidates = wanted.candidates;
  if (wanted.from === "live") {
    try {
      candidates = await live(wanted, words, env);
    } catch {
      // No control plane, no rights: nothing to offer, and nothing to say in the middle of someone's command line.
    }
  }
  const typed = current.includes("=") && current.startsWith("--") ? current.slice(current.indexOf("=") + 1) : current;
  const fitting = candidates.filter((c) => c.value.startsWith(typed));
  terminal.out(fitting.map((c) => `${c.value}${c.help === undefined ? "" : `\t${c.help}`}\n`).join(""));
  return 0;
}

/** bash splits words at `=` by itself: `--flag`, `=`, `value` become one word again. Exported for its test. */
export function joined(words: readonly string[]): readonly string[] {
  const result: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string;
    const before = result.at(-1);
    if (word === "=" && before?.startsWith("--") === true) result[result.length - 1] = `${before}=${words[++i] ?? ""}`;
    else result.push(word);
  }
  return result;
}

export function wantedAt(words: readonly string[]): Wanted {
  const [first, ...rest] = words;
  if (first === undefined || rest.length === 0) {
    const shown = verbs.filter((v) => v.hidden !== true);
    return { from: "list", candidates: shown.map((v) => ({ value: v.name, help: v.summary })) };
  }
  const spec = verbNamed(first);
  if (spec === undefined) return { from: "nothing" };
  const flags = allFlags(spec);
  const before = rest.slice(0, -1);
  const current = rest.at(-1) as string;
  if (before.includes("--")) return { from: "files" };
  const flag =
    expecting(flags, before.at(-1)) ?? (current.startsWith("--") && current.includes("=") ? longFlag(flags, current) : undefined);
  if (flag !== undefined) return forFlag(flag);
  if (current.startsWith("-")) {
    const given = new Set(before.map((w) => w.replace(/^--/, "").split("=")[0]));
    const free = flags.filter((f) => f.repeat === true || !given.has(f.name));
    return { from: "list", candidates: free.map((f) => ({ value: `--${f.name}`, help: f.help })) };
  }
  return forOperand(spec, operandsIn(flags, before), current);
}

/** The flag whose value comes next, if the word before was one. */
function expecting(flags: readonly FlagSpec[], word: string | undefined): FlagSpec | undefined {
  if (word === undefined || word.includes("=")) return undefined;
  const found = word.startsWith("--")
    ? flags.find((f) => `--${f.name}` === word)
    : flags.find((f) => f.short !== undefined && word === `-${f.short}`);
  return found?.value === undefined ? undefined : found;
}

function longFlag(flags: readonly FlagSpec[], word: string): FlagSpec | undefined {
  return flags.find((f) => f.value !== undefined && word.startsWith(`--${f.name}=`));
}

function operandsIn(flags: readonly FlagSpec[], words: readonly string[]): readonly string[] {
  return words.filter((word, i) => !word.startsWith("-") && expecting(flags, words[i - 1]) === undefined);
}

function forFlag(flag: FlagSpec): Wanted {
  if (flag.choices !== undefined) return { from: "list", candidates: flag.choices.map((value) => ({ value })) };
  if (flag.operand === undefined) return { from: "nothing" };
  if (flag.operand === "file" || flag.operand === "folder") return { from: "files" };
  return { from: "live", operand: flag.operand, kind: undefined, prefix: "" };
}

function forOperand(spec: VerbSpec, given: readonly string[], current: string): Wanted {
  const last = spec.operands.at(-1);
  const operand = spec.operands[given.length] ?? (last?.repeat === true ? last : undefined);
  if (operand === undefined) return { from: "nothing" };
  if (operand.operand === "verb") return { from: "list", candidates: verbs.map((v) => ({ value: v.name, help: v.summary })) };
  if (operand.operand === "shell") return { from: "list", candidates: ["bash", "zsh", "fish"].map((value) => ({ value })) };
  const slash = current.indexOf("/");
  if (operand.operand === "kind" && slash > 0)
    return { from: "live", operand: "object", kind: current.slice(0, slash), prefix: current.slice(0, slash + 1) };
  return { from: "live", operand: operand.operand, kind: given[0], prefix: "" };
}

async function live(wanted: Extract<Wanted, { from: "live" }>, words: readonly string[], env: Environment): Promise<readonly Candidate[]> {
  const access = readAccess(kubeconfigPath(valueIn(words, "--kubeconfig", undefined), env));
  const client = new Client(access);
  const namespace = valueIn(words, "--namespace", "-n") ?? access.namespace;
  const ask = { timeoutMs: limitMs };
  const names = async (path: string) => (await client.json<{ items: KubeObject[] }>(path, ask)).items.map((o) => o.metadata.name);
  switch (wanted.operand) {
    case "namespace":
      return (await names("/api/v1/namespaces")).map((value) => ({ value }));
    case "service":
    case "app":
      return (await names(`/api/v1/namespaces/${encodeURIComponent(namespace)}/services`)).map((value) => ({ value }));
    case "kind":
      return (await discover(client, limitMs)).map((r) => ({ value: r.plural, help: kindHelp(r) }));
    case "object": {
      const resource = findResource(await discover(client, limitMs), wanted.kind ?? "");
      const everywhere = words.includes("-A") || words.includes("--all-namespaces");
      const found = await names(pathOf(resource, everywhere ? undefined : namespace));
      return found.map((name) => ({ value: wanted.prefix + name }));
    }
    case "text": {
      const everything = valueIn(words, "--namespace", "-n") === undefined;
      return (await names(`/apis/weft.dev/v1alpha1${everything ? "" : `/namespaces/${encodeURIComponent(namespace)}`}/proxies`)).map(
        (value) => ({ value }),
      );
    }
    case "file":
    case "folder":
    case "verb":
    case "shell":
      return [];
  }
}

function kindHelp(resource: Resource): string {
  return [resource.kind, ...resource.shortNames.map((n) => `(${n})`), resource.group].filter((p) => p !== "").join(" ");
}

function valueIn(words: readonly string[], long: string, short: string | undefined): string | undefined {
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string;
    if (word === long || word === short) return words[i + 1];
    if (word.startsWith(`${long}=`)) return word.slice(long.length + 1);
  }
  return undefined;
}
