// Owns: roles, bindings and users in memory, in step with the store, and the answer to "may this caller do that". Never writes.
// A write is in here before the next request is judged: the store delivers it to watchers first (`ApiServerDeps.admit` leans on the same).

import { type BindingObject, type PolicyRule, type RoleObject, rbacGroup, type Subject } from "../../api/kinds/rbac.ts";
import type { UserObject } from "../../api/kinds/user.ts";
import type { KubeObject } from "../../api/meta.ts";
import type { Access, Caller } from "../apiserver/deps.ts";
import type { Store, StoreEvent, WatchHandle } from "../store/store.ts";
import { authenticatedGroup, builtinBindings, builtinRoles, mastersGroup, usersGroup } from "./builtin-roles.ts";
import { ruleAllows } from "./rbac.ts";

export const usersResource = "users.weft.dev";
const rolesResource = `roles.${rbacGroup}`;
const clusterRolesResource = `clusterroles.${rbacGroup}`;
const roleBindingsResource = `rolebindings.${rbacGroup}`;
const clusterRoleBindingsResource = `clusterrolebindings.${rbacGroup}`;

/** What the index reads; nothing of it is the compiler's business. */
export const accessResources: ReadonlySet<string> = new Set([
  usersResource,
  rolesResource,
  clusterRolesResource,
  roleBindingsResource,
  clusterRoleBindingsResource,
]);

/** The groups of a caller, as `kubectl auth whoami` shows them. */
export function groupsOf(caller: Caller): readonly string[] {
  switch (caller.kind) {
    case "admin":
      return [mastersGroup, authenticatedGroup];
    case "user":
      return [...caller.groups.filter((group) => group !== usersGroup && group !== authenticatedGroup), usersGroup, authenticatedGroup];
    case "workload":
      return ["system:serviceaccounts", `system:serviceaccounts:${caller.namespace}`, authenticatedGroup];
  }
}

function subjectKey(subject: Subject): string {
  if (subject.kind === "Group") return `g:${subject.name}`;
  return subject.kind === "User" ? `u:${subject.name}` : `u:system:serviceaccount:${subject.namespace ?? ""}:${subject.name}`;
}

export class AccessIndex {
  readonly #objects = new Map<string, KubeObject>();
  readonly #changed = new Set<() => void>();
  #watch: WatchHandle | undefined;
  /** By subject; undefined = to be made from the objects. */
  #bySubject: Map<string, BindingObject[]> | undefined;

  private constructor() {}

  static async open(store: Store): Promise<AccessIndex> {
    const index = new AccessIndex();
    // Events since then come again, which changes nothing.
    const from = await store.revision();
    for (const resource of accessResources) {
      for (const object of (await store.list(resource)).items)
        index.#objects.set(keyOf(resource, object.metadata.namespace ?? "", object.metadata.name), object);
    }
    index.#watch = await store.watch(from, undefined, (event) => index.#onEvent(event));
    return index;
  }

  stop(): void {
    this.#watch?.stop();
  }

  /** Called when somebody may do less, or more, than before. */
  onChange(run: () => void): void {
    this.#changed.add(run);
  }

  user(name: string): UserObject | undefined {
    return this.#objects.get(keyOf(usersResource, "", name)) as UserObject | undefined;
  }

  users(): readonly UserObject[] {
    return [...this.#objects].flatMap(([key, object]) => (key.startsWith(`${usersResource}/`) ? [object as UserObject] : []));
  }

  /** Whether some role that is bound to the caller allows it. The administrator is not asked about here. */
  allows(caller: Caller, access: Access): boolean {
    const namespace = access.type === "resource" ? access.namespace : "";
    for (const rule of this.#rules(caller, namespace)) if (ruleAllows(rule, access)) return true;
    return false;
  }

  /** Everything that is allowed in a namespace; empty = what is allowed everywhere. */
  rulesOf(caller: Caller, namespace: string): readonly PolicyRule[] {
    return [...this.#rules(caller, namespace)];
  }

  *#rules(caller: Caller, namespace: string): Generator<PolicyRule> {
    this.#bySubject ??= this.#index();
    for (const subject of [`u:${caller.user}`, ...groupsOf(caller).map((group) => `g:${group}`)]) {
      for (const binding of this.#bySubject.get(subject) ?? []) {
        const bound = binding.metadata.namespace ?? "";
        if (bound !== "" && bound !== namespace) continue;
        yield* this.#role(binding)?.rules ?? [];
      }
    }
  }

  #role({ roleRef, metadata }: BindingObject): RoleObject | undefined {
    if (roleRef.kind === "Role")
      return this.#objects.get(keyOf(rolesResource, metadata.namespace ?? "", roleRef.name)) as RoleObject | undefined;
    return (
      builtinRoles.find((each) => each.metadata.name === roleRef.name) ??
      (this.#objects.get(keyOf(clusterRolesResource, "", roleRef.name)) as RoleObject | undefined)
    );
  }

  #index(): Map<string, BindingObject[]> {
    const out = new Map<string, BindingObject[]>();
    const add = (binding: BindingObject) => {
      for (const subject of binding.subjects ?? []) {
        const key = subjectKey(subject);
        const list = out.get(key);
        if (list === undefined) out.set(key, [binding]);
        else list.push(binding);
      }
    };
    for (const binding of builtinBindings) add(binding);
    for (const [key, object] of this.#objects) {
      if (key.startsWith(`${roleBindingsResource}/`) || key.startsWith(`${clusterRoleBindingsResource}/`)) add(object as BindingObject);
    }
    return out;
  }

  #onEvent(event: StoreEvent): void {
    if (!accessResources.has(event.key.resource)) return;
    const key = keyOf(event.key.resource, event.key.namespace, event.key.name);
    if (event.type === "deleted") this.#objects.delete(key);
    else this.#objects.set(key, event.object);
    this.#bySubject = undefined;
    for (const run of [...this.#changed]) run();
  }
}

function keyOf(resource: string, namespace: string, name: string): string {
  return `${resource}/${namespace}/${name}`;
}
