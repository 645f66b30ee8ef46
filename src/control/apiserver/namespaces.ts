// Owns: what holds between a namespace and what is in it, also while another control plane writes: nothing is made in one that is going or gone, and none goes
// with something in it (decision 32). Never writes anything but a namespace that comes into being.

import { type KubeObject, resourceOf } from "../../api/meta.ts";
import type { Guard, ObjectKey, Revision } from "../store/store.ts";
import type { Core } from "./core.ts";
import type { StagedChange } from "./staged.ts";
import { type ApiError, conflict, forbidden, notFound, type Subject } from "./status.ts";

const namespaces = "namespaces";
const keyOf = (name: string): ObjectKey => ({ resource: namespaces, namespace: "", name });

/** How far others' writes are known before a look at the store; what is seen then is no older. undefined = nobody can tell. */
export const seenSo = (core: Core): Revision | undefined => core.deps.followed?.revision();

/** A guard that goes with a write, and why it said no. */
export interface NamespaceGuard {
  readonly guard: Guard;
  /** Throws what it found, if that was why the write was refused. */
  readonly refuse: () => void;
}

/** Of an object that is to be made in a namespace which was there when this control plane had seen `since`. Also after `first` has said yes. */
export function stillThere(
  core: Core,
  namespace: string,
  subject: Subject,
  since: Revision | undefined,
  first: Guard | undefined,
): NamespaceGuard {
  let wrong: ApiError | undefined;
  return {
    guard: both(first, since, async () => {
      wrong = whyNotIn(await core.deps.store.get(keyOf(namespace)), namespace, subject);
      return wrong === undefined;
    }),
    refuse: () => {
      if (wrong !== undefined) throw wrong;
    },
  };
}

/** Why nothing can be made in a namespace, in Kubernetes' words; undefined = it can. */
export function whyNotIn(found: KubeObject | undefined, namespace: string, subject: Subject): ApiError | undefined {
  if (found === undefined) return notFound({ plural: namespaces, group: "", name: namespace });
  if (found.metadata.deletionTimestamp === undefined) return undefined;
  return forbidden(subject, `unable to create new content in namespace ${namespace} because it is being terminated`);
}

// Deleting everything inside, as Kubernetes does, would be a large act behind a small word; here it must be meant.
/** Throws 409 when something is in the namespace; the guard goes with its deletion. */
export async function emptied(core: Core, name: string): Promise<NamespaceGuard> {
  const { items, revision } = await core.deps.store.listAll();
  let wrong = whyNotEmpty(
    name,
    items.flatMap(({ key }) => (key.namespace === name && !isTransient(core, key.resource) ? [key] : [])),
  );
  const refuse = () => {
    if (wrong !== undefined) throw wrong;
  };
  refuse();
  return {
    guard: both(undefined, revision, async () => {
      wrong = whyNotEmpty(name, await inside(core, name));
      return wrong === undefined;
    }),
    refuse,
  };
}

/** For a transaction as a whole: what it makes in namespaces that went meanwhile, and namespaces it deletes that are not empty any more; by the object's key. */
export async function looseEnds(
  core: Core,
  changes: readonly StagedChange[],
): Promise<{ readonly key: ObjectKey; readonly why: ApiError }[]> {
  const found: { key: ObjectKey; why: ApiError }[] = [];
  const ends = new Map(changes.filter(({ key }) => key.resource === namespaces).map((change) => [change.key.name, change.after]));
  const there = new Map<string, KubeObject | undefined>();
  for (const { key, before, after } of changes) {
    if (key.resource === namespaces && before?.metadata.deletionTimestamp === undefined && isGoing(after)) {
      const gone = new Set(changes.filter((change) => change.after === undefined).map((change) => textOf(change.key)));
      const left = (await inside(core, key.name)).filter((each) => !gone.has(textOf(each)));
      const why = whyNotEmpty(key.name, left);
      if (why !== undefined) found.push({ key, why });
    }
    if (before !== undefined || after === undefined || key.namespace === "") continue;
    if (!ends.has(key.namespace) && !there.has(key.namespace)) there.set(key.namespace, await core.deps.store.get(keyOf(key.namespace)));
    const namespace = ends.has(key.namespace) ? ends.get(key.namespace) : there.get(key.namespace);
    const [plural = "", ...group] = key.resource.split(".");
    const why = whyNotIn(namespace, key.namespace, { plural, group: group.join("."), name: key.name });
    if (why !== undefined) found.push({ key, why });
  }
  return found;
}

/** `first`, then, where others have written behind `since`, `again`. Says yes at once when both can. */
export function both(first: Guard | undefined, since: Revision | undefined, again: () => Promise<boolean>): Guard {
  return (head) => {
    const second = () => (since !== undefined && head <= since ? true : again());
    const one = first?.(head) ?? true;
    if (typeof one === "boolean") return one && second();
    return one.then((good) => good && second());
  };
}

const isGoing = (object: KubeObject | undefined) => object === undefined || object.metadata.deletionTimestamp !== undefined;
const isTransient = (core: Core, resource: string) => core.registry.byResource(resource)?.transient === true;

/** By kind: in a large store that is far less to read than everything. */
async function inside(core: Core, namespace: string): Promise<ObjectKey[]> {
  const kinds = core.registry.kinds.filter((kind) => kind.namespaced && !kind.virtual && kind.transient !== true);
  const lists = await Promise.all(
    kinds.map(async (kind) => {
      const resource = resourceOf(kind);
      const { items } = await core.deps.store.list(resource, namespace);
      return items.map(({ metadata }): ObjectKey => ({ resource, namespace, name: metadata.name }));
    }),
  );
  return lists.flat();
}

function whyNotEmpty(name: string, keys: readonly ObjectKey[]): ApiError | undefined {
  if (keys.length === 0) return undefined;
  const byResource = new Map<string, string[]>();
  for (const key of keys) byResource.set(key.resource, [...(byResource.get(key.resource) ?? []), key.name]);
  const listed = [...byResource].map(([resource, names]) => {
    const more = names.length > 5 ? `, and ${names.length - 5} more` : "";
    return `${resource}: ${names.slice(0, 5).join(", ")}${more}`;
  });
  return conflict({ plural: namespaces, group: "", name }, `the namespace is not empty; delete what is in it first (${listed.join("; ")})`);
}

function textOf(key: ObjectKey): string {
  return `${key.resource}/${key.namespace}/${key.name}`;
}
