// Owns: envoy.config.rbac.v3.RBAC to RbacConfig. A rule that cannot be enforced is a violation, never dropped.

import type { Permission as PbPermission, Principal as PbPrincipal, RBAC } from "../../../wire/gen/envoy/config/rbac/v3/rbac_pb.ts";
import type { MetadataMatcher } from "../../../wire/gen/envoy/type/matcher/v3/metadata_pb.ts";
import type { ValueMatcher } from "../../../wire/gen/envoy/type/matcher/v3/value_pb.ts";
import type { ClaimMatch, Permission, Principal, RbacConfig } from "../../config.ts";
import { at, choose, type Gate, present } from "./gate.ts";
import { ipFamily } from "./ip.ts";
import { headerMatch, stringMatch } from "./match.ts";

const tokenFilter = "envoy.filters.http.jwt_authn";

export function decodeRbac(gate: Gate, rbac: RBAC, path: string): RbacConfig {
  const action = choose<RbacConfig["action"]>(
    gate,
    at(path, "action"),
    "envoy.config.rbac.v3.RBAC.Action",
    rbac.action,
    { ALLOW: "allow", DENY: "deny", LOG: "log" },
    "deny",
  );
  const policies = Object.keys(rbac.policies)
    .sort()
    .map((name) => {
      const policy = rbac.policies[name];
      const where = at(path, `policies["${name}"]`);
      if (policy === undefined || policy.permissions.length === 0) gate.add(at(where, "permissions"), "needs at least one");
      if (policy === undefined || policy.principals.length === 0) gate.add(at(where, "principals"), "needs at least one");
      return {
        name,
        permissions: (policy?.permissions ?? []).map((one, n) => permission(gate, one, `${where}.permissions[${n}]`)),
        principals: (policy?.principals ?? []).map((one, n) => principal(gate, one, `${where}.principals[${n}]`)),
      };
    });
  return { action, policies };
}

function permission(gate: Gate, one: PbPermission, path: string): Permission {
  const rule = one.rule;
  switch (rule.case) {
    case "any":
      if (!rule.value) gate.add(at(path, "any"), "must be true");
      return { kind: "any" };
    case "andRules":
    case "orRules": {
      const field = rule.case === "andRules" ? "and_rules" : "or_rules";
      if (rule.value.rules.length === 0) gate.add(at(path, `${field}.rules`), "needs at least one");
      const rules = rule.value.rules.map((inner, n) => permission(gate, inner, `${at(path, field)}.rules[${n}]`));
      return { kind: rule.case === "andRules" ? "and" : "or", rules };
    }
    case "notRule":
      return { kind: "not", rule: permission(gate, rule.value, at(path, "not_rule")) };
    case "header":
      return { kind: "header", header: headerMatch(gate, at(path, "header"), rule.value) };
    case "urlPath":
      return { kind: "path", match: stringMatch(gate, at(path, "url_path.path"), rule.value.rule.value) };
    case "destinationPort":
      if (rule.value > 65_535) gate.add(at(path, "destination_port"), `${rule.value} is not a port`);
      return { kind: "port", port: rule.value };
    case undefined:
      gate.add(path, "needs one of any, and_rules, or_rules, not_rule, header, url_path, destination_port");
      return { kind: "not", rule: { kind: "any" } };
  }
}

function principal(gate: Gate, one: PbPrincipal, path: string): Principal {
  const id = one.identifier;
  switch (id.case) {
    case "any":
      if (!id.value) gate.add(at(path, "any"), "must be true");
      return { kind: "any" };
    case "andIds":
    case "orIds": {
      const field = id.case === "andIds" ? "and_ids" : "or_ids";
      if (id.value.ids.length === 0) gate.add(at(path, `${field}.ids`), "needs at least one");
      const rules = id.value.ids.map((inner, n) => principal(gate, inner, `${at(path, field)}.ids[${n}]`));
      return { kind: id.case === "andIds" ? "and" : "or", rules };
    }
    case "notId":
      return { kind: "not", rule: principal(gate, id.value, at(path, "not_id")) };
    case "authenticated": {
      const name = id.value.principalName;
      return {
        kind: "authenticated",
        match: name === undefined ? null : stringMatch(gate, at(path, "authenticated.principal_name"), name),
      };
    }
    case "header":
      return { kind: "header", header: headerMatch(gate, at(path, "header"), id.value) };
    case "metadata":
      return claim(gate, id.value, at(path, "metadata"));
    case "directRemoteIp":
    case "remoteIp": {
      const where = at(path, id.case === "remoteIp" ? "remote_ip" : "direct_remote_ip");
      const prefix = id.value.addressPrefix;
      const family = ipFamily(prefix);
      if (family === 0) gate.add(at(where, "address_prefix"), `"${prefix}" is not an IP address`);
      const most = family === 6 ? 128 : 32;
      const length = id.value.prefixLen ?? 0;
      if (length > most) gate.add(at(where, "prefix_len"), `${length} is above ${most}`);
      return { kind: id.case === "remoteIp" ? "client_ip" : "remote_ip", prefix, prefixLength: length };
    }
    case undefined:
      gate.add(path, "needs one of any, and_ids, or_ids, not_id, authenticated, header, metadata, direct_remote_ip, remote_ip");
      return { kind: "not", rule: { kind: "any" } };
  }
}

/** Metadata of the one filter that writes any here. */
function claim(gate: Gate, { filter, path: segments, value, invert }: MetadataMatcher, path: string): Principal {
  if (filter !== tokenFilter) gate.add(at(path, "filter"), `"${filter}" is not supported; use ${tokenFilter}`);
  if (segments.length < 2) gate.add(at(path, "path"), "needs payload_in_metadata of a provider, and the name of a claim");
  const names = segments.map(({ segment }, n) => present(gate, `${at(path, "path")}[${n}].key`, segment.value ?? ""));
  return { kind: "claim", path: names, match: claimMatch(gate, value, at(path, "value")), invert };
}

function claimMatch(gate: Gate, value: ValueMatcher | undefined, path: string): ClaimMatch {
  const pattern = value?.matchPattern;
  switch (pattern?.case) {
    case "stringMatch":
      return { kind: "string", match: stringMatch(gate, at(path, "string_match"), pattern.value) };
    case "presentMatch":
      return { kind: "present", present: pattern.value };
    case "listMatch":
      return { kind: "list", of: claimMatch(gate, pattern.value.matchPattern.value, at(path, "list_match.one_of")) };
    case "orMatch": {
      const all = pattern.value.valueMatchers;
      if (all.length === 0) gate.add(at(path, "or_match.value_matchers"), "needs at least one");
      return { kind: "or", of: all.map((each, n) => claimMatch(gate, each, `${at(path, "or_match")}.value_matchers[${n}]`)) };
    }
    case undefined:
      gate.add(path, "needs one of string_match, present_match, list_match, or_match");
      return { kind: "or", of: [] };
  }
}
