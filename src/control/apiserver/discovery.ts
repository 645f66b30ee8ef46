// Owns: the discovery documents: which groups, versions and kinds there are, plain and aggregated (KEP-3352). Built from the registry alone.

import type { KindDefinition } from "../../api/meta.ts";
import { aggregatedVersion, json } from "./negotiate.ts";
import { apiVersionOf, type Registry, verbsOf } from "./registry.ts";

interface ListedResource {
  readonly name: string;
  readonly singular: string;
  readonly namespaced: boolean;
  readonly kind: string;
  /** Group and version of the kind where they differ from the list's. */
  readonly of?: { readonly group: string; readonly version: string };
  readonly verbs: readonly string[];
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly hasStatus: boolean;
}

// What is served without being in the table of kinds (`reviews.ts`): they act and keep nothing.
const reviewResources: ReadonlyMap<string, readonly ListedResource[]> = new Map([
  ["authentication.k8s.io", [review("selfsubjectreviews", "SelfSubjectReview"), review("tokenreviews", "TokenReview")]],
  [
    "authorization.k8s.io",
    [
      { ...review("localsubjectaccessreviews", "LocalSubjectAccessReview"), namespaced: true },
      review("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
      review("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
      review("subjectaccessreviews", "SubjectAccessReview"),
    ],
  ],
]);

function review(name: string, kind: string): ListedResource {
  return {
    name,
    singular: kind.toLowerCase(),
    namespaced: false,
    kind,
    verbs: ["create"],
    shortNames: [],
    categories: [],
    hasStatus: false,
  };
}

const tokenSubresource: ListedResource = {
  ...review("serviceaccounts/token", "TokenRequest"),
  singular: "",
  namespaced: true,
  of: { group: "authentication.k8s.io", version: "v1" },
};

/** Answers `/api`, `/api/V`, `/apis`, `/apis/G`, `/apis/G/V`; undefined = not a discovery path, or of a group or version that is not there. */
export function discover(registry: Registry, request: Request, path: string): Response | undefined {
  const [root, first, second, ...more] = path
    .split("/")
    .slice(1)
    .filter((part) => part !== "");
  if (more.length > 0) return undefined;
  const groups = groupsOf(registry);
  if (root === "api") {
    const versions = registry.groups.get("");
    if (versions === undefined || second !== undefined) return undefined;
    if (first !== undefined) return versions.includes(first) ? resourceList(registry, request, "", first) : undefined;
    const aggregated = aggregatedVersion(request);
    if (aggregated !== undefined) return aggregate(registry, request, aggregated, new Map([["", versions]]));
    const serverAddressByClientCIDRs = [{ clientCIDR: "0.0.0.0/0", serverAddress: "" }];
    return json(request, { kind: "APIVersions", versions, serverAddressByClientCIDRs });
  }
  if (root !== "apis") return undefined;
  if (first === undefined) {
    const aggregated = aggregatedVersion(request);
    if (aggregated !== undefined) return aggregate(registry, request, aggregated, groups);
    return json(request, {
      kind: "APIGroupList",
      apiVersion: "v1",
      groups: [...groups].map(([group, versions]) => groupDocument(group, versions)),
    });
  }
  const versions = groups.get(first);
  if (versions === undefined) return undefined;
  if (second === undefined) return json(request, { kind: "APIGroup", apiVersion: "v1", ...groupDocument(first, versions) });
  return versions.includes(second) ? resourceList(registry, request, first, second) : undefined;
}

function groupsOf(registry: Registry): ReadonlyMap<string, readonly string[]> {
  const groups = new Map([...registry.groups].filter(([group]) => group !== ""));
  for (const group of reviewResources.keys()) groups.set(group, groups.get(group) ?? ["v1"]);
  return groups;
}

function groupDocument(group: string, versions: readonly string[]): Record<string, unknown> {
  const all = versions.map((version) => ({ groupVersion: apiVersionOf(group, version), version }));
  return { name: group, versions: all, preferredVersion: all[0] };
}

function resourcesOf(registry: Registry, group: string, version: string): readonly ListedResource[] {
  const kinds = registry.kinds.filter((kind) => kind.group === group && kind.versions.includes(version)).map(listedKind);
  return [...kinds, ...(version === "v1" ? (reviewResources.get(group) ?? []) : [])];
}

function listedKind(kind: KindDefinition): ListedResource {
  return {
    name: kind.plural,
    singular: kind.singular,
    namespaced: kind.namespaced,
    kind: kind.kind,
    verbs: verbsOf(kind),
    shortNames: kind.shortNames,
    categories: kind.categories,
    hasStatus: kind.hasStatus && !kind.virtual,
  };
}

const statusVerbs = ["get", "patch", "update"];

function resourceList(registry: Registry, request: Request, group: string, version: string): Response {
  const resources = resourcesOf(registry, group, version).flatMap((resource) => [
    resource,
    ...(resource.hasStatus
      ? [{ ...resource, name: `${resource.name}/status`, singular: "", verbs: statusVerbs, shortNames: [], categories: [] }]
      : []),
  ]);
  if (group === "" && version === "v1") resources.push(tokenSubresource);
  if (resources.some(({ name }) => name === "users" && group === "weft.dev"))
    resources.push({ ...tokenSubresource, name: "users/token", namespaced: false });
  return json(request, {
    kind: "APIResourceList",
    apiVersion: "v1",
    groupVersion: apiVersionOf(group, version),
    resources: resources.map(({ name, singular, namespaced, kind, of, verbs, shortNames, categories }) => ({
      name,
      singularName: singular,
      namespaced,
      ...of,
      kind,
      verbs,
      ...(shortNames.length > 0 && { shortNames }),
      ...(categories.length > 0 && { categories }),
    })),
  });
}

function aggregate(registry: Registry, request: Request, version: string, groups: ReadonlyMap<string, readonly string[]>): Response {
  const body = {
    kind: "APIGroupDiscoveryList",
    apiVersion: `apidiscovery.k8s.io/${version}`,
    metadata: {},
    items: [...groups].map(([group, versions]) => ({
      metadata: { ...(group !== "" && { name: group }), creationTimestamp: null },
      versions: versions.map((each) => ({
        version: each,
        freshness: "Current",
        resources: resourcesOf(registry, group, each).map((resource) => ({
          resource: resource.name,
          responseKind: { group, version: each, kind: resource.kind },
          scope: resource.namespaced ? "Namespaced" : "Cluster",
          singularResource: resource.singular,
          verbs: resource.verbs,
          ...(resource.shortNames.length > 0 && { shortNames: resource.shortNames }),
          ...(resource.categories.length > 0 && { categories: resource.categories }),
          ...(resource.hasStatus && {
            subresources: [{ subresource: "status", responseKind: { group, version: each, kind: resource.kind }, verbs: statusVerbs }],
          }),
        })),
      })),
    })),
  };
  return json(request, body, 200, `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`);
}
