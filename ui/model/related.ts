// Owns: which objects of the API belong to one service of the picture: its instances and proxies, the routes that lead to it, the policies that guard it.
// Pure; knows only the fields it matches on. What it cannot match it leaves out, it never guesses.

import type { ProxyObject } from "../../src/api/live.ts";
import type { Condition, KubeObject } from "../../src/api/meta.ts";
import type { ServiceNode } from "./picture.ts";

/** Everything the page fetches to explain a service. */
export interface Objects {
  readonly entries: readonly KubeObject[];
  readonly services: readonly KubeObject[];
  readonly routes: readonly KubeObject[];
  readonly policies: readonly KubeObject[];
}

export interface Instance {
  readonly name: string;
  readonly version: string;
  readonly address: string;
  readonly ready: boolean;
  /** Why it is not ready; empty when it is. */
  readonly reason: string;
  readonly proxy: ProxyObject | null;
}

export interface RelatedObject {
  readonly object: KubeObject;
  /** Why it is listed: `routes calls to reviews`. */
  readonly why: string;
  readonly problems: readonly string[];
}

type Labels = Readonly<Record<string, string>>;

/** Instances (WorkloadEntries with the label app) with the proxy of the same name; proxies without an entry come last. */
export function instancesOf(node: ServiceNode, entries: readonly KubeObject[], proxies: readonly ProxyObject[]): Instance[] {
  const byName = new Map(proxies.filter((p) => p.metadata.namespace === node.namespace).map((p) => [p.metadata.name, p]));
  const found: Instance[] = [];
  for (const entry of entriesOf(node, entries)) {
    const name = entry.metadata.name;
    const healthy = conditionsOf(entry.status).find((c) => c.type === "Healthy");
    const ready = healthy === undefined || healthy.status === "True";
    found.push({
      name,
      version: entry.metadata.labels?.version ?? "",
      address: text(record(entry.spec)?.address),
      ready,
      reason: ready ? "" : (healthy?.message ?? "") || (healthy?.reason ?? "") || "not healthy",
      proxy: byName.get(name) ?? null,
    });
    byName.delete(name);
  }
  for (const proxy of byName.values()) {
    if (proxy.metadata.labels?.app !== node.name) continue;
    const version = proxy.metadata.labels.version ?? "";
    found.push({ name: proxy.metadata.name, version, address: proxy.status.address, ready: false, reason: "not registered", proxy });
  }
  return found.sort((a, b) => compare(a.version, b.version) || compare(a.name, b.name));
}

/** Names of the Services that lead to the node: its own name, and those whose selector takes one of its instances. */
export function serviceNamesOf(node: ServiceNode, objects: Objects): ReadonlySet<string> {
  const labels = labelsOf(node, objects.entries);
  const names = new Set([node.name]);
  for (const service of objects.services) {
    if (service.metadata.namespace !== node.namespace) continue;
    const selector = record(record(service.spec)?.selector);
    if (selector && Object.keys(selector).length > 0 && labels.some((l) => selects(selector, l))) names.add(service.metadata.name);
  }
  return names;
}

/** HTTPRoutes with a Service of the node as parent, then those that only send calls on to one. */
export function routesOf(node: ServiceNode, objects: Objects): RelatedObject[] {
  const names = serviceNamesOf(node, objects);
  const parents: RelatedObject[] = [];
  const targets: RelatedObject[] = [];
  for (const object of objects.routes) {
    const spec = record(object.spec);
    const home = object.metadata.namespace ?? "";
    const refersTo = (ref: unknown): string | undefined => {
      const r = record(ref);
      const isService = r !== undefined && (r.kind ?? "Service") === "Service" && (r.group ?? "") === "";
      return isService && (r.namespace ?? home) === node.namespace && names.has(text(r.name)) ? text(r.name) : undefined;
    };
    // A parent without kind is a Gateway by the Gateway API's default, so it never names a Service.
    const parent = list(spec?.parentRefs).find((ref) => record(ref)?.kind === "Service" && refersTo(ref) !== undefined);
    if (parent !== undefined) {
      parents.push({ object, why: `routes calls to ${refersTo(parent)}`, problems: problemsOf(object) });
      continue;
    }
    const backends = list(spec?.rules).flatMap((rule) => list(record(rule)?.backendRefs));
    const target = backends.map(refersTo).find((name) => name !== undefined);
    if (target !== undefined) targets.push({ object, why: `sends calls on to ${target}`, problems: problemsOf(object) });
  }
  return [...parents.sort(byObjectName), ...targets.sort(byObjectName)];
}

/** Policies of this namespace hold for the whole mesh. The same as in api/kinds/authorizationpolicy.ts (a test compares), whose schemas the page need not load. */
export const rootNamespace = "weft-system";

/** AuthorizationPolicies in force at the node: of its namespace and of the root namespace, those without selector or whose selector takes an instance. */
export function policiesOf(node: ServiceNode, objects: Objects): RelatedObject[] {
  const labels = labelsOf(node, objects.entries);
  const found: RelatedObject[] = [];
  for (const object of objects.policies) {
    const { namespace } = object.metadata;
    if (namespace !== node.namespace && namespace !== rootNamespace) continue;
    const wanted = record(record(record(object.spec)?.selector)?.matchLabels) ?? {};
    if (!labels.some((own) => selects(wanted, own))) continue;
    const by = Object.entries(wanted).map(([key, value]) => `${key}=${String(value)}`);
    const reach = namespace === rootNamespace ? "the whole mesh" : `all of ${node.namespace}`;
    found.push({ object, why: by.length > 0 ? `selects ${by.join(", ")}` : `holds for ${reach}`, problems: problemsOf(object) });
  }
  return found.sort(byObjectName);
}

/** The object as a person writes it: no bookkeeping of the server, no status. */
export function asWritten(object: KubeObject): KubeObject {
  const { status: _status, metadata, ...rest } = object;
  const { uid: _u, resourceVersion: _r, generation: _g, managedFields: _m, creationTimestamp: _c, annotations, ...kept } = metadata;
  const { "kubectl.kubernetes.io/last-applied-configuration": _last, ...notes } = annotations ?? {};
  const written = Object.keys(notes).length > 0 ? { ...kept, annotations: notes } : kept;
  const { apiVersion, kind, ...body } = rest;
  return { apiVersion, kind, metadata: written, ...body };
}

/** Conditions that are not as they should be, as `ResolvedRefs: Service reviews-v3 not found`. */
export function problemsOf(object: KubeObject): string[] {
  const status = record(object.status);
  const all = [...conditionsOf(status), ...list(status?.parents).flatMap((parent) => conditionsOf(parent))];
  // Every condition that our kinds and the Gateway API define for these objects is good when True.
  return [...new Set(all.filter((c) => c.status === "False").map((c) => `${c.type}: ${c.message || c.reason}`))];
}

function entriesOf(node: ServiceNode, entries: readonly KubeObject[]): KubeObject[] {
  return entries.filter((e) => e.metadata.namespace === node.namespace && e.metadata.labels?.app === node.name);
}

function labelsOf(node: ServiceNode, entries: readonly KubeObject[]): Labels[] {
  const own = entriesOf(node, entries).map((e) => e.metadata.labels ?? {});
  return own.length > 0 ? own : [{ app: node.name }];
}

function selects(selector: Readonly<Record<string, unknown>>, labels: Labels): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value);
}

function conditionsOf(holder: unknown): Condition[] {
  return list(record(holder)?.conditions) as Condition[];
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function byObjectName(a: RelatedObject, b: RelatedObject): number {
  return compare(a.object.metadata.name, b.object.metadata.name);
}
