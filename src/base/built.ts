// Owns: whether what `npm run bundle` put under dist/ still stands for the sources, and the command that starts a sidecar.
// What is older than any of its sources, or misses one, is never used: what runs is always what src/ says.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** Beside each output: the sources it was made from, relative to the package's folder. */
export interface Manifest {
  /** `Bun.version`: bytecode is for one version, and so may be what the bundler relied on. */
  readonly bun: string;
  readonly sources: readonly string[];
}

/** `output` when it may be used; undefined when there is none, or it does not stand for the sources as they are. Costs some hundred `stat`s: 0.5 ms. */
export function fresh(root: string, output: string, manifestPath: string): string | undefined {
  try {
    const builtMs = statSync(output).mtimeMs;
    const manifest = JSON.parse(readFileSync(manifestPath, "utf8")) as Manifest;
    if (manifest.bun !== Bun.version) return undefined;
    for (const source of manifest.sources) if (statSync(join(root, source)).mtimeMs > builtMs) return undefined;
    return output;
  } catch {
    return undefined;
  }
}

/** One file: Bun, the proxy and its bytecode, which stay in the file's pages and out of the process's private memory. */
export const sidecarPath = (root: string): string => join(root, "dist/sidecar/weft");
export const sidecarManifestPath = (root: string): string => join(root, "dist/sidecar/sources.json");

/** As bin/weft starts Bun: the folder it stands in must not reach into the process. The executable is made so. */
export const bunCommand = (script: string): readonly string[] => [
  process.execPath,
  "--no-env-file",
  "--config=/dev/null",
  "--no-install",
  script,
];

/** What starts `weft proxy` for the package in `root`; its flags follow. To be asked for each start: an upgrade may have come between two. */
export function proxyCommand(root: string): readonly string[] {
  const executable = fresh(root, sidecarPath(root), sidecarManifestPath(root));
  return executable === undefined ? [...bunCommand(join(root, "src/main.ts")), "proxy"] : [executable, "proxy"];
}

/** The same for another process of the proxy that asks: the same program, whatever has come since. */
export function ownProxyCommand(): readonly string[] {
  const script = process.argv[1] as string;
  // Where Bun says that the sources of an executable are.
  return script.startsWith("/$bunfs/") ? [process.execPath, "proxy"] : [...bunCommand(script), "proxy"];
}
