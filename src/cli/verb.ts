// Owns: what a verb is given when it runs, and what its module exports.

import type { Parsed } from "./parse.ts";
import type { VerbSpec } from "./spec.ts";
import type { Terminal } from "./terminal.ts";

export interface Invocation {
  readonly spec: VerbSpec;
  readonly args: Parsed;
  readonly terminal: Terminal;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Fires on the first Ctrl-C or SIGTERM: watches end quietly. */
  readonly stop: AbortSignal;
}

/** Resolves to the exit status. Throws CliFailure or UsageFailure. */
export type Run = (invocation: Invocation) => Promise<number>;
