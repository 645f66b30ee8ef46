// Owns: which kinds the server has and every way of naming one. Nothing about any kind is written here: it is asked for.

import type { KubeObject } from "../api/meta.ts";
import type { Client } from "./client.ts";
import { CliFailure } from "./failure.ts";
import { didYouMean } from "./suggest.ts";

export interface Resource {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  /** All versions served, the preferred one first. */
  readonly versions: readonly string[];
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
}

interface ApiResource {
  name: string;
  singularName?: string;
  namespaced: boolean;
  kind: string;
  verbs?: string[];
  shortNames?: string[];
  categories?: string[];
}
interface GroupList {
  groups: { name: string; preferredVersion: { version: string }; versions: { version: string }[] }[];
}

/** Asks for every version of every group, side by side: a kind may be served in some of them only. Its version here is the group's most preferred of those. */
export async function discover(client: Client, timeoutMs = 15_000): Promise<readonly Resource[]> {
  const ask = { timeoutMs };
  const listed = async (group: string, version: string): Promise<readonly ApiResource[]> => {
    const path = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
    const list = await client.json<{ resources: ApiResource[] }>(path, ask);
    return list.resources.filter((r) => !r.name.includes("/") && (r.verbs ?? []).includes("list"));
  };
  const of = async (group: string, versions: readonly string[]): Promise<Resource[]> => {
    const lists = await Promise.all(versions.map(async (version) => ({ version, resources: await listed(group, version) })));
    const byPlural = Map.groupBy(
      lists.flatMap(({ version, resources }) => resources.map((r) => ({ version, r }))),
      ({ r }) => r.name,
    );
    return [...byPlural.values()].flatMap((found) => {
      const [first] = found;
      if (first === undefined) return [];
      const { r, version } = first;
      return [
        {
          group,
          version,
          versions: found.map((each) => each.version),
          kind: r.kind,
          plural: r.name,
          singular: r.singularName || r.kind.toLowerCase(),
          shortNames: r.shortNames ?? [],
          categories: r.categories ?? [],
          namespaced: r.namespaced,
          verbs: r.verbs ?? [],
        },
      ];
    });
  };
  const groups = async () => {
    const { groups: found } = await client.json<GroupList>("/apis", ask);
    const lists = found.map((g) => of(g.name, [...new Set([g.preferredVersion.version, ...g.versions.map((v) => v.version)])]));
    return (await Promise.all(lists)).flat();
  };
  const [core, rest] = await Promise.all([of("", ["v1"]), groups()]);
  return [...core, ...rest];
}

/** Every word that names this kind without its group. */
export function namesOf(resource: Resource): readonly string[] {
  return [resource.plural, resource.singular, resource.kind.toLowerCase(), ...resource.shortNames];
}

/** `httproute`, `HTTPRoutes`, `services`, `svc`, `httproute.gateway.networking.k8s.io`, also with a version between: `httproute.v1.gateway…`. */
export function findResource(resources: readonly Resource[], word: string): Resource {
  const lower = word.toLowerCase();
  const dot = lower.indexOf(".");
  const name = dot < 0 ? lower : lower.slice(0, dot);
  const group = dot < 0 ? undefined : lower.slice(dot + 1);
  const found = resources.filter((r) => namesOf(r).includes(name) && (group === undefined || groupFits(r, group)));
  const first = found[0];
  if (first === undefined) {
    const hint = didYouMean(name, resources.flatMap(namesOf)) || ";";
    const kinds = [...new Set(resources.map((r) => r.plural))].sort().join(", ");
    throw new CliFailure(`the control plane has no kind "${word}"${hint} it has ${kinds}`);
  }
  // As kubectl: the core group wins over others; otherwise the order of discovery.
  return found.find((r) => r.group === "") ?? first;
}

function groupFits(resource: Resource, written: string): boolean {
  return (
    resource.group === written ||
    resource.group.split(".")[0] === written ||
    resource.versions.some((v) => `${v}.${resource.group}` === written)
  );
}

/** The resource behind a manifest's apiVersion and kind; its path uses the version written there. */
export function resourceFor(resources: readonly Resource[], object: KubeObject): Resource {
  const slash = object.apiVersion.indexOf("/");
  const group = slash < 0 ? "" : object.apiVersion.slice(0, slash);
  const version = object.apiVersion.slice(slash + 1);
  const inGroup = resources.filter((r) => r.group === group);
  const exact = inGroup.find((r) => r.kind === object.kind);
  if (exact !== undefined) {
    if (exact.versions.includes(version)) return { ...exact, version };
    throw new CliFailure(
      `apiVersion: ${object.kind} is served as ${exact.versions
        .map((v) => groupVersion(group, v))
        .filter(unique)
        .join(", ")}, not ${object.apiVersion}`,
    );
  }
  const elsewhere = resources.find((r) => r.kind === object.kind);
  if (elsewhere !== undefined) {
    throw new CliFailure(
      `apiVersion: ${object.kind} belongs to ${groupVersion(elsewhere.group, elsewhere.version)}, not ${object.apiVersion}`,
    );
  }
  throw new CliFailure(
    `kind: the control plane has no ${object.kind} in ${object.apiVersion}${didYouMean(
      object.kind,
      resources.map((r) => r.kind),
    )}`,
  );
}

function unique(value: string, index: number, all: readonly string[]): boolean {
  return all.indexOf(value) === index;
}

export function groupVersion(group: string, version: string): string {
  return group === "" ? version : `${group}/${version}`;
}

/** Path of a collection, or of one object. `namespace` undefined on a namespaced kind: all namespaces. */
export function pathOf(resource: Resource, namespace: string | undefined, name?: string): string {
  const base = resource.group === "" ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const place = resource.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${base}${place}/${resource.plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`;
}

/** `httproute.gateway.networking.k8s.io/reviews`, `service/reviews`: how kubectl names an object in its messages. */
export function shownName(resource: Pick<Resource, "singular" | "group">, name: string): string {
  return `${resource.singular}${resource.group === "" ? "" : `.${resource.group}`}/${name}`;
}
