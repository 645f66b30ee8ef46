// Owns: one watch: a response that goes on, one JSON event a line. Never lets a slow client grow a buffer without end.

import type { KubeObject } from "../../api/meta.ts";
import { CompactedError, type Revision, type StoreEvent, type WatchHandle } from "../store/store.ts";
import { type Core, type Feed, includeObject, permit, type ResourceCall } from "./core.ts";
import { formOf } from "./negotiate.ts";
import { shownAs } from "./objects.ts";
import { wholeNumber } from "./reads.ts";
import { apiVersionOf } from "./registry.ts";
import { parseSelectors } from "./selector.ts";
import { ApiError, badRequest, expired, type Status, tooManyRequests, unauthorized } from "./status.ts";
import { makeTable, partialOf } from "./table.ts";
import { WatchStream } from "./watch-stream.ts";

/** Kubernetes ends watches after 30 to 60 minutes unless the client says otherwise; so does this server, at the lower end. */
const defaultTimeoutSeconds = 1800;
const bookmarkEveryMs = 60_000;
/**
 * A space in front of the next event: no JSON reader minds it. It makes Bun send the response's headers before the first event, tells a
 * quiet watch from a dead connection, and keeps clients with a timeout for silence (@kubernetes/client-node: 30 s) from coming back.
 */
const heartbeat = " ";
const heartbeatEveryMs = 15_000;

/** Each holds a stream, timers and perhaps the names of its objects. A controller has some dozens; of all together a small server still bears. */
export const maxWatchesOfUser = 1_000;
export const maxWatches = 10_000;
const watchAgainSeconds = 5;

type EventType = "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";

export async function watchObjects(core: Core, call: ResourceCall): Promise<Response> {
  const { owns } = permit(core, call, "watch");
  const leave = enter(core, call.caller.user);
  try {
    return await openWatch(core, call, owns, leave);
  } catch (error) {
    leave();
    throw error;
  }
}

/** Counts a watch until what is returned is called, however often. Throws 429. */
function enter(core: Core, user: string): () => void {
  const { watching, watches } = core;
  const own = watching.get(user) ?? 0;
  if (own >= maxWatchesOfUser)
    throw tooManyRequests(`${user} has ${own} watches open, the most that one credential may; end some`, watchAgainSeconds);
  if (watches.size >= maxWatches)
    throw tooManyRequests(
      `${watches.size} watches are open here, the most that this control plane serves; try again later`,
      watchAgainSeconds,
    );
  watching.set(user, own + 1);
  let left = false;
  return () => {
    if (left) return;
    left = true;
    const now = (watching.get(user) ?? 1) - 1;
    if (now === 0) watching.delete(user);
    else watching.set(user, now);
  };
}

async function openWatch(
  core: Core,
  call: ResourceCall,
  owns: ((object: KubeObject) => boolean) | undefined,
  leave: () => void,
): Promise<Response> {
  const { kind, namespace } = call.target;
  const { query } = call;
  const selected = parseSelectors(query, kind);
  const inNamespace = (object: KubeObject) => namespace === "" || object.metadata.namespace === namespace;
  const named = call.target.name;
  const narrowed = selected !== undefined || owns !== undefined || named !== "";
  const passes = (object: KubeObject) =>
    (named === "" || object.metadata.name === named) && (selected?.(object) ?? true) && (owns?.(object) ?? true);
  const timeoutSeconds = wholeNumber(query, "timeoutSeconds") || defaultTimeoutSeconds;
  const asked = wholeNumber(query, "resourceVersion") ?? 0;
  const initialEvents = query.get("sendInitialEvents");
  if (initialEvents === "true" && query.get("resourceVersionMatch") !== "NotOlderThan") {
    throw badRequest("sendInitialEvents=true needs resourceVersionMatch=NotOlderThan");
  }
  const bookmarks = query.get("allowWatchBookmarks") === "true";
  const line = lineWriter(core, call);

  const feed = core.feed(kind);
  const stream = new WatchStream();
  stream.send(heartbeat);
  // Without a resourceVersion a watch begins with what is there; Kubernetes calls it "get state and start at most recent".
  const fromList = initialEvents === "true" || (asked === 0 && initialEvents !== "false");
  // The objects are needed only to begin with them, or to know which of them the client has.
  const { items, revision: listedAt } =
    fromList || narrowed
      ? await feed.list(kind.namespaced && namespace !== "" ? namespace : undefined)
      : { items: [], revision: await feed.revision() };
  const from = fromList || asked === 0 ? listedAt : asked;
  let progress: Revision = from;

  // Which objects the client has: needed only where an object can leave the selection without being deleted.
  const held = new Set(narrowed ? items.filter((each) => passes(each) && Number(each.metadata.resourceVersion) <= from).map(idOf) : []);
  if (fromList) {
    stream.begin(beginning(items, listedAt));
  }

  const onEvent = (event: StoreEvent) => {
    if (!inNamespace(event.object)) return;
    const type = narrowed ? eventWithin(event, passes, held, listedAt) : plainTypes[event.type];
    if (type !== undefined) stream.send(line(type, event.object));
  };
  const end = await startWatch(
    core,
    feed,
    from,
    listedAt,
    onEvent,
    (revision) => {
      progress = revision;
    },
    stream,
    line,
  );

  const sendBookmark = () => stream.send(line("BOOKMARK", bookmarkObject(progress)));
  const timers = [
    core.deps.clock.after(timeoutSeconds * 1000, () => {
      if (bookmarks) sendBookmark();
      stream.end();
    }),
    core.deps.clock.every(heartbeatEveryMs, () => stream.beat(heartbeat)),
    ...(bookmarks ? [core.deps.clock.every(bookmarkEveryMs, sendBookmark)] : []),
  ];
  const close = () => stream.end();
  core.watches.add(close);
  const recheck = () => {
    const status = whyNoMore(core, call);
    if (status !== undefined) stream.endWith(line("ERROR", status));
  };
  core.rechecks.add(recheck);
  call.request.signal.addEventListener("abort", close);
  stream.onEnd(() => {
    core.watches.delete(close);
    core.rechecks.delete(recheck);
    call.request.signal.removeEventListener("abort", close);
    for (const timer of timers) timer.cancel();
    end.stop();
    leave();
  });
  if (call.request.signal.aborted) stream.end();
  // What was revoked while this watch was made.
  recheck();
  call.hold();
  return new Response(stream.body, { headers: { "content-type": "application/json", "cache-control": "no-cache, private" } });

  function* beginning(items: readonly KubeObject[], revision: Revision): Generator<string> {
    for (const object of items) if (passes(object)) yield line("ADDED", object);
    if (initialEvents === "true") yield line("BOOKMARK", bookmarkObject(revision, { "k8s.io/initial-events-end": "true" }));
  }

  function bookmarkObject(revision: Revision, annotations?: Record<string, string>): KubeObject {
    const metadata = { resourceVersion: String(revision), ...(annotations && { annotations }) } as KubeObject["metadata"];
    return { apiVersion: apiVersionOf(kind.group, call.target.version), kind: kind.kind, metadata };
  }
}

/** What a watch ends with whose caller would not get it now: 401 where the credentials are good no more, 403 where the right is gone. */
function whyNoMore(core: Core, call: ResourceCall): Status | undefined {
  const revoked = call.whyNoMore?.();
  if (revoked !== undefined) return unauthorized(revoked).status;
  try {
    permit(core, call, "watch");
    return undefined;
  } catch (error) {
    if (error instanceof ApiError) return error.status;
    throw error;
  }
}

const plainTypes = { added: "ADDED", modified: "MODIFIED", deleted: "DELETED" } as const;

// A revision that is gone, or that never was (another data folder), ends the stream with an ERROR event, as Kubernetes does:
// clients then list anew.
async function startWatch(
  core: Core,
  feed: Feed,
  from: Revision,
  current: Revision,
  onEvent: (event: StoreEvent) => void,
  onProgress: (revision: Revision) => void,
  stream: WatchStream,
  line: (type: EventType, object: unknown) => string,
): Promise<WatchHandle> {
  try {
    if (from <= current) return await feed.watch(from, onEvent, onProgress);
    stream.send(line("ERROR", expired(`too large resource version: ${from}, the newest is ${current}; list again`).status));
  } catch (error) {
    if (!(error instanceof CompactedError)) throw error;
    core.deps.log.debug({ from, oldest: error.oldest }, "A watch asked for history that is gone.");
    stream.send(line("ERROR", expired(`too old resource version: ${from} (${error.oldest}); list again`).status));
  }
  stream.end();
  return { stop() {} };
}

// What an event means to a client that sees a part of the objects: one that begins to pass is added, one that ceases to is deleted.
function eventWithin(
  event: StoreEvent,
  passes: (object: KubeObject) => boolean,
  held: Set<string>,
  listedAt: Revision,
): EventType | undefined {
  const id = idOf(event.object);
  const has = held.has(id);
  if (event.type !== "deleted" && passes(event.object)) {
    held.add(id);
    if (event.type === "added") return "ADDED";
    // Changed between the client's list and this watch: it may have it or not, and takes either word well.
    return has || event.revision <= listedAt ? "MODIFIED" : "ADDED";
  }
  held.delete(id);
  if (has) return "DELETED";
  // The same doubt: better to delete what the client does not have than to leave it what it should not have.
  return event.revision <= listedAt && event.type === "modified"
    ? "DELETED"
    : event.type === "deleted" && passes(event.object)
      ? "DELETED"
      : undefined;
}

function idOf(object: KubeObject): string {
  return `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
}

function lineWriter(core: Core, call: ResourceCall): (type: EventType, object: unknown) => string {
  const { kind, version } = call.target;
  const form = formOf(call.request);
  const include = includeObject(call.query);
  let first = true;
  return (type, object) => `${JSON.stringify({ type, object: type === "ERROR" ? object : shape(type, object as KubeObject) })}\n`;

  function shape(type: EventType, object: KubeObject): unknown {
    const shown = shownAs(kind, version, object);
    if (form === "object") return shown;
    if (form === "partial") return partialOf(shown);
    const metadata = { resourceVersion: object.metadata.resourceVersion ?? "" };
    const withColumns = first;
    first = false;
    return makeTable(kind, type === "BOOKMARK" ? [] : [shown], metadata, core.deps.clock.now(), include, withColumns);
  }
}
