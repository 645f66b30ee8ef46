// Owns: deciding, before anything is built, whether a sink wants a record.

import type { AccessLogConfig, AccessLogFilter } from "../config.ts";
import type { AccessLogFactory, AccessRecord, AccessSink } from "./record.ts";

/** `flag` is "" when nothing went wrong. */
type Wants = (status: number, flag: string) => boolean;

export interface CompiledAccessLog {
  readonly sink: AccessSink;
  /** null = everything. */
  readonly wants: Wants | null;
}

export function compileAccessLogs(configs: readonly AccessLogConfig[], factory: AccessLogFactory): readonly CompiledAccessLog[] {
  return configs.map((config) => ({ sink: factory(config), wants: config.filter === null ? null : compileFilter(config.filter) }));
}

function compileFilter(filter: AccessLogFilter): Wants {
  switch (filter.kind) {
    case "status":
      return statusFilter(filter.op, filter.value);
    case "flags": {
      const flags = filter.flags;
      return flags.length === 0 ? (_status, flag) => flag !== "" : (_status, flag) => flags.includes(flag);
    }
    case "or": {
      const parts = filter.filters.map(compileFilter);
      return (status, flag) => parts.some((wants) => wants(status, flag));
    }
  }
}

function statusFilter(op: "eq" | "ge" | "le", value: number): Wants {
  switch (op) {
    case "eq":
      return (status) => status === value;
    case "ge":
      return (status) => status >= value;
    case "le":
      return (status) => status <= value;
  }
}

/** Does any sink want it? */
export function anyWants(logs: readonly CompiledAccessLog[], status: number, flag: string): boolean {
  for (let i = 0; i < logs.length; i++) {
    const wants = (logs[i] as CompiledAccessLog).wants;
    if (wants === null || wants(status, flag)) return true;
  }
  return false;
}

/** Hands a record to every sink that wants it. */
export function logTo(logs: readonly CompiledAccessLog[], status: number, flag: string, record: AccessRecord): void {
  for (const log of logs) if (log.wants === null || log.wants(status, flag)) log.sink.write(record);
}
