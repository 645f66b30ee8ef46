// Owns: the command line of `weft proxy`. Never acts on it.

import type { LogLevel } from "../base/log.ts";

export interface ProxyFlags {
  readonly bootstrap: string;
  /** null: no identity is asked for. */
  readonly tokenFile: string | null;
  readonly drainMs: number;
  readonly logLevel: LogLevel;
  /** Processes that serve traffic; 1: this one, and no other. */
  readonly workers: number;
  /** Path of the socket over which a successor takes this proxy's place, and this one a predecessor's; null: none. */
  readonly handover: string | null;
  /** Folder in which what the control plane gave is kept for a start without it; null: nothing is kept. */
  readonly snapshot: string | null;
  /** What happens when the certificate expires and nobody has renewed it. */
  readonly whenUnrenewed: "keep" | "close";
  /** Path of the Unix socket of the SPIFFE Workload API; null: none. */
  readonly workloadApi: string | null;
  /** Folder in which certificate, key and roots are kept as files, for programs that read such; null: none. */
  readonly identityFiles: string | null;
  /** File that says how explicit upstreams may be reached while this proxy is down; null: none is written. For `weft run`. */
  readonly directTable: string | null;
}

const usage =
  "usage: weft proxy --bootstrap FILE [--token-file FILE] [--drain-seconds 5] [--log-level debug|info|warn|error|silent] [--workers N|auto] [--handover PATH] [--snapshot DIR] [--when-unrenewed keep|close] [--workload-api PATH] [--identity-files DIR] [--direct-table FILE]";

const names = [
  "--bootstrap",
  "--token-file",
  "--drain-seconds",
  "--log-level",
  "--workers",
  "--handover",
  "--snapshot",
  "--when-unrenewed",
  "--workload-api",
  "--identity-files",
  "--direct-table",
];
/** More processes than this on one machine are a slip of the pen. */
const mostWorkers = 128;

const levels: readonly string[] = ["debug", "info", "warn", "error", "silent"] satisfies readonly LogLevel[];

/** The flags, or a message for the user. Takes `--flag value` and `--flag=value`. `cores`: that this process may use. */
export function parseProxyFlags(argv: readonly string[], cores: () => number): ProxyFlags | { readonly problem: string } {
  const values = new Map<string, string>();
  for (let n = 0; n < argv.length; n++) {
    const word = argv[n] as string;
    const equals = word.indexOf("=");
    const name = equals < 0 ? word : word.slice(0, equals);
    if (!names.includes(name)) return { problem: `unknown argument ${word}\n${usage}` };
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
  const wanted = values.get("--workers") ?? "1";
  const workers = wanted === "auto" ? Math.max(1, Math.min(mostWorkers, cores())) : Number(wanted);
  if (!/^(\d{1,3}|auto)$/.test(wanted) || workers < 1 || workers > mostWorkers)
    return { problem: `--workers ${wanted} is not a number of processes from 1 to ${mostWorkers}, nor auto (one for each core)` };
  const whenUnrenewed = values.get("--when-unrenewed") ?? "keep";
  if (whenUnrenewed !== "keep" && whenUnrenewed !== "close")
    return { problem: `--when-unrenewed ${whenUnrenewed} is not one of keep, close` };
  return {
    bootstrap,
    tokenFile: values.get("--token-file") ?? null,
    drainMs: seconds * 1000,
    logLevel: logLevel as LogLevel,
    workers,
    handover: values.get("--handover") ?? null,
    snapshot: values.get("--snapshot") ?? null,
    whenUnrenewed,
    workloadApi: values.get("--workload-api") ?? null,
    identityFiles: values.get("--identity-files") ?? null,
    directTable: values.get("--direct-table") ?? null,
  };
}
