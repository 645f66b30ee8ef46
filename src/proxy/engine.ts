// Owns: the door of the data path: what it needs from the process and what it offers. Everything behind it lives in the sibling folders.
// Must never: read files, environment or the wall clock itself, or know xDS.

import type { Clock, Timer } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { MetricRegistry } from "../base/metric.ts";
import type { HostPort, LocalWorkload, ProxyConfig, SecretSource } from "./config.ts";
import type { Lookup } from "./names/names.ts";
import type { AdoptSockets, ListeningSocket } from "./net/listen.ts";
import { Live } from "./runtime/apply.ts";
import { Core, type Downstream } from "./runtime/core.ts";
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
  /** Addresses of a name that a request says; default the system's. */
  readonly lookup?: Lookup;
  /** Sockets that were bound elsewhere; without it every listener binds its own. */
  readonly adopt?: AdoptSockets;
  /** Other processes of this proxy (workers, a successor) bind the same UDP addresses; the kernel keeps each client with one of them. Default false. */
  readonly shareDatagrams?: boolean;
  /** Asks for a host that a route table does not have, or says that one which was asked for is used; the answer comes with a later `apply`. Absent: nobody answers. */
  readonly demand?: (table: string, host: string) => void;
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
    /** Too few endpoints are available, and all are used. */
    readonly panic?: true;
    readonly endpoints: readonly {
      readonly address: HostPort;
      readonly healthy: boolean;
      readonly active: number;
      /** Out of the balance as an outlier, for so long still. */
      readonly ejectedForMs?: number;
      /** Its health checks fail. */
      readonly failing?: true;
    }[];
  }[];
}

export interface Engine {
  /** Builds and swaps; listeners that cannot bind etc. are reported and the old ones stay. Never throws. */
  apply(config: ProxyConfig): readonly ApplyFailure[];
  /**
   * Stops accepting and says goodbye on every connection (`Connection: close`, GOAWAY); an idle one is closed after `idleMs`, as a request may be on
   * its way; waits for what is in flight up to `graceMs` and closes the rest.
   */
  drain(graceMs: number, idleMs?: number): Promise<void>;
  /** Goes on accepting, but each connection ends with its next answer; false takes it back for later connections. */
  goodbye(on: boolean): void;
  /** The deny list has changed: connections of those who are on it end now. Connections to instances are made anew, as after every change of secrets. */
  recheck(): void;
  /** What listens now. The descriptors stay the engine's. */
  sockets(): readonly ListeningSocket[];
  /** Closes everything at once. */
  close(): void;
  stats(): EngineStats;
}

/** A connection that was busy a moment ago will be again: so long may its next request take. Longer would hold up the end of an idle sidecar. */
const idleGraceMs = 250;

/** Kinds of connections that can end with their next answer have `goodbye`; for the others (HTTP/2's GOAWAY) `retire` is as gentle. */
function sayGoodbye(connection: Downstream & { goodbye?(): void }): void {
  if (connection.goodbye !== undefined) connection.goodbye();
  else connection.retire();
}

/** Makes an engine with no listeners; `apply` gives it some. */
export function createEngine(deps: EngineDeps): Engine {
  const core = new Core(deps);
  const live = new Live(core, deps);
  return {
    apply(config) {
      return live.apply(config);
    },
    drain(graceMs, idleMs = idleGraceMs) {
      core.draining = true;
      live.stop();
      for (const connection of [...core.open]) sayGoodbye(connection);
      return new Promise((resolve) => {
        const timers: Timer[] = [];
        const finish = () => {
          core.onQuiet = null;
          for (const timer of timers) timer.cancel();
          for (const connection of [...core.open]) connection.destroy();
          resolve();
        };
        if (core.open.size === 0) {
          finish();
          return;
        }
        timers.push(
          deps.clock.after(graceMs, finish),
          deps.clock.after(Math.min(idleMs, graceMs), () => {
            for (const connection of [...core.open]) connection.retire();
          }),
        );
        core.onQuiet = () => {
          if (core.open.size === 0) finish();
        };
      });
    },
    goodbye(on) {
      core.draining = on;
      if (on) for (const connection of [...core.open]) sayGoodbye(connection);
    },
    recheck() {
      const denied = deps.secrets.denied?.() ?? null;
      if (denied === null) return;
      const own = `spiffe://${deps.local.trustDomain}/`;
      for (const connection of [...core.open]) {
        for (const peer of [connection.peer, connection.upstreamPeer]) {
          // The list is the mesh's: what other authorities sign has serial numbers of its own.
          if (peer?.presented === undefined || peer.principal?.startsWith(own) !== true) continue;
          const why = denied.why(peer.presented);
          if (why === null) continue;
          if (core.mayLog()) core.log.warn({ peer: peer.principal, reason: why }, "A connection was closed: its peer has been revoked.");
          connection.destroy();
          break;
        }
      }
    },
    sockets() {
      return live.sockets();
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
