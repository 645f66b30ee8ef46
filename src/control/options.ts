// Owns: the flags of `weft up`. Pure; refuses with a sentence that names the word and the way out. Never touches files.

import { isIP } from "node:net";
import type { LogLevel } from "../base/log.ts";

export interface UpOptions {
  readonly dataDir: string;
  readonly listen: string;
  /** undefined = that of the last run on this folder, else the default; 0 = any free one. */
  readonly apiPort: number | undefined;
  readonly xdsPort: number | undefined;
  readonly dashboardPort: number | undefined;
  readonly trustDomain: string | undefined;
  readonly logLevel: LogLevel;
  readonly logFormat: "json" | "text";
}

export class UsageError extends Error {
  override readonly name = "UsageError";
}

export const usage = `Usage: weft up [--data DIR] [--listen ADDRESS] [--api-port N] [--xds-port N] [--dashboard-port N]
               [--trust-domain NAME] [--log-level LEVEL] [--log-format FORMAT]

Starts the control plane: API, xDS, identity, analysis and dashboard in one process.

  --data DIR            folder for all state (default $WEFT_DATA, then ~/.weft)
  --listen ADDRESS      IP address to listen on (default 127.0.0.1)
  --api-port N          REST API over HTTPS (default 7443; 0 = any free port)
  --xds-port N          configuration, identity, metrics and access logs of sidecars (default 7444)
  --dashboard-port N    dashboard on the loopback address (default 7445)
  --trust-domain NAME   trust domain of the mesh's identities, fixed at the first start (default cluster.local)
  --log-level LEVEL     debug, info, warn, error or silent (default info)
  --log-format FORMAT   text or json (default text), on standard error

On a restart the ports of the last run are taken again, so that sidecars find it.

Example: weft up --data ./mesh
`;

const levels: readonly LogLevel[] = ["debug", "info", "warn", "error", "silent"];

/** Reads the arguments after `up`. `"help"` = the user asked for it. Throws UsageError. */
export function parseOptions(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): UpOptions | "help" {
  const given = new Map<string, string>();
  const known = ["data", "listen", "api-port", "xds-port", "dashboard-port", "trust-domain", "log-level", "log-format"];
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] as string;
    if (word === "--help" || word === "-h") return "help";
    const [, name, , inline] = /^--([a-z-]+)(=(.*))?$/s.exec(word) ?? [];
    if (name === undefined) throw new UsageError(`weft up takes no ${JSON.stringify(word)}; see weft up --help`);
    if (!known.includes(name)) throw new UsageError(`weft up has no flag --${name}; it knows ${known.map((k) => `--${k}`).join(", ")}`);
    const value = inline ?? argv[++at];
    if (value === undefined || value === "") throw new UsageError(`--${name} needs a value`);
    given.set(name, value);
  }

  const port = (name: string): number | undefined => {
    const text = given.get(name);
    if (text === undefined) return undefined;
    if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535)
      throw new UsageError(`--${name} takes a port from 0 to 65535 (0 = any free one), not ${JSON.stringify(text)}`);
    return Number(text);
  };
  const oneOf = <T extends string>(name: string, values: readonly T[], otherwise: T): T => {
    const text = given.get(name) ?? otherwise;
    const found = values.find((v) => v === text);
    if (found === undefined) throw new UsageError(`--${name} is one of ${values.join(", ")}, not ${JSON.stringify(text)}`);
    return found;
  };
  const listen = given.get("listen") ?? "127.0.0.1";
  if (isIP(listen) === 0) throw new UsageError(`--listen takes an IP address, not ${JSON.stringify(listen)}`);
  const trustDomain = given.get("trust-domain");
  if (trustDomain !== undefined && !/^[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?$/.test(trustDomain)) {
    throw new UsageError(
      `--trust-domain takes lower-case letters, digits, dots, dashes and underscores (SPIFFE), not ${JSON.stringify(trustDomain)}`,
    );
  }
  const home = env.HOME;
  const dataDir = given.get("data") ?? env.WEFT_DATA ?? (home === undefined ? undefined : `${home}/.weft`);
  if (dataDir === undefined || dataDir === "") throw new UsageError("no folder for the state: name one with --data DIR or $WEFT_DATA");
  return {
    dataDir,
    listen,
    apiPort: port("api-port"),
    xdsPort: port("xds-port"),
    dashboardPort: port("dashboard-port"),
    trustDomain,
    logLevel: oneOf("log-level", levels, "info"),
    logFormat: oneOf("log-format", ["text", "json"] as const, "text"),
  };
}
