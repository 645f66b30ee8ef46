// Owns: two DestinationRules of one namespace for one host that decide the same thing differently: its trafficPolicy, or a subset.

import { type DestinationRuleObject, ruleHost } from "../../api/kinds/destinationrule-spec.ts";
import { exportedTo } from "../../api/kinds/virtualservice-spec.ts";
import type { Violation } from "../../api/meta.ts";
import { destinationRuleSource } from "../sources.ts";
import { keyOf, namespaceOf, type World } from "../world.ts";
import { canonical } from "./canonical.ts";

export function destinationRuleConflicts(world: World, candidate: DestinationRuleObject): readonly Violation[] {
  const out: Violation[] = [];
  const { trafficPolicy, subsets = [] } = candidate.spec ?? {};
  for (const other of world.objects(destinationRuleSource).by("host", ruleHost(candidate))) {
    if (keyOf(other) === keyOf(candidate) || namespaceOf(other) !== namespaceOf(candidate)) continue;
    // One for some workloads goes before one for all, and two for different callers never meet.
    if (canonical(other.spec?.workloadSelector ?? {}) !== canonical(candidate.spec?.workloadSelector ?? {})) continue;
    if (!meet(exportedTo(other.spec?.exportTo, namespaceOf(other)), exportedTo(candidate.spec?.exportTo, namespaceOf(candidate)))) continue;
    const theirs = other.spec?.trafficPolicy;
    if (trafficPolicy !== undefined && theirs !== undefined && canonical(trafficPolicy) !== canonical(theirs))
      out.push({
        path: "spec.trafficPolicy",
        message: `decides otherwise than spec.trafficPolicy of DestinationRule ${keyOf(other)}, which is about the same host; change that one, or leave this out`,
      });
    for (const [n, subset] of subsets.entries()) {
      const at = (other.spec?.subsets ?? []).findIndex((each) => each.name === subset.name);
      const same = other.spec?.subsets?.[at];
      if (same !== undefined && canonical(same) !== canonical(subset))
        out.push({
          path: `spec.subsets[${n}]`,
          message: `${JSON.stringify(subset.name)} is another subset in DestinationRule ${keyOf(other)}, spec.subsets[${at}], for the same host; choose another name`,
        });
    }
  }
  return out;
}

function meet(a: readonly string[], b: readonly string[]): boolean {
  return a.includes("*") || b.includes("*") || a.some((each) => b.includes(each));
}
