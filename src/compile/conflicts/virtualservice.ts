// Owns: contradictions of a VirtualService with what is there: another one for the same host, and faults in a mesh that does not allow them.

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import { faultSwitch, faultsAnnotation, ownFault, type VirtualServiceObject, virtualHosts } from "../../api/kinds/virtualservice-spec.ts";
import type { Violation } from "../../api/meta.ts";
import { faultsAllowed } from "../policies/virtualservice.ts";
import { virtualServiceSource } from "../sources.ts";
import { keyOf, type World } from "../world.ts";

export function virtualServiceConflicts(world: World, candidate: VirtualServiceObject): readonly Violation[] {
  const out: Violation[] = [];
  for (const [n, host] of virtualHosts(candidate).entries()) {
    const other = world
      .objects(virtualServiceSource)
      .by("host", host)
      .find((each) => keyOf(each) !== keyOf(candidate));
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
  return out;
}
