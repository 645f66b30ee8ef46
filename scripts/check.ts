// `npm run check`: everything that can be judged without running the product. Each check is one command; all run, then the failures are named.
// Prints one closing line, `N passed, N failed`.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface Check {
  readonly name: string;
  readonly run: () => Promise<string | undefined>;
}

const bin = (name: string): string => join("node_modules", ".bin", name);

/** Runs a command; undefined when it succeeds, its output when it does not. */
async function command(argv: readonly string[]): Promise<string | undefined> {
  const child = Bun.spawn([...argv], { stdin: "ignore", stdout: "pipe", stderr: "pipe", env: { ...process.env, NO_COLOR: "1" } });
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  return code === 0 ? undefined : `${out}${err}`.trim();
}

function digest(folder: string): string {
  const hash = createHash("sha256");
  for (const file of readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()) {
    hash.update(file).update("\0").update(readFileSync(file));
  }
  return hash.digest("hex");
}

const checks: readonly Check[] = [
  { name: "types", run: () => command([bin("tsc"), "--noEmit", "-p", "."]) },
  { name: "types of the dashboard", run: () => command([bin("tsc"), "--noEmit", "-p", "ui"]) },
  {
    name: "lint and formatting",
    run: () => command([bin("biome"), "ci", "--colors=off", "--error-on-warnings", "--max-diagnostics=50", "."]),
  },
  {
    name: "generated protobuf code is what proto/ gives",
    run: async () => {
      const before = digest("src/wire/gen");
      const problem = await command([bin("buf"), "generate"]);
      if (problem !== undefined) return problem;
      return digest("src/wire/gen") === before
        ? undefined
        : "src/wire/gen differs from what proto/ generates: run npm run generate and commit the result";
    },
  },
  {
    name: "the reference of kinds is what the kinds say",
    run: () => command([process.execPath, "scripts/generate-kind-docs.ts", "--check"]),
  },
  { name: "nothing stands twice", run: () => command([bin("jscpd"), "--config", ".jscpd.json"]) },
];

let failed = 0;
for (const check of checks) {
  const problem = await check.run();
  if (problem !== undefined) failed++;
  process.stdout.write(
    problem === undefined ? `ok      ${check.name}\n` : `FAILED  ${check.name}\n${problem.replace(/^/gm, "        ")}\n`,
  );
}
process.stdout.write(`checks: ${checks.length - failed} passed, ${failed} failed\n`);
process.exit(failed === 0 ? 0 : 1);
