// Owns: the door of the data path: what it needs from the process and what it offers. Everything behind it lives in the sibling folders.
// Must never: read files, environment or the wall clock itself, or know xDS.

import type { Clock, Timer } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { MetricRegistry } from "../base/metric.ts";
import type { HostPort, LocalWorkload, ProxyConfig, SecretSource } from "./config.ts";
import { Live } from "./runtime/apply.ts";
import { Core } from "./runtime/core.ts";
import type { AccessLogFactory } from "./telemetry/record.ts";

/** What the engine is given. `random` returns [0, 1). */
export interface EngineDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: MetricRegistry;
  readonly random: () => number;
  readonly secrets: SecretSource;
  readonly local: LocalWorkload;
  readonly accessLog: AccessLogFactory;
}

/** One resource that could not be applied, and why. The others were. */
export interface ApplyFailure {
  readonly resource: { readonly type: "listener" | "route" | "cluster"; readonly name: string };
  readonly reason: string;
}

export interface EngineStats {
  /** Open downstream connections. */
  readonly connections: number;
  readonly activeRequests: number;
  /** `address` is the bound one (port 0 in the configuration is resolved). */
  readonly listeners: readonly { readonly name: string; readonly address: HostPort }[];
  readonly clusters: readonly {
    readonly name: string;
    readonly endpoints: readonly { readonly address: HostPort; readonly healthy: boolean; readonly active: number }[];
  }[];
}

export interface Engine {
  /** Builds and swaps; listeners that cannot bind etc. are reported and the old ones stay. Never throws. */
  apply(config: ProxyConfig): readonly ApplyFailure[];
  /** Stops accepting, answers with `Connection: close`, waits for what is in flight up to `graceMs`, then closes the rest. */
  drain(graceMs: number): Promise<void>;
  /** Closes everything at once. */
  close(): void;
  stats(): EngineStats;
}

/** Makes an engine with no listeners; `apply` gives it some. */
export function createEngine(deps: EngineDeps): Engine {
  const core = new Core(deps);
  const live = new Live(core, deps);
  return {
    apply(config) {
      return live.apply(config);
    },
    drain(graceMs) {
      core.draining = true;
      live.stop();
      for (const connection of [...core.open]) connection.retire();
      return new Promise((resolve) => {
        let timer: Timer | null = null;
        const finish = () => {
          core.onQuiet = null;
          timer?.cancel();
          for (const connection of [...core.open]) connection.destroy();
          resolve();
        };
        if (core.open.size === 0) {
          finish();
          return;
        }
        timer = deps.clock.after(graceMs, finish);
        core.onQuiet = () => {
          if (core.open.size === 0) finish();
        };
      });
    },
    close() {
      core.draining = true;
      live.forget();
      for (const connection of [...core.open]) connection.destroy();
    },
    stats() {
      return live.stats();
    },
  };
}
