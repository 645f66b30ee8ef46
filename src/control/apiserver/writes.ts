// Owns: create, update, patch and delete: from a body to the store, with optimistic concurrency.
// Never stores what the kind, the admission or the caller's permission refuses.

import { type KindDefinition, type KubeObject, resourceOf, type Violation } from "../../api/meta.ts";
import type { ObjectKey } from "../store/store.ts";
import { isRecord, mediaTypeOf, parseJson, readData, readText } from "./body.ts";
import { answerObject, type Core, checkOwned, type Narrowing, permit, type ResourceCall, subjectOf } from "./core.ts";
import { json } from "./negotiate.ts";
import { changedMetadata, decodeObject, generatedName, makeUid, newMetadata, sameObject, shownAs, withGeneration } from "./objects.ts";
import { jsonPatch } from "./patch-json.ts";
import { mergePatch } from "./patch-merge.ts";
import { strategicKeysOf, strategicMergePatch } from "./patch-strategic.ts";
import { apiVersionOf } from "./registry.ts";
import { parseSelectors } from "./selector.ts";
import {
  alreadyExists,
  badRequest,
  conflict,
  deleted,
  forbidden,
  internalError,
  invalid,
  modified,
  notFound,
  unsupportedMediaType,
} from "./status.ts";

/** A write that names no resourceVersion is tried again when somebody (the publisher of statuses) wrote in between. */
const maxTries = 8;

export async function createObject(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "create");
  const { kind, version, namespace } = call.target;
  if (kind.namespaced && namespace === "") {
    throw badRequest(`${kind.plural} live in namespaces: post to namespaces/NAMESPACE/${kind.plural}`);
  }
  const dry = dryRun(call);
  const data = decodeObject(kind, version, await readData(call.request));
  if (data.metadata.resourceVersion !== undefined)
    throw badRequest("metadata.resourceVersion must not be set on an object that is to be created");
  checkNamespace(call, data);
  const { random, clock } = core.deps;
  const metadata = { ...data.metadata, ...(kind.namespaced && { namespace }) };
  if ((metadata.name ?? "") === "" && typeof metadata.generateName === "string" && metadata.generateName !== "") {
    metadata.name = generatedName(metadata.generateName, random);
  }
  const candidate: KubeObject = { ...data, metadata: newMetadata(metadata, makeUid(random), clock.now()) };
  // As in Kubernetes: status is written through its subresource only.
  if (kind.hasStatus) delete candidate.status;
  if (resourceOf(kind) === "namespaces") candidate.status = activeNamespace;
  const subject = subjectOf(call, candidate.metadata.name);

  const stored = await core.exclusive(async () => {
    refuse(kind, candidate, judge(kind, candidate));
    checkOwned(call, narrowing, candidate);
    const key = keyOf(call, candidate.metadata.name);
    if ((await core.deps.store.get(key)) !== undefined) throw alreadyExists(subject);
    refuse(kind, candidate, await core.deps.admit(candidate, undefined));
    if (dry) return candidate;
    await ensureNamespace(core, call);
    const result = await core.deps.store.create(key, candidate);
    if (!result.ok) throw alreadyExists(subject);
    return result.object;
  });
  return answerObject(core, call, stored, 201);
}

export async function updateObject(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "update");
  const { kind, version } = call.target;
  const data = decodeObject(kind, version, await readData(call.request));
  return change(core, call, narrowing, () => data);
}

export async function patchObject(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "patch");
  const { kind, version } = call.target;
  const apply = await readPatch(call);
  return change(core, call, narrowing, (existing) => decodeObject(kind, version, apply(shownAs(kind, version, existing))));
}

async function readPatch(call: ResourceCall): Promise<(object: KubeObject) => unknown> {
  const type = mediaTypeOf(call.request);
  const { kind } = call.target;
  switch (type) {
    case "application/merge-patch+json": {
      const patch = parseJson(await readText(call.request));
      if (!isRecord(patch)) throw badRequest("a merge patch is an object");
      return (object) => mergePatch(object, patch);
    }
    case "application/json-patch+json": {
      const patch = parseJson(await readText(call.request));
      return (object) => jsonPatch(object, patch);
    }
    case "application/strategic-merge-patch+json": {
      const keys = strategicKeysOf(resourceOf(kind));
      if (keys === undefined) throw unsupportedMediaType(`${kind.plural} are not patched with ${type}; use application/merge-patch+json`);
      const patch = parseJson(await readText(call.request));
      return (object) => strategicMergePatch(object, patch, keys);
    }
    case "application/apply-patch+yaml":
    case "application/apply-patch+cbor":
      throw unsupportedMediaType("server-side apply is not implemented; apply from the client: kubectl apply without --server-side");
    default:
      throw unsupportedMediaType(
        `the patch's media type ${JSON.stringify(type)} is not known; use application/merge-patch+json, application/json-patch+json or, for built-in kinds, application/strategic-merge-patch+json`,
      );
  }
}

async function change(core: Core, call: ResourceCall, narrowing: Narrowing, make: (existing: KubeObject) => KubeObject): Promise<Response> {
  const { kind, subresource } = call.target;
  const { store } = core.deps;
  const subject = subjectOf(call);
  const dry = dryRun(call);
  const key = keyOf(call, call.target.name);
  const stored = await core.exclusive(async () => {
    for (let attempt = 1; ; attempt++) {
      const existing = await store.get(key);
      if (existing === undefined) throw notFound(subject);
      checkOwned(call, narrowing, existing);
      const wanted = make(existing);
      checkIdentity(call, wanted, existing);
      const candidate = subresource === "status" ? withStatus(existing, wanted) : withContent(kind, existing, wanted);
      refuse(kind, candidate, judge(kind, candidate));
      checkOwned(call, narrowing, candidate);
      if (sameObject(candidate, existing)) return existing;
      const counted = withGeneration(candidate, existing);
      if (subresource === "") refuse(kind, counted, await core.deps.admit(counted, existing));
      if (dry) return { ...counted, metadata: { ...counted.metadata, resourceVersion: existing.metadata.resourceVersion ?? "" } };
      const expected = Number(existing.metadata.resourceVersion);
      // The last finalizer of an object that is being deleted has let go.
      const gone = counted.metadata.deletionTimestamp !== undefined && (counted.metadata.finalizers?.length ?? 0) === 0;
      const result = gone ? await store.delete(key, expected) : await store.update(key, counted, expected);
      if (result.ok) return result.object;
      if (result.reason !== "conflict") throw notFound(subject);
      if (attempt === maxTries) throw conflict(subject, modified);
    }
  });
  return answerObject(core, call, stored);
}

// `resourceVersion` and `uid` in a body are conditions: this version of this object or none.
function checkIdentity(call: ResourceCall, wanted: KubeObject, existing: KubeObject): void {
  const { name, uid, resourceVersion } = wanted.metadata;
  if (name !== undefined && name !== call.target.name) {
    throw badRequest(
      `the object's name is ${JSON.stringify(name)}, but the path says ${JSON.stringify(call.target.name)}; a name cannot be changed`,
    );
  }
  checkNamespace(call, wanted);
  if (uid !== undefined && uid !== existing.metadata.uid) {
    throw conflict(subjectOf(call), `its uid is ${existing.metadata.uid}, not ${uid}: it was deleted and created again`);
  }
  if (resourceVersion !== undefined && resourceVersion !== existing.metadata.resourceVersion) throw conflict(subjectOf(call), modified);
}

function checkNamespace(call: ResourceCall, object: KubeObject): void {
  const { kind, namespace } = call.target;
  const said = object.metadata.namespace;
  if (kind.namespaced && said !== undefined && said !== namespace) {
    throw badRequest(`the object's namespace is ${JSON.stringify(said)}, but the path says ${JSON.stringify(namespace)}`);
  }
}

function withStatus(existing: KubeObject, wanted: KubeObject): KubeObject {
  const { status: _, ...rest } = existing;
  return {
    ...rest,
    apiVersion: existing.apiVersion,
    kind: existing.kind,
    metadata: existing.metadata,
    ...(wanted.status !== undefined && { status: wanted.status }),
  };
}

function withContent(kind: KindDefinition, existing: KubeObject, wanted: KubeObject): KubeObject {
  const candidate: KubeObject = { ...wanted, metadata: changedMetadata(wanted.metadata, existing.metadata) };
  if (kind.hasStatus) {
    delete candidate.status;
    if (existing.status !== undefined) candidate.status = existing.status;
  }
  return candidate;
}

/** Fills in defaults and returns everything wrong with the object alone. */
function judge(kind: KindDefinition, candidate: KubeObject): readonly Violation[] {
  let broken: unknown;
  try {
    kind.applyDefaults(candidate);
  } catch (error) {
    // An object of a wrong shape may be too much for the defaults; `validate` then says what is wrong with it.
    broken = error;
  }
  const violations = kind.validate(candidate);
  if (violations.length === 0 && broken !== undefined)
    throw internalError(`the defaults of ${kind.kind} could not be applied: ${String(broken)}`);
  return violations;
}

function refuse(kind: KindDefinition, candidate: KubeObject, violations: readonly Violation[]): void {
  if (violations.length > 0) throw invalid(kind.kind, kind.group, candidate.metadata.name ?? "", violations);
}

function keyOf(call: ResourceCall, name: string): ObjectKey {
  return { resource: resourceOf(call.target.kind), namespace: call.target.namespace, name };
}

function dryRun(call: ResourceCall): boolean {
  const asked = call.query.getAll("dryRun").filter((each) => each !== "");
  const wrong = asked.find((each) => each !== "All");
  if (wrong !== undefined) throw badRequest(`dryRun is ${JSON.stringify(wrong)}; only "All" is known`);
  // Unknown fields are refused whatever is asked for: a policy with a misspelt field is never taken for one that works.
  const validation = call.query.get("fieldValidation") ?? "";
  if (!["", "Strict", "Warn", "Ignore"].includes(validation))
    throw badRequest(`fieldValidation is ${JSON.stringify(validation)}; use Strict, Warn or Ignore`);
  return asked.length > 0;
}

/** What `kubectl describe namespace` and clients that wait for a namespace look at. */
const activeNamespace = { phase: "Active" };

/** Namespaces come into being with the first object in them. */
async function ensureNamespace(core: Core, call: ResourceCall): Promise<void> {
  const kind = core.registry.byResource("namespaces");
  const name = call.target.namespace;
  if (kind === undefined || name === "") return;
  const key: ObjectKey = { resource: "namespaces", namespace: "", name };
  const there = await core.deps.store.get(key);
  if (there?.metadata.deletionTimestamp !== undefined)
    throw forbidden(subjectOf(call), `namespace ${JSON.stringify(name)} is being deleted`);
  if (there !== undefined) return;
  const namespace: KubeObject = {
    apiVersion: apiVersionOf(kind.group, kind.versions[0] ?? "v1"),
    kind: kind.kind,
    metadata: newMetadata({ name }, makeUid(core.deps.random), core.deps.clock.now()),
    status: activeNamespace,
  };
  refuse(kind, namespace, judge(kind, namespace));
  // Somebody else may have made it just now; either way it is there.
  await core.deps.store.create(key, namespace);
}

interface DeleteConditions {
  readonly uid: string | undefined;
  readonly resourceVersion: string | undefined;
  readonly dry: boolean;
}

// gracePeriodSeconds and propagationPolicy mean nothing here: nothing runs on after a deletion and nothing is owned.
async function readDeleteOptions(call: ResourceCall): Promise<DeleteConditions> {
  const data = await readData(call.request);
  if (data !== undefined && !isRecord(data)) throw badRequest("the body of a deletion is a DeleteOptions object");
  const preconditions = isRecord(data?.preconditions) ? data.preconditions : {};
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  const dryBody = Array.isArray(data?.dryRun) && data.dryRun.length > 0;
  return { uid: text(preconditions.uid), resourceVersion: text(preconditions.resourceVersion), dry: dryRun(call) || dryBody };
}

export async function deleteObject(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "delete");
  const conditions = await readDeleteOptions(call);
  const outcome = await core.exclusive(() => deleteOne(core, call, call.target.name, call.target.namespace, narrowing, conditions));
  // Finalizers hold it: the object is shown with its deletionTimestamp.
  if (outcome.metadata.deletionTimestamp !== undefined && (outcome.metadata.finalizers?.length ?? 0) > 0)
    return answerObject(core, call, outcome);
  return json(call.request, deleted(subjectOf(call), outcome.metadata.uid));
}

export async function deleteCollection(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "deletecollection");
  const { kind, group, version, namespace } = call.target;
  if (kind.namespaced && namespace === "")
    throw badRequest(`name the namespace: a collection of ${kind.plural} is deleted in one namespace at a time`);
  const selected = parseSelectors(call.query);
  const conditions = { ...(await readDeleteOptions(call)), uid: undefined, resourceVersion: undefined };
  const items = await core.exclusive(async () => {
    const listed = await core.deps.store.list(resourceOf(kind), kind.namespaced ? namespace : undefined);
    const out: KubeObject[] = [];
    for (const object of listed.items) {
      if (!(selected?.(object) ?? true) || !(narrowing.owns?.(object) ?? true)) continue;
      out.push(await deleteOne(core, call, object.metadata.name, object.metadata.namespace ?? "", narrowing, conditions));
    }
    return out;
  });
  const metadata = { resourceVersion: String(await core.deps.store.revision()) };
  const shown = items.map((object) => shownAs(kind, version, object));
  return json(call.request, { kind: `${kind.kind}List`, apiVersion: apiVersionOf(group, version), metadata, items: shown });
}

async function deleteOne(
  core: Core,
  call: ResourceCall,
  name: string,
  namespace: string,
  narrowing: Narrowing,
  conditions: DeleteConditions,
): Promise<KubeObject> {
  const { store, clock } = core.deps;
  const subject = subjectOf(call, name);
  const key: ObjectKey = { resource: resourceOf(call.target.kind), namespace, name };
  for (let attempt = 1; ; attempt++) {
    const existing = await store.get(key);
    if (existing === undefined) throw notFound(subject);
    checkOwned(call, narrowing, existing);
    const { uid, resourceVersion } = existing.metadata;
    if (conditions.uid !== undefined && conditions.uid !== uid)
      throw conflict(subject, `the precondition names uid ${conditions.uid}, it has ${uid}`);
    if (conditions.resourceVersion !== undefined && conditions.resourceVersion !== resourceVersion) {
      throw conflict(subject, `the precondition names resourceVersion ${conditions.resourceVersion}, it has ${resourceVersion}`);
    }
    if (key.resource === "namespaces") await refuseFullNamespace(core, call, name);
    if (conditions.dry) return existing;
    const held = (existing.metadata.finalizers?.length ?? 0) > 0;
    if (held && existing.metadata.deletionTimestamp !== undefined) return existing;
    const expected = Number(resourceVersion);
    const at = new Date(Math.floor(clock.now() / 1000) * 1000).toISOString().replace(".000Z", "Z");
    const marked = { ...existing, metadata: { ...existing.metadata, deletionTimestamp: at } };
    const result = held ? await store.update(key, marked, expected) : await store.delete(key, expected);
    if (result.ok) return result.object;
    if (result.reason !== "conflict") throw notFound(subject);
    if (attempt === maxTries) throw conflict(subject, modified);
  }
}

// Deleting everything inside, as Kubernetes does, would be a large act behind a small word; here it must be meant.
async function refuseFullNamespace(core: Core, call: ResourceCall, name: string): Promise<void> {
  const inside = (await core.deps.store.listAll()).items.filter((each) => each.key.namespace === name);
  if (inside.length === 0) return;
  const byResource = new Map<string, string[]>();
  for (const { key } of inside) byResource.set(key.resource, [...(byResource.get(key.resource) ?? []), key.name]);
  const listed = [...byResource].map(([resource, names]) => {
    const more = names.length > 5 ? `, and ${names.length - 5} more` : "";
    return `${resource}: ${names.slice(0, 5).join(", ")}${more}`;
  });
  throw conflict(subjectOf(call, name), `the namespace is not empty; delete what is in it first (${listed.join("; ")})`);
}
