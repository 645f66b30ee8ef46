// Owns: several writes as one (`POST /weft/v1alpha1/transactions`): each is an ordinary request of this API, judged by the very code that
// judges it alone, except that contradictions are looked for once, among the outcomes of all. All are stored, or none.

import { type KubeObject, resourceOf, type Violation } from "../../api/meta.ts";
import { isRecord, readData } from "./body.ts";
import type { Call, Core, Trail } from "./core.ts";
import { storeFeed } from "./feeds.ts";
import { judge } from "./judged.ts";
import { both, looseEnds, seenSo } from "./namespaces.ts";
import { json } from "./negotiate.ts";
import { type StagedChange, StagedStore } from "./staged.ts";
import { ApiError, badRequest, conflict, forbidden, internalError, invalid, type Status } from "./status.ts";

/** More objects than any folder has; one transaction holds up all other writes. */
export const maxOperations = 2_000;

/** A request as it would be sent alone. */
export interface Operation {
  readonly method: "POST" | "PUT" | "PATCH" | "DELETE";
  /** With its query; dryRun and what else concerns the whole belongs to the transaction. */
  readonly path: string;
  readonly contentType?: string;
  readonly body?: unknown;
}

/** `object`: what is stored, or would be. `status`: why not. */
export type Outcome =
  | {
      readonly code: number;
      readonly change: "created" | "configured" | "unchanged" | "deleted";
      readonly object: KubeObject;
      readonly before?: KubeObject;
    }
  | { readonly code: number; readonly status: Status };

export interface TransactionAnswer {
  readonly kind: "TransactionResult";
  readonly committed: boolean;
  /** One for each operation, in order. */
  readonly outcomes: readonly Outcome[];
  /** What the proxies would do otherwise; only with `preview`, and when every operation is good. */
  readonly proxies?: unknown;
  readonly warnings: readonly string[];
}

/** How an operation is carried out: the server's own router, over the given core. */
export type Route = (core: Core, call: Call, request: Request) => Promise<Response>;

export async function answerTransaction(core: Core, call: Call, route: Route): Promise<Response> {
  const data = await readData(call.request);
  if (!isRecord(data) || !Array.isArray(data.operations))
    throw badRequest('the body must be {"operations": [...], "dryRun": false, "preview": false}');
  const operations = data.operations.map(readOperation);
  const answer = await runTransaction(core, call, route, operations, { dryRun: data.dryRun === true, preview: data.preview === true });
  return json(call.request, answer, answer.outcomes.every((outcome): boolean => "object" in outcome) ? 200 : 422);
}

function readOperation(data: unknown, at: number): Operation {
  const wrong = (why: string) => badRequest(`operations[${at}]: ${why}`);
  if (!isRecord(data)) throw wrong("is not an object");
  const { method, path, contentType, body } = data;
  if (method !== "POST" && method !== "PUT" && method !== "PATCH" && method !== "DELETE")
    throw wrong(`method is ${JSON.stringify(method)}; use POST, PUT, PATCH or DELETE`);
  if (typeof path !== "string" || !/^\/apis?\//.test(path)) throw wrong("path must begin with /api/ or /apis/");
  if (contentType !== undefined && typeof contentType !== "string") throw wrong("contentType must be a string");
  return { method, path, ...(contentType !== undefined && { contentType }), body };
}

export async function runTransaction(
  core: Core,
  call: Call,
  route: Route,
  operations: readonly Operation[],
  options: { readonly dryRun: boolean; readonly preview: boolean },
): Promise<TransactionAnswer> {
  if (options.dryRun) call.trail.dryRun = true;
  if (options.preview) permitPreview(core, call);
  if (operations.length > maxOperations)
    throw badRequest(`${operations.length} operations are more than the ${maxOperations} that one transaction takes`);
  return core.exclusive(async () => {
    const since = seenSo(core);
    const staged = new StagedStore(core.deps.store);
    const store = staged.asStore();
    const inside: Core = {
      ...core,
      deps: { ...core.deps, store, admit: () => [], advise: () => [] },
      exclusive: (run) => run(),
      feed: (kind) => (kind.virtual ? core.feed(kind) : storeFeed(store, resourceOf(kind))),
    };
    const outcomes: Outcome[] = [];
    const touched: (string | undefined)[] = [];
    for (const operation of operations) {
      const before = new Map(staged.changes().map((change) => [change, change.after]));
      outcomes.push(await outcomeOf(inside, call, route, operation));
      const changed = staged.changes().find((change) => !before.has(change) || before.get(change) !== change.after);
      touched.push(changed === undefined ? undefined : textOf(changed.key));
    }
    // Contradictions among what would be there at the end: one that a later operation takes away is none.
    const changes = staged.changes();
    const judged = await judge(core, () => judgeChanges(core, changes), nothingWrong);
    for (const { after } of changes) if (after !== undefined) call.warnings.push(...(core.deps.advise?.(after, changes) ?? []));
    refuseJudged(outcomes, touched, judged.verdict);
    const accepted = outcomes.every((outcome): boolean => "object" in outcome);
    const proxies = accepted && options.preview ? await core.deps.preview?.(changes) : undefined;
    const answer = {
      kind: "TransactionResult" as const,
      outcomes,
      warnings: [...new Set(call.warnings)],
      ...(proxies !== undefined && { proxies }),
    };
    if (!accepted || options.dryRun || changes.length === 0) return { ...answer, committed: accepted && !options.dryRun };
    let loose: Awaited<ReturnType<typeof looseEnds>> = [];
    const guard = both(judged.guard, since, async () => {
      loose = await looseEnds(core, changes);
      return loose.length === 0;
    });
    const written = await core.deps.store.transact(staged.writes(), call.caller.user, guard);
    if (!written.ok && written.reason === "refused") {
      for (const { key, why } of loose) {
        const at = touched.indexOf(textOf(key));
        if (at === -1) throw why;
        outcomes.splice(at, 1, { code: why.status.code, status: why.status });
      }
      refuseJudged(outcomes, touched, judged.verdict);
      return { kind: answer.kind, outcomes, warnings: answer.warnings, committed: false };
    }
    if (!written.ok) {
      // The control plane itself (statuses, liveness) writes beside this server's lock.
      throw conflict(
        { plural: written.key.resource, group: "", name: written.key.name },
        "it changed while the transaction was judged; try again",
      );
    }
    const stored = new Map(written.results.map((result, at) => [textOf(staged.writes()[at]!.key), result.object]));
    return {
      ...answer,
      outcomes: outcomes.map((outcome, at) => {
        const object = stored.get(touched[at] ?? "");
        return object === undefined || !("object" in outcome) || outcome.change === "deleted" ? outcome : { ...outcome, object };
      }),
      committed: true,
    };
  });
}

/** By `textOf`: what is wrong with each object that would be there. */
type Verdicts = ReadonlyMap<string, readonly Violation[]>;

const nothingWrong = (verdicts: Verdicts): boolean => [...verdicts.values()].every((violations) => violations.length === 0);

async function judgeChanges(core: Core, changes: readonly StagedChange[]): Promise<Verdicts> {
  const verdicts = new Map<string, readonly Violation[]>();
  for (const { key, before, after } of changes)
    if (after !== undefined) verdicts.set(textOf(key), await core.deps.admit(after, before, changes));
  return verdicts;
}

/** Puts the refusal in the place of each outcome whose object contradicts another. */
function refuseJudged(outcomes: Outcome[], touched: readonly (string | undefined)[], verdicts: Verdicts): void {
  for (const [at, key] of touched.entries()) {
    const violations = verdicts.get(key ?? "") ?? [];
    const outcome = outcomes[at];
    if (violations.length === 0 || outcome === undefined || !("object" in outcome)) continue;
    const { kind, apiVersion, metadata } = outcome.object;
    const group = apiVersion.includes("/") ? (apiVersion.split("/")[0] ?? "") : "";
    const refused: Outcome = { code: 422, status: invalid(kind, group, metadata.name, violations).status };
    outcomes.splice(at, 1, refused);
  }
}

/** What the proxies would do tells of the whole mesh. */
function permitPreview(core: Core, call: Call): void {
  const resource = "proxies.weft.dev";
  const decision = core.deps.authorize(call.caller, { type: "resource", verb: "list", resource, subresource: "", namespace: "", name: "" });
  if (!decision.allowed) throw forbidden({ plural: "proxies", group: "weft.dev", name: "" }, decision.reason);
}

async function outcomeOf(core: Core, call: Call, route: Route, operation: Operation): Promise<Outcome> {
  const { method, path, contentType = "application/json", body } = operation;
  const request = new Request(new URL(path, call.request.url).href, {
    method,
    headers: { "content-type": contentType, "user-agent": call.request.headers.get("user-agent") ?? "" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const query = new URL(request.url).searchParams;
  if (query.has("dryRun")) throw badRequest("dryRun belongs to the transaction as a whole");
  const trail: Trail = {};
  const note = (code: number) => {
    const { verb = method.toLowerCase(), resource = "", namespace = "", name = "" } = trail;
    call.trail.operations ??= [];
    call.trail.operations.push({ verb, resource, namespace, name, code });
  };
  try {
    const before = method === "POST" ? undefined : await readBefore(core, call, route, path);
    const response = await route(core, { ...call, request, query, trail }, request);
    const object = (await response.json()) as KubeObject;
    note(response.status);
    if (method === "DELETE")
      return { code: response.status, change: "deleted", object: before ?? object, ...(before !== undefined && { before }) };
    if (response.status === 201) return { code: 201, change: "created", object };
    const same = before?.metadata.resourceVersion === object.metadata.resourceVersion;
    return { code: response.status, change: same ? "unchanged" : "configured", object, ...(before !== undefined && !same && { before }) };
  } catch (error) {
    note(error instanceof ApiError ? error.status.code : 500);
    if (error instanceof ApiError) return { code: error.status.code, status: error.status };
    core.deps.log.error({ error, path }, "An operation of a transaction failed");
    return { code: 500, status: internalError("an internal error occurred; the control plane's log has the details").status };
  }
}

async function readBefore(core: Core, call: Call, route: Route, path: string): Promise<KubeObject | undefined> {
  const address = new URL(path.split("?")[0]!.replace(/\/status$/, ""), call.request.url).href;
  const request = new Request(address, { headers: { accept: "application/json" } });
  try {
    return (await (await route(core, { ...call, request, query: new URLSearchParams(), trail: {} }, request)).json()) as KubeObject;
  } catch {
    // Not there, or not to be read: the operation itself says so.
    return undefined;
  }
}

function textOf(key: { readonly resource: string; readonly namespace: string; readonly name: string }): string {
  return `${key.resource}/${key.namespace}/${key.name}`;
}
