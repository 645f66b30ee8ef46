// Owns: what the routes of Gateway API have in common: parents, backends, names of hosts; and what must hold of them beyond the schema.
// Never resolves a reference.

import { wrongExpression } from "../http-words.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { notImplemented, type Schema, show } from "../schema.ts";

export const gatewayGroup = "gateway.networking.k8s.io";

/** ListenerSet, and its experimental form from before it became part of the standard: their groups. */
export const listenerSetGroups = { ListenerSet: gatewayGroup, XListenerSet: "gateway.networking.x-k8s.io" } as const;

export type ListenerSetKind = keyof typeof listenerSetGroups;

export function isListenerSetKind(kind: string | undefined): kind is ListenerSetKind {
  return kind !== undefined && Object.hasOwn(listenerSetGroups, kind);
}

/** A name of a rule, a listener or a section (SectionName). */
export const sectionName: Schema = {
  type: "string",
  minLength: 1,
  maxLength: 253,
  pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
};

/** GEP-2257. */
export const gatewayDuration: Schema = { type: "string", pattern: "^([0-9]{1,5}(h|m|s|ms)){1,4}$" };

export interface ParentRef {
  readonly group?: string;
  readonly kind?: string;
  readonly namespace?: string;
  readonly name: string;
  readonly port?: number;
  readonly sectionName?: string;
}

/** A reference to a backend; of HTTP and gRPC routes also with filters. */
export interface BackendRef {
  readonly group?: string;
  readonly kind?: string;
  readonly namespace?: string;
  readonly name: string;
  readonly port?: number;
  readonly weight?: number;
}

/** A route of any kind, as far as parents go. */
export interface AnyRouteObject extends KubeObject {
  spec: { parentRefs?: ParentRef[]; hostnames?: string[]; rules?: readonly { readonly name?: string }[] };
}

export type Add = (path: string, message: string) => void;

/** Runs `check` and gives back what it found. */
export function gather(check: (add: Add) => void): Violation[] {
  const out: Violation[] = [];
  check((path, message) => out.push({ path, message }));
  return out;
}

export function isServiceParent(ref: ParentRef): boolean {
  return ref.kind === "Service";
}

/** Gateway API duration (GEP-2257): `1h30m`, `500ms`. The schema's pattern has held. */
export function durationMs(text: string): number {
  const unitMs = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const;
  let total = 0;
  for (const [, digits, unit] of text.matchAll(/(\d+)(ms|h|m|s)/g)) total += Number(digits) * unitMs[unit as keyof typeof unitMs];
  return total;
}

export function checkParents(route: AnyRouteObject, add: Add): void {
  const refs = route.spec.parentRefs ?? [];
  if (refs.length === 0) add("spec.parentRefs", "must name at least one Service or Gateway: without a parent the route does nothing");
  const seen = new Map<string, number>();
  for (const [at, ref] of refs.entries()) {
    const path = `spec.parentRefs[${at}]`;
    const group = ref.group ?? gatewayGroup;
    const kind = ref.kind ?? "Gateway";
    if (kind === "Service") {
      if (group !== "")
        add(
          `${path}.group`,
          `a Service is in the core group: write group: "" (got ${show(group)}${ref.group === undefined || group === gatewayGroup ? ", the standard's default" : ""})`,
        );
    } else if (kind === "Gateway") {
      if (group !== gatewayGroup)
        add(`${path}.group`, `a Gateway is in group ${gatewayGroup}, not ${show(group)}; for a Service write kind: Service`);
    } else if (isListenerSetKind(kind)) {
      const wanted = listenerSetGroups[kind];
      if (group !== wanted) add(`${path}.group`, `a ${kind} is in group ${wanted}, not ${show(group)}`);
    } else if (kind === "ServiceEntry")
      add(
        `${path}.kind`,
        notImplemented('parent kind "ServiceEntry"', "attach the route to a Service that the ServiceEntry's hosts stand behind"),
      );
    else add(`${path}.kind`, `a route can be attached to a Service, a Gateway or a ListenerSet, not to ${show(kind)}`);
    const key = `${kind}/${ref.namespace ?? route.metadata.namespace ?? ""}/${ref.name}/${ref.port ?? ""}/${ref.sectionName ?? ""}`;
    const before = seen.get(key);
    if (before !== undefined) add(path, `is the same as spec.parentRefs[${before}]`);
    else seen.set(key, at);
  }
}

/** Names that say nothing: Gateway API ignores `hostnames` of a route that is attached to Services only. */
export function checkHostnames(route: AnyRouteObject, add: Add): void {
  const names = route.spec.hostnames ?? [];
  const parents = route.spec.parentRefs ?? [];
  if (names.length > 0 && parents.length > 0 && parents.every(isServiceParent))
    add(
      "spec.hostnames",
      "a route on a Service takes every name of that Service, so hostnames would do nothing; match on headers, or attach the route to a Gateway",
    );
  const seen = new Map<string, number>();
  for (const [at, name] of names.entries()) {
    const path = `spec.hostnames[${at}]`;
    if (isAddress(name)) add(path, `${show(name)} is an IP address; hostnames are DNS names`);
    const before = seen.get(name.toLowerCase());
    if (before !== undefined) add(path, `is the same as spec.hostnames[${before}]`);
    else seen.set(name.toLowerCase(), at);
  }
}

function isAddress(text: string): boolean {
  return /^[0-9]{1,3}(\.[0-9]{1,3}){3}$/.test(text);
}

export function checkRuleNames(rules: readonly { readonly name?: string }[], add: Add): void {
  const names = new Map<string, number>();
  for (const [at, { name }] of rules.entries()) {
    if (name === undefined) continue;
    const before = names.get(name);
    if (before !== undefined) add(`spec.rules[${at}].name`, `${show(name)} is taken by spec.rules[${before}]`);
    else names.set(name, at);
  }
}

export function isService(ref: Pick<BackendRef, "group" | "kind">): boolean {
  return (ref.group ?? "") === "" && (ref.kind ?? "Service") === "Service";
}

/** Group of kind Hostname, by which Istio refers to hosts of ServiceEntries. */
export const hostGroup = "networking.istio.io";

export function isHost(ref: Pick<BackendRef, "group" | "kind">): boolean {
  return ref.group === hostGroup && ref.kind === "Hostname";
}

/** Weights that are all 0 are no mistake to the standard (BackendRef.weight: "no traffic should be forwarded"): a rule that is switched off answers 500. */
export function checkBackends(backends: readonly BackendRef[], path: string, add: Add): void {
  for (const [at, ref] of backends.entries()) {
    const where = `${path}.backendRefs[${at}]`;
    if (isService(ref) && ref.port === undefined) add(`${where}.port`, "is required for a Service");
    const same = backends.findIndex(
      (other, index) =>
        index < at &&
        other.name === ref.name &&
        other.port === ref.port &&
        other.namespace === ref.namespace &&
        other.kind === ref.kind &&
        other.group === ref.group,
    );
    if (same >= 0) add(where, `is the same backend as ${path}.backendRefs[${same}]; add up their weights`);
  }
}

/** An expression that proxies take. */
export function checkRegex(value: string, path: string, add: Add): void {
  const wrong = wrongExpression(value);
  if (wrong !== undefined) add(path, wrong);
}

/** The longest that a proxy's timers go. */
const longestMs = 86_400_000 * 24;

export function checkDuration(text: string | undefined, path: string, add: Add): void {
  if (text !== undefined && durationMs(text) > longestMs) add(path, `${show(text)} is longer than 24 days; leave it out for no end`);
}

/** For `kubectl get`: NAME[:PORT] of each parent. */
export function parentNames(object: KubeObject): string {
  return ((object as AnyRouteObject).spec?.parentRefs ?? [])
    .map((ref) => `${ref.name}${ref.sectionName === undefined ? "" : `/${ref.sectionName}`}${ref.port === undefined ? "" : `:${ref.port}`}`)
    .join(",");
}

/** For `kubectl get`: hostnames as a list, as the published CRDs show them. */
export function hostNames(object: KubeObject): string {
  const names = (object as AnyRouteObject).spec?.hostnames ?? [];
  return names.length === 0 ? "" : JSON.stringify(names);
}
