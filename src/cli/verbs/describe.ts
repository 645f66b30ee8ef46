// Owns: `weft describe`: one object, its conditions, and the live state around it. What is around a kind stands in one table below;
// a kind that is not in it is shown without surroundings.

import { type EventObject, lastSeen } from "../../api/kinds/event.ts";
import type { EdgeObject, ProxyObject } from "../../api/live.ts";
import type { Condition, KubeObject } from "../../api/meta.ts";
import { ApiFailure, type Client } from "../client.ts";
import { pathOf, type Resource } from "../discovery.ts";
import { UsageFailure } from "../failure.ts";
import { lastAppliedAnnotation } from "../merge.ts";
import { ageOf, bytes, type CellLike, milliseconds, percent, printed, short, table, toYaml } from "../output.ts";
import { openSession, type Session } from "../session.ts";
import { paint, type Terminal } from "../terminal.ts";
import type { Invocation } from "../verb.ts";

/** One block under the object: a heading and its text. */
interface Section {
  readonly title: string;
  readonly text: string;
}

type Around = (object: KubeObject, session: Session, colour: boolean) => Promise<readonly Section[]>;

const around: Readonly<Record<string, Around>> = { Service: aroundService, WorkloadEntry: aroundEntry };

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal } = invocation;
  const [first, second] = args.operands as [string, string | undefined];
  const slash = first.indexOf("/");
  const kind = slash < 0 ? first : first.slice(0, slash);
  const name = slash < 0 ? second : first.slice(slash + 1);
  if (name === undefined || name === "" || (slash >= 0 && second !== undefined)) {
    throw new UsageFailure(`weft describe needs one name: weft describe ${kind} NAME`);
  }
  const session = openSession(invocation);
  const resource = await session.find(kind);
  const namespace = resource.namespaced ? session.namespace : undefined;
  const object = await session.client.json<KubeObject>(pathOf(resource, namespace, name));
  const { managedFields: _managers, ...metadata } = object.metadata;
  if (await printed(terminal, args.text("output"), { ...object, metadata })) return 0;
  await show(object, resource, session, terminal);
  return 0;
}

async function show(object: KubeObject, resource: Resource, session: Session, terminal: Terminal): Promise<void> {
  const { colour } = terminal;
  const { metadata } = object;
  const now = Date.now();
  const title = (text: string) => paint(colour, "bold", text);
  const facts: [string, string][] = [["Name:", metadata.name]];
  if (resource.namespaced) facts.push(["Namespace:", metadata.namespace ?? ""]);
  facts.push(["Kind:", `${object.kind} (${object.apiVersion})`]);
  if (metadata.labels !== undefined) facts.push(["Labels:", pairs(metadata.labels).join("\n")]);
  const notes = { ...metadata.annotations };
  delete notes[lastAppliedAnnotation];
  if (Object.keys(notes).length > 0) facts.push(["Annotations:", pairs(notes).join("\n")]);
  if (metadata.creationTimestamp !== undefined)
    facts.push(["Created:", `${ageOf(metadata.creationTimestamp, now)} ago (${metadata.creationTimestamp})`]);
  const width = Math.max(...facts.map(([key]) => key.length)) + 2;
  for (const [key, value] of facts)
    terminal.out(`${title(key)}${" ".repeat(width - key.length)}${value.replaceAll("\n", `\n${" ".repeat(width)}`)}\n`);

  const { apiVersion: _a, kind: _k, metadata: _m, status, ...content } = object;
  const body = "spec" in content && Object.keys(content).length === 1 ? content.spec : content;
  if (body !== undefined && Object.keys(body as object).length > 0) {
    const text = await toYaml(body);
    terminal.out(`\n${title("spec" in content ? "Spec:" : "Content:")}\n${text.trimEnd().replace(/^/gm, "  ")}\n`);
  }
  await showStatus(status as Record<string, unknown> | undefined, object, terminal);
  for (const section of (await around[object.kind]?.(object, session, colour)) ?? []) {
    terminal.out(`\n${title(section.title)}\n${section.text.trimEnd().replace(/^/gm, "  ")}\n`);
  }
  const events = await eventsOf(object, resource, session);
  if (events !== "") terminal.out(`\n${title("Events:")}\n${events.trimEnd().replace(/^/gm, "  ")}\n`);
}

/** What happened to it in the last hour, oldest first; empty: nothing, or the caller may not see it. Objects without namespace have theirs in `default`. */
async function eventsOf({ metadata, kind }: KubeObject, resource: Resource, session: Session): Promise<string> {
  const about = `involvedObject.name=${metadata.name},involvedObject.kind=${kind}`;
  const place = resource.namespaced ? metadata.namespace : "default";
  const all = await listOf<EventObject>(session, "events", place, "", about);
  // One that was made anew under the name has nothing to do with what happened to the old one.
  const mine = all.filter(
    ({ involvedObject: { uid } }) => uid === undefined || uid === "" || metadata.uid === undefined || uid === metadata.uid,
  );
  if (mine.length === 0) return "";
  const now = Date.now();
  const rows = mine
    .toSorted((a, b) => lastSeen(a).localeCompare(lastSeen(b)))
    .map((event): CellLike[] => [
      ageOf(lastSeen(event), now),
      event.type === "Warning" ? { text: "Warning", tone: "yellow" } : (event.type ?? ""),
      event.reason ?? "",
      `${event.message ?? ""}${(event.count ?? 1) > 1 ? ` (${event.count} times)` : ""}`,
    ]);
  return table(["LAST SEEN", "TYPE", "REASON", "MESSAGE"], rows, false);
}

function pairs(map: Readonly<Record<string, string>>): string[] {
  return Object.entries(map).map(([key, value]) => `${key}=${value}`);
}

interface Attached {
  readonly parentRef?: AttachedTo;
  readonly ancestorRef?: AttachedTo;
  readonly conditions?: readonly Condition[];
}

interface AttachedTo {
  readonly kind?: string;
  readonly name?: string;
  readonly port?: number;
  readonly sectionName?: string;
}

interface Listener {
  readonly name: string;
  readonly attachedRoutes?: number;
  readonly conditions?: readonly Condition[];
}

/** Conditions wherever a kind keeps them: in `status.conditions`, or for each parent or ancestor of a route or policy, or for each listener. */
async function showStatus(status: Record<string, unknown> | undefined, object: KubeObject, terminal: Terminal): Promise<void> {
  if (status === undefined || Object.keys(status).length === 0) return;
  const { colour } = terminal;
  const title = (text: string) => terminal.out(`\n${paint(colour, "bold", text)}\n`);
  const rest = { ...status };
  const conditions = status.conditions as readonly Condition[] | undefined;
  if (Array.isArray(conditions) && conditions.length > 0) {
    delete rest.conditions;
    title("Conditions:");
    terminal.out(conditionTable(conditions, object, colour));
  }
  for (const field of ["parents", "ancestors"] as const) {
    const attached = status[field] as readonly Attached[] | undefined;
    if (!Array.isArray(attached)) continue;
    delete rest[field];
    for (const each of attached as readonly Attached[]) {
      const { kind = "Gateway", name = "?", port, sectionName } = each.parentRef ?? each.ancestorRef ?? {};
      title(`For ${kind} ${name}${sectionName === undefined ? "" : `/${sectionName}`}${port === undefined ? "" : `:${port}`}:`);
      terminal.out(conditionTable(each.conditions ?? [], object, colour));
    }
  }
  if (Array.isArray(status.listeners)) {
    delete rest.listeners;
    for (const { name, attachedRoutes = 0, conditions: said = [] } of status.listeners as readonly Listener[]) {
      title(`Listener ${name}, ${attachedRoutes} ${attachedRoutes === 1 ? "route" : "routes"}:`);
      terminal.out(conditionTable(said, object, colour));
    }
  }
  for (const [field, value] of Object.entries(rest)) if (Array.isArray(value) && value.length === 0) delete rest[field];
  if (Object.keys(rest).length > 0) {
    title("Status:");
    terminal.out((await toYaml(rest)).trimEnd().replace(/^/gm, "  "));
    terminal.out("\n");
  }
}

function conditionTable(conditions: readonly Condition[], object: KubeObject, colour: boolean): string {
  const now = Date.now();
  const rows = conditions.map((c): CellLike[] => {
    const stale =
      c.observedGeneration !== undefined && object.metadata.generation !== undefined && c.observedGeneration < object.metadata.generation;
    return [
      c.type,
      { text: c.status, tone: c.status === "True" ? "green" : c.status === "False" ? "red" : "yellow" },
      c.reason,
      c.lastTransitionTime === undefined ? "" : ageOf(c.lastTransitionTime, now),
      `${c.message}${stale ? " (of an earlier generation)" : ""}`,
    ];
  });
  return table(["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], rows, colour).replace(/^(?=.)/gm, "  ");
}

/** A list of a kind, empty when the caller may not see it or the server has none. */
async function listOf<T extends KubeObject>(
  session: Session,
  word: string,
  namespace: string | undefined,
  selector = "",
  fields = "",
): Promise<readonly T[]> {
  try {
    const resource = await session.find(word);
    const asked = [
      ...(selector === "" ? [] : [`labelSelector=${encodeURIComponent(selector)}`]),
      ...(fields === "" ? [] : [`fieldSelector=${encodeURIComponent(fields)}`]),
    ];
    const query = asked.length === 0 ? "" : `?${asked.join("&")}`;
    return (await session.client.json<{ items: T[] }>(pathOf(resource, namespace) + query)).items;
  } catch (error) {
    if (error instanceof ApiFailure) return [];
    throw error;
  }
}

const routeNames = ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"];
const routeKinds = routeNames.map((kind) => `${kind.toLowerCase()}s`);

async function aroundService(service: KubeObject, session: Session, colour: boolean): Promise<readonly Section[]> {
  const namespace = service.metadata.namespace as string;
  const { name } = service.metadata;
  const selector = (service.spec as { selector?: Record<string, string> } | undefined)?.selector ?? {};
  const wanted = Object.entries(selector);
  const [entries, routes, policies, edges] = await Promise.all([
    listOf(session, "workloadentries.networking.istio.io", namespace),
    Promise.all(routeKinds.map((kind) => listOf(session, `${kind}.gateway.networking.k8s.io`, undefined))),
    listOf(session, "authorizationpolicies.security.istio.io", namespace),
    listOf<EdgeObject>(session, "edges.weft.dev", undefined),
  ]);
  const labels = (object: KubeObject) => ({ ...object.metadata.labels, ...(object.spec as { labels?: Record<string, string> }).labels });
  const mine = wanted.length === 0 ? [] : entries.filter((e) => wanted.every(([key, value]) => labels(e)[key] === value));
  const instances = mine.map((e): CellLike[] => {
    const spec = e.spec as { address?: string; ports?: Record<string, number> };
    const health = healthOf(e);
    return [
      e.metadata.name,
      labels(e).version ?? "-",
      `${spec.address ?? "-"}${Object.entries(spec.ports ?? {})
        .map(([port, number]) => ` ${port}:${number}`)
        .join("")}`,
      { text: health.text, tone: health.good ? "green" : "red" },
    ];
  });
  const attached = routes.flatMap((ofKind, at) =>
    ofKind
      .filter((r) => attachesTo(r, name, namespace))
      .map((r) => [routeNames[at] ?? "", `${r.metadata.namespace}/${r.metadata.name}`, ageOf(r.metadata.creationTimestamp, Date.now())]),
  );
  const holding = policies.filter((p) => {
    const match = (p.spec as { selector?: { matchLabels?: Record<string, string> } } | undefined)?.selector?.matchLabels ?? {};
    return mine.some((e) => Object.entries(match).every(([key, value]) => labels(e)[key] === value));
  });
  const callers = edges
    .map((e) => e.status)
    .filter(
      (s) =>
        s.destination.namespace === namespace &&
        (s.destination.service === name || s.destination.service.startsWith(`${name}.${namespace}.`)),
    );
  return [
    {
      title: "Instances:",
      text:
        instances.length === 0
          ? `none${wanted.length === 0 ? " (no selector)" : ` with ${pairs(selector).join(",")}`}`
          : table(["NAME", "VERSION", "ADDRESS", "HEALTHY"], instances, colour),
    },
    { title: "Routes:", text: attached.length === 0 ? "none" : table(["KIND", "NAME", "AGE"], attached, colour) },
    {
      title: "Policies:",
      text:
        holding.length === 0
          ? "none"
          : table(
              ["NAME", "ACTION"],
              holding.map((p) => [p.metadata.name, String((p.spec as { action?: string }).action ?? "ALLOW")]),
              colour,
            ),
    },
    {
      title: "Callers:",
      text:
        callers.length === 0
          ? "none lately"
          : table(
              ["SOURCE", "RATE", "SUCCESS", "P50", "P99", "TRAFFIC", "MTLS"],
              callers.map((s) => [
                `${s.source.app}.${s.source.namespace}`,
                `${short(s.requestsPerSecond)}/s`,
                percent(s.successRatio),
                milliseconds(s.p50Ms),
                milliseconds(s.p99Ms),
                `${bytes(s.bytesPerSecond)}/s`,
                s.mutualTls === null ? "-" : s.mutualTls ? "yes" : { text: "no", tone: "red" },
              ]),
              colour,
            ),
    },
  ];
}

function healthOf(entry: KubeObject): { good: boolean; text: string } {
  const conditions = (entry.status as { conditions?: readonly Condition[] } | undefined)?.conditions;
  const healthy = conditions?.find((c) => c.type === "Healthy");
  if (healthy === undefined) return { good: true, text: "not checked" };
  return { good: healthy.status === "True", text: healthy.status === "True" ? "yes" : `no: ${healthy.reason}` };
}

function attachesTo(route: KubeObject, service: string, namespace: string): boolean {
  const refs =
    (route.spec as { parentRefs?: readonly { kind?: string; name?: string; namespace?: string }[] } | undefined)?.parentRefs ?? [];
  return refs.some((ref) => ref.kind === "Service" && ref.name === service && (ref.namespace ?? route.metadata.namespace) === namespace);
}

async function aroundEntry(entry: KubeObject, session: Session, colour: boolean): Promise<readonly Section[]> {
  const proxy = await proxyOf(session.client, entry);
  if (proxy === undefined) return [{ title: "Sidecar:", text: "none is connected" }];
  const { status } = proxy;
  const types = Object.entries(status.types).map(([type, state]): CellLike[] => [
    type,
    String(state.resources),
    state.accepted.slice(0, 12) || "-",
    state.accepted === state.sent ? { text: "yes", tone: "green" } : { text: `no, ${state.sent.slice(0, 12)} is sent`, tone: "yellow" },
  ]);
  const lines = [
    `${status.connected ? "connected" : paint(colour, "red", "not connected")} since ${ageOf(status.connectedAt, Date.now())}, ${status.agent}, from ${status.address}`,
    `identity ${status.identity || "(none yet)"}`,
    "",
    table(["TYPE", "RESOURCES", "ACCEPTED", "IN STEP"], types, colour).trimEnd(),
  ];
  if (status.lastRejection !== null) {
    lines.push(
      "",
      paint(
        colour,
        "red",
        `rejected ${status.lastRejection.type} ${ageOf(status.lastRejection.at, Date.now())} ago: ${status.lastRejection.reason}`,
      ),
    );
  }
  return [{ title: "Sidecar:", text: lines.join("\n") }];
}

async function proxyOf(client: Client, entry: KubeObject): Promise<ProxyObject | undefined> {
  try {
    return await client.json<ProxyObject>(`/apis/weft.dev/v1alpha1/namespaces/${entry.metadata.namespace}/proxies/${entry.metadata.name}`);
  } catch (error) {
    if (error instanceof ApiFailure) return undefined;
    throw error;
  }
}
