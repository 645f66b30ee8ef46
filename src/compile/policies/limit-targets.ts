// Owns: which policies that name targets (RateLimitPolicy, OverloadPolicy, HedgingPolicy) are for a target, and which of several decides there. Never reads
// what a policy says.

import type { TargetRef } from "../../api/kinds/policy-targets.ts";
import type { KubeObject } from "../../api/meta.ts";
import type { Source } from "../objects.ts";
import { byAge, type World } from "../world.ts";

export interface Attached extends KubeObject {
  spec: { readonly targetRefs: readonly TargetRef[] };
}

export type TargetKind = "Service" | "Gateway" | "HTTPRoute" | "GRPCRoute";

/** Policies of a kind that name a target (and a section of it: a port of a Service, a rule of a route; or empty = the whole), in the order in which they decide. */
export function attachedTo<T extends Attached>(
  world: World,
  source: Source<T, "target">,
  kind: TargetKind,
  key: string,
  section: string,
): readonly T[] {
  const [, name = ""] = key.split("/");
  return [...world.objects(source).by("target", `${kind} ${key}`)]
    .sort(byAge)
    .filter(({ spec }) => spec.targetRefs.some((ref) => ref.kind === kind && ref.name === name && (ref.sectionName ?? "") === section));
}

/** The policy that decides at a target: one for the section goes before one for the whole. */
export function deciding<T extends Attached>(world: World, source: Source<T, "target">, kind: TargetKind, key: string, section: string) {
  const ofSection = section === "" ? undefined : attachedTo(world, source, kind, key, section)[0];
  return ofSection ?? attachedTo(world, source, kind, key, "")[0];
}
