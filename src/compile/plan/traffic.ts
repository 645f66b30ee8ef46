// Owns: the intermediate form of how callers treat one port of a service (or a subset of its instances): choice, limits, judgement, TLS. What nobody asks
// for is left out, so that equal meaning is equal data. Never holds protobuf, and never the name of a kind's field.

import type { HealthCheckWords, OutlierWords } from "../../api/kinds/destinationrule-spec.ts";
import type { HashPlan } from "./routes.ts";

export interface TrafficPlan {
  readonly balancer?: BalancerPlan;
  /** The key of requests, where the balancer hashes. */
  readonly hash?: HashPlan;
  readonly warmup?: { readonly ms: number; readonly minimumPercent: number; readonly aggression: number };
  readonly locality?: LocalityPlan;
  /** What is spoken to instances, whatever the port says: HTTP/2, or HTTP/1.1 also between sidecars. Of HTTP/1.1 ports alone. */
  readonly upstream?: "http1" | "http2";
  readonly limits?: {
    readonly connections?: number;
    readonly pending?: number;
    readonly requests?: number;
    readonly retries?: number;
    readonly instanceRequests?: number;
    readonly instanceConnections?: number;
    readonly instanceRetries?: number;
  };
  readonly connectTimeoutMs?: number;
  readonly connections?: ConnectionsPlan;
  readonly outliers?: OutlierPlan;
  readonly latencyFactor?: number;
  /** Below this share of available instances health is not believed; absent where nothing judges. */
  readonly panicPercent?: number;
  readonly heedRateLimits?: true;
  readonly healthCheck?: HealthCheckWords;
  readonly tls?: OriginationPlan;
  /** How instances without the mesh's mutual TLS are reached, in the place of `tls`. */
  readonly backendTls?: BackendTlsPlan;
}

/** How long connections to instances are kept. `idleMs` and `maxRequests` are of HTTP alone. */
export interface ConnectionsPlan {
  /** One of HTTP takes no more requests then, and ends with the last answer; one of opaque bytes ends. */
  readonly maxAgeMs?: number;
  /** Without a request; 0 = for ever. */
  readonly idleMs?: number;
  readonly maxRequests?: number;
  /** The kernel asks whether the other end is there; what is left out is as the kernel has it. */
  readonly keepalive?: { readonly probes?: number; readonly timeSeconds?: number; readonly intervalSeconds?: number };
}

export type BalancerPlan =
  | { readonly kind: "least_request" | "round_robin" | "random" | "peak_ewma" | "least_connections" | "load_reports" }
  | { readonly kind: "ring_hash"; readonly minimum: number }
  | { readonly kind: "maglev"; readonly size: number };

export type LocalityPlan =
  /** Nearer first; of other regions the one in `failover` (by the caller's) before the rest. */
  | { readonly kind: "near"; readonly failover: Readonly<Record<string, string>> }
  | { readonly kind: "shares"; readonly from: Readonly<Record<string, Readonly<Record<string, number>>>> }
  /** By how many of these labels, from the first on, an instance has the wanted value; undefined = it must lack the label. */
  | { readonly kind: "labels"; readonly wanted: readonly (readonly [name: string, value: string | undefined])[] };

/** 0 = off. */
export interface OutlierPlan {
  readonly consecutive5xx: number;
  readonly consecutiveGateway: number;
  readonly splitLocal: boolean;
  readonly consecutiveLocal: number;
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionPercent: number;
  /** Absent = not judged so. */
  readonly successRate?: OutlierWords;
  readonly failurePercentage?: OutlierWords;
}

export type BackendTlsPlan =
  /** Nobody's certificate could be believed: they are not reached at all. */
  | { readonly kind: "closed" }
  | {
      readonly kind: "tls";
      readonly sni: string;
      /** PEM; empty = the authorities of the caller's machine. */
      readonly authorities: string;
      /** A certificate must carry one of these. */
      readonly names: readonly { readonly kind: "dns" | "uri"; readonly value: string }[];
    };

export type OriginationPlan =
  | { readonly kind: "plain" }
  /** What the rule refers to is not there, or not for this caller: nobody is reached. */
  | { readonly kind: "closed" }
  | {
      readonly kind: "tls";
      readonly sni: string;
      /** Files beside the caller's sidecar; empty = the system's authorities, null = nobody is checked. */
      readonly authorities: string | null;
      readonly names: readonly string[];
      readonly certificate?: { readonly chain: string; readonly key: string };
      /** `authorities` and `certificate` are PEM, and no files. */
      readonly inline?: true;
    };
