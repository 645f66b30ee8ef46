// Owns: how the compiler looks up RateLimitPolicies and OverloadPolicies. Entries of the table in ./sources.ts.

import type { HedgingPolicyObject } from "../api/kinds/hedgingpolicy-spec.ts";
import type { OverloadPolicyObject } from "../api/kinds/overloadpolicy-spec.ts";
import type { TargetRef } from "../api/kinds/policy-targets.ts";
import type { RateLimitPolicyObject } from "../api/kinds/ratelimitpolicy-spec.ts";
import type { KubeObject } from "../api/meta.ts";
import { namespaceOf, source } from "./objects.ts";

interface Attached extends KubeObject {
  spec: { readonly targetRefs: readonly TargetRef[] };
}

const byTarget = {
  /** `KIND NS/NAME` of what it is for. */
  target: (policy: Attached) => [...new Set(policy.spec.targetRefs.map((ref) => `${ref.kind} ${namespaceOf(policy)}/${ref.name}`))],
};

export const rateLimitSource = source<RateLimitPolicyObject, "target">("weft.dev", "RateLimitPolicy", byTarget);
export const overloadSource = source<OverloadPolicyObject, "target">("weft.dev", "OverloadPolicy", byTarget);

export const hedgingSource = source<HedgingPolicyObject, "target">("weft.dev", "HedgingPolicy", byTarget);

export const limitSources = [rateLimitSource, overloadSource, hedgingSource];
