// Owns: what a path under `/api` and `/apis` names. Never looks at the method.

import type { KindDefinition } from "../../api/meta.ts";
import { apiVersionOf, type Registry } from "./registry.ts";
import { badRequest, pathNotFound } from "./status.ts";

/** A collection (`name` empty), an object, or a subresource of one. */
export interface ResourceTarget {
  readonly kind: KindDefinition;
  readonly group: string;
  readonly version: string;
  /** Empty for cluster-scoped kinds, and for a collection over all namespaces. */
  readonly namespace: string;
  readonly name: string;
  readonly subresource: "" | "status";
}

/** Paths that are served without being a kind of the table: they act, and keep nothing. */
export type ReviewTarget =
  | { readonly review: "token"; readonly namespace: string; readonly serviceAccount: string }
  | { readonly review: "user-token"; readonly name: string }
  | { readonly review: "access" | "rules" | "self" | "token-review" }
  /** `namespace` empty: over all of them. */
  | { readonly review: "subject"; readonly namespace: string };

/** Throws a 404 that says what is there instead. */
export function parseTarget(registry: Registry, path: string): ResourceTarget | ReviewTarget {
  const parts = path.split("/").slice(1).map(decode);
  if (parts.at(-1) === "") parts.pop();
  const core = parts[0] === "api";
  const group = core ? "" : (parts[1] ?? "");
  const version = core ? (parts[1] ?? "") : (parts[2] ?? "");
  let rest = parts.slice(core ? 2 : 3);

  const review = parseReview(group, version, rest);
  if (review !== undefined) return review;

  const versions = registry.groups.get(group);
  if (versions === undefined)
    throw pathNotFound(`there is no API group ${JSON.stringify(group)}; the groups are ${listed([...registry.groups.keys()])}`);
  if (!versions.includes(version)) {
    throw pathNotFound(`API group ${JSON.stringify(group)} has no version ${JSON.stringify(version)}; it has ${listed(versions)}`);
  }

  let namespace = "";
  // `namespaces/NAME` alone, and its `status`, is the Namespace itself; anything longer is a collection inside it.
  if (rest[0] === "namespaces" && rest.length > 2 && !(core && rest.length === 3 && rest[2] === "status")) {
    namespace = rest[1] ?? "";
    rest = rest.slice(2);
    if (namespace === "") throw badRequest("the namespace in the path is empty");
  }
  const [plural = "", name = "", subresource = "", ...more] = rest;
  const kind = registry.find(group, version, plural);
  if (kind === undefined) {
    const there = registry.kinds.filter((each) => each.group === group && each.versions.includes(version)).map((each) => each.plural);
    throw pathNotFound(`${apiVersionOf(group, version)} has no ${JSON.stringify(plural)}; it has ${listed(there)}`);
  }
  if (kind.namespaced && namespace === "" && name !== "") {
    throw pathNotFound(`${kind.plural} live in namespaces: ask for namespaces/NAMESPACE/${kind.plural}/${name}`);
  }
  if (!kind.namespaced && namespace !== "") throw pathNotFound(`${kind.plural} belong to no namespace: ask for ${kind.plural} itself`);
  if (more.length > 0 || (subresource !== "" && !(subresource === "status" && kind.hasStatus && !kind.virtual))) {
    throw pathNotFound(`${kind.plural} have no subresource ${JSON.stringify([subresource, ...more].join("/"))}`);
  }
  return { kind, group, version, namespace, name, subresource: subresource === "status" ? "status" : "" };
}

function parseReview(group: string, version: string, rest: readonly string[]): ReviewTarget | undefined {
  const [first, namespace = "", third, serviceAccount = "", fifth] = rest;
  if (group === "" && version === "v1" && first === "namespaces" && third === "serviceaccounts" && fifth === "token" && rest.length === 5) {
    return { review: "token", namespace, serviceAccount };
  }
  if (group === "weft.dev" && first === "users" && third === "token" && namespace !== "" && rest.length === 3)
    return { review: "user-token", name: namespace };
  if (version !== "v1") return undefined;
  if (group === "authorization.k8s.io" && first === "namespaces" && third === "localsubjectaccessreviews" && rest.length === 3)
    return { review: "subject", namespace };
  if (rest.length !== 1) return undefined;
  if (group === "authorization.k8s.io") {
    if (first === "selfsubjectaccessreviews") return { review: "access" };
    if (first === "selfsubjectrulesreviews") return { review: "rules" };
    if (first === "subjectaccessreviews") return { review: "subject", namespace: "" };
  }
  if (group === "authentication.k8s.io" && first === "selfsubjectreviews") return { review: "self" };
  if (group === "authentication.k8s.io" && first === "tokenreviews") return { review: "token-review" };
  return undefined;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw badRequest(`${JSON.stringify(part)} in the path is not percent-encoded UTF-8`);
  }
}

function listed(names: readonly string[]): string {
  return names.map((name) => (name === "" ? '"" (core)' : name)).join(", ");
}
