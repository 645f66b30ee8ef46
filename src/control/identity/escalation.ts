// Owns: that nobody gives away what they do not have: roles, bindings and users are judged by what their writer may do.
// https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping

import { type BindingObject, type PolicyRule, type RoleObject, rbacGroup } from "../../api/kinds/rbac.ts";
import type { UserObject } from "../../api/kinds/user.ts";
import type { KubeObject } from "../../api/meta.ts";
import type { Access, Caller } from "../apiserver/deps.ts";
import type { Store } from "../store/store.ts";
import { groupsOf } from "./access-index.ts";
import { builtinRoles } from "./builtin-roles.ts";
import { ruleWords, uncovered } from "./rbac.ts";

export interface Holdings {
  /** Everything the caller may do in a namespace; empty = everywhere. */
  rulesOf(caller: Caller, namespace: string): readonly PolicyRule[];
  allows(caller: Caller, access: Access): boolean;
}

/** Why the caller may not write this object; undefined = they may. `store` = where the role of a binding is looked for (a transaction's own view). */
export async function escalation(
  holdings: Holdings,
  store: Pick<Store, "get">,
  caller: Caller,
  candidate: KubeObject,
  existing: KubeObject | undefined,
): Promise<string | undefined> {
  if (candidate.kind === "RoleBinding" || candidate.kind === "ClusterRoleBinding") {
    const binding = candidate as BindingObject;
    const before = existing as BindingObject | undefined;
    if (before !== undefined && !Bun.deepEquals(before.roleRef, binding.roleRef))
      return "roleRef cannot be changed; delete the binding and make another";
    if (caller.kind === "admin" || (before !== undefined && Bun.deepEquals(before.subjects, binding.subjects))) return undefined;
    return mayBind(holdings, store, caller, binding);
  }
  if (caller.kind === "admin") return undefined;
  if (candidate.kind === "Role" || candidate.kind === "ClusterRole") {
    if (existing !== undefined && Bun.deepEquals((existing as RoleObject).rules, (candidate as RoleObject).rules)) return undefined;
    const { name, namespace = "" } = candidate.metadata;
    const plural = candidate.kind === "Role" ? "roles" : "clusterroles";
    if (
      holdings.allows(caller, { type: "resource", verb: "escalate", resource: `${plural}.${rbacGroup}`, subresource: "", namespace, name })
    )
      return undefined;
    return notHeld(holdings, caller, namespace, (candidate as RoleObject).rules ?? []);
  }
  if (candidate.kind === "User" && candidate.apiVersion.startsWith("weft.dev/")) {
    const had = new Set((existing as UserObject | undefined)?.spec?.groups ?? []);
    for (const group of (candidate as UserObject).spec?.groups ?? []) {
      if (had.has(group)) continue;
      const access: Access = { type: "resource", verb: "impersonate", resource: "groups", subresource: "", namespace: "", name: group };
      if (!holdings.allows(caller, access))
        return `user ${JSON.stringify(caller.user)} may not put somebody into group ${JSON.stringify(group)}; that takes the verb impersonate on groups`;
    }
  }
  return undefined;
}

async function mayBind(holdings: Holdings, store: Pick<Store, "get">, caller: Caller, binding: BindingObject): Promise<string | undefined> {
  const { roleRef, metadata } = binding;
  const namespace = metadata.namespace ?? "";
  const plural = roleRef.kind === "Role" ? "roles" : "clusterroles";
  const resource = `${plural}.${rbacGroup}`;
  if (holdings.allows(caller, { type: "resource", verb: "bind", resource, subresource: "", namespace, name: roleRef.name }))
    return undefined;
  const builtin = roleRef.kind === "ClusterRole" ? builtinRoles.find((each) => each.metadata.name === roleRef.name) : undefined;
  const role =
    builtin ??
    ((await store.get({ resource, namespace: roleRef.kind === "Role" ? namespace : "", name: roleRef.name })) as RoleObject | undefined);
  if (role === undefined) return `${plural}.${rbacGroup} ${JSON.stringify(roleRef.name)} not found: what it would grant cannot be judged`;
  return notHeld(holdings, caller, namespace, role.rules ?? []);
}

function notHeld(holdings: Holdings, caller: Caller, namespace: string, rules: readonly PolicyRule[]): string | undefined {
  const missing = uncovered(holdings.rulesOf(caller, namespace), rules);
  if (missing.length === 0) return undefined;
  return `user ${JSON.stringify(caller.user)} (groups=${JSON.stringify(groupsOf(caller))}) is attempting to grant RBAC permissions not currently held:\n${missing.map(ruleWords).join("\n")}`;
}
