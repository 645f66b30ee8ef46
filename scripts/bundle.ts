// Owns: dist/, one bundle with bytecode for each command (src/bundled.ts says which, and when one is used). Runs after `npm ci` (`prepare`), or by hand:
// `npm run bundle`. A bundle that cannot be made is no failure of the installation: the command then starts from its sources, slower.

import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../src/base/root.ts";
import { type BundledCommand, type BundleManifest, bundledCommands, manifestPath } from "../src/bundled.ts";

/** Loaded on demand or not at all in most runs: they stay where npm put them, out of the bytecode that every start maps. */
const external = ["yaml", "re2js", "jose", "pino", "elkjs", "@peculiar/x509", "reflect-metadata"];
/** The same for one command alone: a proxy needs gRPC's library for its Workload API only. */
const externalOf: Partial<Record<BundledCommand, readonly string[]>> = { proxy: ["@grpc/grpc-js"] };

const root = packageRoot();

/** Undefined when it was made, otherwise what went wrong. Never leaves half a bundle. */
async function bundle(command: BundledCommand): Promise<string | undefined> {
  const target = join(root, "dist", command);
  const making = `${target}.${process.pid}`;
  rmSync(making, { recursive: true, force: true });
  mkdirSync(making, { recursive: true });
  try {
    const metafile = join(making, "meta.json");
    const flags = ["--target=bun", "--format=cjs", "--bytecode", "--minify-whitespace", "--minify-syntax", `--metafile=${metafile}`];
    const child = Bun.spawn(
      [
        process.execPath,
        "build",
        join(root, bundledCommands[command]),
        ...flags,
        `--entry-naming=${command}.js`,
        `--outdir=${making}`,
        ...[...external, ...(externalOf[command] ?? [])].flatMap((name) => ["--external", name]),
      ],
      { cwd: root, stdin: "ignore", stdout: "pipe", stderr: "pipe" },
    );
    const [out, err, status] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
    if (status !== 0) return `${out}${err}`.trim();
    // The bundler drops the bytecode without a word where it cannot make it.
    if (!(await Bun.file(join(making, `${command}.js.jsc`)).exists())) return "the bundler made no bytecode";
    const meta = (await Bun.file(metafile).json()) as { inputs: Record<string, unknown> };
    const sources = ["package-lock.json", ...Object.keys(meta.inputs).filter((path) => !path.startsWith("node_modules/"))].sort();
    writeFileSync(
      manifestPath(root, command).replace(target, making),
      JSON.stringify({ bun: Bun.version, sources } satisfies BundleManifest),
    );
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

for (const command of Object.keys(bundledCommands) as BundledCommand[]) {
  const problem = await bundle(command);
  if (problem !== undefined)
    process.stderr.write(`dist/${command} was not made; the command starts from its sources, slower: ${problem}\n`);
}
await entry().catch((error: unknown) => {
  process.stderr.write(`dist/main.js was not made; commands start from src/main.ts, slower: ${String(error)}\n`);
});
