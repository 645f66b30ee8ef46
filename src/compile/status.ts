// Owns: what the control plane says of each object after compiling: conditions as the object's community knows them.
// Returns whole statuses; never writes. Times of transition are the publisher's, who knows the old status.

import { type AuthorizationPolicyObject, authorizationPolicyKind, rootNamespace } from "../api/kinds/authorizationpolicy.ts";
import { httpRouteKind } from "../api/kinds/httproute.ts";
import { type Condition, type KubeObject, resourceOf } from "../api/meta.ts";
import type { InboundPlan, WorkloadPlan } from "./plan/plan.ts";
import { appliesTo, needsHttp } from "./policies/authorizationpolicy.ts";
import type { ParentVerdict, RouteFold } from "./policies/httproute.ts";
import { keyOf, namespaceOf, type World } from "./world.ts";

/** The status an object should have; to be written only where it differs, times of transition aside. */
export interface StatusPatch {
  /** Key of the kind, as `resourceOf` says it. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly status: Record<string, unknown>;
}

/** Name under which HTTPRoute statuses speak. */
export const controllerName = "weft.dev/mesh";

export function statuses(world: World, routes: RouteFold, plans: readonly WorkloadPlan[]): StatusPatch[] {
  const out: StatusPatch[] = [];
  for (const route of world.routes)
    out.push(
      patch(resourceOf(httpRouteKind), route, {
        parents: (routes.verdicts.get(route) ?? []).map((verdict) => parentStatus(route, verdict)),
      }),
    );
  const byNamespace = Map.groupBy(plans, (plan) => plan.workload.namespace);
  for (const [namespace, policies] of world.policies) {
    const reached = namespace === rootNamespace ? plans : (byNamespace.get(namespace) ?? []);
    for (const policy of policies) out.push(patch(resourceOf(authorizationPolicyKind), policy, policyStatus(policy, reached)));
  }
  return out.sort((a, b) => (patchKey(a) < patchKey(b) ? -1 : 1));
}

function patchKey(each: StatusPatch): string {
  return `${each.resource}/${each.namespace}/${each.name}`;
}

function patch(resource: string, object: KubeObject, status: Record<string, unknown>): StatusPatch {
  return { resource, namespace: namespaceOf(object), name: object.metadata.name, status };
}

function condition(object: KubeObject, type: string, holds: boolean, reason: string, message: string): Condition {
  return { type, status: holds ? "True" : "False", reason, message, observedGeneration: object.metadata.generation ?? 1 };
}

function parentStatus(route: KubeObject, verdict: ParentVerdict): Record<string, unknown> {
  return {
    parentRef: verdict.parentRef,
    controllerName,
    conditions: [
      condition(route, "Accepted", verdict.accepted, verdict.acceptedReason, verdict.acceptedMessage),
      condition(route, "ResolvedRefs", verdict.resolved, verdict.resolvedReason, verdict.resolvedMessage),
    ],
  };
}

function policyStatus(policy: AuthorizationPolicyObject, plans: readonly WorkloadPlan[]): Record<string, unknown> {
  const selected = plans.filter((plan) => appliesTo(policy, plan.workload));
  const conditions = [
    condition(policy, "Accepted", true, "Accepted", "every rule is understood"),
    selected.length > 0
      ? condition(policy, "Enforced", true, "Enforced", "in the configuration of every workload it selects")
      : condition(
          policy,
          "Enforced",
          false,
          "NoWorkload",
          `selects no workload${namespaceOf(policy) === rootNamespace ? "" : ` of namespace ${namespaceOf(policy)}`}; it takes effect when one appears`,
        ),
  ];
  const opaque = selected.flatMap((plan) => plan.inbound.filter((port) => port.protocol === "tcp").map((port) => ({ plan, port })));
  const blind = (policy.spec?.rules ?? []).flatMap((rule, at) => (needsHttp(rule) ? [`rules[${at}]`] : []));
  const [example] = opaque.filter(({ port }) => touches(policy, port));
  if (example !== undefined && blind.length > 0) {
    const effect =
      policy.spec?.action === "DENY"
        ? "hosts, methods and paths are left out of the test there, so that the rules deny more"
        : "the rules allow nothing there";
    conditions.push(
      condition(
        policy,
        "FullyApplicable",
        false,
        "HttpFieldsOnTcpPort",
        `${blind.join(", ")} test HTTP requests, but port ${example.port.name} of ${keyOf(example.plan.workload.entry)} carries opaque TCP: ${effect}`,
      ),
    );
  }
  return { observedGeneration: policy.metadata.generation ?? 1, conditions };
}

/** Some rule about requests is not ruled out by `ports` on this port. */
function touches(policy: AuthorizationPolicyObject, port: InboundPlan): boolean {
  return (policy.spec?.rules ?? []).some(
    (rule) =>
      needsHttp(rule) &&
      (rule.to ?? []).some(
        ({ operation }) => operation.ports === undefined || operation.ports.some((text) => Number(text) === port.appPort),
      ),
  );
}
