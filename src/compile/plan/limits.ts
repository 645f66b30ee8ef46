// Owns: the intermediate form of what a port takes: rate limits, and how many requests its application is given at once. Never holds protobuf.

import type { SharedBy } from "../../api/kinds/policy-targets.ts";
import type { LimitEntry, LimitMatch } from "../../api/kinds/ratelimitpolicy-spec.ts";

export interface LimitsPlan {
  readonly rates?: RatesPlan;
  readonly overload?: OverloadPlan;
}

/** A rate limit service of the user's own. */
export interface LimitServicePlan {
  /** Of a port that speaks gRPC; one that does not exist where the reference leads nowhere. */
  readonly cluster: string;
  readonly host: string;
  readonly domain: string;
}

export interface RatesPlan {
  /** Who is asked about rules of scope Global; absent = the control plane. */
  readonly service?: LimitServicePlan;
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
  /** What the user's own service is asked; the count is its. */
  readonly descriptor?: readonly LimitEntry[];
  /** For routes that say so alone (`RoutePlan.limits`); absent = for all requests. */
  readonly ofRoute?: true;
}

/** What a route says for the entry by which a rule of its policy knows it. */
export function routeEntry({ id, match, descriptor }: RateRulePlan): string {
  if (descriptor === undefined) return id;
  // A match takes the first entry that is the same with every request.
  const fixed = descriptor.flatMap(({ value }) => value ?? []);
  return fixed[match === undefined ? 0 : 1] ?? id;
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
