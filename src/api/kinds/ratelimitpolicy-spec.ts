// Owns: the shape of a RateLimitPolicy as the inside reads it, once validated and with its defaults.

import type { KubeObject } from "../meta.ts";
import type { BackendRef } from "./gateway-refs.ts";
import type { SharedBy, TargetRef } from "./policy-targets.ts";

export interface LimitMatch {
  readonly path?: { readonly type: "Exact" | "PathPrefix" | "RegularExpression"; readonly value: string };
  readonly method?: string;
  readonly headers?: readonly {
    readonly name: string;
    readonly type: "Exact" | "Prefix" | "Present" | "RegularExpression";
    readonly value?: string;
  }[];
}

/** An entry of a descriptor as a rate limit service of the user's own sees it: the same for all requests (`value`), or of the request (`type`). */
export interface LimitEntry {
  readonly key: string;
  readonly value?: string;
  readonly type?: SharedBy["type"];
  readonly header?: string;
}

export interface LimitRule {
  readonly name?: string;
  readonly scope: "Local" | "Global";
  readonly match?: LimitMatch;
  readonly by?: readonly SharedBy[];
  /** Absent, as `per` is, where `descriptor` is there. */
  readonly requests?: number;
  /** Gateway API's duration. */
  readonly per?: string;
  readonly burst?: number;
  /** What is asked of `spec.service`. */
  readonly descriptor?: readonly LimitEntry[];
}

/** A rate limit service that is asked in the place of the control plane's. */
export interface LimitService {
  readonly backendRef: BackendRef & { readonly group: string; readonly kind: string; readonly port: number };
  readonly domain: string;
}

export interface RateLimitPolicyObject extends KubeObject {
  spec: {
    readonly targetRefs: readonly TargetRef[];
    readonly service?: LimitService;
    readonly rules: readonly LimitRule[];
    readonly status: number;
    readonly tellClients: boolean;
    readonly whenServiceFails: "Allow" | "Deny";
    readonly timeout: string;
  };
}

/** Windows that Envoy's RateLimit API has a word for: their length, and the number of RateLimit.Unit. */
export const limitUnits: ReadonlyMap<string, { readonly ms: number; readonly number: number }> = new Map([
  ["1s", { ms: 1_000, number: 1 }],
  ["1m", { ms: 60_000, number: 2 }],
  ["1h", { ms: 3_600_000, number: 3 }],
  ["24h", { ms: 86_400_000, number: 4 }],
]);

/** What a rule is called: its name, or its number. */
export function ruleName(rule: Pick<LimitRule, "name">, at: number): string {
  return rule.name ?? `rule-${at}`;
}
