// Owns: `weft gateway` up to the point where `weft run` takes over: a run whose program does nothing but last, and whose sidecar opens the ports of a
// Gateway. So restart, replacement, registration and the end of it all are those of every instance.

import { UsageFailure } from "../failure.ts";
import { parse } from "../parse.ts";
import { verbNamed } from "../verbs.ts";

/** 68 years, the most that every `sleep` takes: the program that lasts until it is told to end. */
const lasting = ["sleep", "2147483647"] as const;

/** Flags that mean the same there. */
const passedOn = ["namespace", "kubeconfig", "address", "service-account", "wait", "drain-timeout", "workers"] as const;

/** The arguments of `weft run` for those of `weft gateway`. Throws UsageFailure. */
export function runArguments(argv: readonly string[]): readonly string[] {
  const spec = verbNamed("gateway");
  if (spec === undefined) throw new Error("the table of verbs has no gateway");
  const args = parse(spec, argv);
  const [name] = args.operands;
  if (name === undefined) throw new UsageFailure("weft gateway needs NAME, the Gateway whose ports it opens");
  if (!/^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name))
    throw new UsageFailure(`weft gateway "${name}": a name of lower-case letters, digits and -, that begins with a letter`);
  const given = passedOn.flatMap((flag) => {
    const value = args.text(flag);
    return value === undefined ? [] : [`--${flag}`, value];
  });
  const switches = (["quiet", "verbose"] as const).filter((flag) => args.on(flag)).map((flag) => `--${flag}`);
  return ["--service", name, "--gateway", name, ...given, ...switches, "--", ...lasting];
}
