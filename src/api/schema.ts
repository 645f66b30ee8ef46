// Owns: strict structural validation of outside data against a published schema (the OpenAPI subset that Kubernetes CRDs use).
// Never knows a kind: what a kind leaves unimplemented comes in as a table. Unknown fields are violations, never dropped.

import type { Violation } from "./meta.ts";

/** The keywords of OpenAPI v3 structural schemas that the published kinds use. */
export interface Schema {
  /** `any`: whatever it is, it is kept and not looked into. */
  readonly type?: "object" | "array" | "string" | "integer" | "boolean" | "int-or-string" | "any";
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly required?: readonly string[];
  readonly default?: unknown;
  /** What the field means, with unit and default, for `kubectl explain`. Published kinds have theirs in schemas/words.json and control/apiserver/field-words.ts. */
  readonly description?: string;
  /** `x-kubernetes-list-type`; absent = atomic: the list has one owner in server-side apply. */
  readonly listType?: "atomic" | "set" | "map";
  /** `x-kubernetes-list-map-keys`: the fields that tell items of a `map` list apart. */
  readonly listMapKeys?: readonly string[];
  /** `x-kubernetes-map-type`; absent = granular: each key has its own owner. */
  readonly mapType?: "atomic" | "granular";
}

/**
 * What the standard has and this version of Weft does not enforce: refused, so that nobody believes in it.
 * Keys are generic paths: `spec.rules[].filters[].requestMirror`, or with one value of an enum, `spec.action=CUSTOM`.
 * The text is the way out; empty = none but to remove the field.
 */
export type Unimplemented = Readonly<Record<string, string>>;

export interface WalkResult {
  readonly violations: readonly Violation[];
  /** Types and required fields are right, so that code may read the object as its type says even if `violations` is not empty. */
  readonly shapeOk: boolean;
}

/** The complete list of structural violations of `value` at `path`. null counts as absent, as Kubernetes has it for optional fields. */
export function walkSchema(schema: Schema, value: unknown, path: string, unimplemented: Unimplemented): WalkResult {
  const walk: Walk = { violations: [], shapeOk: true, unimplemented };
  visit(walk, schema, value, path, path);
  return walk;
}

interface Walk {
  violations: Violation[];
  shapeOk: boolean;
  readonly unimplemented: Unimplemented;
}

function visit(walk: Walk, schema: Schema, value: unknown, path: string, generic: string): void {
  if (schema.type === "any") return;
  const add = (message: string) => walk.violations.push({ path, message });
  const problem = typeProblem(schema, value);
  if (problem !== undefined) {
    walk.shapeOk = false;
    add(`${problem}, got ${show(value)}`);
    return;
  }
  const left = typeof value === "string" ? unimplementedAt(walk, `${generic}=${value}`) : undefined;
  if (left !== undefined) add(notImplemented(`value ${show(value)}`, left));
  else if (schema.enum !== undefined && !schema.enum.includes(value))
    add(`must be one of ${schema.enum.map(show).join(", ")}, got ${show(value)}${suggest(String(value), schema.enum.map(String))}`);
  if (typeof value === "string") checkString(schema, value, add);
  else if (typeof value === "number") checkNumber(schema, value, add);
  else if (Array.isArray(value)) {
    if (schema.minItems !== undefined && value.length < schema.minItems)
      add(`must have at least ${schema.minItems} items, has ${value.length}`);
    if (schema.maxItems !== undefined && value.length > schema.maxItems)
      add(`must have at most ${schema.maxItems} items, has ${value.length}`);
    const items = schema.items;
    if (items !== undefined) for (const [at, item] of value.entries()) visit(walk, items, item, `${path}[${at}]`, `${generic}[]`);
  } else if (isRecord(value)) visitObject(walk, schema, value, path, generic);
}

function visitObject(walk: Walk, schema: Schema, value: Record<string, unknown>, path: string, generic: string): void {
  const known = schema.properties ?? {};
  for (const name of schema.required ?? []) {
    if (value[name] !== undefined && value[name] !== null) continue;
    walk.shapeOk = false;
    walk.violations.push({ path: join(path, name), message: "is required" });
  }
  for (const [name, child] of Object.entries(value)) {
    const at = join(path, name);
    const genericAt = join(generic, name);
    const left = unimplementedAt(walk, genericAt);
    if (left !== undefined) {
      if (child !== null && child !== undefined) walk.violations.push({ path: at, message: notImplemented(`field "${name}"`, left) });
      continue;
    }
    const property = Object.hasOwn(known, name) ? known[name] : undefined;
    if (property !== undefined) {
      if (child !== null && child !== undefined) visit(walk, property, child, at, genericAt);
    } else if (schema.additionalProperties !== undefined) {
      visit(walk, schema.additionalProperties, child, at, `${generic}{}`);
    } else if (schema.properties !== undefined || schema.type !== "object") {
      walk.violations.push({ path: at, message: `unknown field "${name}"${suggest(name, Object.keys(known))}` });
    }
  }
}

/** Own properties only: a field named `constructor` must not find Object's. */
function unimplementedAt(walk: Walk, key: string): string | undefined {
  return Object.hasOwn(walk.unimplemented, key) ? walk.unimplemented[key] : undefined;
}

function typeProblem(schema: Schema, value: unknown): string | undefined {
  switch (schema.type ?? "object") {
    case "object":
      return isRecord(value) ? undefined : "must be an object";
    case "array":
      return Array.isArray(value) ? undefined : "must be a list";
    case "string":
      return typeof value === "string"
        ? undefined
        : `must be a string${typeof value === "number" || typeof value === "boolean" ? " (quote it in YAML)" : ""}`;
    case "integer":
      return Number.isSafeInteger(value) ? undefined : "must be a whole number";
    case "boolean":
      return typeof value === "boolean" ? undefined : "must be true or false";
    case "any":
      return undefined;
    case "int-or-string":
      return Number.isSafeInteger(value) || typeof value === "string" ? undefined : "must be a whole number or a string";
  }
}

function checkString(schema: Schema, value: string, add: (message: string) => void): void {
  if (schema.minLength !== undefined && value.length < schema.minLength)
    add(schema.minLength === 1 ? "must not be empty" : `must have at least ${schema.minLength} characters, has ${value.length}`);
  else if (schema.maxLength !== undefined && value.length > schema.maxLength)
    add(`must have at most ${schema.maxLength} characters, has ${value.length}`);
  else if (schema.pattern !== undefined && !compiled(schema.pattern).test(value)) add(`${show(value)} does not match ${schema.pattern}`);
}

function checkNumber(schema: Schema, value: number, add: (message: string) => void): void {
  if (schema.minimum !== undefined && value < schema.minimum) add(`must be at least ${schema.minimum}, got ${value}`);
  if (schema.maximum !== undefined && value > schema.maximum) add(`must be at most ${schema.maximum}, got ${value}`);
}

/** Bounded by the number of distinct patterns in the published schemas, which is fixed. */
const patterns = new Map<string, RegExp>();

function compiled(pattern: string): RegExp {
  let found = patterns.get(pattern);
  if (found === undefined) {
    found = new RegExp(pattern);
    patterns.set(pattern, found);
  }
  return found;
}

/** Takes out, in place, the fields that neither the schema nor `unimplemented` knows. Returns their paths as Kubernetes writes them. */
export function dropUnknown(schema: Schema, value: unknown, unimplemented: Unimplemented, path = "", generic = ""): string[] {
  if (Array.isArray(value)) {
    const items = schema.items;
    return items === undefined
      ? []
      : value.flatMap((item, at) => dropUnknown(items, item, unimplemented, `${path}[${at}]`, `${generic}[]`));
  }
  if (!isRecord(value) || schema.type === "any" || (schema.properties === undefined && schema.additionalProperties === undefined))
    return [];
  const dropped: string[] = [];
  for (const [name, child] of Object.entries(value)) {
    const at = join(path, name);
    const genericAt = join(generic, name);
    const known =
      schema.properties !== undefined && Object.hasOwn(schema.properties, name) ? schema.properties[name] : schema.additionalProperties;
    if (known !== undefined) dropped.push(...dropUnknown(known, child, unimplemented, at, genericAt));
    else if (!Object.hasOwn(unimplemented, genericAt)) {
      delete value[name];
      dropped.push(at);
    }
  }
  return dropped;
}

/** Fills in the schema's defaults in place and drops nulls, as the Kubernetes API server does. Silent about wrong types: `walkSchema` names them. */
export function fillDefaults(schema: Schema, value: unknown): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined) for (const item of value) fillDefaults(schema.items, item);
    return;
  }
  if (!isRecord(value)) return;
  for (const name of Object.keys(value)) if (value[name] === null) delete value[name];
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (value[name] === undefined && property.default !== undefined) value[name] = structuredClone(property.default);
    if (value[name] !== undefined) fillDefaults(property, value[name]);
  }
  if (schema.additionalProperties !== undefined) {
    for (const [name, child] of Object.entries(value))
      if (!Object.hasOwn(schema.properties ?? {}, name)) fillDefaults(schema.additionalProperties, child);
  }
}

/** A copy of `schema` with more properties at a generic path (`rules[].filters[]`): fields that the standard has got since the schema was published. */
export function extendSchema(schema: Schema, path: string, properties: Readonly<Record<string, Schema>>): Schema {
  if (path === "") return { ...schema, properties: { ...schema.properties, ...properties } };
  const [head = "", ...rest] = path.split(".");
  const remaining = rest.join(".");
  const name = head.replaceAll("[]", "");
  const child = schema.properties?.[name];
  if (child === undefined) throw new Error(`schema has no property ${name}`);
  const extended = head.endsWith("[]")
    ? { ...child, items: extendSchema(child.items ?? {}, remaining, properties) }
    : extendSchema(child, remaining, properties);
  return { ...schema, properties: { ...schema.properties, [name]: extended } };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The words for a part of the standard that is not built; one place, so that users can search for them. */
export function notImplemented(what: string, wayOut: string): string {
  return `${what} is not implemented by this version of Weft, and is refused rather than ignored${wayOut === "" ? "" : `: ${wayOut}`}`;
}

/** `; did you mean "x"?` when one of `known` is close to `name`, else an empty string. */
export function suggest(name: string, known: readonly string[]): string {
  let best: string | undefined;
  let bestDistance = Math.min(3, Math.ceil(name.length / 3) + 1);
  for (const candidate of known) {
    const distance = candidate.toLowerCase() === name.toLowerCase() ? 0 : editDistance(name, candidate);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best === undefined ? "" : `; did you mean "${best}"?`;
}

function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 3) return 4;
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}

function join(path: string, name: string): string {
  const plain = /^[A-Za-z0-9_-]+$/.test(name);
  if (path === "") return plain ? name : `["${name}"]`;
  return plain ? `${path}.${name}` : `${path}["${name}"]`;
}

/** The value as a user would recognise it, cut short. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
