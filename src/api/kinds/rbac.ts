// Owns: Role, ClusterRole, RoleBinding and ClusterRoleBinding of rbac.authorization.k8s.io/v1: who may do what with this API. Their shape and
// what is wrong with one alone; whether a writer may grant that much is `control/identity/escalation.ts`.
// https://kubernetes.io/docs/reference/access-authn-authz/rbac/

import { ageColumn, defineKind, type KindSpec, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { type Schema, show } from "../schema.ts";

export const rbacGroup = "rbac.authorization.k8s.io";

export interface PolicyRule {
  readonly verbs: readonly string[];
  readonly apiGroups?: readonly string[];
  /** `services`, `httproutes/status`, `*`, `*\/status`. */
  readonly resources?: readonly string[];
  /** Empty or absent: every name. */
  readonly resourceNames?: readonly string[];
  /** ClusterRole only: paths such as `/metrics` and `/insight/*`. */
  readonly nonResourceURLs?: readonly string[];
}

/** Role, or ClusterRole when it has no namespace. */
export interface RoleObject extends KubeObject {
  rules?: PolicyRule[];
}

export interface Subject {
  readonly kind: "User" | "Group" | "ServiceAccount";
  readonly apiGroup?: string;
  readonly name: string;
  /** ServiceAccount only. */
  readonly namespace?: string;
}

/** RoleBinding, or ClusterRoleBinding when it has no namespace. */
export interface BindingObject extends KubeObject {
  subjects?: Subject[];
  roleRef: { readonly apiGroup: string; readonly kind: "Role" | "ClusterRole"; readonly name: string };
}

const strings: Schema = { type: "array", items: { type: "string" } };

const rulesSchema: Schema = {
  type: "array",
  maxItems: 1_000,
  items: {
    type: "object",
    required: ["verbs"],
    properties: {
      verbs: { ...strings, minItems: 1 },
      apiGroups: strings,
      resources: strings,
      resourceNames: strings,
      nonResourceURLs: strings,
    },
  },
};

const subjectsSchema: Schema = {
  type: "array",
  maxItems: 10_000,
  items: {
    type: "object",
    required: ["kind", "name"],
    properties: {
      kind: { type: "string", enum: ["User", "Group", "ServiceAccount"] },
      apiGroup: { type: "string" },
      name: { type: "string", minLength: 1, maxLength: 253 },
      namespace: { type: "string" },
    },
  },
};

const common: Pick<KindSpec, "group" | "versions" | "hasStatus" | "strictOnly" | "nameForm"> = {
  group: rbacGroup,
  versions: ["v1"],
  hasStatus: false,
  strictOnly: true,
  nameForm: "path-segment",
};

function ruleProblems(object: KubeObject, cluster: boolean): Violation[] {
  const out: Violation[] = [];
  for (const [at, rule] of ((object as RoleObject).rules ?? []).entries()) {
    const path = `rules[${at}]`;
    const urls = rule.nonResourceURLs ?? [];
    if (urls.length > 0) {
      if (!cluster)
        out.push({ path: `${path}.nonResourceURLs`, message: "namespaced rules cannot apply to non-resource URLs; use a ClusterRole" });
      if ((rule.apiGroups ?? []).length > 0 || (rule.resources ?? []).length > 0 || (rule.resourceNames ?? []).length > 0)
        out.push({
          path: `${path}.nonResourceURLs`,
          message: "rules cannot apply to both regular resources and non-resource URLs; write two",
        });
      for (const url of urls) {
        if (url !== "*" && (!url.startsWith("/") || url.slice(0, -1).includes("*")))
          out.push({
            path: `${path}.nonResourceURLs`,
            message: `${show(url)} is no path: "*", or begins with "/" and has a "*" at its end at most`,
          });
      }
      continue;
    }
    if ((rule.apiGroups ?? []).length === 0)
      out.push({ path: `${path}.apiGroups`, message: 'resource rules must supply at least one api group ("" is the core group)' });
    if ((rule.resources ?? []).length === 0)
      out.push({ path: `${path}.resources`, message: "resource rules must supply at least one resource" });
  }
  return out;
}

function bindingProblems(object: KubeObject, cluster: boolean): Violation[] {
  const out: Violation[] = [];
  const { roleRef, subjects } = object as BindingObject;
  if (roleRef.apiGroup !== rbacGroup)
    out.push({ path: "roleRef.apiGroup", message: `must be ${show(rbacGroup)}, got ${show(roleRef.apiGroup)}` });
  if (cluster && roleRef.kind !== "ClusterRole")
    out.push({
      path: "roleRef.kind",
      message: "a ClusterRoleBinding refers to a ClusterRole; for a Role use a RoleBinding in its namespace",
    });
  for (const [at, subject] of (subjects ?? []).entries()) {
    const path = `subjects[${at}]`;
    const group = subject.kind === "ServiceAccount" ? "" : rbacGroup;
    if ((subject.apiGroup ?? group) !== group)
      out.push({ path: `${path}.apiGroup`, message: `must be ${show(group)} for a ${subject.kind}, got ${show(subject.apiGroup)}` });
    if (subject.kind === "ServiceAccount" && (subject.namespace ?? "") === "")
      out.push({ path: `${path}.namespace`, message: "is required for a ServiceAccount" });
    if (subject.kind !== "ServiceAccount" && (subject.namespace ?? "") !== "")
      out.push({ path: `${path}.namespace`, message: `a ${subject.kind} belongs to no namespace; remove it` });
  }
  return out;
}

/** Kubernetes's roles have a time where others have an age. */
const createdColumn = textColumn(
  "Created At",
  "When the object was created.",
  (object) => object.metadata.creationTimestamp ?? "<unknown>",
);

const roleFields: KindSpec["fields"] = { rules: rulesSchema };
const bindingFields = (kinds: readonly string[]): KindSpec["fields"] => ({
  subjects: subjectsSchema,
  roleRef: {
    type: "object",
    mapType: "atomic",
    required: ["kind", "name"],
    properties: {
      apiGroup: { type: "string", default: rbacGroup },
      kind: { type: "string", enum: kinds },
      name: { type: "string", minLength: 1, maxLength: 253 },
    },
  },
});

/** As Kubernetes fills them in. */
function subjectDefaults(object: KubeObject): void {
  const { subjects } = object as { subjects?: unknown };
  if (!Array.isArray(subjects)) return;
  object.subjects = subjects.map((each: unknown) => {
    if (typeof each !== "object" || each === null || Array.isArray(each)) return each;
    const subject = { ...each } as Record<string, unknown>;
    if (subject.kind !== "ServiceAccount" && (subject.apiGroup === undefined || subject.apiGroup === "")) subject.apiGroup = rbacGroup;
    return subject;
  });
}

const roleNotes = [
  "Verbs: get, list, watch, create, update, patch, delete, deletecollection; `bind` and `escalate` on roles and cluster roles; `impersonate` on users, groups and serviceaccounts of the core group; `*`.",
  "Nobody can write a role that allows more than the writer may do, unless by the verb `escalate`. The built-in roles (docs/access.md) cannot be written.",
];

export const roleKind = defineKind({
  ...common,
  kind: "Role",
  plural: "roles",
  namespaced: true,
  fields: roleFields,
  rules: (object) => ruleProblems(object, false),
  notes: roleNotes,
  columns: [createdColumn],
});

export const clusterRoleKind = defineKind({
  ...common,
  kind: "ClusterRole",
  plural: "clusterroles",
  namespaced: false,
  fields: { ...roleFields, aggregationRule: { type: "object" } },
  unimplemented: { aggregationRule: "list the rules themselves" },
  rules: (object) => ruleProblems(object, true),
  notes: roleNotes,
  columns: [createdColumn],
});

const roleColumn = textColumn("Role", "What is granted.", (object) => {
  const { roleRef } = object as BindingObject;
  return roleRef === undefined ? "" : `${roleRef.kind}/${roleRef.name}`;
});
const subjectsColumn = (kind: Subject["kind"], title: string) =>
  textColumn(
    title,
    `Subjects of kind ${kind}.`,
    (object) =>
      ((object as BindingObject).subjects ?? [])
        .filter((each) => each.kind === kind)
        .map((each) => (kind === "ServiceAccount" ? `${each.namespace}/${each.name}` : each.name))
        .join(", "),
    1,
  );
const bindingColumns = [
  roleColumn,
  ageColumn,
  subjectsColumn("User", "Users"),
  subjectsColumn("Group", "Groups"),
  subjectsColumn("ServiceAccount", "ServiceAccounts"),
];
const bindingNotes = [
  "`roleRef` cannot be changed; delete the binding and make another, as in Kubernetes.",
  "Nobody can grant more than they may do, unless by the verb `bind` on the role.",
];

export const roleBindingKind = defineKind({
  ...common,
  kind: "RoleBinding",
  plural: "rolebindings",
  namespaced: true,
  requiredFields: ["roleRef"],
  fields: bindingFields(["Role", "ClusterRole"]),
  moreDefaults: subjectDefaults,
  rules: (object) => bindingProblems(object, false),
  notes: bindingNotes,
  columns: bindingColumns,
});

export const clusterRoleBindingKind = defineKind({
  ...common,
  kind: "ClusterRoleBinding",
  plural: "clusterrolebindings",
  namespaced: false,
  requiredFields: ["roleRef"],
  fields: bindingFields(["ClusterRole"]),
  moreDefaults: subjectDefaults,
  rules: (object) => bindingProblems(object, true),
  notes: bindingNotes,
  columns: bindingColumns,
});
