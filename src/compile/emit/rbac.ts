// Owns: authorization plans as Envoy RBAC rules, for requests (HTTP filter) and for connections (network filter) alike.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Permission,
  PermissionSchema,
  type Principal,
  PrincipalSchema,
  type RBAC,
  RBAC_Action,
  RBACSchema,
} from "../../wire/gen/envoy/config/rbac/v3/rbac_pb.ts";
import type { ValueMatcherSchema } from "../../wire/gen/envoy/type/matcher/v3/value_pb.ts";
import type { AuthzPlan, AuthzRulePlan, OperationCondition, SourceCondition, TextMatch } from "../plan/plan.ts";
import { stringMatcher } from "./common.ts";
import { tokenFilter, tokenPayload } from "./tokens.ts";

/** DENY first. An ALLOW without policies refuses everything. */
export function rbacRules(plan: AuthzPlan): RBAC[] {
  const out: RBAC[] = [];
  if (plan.deny.length > 0) out.push(rbac(RBAC_Action.DENY, plan.deny));
  if (plan.allow !== null) out.push(rbac(RBAC_Action.ALLOW, plan.allow));
  return out;
}

function rbac(action: RBAC_Action, rules: readonly AuthzRulePlan[]): RBAC {
  return create(RBACSchema, {
    action,
    policies: Object.fromEntries(rules.map((rule) => [rule.name, { permissions: permissions(rule), principals: principals(rule) }])),
  });
}

function permissions(rule: AuthzRulePlan): Permission[] {
  if (rule.operations.length === 0) return [permission({ rule: { case: "any", value: true } })];
  return rule.operations.map((conditions) => allOf(conditions.map(operation)));

  function allOf(rules: Permission[]): Permission {
    return rules.length === 1 ? rules[0]! : permission({ rule: { case: "andRules", value: { rules } } });
  }
}

function operation(condition: OperationCondition): Permission {
  const values = condition.values.map((match) => operationValue(condition.field, match));
  const fits = values.length === 1 ? values[0]! : permission({ rule: { case: "orRules", value: { rules: values } } });
  return condition.negate ? permission({ rule: { case: "notRule", value: fits } }) : fits;
}

function operationValue(field: OperationCondition["field"], match: TextMatch): Permission {
  if (field === "path") return permission({ rule: { case: "urlPath", value: { rule: { case: "path", value: stringMatcher(match) } } } });
  const name = field === "host" ? ":authority" : ":method";
  if (match.kind === "present")
    return permission({ rule: { case: "header", value: { name, headerMatchSpecifier: { case: "presentMatch", value: true } } } });
  return permission({
    rule: { case: "header", value: { name, headerMatchSpecifier: { case: "stringMatch", value: stringMatcher(match, field === "host") } } },
  });
}

function principals(rule: AuthzRulePlan): Principal[] {
  if (rule.sources.length === 0) return [principal({ identifier: { case: "any", value: true } })];
  return rule.sources.map((conditions) => {
    const ids = conditions.map(source);
    return ids.length === 1 ? ids[0]! : principal({ identifier: { case: "andIds", value: { ids } } });
  });
}

function source(condition: SourceCondition): Principal {
  const ids = idsOf(condition);
  const fits = ids.length === 1 ? ids[0]! : principal({ identifier: { case: "orIds", value: { ids } } });
  return condition.negate ? principal({ identifier: { case: "notId", value: fits } }) : fits;
}

function idsOf(condition: SourceCondition): Principal[] {
  switch (condition.field) {
    case "principal":
      return condition.values.map(authenticated);
    case "token":
      return condition.values.flatMap(tokenOf);
    case "claim":
      return condition.values.map((match) => claim(condition.path, match, true));
    default:
      return condition.values.map(({ prefix, length }) => within(condition.field, prefix, length));
  }
}

function within(field: "ip" | "client", addressPrefix: string, prefixLen: number): Principal {
  return principal({ identifier: { case: field === "ip" ? "directRemoteIp" : "remoteIp", value: { addressPrefix, prefixLen } } });
}

/**
 * ISSUER/SUBJECT, which a proxy knows as two claims: one of the pairs that the text can be of, as both may have slashes in them. Together these fit the same
 * tokens as the text would.
 */
function tokenOf(match: TextMatch): Principal[] {
  const pair = (issuer: TextMatch, subject: TextMatch) =>
    principal({
      identifier: { case: "andIds", value: { ids: [claim(["iss"], issuer, false), claim(["sub"], subject, false)] } },
    });
  const any: TextMatch = { kind: "present" };
  const value = match.kind === "present" ? "" : match.value;
  const text = (kind: "exact" | "prefix" | "suffix", part: string): TextMatch => (part === "" ? any : { kind, value: part });
  const splits = [...value.matchAll(/\//g)].map(({ index }) => [value.slice(0, index), value.slice(index + 1)] as const);
  switch (match.kind) {
    case "present":
      return [pair(any, any)];
    case "regex":
      throw new Error("users are not told by expressions");
    case "exact":
      return splits
        .filter(([issuer, subject]) => issuer !== "" && subject !== "")
        .map(([issuer, subject]) => pair(text("exact", issuer), text("exact", subject)));
    case "prefix":
      return [
        pair(text("prefix", value), any),
        ...splits.filter(([issuer]) => issuer !== "").map(([issuer, subject]) => pair(text("exact", issuer), text("prefix", subject))),
      ];
    case "suffix":
      return [
        pair(any, text("suffix", value)),
        ...splits.filter(([, subject]) => subject !== "").map(([issuer, subject]) => pair(text("suffix", issuer), text("exact", subject))),
      ];
  }
}

/** `list`: an entry of a list will do. */
function claim(path: readonly string[], match: TextMatch, list: boolean): Principal {
  const one: MessageInitShape<typeof ValueMatcherSchema> = { matchPattern: { case: "stringMatch", value: stringMatcher(match) } };
  const entry: MessageInitShape<typeof ValueMatcherSchema> = {
    matchPattern: { case: "listMatch", value: { matchPattern: { case: "oneOf", value: one } } },
  };
  return principal({
    identifier: {
      case: "metadata",
      value: {
        filter: tokenFilter,
        path: [tokenPayload, ...path].map((key) => ({ segment: { case: "key", value: key } })),
        value: list ? { matchPattern: { case: "orMatch", value: { valueMatchers: [entry, one] } } } : one,
      },
    },
  });
}

/** `*`: any verified peer. */
function authenticated(match: TextMatch): Principal {
  return principal({
    identifier: { case: "authenticated", value: match.kind === "present" ? {} : { principalName: stringMatcher(match) } },
  });
}

function permission(init: MessageInitShape<typeof PermissionSchema>): Permission {
  return create(PermissionSchema, init);
}

function principal(init: MessageInitShape<typeof PrincipalSchema>): Principal {
  return create(PrincipalSchema, init);
}
