// Owns: what structured-merge-diff does to one or two objects under a schema: which fields there are, what differs, merging, taking away.
// Pure. Knows nothing of managers. The rules: https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy

import { isRecord, type Schema } from "../../api/schema.ts";
import { emptySet, type FieldSet, isEmpty, leafSet, makeSet } from "./set.ts";

/**
 * `leaf`: owned as a whole (scalars, atomic lists and maps). A list is atomic unless its schema says otherwise, a map is granular; what
 * has no schema is treated the same.
 */
type Form = "leaf" | "map" | "items";

function formOf(schema: Schema | undefined, value: unknown): Form {
  if (isRecord(value)) return schema?.mapType === "atomic" ? "leaf" : "map";
  if (!Array.isArray(value) || schema === undefined) return "leaf";
  if (schema.listType === "map") return value.every(isRecord) && distinct(value, schema) ? "items" : "leaf";
  if (schema.listType === "set") return !value.some((item) => typeof item === "object") && distinct(value, schema) ? "items" : "leaf";
  return "leaf";
}

// Two items with one key can only be told apart by owning the list as a whole; validation refuses them where it matters.
function distinct(list: readonly unknown[], schema: Schema): boolean {
  return new Set(list.map((item) => stepOf(schema, item))).size === list.length;
}

function isStructField(schema: Schema | undefined, name: string): boolean {
  return schema?.properties !== undefined && Object.hasOwn(schema.properties, name);
}

function fieldSchema(schema: Schema | undefined, name: string): Schema | undefined {
  return isStructField(schema, name) ? schema?.properties?.[name] : schema?.additionalProperties;
}

/** The step to an item: by its keys (a missing one by its default), or by the value itself. */
function stepOf(schema: Schema, item: unknown): string {
  if (!isRecord(item)) return `v:${JSON.stringify(item)}`;
  const key: Record<string, unknown> = {};
  for (const name of [...(schema.listMapKeys ?? [])].sort()) {
    const value = item[name] ?? schema.items?.properties?.[name]?.default;
    if (value !== undefined) key[name] = value;
  }
  return `k:${JSON.stringify(key)}`;
}

function stepsOf(schema: Schema | undefined, list: readonly unknown[]): Map<string, unknown> {
  return new Map(list.map((item) => [stepOf(schema ?? {}, item), item]));
}

function isBlank(value: unknown): boolean {
  return (
    value === null ||
    value === undefined ||
    (isRecord(value) && Object.keys(value).length === 0) ||
    (Array.isArray(value) && value.length === 0)
  );
}

/** The fields that a configuration speaks about: what an applier owns by it. */
export function fieldsOf(schema: Schema | undefined, value: unknown): FieldSet {
  const form = formOf(schema, value);
  if (form === "leaf") return leafSet;
  if (form === "items") {
    const items = [...stepsOf(schema, value as unknown[])];
    return makeSet(
      false,
      items.map(([step, item]) => [step, { ...fieldsBelow(schema?.items, item), self: true }] as const),
    );
  }
  return makeSet(
    false,
    Object.entries(value as Record<string, unknown>).map(([name, child]) => {
      const inner = fieldsOf(fieldSchema(schema, name), child);
      const self = inner.self || isBlank(child) || !isStructField(schema, name);
      return [`f:${name}`, Array.isArray(child) && child.length === 0 && !inner.self ? inner : { ...inner, self }] as const;
    }),
  );
}

function fieldsBelow(schema: Schema | undefined, item: unknown): FieldSet {
  return isRecord(item) ? fieldsOf(schema, item) : emptySet;
}

/** Every node: what is added, or removed, when the whole comes or goes. */
function everything(schema: Schema | undefined, value: unknown): FieldSet {
  const form = formOf(schema, value);
  if (form === "leaf") return leafSet;
  if (form === "items") {
    const items = [...stepsOf(schema, value as unknown[])];
    return {
      ...makeSet(
        true,
        items.map(([step, item]) => [step, everything(schema?.items, item)] as const),
      ),
      self: true,
    };
  }
  const entries = Object.entries(value as Record<string, unknown>);
  return makeSet(
    true,
    entries.map(([name, child]) => [`f:${name}`, everything(fieldSchema(schema, name), child)] as const),
  );
}

export interface Comparison {
  readonly added: FieldSet;
  readonly removed: FieldSet;
  readonly modified: FieldSet;
}

const nothing: Comparison = { added: emptySet, removed: emptySet, modified: emptySet };

/** What differs from `before` to `after`. */
export function compare(schema: Schema | undefined, before: unknown, after: unknown): Comparison {
  if (before === undefined) return after === undefined ? nothing : { ...nothing, added: everything(schema, after) };
  if (after === undefined) return { ...nothing, removed: everything(schema, before) };
  const form = formOf(schema, after);
  if (form === "leaf" || form !== formOf(schema, before) || (isBlank(before) && isBlank(after)))
    return Bun.deepEquals(before, after, true) ? nothing : { ...nothing, modified: leafSet };
  const [old, now] =
    form === "map"
      ? [namedSteps(before as Record<string, unknown>), namedSteps(after as Record<string, unknown>)]
      : [stepsOf(schema, before as unknown[]), stepsOf(schema, after as unknown[])];
  const parts: [string, Comparison][] = [];
  for (const step of new Set([...old.keys(), ...now.keys()])) {
    const below = form === "map" ? fieldSchema(schema, step.slice(2)) : schema?.items;
    parts.push([step, compare(below, old.get(step), now.get(step))]);
  }
  const gather = (which: keyof Comparison) =>
    makeSet(
      false,
      parts.map(([step, part]) => [step, part[which]] as const),
    );
  return { added: gather("added"), removed: gather("removed"), modified: gather("modified") };
}

function namedSteps(record: Record<string, unknown>): Map<string, unknown> {
  return new Map(Object.entries(record).map(([name, value]) => [`f:${name}`, value]));
}

/** `wanted` over `live`: leaves are replaced, maps and keyed lists merged. Shares parts with its arguments and changes neither. */
export function merge(schema: Schema | undefined, live: unknown, wanted: unknown): unknown {
  if (live === undefined) return wanted;
  if (wanted === undefined) return live;
  const form = formOf(schema, wanted);
  if (form === "leaf" || form !== formOf(schema, live)) return wanted;
  if (form === "items") return mergeItems(schema as Schema, live as unknown[], wanted as unknown[]);
  const out: Record<string, unknown> = { ...(live as Record<string, unknown>) };
  for (const [name, value] of Object.entries(wanted as Record<string, unknown>)) {
    out[name] = merge(fieldSchema(schema, name), Object.hasOwn(out, name) ? out[name] : undefined, value);
  }
  return out;
}

// The items of `wanted` in its order; those of others keep their place between them, before what is new, as far as that order lets them.
function mergeItems(schema: Schema, live: readonly unknown[], wanted: readonly unknown[]): unknown[] {
  const old = [...stepsOf(schema, live)];
  const now = [...stepsOf(schema, wanted)];
  const oldBy = new Map(old);
  const nowBy = new Map(now);
  const shared = now.map(([step]) => step).filter((step) => oldBy.has(step));
  const merged = new Set<string>();
  const out: unknown[] = [];
  let nextShared = 0;
  for (let at = 0, to = 0; at < old.length || to < now.length; ) {
    const left = old[at];
    if (left !== undefined) {
      const [step, item] = left;
      const ours = nowBy.has(step);
      const alike = to < now.length && now[to]![0] === step;
      if (!ours) out.push(item);
      // Shared, but not the next one in the order wanted: it comes with its counterpart, or has come.
      if (!ours || (!alike && (merged.has(step) || (to < now.length && shared[nextShared] !== step)))) {
        at++;
        continue;
      }
      if (alike) at++;
    }
    const right = now[to];
    if (right === undefined) continue;
    const [step, value] = right;
    to++;
    merged.add(step);
    if (shared[nextShared] === step) nextShared++;
    out.push(merge(schema.items, oldBy.get(step), value));
  }
  return out;
}

/**
 * Takes away what an applier owned by its last configuration (`last`) and nobody owns any more (`owned` holds everybody's fields, the new
 * configuration's among them). An item or field goes with all that is in it. undefined = the whole goes.
 */
export function prune(schema: Schema | undefined, value: unknown, last: FieldSet, owned: FieldSet): unknown {
  if (isEmpty(last)) return value;
  const form = formOf(schema, value);
  if (form === "leaf") return value;
  if (form === "map") {
    const out: Record<string, unknown> = {};
    for (const [name, child] of Object.entries(value as Record<string, unknown>)) {
      const struct = isStructField(schema, name);
      const kept = pruneChild(fieldSchema(schema, name), child, last.children.get(`f:${name}`), owned.children.get(`f:${name}`), struct);
      if (kept !== undefined) out[name] = kept;
    }
    return out;
  }
  const out: unknown[] = [];
  for (const [step, item] of stepsOf(schema, value as unknown[])) {
    const kept = pruneChild(schema?.items, item, last.children.get(step), owned.children.get(step), false);
    if (kept !== undefined) out.push(kept);
  }
  return out;
}

function pruneChild(
  schema: Schema | undefined,
  value: unknown,
  last: FieldSet | undefined,
  owned: FieldSet | undefined,
  struct: boolean,
): unknown {
  if (last === undefined) return value;
  // A named field of a struct counts as owned with anything in it; an item or a map's key by itself alone.
  const member = (set: FieldSet | undefined) => set !== undefined && (set.self || (struct && set.children.size > 0));
  if (member(last) && !member(owned)) return undefined;
  return prune(schema, value, last, owned ?? emptySet);
}
