// Owns: the shape of a HedgingPolicy as the inside reads it, once validated.

import type { KubeObject } from "../meta.ts";
import type { TargetRef } from "./policy-targets.ts";

export interface HedgingPolicyObject extends KubeObject {
  spec: {
    readonly targetRefs: readonly TargetRef[];
    /** Gateway API's duration. */
    readonly after: string;
  };
}
