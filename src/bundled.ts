// Owns: which commands have a bundle under dist/ (one file and its bytecode: half the start-up time), and where it is.
// src/base/built.ts says when one may be used instead of the sources.

import { join } from "node:path";
import { fresh } from "./base/built.ts";

/** Commands that have a bundle; the value is the module whose `main` runs it. */
export const bundledCommands = {
  proxy: "src/proxy/app.ts",
  up: "src/control/app.ts",
  run: "src/cli/run/main.ts",
  cli: "src/cli/main.ts",
} as const;

export type BundledCommand = keyof typeof bundledCommands;

export const bundlePath = (root: string, command: BundledCommand): string => join(root, "dist", command, `${command}.js`);
export const manifestPath = (root: string, command: BundledCommand): string => join(root, "dist", command, "sources.json");

/** The bundle's path when it may be used. */
export const freshBundle = (root: string, command: BundledCommand): string | undefined =>
  fresh(root, bundlePath(root, command), manifestPath(root, command));
