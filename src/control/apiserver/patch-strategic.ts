// Owns: strategic merge patch, which kubectl sends for the kinds compiled into it (Service, Namespace, EndpointSlice).
// Never guesses: a kind whose merge keys are not in the table below is refused (415), as Kubernetes does for custom resources.
// https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md

import { isRecord } from "./body.ts";
import { badRequest } from "./status.ts";

/** Lists that are merged by key (a field name) or as sets of scalars (`"set"`); every other list is replaced. By path without indices. */
type MergeKeys = Readonly<Record<string, string>>;

const metadataKeys: MergeKeys = { "metadata.ownerReferences": "uid", "metadata.finalizers": "set" };

// The `patchStrategy` and `patchMergeKey` tags of k8s.io/api.
const byResource: Readonly<Record<string, MergeKeys>> = {
  services: { ...metadataKeys, "spec.ports": "port", "status.conditions": "type" },
  namespaces: { ...metadataKeys, "status.conditions": "type" },
  "endpointslices.discovery.k8s.io": metadataKeys,
  "roles.rbac.authorization.k8s.io": metadataKeys,
  "clusterroles.rbac.authorization.k8s.io": metadataKeys,
  "rolebindings.rbac.authorization.k8s.io": metadataKeys,
  "clusterrolebindings.rbac.authorization.k8s.io": metadataKeys,
};

/** undefined when kinds of this resource are not patched strategically. */
export function strategicKeysOf(resource: string): MergeKeys | undefined {
  return byResource[resource];
}

/** Throws 400 for a directive that is malformed or unknown. Never changes its arguments. */
export function strategicMergePatch(target: unknown, patch: unknown, keys: MergeKeys): unknown {
  if (!isRecord(patch)) throw badRequest("a strategic merge patch is an object");
  return mergeObject(isRecord(target) ? target : {}, patch, keys, "") ?? {};
}

const orderPrefix = "$setElementOrder/";
const deletePrefix = "$deleteFromPrimitiveList/";

// undefined = the object is to be deleted.
function mergeObject(
  target: Record<string, unknown>,
  patch: Record<string, unknown>,
  keys: MergeKeys,
  path: string,
): Record<string, unknown> | undefined {
  const directive = patch.$patch;
  if (directive === "delete") return undefined;
  if (directive === "replace") return plain(patch, "$patch");
  if (directive !== undefined && directive !== "merge")
    throw badRequest(`strategic merge patch: $patch at ${shown(path)} is ${JSON.stringify(directive)}; use merge, replace or delete`);

  const result: Record<string, unknown> = { ...target };
  const retain = patch.$retainKeys;
  if (retain !== undefined) {
    if (!isStrings(retain)) throw badRequest(`strategic merge patch: $retainKeys at ${shown(path)} is not a list of names`);
    for (const name of Object.keys(result)) if (!retain.includes(name)) delete result[name];
  }
  for (const [name, value] of Object.entries(patch)) {
    if (name === "$patch" || name === "$retainKeys") continue;
    if (name.startsWith(orderPrefix)) {
      // Together with a change of the same list it is applied there; alone it only orders.
      const list = name.slice(orderPrefix.length);
      if (!Object.hasOwn(patch, list)) result[list] = ordered(result[list], value, keys[join(path, list)], join(path, list));
      continue;
    }
    if (name.startsWith(deletePrefix)) {
      const list = name.slice(deletePrefix.length);
      if (!Array.isArray(value) || keys[join(path, list)] !== "set")
        throw badRequest(`strategic merge patch: ${name} does not belong at ${shown(path)}`);
      const kept = Array.isArray(result[list]) ? result[list].filter((item) => !value.includes(item)) : [];
      result[list] = kept;
      continue;
    }
    if (name.startsWith("$")) throw badRequest(`strategic merge patch: ${name} at ${shown(path)} is no known directive`);
    const below = join(path, name);
    if (value === null) {
      delete result[name];
    } else if (isRecord(value)) {
      const merged = mergeObject(isRecord(result[name]) ? result[name] : {}, value, keys, below);
      if (merged === undefined) delete result[name];
      else result[name] = merged;
    } else if (Array.isArray(value) && keys[below] !== undefined) {
      const merged = mergeList(Array.isArray(result[name]) ? result[name] : [], value, keys, below);
      result[name] = ordered(merged, patch[orderPrefix + name], keys[below], below);
    } else {
      result[name] = structuredClone(value);
    }
  }
  return result;
}

function mergeList(target: readonly unknown[], patch: readonly unknown[], keys: MergeKeys, path: string): unknown[] {
  const key = keys[path] ?? "";
  if (key === "set") return [...target, ...patch.filter((item) => !target.includes(item))];
  const replace = patch.some((item) => isRecord(item) && item.$patch === "replace");
  let result: unknown[] = replace ? [] : [...target];
  for (const item of patch) {
    if (!isRecord(item)) throw badRequest(`strategic merge patch: the items of ${shown(path)} are objects`);
    if (item.$patch === "replace" && Object.keys(item).length === 1) continue;
    const id = item[key];
    if (id === undefined) throw badRequest(`strategic merge patch: an item of ${shown(path)} lacks its merge key ${JSON.stringify(key)}`);
    const at = result.findIndex((each) => isRecord(each) && each[key] === id);
    if (item.$patch === "delete") {
      result = result.filter((each) => !(isRecord(each) && each[key] === id));
      continue;
    }
    const was = at < 0 ? {} : (result[at] as Record<string, unknown>);
    const merged = mergeObject(was, item.$patch === "replace" ? plain(item, "$patch") : item, keys, path) ?? {};
    if (at < 0) result.push(merged);
    else result[at] = merged;
  }
  return result;
}

// Items named in the order come in that order; the others (put there by somebody else) keep their place relative to their predecessor.
function ordered(list: unknown, order: unknown, key: string | undefined, path: string): unknown {
  if (order === undefined || !Array.isArray(list)) return list;
  if (!Array.isArray(order) || key === undefined)
    throw badRequest(`strategic merge patch: ${orderPrefix} at ${shown(path)} does not belong there`);
  const idOf = (item: unknown) => (key === "set" || !isRecord(item) ? item : item[key]);
  const rank = new Map(order.map((item, at) => [idOf(item), at]));
  const named = list.filter((item) => rank.has(idOf(item))).sort((a, b) => (rank.get(idOf(a)) ?? 0) - (rank.get(idOf(b)) ?? 0));
  const result: unknown[] = [];
  for (const item of list) result.push(rank.has(idOf(item)) ? named.shift() : item);
  return result;
}

function plain(value: Record<string, unknown>, without: string): Record<string, unknown> {
  const { [without]: _, ...rest } = value;
  return structuredClone(rest);
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function join(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function shown(path: string): string {
  return path === "" ? "the top" : path;
}
