// Owns: create, update, patch and server-side apply: from a body to the store, with optimistic concurrency. Deletions are in `deletes.ts`.
// Never stores what the kind, the admission or the caller's permission refuses.

import { type KindDefinition, type KubeObject, resourceOf, type Violation } from "../../api/meta.ts";
import { afterUpdate, apply, conflictMessage, type ManagedFieldsEntry, managerWords, type Writer } from "../fieldmanager/managers.ts";
import type { ObjectKey } from "../store/store.ts";
import { isRecord, mediaTypeOf, parseJson, parseYaml, readData, readText } from "./body.ts";
import {
  answerObject,
  type Core,
  checkOwned,
  guardWrite,
  maxTries,
  type Narrowing,
  permit,
  type ResourceCall,
  refuseReserved,
  subjectOf,
} from "./core.ts";
import { type Judged, judge } from "./judged.ts";
import { seenSo, stillThere, whyNotIn } from "./namespaces.ts";
import {
  changedMetadata,
  decodeObject,
  generatedName,
  makeUid,
  newMetadata,
  sameObject,
  shownAs,
  timestamp,
  withGeneration,
} from "./objects.ts";
import { dropUnknownFields, dryRun, managerName } from "./options.ts";
import { jsonPatch } from "./patch-json.ts";
import { mergePatch } from "./patch-merge.ts";
import { strategicKeysOf, strategicMergePatch } from "./patch-strategic.ts";
import { apiVersionOf } from "./registry.ts";
import {
  alreadyExists,
  applyConflict,
  badRequest,
  conflict,
  internalError,
  invalid,
  modified,
  notFound,
  type Subject,
  unsupportedMediaType,
} from "./status.ts";

export async function createObject(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "create");
  const { kind, version, namespace } = call.target;
  if (kind.namespaced && namespace === "") {
    throw badRequest(`${kind.plural} live in namespaces: post to namespaces/NAMESPACE/${kind.plural}`);
  }
  const dry = dryRun(call);
  const writer = writerOf(core, call, managerName(call));
  const data = decodeObject(kind, version, await readData(call.request));
  if (data.metadata.resourceVersion !== undefined)
    throw badRequest("metadata.resourceVersion must not be set on an object that is to be created");
  checkNamespace(call, data);
  const metadata = { ...data.metadata };
  if ((metadata.name ?? "") === "" && typeof metadata.generateName === "string" && metadata.generateName !== "") {
    metadata.name = generatedName(metadata.generateName, core.deps.random);
  }
  const stored = await core.exclusive(() => storeNew(core, call, narrowing, { ...data, metadata }, writer, undefined, dry));
  return answerObject(core, call, stored, 201);
}

/** `managedFields` given = the object comes from an apply, which knows its managers already. Runs under the write lock. */
async function storeNew(
  core: Core,
  call: ResourceCall,
  narrowing: Narrowing,
  data: KubeObject,
  writer: Writer,
  managedFields: readonly ManagedFieldsEntry[] | undefined,
  dry: boolean,
): Promise<KubeObject> {
  const { kind, namespace } = call.target;
  const { random, clock } = core.deps;
  const metadata = { ...data.metadata, ...(kind.namespaced && { namespace }) };
  const candidate: KubeObject = { ...data, metadata: newMetadata(metadata, makeUid(random), clock.now()) };
  // As in Kubernetes: status is written through its subresource only.
  if (kind.hasStatus) delete candidate.status;
  if (resourceOf(kind) === "namespaces") candidate.status = activeNamespace;
  const subject = subjectOf(call, candidate.metadata.name);
  dropUnknownFields(call, candidate);
  refuse(kind, candidate, judgeAlone(kind, candidate));
  checkOwned(call, narrowing, candidate);
  call.trail.name = candidate.metadata.name;
  refuseReserved(core, call, candidate.metadata.name);
  await guardWrite(core, call, candidate, undefined);
  const key = keyOf(call, candidate.metadata.name);
  if ((await core.deps.store.get(key)) !== undefined) throw alreadyExists(subject);
  const admitted = await judge(core, () => core.deps.admit(candidate, undefined), isEmpty);
  refuse(kind, candidate, admitted.verdict);
  call.warnings.push(...(await advised(core, candidate)));
  const managed = managedFields ?? afterUpdate(endpointOf(kind, writer), undefined, candidate, undefined);
  if (managed !== undefined && managed.length > 0) candidate.metadata.managedFields = [...managed];
  if (dry) return candidate;
  const since = seenSo(core);
  await ensureNamespace(core, call, subject);
  const there = kind.namespaced ? stillThere(core, namespace, subject, since, admitted.guard) : undefined;
  const result = await core.deps.store.create(key, candidate, call.caller.user, there?.guard ?? admitted.guard);
  if (result.ok) return result.object;
  if (result.reason === "refused") {
    refuse(kind, candidate, admitted.verdict);
    there?.refuse();
  }
  throw alreadyExists(subject);
}

export async function updateObject(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "update");
  const { kind, version } = call.target;
  const data = decodeObject(kind, version, await readData(call.request));
  return change(core, call, narrowing, () => ({ wanted: data }));
}

export async function patchObject(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "patch");
  const { kind, version } = call.target;
  const type = mediaTypeOf(call.request);
  if (type === "application/apply-patch+yaml") return applyObject(core, call, narrowing);
  if (call.query.has("force")) throw badRequest("force goes with server-side apply (application/apply-patch+yaml) only");
  const patch = await readPatch(call);
  return change(core, call, narrowing, (existing) => ({ wanted: decodeObject(kind, version, patch(shownAs(kind, version, existing))) }));
}

/** Server-side apply: the body is what one manager wants to own of the object; whatever else is there stays. */
async function applyObject(core: Core, call: ResourceCall, narrowing: Narrowing): Promise<Response> {
  const { kind, version, subresource, name } = call.target;
  const data = await parseYaml(await readText(call.request));
  const manager = call.query.get("fieldManager") ?? "";
  if (manager === "") {
    throw invalid("PatchOptions", "meta.k8s.io", "", [
      { path: "fieldManager", message: "is required for an apply patch: the name of the program that applies" },
    ]);
  }
  const writer = writerOf(core, call, managerName(call));
  const force = ["true", "1", ""].includes(call.query.get("force") ?? "false");
  const config = decodeObject(kind, version, data);
  if (config.metadata.managedFields !== undefined)
    throw badRequest("metadata.managedFields must be nil: it is the server's account of who manages what");
  checkNamespace(call, config);
  if (config.metadata.name === undefined) config.metadata.name = name;
  const applied = (live: KubeObject | undefined) => {
    const outcome = apply(endpointOf(kind, writer), live, config, force);
    if (outcome.ok) return outcome;
    const causes = outcome.conflicts.map((each) => ({ manager: managerWords(each.manager), path: each.path }));
    throw applyConflict(conflictMessage(outcome.conflicts), causes);
  };
  const dry = dryRun(call);
  const created = await core.exclusive(async () => {
    if (subresource !== "" || (await core.deps.store.get(keyOf(call, name))) !== undefined) return undefined;
    // An apply creates what is not there, which takes the permission to create.
    const creating = permit(core, { ...call, target: { ...call.target, name: "" } }, "create");
    if (config.metadata.uid !== undefined)
      throw conflict(
        subjectOf(call),
        `uid mismatch: the provided object specified uid ${config.metadata.uid}, and no existing object was found`,
      );
    if (config.metadata.resourceVersion !== undefined) throw notFound(subjectOf(call));
    checkName(call, config);
    const { object, managedFields } = applied(undefined);
    return storeNew(core, call, creating, object, writer, managedFields, dry);
  });
  if (created !== undefined) return answerObject(core, call, created, 201);
  return change(core, call, narrowing, (existing) => {
    checkIdentity(call, config, existing);
    const { object, managedFields } = applied(existing);
    const { resourceVersion: _, ...metadata } = object.metadata;
    return { wanted: { ...object, metadata }, managedFields };
  });
}

function writerOf(core: Core, call: ResourceCall, manager: string): Writer {
  const { group, version, subresource } = call.target;
  return { manager, apiVersion: apiVersionOf(group, version), subresource, now: timestamp(core.deps.clock.now()) };
}

function endpointOf(kind: KindDefinition, writer: Writer) {
  return { schema: kind.schema, hasStatus: kind.hasStatus, applyDefaults: kind.applyDefaults, writer };
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
    case "application/apply-patch+cbor":
      throw unsupportedMediaType("an apply patch is read as YAML or JSON; send application/apply-patch+yaml");
    default:
      throw unsupportedMediaType(
        `the patch's media type ${JSON.stringify(type)} is not known; use application/merge-patch+json, application/json-patch+json, application/apply-patch+yaml or, for built-in kinds, application/strategic-merge-patch+json`,
      );
  }
}

interface Wanted {
  readonly wanted: KubeObject;
  /** Set by an apply. */
  readonly managedFields?: readonly ManagedFieldsEntry[];
}

async function change(core: Core, call: ResourceCall, narrowing: Narrowing, make: (existing: KubeObject) => Wanted): Promise<Response> {
  const { kind, subresource } = call.target;
  const { store } = core.deps;
  const subject = subjectOf(call);
  const dry = dryRun(call);
  const { user } = call.caller;
  const writer = writerOf(core, call, managerName(call));
  const key = keyOf(call, call.target.name);
  refuseReserved(core, call, call.target.name);
  const stored = await core.exclusive(async () => {
    for (let attempt = 1; ; attempt++) {
      const existing = await store.get(key);
      if (existing === undefined) throw notFound(subject);
      checkOwned(call, narrowing, existing);
      const { wanted, managedFields } = make(existing);
      checkIdentity(call, wanted, existing);
      const candidate = subresource === "status" ? withStatus(existing, wanted) : withContent(kind, existing, wanted);
      dropUnknownFields(call, candidate);
      refuse(kind, candidate, [...judgeAlone(kind, candidate), ...finalizersAdded(existing, candidate)]);
      checkOwned(call, narrowing, candidate);
      const managed = managedFields ?? afterUpdate(endpointOf(kind, writer), existing, candidate, wanted.metadata.managedFields);
      candidate.metadata = withManagers(candidate.metadata, managed);
      if (sameObject(candidate, existing)) return existing;
      const counted = withGeneration(candidate, existing);
      await guardWrite(core, call, counted, existing);
      let admitted: Judged<readonly Violation[]> | undefined;
      if (subresource === "") {
        admitted = await judge(core, () => core.deps.admit(counted, existing), isEmpty);
        refuse(kind, counted, admitted.verdict);
        call.warnings.push(...(await advised(core, counted)));
      }
      if (dry) return { ...counted, metadata: { ...counted.metadata, resourceVersion: existing.metadata.resourceVersion ?? "" } };
      const expected = Number(existing.metadata.resourceVersion);
      // The last finalizer of an object that is being deleted has let go.
      const gone = counted.metadata.deletionTimestamp !== undefined && (counted.metadata.finalizers?.length ?? 0) === 0;
      const result = gone ? await store.delete(key, expected, user) : await store.update(key, counted, expected, user, admitted?.guard);
      if (result.ok) return result.object;
      if (result.reason === "refused") refuse(kind, counted, admitted?.verdict ?? []);
      if (result.reason !== "conflict") throw notFound(subject);
      if (attempt === maxTries) throw conflict(subject, modified);
    }
  });
  return answerObject(core, call, stored);
}

function withManagers(metadata: KubeObject["metadata"], managed: readonly ManagedFieldsEntry[] | undefined): KubeObject["metadata"] {
  const { managedFields: _, ...rest } = metadata;
  return managed === undefined || managed.length === 0 ? rest : { ...rest, managedFields: [...managed] };
}

/** As in Kubernetes: what is being deleted may lose finalizers, never get some. */
function finalizersAdded(existing: KubeObject, candidate: KubeObject): Violation[] {
  if (existing.metadata.deletionTimestamp === undefined) return [];
  const had = existing.metadata.finalizers ?? [];
  const added = (candidate.metadata.finalizers ?? []).filter((each) => !had.includes(each));
  if (added.length === 0) return [];
  return [
    { path: "metadata.finalizers", message: `no new finalizers can be added while the object is being deleted, got ${added.join(", ")}` },
  ];
}

// `resourceVersion` and `uid` in a body are conditions: this version of this object or none.
function checkIdentity(call: ResourceCall, wanted: KubeObject, existing: KubeObject): void {
  const { uid, resourceVersion } = wanted.metadata;
  checkName(call, wanted);
  checkNamespace(call, wanted);
  if (uid !== undefined && uid !== existing.metadata.uid) {
    throw conflict(subjectOf(call), `its uid is ${existing.metadata.uid}, not ${uid}: it was deleted and created again`);
  }
  if (resourceVersion !== undefined && resourceVersion !== existing.metadata.resourceVersion) throw conflict(subjectOf(call), modified);
}

function checkName(call: ResourceCall, { metadata }: KubeObject): void {
  const { name } = metadata;
  if (name !== undefined && name !== call.target.name) {
    throw badRequest(
      `the object's name is ${JSON.stringify(name)}, but the path says ${JSON.stringify(call.target.name)}; a name cannot be changed`,
    );
  }
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
function judgeAlone(kind: KindDefinition, candidate: KubeObject): readonly Violation[] {
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

const isEmpty = (violations: readonly Violation[]): boolean => violations.length === 0;

function refuse(kind: KindDefinition, candidate: KubeObject, violations: readonly Violation[]): void {
  if (violations.length > 0) throw invalid(kind.kind, kind.group, candidate.metadata.name ?? "", violations);
}

function keyOf(call: ResourceCall, name: string): ObjectKey {
  return { resource: resourceOf(call.target.kind), namespace: call.target.namespace, name };
}

/** What `kubectl describe namespace` and clients that wait for a namespace look at. */
const activeNamespace = { phase: "Active" };

/** Namespaces come into being with the first object in them. */
async function ensureNamespace(core: Core, call: ResourceCall, subject: Subject): Promise<void> {
  const kind = core.registry.byResource("namespaces");
  const name = call.target.namespace;
  if (kind === undefined || name === "") return;
  const key: ObjectKey = { resource: "namespaces", namespace: "", name };
  const there = await core.deps.store.get(key);
  const why = there === undefined ? undefined : whyNotIn(there, name, subject);
  if (why !== undefined) throw why;
  if (there !== undefined) return;
  const namespace: KubeObject = {
    apiVersion: apiVersionOf(kind.group, kind.versions[0] ?? "v1"),
    kind: kind.kind,
    metadata: newMetadata({ name }, makeUid(core.deps.random), core.deps.clock.now()),
    status: activeNamespace,
  };
  refuse(kind, namespace, judgeAlone(kind, namespace));
  // Somebody else may have made it just now; whether it is there still is asked when the object is written.
  await core.deps.store.create(key, namespace, call.caller.user);
}

/** What the writer is told. What the store has by now is looked at before anything is called missing: it may have been written the moment before. */
async function advised(core: Core, candidate: KubeObject): Promise<readonly string[]> {
  const { advise, followed, store } = core.deps;
  const said = advise?.(candidate) ?? [];
  if (said.length === 0 || followed === undefined) return said;
  const head = await store.revision();
  if (head <= followed.revision()) return said;
  // Where that takes too long, what was known is said.
  return followed.reached(head).then(
    () => advise?.(candidate) ?? [],
    () => said,
  );
}
