// Owns: whether a command may start from its bundle under dist/ (one file and its bytecode: half the start-up time) instead of from the sources.
// A bundle that is older than any of its sources, or misses one, is never used: what runs is always what src/ says.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** Commands that have a bundle; the value is the module whose `main` runs it. */
export const bundledCommands = {
  proxy: "src/proxy/app.ts",
  up: "src/control/app.ts",
  run: "src/cli/run/main.ts",
  cli: "src/cli/main.ts",
} as const;

export type BundledCommand = keyof typeof bundledCommands;

/** Beside each bundle: the sources it was made from, relative to the package's folder. */
export interface BundleManifest {
  /** `Bun.version`: bytecode is for one version, and so may be what the bundler relied on. */
  readonly bun: string;
  readonly sources: readonly string[];
}

export const bundlePath = (root: string, command: BundledCommand): string => join(root, "dist", command, `${command}.js`);
export const manifestPath = (root: string, command: BundledCommand): string => join(root, "dist", command, "sources.json");

/** The bundle's path when it may be used; undefined when there is none, or it does not stand for the sources as they are. Costs some hundred `stat`s: 0.5 ms. */
export function freshBundle(root: string, command: BundledCommand): string | undefined {
  try {
    const bundle = bundlePath(root, command);
    const builtMs = statSync(bundle).mtimeMs;
    const manifest = JSON.parse(readFileSync(manifestPath(root, command), "utf8")) as BundleManifest;
    if (manifest.bun !== Bun.version) return undefined;
    for (const source of manifest.sources) if (statSync(join(root, source)).mtimeMs > builtMs) return undefined;
    return bundle;
  } catch {
    return undefined;
  }
}
