// Owns: the command line of `weft proxy`. Never acts on it.

import type { LogLevel } from "../base/log.ts";

export interface ProxyFlags {
  readonly bootstrap: string;
  /** null: no identity is asked for. */
  readonly tokenFile: string | null;
  readonly drainMs: number;
  readonly logLevel: LogLevel;
}

const usage = "usage: weft proxy --bootstrap FILE [--token-file FILE] [--drain-seconds 5] [--log-level debug|info|warn|error|silent]";

const levels: readonly string[] = ["debug", "info", "warn", "error", "silent"] satisfies readonly LogLevel[];

/** The flags, or a message for the user. Takes `--flag value` and `--flag=value`. */
export function parseProxyFlags(argv: readonly string[]): ProxyFlags | { readonly problem: string } {
  const values = new Map<string, string>();
  for (let n = 0; n < argv.length; n++) {
    const word = argv[n] as string;
    const equals = word.indexOf("=");
    const name = equals < 0 ? word : word.slice(0, equals);
    if (!["--bootstrap", "--token-file", "--drain-seconds", "--log-level"].includes(name))
      return { problem: `unknown argument ${word}\n${usage}` };
    if (values.has(name)) return { problem: `${name} is given twice\n${usage}` };
    const value = equals < 0 ? argv[++n] : word.slice(equals + 1);
    if (value === undefined || value === "") return { problem: `${name} needs a value\n${usage}` };
    values.set(name, value);
  }
  const bootstrap = values.get("--bootstrap");
  if (bootstrap === undefined) return { problem: `--bootstrap is missing\n${usage}` };
  const drain = values.get("--drain-seconds") ?? "5";
  const seconds = Number(drain);
  if (!/^\d+(\.\d+)?$/.test(drain) || seconds > 3600)
    return { problem: `--drain-seconds ${drain} is not a number of seconds from 0 to 3600` };
  const logLevel = values.get("--log-level") ?? "info";
  if (!levels.includes(logLevel)) return { problem: `--log-level ${logLevel} is not one of ${levels.join(", ")}` };
  return { bootstrap, tokenFile: values.get("--token-file") ?? null, drainMs: seconds * 1000, logLevel: logLevel as LogLevel };
}
