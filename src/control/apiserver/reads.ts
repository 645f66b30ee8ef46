// Owns: get and list. Watches are in `watch.ts`.

import type { KubeObject } from "../../api/meta.ts";
import { CompactedError } from "../store/store.ts";
import { answerObject, type Core, checkOwned, includeObject, permit, type ResourceCall, subjectOf } from "./core.ts";
import { formOf, json } from "./negotiate.ts";
import { shownAs } from "./objects.ts";
import { apiVersionOf } from "./registry.ts";
import { parseSelectors } from "./selector.ts";
import { badRequest, continueExpired, notFound, revisionTooLarge } from "./status.ts";
import { makeTable, partialOf } from "./table.ts";

export async function getObject(core: Core, call: ResourceCall): Promise<Response> {
  const narrowing = permit(core, call, "get");
  const { kind, namespace, name } = call.target;
  const object = await core.feed(kind).get(namespace, name);
  if (object === undefined) throw notFound(subjectOf(call));
  checkOwned(call, narrowing, object);
  return answerObject(core, call, object);
}

/** Where a chunked list goes on. `revision` 0 = with what is there now (the client was told that its own is gone, and goes on all the same). */
interface Continue {
  readonly revision: number;
  readonly namespace: string;
  readonly name: string;
}

/**
 * `limit` and `continue`: all chunks show the objects as they were at the first one's resourceVersion. Once that is compacted away the next
 * chunk is 410 Expired, with a token to go on inconsistently, as in Kubernetes. Live state (virtual kinds) is always shown as it is.
 */
export async function listObjects(core: Core, call: ResourceCall): Promise<Response> {
  const { owns } = permit(core, call, "list");
  const { kind, group, version, namespace } = call.target;
  const { query } = call;
  const form = formOf(call.request);
  const selected = parseSelectors(query, kind);
  const limit = wholeNumber(query, "limit") ?? 0;
  const token = query.get("continue") ?? "";
  const from = token === "" ? undefined : decodeContinue(token);
  const within = kind.namespaced && namespace !== "" ? namespace : undefined;

  const feed = core.feed(kind);
  const exactly = from === undefined ? exactRevision(query) : undefined;
  let items: readonly KubeObject[];
  let revision: number;
  if (from !== undefined && from.revision > 0) {
    revision = from.revision;
    items = await feed.listAt(revision, within, from).catch((error: unknown) => {
      throw error instanceof CompactedError ? continueExpired(encodeContinue({ ...from, revision: 0 })) : error;
    });
  } else if (exactly !== undefined && exactly !== (await feed.revision())) {
    revision = exactly;
    if (exactly > (await feed.revision())) throw revisionTooLarge(exactly, await feed.revision());
    items = await feed.listAt(exactly, within, undefined);
  } else {
    const listed = await feed.list(within);
    if (from === undefined) checkRevision(query, listed.revision);
    revision = listed.revision;
    items = from === undefined ? listed.items : listed.items.filter((object) => isAfter(object, from));
  }
  items = items.filter((object) => (selected?.(object) ?? true) && (owns?.(object) ?? true));

  const metadata: Record<string, unknown> = { resourceVersion: String(revision) };
  if (limit > 0 && items.length > limit) {
    const last = items[limit - 1]!.metadata;
    metadata.continue = encodeContinue({ revision, namespace: last.namespace ?? "", name: last.name });
    // Kubernetes leaves the count out where a selector makes it unknown.
    if (selected === undefined) metadata.remainingItemCount = items.length - limit;
    items = items.slice(0, limit);
  }
  const shown = items.map((object) => shownAs(kind, version, object));
  if (form === "table") return json(call.request, makeTable(kind, shown, metadata, core.deps.clock.now(), includeObject(query)));
  if (form === "partial") {
    return json(call.request, { kind: "PartialObjectMetadataList", apiVersion: "meta.k8s.io/v1", metadata, items: shown.map(partialOf) });
  }
  return json(call.request, { kind: `${kind.kind}List`, apiVersion: apiVersionOf(group, version), metadata, items: shown });
}

/** The revision of `resourceVersionMatch=Exact`. Throws 400 for a combination that says nothing, as Kubernetes does. */
function exactRevision(query: URLSearchParams): number | undefined {
  const match = query.get("resourceVersionMatch") ?? "";
  const asked = query.get("resourceVersion") ?? "";
  if (match === "") return undefined;
  if (match !== "Exact" && match !== "NotOlderThan")
    throw badRequest(`resourceVersionMatch is ${JSON.stringify(match)}; use Exact or NotOlderThan`);
  if (asked === "") throw badRequest("resourceVersionMatch is forbidden unless resourceVersion is provided");
  if (match === "NotOlderThan") return undefined;
  if (asked === "0") throw badRequest('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"');
  return wholeNumber(query, "resourceVersion");
}

// Lists are of the newest revision: good enough for "not older than".
function checkRevision(query: URLSearchParams, current: number): void {
  const asked = wholeNumber(query, "resourceVersion") ?? 0;
  if (asked > current) throw revisionTooLarge(asked, current);
}

/** undefined when absent or empty. Throws 400. */
export function wholeNumber(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  if (!/^[0-9]{1,15}$/.test(text)) throw badRequest(`${name} is ${JSON.stringify(text)}; it must be a whole number that is not negative`);
  return Number(text);
}

function isAfter(object: KubeObject, from: Continue): boolean {
  const namespace = object.metadata.namespace ?? "";
  return namespace > from.namespace || (namespace === from.namespace && object.metadata.name > from.name);
}

function encodeContinue(at: Continue): string {
  return Buffer.from(JSON.stringify([at.revision, at.namespace, at.name])).toString("base64url");
}

function decodeContinue(token: string): Continue {
  try {
    const [revision, namespace, name] = JSON.parse(Buffer.from(token, "base64url").toString()) as unknown[];
    if (typeof revision === "number" && typeof namespace === "string" && typeof name === "string") return { revision, namespace, name };
  } catch {
    // Said below.
  }
  throw badRequest("continue is not a token this server gave out; list again without it");
}
