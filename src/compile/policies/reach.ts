// Owns: which workloads a policy with a selector reaches. Reads nothing but the policy and what there is of workloads.

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import type { KubeObject } from "../../api/meta.ts";
import { matchesLabels } from "../../api/selector.ts";
import { workloadSource } from "../sources.ts";
import { namespaceOf, type Selectable, selectableOf, selectedIn, type World } from "../world.ts";

/** A policy whose selector says for which workloads it is. */
export interface SelectingPolicy extends KubeObject {
  spec?: { selector?: { matchLabels?: Record<string, string> } };
}

/** A policy of the root namespace reaches every namespace. */
export function appliesTo(policy: SelectingPolicy, workload: Selectable): boolean {
  const namespace = namespaceOf(policy);
  return (
    (namespace === rootNamespace || namespace === workload.namespace) &&
    matchesLabels(policy.spec?.selector?.matchLabels ?? {}, workload.labels)
  );
}

/** Workloads that a policy selects, by key. */
export function selectedBy(world: World, policy: SelectingPolicy): readonly string[] {
  const labels = policy.spec?.selector?.matchLabels ?? {};
  const namespace = namespaceOf(policy);
  const workloads = world.objects(workloadSource);
  if (namespace !== rootNamespace)
    return Object.keys(labels).length > 0 ? selectedIn(world, namespace, labels) : workloads.keys("namespace", namespace);
  return workloads.keys("all", "").filter((key) => {
    const workload = selectableOf(world, key);
    return workload !== undefined && appliesTo(policy, workload);
  });
}
