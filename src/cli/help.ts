// Owns: the words of help. Pure: records in, text out; the reference page is made from the same records.

import { allFlags, type FlagSpec, type VerbSpec } from "./spec.ts";
import { paint } from "./terminal.ts";

/** `weft get KIND [NAME...] [flags]` */
export function usageLine(spec: VerbSpec): string {
  const operands = spec.operands.map((o) => {
    const word = o.name + (o.repeat === true ? "..." : "");
    return o.required ? word : `[${word}]`;
  });
  const command = spec.takesCommand === true ? ["--", "COMMAND..."] : [];
  return ["weft", spec.name, ...operands, "[flags]", ...command].join(" ");
}

export function flagTitle(flag: FlagSpec): string {
  return `${flag.short === undefined ? "    " : `-${flag.short}, `}--${flag.name}${flag.value === undefined ? "" : ` ${flag.value}`}`;
}

/** Words into lines of at most `columns`, each after `indent` blanks. */
export function wrap(text: string, columns: number, indent: number): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > Math.max(20, columns - indent)) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.map((l) => " ".repeat(indent) + l).join("\n");
}

export function verbHelp(spec: VerbSpec, colour: boolean, columns: number): string {
  const width = Math.min(columns, 100);
  const title = (text: string) => paint(colour, "bold", text);
  const parts = [wrap(`${spec.summary[0]?.toUpperCase()}${spec.summary.slice(1)}.`, width, 0), `${title("Usage:")} ${usageLine(spec)}`];
  for (const paragraph of spec.about) parts.push(wrap(paragraph, width, 0));
  const flags = allFlags(spec);
  const longest = Math.min(30, Math.max(...flags.map((f) => flagTitle(f).length)));
  const lines = flags.map((flag) => {
    const head = flagTitle(flag);
    const help = wrap(flag.help, width, longest + 4).trimStart();
    return head.length > longest ? `  ${head}\n${" ".repeat(longest + 4)}${help}` : `  ${head.padEnd(longest)}  ${help}`;
  });
  parts.push(`${title("Flags:")}\n${lines.join("\n")}`);
  const examples = spec.examples.map((e) => `${paint(colour, "dim", wrap(`# ${e.says}`, width, 2))}\n  ${e.command}`);
  parts.push(`${title(examples.length === 1 ? "Example:" : "Examples:")}\n${examples.join("\n")}`);
  return `${parts.join("\n\n")}\n`;
}

/** Where each verb stands in the overview; a verb that is in none of them fails a test. */
export const sections: readonly [title: string, verbs: readonly string[]][] = [
  ["Run a mesh", ["up", "run", "gateway", "agent", "proxy"]],
  ["Change it", ["apply", "diff", "validate", "get", "describe", "delete", "shift"]],
  ["Keep it", ["history", "rollback", "export", "backup", "restore", "store", "audit", "token", "user", "ca"]],
  ["See what it does", ["status", "top", "logs", "check", "bug-report"]],
  ["Around it", ["bootstrap", "kubeconfig", "version", "completion", "help"]],
];

export function overview(all: readonly VerbSpec[], colour: boolean, columns: number): string {
  const width = Math.min(columns, 100);
  const title = (text: string) => paint(colour, "bold", text);
  const parts = [
    "Weft, a service mesh: a sidecar beside each program, one control plane, no Kubernetes needed.",
    `${title("Usage:")} weft VERB [flags]`,
    ...sections.map(([name, names]) => {
      const lines = names
        .filter((n) => all.some((v) => v.name === n))
        .map((n) => {
          const spec = all.find((v) => v.name === n);
          return `  ${n.padEnd(12)}${wrap(spec?.summary ?? "", width, 14).trimStart()}`;
        });
      return `${title(`${name}:`)}\n${lines.join("\n")}`;
    }),
    `${title("First steps:")}\n  weft up                                          ${paint(colour, "dim", "# in one terminal")}\n  weft run --service hello --port 8080 -- ./hello  ${paint(colour, "dim", "# in another")}\n  weft top`,
    "`weft help VERB` has flags and examples. Exit status: 0 done, 1 failed, 2 wrong usage; weft run gives COMMAND's own.",
  ];
  return `${parts.join("\n\n")}\n`;
}
