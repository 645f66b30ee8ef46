// Owns: what roles allow: matching one request against rules, and whether one set of rules covers another. Pure.
// Semantics: https://kubernetes.io/docs/reference/access-authn-authz/rbac/ ; Kubernetes's own tests are its specification.

import type { PolicyRule } from "../../api/kinds/rbac.ts";
import type { Access } from "../apiserver/deps.ts";

/** `httproutes.gateway.networking.k8s.io` into plural and group; plurals have no dots. */
export function splitResource(resource: string): { readonly plural: string; readonly group: string } {
  const dot = resource.indexOf(".");
  return dot < 0 ? { plural: resource, group: "" } : { plural: resource.slice(0, dot), group: resource.slice(dot + 1) };
}

/** True when the rule allows the request, scope aside: whether its binding reaches the namespace is the caller's to know. */
export function ruleAllows(rule: PolicyRule, access: Access): boolean {
  if (!hasOrAll(rule.verbs, access.verb)) return false;
  if (access.type === "path") return (rule.nonResourceURLs ?? []).some((url) => urlCovers(url, access.path));
  const { plural, group } = splitResource(access.resource);
  if (!hasOrAll(rule.apiGroups, group) || !resourceCovers(rule.resources, plural, access.subresource)) return false;
  const names = rule.resourceNames ?? [];
  return names.length === 0 || (access.name !== "" && names.includes(access.name));
}

function hasOrAll(list: readonly string[] | undefined, wanted: string): boolean {
  return list !== undefined && (list.includes("*") || list.includes(wanted));
}

function resourceCovers(list: readonly string[] | undefined, plural: string, subresource: string): boolean {
  if (list === undefined) return false;
  if (list.includes("*")) return true;
  return subresource === "" ? list.includes(plural) : list.includes(`${plural}/${subresource}`) || list.includes(`*/${subresource}`);
}

function urlCovers(pattern: string, path: string): boolean {
  if (pattern === "*" || pattern === path) return true;
  return pattern.endsWith("*") && path.startsWith(pattern.slice(0, -1));
}

/** The parts of `wanted` that no rule of `held` allows, each as a rule with one verb and one resource; empty = all is covered. */
export function uncovered(held: readonly PolicyRule[], wanted: readonly PolicyRule[]): readonly PolicyRule[] {
  const missing: PolicyRule[] = [];
  for (const rule of wanted) {
    for (const part of partsOf(rule)) {
      if (!held.some((each) => covers(each, part))) missing.push(part);
      // What is refused is refused; nobody reads a longer list.
      if (missing.length >= 16) return missing;
    }
  }
  return missing;
}

function* partsOf(rule: PolicyRule): Generator<PolicyRule> {
  const names = rule.resourceNames ?? [];
  for (const verb of rule.verbs) {
    for (const url of rule.nonResourceURLs ?? []) yield { verbs: [verb], nonResourceURLs: [url] };
    for (const group of rule.apiGroups ?? [])
      for (const resource of rule.resources ?? []) {
        if (names.length === 0) yield { verbs: [verb], apiGroups: [group], resources: [resource] };
        for (const name of names) yield { verbs: [verb], apiGroups: [group], resources: [resource], resourceNames: [name] };
      }
  }
}

/** `part` has one value in each list. A star in it is covered by a star only. */
function covers(held: PolicyRule, part: PolicyRule): boolean {
  if (!hasOrAll(held.verbs, part.verbs[0] ?? "")) return false;
  const [url] = part.nonResourceURLs ?? [];
  if (url !== undefined) return (held.nonResourceURLs ?? []).some((each) => urlCovers(each, url));
  if (!hasOrAll(held.apiGroups, part.apiGroups?.[0] ?? "")) return false;
  const [plural = "", subresource = ""] = (part.resources?.[0] ?? "").split("/");
  if (!resourceCovers(held.resources, plural, subresource)) return false;
  const names = held.resourceNames ?? [];
  const [name] = part.resourceNames ?? [];
  return names.length === 0 || (name !== undefined && names.includes(name));
}

/** As Kubernetes prints a rule in a refusal: `{APIGroups:["apps"], Resources:["*"], Verbs:["get"]}`. */
export function ruleWords(rule: PolicyRule): string {
  const fields: readonly (readonly [string, readonly string[] | undefined])[] = [
    ["APIGroups", rule.apiGroups],
    ["Resources", rule.resources],
    ["ResourceNames", rule.resourceNames],
    ["NonResourceURLs", rule.nonResourceURLs],
    ["Verbs", rule.verbs],
  ];
  return `{${fields.flatMap(([name, list]) => (list === undefined ? [] : [`${name}:${JSON.stringify(list)}`])).join(", ")}}`;
}
