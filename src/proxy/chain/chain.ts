// Owns: a filter chain compiled: everything one connection of a listener needs, in one frozen record; and the slot through which open
// connections see its successor.

import type { CompiledRbac } from "../authz/rules.ts";
import type { ClusterSlot } from "../balance/cluster.ts";
import type { FilterChainConfig, Http2Config, HttpManagerConfig } from "../config.ts";
import type { HttpLimits } from "../http1/limits.ts";
import type { OnDemand } from "../route/on-demand.ts";
import type { CompiledRoute, TableSlot } from "../route/table.ts";
import type { CompiledAccessLog } from "../telemetry/access.ts";
import type { TlsMaterial } from "../tls/material.ts";
import type { CompiledJwt } from "./jwt.ts";
import type { Stage } from "./stage.ts";

export interface HttpChain {
  readonly kind: "http";
  readonly table: TableSlot;
  readonly rbac: readonly CompiledRbac[];
  /** Tokens of end users, checked before `rbac`; null = nobody looks at any. */
  readonly jwt: CompiledJwt | null;
  /** Some policy reads the path: it is normalised, judged and forwarded in that form. */
  readonly readsPath: boolean;
  readonly logs: readonly CompiledAccessLog[];
  readonly generateRequestId: boolean;
  readonly connect: boolean;
  readonly upgrades: readonly string[];
  readonly limits: HttpLimits;
  /** `via: 1.1 NAME CRLF`; null = Via is left as it is. */
  readonly viaLine: Uint8Array | null;
  readonly codec: HttpManagerConfig["codec"];
  readonly http2: Http2Config;
  readonly grpcWeb: boolean;
  /** The client's address and scheme are told on. */
  readonly forwards: boolean;
  /** Proxies before this one that are believed, and whether an edge adds its own entry behind theirs. */
  readonly trustedHops: number;
  readonly appends: boolean;
  /** Some policy asks for the client's address. */
  readonly readsClient: boolean;
  /** Who waits for hosts that the table does not have yet; null = nobody does. */
  readonly onDemand: OnDemand | null;
  /** The next hop hears how long is left (`x-envoy-expected-rq-timeout-ms`), where there is a deadline. */
  readonly tellsDeadline: boolean;
  /** null: none of any kind. */
  readonly stages: readonly Stage[] | null;
  /** Built for routes that replace some of them; `buildRouteStages` makes an entry. */
  readonly routeStages: WeakMap<CompiledRoute, readonly Stage[] | null>;
  buildRouteStages(route: CompiledRoute): readonly Stage[] | null;
}

export interface TcpChain {
  readonly kind: "tcp";
  readonly targets: readonly { readonly slot: ClusterSlot; readonly upTo: number }[];
  readonly totalWeight: number;
  readonly logs: readonly CompiledAccessLog[];
  readonly idleTimeoutMs: number;
}

export interface CompiledChain {
  readonly config: FilterChainConfig;
  readonly name: string;
  readonly inbound: boolean;
  /** Of the listener, as bound. */
  readonly port: number;
  readonly tls: TlsMaterial | null;
  readonly networkRbac: readonly CompiledRbac[];
  readonly terminal: HttpChain | TcpChain;
}

/** A connection that follows its chain. */
export interface ChainMember {
  /** Policies changed: judge again, and close if no longer allowed. */
  rejudge(): void;
  /** The chain is gone, or its transport security changed: finish and close. */
  retire(): void;
  /** Close now. */
  destroy(): void;
}

/** Connections hold the slot; `current` changes when the listener changes without touching the chain's transport security. */
export interface ChainSlot {
  current: CompiledChain;
  readonly members: Set<ChainMember>;
}
