// Owns: weft.dev User: somebody who may hold tokens for this API, and the groups they are in. The tokens themselves are never kept.
// Deleting the object makes them worthless.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { show } from "../schema.ts";

export interface UserObject extends KubeObject {
  spec?: {
    groups?: string[];
    /** RFC 3339: no token of this user is good after it. Absent: as long as each token says. */
    expiresAt?: string;
  };
}

/** A year: long enough for a pipeline, short enough that somebody looks at it again. */
export const longestUserTokenSeconds = 366 * 86_400;

const user = (object: KubeObject) => object as UserObject;

export const userKind = defineKind({
  group: "weft.dev",
  versions: ["v1alpha1"],
  kind: "User",
  plural: "users",
  categories: ["weft"],
  namespaced: false,
  hasStatus: false,
  strictOnly: true,
  fields: {
    spec: {
      type: "object",
      description: "Groups of the user, and how long its tokens are good.",
      default: {},
      properties: {
        groups: {
          type: "array",
          description: "Groups that role bindings may name.",
          listType: "set",
          maxItems: 100,
          items: { type: "string", minLength: 1, maxLength: 253 },
        },
        expiresAt: {
          type: "string",
          pattern: "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$",
          description: "When all tokens of the user end, RFC 3339 in UTC. Absent: each has its own time.",
        },
      },
    },
  },
  rules: (object) => {
    const out: Violation[] = [];
    const { name } = object.metadata;
    if (name === "admin")
      out.push({ path: "metadata.name", message: '"admin" is the administrator, whose credential is admin.token; take another name' });
    for (const [at, group] of (user(object).spec?.groups ?? []).entries()) {
      if (/^(system|weft):/.test(group))
        out.push({
          path: `spec.groups[${at}]`,
          message: `${show(group)} is the control plane's own; nobody is put into groups that begin with "system:" or "weft:"`,
        });
    }
    const { expiresAt } = user(object).spec ?? {};
    if (expiresAt !== undefined && Number.isNaN(Date.parse(expiresAt)))
      out.push({ path: "spec.expiresAt", message: `${show(expiresAt)} is no time` });
    return out;
  },
  notes: [
    "Made by `weft user create`, which also prints a credential. What the user may do is said by RoleBindings and ClusterRoleBindings that name the user or one of the groups.",
    "Every user is also in `system:authenticated` and `weft:users`. Groups that begin with `system:` or `weft:` cannot be given.",
    "Putting somebody into a group takes the permission to `impersonate` that group. Deleting the user makes every token of it worthless at once; one made anew under the name does not bring them back.",
  ],
  columns: [
    textColumn("Groups", "Groups that bindings may name.", (object) => (user(object).spec?.groups ?? []).join(", ")),
    textColumn("Expires", "When all of its tokens end; empty: each has its own time.", (object) => user(object).spec?.expiresAt ?? ""),
    ageColumn,
  ],
});
