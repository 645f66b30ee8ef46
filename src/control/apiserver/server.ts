// Owns: the way of one request through the API server: open paths, credentials, permission, then the right handler.
// Never knows a kind: everything about kinds comes from the table in `deps`.

import { type KindDefinition, resourceOf } from "../../api/meta.ts";
import { callerNamed } from "../identity/access.ts";
import { CompactedError, ObjectTooLargeError, StoreFailure } from "../store/store.ts";
import type { AuditEntry } from "./audit.ts";
import type { Call, Core, Feed, Trail } from "./core.ts";
import { deleteCollection, deleteObject } from "./deletes.ts";
import type { ApiServer, ApiServerDeps, Caller, Holder } from "./deps.ts";
import { discover } from "./discovery.ts";
import { storeFeed, VirtualMirror, withBuiltins } from "./feeds.ts";
import { endsWithItsRight } from "./held.ts";
import { json } from "./negotiate.ts";
import { openapiV2, openapiV3 } from "./openapi.ts";
import { parseTarget } from "./paths.ts";
import { getObject, listObjects } from "./reads.ts";
import { makeRegistry } from "./registry.ts";
import { answerReview } from "./reviews.ts";
import {
  ApiError,
  badRequest,
  bodyTooLarge,
  expired,
  forbidden,
  internalError,
  methodNotAllowed,
  pathNotFound,
  tooManyRequests,
  unauthorized,
  unavailable,
} from "./status.ts";
import { watchObjects } from "./watch.ts";
import { createObject, patchObject, updateObject } from "./writes.ts";

/** The Kubernetes API level whose conventions are followed; `kubectl version` compares it with its own. */
const kubernetesLevel = { major: "1", minor: "36" };

/** Many roles are often changed at once; all open watches are judged again once for them. */
const recheckAfterMs = 200;
/** Whoever may bind roles in one namespace must not be able to keep the control plane busy with the watches of all: a tenth of its time at most. */
const recheckShare = 9;

/** Builds the API server: a function from Request to Response. Listening is `listen.ts`. */
export function createApiServer(deps: ApiServerDeps): ApiServer {
  const registry = makeRegistry(deps.kinds);
  const feeds = new Map<KindDefinition, Feed>();
  const core: Core = { deps, registry, exclusive: makeLock(), feed: feedOf, watches: new Set(), rechecks: new Set(), watching: new Map() };
  let waiting = false;
  let tookMs = 0;
  deps.onAccessChange?.(() => {
    if (waiting) return;
    waiting = true;
    deps.clock.after(Math.max(recheckAfterMs, recheckShare * tookMs), () => {
      waiting = false;
      const began = deps.clock.mono();
      for (const recheck of [...core.rechecks]) recheck();
      tookMs = deps.clock.mono() - began;
    });
  });

  // Revisions of live state begin at the time of start: larger than any an earlier process gave out.
  function feedOf(kind: KindDefinition): Feed {
    let feed = feeds.get(kind);
    if (feed === undefined) {
      feed = kind.virtual ? new VirtualMirror(deps.virtual, kind, deps.clock.now()) : storeFeed(deps.store, resourceOf(kind));
      const builtin = deps.builtin?.[resourceOf(kind)];
      if (builtin !== undefined) feed = withBuiltins(feed, builtin);
      feeds.set(kind, feed);
    }
    return feed;
  }

  return {
    async handle(request, holder, caller) {
      const startedMs = deps.clock.mono();
      const trail: Trail = {};
      let response: Response;
      let reason: string | undefined;
      try {
        response = await route(core, request, holder, caller, trail);
      } catch (error) {
        response = answerError(core, request, error);
        reason = error instanceof ApiError ? error.status.reason : undefined;
      }
      const durationMs = Math.round(deps.clock.mono() - startedMs);
      deps.answered?.(trail.verb ?? (trail.caller === undefined ? "none" : request.method.toLowerCase()), response.status, durationMs);
      noteForAudit(core, request, holder, trail, response.status, reason);
      deps.log.debug({ method: request.method, path: pathOf(request), code: response.status, durationMs }, "An API request was answered.");
      return response;
    },
    close() {
      for (const end of [...core.watches]) end();
    },
  };
}

async function route(core: Core, request: Request, holder: Holder, known: Caller | undefined, trail: Trail): Promise<Response> {
  const url = new URL(request.url);
  const path = url.pathname;
  const open = answerOpen(core, request, path);
  if (open !== undefined) return open;

  const { caller, whyNoMore } = known === undefined ? await identify(core, request, holder) : { caller: known };
  trail.caller = caller;
  // Before it is judged: who was refused a backup is worth knowing too.
  trail.sensitive = core.deps.routes.some((extra) => extra.sensitive === true && path.startsWith(extra.prefix));
  const call: Call = { request, query: url.searchParams, caller, whyNoMore, hold: () => holder.timeout(request, 0), warnings: [], trail };
  if (path.startsWith("/api/") || path.startsWith("/apis/") || path === "/api" || path === "/apis") {
    const discovered = request.method === "GET" ? discover(core.registry, request, path) : undefined;
    if (discovered === undefined) return withWarnings(await answerResource(core, call, path), call.warnings);
    permitPath(core, call, path);
    return discovered;
  }
  permitPath(core, call, path);
  if (path === "/openapi/v2" && request.method === "GET") return openapiV2(request, core.deps.version);
  if (/^\/openapi\/v3(\/|$)/.test(path) && request.method === "GET") return openapiV3(core.registry, request, path, core.deps.version);
  if (path.startsWith("/weft/v1alpha1/")) {
    const answer = await answerWeft(core, call, path);
    if (answer !== undefined) return withWarnings(answer, call.warnings);
  }
  for (const extra of core.deps.routes) {
    if (!path.startsWith(extra.prefix)) continue;
    let held = false;
    const hold = () => {
      held = true;
      call.hold();
    };
    const answer = await extra.handle(request, caller, hold);
    if (answer !== undefined) return held ? endsWithItsRight(core, call, path, answer) : answer;
  }
  throw pathNotFound(`there is nothing at ${path}; the API is under /api and /apis`);
}

/** What Kubernetes has no request for. Loaded when it is first asked for. */
async function answerWeft(core: Core, call: Call, path: string): Promise<Response | undefined> {
  const what = `${call.request.method} ${path.slice("/weft/v1alpha1/".length)}`;
  const resource = (inside: Core, each: Call, request: Request) => answerResource(inside, each, new URL(request.url).pathname);
  if (what === "POST transactions") return (await import("./transaction.ts")).answerTransaction(core, call, resource);
  if (what === "GET history") return (await import("./past.ts")).answerHistory(core, call);
  if (what === "POST rollback") return (await import("./past.ts")).answerRollback(core, call, resource);
  return undefined;
}

/** RFC 9111 warn-code 299; each text once, and not so many that the head of the answer grows too large for clients. */
function withWarnings(response: Response, warnings: readonly string[]): Response {
  for (const text of [...new Set(warnings)].slice(0, 32))
    response.headers.append("warning", `299 - ${JSON.stringify(text.replace(/[^\x20-\x7e]/g, "?").slice(0, 256))}`);
  return response;
}

/** SPIFFE federation: certificates that every peer is shown anyway. */
const bundlePath = "/spiffe-bundle";

function answerOpen(core: Core, request: Request, path: string): Response | undefined {
  const plain = (text: string, status = 200) => new Response(text, { status, headers: { "content-type": "text/plain; charset=utf-8" } });
  const isOpen = path === "/healthz" || path === "/livez" || path === "/readyz" || path === "/version" || path === bundlePath;
  if (!isOpen) return undefined;
  if (request.method !== "GET" && request.method !== "HEAD")
    throw methodNotAllowed(`${request.method} is not possible at ${path}; only GET is`);
  if (path === "/version") {
    const gitVersion = `v${kubernetesLevel.major}.${kubernetesLevel.minor}.0+weft.${core.deps.version}`;
    return json(request, {
      ...kubernetesLevel,
      gitVersion,
      gitCommit: "",
      gitTreeState: "",
      buildDate: "",
      goVersion: "",
      compiler: "",
      platform: "",
      weftVersion: core.deps.version,
    });
  }
  if (path === bundlePath) {
    if (core.deps.bundle === undefined) return undefined;
    return new Response(core.deps.bundle(), { headers: { "content-type": "application/json" } });
  }
  const why = path === "/readyz" ? core.deps.notReady() : undefined;
  return why === undefined ? plain("ok") : plain(`not ready: ${why}\n`, 503);
}

async function identify(core: Core, request: Request, holder: Holder): Promise<Pick<Call, "caller" | "whyNoMore">> {
  const { limits } = core.deps;
  const address = holder.requestIP?.(request)?.address ?? "";
  // As in Kubernetes: the certificate speaks first, and where it is not good another credential may.
  const { certificate } = holder;
  const other = certificate?.ok === true || (certificate !== undefined && !request.headers.has("authorization"));
  const answer = other ? certificate : await core.deps.authenticate(request);
  if (!answer.ok) {
    // Good credentials from the same address are not held up: behind it may be many.
    const blocked = limits?.refused(address) ?? 0;
    if (blocked > 0) throw tooManyRequests("too many requests with refused credentials came from this address; try again later", blocked);
    throw unauthorized(answer.reason);
  }
  const wait = limits?.take(answer.caller) ?? 0;
  if (wait > 0)
    throw tooManyRequests(`${answer.caller.user} asks more often than this control plane allows a credential; try again later`, wait);
  const asOther = [...request.headers.keys()].some((name) => name.startsWith("impersonate-"));
  return { caller: asOther ? impersonate(core, request, answer.caller) : answer.caller, whyNoMore: answer.whyNoMore };
}

/** `kubectl --as`: an answer as somebody with less rights must never be given with more. */
function impersonate(core: Core, request: Request, caller: Caller): Caller {
  const user = request.headers.get("impersonate-user") ?? "";
  const groups = (request.headers.get("impersonate-group") ?? "")
    .split(",")
    .map((each) => each.trim())
    .filter((each) => each !== "");
  const other = [...request.headers.keys()].find(
    (name) => name.startsWith("impersonate-") && name !== "impersonate-user" && name !== "impersonate-group",
  );
  const refuse = (plural: string, name: string, why: string) => forbidden({ plural, group: "", name }, why);
  if (other !== undefined) throw badRequest(`the header ${other} is not known here; Impersonate-User and Impersonate-Group are`);
  if (user === "") throw refuse("users", "", "name whom to act as (Impersonate-User); groups alone are nobody");
  const subject = (core.deps.callerNamed ?? callerNamed)(user, groups);
  if (subject === undefined) throw refuse("users", user, "there is nobody of that name");
  if (caller.kind === "admin") return { ...subject, actingAs: caller.user };
  if (subject.kind === "admin") throw refuse("users", user, `${caller.user} may not act as the administrator`);
  const may = (resource: string, namespace: string, name: string) => {
    const decision = core.deps.authorize(caller, { type: "resource", verb: "impersonate", resource, subresource: "", namespace, name });
    if (!decision.allowed) throw refuse(resource, name, decision.reason);
  };
  if (subject.kind === "workload") may("serviceaccounts", subject.namespace, subject.serviceAccount);
  else {
    may("users", "", user);
    for (const group of subject.groups) may("groups", "", group);
  }
  return { ...subject, actingAs: caller.user };
}

const readMethods: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** Nothing is noted of requests without good credentials: they change nothing, and would push the rest out of a log that is bounded. */
function noteForAudit(core: Core, request: Request, holder: Holder, trail: Trail, code: number, reason: string | undefined): void {
  const { audit } = core.deps;
  const { caller } = trail;
  if (audit === undefined || caller === undefined || trail.asksOnly === true) return;
  if (readMethods.has(request.method) && trail.sensitive !== true) return;
  if (isRenewal(trail, code)) return;
  const ip = holder.requestIP?.(request);
  const { verb = request.method.toLowerCase(), resource, namespace, name, operations } = trail;
  const entry: AuditEntry = {
    user: caller.user,
    ...(caller.actingAs !== undefined && { actingAs: caller.actingAs }),
    verb,
    ...(resource === undefined ? { path: pathOf(request) } : { resource, ...(namespace && { namespace }), ...(name && { name }) }),
    ...((trail.dryRun === true || (new URL(request.url).searchParams.get("dryRun") ?? "") !== "") && { dryRun: true as const }),
    ...(operations !== undefined && { operations }),
    code,
    ...(reason !== undefined && { reason }),
    from: ip === null || ip === undefined ? "" : `${ip.address}:${ip.port}`,
    agent: (request.headers.get("user-agent") ?? "").slice(0, 200),
  };
  audit.record(entry);
}

/** Holders renew their Leases every other second, and would drive everything else out of the log. What was refused for want of permission stays. */
function isRenewal({ resource, verb }: Trail, code: number): boolean {
  return resource === "leases.coordination.k8s.io" && (verb === "update" || verb === "patch") && (code === 200 || code === 409);
}

const verbsByMethod: Readonly<Record<string, string>> = { POST: "create", PUT: "update", PATCH: "patch", DELETE: "delete" };

function permitPath(core: Core, call: Call, path: string): void {
  const verb = call.request.method.toLowerCase() as Lowercase<string>;
  const decision = core.deps.authorize(call.caller, { type: "path", verb, path });
  if (!decision.allowed) throw forbidden(undefined, decision.reason);
}

async function answerResource(core: Core, call: Call, path: string): Promise<Response> {
  const target = parseTarget(core.registry, path);
  if ("review" in target) return answerReview(core, call, target);
  const resourceCall = { ...call, target };
  const { method } = call.request;
  const { kind, name, subresource } = target;
  const resource = resourceOf(kind);
  Object.assign(call.trail, { resource: subresource === "" ? resource : `${resource}/${subresource}`, namespace: target.namespace, name });
  call.trail.verb = method === "DELETE" && name === "" ? "deletecollection" : (verbsByMethod[method] ?? (name === "" ? "list" : "get"));
  // As Kubernetes reads a flag: there and not denied.
  const watching = !["false", "0"].includes((call.query.get("watch") ?? "false").toLowerCase());
  if (method === "GET") {
    if (watching && subresource === "") {
      call.trail.verb = "watch";
      return watchObjects(core, resourceCall);
    }
    return name === "" ? listObjects(core, resourceCall) : getObject(core, resourceCall);
  }
  if (kind.virtual) throw methodNotAllowed(`${kind.plural} are live state: they can be read, not written`);
  if (name === "") {
    if (method === "POST") return createObject(core, resourceCall);
    if (method === "DELETE") return deleteCollection(core, resourceCall);
  } else {
    if (method === "PUT") return updateObject(core, resourceCall);
    if (method === "PATCH") return patchObject(core, resourceCall);
    if (method === "DELETE" && subresource === "") return deleteObject(core, resourceCall);
  }
  const possible =
    name === "" ? "GET, POST and DELETE are" : subresource === "" ? "GET, PUT, PATCH and DELETE are" : "GET, PUT and PATCH are";
  throw methodNotAllowed(`${method} is not possible at ${path}; ${possible}`);
}

function answerError(core: Core, request: Request, error: unknown): Response {
  const known = toApiError(error);
  if (known === undefined && request.signal.aborted) {
    // The client left in the middle of its body; nobody reads this answer.
    return new Response(null, { status: 499 });
  }
  if (known === undefined) {
    core.deps.log.error(
      { method: request.method, path: pathOf(request), error, stack: error instanceof Error ? error.stack : undefined },
      "An API request failed.",
    );
  } else if (known.status.code === 503) {
    core.deps.log.error({ method: request.method, path: pathOf(request), error: known.message }, "The store failed.");
  }
  const { status } = known ?? internalError("an internal error occurred; the control plane's log has the details");
  const response = json(request, status, status.code);
  if (status.code === 429) response.headers.set("retry-after", String(status.details?.retryAfterSeconds ?? 1));
  if (status.code === 401) response.headers.set("www-authenticate", 'Bearer realm="weft"');
  return response;
}

function toApiError(error: unknown): ApiError | undefined {
  if (error instanceof ApiError) return error;
  if (error instanceof StoreFailure) return unavailable(error.message);
  if (error instanceof ObjectTooLargeError) return bodyTooLarge(error.message);
  if (error instanceof CompactedError) return expired(error.message);
  return undefined;
}

// Without the query: the dashboard's first request carries its token there.
function pathOf(request: Request): string {
  return new URL(request.url).pathname;
}

function makeLock(): <T>(run: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (run) => {
    const turn = last.then(run, run);
    last = turn;
    return turn;
  };
}
