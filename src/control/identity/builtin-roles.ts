// Owns: the cluster roles and bindings that every mesh has. They are part of the program: shown by the API, never stored, never written.

import { type BindingObject, type PolicyRule, type RoleObject, rbacGroup } from "../../api/kinds/rbac.ts";
import type { KubeObject } from "../../api/meta.ts";

/** Group of everybody who calls by a User's token (or is impersonated as one); not of workloads. */
export const usersGroup = "weft:users";
export const authenticatedGroup = "system:authenticated";
export const mastersGroup = "system:masters";

const read = ["get", "list", "watch"];
const write = ["create", "update", "patch", "delete", "deletecollection"];
/** Programs that choose a leader among themselves write their lease. */
const leases = { apiGroups: ["coordination.k8s.io"], resources: ["leases"] };
const meshGroups = ["", "discovery.k8s.io", "gateway.networking.k8s.io", "networking.istio.io", "security.istio.io", "telemetry.istio.io"];

/** Policies of ours about traffic. */
const limits = ["ratelimitpolicies", "overloadpolicies", "hedgingpolicies"];

const viewRules: PolicyRule[] = [
  { apiGroups: meshGroups.slice(1), resources: ["*"], verbs: read },
  // Core group without secrets: they hold private keys.
  { apiGroups: [""], resources: ["namespaces", "services", "services/status", "events", "configmaps"], verbs: read },
  { apiGroups: ["weft.dev"], resources: ["meshes", "proxies", "edges", "trafficshifts", ...limits], verbs: read },
  { ...leases, verbs: read },
];
// Core group without serviceaccounts/token: a token is an identity.
const editRules: PolicyRule[] = [
  ...viewRules,
  { apiGroups: [""], resources: ["services", "services/status", "events", "configmaps"], verbs: write },
  { apiGroups: [""], resources: ["secrets"], verbs: [...read, ...write] },
  { apiGroups: meshGroups.slice(1), resources: ["*"], verbs: write },
  { apiGroups: ["weft.dev"], resources: ["trafficshifts", ...limits], verbs: write },
  { ...leases, verbs: write },
];
const adminRules: PolicyRule[] = [
  ...editRules,
  { apiGroups: [""], resources: ["serviceaccounts/token"], verbs: ["create"] },
  { apiGroups: ["weft.dev"], resources: ["jointokens", "jointokens/status"], verbs: [...read, ...write] },
  { apiGroups: [rbacGroup], resources: ["roles", "rolebindings"], verbs: [...read, ...write] },
];

const roles: Readonly<Record<string, { readonly says: string; readonly rules: PolicyRule[] }>> = {
  "cluster-admin": {
    says: "everything",
    rules: [
      { apiGroups: ["*"], resources: ["*"], verbs: ["*"] },
      { nonResourceURLs: ["*"], verbs: ["*"] },
    ],
  },
  admin: { says: "bound in a namespace: all of its objects, its join tokens, its roles and bindings", rules: adminRules },
  edit: { says: "read and write services, routes, policies, secrets and leases; no tokens, roles or bindings", rules: editRules },
  view: { says: "read services, routes, policies and live state; no secrets, tokens, roles or bindings", rules: viewRules },
  "weft:observer": {
    says: "metrics, traffic analysis, logs and history of the whole mesh; bind it by a ClusterRoleBinding",
    rules: [
      { apiGroups: ["weft.dev"], resources: ["meshes", "proxies", "edges"], verbs: read },
      { nonResourceURLs: ["/metrics", "/insight/*", "/weft/v1alpha1/history"], verbs: ["get"] },
    ],
  },
  "system:discovery": {
    says: "what the API has, and several writes as one; every user",
    rules: [
      { nonResourceURLs: ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"], verbs: ["get"] },
      { nonResourceURLs: ["/weft/v1alpha1/transactions"], verbs: ["post"] },
      { apiGroups: ["weft.dev"], resources: ["meshes"], verbs: ["get"] },
    ],
  },
  "system:basic-user": {
    says: "ask about oneself; every caller",
    rules: [
      { apiGroups: ["authorization.k8s.io"], resources: ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], verbs: ["create"] },
      { apiGroups: ["authentication.k8s.io"], resources: ["selfsubjectreviews"], verbs: ["create"] },
    ],
  },
};

const bindings: readonly (readonly [name: string, group: string])[] = [
  ["cluster-admin", mastersGroup],
  ["system:discovery", usersGroup],
  ["system:basic-user", authenticatedGroup],
];

function metadata(name: string, says?: string): KubeObject["metadata"] {
  return {
    name,
    uid: `weft-builtin-${name.replace(/[^a-z-]/g, "-")}`,
    // A fixed time keeps answers the same from start to start.
    creationTimestamp: "2026-11-01T00:00:00Z",
    resourceVersion: "1",
    labels: { "kubernetes.io/bootstrapping": "rbac-defaults" },
    ...(says !== undefined && { annotations: { "weft.dev/description": says } }),
  };
}

export const builtinRoles: readonly RoleObject[] = Object.entries(roles)
  .map(
    ([name, { says, rules }]): RoleObject => ({
      apiVersion: `${rbacGroup}/v1`,
      kind: "ClusterRole",
      metadata: metadata(name, says),
      rules,
    }),
  )
  .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));

export const builtinBindings: readonly BindingObject[] = bindings
  .map(
    ([name, group]): BindingObject => ({
      apiVersion: `${rbacGroup}/v1`,
      kind: "ClusterRoleBinding",
      metadata: metadata(name),
      roleRef: { apiGroup: rbacGroup, kind: "ClusterRole", name },
      subjects: [{ kind: "Group", apiGroup: rbacGroup, name: group }],
    }),
  )
  .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));

/** Objects of the program by resource, sorted by name. */
export const builtinObjects: Readonly<Record<string, readonly KubeObject[]>> = {
  [`clusterroles.${rbacGroup}`]: builtinRoles,
  [`clusterrolebindings.${rbacGroup}`]: builtinBindings,
};

/** A name that only the program may use: one of its own, or any that begins with `system:`. */
export function isReserved(resource: string, name: string): boolean {
  const list = builtinObjects[resource];
  return list !== undefined && (name.startsWith("system:") || list.some((each) => each.metadata.name === name));
}
