// Owns: the intermediate form of what a port takes: rate limits, and how many requests its application is given at once. Never holds protobuf.

import type { SharedBy } from "../../api/kinds/policy-targets.ts";
import type { LimitMatch } from "../../api/kinds/ratelimitpolicy-spec.ts";

export interface LimitsPlan {
  readonly rates?: RatesPlan;
  readonly overload?: OverloadPlan;
}

export interface RatesPlan {
  readonly rules: readonly RateRulePlan[];
  readonly status: number;
  readonly tellClients: boolean;
  readonly denyOnFailure: boolean;
  readonly timeoutMs: number;
}

export interface RateRulePlan {
  /** `NAMESPACE/POLICY/RULE`, by which the rate limit service knows it. */
  readonly id: string;
  readonly scope: "Local" | "Global";
  readonly match?: LimitMatch;
  readonly by: readonly SharedBy[];
  readonly requests: number;
  readonly perMs: number;
  readonly burst: number;
}

export interface OverloadPlan {
  /** 0 = found by measuring. */
  readonly concurrency: number;
  readonly maxConcurrency?: number;
  readonly maxQueue?: number;
  readonly targetDelayMs?: number;
  readonly criticalityHeader?: string;
  readonly shareBy?: SharedBy;
  readonly status: number;
}
