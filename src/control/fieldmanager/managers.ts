// Owns: who manages which fields of an object (metadata.managedFields): tracking ordinary writes, and server-side apply with its conflicts.
// Pure: no clock, no store. https://kubernetes.io/docs/reference/using-api/server-side-apply/

import type { KubeObject } from "../../api/meta.ts";
import { isRecord, type Schema } from "../../api/schema.ts";
import { difference, emptySet, type FieldSet, fromFieldsV1, intersection, isEmpty, pathsOf, sameSet, toFieldsV1, union } from "./set.ts";
import { compare, fieldsOf, merge, prune } from "./typed.ts";

export type Operation = "Apply" | "Update";

/** An entry of metadata.managedFields. */
export interface ManagedFieldsEntry {
  readonly manager: string;
  readonly operation: Operation;
  readonly apiVersion: string;
  readonly time: string;
  readonly fieldsType: "FieldsV1";
  readonly fieldsV1: Record<string, unknown>;
  readonly subresource?: string;
}

export interface Conflict {
  readonly manager: ManagedFieldsEntry;
  /** `.spec.ports[port=80,protocol="TCP"].targetPort` */
  readonly path: string;
}

export interface Writer {
  readonly manager: string;
  readonly apiVersion: string;
  /** Empty for the object itself. */
  readonly subresource: string;
  /** RFC 3339. */
  readonly now: string;
}

/** Kubernetes' limit: the oldest of more entries than these by ordinary writes are told together. */
export const maxUpdateManagers = 10;
const ancient = "ancient-changes";
const beforeFirstApply = "before-first-apply";

interface Managed {
  readonly entry: ManagedFieldsEntry;
  readonly set: FieldSet;
}

type Managers = Map<string, Managed>;

function idOf(entry: Pick<ManagedFieldsEntry, "manager" | "operation" | "subresource" | "apiVersion">): string {
  // An applier is the same whatever version it speaks.
  return JSON.stringify([entry.manager, entry.operation, entry.subresource ?? "", entry.operation === "Apply" ? "" : entry.apiVersion]);
}

/** undefined when it is nothing that a server wrote: then what the object had before is believed. */
function decode(managedFields: readonly unknown[] | undefined): Managers | undefined {
  const out: Managers = new Map();
  for (const each of managedFields ?? []) {
    if (!isRecord(each)) return undefined;
    const { manager, operation, apiVersion, fieldsV1, time, subresource } = each;
    const set = fromFieldsV1(fieldsV1 ?? {});
    if (typeof manager !== "string" || typeof apiVersion !== "string" || set === undefined) return undefined;
    if (operation !== "Apply" && operation !== "Update") return undefined;
    const entry: ManagedFieldsEntry = {
      manager,
      operation,
      apiVersion,
      time: typeof time === "string" ? time : "1970-01-01T00:00:00Z",
      fieldsType: "FieldsV1",
      fieldsV1: fieldsV1 as Record<string, unknown>,
      ...(typeof subresource === "string" && subresource !== "" && { subresource }),
    };
    const before = out.get(idOf(entry));
    out.set(idOf(entry), before === undefined ? { entry, set } : { entry, set: union(before.set, set) });
  }
  return out;
}

/** Entries as they are stored: appliers first, then by time; within both by name. */
function encode(managers: Managers): ManagedFieldsEntry[] {
  const entries = [...managers.values()]
    .filter(({ set }) => !isEmpty(set))
    .map(({ entry, set }) => ({ ...entry, fieldsV1: toFieldsV1(set) }));
  const text = (entry: ManagedFieldsEntry) =>
    [entry.operation, entry.operation === "Apply" ? "" : entry.time, entry.manager, entry.subresource ?? ""].join("\u0000");
  return entries.sort((a, b) => (text(a) < text(b) ? -1 : 1));
}

const untracked = [
  "name",
  "namespace",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "selfLink",
  "uid",
  "generation",
  "managedFields",
  "resourceVersion",
];

/** What of an object can have a manager, as this endpoint sees it: without identity, and without what the endpoint does not write. */
function trackable(object: KubeObject, hasStatus: boolean, subresource: string): Record<string, unknown> {
  if (subresource === "status") return object.status === undefined ? {} : { status: object.status };
  const { apiVersion: _version, kind: _kind, metadata, status, ...rest } = object;
  const kept: Record<string, unknown> = { ...metadata };
  for (const name of untracked) delete kept[name];
  return {
    ...rest,
    ...(Object.keys(kept).length > 0 && { metadata: kept }),
    ...(!hasStatus && status !== undefined && { status }),
  };
}

// `metadata` itself has no manager: every object has it.
function withoutRoots(set: FieldSet): FieldSet {
  const metadata = set.children.get("f:metadata");
  if (metadata?.self !== true) return set;
  const children = new Map(set.children);
  if (metadata.children.size > 0) children.set("f:metadata", { ...metadata, self: false });
  else children.delete("f:metadata");
  return { self: false, children };
}

function newEntry(writer: Writer, operation: Operation): ManagedFieldsEntry {
  const { manager, apiVersion, subresource, now } = writer;
  return { manager, operation, apiVersion, time: now, fieldsType: "FieldsV1", fieldsV1: {}, ...(subresource !== "" && { subresource }) };
}

interface Endpoint {
  readonly schema: Schema | undefined;
  readonly hasStatus: boolean;
  /** The kind's own: what is filled in where an object does not say it. */
  readonly applyDefaults?: (object: KubeObject) => void;
  readonly writer: Writer;
}

/** What others own of `changed`, taken from them; with it the conflicts. */
function yieldTo(
  managers: Managers,
  self: string,
  changed: FieldSet,
  removed: FieldSet,
): { readonly conflicts: Conflict[]; readonly left: Managers } {
  const conflicts: Conflict[] = [];
  const left: Managers = new Map();
  for (const [id, managed] of managers) {
    if (id === self) {
      left.set(id, managed);
      continue;
    }
    const taken = intersection(managed.set, changed);
    for (const path of pathsOf(taken)) conflicts.push({ manager: managed.entry, path });
    const set = difference(difference(managed.set, taken), removed);
    if (!isEmpty(set)) left.set(id, { entry: managed.entry, set });
  }
  return { conflicts, left };
}

/**
 * managedFields after an ordinary write (create, update, patch): the writer owns what it added or changed, whoever had it before.
 * `sent` is what the client says of managedFields: it may give fields up, or clear all with `[{}]`; nonsense is ignored.
 * undefined = the object is not tracked (it was stored before there was tracking, and nobody has applied it).
 */
export function afterUpdate(
  endpoint: Endpoint,
  live: KubeObject | undefined,
  next: KubeObject,
  sent: readonly unknown[] | undefined,
): readonly ManagedFieldsEntry[] | undefined {
  const { schema, hasStatus, writer } = endpoint;
  const reset = sent?.length === 1 && isRecord(sent[0]) && Object.keys(sent[0]).length === 0;
  if (reset) return [];
  const had = live?.metadata.managedFields;
  const managers = (sent !== undefined && sent.length > 0 ? decode(sent) : undefined) ?? decode(had) ?? new Map<string, Managed>();
  if (live !== undefined && managers.size === 0) return undefined;
  const before = live === undefined ? {} : trackable(live, hasStatus, writer.subresource);
  const changes = compare(schema, before, trackable(next, hasStatus, writer.subresource));
  const changed = withoutRoots(union(changes.added, changes.modified));
  const entry = newEntry(writer, "Update");
  const self = idOf(entry);
  const { left } = yieldTo(managers, self, changed, changes.removed);
  const mine = left.get(self);
  const set = union(difference(mine?.set ?? emptySet, changes.removed), changed);
  if (isEmpty(set)) left.delete(self);
  else left.set(self, { entry: mine !== undefined && sameSet(mine.set, set) ? mine.entry : entry, set });
  capUpdates(left);
  return encode(left);
}

function capUpdates(managers: Managers): void {
  const updates = [...managers]
    .filter(([, { entry }]) => entry.operation === "Update")
    .sort(([, a], [, b]) => (a.entry.time < b.entry.time ? -1 : 1));
  for (const [id, managed] of updates.slice(0, Math.max(0, updates.length - maxUpdateManagers))) {
    managers.delete(id);
    const { subresource: _, ...entry } = managed.entry;
    const together = { ...entry, manager: ancient };
    const before = managers.get(idOf(together));
    managers.set(idOf(together), { entry: together, set: union(before?.set ?? emptySet, managed.set) });
  }
}

export type Applied =
  | { readonly ok: true; readonly object: KubeObject; readonly managedFields: readonly ManagedFieldsEntry[] }
  | { readonly ok: false; readonly conflicts: readonly Conflict[] };

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration";

/**
 * Server-side apply of `config` on `live` (undefined = there is none yet). `object` is the outcome before defaults; its identity is
 * `live`'s or the configuration's. `force` takes fields from whoever has them.
 */
export function apply(endpoint: Endpoint, live: KubeObject | undefined, config: KubeObject, force: boolean): Applied {
  const first = applyOnce(endpoint, live, config, force);
  if (first.ok || endpoint.writer.manager !== "kubectl" || live === undefined) return first;
  // kubectl moving from its client-side apply: what its annotation says it had applied is its own.
  const own = new Set(pathsOf(fieldsInAnnotation(endpoint, live)));
  const foreign = first.conflicts.filter(({ path }) => !own.has(path));
  return foreign.length > 0 ? { ok: false, conflicts: foreign } : applyOnce(endpoint, live, config, true);
}

function fieldsInAnnotation({ schema, hasStatus, writer }: Endpoint, live: KubeObject): FieldSet {
  try {
    const said = JSON.parse(live.metadata.annotations?.[lastApplied] ?? "null") as unknown;
    if (isRecord(said) && isRecord(said.metadata)) return fieldsOf(schema, trackable(said as KubeObject, hasStatus, writer.subresource));
  } catch {
    // Somebody else's words in that annotation: nothing is known to be kubectl's.
  }
  return emptySet;
}

function applyOnce(endpoint: Endpoint, live: KubeObject | undefined, config: KubeObject, force: boolean): Applied {
  const { schema, hasStatus, writer } = endpoint;
  const managers = decode(live?.metadata.managedFields) ?? new Map<string, Managed>();
  const there = live === undefined ? {} : trackable(live, hasStatus, writer.subresource);
  if (live !== undefined && managers.size === 0) {
    const entry = newEntry({ ...writer, manager: beforeFirstApply, now: live.metadata.creationTimestamp ?? writer.now }, "Update");
    managers.set(idOf(entry), { entry, set: withoutRoots(fieldsOf(schema, there)) });
  }
  const wanted = trackable(config, hasStatus, writer.subresource);
  const entry = newEntry(writer, "Apply");
  const self = idOf(entry);
  const mine = managers.get(self);
  const set = withoutRoots(fieldsOf(schema, wanted));
  managers.set(self, { entry: mine !== undefined && sameSet(mine.set, set) ? mine.entry : entry, set });

  let outcome = merge(schema, there, wanted);
  if (mine !== undefined) {
    const owned = [...managers.values()].reduce((all, managed) => union(all, managed.set), emptySet);
    outcome = prune(schema, outcome, mine.set, owned);
  }
  const changes = compare(schema, there, filledIn(endpoint, outcome));
  const { conflicts, left } = yieldTo(managers, self, union(changes.added, changes.modified), changes.removed);
  if (conflicts.length > 0 && !force) return { ok: false, conflicts };
  return {
    ok: true,
    object: assemble(live ?? config, outcome as Record<string, unknown>, writer.subresource),
    managedFields: encode(left),
  };
}

/** A copy with what the kind fills in: a list that was applied without its defaults says the same as the one that has them, and is no change. */
function filledIn({ applyDefaults, writer }: Endpoint, outcome: unknown): unknown {
  if (applyDefaults === undefined || writer.subresource !== "" || !isRecord(outcome)) return outcome;
  const copy = structuredClone(outcome);
  applyDefaults(copy as unknown as KubeObject);
  return copy;
}

/** `outcome` with the identity and the untracked part of `base`. */
function assemble(base: KubeObject, outcome: Record<string, unknown>, subresource: string): KubeObject {
  if (subresource === "status") {
    const { status: _, ...rest } = base;
    return { ...rest, ...outcome } as KubeObject;
  }
  const metadata: Record<string, unknown> = {};
  for (const name of untracked) {
    const value = (base.metadata as unknown as Record<string, unknown>)[name];
    if (value !== undefined) metadata[name] = value;
  }
  const own = isRecord(outcome.metadata) ? outcome.metadata : {};
  return {
    ...(base.status !== undefined && { status: base.status }),
    ...outcome,
    apiVersion: base.apiVersion,
    kind: base.kind,
    metadata: { ...metadata, ...own } as unknown as KubeObject["metadata"],
  };
}

/** The sentence that kubectl prints. */
export function conflictMessage(conflicts: readonly Conflict[]): string {
  const [only] = conflicts;
  if (only !== undefined && conflicts.length === 1)
    return `Apply failed with 1 conflict: conflict with ${managerWords(only.manager)}: ${only.path}`;
  const byManager = Map.groupBy(conflicts, ({ manager }) => managerWords(manager));
  const lines = [...byManager]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([manager, list]) => [`conflicts with ${manager}:`, ...list.map(({ path }) => `- ${path}`)]);
  return `Apply failed with ${conflicts.length} conflicts: ${lines.join("\n")}`;
}

/** `"kubectl-edit" using v1`; an applier by its name alone. */
export function managerWords(entry: ManagedFieldsEntry): string {
  const subresource = entry.subresource === undefined ? "" : ` with subresource ${JSON.stringify(entry.subresource)}`;
  return `${JSON.stringify(entry.manager)}${subresource}${entry.operation === "Update" ? ` using ${entry.apiVersion}` : ""}`;
}
