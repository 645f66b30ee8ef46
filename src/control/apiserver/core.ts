// Owns: what the handlers of the API server share: the call at hand, permission, the write lock, where a kind's objects come from.

import { type KindDefinition, type KubeObject, resourceOf } from "../../api/meta.ts";
import type { Revision, StoreEvent, WatchHandle } from "../store/store.ts";
import type { Touched } from "./audit.ts";
import type { ApiServerDeps, Caller, Verb } from "./deps.ts";
import { formOf, json } from "./negotiate.ts";
import { shownAs } from "./objects.ts";
import type { ResourceTarget } from "./paths.ts";
import type { Registry } from "./registry.ts";
import { forbidden, type Subject } from "./status.ts";
import { makeTable, partialOf } from "./table.ts";

/** A write that names no resourceVersion is tried again when somebody (the publisher of statuses) wrote in between. */
export const maxTries = 8;

export interface Core {
  readonly deps: ApiServerDeps;
  readonly registry: Registry;
  /**
   * Runs one at a time, in order. Admission looks at other objects, so that between its verdict and the write nothing else may be
   * written through this server.
   */
  readonly exclusive: <T>(run: () => Promise<T>) => Promise<T>;
  readonly feed: (kind: KindDefinition) => Feed;
  /** What ends each open watch. */
  readonly watches: Set<() => void>;
  /** What judges the caller of each open watch again. */
  readonly rechecks: Set<() => void>;
  /** How many of them each user has. */
  readonly watching: Map<string, number>;
}

/** One kind's objects: from the store, or from live state. */
export interface Feed {
  list(namespace: string | undefined): Promise<{ readonly items: readonly KubeObject[]; readonly revision: Revision }>;
  /** As it was at an earlier revision, from behind an object on. Throws CompactedError. Live state keeps no past: it is shown as it is. */
  listAt(
    revision: Revision,
    namespace: string | undefined,
    after: { readonly namespace: string; readonly name: string } | undefined,
  ): Promise<readonly KubeObject[]>;
  get(namespace: string, name: string): Promise<KubeObject | undefined>;
  revision(): Promise<Revision>;
  /** Events of this kind; `onProgress` hears of every revision passed, also of those of other kinds. Throws CompactedError. */
  watch(from: Revision, onEvent: (event: StoreEvent) => void, onProgress: (revision: Revision) => void): Promise<WatchHandle>;
}

export interface Call {
  readonly request: Request;
  readonly query: URLSearchParams;
  readonly caller: Caller;
  /** Why the credentials of this call are good no more, see `Authentication`. */
  readonly whyNoMore?: (() => string | undefined) | undefined;
  readonly hold: () => void;
  /** Go out as Warning headers, which kubectl prints. */
  readonly warnings: string[];
  readonly trail: Trail;
}

/** What a request turns out to be about, for the audit log and the metrics; filled in on its way. */
export interface Trail {
  caller?: Caller;
  verb?: string;
  resource?: string;
  namespace?: string;
  name?: string;
  /** It only asks: no line in the audit log. */
  asksOnly?: boolean;
  /** It changes or hands out something though its method is GET. */
  sensitive?: boolean;
  dryRun?: boolean;
  operations?: Touched[];
}

export interface ResourceCall extends Call {
  readonly target: ResourceTarget;
}

/** Which objects a permission covers. */
export interface Narrowing {
  readonly owns: ((object: KubeObject) => boolean) | undefined;
  readonly ownsWhat: string;
}

/** Throws 403. */
export function permit(core: Core, call: ResourceCall, verb: Verb): Narrowing {
  const { kind, namespace, name, subresource } = call.target;
  const decision = core.deps.authorize(call.caller, { type: "resource", verb, resource: resourceOf(kind), subresource, namespace, name });
  if (!decision.allowed) throw forbidden(subjectOf(call), decision.reason);
  return { owns: decision.owns, ownsWhat: decision.ownsWhat ?? "it is not yours" };
}

/** Throws 403 for a write to what is part of the program, or that would give away more than the caller has. */
export async function guardWrite(core: Core, call: ResourceCall, candidate: KubeObject, existing: KubeObject | undefined): Promise<void> {
  const why = await core.deps.escalation?.(core.deps.store, call.caller, candidate, existing);
  if (why !== undefined) throw forbidden(subjectOf(call, candidate.metadata.name), why);
}

/** Throws 403 when the name belongs to the program. */
export function refuseReserved(core: Core, call: ResourceCall, name: string): void {
  if (core.deps.isReserved?.(resourceOf(call.target.kind), name) === true)
    throw forbidden(
      subjectOf(call, name),
      "it is part of every mesh and cannot be written, nor can another name that begins with system:; make one of your own",
    );
}

/** Throws 403 when the permission does not cover this object. */
export function checkOwned(call: ResourceCall, narrowing: Narrowing, object: KubeObject): void {
  if (narrowing.owns === undefined || narrowing.owns(object)) return;
  throw forbidden(
    { ...subjectOf(call), name: object.metadata.name },
    `${call.caller.user} may not touch this object: ${narrowing.ownsWhat}`,
  );
}

export function subjectOf(call: ResourceCall, name = call.target.name): Subject {
  return { plural: call.target.kind.plural, group: call.target.kind.group, name };
}

/** One object in the version and form asked for. */
export function answerObject(core: Core, call: ResourceCall, object: KubeObject, code = 200): Response {
  const { kind, version } = call.target;
  const shown = shownAs(kind, version, object);
  const form = formOf(call.request);
  if (form === "partial") return json(call.request, partialOf(shown), code);
  if (form === "object") return json(call.request, shown, code);
  const metadata = { resourceVersion: object.metadata.resourceVersion ?? "" };
  return json(call.request, makeTable(kind, [shown], metadata, core.deps.clock.now(), includeObject(call.query)), code);
}

export function includeObject(query: URLSearchParams): "None" | "Metadata" | "Object" {
  const asked = query.get("includeObject");
  return asked === "None" || asked === "Object" ? asked : "Metadata";
}
