// Owns: two Services that say of one port of one workload that it speaks different protocols: the sidecar can speak only one.

import { portProtocol, type ServiceObject, type ServicePort } from "../../api/kinds/service.ts";
import type { Violation } from "../../api/meta.ts";
import { matchesLabels } from "../../api/selector.ts";
import { serviceSource } from "../sources.ts";
import {
  keyOf,
  namespaceOf,
  resolvePort,
  type ServiceModel,
  type ServicePortModel,
  selectedIn,
  type WorkloadModel,
  type World,
} from "../world.ts";
import { canonical } from "./canonical.ts";

export function serviceConflicts(world: World, candidate: ServiceObject): readonly Violation[] {
  const out: Violation[] = [];
  const selector = candidate.spec.selector ?? {};
  if (Object.keys(selector).length === 0) return out;
  const namespace = namespaceOf(candidate);
  const mine = selectedIn(world, namespace, selector).flatMap((key) => world.workloads.get(key) ?? []);
  for (const other of rivals(world, namespace, selector, mine)) {
    if (other.key === keyOf(candidate)) continue;
    const shared = mine.filter((workload) => Object.keys(other.selector).length > 0 && matchesLabels(other.selector, workload.labels));
    for (const [at, port] of (candidate.spec.ports ?? []).entries()) {
      const model = portModel(port);
      const clash = other.ports.find(
        (theirs) =>
          theirs.protocol !== model.protocol &&
          theirs.protocol !== "udp" &&
          model.protocol !== "udp" &&
          meets(model, theirs, shared, canonical(selector) === canonical(other.selector)),
      );
      if (clash === undefined) continue;
      out.push({
        path: `spec.ports[${at}]`,
        message: `speaks ${model.protocol} to the same port of the same workloads (${example(shared, other)}) to which port ${clash.port} of Service ${other.key} speaks ${clash.protocol}; give both the same appProtocol`,
      });
    }
  }
  return out;
}

/** Services of the namespace that select a workload of `mine`, or have the very same selector, sorted by key. */
function rivals(
  world: World,
  namespace: string,
  selector: Readonly<Record<string, string>>,
  mine: readonly WorkloadModel[],
): ServiceModel[] {
  const keys = new Set(mine.flatMap((workload) => (world.servicesOf.get(workload.key) ?? []).map((service) => service.key)));
  const [label, value] = Object.entries(selector)[0] ?? [];
  for (const key of world.objects(serviceSource).keys("selector", `${namespace}/${label}=${value}`)) keys.add(key);
  return [...keys].sort().flatMap((key) => world.services.get(key) ?? []);
}

function portModel(port: ServicePort): ServicePortModel {
  return { name: port.name ?? "", port: port.port, protocol: portProtocol(port), targetPort: port.targetPort };
}

/** Both lead to one port of a workload that both select; with equal selectors that needs no workload to be there yet. */
function meets(mine: ServicePortModel, theirs: ServicePortModel, shared: readonly WorkloadModel[], sameSelector: boolean): boolean {
  if (shared.some((workload) => resolvePort(workload, mine).number === resolvePort(workload, theirs).number)) return true;
  return shared.length === 0 && sameSelector && (mine.targetPort ?? mine.port) === (theirs.targetPort ?? theirs.port);
}

function example(shared: readonly WorkloadModel[], other: ServiceModel): string {
  return (
    shared[0]?.key ??
    Object.entries(other.selector)
      .map(([key, value]) => `${key}=${value}`)
      .sort()
      .join(",")
  );
}
