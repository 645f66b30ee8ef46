// `bun test/fuzz/run.ts [--target NAME] [--seconds N] [--seed N]`: fuzzes by hand for as long as is wanted. Without a target: all, one after another.
// A failure is made small, kept under test/fuzz/found/ and printed; `bun test test/fuzz` replays it from then on.

import { campaign, keep } from "./campaign.ts";
import { targets } from "./targets.ts";

function option(name: string): string | undefined {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
}

const seconds = Number(option("seconds") ?? 10);
const wanted = option("target");
const seed = Number(option("seed") ?? Date.now() % 1_000_000_000);
const chosen = targets.filter((target) => wanted === undefined || target.name === wanted);
if (chosen.length === 0 || !(seconds > 0) || !Number.isInteger(seed)) {
  process.stderr.write(`usage: run.ts [--target ${targets.map((target) => target.name).join("|")}] [--seconds N] [--seed N]\n`);
  process.exit(2);
}
let failures = 0;
for (const target of chosen) {
  const { runs, failed } = campaign(target, { seed, milliseconds: seconds * 1_000, runs: Number.POSITIVE_INFINITY });
  if (failed === null) {
    process.stdout.write(`${target.name}: ${runs} inputs, seed ${seed}, nothing found\n`);
    continue;
  }
  failures++;
  const text = Buffer.from(failed.input).toString("latin1");
  process.stdout.write(
    `${target.name}: failed after ${runs} inputs, seed ${seed}\n  ${failed.error.message}\n  ${JSON.stringify(text)}\n  kept as ${keep(target, failed.input)}\n`,
  );
}
process.exit(failures === 0 ? 0 : 1);
