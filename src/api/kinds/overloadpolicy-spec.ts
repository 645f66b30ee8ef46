// Owns: the shape of an OverloadPolicy as the inside reads it, once validated and with its defaults.

import type { KubeObject } from "../meta.ts";
import type { SharedBy, TargetRef } from "./policy-targets.ts";

export interface OverloadPolicyObject extends KubeObject {
  spec: {
    readonly targetRefs: readonly TargetRef[];
    readonly concurrency?: number;
    readonly maxConcurrency?: number;
    readonly queue?: { readonly max?: number; readonly targetDelay?: string };
    readonly criticalityHeader?: string;
    readonly shareBy?: SharedBy;
    readonly status: number;
  };
}
