// Owns: finding a kind by the words in a path, and which groups and versions there are. Built once from the table of kinds.

import { type KindDefinition, resourceOf } from "../../api/meta.ts";

export interface Registry {
  readonly kinds: readonly KindDefinition[];
  /** Group names in order of the table, the core group (empty) first if there is one; each with its versions, preferred first. */
  readonly groups: ReadonlyMap<string, readonly string[]>;
  find(group: string, version: string, plural: string): KindDefinition | undefined;
  byResource(resource: string): KindDefinition | undefined;
}

/** Throws when two kinds claim one resource: a mistake in the table. */
export function makeRegistry(kinds: readonly KindDefinition[]): Registry {
  const byPath = new Map<string, KindDefinition>();
  const byResource = new Map<string, KindDefinition>();
  const groups = new Map<string, string[]>();
  for (const kind of kinds) {
    if (byResource.has(resourceOf(kind))) throw new Error(`two kinds are called ${resourceOf(kind)}`);
    byResource.set(resourceOf(kind), kind);
    const versions = groups.get(kind.group) ?? [];
    groups.set(kind.group, versions);
    for (const version of kind.versions) {
      byPath.set(`${kind.group}/${version}/${kind.plural}`, kind);
      if (!versions.includes(version)) versions.push(version);
    }
  }
  return {
    kinds,
    groups,
    find: (group, version, plural) => byPath.get(`${group}/${version}/${plural}`),
    byResource: (resource) => byResource.get(resource),
  };
}

/** `v1`, `gateway.networking.k8s.io/v1` */
export function apiVersionOf(group: string, version: string): string {
  return group === "" ? version : `${group}/${version}`;
}

/** What may be asked of a kind, as discovery lists it. */
export function verbsOf(kind: KindDefinition): readonly string[] {
  return kind.virtual ? ["get", "list", "watch"] : ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
}
