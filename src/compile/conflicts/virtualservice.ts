// Owns: contradictions of a VirtualService with what is there: another one for the same host, and faults in a mesh that does not allow them.

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import {
  delegateKey,
  delegates,
  faultSwitch,
  faultsAnnotation,
  ownFault,
  speaksToMesh,
  type VirtualServiceObject,
  virtualHosts,
} from "../../api/kinds/virtualservice-spec.ts";
import type { Violation } from "../../api/meta.ts";
import { spokenTo } from "../policies/virtualservice.ts";
import { faultsAllowed } from "../policies/virtualservice-plan.ts";
import { virtualServiceSource } from "../sources.ts";
import { keyOf, namespaceOf, type World } from "../world.ts";

export function virtualServiceConflicts(world: World, candidate: VirtualServiceObject): readonly Violation[] {
  const out: Violation[] = [];
  for (const [n, host] of speaksToMesh(candidate) ? virtualHosts(candidate).entries() : []) {
    const to = spokenTo(world, candidate, host);
    const other = world
      .objects(virtualServiceSource)
      .by("host", host)
      .find((each) => keyOf(each) !== keyOf(candidate) && meet(to, spokenTo(world, each, host)));
    if (other !== undefined)
      out.push({
        path: `spec.hosts[${n}]`,
        message: `VirtualService ${keyOf(other)} speaks about ${host} already, and one decides; put the routes into that one`,
      });
  }
  for (const [n, route] of (candidate.spec?.http ?? []).entries()) {
    if (faultsAllowed(world, "")) break;
    const own = ownFault(candidate, route.name);
    if (route.fault === undefined && own === undefined) continue;
    out.push({
      path: route.fault === undefined ? `metadata.annotations["${faultsAnnotation}"]` : `spec.http[${n}].fault`,
      message: `faults are switched off in this mesh; give the namespace ${rootNamespace} the label ${faultSwitch}: enabled to allow them`,
    });
  }
  out.push(...cycles(world, candidate));
  return out;
}

/** Two that speak to the same callers. Where one is for all and the other for some, the other goes before it there. */
function meet(a: readonly string[], b: readonly string[]): boolean {
  return a.includes("*") ? b.includes("*") : !b.includes("*") && a.some((each) => b.includes(each));
}

/** Delegations that lead back: whoever closes the circle is refused. */
function cycles(world: World, candidate: VirtualServiceObject): Violation[] {
  const own = keyOf(candidate);
  return (candidate.spec?.http ?? []).flatMap(({ delegate }, n) => {
    if (delegate === undefined) return [];
    const to = delegateKey(delegate, namespaceOf(candidate));
    if (to !== own && !reaches(world, to, own, new Set())) return [];
    const what = to === own ? "is this one" : `delegates back to ${own}`;
    return [
      {
        path: `spec.http[${n}].delegate`,
        message: `VirtualService ${to} ${what}, and a circle leads nowhere; take one of the delegations out`,
      },
    ];
  });
}

/** Whether `from` delegates to `to`, over others too. */
function reaches(world: World, from: string, to: string, seen: Set<string>): boolean {
  const object = world.objects(virtualServiceSource).get(from);
  if (object === undefined || seen.has(from)) return false;
  seen.add(from);
  return delegates(object).some((next) => next === to || reaches(world, next, to, seen));
}
