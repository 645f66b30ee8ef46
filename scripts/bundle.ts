// Owns: dist/, one bundle with bytecode for each command (src/bundled.ts says which, src/base/built.ts when one is used) and the executable of the
// sidecar. Runs after `npm ci` (`prepare`), or by hand: `npm run bundle`. What cannot be made is no failure of the installation: the command then
// starts from its sources, slower.

import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Manifest } from "../src/base/built.ts";
import { packageRoot } from "../src/base/root.ts";
import { type BundledCommand, bundledCommands } from "../src/bundled.ts";

/** Loaded on demand or not at all in most runs: they stay where npm put them, out of the bytecode that every start maps. */
const external = ["yaml", "re2js", "jose", "pino", "elkjs", "@peculiar/x509", "reflect-metadata"];
/** The same for one command alone: a proxy needs gRPC's library for its Workload API only. */
const externalOf: Partial<Record<BundledCommand, readonly string[]>> = { proxy: ["@grpc/grpc-js"] };

const root = packageRoot();

interface Output {
  /** The folder under dist/ that is made, whole or not at all. */
  readonly folder: string;
  /** The file in it that is run. */
  readonly file: string;
  readonly entry: string;
  readonly flags: readonly string[];
  /** Files that must be there afterwards, with what their absence means. */
  readonly expected: Readonly<Record<string, string>>;
}

const common = ["--target=bun", "--format=cjs", "--bytecode", "--minify-whitespace", "--minify-syntax"];

const bundle = (command: BundledCommand): Output => ({
  folder: command,
  file: `${command}.js`,
  entry: bundledCommands[command],
  flags: [`--entry-naming=${command}.js`, ...[...external, ...(externalOf[command] ?? [])].flatMap((name) => ["--external", name])],
  // The bundler drops the bytecode without a word where it cannot make it.
  expected: { [`${command}.js.jsc`]: "the bundler made no bytecode" },
});

/** Nothing stays outside: what a proxy does not touch is on the disk alone. */
const sidecar: Output = {
  folder: "sidecar",
  file: "weft",
  entry: "src/proxy/executable.ts",
  flags: ["--compile", "--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
  expected: { weft: "the bundler made no executable" },
};

/** Undefined when it was made, otherwise what went wrong. Never leaves half an output. */
async function make(output: Output): Promise<string | undefined> {
  const target = join(root, "dist", output.folder);
  const making = `${target}.${process.pid}`;
  rmSync(making, { recursive: true, force: true });
  mkdirSync(making, { recursive: true });
  try {
    const metafile = join(making, "meta.json");
    const where = output.flags.includes("--compile") ? `--outfile=${join(making, output.file)}` : `--outdir=${making}`;
    const child = Bun.spawn(
      [process.execPath, "build", join(root, output.entry), ...common, `--metafile=${metafile}`, ...output.flags, where],
      {
        cwd: root,
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
      },
    );
    const [out, err, status] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
    if (status !== 0) return `${out}${err}`.trim();
    for (const [file, problem] of Object.entries(output.expected)) if (!(await Bun.file(join(making, file)).exists())) return problem;
    const meta = (await Bun.file(metafile).json()) as { inputs: Record<string, unknown> };
    const sources = ["package-lock.json", ...Object.keys(meta.inputs).filter((path) => !path.startsWith("node_modules/"))].sort();
    writeFileSync(join(making, "sources.json"), JSON.stringify({ bun: Bun.version, sources } satisfies Manifest));
    rmSync(metafile);
    rmSync(target, { recursive: true, force: true });
    renameSync(making, target);
    return undefined;
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
}

/** dist/main.js: src/main.ts and what it needs to choose, in one file. Commands stay where they are. */
async function entry(): Promise<void> {
  const made = await Bun.build({
    entrypoints: [join(root, "src/main.ts")],
    target: "bun",
    format: "esm",
    minify: { whitespace: true, syntax: true },
    plugins: [
      {
        name: "commands stay outside",
        setup(build) {
          build.onResolve({ filter: /^\.\/(cli|control)\// }, ({ path }) => ({ path: `../src/${path.slice(2)}`, external: true }));
        },
      },
    ],
  });
  await Bun.write(join(root, "dist/main.js"), await (made.outputs[0] as Blob).text());
}

const outputs = (Object.keys(bundledCommands) as BundledCommand[]).map(bundle);
// Elsewhere nobody has measured what it is made for, the pages that stay in the file.
if (process.platform === "linux") outputs.push(sidecar);
for (const output of outputs) {
  const problem = await make(output);
  if (problem !== undefined)
    process.stderr.write(`dist/${output.folder} was not made; what it holds starts from its sources, slower: ${problem}\n`);
}
await entry().catch((error: unknown) => {
  process.stderr.write(`dist/main.js was not made; commands start from src/main.ts, slower: ${String(error)}\n`);
});
