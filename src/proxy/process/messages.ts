// Owns: what the owner of a proxy and its workers say to each other over their pipe, and how a configuration becomes the difference to what a worker has.
// Plain data only: it is cloned on the way. Private keys travel here and nowhere else: the pipe joins two processes of one user and has no name.

import type { DenyList } from "../../wire/trust.ts";
import type { HostPort, LocalWorkload, ProxyConfig } from "../config.ts";
import type { ApplyFailure, EngineStats } from "../engine.ts";
import type { AccessRecord } from "../telemetry/record.ts";
import type { MetricsDelta } from "./merged-metrics.ts";

export interface SecretsMessage {
  readonly generation: number;
  readonly certificates: readonly { readonly name: string; readonly certificatePem: string; readonly privateKeyPem: string }[];
  readonly roots: readonly { readonly name: string; readonly pem: string }[];
  /** Why there is no certificate any more, where there was one. */
  readonly lapsed: readonly { readonly name: string; readonly why: string }[];
  /** Absent: nobody is denied. */
  readonly denied?: DenyList;
}

/** A part of a configuration: what is new or changed, and the names of what is gone. */
export interface ConfigDelta {
  readonly put: { readonly [K in keyof ProxyConfig]: ProxyConfig[K] };
  readonly gone: { readonly [K in keyof ProxyConfig]: readonly string[] };
}

/** The sockets of one listener; their descriptors come over the descriptor socket, in this order. */
export interface SocketsMessage {
  readonly name: string;
  readonly address: HostPort;
  readonly port: number;
  readonly count: number;
  /** Why there are none. */
  readonly problem: { readonly code: string; readonly message: string } | null;
}

export type ToWorker =
  | { readonly t: "start"; readonly local: LocalWorkload; readonly drainMs: number }
  | { readonly t: "secrets"; readonly secrets: SecretsMessage }
  | { readonly t: "apply"; readonly version: number; readonly sockets: readonly SocketsMessage[]; readonly delta: ConfigDelta }
  /** Asks for metrics and state. */
  | { readonly t: "ask"; readonly ask: number }
  | { readonly t: "goodbye"; readonly on: boolean }
  | { readonly t: "drain"; readonly graceMs: number; readonly idleMs: number | undefined }
  /** A batch of log entries has been taken. */
  | { readonly t: "took"; readonly id: number };

export type FromWorker =
  | { readonly t: "applied"; readonly version: number; readonly failures: readonly ApplyFailure[] }
  | { readonly t: "told"; readonly ask: number; readonly metrics: MetricsDelta; readonly stats: EngineStats }
  | {
      readonly t: "records";
      readonly id: number;
      readonly logName: string;
      readonly cluster: string;
      readonly records: readonly AccessRecord[];
    }
  | { readonly t: "lines"; readonly id: number; readonly path: string; readonly chunk: string }
  /** As `EngineDeps.demand`. */
  | { readonly t: "demand"; readonly table: string; readonly host: string }
  | { readonly t: "drained" };

type Kind = keyof ProxyConfig;
export const kinds = ["clusters", "endpoints", "routes", "listeners"] as const satisfies readonly Kind[];

export const emptyConfig: ProxyConfig = { listeners: new Map(), routes: new Map(), clusters: new Map(), endpoints: new Map() };

/** What leads from one configuration to the next; resources that are the same object are left out. */
export function configDelta(before: ProxyConfig, after: ProxyConfig): ConfigDelta {
  const put = { listeners: new Map(), routes: new Map(), clusters: new Map(), endpoints: new Map() } as {
    [K in Kind]: Map<string, unknown>;
  };
  const gone: { [K in Kind]: string[] } = { listeners: [], routes: [], clusters: [], endpoints: [] };
  for (const kind of kinds) {
    const old: ReadonlyMap<string, unknown> = before[kind];
    for (const [name, config] of after[kind]) if (old.get(name) !== config) put[kind].set(name, config);
    for (const name of old.keys()) if (!after[kind].has(name)) gone[kind].push(name);
  }
  return { put: put as unknown as ConfigDelta["put"], gone };
}

/** The next configuration: what the difference does not name keeps its identity. */
export function withDelta(before: ProxyConfig, delta: ConfigDelta): ProxyConfig {
  const next = (kind: Kind): ReadonlyMap<string, unknown> => {
    const map = new Map<string, unknown>(before[kind]);
    for (const name of delta.gone[kind]) map.delete(name);
    for (const [name, config] of delta.put[kind]) map.set(name, config);
    return map;
  };
  return Object.fromEntries(kinds.map((kind) => [kind, next(kind)])) as unknown as ProxyConfig;
}

/** Names of secrets in a resource, found by their shape: `{ kind: "secret", name }`. */
export function secretNames(value: unknown, found: Set<string>): void {
  if (typeof value !== "object" || value === null) return;
  const source = value as { readonly kind?: unknown; readonly name?: unknown };
  if (source.kind === "secret" && typeof source.name === "string") found.add(source.name);
  for (const inner of Object.values(value)) secretNames(inner, found);
}
