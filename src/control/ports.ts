// Owns: which ports the control plane takes, and remembering them: a restart finds the sidecars of the run before on the same ports.

import { join } from "node:path";
import { errorCode, privateMode, readIfThere, writeFileAtomic } from "./identity/files.ts";

export type PortName = "api" | "xds" | "dashboard";
export type Ports = Readonly<Record<PortName, number>>;

export const defaultPorts: Ports = { api: 7443, xds: 7444, dashboard: 7445 };

const flags: Readonly<Record<PortName, string>> = { api: "--api-port", xds: "--xds-port", dashboard: "--dashboard-port" };

/** A port cannot be had; the sentence names it and the flag that chooses another. */
export class PortError extends Error {
  override readonly name = "PortError";
}

/** The ports of the last run on this folder; empty when there was none or its note cannot be read. */
export function rememberedPorts(dir: string): Partial<Ports> {
  try {
    const found = JSON.parse(readIfThere(join(dir, "ports.json")) ?? "{}") as Record<string, unknown>;
    const out: Partial<Record<PortName, number>> = {};
    for (const name of ["api", "xds", "dashboard"] as const) {
      const port = found[name];
      if (typeof port === "number" && Number.isInteger(port) && port > 0 && port < 65_536) out[name] = port;
    }
    return out;
  } catch {
    return {};
  }
}

export function rememberPorts(dir: string, ports: Ports): void {
  writeFileAtomic(join(dir, "ports.json"), `${JSON.stringify(ports)}\n`, privateMode);
}

/**
 * Binds by trying: the flag's port, else the last run's, else the default. With flag 0 the last run's port is tried first, so that
 * the same command line comes back on the same ports, and then any free one.
 */
export async function bindPort<T>(
  name: PortName,
  asked: number | undefined,
  remembered: number | undefined,
  listen: string,
  bind: (port: number) => T | Promise<T>,
): Promise<T> {
  if (asked === 0 && remembered !== undefined) {
    try {
      return await bind(remembered);
    } catch (cause) {
      if (!isInUse(cause)) throw cause;
    }
  }
  const port = asked ?? remembered ?? defaultPorts[name];
  try {
    return await bind(port);
  } catch (cause) {
    const why = isInUse(cause)
      ? "is in use by another program"
      : `cannot be had (${cause instanceof Error ? cause.message : String(cause)})`;
    const whence = asked === undefined && remembered !== undefined ? ", the one of the last run," : "";
    throw new PortError(
      `port ${port} on ${listen}${whence} for ${what[name]} ${why}; choose another with ${flags[name]} N (0 = any free one)`,
    );
  }
}

const what: Readonly<Record<PortName, string>> = { api: "the API", xds: "xDS", dashboard: "the dashboard" };

function isInUse(cause: unknown): boolean {
  return errorCode(cause) === "EADDRINUSE" || (cause instanceof Error && /EADDRINUSE|in use/i.test(cause.message));
}
