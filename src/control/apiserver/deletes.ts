// Owns: deleting one object or a collection: preconditions, finalizers, what becomes of dependents. Namespaces that are not empty: `namespaces.ts`.

import { type KubeObject, resourceOf } from "../../api/meta.ts";
import { foregroundFinalizer, orphanFinalizer } from "../collector.ts";
import type { ObjectKey } from "../store/store.ts";
import { isRecord, readData } from "./body.ts";
import {
  answerObject,
  type Core,
  checkOwned,
  maxTries,
  type Narrowing,
  permit,
  type ResourceCall,
  refuseReserved,
  subjectOf,
} from "./core.ts";
import { emptied } from "./namespaces.ts";
import { json } from "./negotiate.ts";
import { shownAs, timestamp } from "./objects.ts";
import { dryRun } from "./options.ts";
import { apiVersionOf } from "./registry.ts";
import { parseSelectors } from "./selector.ts";
import { badRequest, conflict, deleted, modified, notFound } from "./status.ts";

interface DeleteConditions {
  readonly uid: string | undefined;
  readonly resourceVersion: string | undefined;
  readonly dry: boolean;
  /** What becomes of objects that name this one as their owner. */
  readonly propagation: Propagation;
}

type Propagation = "Background" | "Foreground" | "Orphan";
const propagations: readonly Propagation[] = ["Background", "Foreground", "Orphan"];

// gracePeriodSeconds means nothing here: nothing runs on after a deletion.
async function readDeleteOptions(call: ResourceCall): Promise<DeleteConditions> {
  const data = await readData(call.request);
  if (data !== undefined && !isRecord(data)) throw badRequest("the body of a deletion is a DeleteOptions object");
  const preconditions = isRecord(data?.preconditions) ? data.preconditions : {};
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  const dryBody = Array.isArray(data?.dryRun) && data.dryRun.length > 0;
  const orphan = data?.orphanDependents ?? call.query.get("orphanDependents");
  const asked =
    text(data?.propagationPolicy) ?? text(call.query.get("propagationPolicy")) ?? (String(orphan) === "true" ? "Orphan" : "Background");
  const propagation = propagations.find((each) => each === asked);
  if (propagation === undefined) throw badRequest(`propagationPolicy is ${JSON.stringify(asked)}; use ${propagations.join(", ")}`);
  return {
    uid: text(preconditions.uid),
    resourceVersion: text(preconditions.resourceVersion),
    dry: dryRun(call) || dryBody,
    propagation,
  };
}

export async function deleteObject(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "delete");
  const conditions = await readDeleteOptions(call);
  const outcome = await core.exclusive(() => deleteOne(core, call, call.target.name, call.target.namespace, narrowing, conditions));
  // Finalizers hold it: the object is shown with its deletionTimestamp.
  if (outcome.metadata.deletionTimestamp !== undefined && (outcome.metadata.finalizers?.length ?? 0) > 0)
    return answerObject(core, call, outcome);
  if (call.target.kind.returnsDeleted === true) return answerObject(core, call, outcome);
  return json(call.request, deleted(subjectOf(call), outcome.metadata.uid));
}

export async function deleteCollection(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "deletecollection");
  const { kind, group, version, namespace } = call.target;
  if (kind.namespaced && namespace === "")
    throw badRequest(`name the namespace: a collection of ${kind.plural} is deleted in one namespace at a time`);
  const selected = parseSelectors(call.query, kind);
  const conditions = { ...(await readDeleteOptions(call)), uid: undefined, resourceVersion: undefined };
  const items = await core.exclusive(async () => {
    const listed = await core.deps.store.list(resourceOf(kind), kind.namespaced ? namespace : undefined);
    const out: KubeObject[] = [];
    for (const object of listed.items) {
      if (!(selected?.(object) ?? true) || !(narrowing.owns?.(object) ?? true)) continue;
      out.push(await deleteOne(core, call, object.metadata.name, object.metadata.namespace ?? "", narrowing, conditions));
      call.trail.operations ??= [];
      call.trail.operations.push({
        verb: "delete",
        resource: resourceOf(kind),
        namespace: object.metadata.namespace ?? "",
        name: object.metadata.name,
        code: 200,
      });
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
  refuseReserved(core, call, name);
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
    const empty = key.resource === "namespaces" ? await emptied(core, name) : undefined;
    if (conditions.dry) return existing;
    const finalizers = withPropagation(existing.metadata.finalizers ?? [], conditions.propagation);
    const held = finalizers.length > 0;
    const known = existing.metadata.deletionTimestamp !== undefined;
    if (held && known && finalizers.length === (existing.metadata.finalizers?.length ?? 0)) return existing;
    const expected = Number(resourceVersion);
    const metadata = {
      ...existing.metadata,
      deletionTimestamp: existing.metadata.deletionTimestamp ?? timestamp(clock.now()),
      deletionGracePeriodSeconds: 0,
      finalizers,
    };
    const marked = { ...existing, metadata: { ...metadata, generation: (existing.metadata.generation ?? 1) + (known ? 0 : 1) } };
    const { user } = call.caller;
    const result = await (held ? store.update(key, marked, expected, user, empty?.guard) : store.delete(key, expected, user, empty?.guard));
    if (result.ok) return result.object;
    if (result.reason === "refused") empty?.refuse();
    if (result.reason !== "conflict") throw notFound(subject);
    if (attempt === maxTries) throw conflict(subject, modified);
  }
}

/** The collector (`control/collector.ts`) sees to the dependents and takes its finalizer off again. */
function withPropagation(finalizers: readonly string[], propagation: Propagation): string[] {
  const others = finalizers.filter((each) => each !== orphanFinalizer && each !== foregroundFinalizer);
  if (propagation === "Background") return others;
  return [...others, propagation === "Orphan" ? orphanFinalizer : foregroundFinalizer];
}
