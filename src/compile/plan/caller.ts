// Owns: who calls, as far as objects tell callers apart: the namespace, and of the workload's labels those that a VirtualService (sourceLabels) or a
// DestinationRule (workloadSelector) asks about. Workloads that nothing tells apart are one caller and share their tables and clusters.

import { failoverLabels } from "../../api/kinds/destinationrule-spec.ts";
import { matchesLabels } from "../../api/selector.ts";
import { destinationRuleSource, virtualServiceSource, workloadSource } from "../sources.ts";
import { derived, equal, selectableOf, type World } from "../world.ts";

export interface Caller {
  /** Empty = everybody who is not told apart. */
  readonly namespace: string;
  /** Those that tell callers apart. */
  readonly labels: Readonly<Record<string, string>>;
}

/** `shop`, or `shop{"app":"front"}`; never a blank in it. */
export function callerText({ namespace, labels }: Caller): string {
  const entries = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.length === 0 ? namespace : `${namespace}${JSON.stringify(Object.fromEntries(entries))}`;
}

export function parseCaller(text: string): Caller {
  const at = text.indexOf("{");
  if (at < 0) return { namespace: text, labels: {} };
  return { namespace: text.slice(0, at), labels: JSON.parse(text.slice(at)) as Record<string, string> };
}

/** Those of some labels that have these names. */
export function only(labels: Readonly<Record<string, string>>, names: Iterable<string>): Readonly<Record<string, string>> {
  const out: Record<string, string> = {};
  for (const name of names) if (Object.hasOwn(labels, name)) out[name] = labels[name] as string;
  return out;
}

/** Whether a caller has all of some labels; who is not told apart has none. */
export function hasLabels(caller: Caller, wanted: Readonly<Record<string, string>> | undefined): boolean {
  return wanted === undefined || matchesLabels(wanted, caller.labels);
}

/** Names of labels that some object tells callers apart by, sorted. */
const tellingLabels = derived<readonly string[]>((world) => {
  const names = new Set<string>();
  for (const object of world.objects(virtualServiceSource).by("labels", ""))
    for (const route of [...(object.spec?.http ?? []), ...(object.spec?.tls ?? []), ...(object.spec?.tcp ?? [])])
      for (const match of route.match ?? []) for (const name of Object.keys(match.sourceLabels ?? {})) names.add(name);
  for (const rule of world.objects(destinationRuleSource).by("labels", ""))
    for (const name of [...Object.keys(rule.spec?.workloadSelector?.matchLabels ?? {}), ...failoverLabels(rule)]) names.add(name);
  return [...names].sort();
}, equal);

/** The caller that a workload is, by its `NS/NAME`. */
export const callerOf = derived<string>((world, key) => {
  const namespace = key.slice(0, key.indexOf("/"));
  const telling = tellingLabels(world, "");
  const labels = telling.length === 0 ? {} : only(placedLabels(world, key), telling);
  return callerText({ namespace, labels });
});

/** A workload's labels, and the place that it says it is at in those that Kubernetes and Istio have for it, where it has none of its own. */
function placedLabels(world: World, key: string): Readonly<Record<string, string>> {
  return { ...topologyLabels(world.objects(workloadSource).get(key)?.spec.locality), ...selectableOf(world, key)?.labels };
}

/** `region/zone/sub-zone` in labels; what is not said is not there. */
export function topologyLabels(locality = ""): Readonly<Record<string, string>> {
  const [region = "", zone = "", ...rest] = locality.split("/");
  const places = [
    ["topology.kubernetes.io/region", region],
    ["topology.kubernetes.io/zone", zone],
    ["topology.istio.io/subzone", rest.join("/")],
  ] as const;
  return Object.fromEntries(places.filter(([, place]) => place !== ""));
}

/** The namespace alone. */
export function callerNamespace(text: string): string {
  return parseCaller(text).namespace;
}
