// Owns: a DENY policy that takes away all that a rule of an ALLOW policy gives, for the very same workloads. A rule that denies everything
// contradicts nothing: it is how one shuts a service. Policies of other namespaces or with other selectors are not compared, so that
// nobody can keep someone else's DENY out by writing an ALLOW.

import type { AuthorizationPolicyObject, PolicyOperation, PolicyRule, PolicySource } from "../../api/kinds/authorizationpolicy.ts";
import type { Violation } from "../../api/meta.ts";
import { keyOf, namespaceOf, type World } from "../world.ts";
import { canonical } from "./canonical.ts";

export function policyConflicts(world: World, candidate: AuthorizationPolicyObject): readonly Violation[] {
  const out: Violation[] = [];
  const denies = actionOf(candidate) === "DENY";
  for (const other of world.policies.get(namespaceOf(candidate)) ?? []) {
    if (keyOf(other) === keyOf(candidate) || actionOf(other) === actionOf(candidate) || selectorOf(other) !== selectorOf(candidate))
      continue;
    const [deny, allow] = denies ? [candidate, other] : [other, candidate];
    for (const [allowAt, granted] of (allow.spec?.rules ?? []).entries()) {
      const denyAt = (deny.spec?.rules ?? []).findIndex((rule) => covers(rule, granted));
      if (denyAt < 0) continue;
      const [mine, theirs] = denies ? [denyAt, allowAt] : [allowAt, denyAt];
      out.push({
        path: `spec.rules[${mine}]`,
        message: denies
          ? `denies all that AuthorizationPolicy ${keyOf(other)} allows with spec.rules[${theirs}], for the same workloads (${workloads(other)}); remove that rule there, or narrow this one`
          : `allows what AuthorizationPolicy ${keyOf(other)} denies with spec.rules[${theirs}], for the same workloads (${workloads(other)}), so it could never take effect; remove this rule, or narrow that one`,
      });
    }
  }
  return out;
}

function actionOf(policy: AuthorizationPolicyObject): "ALLOW" | "DENY" {
  return policy.spec?.action ?? "ALLOW";
}

function selectorOf(policy: AuthorizationPolicyObject): string {
  return canonical(policy.spec?.selector?.matchLabels ?? {});
}

function workloads(policy: AuthorizationPolicyObject): string {
  const labels = Object.entries(policy.spec?.selector?.matchLabels ?? {});
  return labels.length === 0
    ? `all of namespace ${namespaceOf(policy)}`
    : labels
        .map(([key, value]) => `${key}=${value}`)
        .sort()
        .join(",");
}

/** Whatever fits `allow` fits `deny` too, as far as comparing texts can tell. */
function covers(deny: PolicyRule, allow: PolicyRule): boolean {
  if (deny.from === undefined && deny.to === undefined) return false;
  // A condition narrows the denial, unless the permission has the very same.
  const asked = (allow.when ?? []).map(canonical);
  if (!(deny.when ?? []).every((each) => asked.includes(canonical(each)))) return false;
  return (
    everyCovered(
      deny.from?.map((each) => each.source),
      allow.from?.map((each) => each.source),
    ) &&
    everyCovered(
      deny.to?.map((each) => each.operation),
      allow.to?.map((each) => each.operation),
    )
  );
}

function everyCovered<T extends PolicySource | PolicyOperation>(deny: readonly T[] | undefined, allow: readonly T[] | undefined): boolean {
  if (deny === undefined) return true;
  return allow?.every((granted) => deny.some((denied) => coversConditions(denied, granted))) ?? false;
}

/** Each condition of `deny` is implied by one of `allow`. */
function coversConditions(deny: PolicySource | PolicyOperation, allow: PolicySource | PolicyOperation): boolean {
  return Object.entries(deny).every(([field, values]) => {
    const given = (allow as Readonly<Record<string, readonly string[] | undefined>>)[field];
    if (given === undefined) return false;
    const wide = values as readonly string[];
    if (field.startsWith("not")) return wide.every((each) => given.some((narrow) => fits(each, narrow)));
    return given.every((narrow) => wide.some((each) => fits(narrow, each)));
  });
}

/** Every text that fits pattern `narrow` fits pattern `wide`. */
function fits(narrow: string, wide: string): boolean {
  if (wide === "*" || wide === narrow) return true;
  if (narrow === "*") return false;
  if (wide.endsWith("*")) return !narrow.startsWith("*") && narrow.startsWith(wide.slice(0, -1));
  if (wide.startsWith("*")) return !narrow.endsWith("*") && narrow.endsWith(wide.slice(1));
  return false;
}
