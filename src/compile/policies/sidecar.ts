// Owns: which Sidecar speaks for a workload, which services it lets the workload's proxy know, and whether that reaches hosts nobody has made known.

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import {
  type EgressHost,
  egressHosts,
  type OutboundMode,
  outboundModes,
  outboundSwitch,
  type SidecarObject,
} from "../../api/kinds/sidecar-spec.ts";
import { matchesLabels } from "../../api/selector.ts";
import { planTargets } from "../plan/mesh.ts";
import type { TargetPlan } from "../plan/plan.ts";
import { namespaceSource, sidecarSource } from "../route-sources.ts";
import { byAge, derived, equal, keyOf, namespaceOf, selectableOf, type World } from "../world.ts";

/** `NS/NAME` of the Sidecar that speaks for a workload, by the workload's key; undefined = none. */
export const sidecarOf = derived<string | undefined>((world, workload) => {
  const namespace = workload.slice(0, workload.indexOf("/"));
  const own = [...world.objects(sidecarSource).in(namespace)].sort(byAge);
  const selected = own.filter(({ spec }) => spec?.workloadSelector !== undefined);
  const labels = selected.length === 0 ? {} : (selectableOf(world, workload)?.labels ?? {});
  const found =
    selected.find(({ spec }) => matchesLabels(spec?.workloadSelector?.labels ?? {}, labels)) ??
    own.find(isPlain) ??
    (namespace === rootNamespace ? undefined : [...world.objects(sidecarSource).in(rootNamespace)].sort(byAge).find(isPlain));
  return found === undefined ? undefined : keyOf(found);
});

function isPlain({ spec }: SidecarObject): boolean {
  return spec?.workloadSelector === undefined;
}

/** A workload's proxy lets calls out to hosts that nobody has made known. By the workload's key. */
export const reachesOthers = derived<boolean>((world, workload) => {
  const key = sidecarOf(world, workload);
  const mode = key === undefined ? undefined : world.objects(sidecarSource).get(key)?.spec?.outboundTrafficPolicy?.mode;
  return (mode ?? labelled(world, workload.slice(0, workload.indexOf("/"))) ?? labelled(world, rootNamespace)) === "ALLOW_ANY";
});

/** What a namespace's label says. Cluster-scoped objects are filed under the default namespace. */
const labelled = derived<OutboundMode | undefined>((world, namespace) => {
  const text = world.objects(namespaceSource).get(`default/${namespace}`)?.metadata.labels?.[outboundSwitch];
  return text === undefined || !Object.hasOwn(outboundModes, text) ? undefined : outboundModes[text];
});

/** Sidecar and namespace of a caller whose hosts are restricted, for `knownClusters`; undefined = it may know all. By the workload's key. */
export const restriction = derived<string | undefined>((world, workload) => {
  const key = sidecarOf(world, workload);
  const object = key === undefined ? undefined : world.objects(sidecarSource).get(key);
  return object === undefined || egressHosts(object) === undefined ? undefined : `${key} ${workload.slice(0, workload.indexOf("/"))}`;
});

/** Clusters that a restricted caller may know, subsets included, in the order of all. By what `restriction` says. */
export const knownClusters = derived<readonly string[]>((world, text) => {
  const [key = "", namespace = ""] = text.split(" ");
  const object = world.objects(sidecarSource).get(key);
  const hosts = object === undefined ? [] : (egressHosts(object) ?? []);
  return [...planTargets(world)].filter(([, target]) => hosts.some((host) => fits(host, target, namespace))).map(([cluster]) => cluster);
}, equal);

/** The same as a set. */
const knownSet = derived<ReadonlySet<string>>((world, text) => new Set(knownClusters(world, text)), equal);

/** Whether a workload's proxy may know a cluster. */
export function mayKnow(world: World, workload: string, cluster: string): boolean {
  const text = restriction(world, workload);
  return text === undefined || knownSet(world, text).has(cluster);
}

function fits({ namespace, host }: EgressHost, { service }: TargetPlan, own: string): boolean {
  const wanted = namespace === "." ? own : namespace;
  if (wanted !== "*" && wanted !== service.namespace) return false;
  return host === "*" || host === service.host || (host.startsWith("*.") && service.host.endsWith(host.slice(1)));
}

// ---- what becomes of it -----------------------------------------------------------------------------------------------------

export interface SidecarVerdict {
  /** It speaks for at least one workload. */
  readonly used: boolean;
  /** Hosts that nothing fits, as they are written. */
  readonly empty: readonly string[];
  /** Upstreams of its workloads that stay closed, as `WORKLOAD to HOST`. */
  readonly closed: readonly string[];
}

/** By `NS/NAME`; undefined = there is no such Sidecar. `upstreamsOf`: hosts of the upstreams that a workload declares, with their cluster. */
export function sidecarVerdict(
  world: World,
  key: string,
  workloads: readonly string[],
  upstreamsOf: (workload: string) => readonly string[],
): SidecarVerdict | undefined {
  const object = world.objects(sidecarSource).get(key);
  if (object === undefined) return undefined;
  const own = workloads.filter((workload) => sidecarOf(world, workload) === key);
  const targets = [...planTargets(world).values()];
  const namespaces = [...new Set(own.map((workload) => workload.slice(0, workload.indexOf("/"))))];
  const places = namespaces.length === 0 ? [namespaceOf(object)] : namespaces;
  const empty = (egressHosts(object) ?? [])
    .filter((host) => host.host !== "*" && !targets.some((target) => places.some((place) => fits(host, target, place))))
    .map(({ namespace, host }) => `${namespace}/${host}`);
  const closed = own.flatMap((workload) =>
    upstreamsOf(workload)
      .filter((cluster) => !mayKnow(world, workload, cluster))
      .map((cluster) => `${workload} to ${cluster.split("|")[3]}`),
  );
  return { used: own.length > 0, empty, closed };
}
