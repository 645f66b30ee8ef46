// Owns: looking back (`GET /weft/v1alpha1/history`) and going back (`POST /weft/v1alpha1/rollback`): the objects of one namespace, or of all,
// as they were at an earlier revision, in one transaction. Never touches what nobody configured: registrations of running instances,
// live state, Events, Namespaces.

import { type KindDefinition, type KubeObject, resourceOf } from "../../api/meta.ts";
import { accessResources } from "../identity/access-index.ts";
import { CompactedError, type HistoryEntry } from "../store/store.ts";
import { isRecord, readData } from "./body.ts";
import type { Call, Core } from "./core.ts";
import { json } from "./negotiate.ts";
import { wholeNumber } from "./reads.ts";
import { apiVersionOf } from "./registry.ts";
import { badRequest, expired } from "./status.ts";
import { type Operation, type Route, runTransaction } from "./transaction.ts";

const maxEntries = 1_000;
const defaultEntries = 50;

/** Newest first. With `all=true` also what the control plane wrote by itself (statuses, health). */
export async function answerHistory(core: Core, call: Call): Promise<Response> {
  const { query } = call;
  const limit = Math.min(wholeNumber(query, "limit") ?? defaultEntries, maxEntries);
  const text = (name: string) => query.get(name) || undefined;
  const [resource, namespace, name] = [text("resource"), text("namespace"), text("name")];
  if (resource !== undefined && core.registry.byResource(resource) === undefined)
    throw badRequest(`there is no resource ${JSON.stringify(resource)}`);
  const before = wholeNumber(query, "before");
  const entries = await core.deps.store.history({
    ...(resource !== undefined && { resource }),
    ...(namespace !== undefined && { namespace }),
    ...(name !== undefined && { name }),
    ...(before !== undefined && { before }),
    withAuthor: query.get("all") !== "true",
    limit,
  });
  const [oldest, revision] = await Promise.all([core.deps.store.oldest(), core.deps.store.revision()]);
  return json(call.request, {
    kind: "History",
    revision,
    oldest,
    entries: entries.map((entry) => shown(entry, query.get("objects") === "true")),
  });
}

function shown({ key, object, atMs, ...entry }: HistoryEntry, whole: boolean): Record<string, unknown> {
  return {
    ...entry,
    at: atMs === 0 ? null : new Date(atMs).toISOString(),
    ...key,
    kind: object.kind,
    ...(whole && { object }),
  };
}

export async function answerRollback(core: Core, call: Call, route: Route): Promise<Response> {
  const data = await readData(call.request);
  if (!isRecord(data)) throw badRequest('the body must be {"revision": N, "namespace": "", "dryRun": false, "preview": false}');
  const { revision, namespace, resource, name } = data;
  if (typeof revision !== "number" || !Number.isInteger(revision) || revision < 0)
    throw badRequest("revision must be a whole number; weft history lists them");
  const words = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  const scope = { namespace: words(namespace), resource: words(resource), name: words(name) };
  const newest = await core.deps.store.revision();
  if (revision > newest) throw badRequest(`revision ${revision} is yet to come; the newest is ${newest}`);
  const [next] = await core.deps.store.history({ before: revision + 2, limit: 1 });
  if (next !== undefined && next.revision === revision + 1 && next.transaction <= revision) {
    throw badRequest(
      `revision ${revision} is in the middle of a transaction, which nobody has ever seen; its beginning is ${next.transaction - 1}, and weft history names its end`,
    );
  }
  const then = await core.deps.store.listAllAt(revision).catch((error: unknown) => {
    if (error instanceof CompactedError) throw expired(`revision ${revision} is not kept any more; the oldest is ${error.oldest}`);
    throw error;
  });
  const now = await core.deps.store.listAll();
  const inScope = ({ key, object }: Item) =>
    (scope.namespace === undefined || key.namespace === scope.namespace) &&
    (scope.resource === undefined || key.resource === scope.resource) &&
    (scope.name === undefined || key.name === scope.name) &&
    // Who was shut out stays out while routes are brought back; access goes back only when it is named.
    (scope.resource !== undefined || !accessResources.has(key.resource)) &&
    isConfiguration(core.registry.byResource(key.resource), object);
  const operations = difference(core, then.items.filter(inScope), now.items.filter(inScope));
  const answer = await runTransaction(core, call, route, operations, { dryRun: data.dryRun === true, preview: data.preview === true });
  return json(call.request, answer, answer.outcomes.every((outcome): boolean => "object" in outcome) ? 200 : 422);
}

interface Item {
  readonly key: { readonly resource: string; readonly namespace: string; readonly name: string };
  readonly object: KubeObject;
}

/** What somebody wrote down as it should be. An instance's registration is a fact, and Namespaces come and go with what is in them. */
export function isConfiguration(kind: KindDefinition | undefined, object: KubeObject): boolean {
  if (kind === undefined || kind.virtual || kind.transient === true || resourceOf(kind) === "namespaces") return false;
  return object.metadata.annotations?.["weft.dev/health"] !== "reported";
}

/** Changes before creations before deletions: backends of a changed route are there when it is looked at, either way round. */
function difference(core: Core, then: readonly Item[], now: readonly Item[]): Operation[] {
  const text = ({ key }: Item) => `${key.resource}/${key.namespace}/${key.name}`;
  const present = new Map(now.map((item) => [text(item), item]));
  const wanted = new Map(then.map((item) => [text(item), item]));
  const manager = "?fieldManager=weft-rollback";
  const operations: { readonly rank: number; readonly operation: Operation }[] = [];
  for (const [id, item] of wanted) {
    const there = present.get(id);
    if (there === undefined)
      operations.push({ rank: 0, operation: { method: "POST", path: pathOf(core, item, false) + manager, body: asWritten(item.object) } });
    else if (!Bun.deepEquals(asWritten(there.object), asWritten(item.object), true))
      operations.push({ rank: 1, operation: { method: "PUT", path: pathOf(core, item, true) + manager, body: asWritten(item.object) } });
  }
  for (const [id, item] of present) {
    if (!wanted.has(id)) operations.push({ rank: 2, operation: { method: "DELETE", path: pathOf(core, item, true) } });
  }
  return operations.sort((a, b) => a.rank - b.rank).map(({ operation }) => operation);
}

/** Without what is the server's. */
export function asWritten(object: KubeObject): KubeObject {
  const { status: _status, metadata, ...rest } = object;
  const { name, namespace, labels, annotations, finalizers } = metadata;
  const kept = {
    name,
    ...(namespace !== undefined && { namespace }),
    ...(labels !== undefined && { labels }),
    ...(annotations !== undefined && { annotations }),
    ...(finalizers !== undefined && { finalizers }),
  };
  return { ...rest, apiVersion: object.apiVersion, kind: object.kind, metadata: kept };
}

function pathOf(core: Core, { key }: Item, named: boolean): string {
  const kind = core.registry.byResource(key.resource);
  if (kind === undefined) throw badRequest(`${key.resource} is not served any more`);
  const root = kind.group === "" ? `/api/${kind.versions[0]}` : `/apis/${apiVersionOf(kind.group, kind.versions[0] ?? "v1")}`;
  return `${root}${key.namespace === "" ? "" : `/namespaces/${key.namespace}`}/${kind.plural}${named ? `/${key.name}` : ""}`;
}
