// Owns: what a verb says of itself. Parsing, help, completion and docs/reference/cli.md all come from these records,
// so that none of them can disagree. Never does a verb's work.

/** What a word on the command line stands for; completion offers live values by it. */
export type Operand = "kind" | "object" | "namespace" | "service" | "app" | "file" | "folder" | "verb" | "shell" | "text";

export interface FlagSpec {
  /** Long name without dashes. */
  readonly name: string;
  readonly short?: string;
  /** Placeholder of the value (`SECONDS`); absent: a switch. */
  readonly value?: string;
  readonly repeat?: boolean;
  readonly choices?: readonly string[];
  readonly operand?: Operand;
  readonly help: string;
}

export interface OperandSpec {
  readonly name: string;
  readonly required: boolean;
  readonly repeat?: boolean;
  readonly operand: Operand;
}

export interface Example {
  readonly says: string;
  readonly command: string;
}

export interface VerbSpec {
  readonly name: string;
  readonly summary: string;
  /** Whole paragraphs under the usage line. */
  readonly about: readonly string[];
  readonly operands: readonly OperandSpec[];
  readonly flags: readonly FlagSpec[];
  /** Takes `-- COMMAND...`. */
  readonly takesCommand?: boolean;
  /** Talks to the control plane: `--kubeconfig`, `--namespace` and `--output` are added. */
  readonly usesApi: boolean;
  /** Values of `--output`, the default first; absent: the verb prints text only. */
  readonly outputs?: readonly string[];
  readonly examples: readonly [Example, ...Example[]];
  /** Not listed in help or completion. */
  readonly hidden?: boolean;
}

const kubeconfigFlag: FlagSpec = {
  name: "kubeconfig",
  value: "FILE",
  operand: "file",
  help: "how to reach the control plane (default: $WEFT_KUBECONFIG, then $WEFT_DATA/admin.kubeconfig, then ~/.weft/admin.kubeconfig)",
};

const namespaceFlag: FlagSpec = {
  name: "namespace",
  short: "n",
  value: "NAMESPACE",
  operand: "namespace",
  help: "namespace to look at or write to (default: the one in the kubeconfig, else default)",
};

export const helpFlag: FlagSpec = { name: "help", short: "h", help: "show this help" };

/** The flags of a verb with those that every verb of its sort has. */
export function allFlags(spec: VerbSpec): readonly FlagSpec[] {
  const flags = [...spec.flags];
  const add = (flag: FlagSpec) => {
    if (!flags.some((f) => f.name === flag.name)) flags.push(flag);
  };
  if (spec.outputs !== undefined) {
    add({
      name: "output",
      short: "o",
      value: "FORMAT",
      choices: spec.outputs,
      help: `${spec.outputs.join(", ")} (default ${spec.outputs[0]})`,
    });
  }
  if (spec.usesApi) {
    add(namespaceFlag);
    add(kubeconfigFlag);
  }
  add(helpFlag);
  return flags;
}
