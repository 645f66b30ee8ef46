// Owns: what the server does to an object of its own: identity, generation, the version it is shown in, what clients may not set.
// Never judges fields: that is the kind's `validate`.

import type { KindDefinition, KubeObject, ObjectMeta } from "../../api/meta.ts";
import { isRecord } from "./body.ts";
import { apiVersionOf } from "./registry.ts";
import { badRequest } from "./status.ts";

/** The object in the version it was asked for. All versions of a kind have the same shape. */
export function shownAs(kind: KindDefinition, version: string, object: KubeObject): KubeObject {
  return { ...object, apiVersion: apiVersionOf(kind.group, version), kind: kind.kind };
}

/** Checks that the body is an object of the kind in the path (typed clients leave apiVersion and kind out). Throws 400. Returns a copy in the stored version. */
export function decodeObject(kind: KindDefinition, version: string, data: unknown): KubeObject {
  if (data === undefined) throw badRequest("the body is empty; it must be the object");
  if (!isRecord(data)) throw badRequest("the body is not an object");
  const expected = apiVersionOf(kind.group, version);
  if ((data.apiVersion ?? expected) !== expected) {
    throw badRequest(`the object's apiVersion is ${JSON.stringify(data.apiVersion)}, but the path says ${JSON.stringify(expected)}`);
  }
  if ((data.kind ?? kind.kind) !== kind.kind)
    throw badRequest(`the object's kind is ${JSON.stringify(data.kind)}, but the path says ${JSON.stringify(kind.kind)}`);
  if (!isRecord(data.metadata)) throw badRequest("the object has no metadata");
  const clean = withoutNulls(data) as Record<string, unknown>;
  return {
    ...clean,
    apiVersion: apiVersionOf(kind.group, kind.versions[0] ?? version),
    kind: kind.kind,
    metadata: clean.metadata as ObjectMeta,
  };
}

// null is how Kubernetes clients write an absent field; kept, it would count as a change.
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (!isRecord(value)) return value;
  const out: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value)) if (item !== null) out[name] = withoutNulls(item);
  return out;
}

/** Fields of metadata that are the server's: what a client sends in them is dropped. `managedFields` would serve server-side apply. */
const serverFields = [
  "uid",
  "generation",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "selfLink",
  "managedFields",
  "resourceVersion",
] as const;

/** Drops what clients may not set; removes empty maps and lists, so that they do not look like changes. */
export function withoutServerFields(metadata: ObjectMeta): ObjectMeta {
  const clean: Record<string, unknown> = { ...metadata };
  for (const field of serverFields) delete clean[field];
  for (const [name, value] of Object.entries(clean)) {
    if ((Array.isArray(value) && value.length === 0) || (isRecord(value) && Object.keys(value).length === 0)) delete clean[name];
  }
  return clean as unknown as ObjectMeta;
}

/** The metadata of a new object. */
export function newMetadata(metadata: ObjectMeta, uid: string, nowMs: number): ObjectMeta {
  const { name, namespace, generateName, ...rest } = withoutServerFields(metadata);
  return {
    name,
    ...(generateName !== undefined && { generateName }),
    ...(namespace !== undefined && { namespace }),
    uid,
    generation: 1,
    creationTimestamp: timestamp(nowMs),
    ...rest,
  };
}

/** The metadata of a changed object: the server's fields stay, the client's are taken. `generation` is set by `withGeneration`. */
export function changedMetadata(metadata: ObjectMeta, existing: ObjectMeta): ObjectMeta {
  const { name: _name, namespace: _namespace, generateName: _generateName, ...rest } = withoutServerFields(metadata);
  const { uid, generation, creationTimestamp, deletionTimestamp } = existing;
  return {
    name: existing.name,
    ...(existing.generateName !== undefined && { generateName: existing.generateName }),
    ...(existing.namespace !== undefined && { namespace: existing.namespace }),
    ...(uid !== undefined && { uid }),
    ...(generation !== undefined && { generation }),
    ...(creationTimestamp !== undefined && { creationTimestamp }),
    ...(deletionTimestamp !== undefined && { deletionTimestamp }),
    ...rest,
  };
}

/** Grows `generation` when anything but metadata and status differs. */
export function withGeneration(candidate: KubeObject, existing: KubeObject): KubeObject {
  const same = Bun.deepEquals(contentOf(candidate), contentOf(existing), true);
  const generation = (existing.metadata.generation ?? 1) + (same ? 0 : 1);
  return { ...candidate, metadata: { ...candidate.metadata, generation } };
}

function contentOf(object: KubeObject): Record<string, unknown> {
  const { metadata: _metadata, status: _status, ...content } = object;
  return content;
}

/** Nothing differs but the revision: storing it would wake every watcher for nothing. */
export function sameObject(candidate: KubeObject, existing: KubeObject): boolean {
  const { resourceVersion: _, ...metadata } = existing.metadata;
  const { resourceVersion: _also, ...candidateMetadata } = candidate.metadata;
  return Bun.deepEquals({ ...candidate, metadata: candidateMetadata }, { ...existing, metadata }, true);
}

/** RFC 3339 in whole seconds, as Kubernetes has it. */
export function timestamp(nowMs: number): string {
  return `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
}

/** A random (version 4) UUID. */
export function makeUid(random: (bytes: Uint8Array<ArrayBuffer>) => void): string {
  const bytes = new Uint8Array(16);
  random(bytes);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Buffer.from(bytes).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

// Without vowels and look-alikes, as Kubernetes' generator.
const suffixLetters = "bcdfghjklmnpqrstvwxz2456789";

/** `generateName` plus five random letters; the prefix is cut so that the whole fits a DNS label. */
export function generatedName(prefix: string, random: (bytes: Uint8Array<ArrayBuffer>) => void): string {
  const bytes = new Uint8Array(5);
  random(bytes);
  let suffix = "";
  for (const byte of bytes) suffix += suffixLetters[byte % suffixLetters.length];
  return prefix.slice(0, 63 - suffix.length) + suffix;
}
