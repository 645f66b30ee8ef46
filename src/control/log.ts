// Owns: where the control plane's log goes: standard error, as text for people or as JSON lines by pino for programs.
// Pino costs 20 ms to load, so it comes after the start; lines until then wait. Never throws.

import { writeSync } from "node:fs";
import type { LogFields, Logger, LogLevel } from "../base/log.ts";

type Named = Exclude<LogLevel, "silent">;

const rank: Readonly<Record<LogLevel, number>> = { debug: 10, info: 20, warn: 30, error: 40, silent: 99 };

function logger(level: LogLevel, write: (level: Named, fields: LogFields, message: string) => void): Logger {
  const at = (name: Named) => (fields: LogFields, message: string) => {
    if (rank[name] >= rank[level]) write(name, fields, message);
  };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function toStderr(text: string): void {
  try {
    writeSync(2, text);
  } catch {
    // Nobody reads (EPIPE, EAGAIN): a log must not stop what it reports on.
  }
}

/** `18:30:12.345 WARN  A proxy was turned away  reason="…"` */
export function textLogger(level: LogLevel, nowMs: () => number, write: (text: string) => void = toStderr): Logger {
  return logger(level, (name, fields, message) => {
    const words = Object.entries(fields).map(([key, value]) => `${key}=${show(value)}`);
    write(
      `${new Date(nowMs()).toISOString().slice(11, 23)} ${name.toUpperCase().padEnd(5)} ${message}${words.length > 0 ? `  ${words.join(" ")}` : ""}\n`,
    );
  });
}

/** JSON lines through pino, which is loaded when `ready` is called. */
export function pinoLogger(level: LogLevel): { readonly log: Logger; readonly ready: () => Promise<void> } {
  let queue: [Named, LogFields, string][] | undefined = [];
  let sink: ((level: Named, fields: LogFields, message: string) => void) | undefined;
  const log = logger(level, (name, fields, message) => {
    if (sink !== undefined) sink(name, fields, message);
    else queue?.push([name, fields, message]);
  });
  return {
    log,
    async ready() {
      const { default: pino } = await import("pino");
      const p = pino(
        {
          level,
          base: null,
          timestamp: () => `,"time":"${new Date().toISOString()}"`,
          formatters: { level: (label) => ({ level: label }) },
          serializers: { cause: (value: unknown) => (value instanceof Error ? pino.stdSerializers.err(value) : value) },
        },
        // Synchronous: a line about a crash must be out before the crash.
        pino.destination({ fd: 2, sync: true }),
      );
      sink = (name, fields, message) => p[name](fields, message);
      const waiting = queue ?? [];
      queue = undefined;
      for (const line of waiting) sink(...line);
    },
  };
}

function show(value: unknown): string {
  if (typeof value === "string") return /^[\w./:~-]+$/.test(value) ? value : JSON.stringify(value);
  if (value instanceof Error) return JSON.stringify(`${value.name}: ${value.message}`);
  if (typeof value === "number" || typeof value === "boolean" || typeof value === "bigint") return String(value);
  return JSON.stringify(value) ?? String(value);
}
