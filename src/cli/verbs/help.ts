// Owns: `weft help [VERB]`.

import { UsageFailure } from "../failure.ts";
import { overview, verbHelp } from "../help.ts";
import { didYouMean } from "../suggest.ts";
import type { Invocation } from "../verb.ts";
import { verbNamed, verbs } from "../verbs.ts";

export async function run({ args, terminal }: Invocation): Promise<number> {
  const [name] = args.operands;
  if (name === undefined) {
    terminal.out(overview(verbs, terminal.colour, terminal.columns));
    return 0;
  }
  const spec = verbNamed(name);
  if (spec === undefined)
    throw new UsageFailure(
      `weft has no verb "${name}"${didYouMean(
        name,
        verbs.map((v) => v.name),
      )}`,
    );
  terminal.out(verbHelp(spec, terminal.colour, terminal.columns));
  return 0;
}
