// Owns: the one logging interface. Never decides where lines go: the entry points do.
// The proxy writes its lines with `jsonLogger` below (pino would cost a sidecar 2.9 MB of private memory, see docs/decisions);
// the control plane and the CLI pass a pino logger, which fits the same interface.

export type LogFields = Readonly<Record<string, unknown>>;

/** Structured logging: fields first, then a message that is a whole sentence without variables in it. */
export interface Logger {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
}

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

const rank: Record<LogLevel, number> = { debug: 10, info: 20, warn: 30, error: 40, silent: 99 };

/** One JSON object a line: `{"time":"…","level":"info","msg":"…",…fields}`. `write` gets the line with its newline. */
export function jsonLogger(level: LogLevel, nowMs: () => number, write: (line: string) => void, bound: LogFields = {}): Logger {
  const at = (name: LogLevel) => (fields: LogFields, message: string) => {
    if (rank[name] < rank[level]) return;
    write(`${JSON.stringify({ time: new Date(nowMs()).toISOString(), level: name, msg: message, ...bound, ...fields }, plain)}\n`);
  };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** Swallows everything; for tests and for `--quiet`. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

function plain(_key: string, value: unknown): unknown {
  if (value instanceof Error) return { name: value.name, message: value.message };
  if (typeof value === "bigint") return value.toString();
  return value;
}
