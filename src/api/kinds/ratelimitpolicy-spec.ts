// Owns: the shape of a RateLimitPolicy as the inside reads it, once validated and with its defaults.

import type { KubeObject } from "../meta.ts";
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

export interface LimitRule {
  readonly name?: string;
  readonly scope: "Local" | "Global";
  readonly match?: LimitMatch;
  readonly by?: readonly SharedBy[];
  readonly requests: number;
  /** Gateway API's duration. */
  readonly per: string;
  readonly burst?: number;
}

export interface RateLimitPolicyObject extends KubeObject {
  spec: {
    readonly targetRefs: readonly TargetRef[];
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
