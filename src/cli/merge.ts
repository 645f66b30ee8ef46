// Owns: what `apply` changes: a three-way merge as kubectl's, out of what was applied last, what is wanted and what is there. Pure.
// The memory is kubectl's own annotation, so that both tools can be used on one object in turn.

import type { KubeObject } from "../api/meta.ts";

export const lastAppliedAnnotation = "kubectl.kubernetes.io/last-applied-configuration";

type Json = unknown;
type Tree = Record<string, Json>;

/** The manifest as it is remembered: without status and what only the server writes, as one line of JSON. */
export function remembered(manifest: KubeObject, namespace: string | undefined): KubeObject {
  const { status: _status, ...rest } = manifest;
  const { uid: _u, resourceVersion: _r, generation: _g, creationTimestamp: _c, managedFields: _m, ...metadata } = manifest.metadata;
  const annotations = { ...metadata.annotations };
  delete annotations[lastAppliedAnnotation];
  const kept: KubeObject = { ...rest, apiVersion: manifest.apiVersion, kind: manifest.kind, metadata: { ...metadata } };
  if (Object.keys(annotations).length > 0) kept.metadata.annotations = annotations;
  else delete kept.metadata.annotations;
  if (namespace !== undefined) kept.metadata.namespace = namespace;
  return kept;
}

/** What to create when nothing is there. */
export function withMemory(wanted: KubeObject): KubeObject {
  const annotations = { ...wanted.metadata.annotations, [lastAppliedAnnotation]: `${JSON.stringify(wanted)}\n` };
  return { ...wanted, metadata: { ...wanted.metadata, annotations } };
}

/** A JSON merge patch (RFC 7396) that brings `live` to `wanted` and removes what was applied last and is wanted no more; undefined: nothing to do. */
export function threeWay(live: KubeObject, wanted: KubeObject): Tree | undefined {
  const memory = live.metadata.annotations?.[lastAppliedAnnotation];
  let last: Tree = {};
  try {
    if (memory !== undefined) last = JSON.parse(memory) as Tree;
  } catch {
    // Someone wrote rubbish into the annotation: then nothing is known to be ours to delete.
  }
  const patch = changes(live, wanted as unknown as Tree, last);
  // Labels and annotations one by one, also when the file has none left: others' stay, and so does the memory, which is one of them.
  const { metadata } = wanted;
  const all = { ...wanted, metadata: { ...metadata, labels: metadata.labels ?? {}, annotations: metadata.annotations ?? {} } };
  mergeInto(patch, removals(last, all as unknown as Tree, live));
  delete patch.apiVersion; // the same object is served under several versions
  if (Object.keys(patch).length === 0 && memory !== undefined && same(last, wanted)) return undefined;
  if (Object.keys(patch).length === 0 && memory === undefined) {
    // First apply of an object made otherwise: only the memory is new.
    return { metadata: { annotations: { [lastAppliedAnnotation]: `${JSON.stringify(wanted)}\n` } } };
  }
  mergeInto(patch, { metadata: { annotations: { [lastAppliedAnnotation]: `${JSON.stringify(wanted)}\n` } } });
  return patch;
}

/** True when `patch` touches nothing but the memory. */
export function onlyMemory(patch: Tree): boolean {
  const metadata = patch.metadata;
  if (Object.keys(patch).length !== 1 || !isTree(metadata) || Object.keys(metadata).length !== 1) return false;
  const annotations = metadata.annotations;
  return isTree(annotations) && Object.keys(annotations).every((key) => key === lastAppliedAnnotation);
}

/** Additions and changes from `live` to `wanted`; lists are replaced whole, as RFC 7396 has it. */
function changes(live: Tree, wanted: Tree, last: Json): Tree {
  const patch: Tree = {};
  for (const [key, value] of Object.entries(wanted)) {
    const now = live[key];
    const before = isTree(last) ? last[key] : undefined;
    if (isTree(value) && isTree(now)) {
      const inner = changes(now, value, before);
      if (Object.keys(inner).length > 0) patch[key] = inner;
    } else if (Array.isArray(value) && Array.isArray(now)) {
      // Server defaults inside a list's items are no change, but only memory can tell them from a field that the user took out.
      if (!same(now, value) && !(same(before, value) && covers(now, value))) patch[key] = value;
    } else if (!same(now, value)) patch[key] = value;
  }
  return patch;
}

/** A live list that only adds server defaults to the wanted one is no change; without this each apply of a list would be one. */
function covers(live: Json, wanted: Json): boolean {
  if (Array.isArray(wanted))
    return Array.isArray(live) && live.length === wanted.length && wanted.every((item, i) => covers(live[i], item));
  if (isTree(wanted)) return isTree(live) && Object.entries(wanted).every(([key, value]) => covers(live[key], value));
  return same(live, wanted);
}

function removals(last: Tree, wanted: Tree, live: Tree): Tree {
  const patch: Tree = {};
  for (const [key, before] of Object.entries(last)) {
    const now = live[key];
    if (now === undefined) continue;
    if (!(key in wanted)) patch[key] = null;
    else if (isTree(before) && isTree(wanted[key]) && isTree(now)) {
      const inner = removals(before, wanted[key], now);
      if (Object.keys(inner).length > 0) patch[key] = inner;
    }
  }
  return patch;
}

function mergeInto(target: Tree, more: Tree): void {
  for (const [key, value] of Object.entries(more)) {
    const now = target[key];
    if (isTree(value) && isTree(now)) mergeInto(now, value);
    else target[key] = value;
  }
}

function isTree(value: Json): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Equal as JSON, in any order of keys. */
export function same(a: Json, b: Json): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item, i) => same(item, b[i]));
  if (!isTree(a) || !isTree(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => key in b && same(a[key], b[key]));
}
