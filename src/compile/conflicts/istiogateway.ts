// Owns: two Gateways of one name, one of each group: `weft gateway NAME` opens one of them.

import { gatewayGroup } from "../../api/kinds/gateway-refs.ts";
import type { KubeObject, Violation } from "../../api/meta.ts";
import { gatewaySource, istioGatewaySource } from "../route-sources.ts";
import { keyOf, type World } from "../world.ts";

export function gatewayConflicts(world: World, candidate: KubeObject): readonly Violation[] {
  const key = keyOf(candidate);
  const standard = candidate.apiVersion.startsWith(`${gatewayGroup}/`);
  const other = standard ? world.objects(istioGatewaySource).get(key) : world.objects(gatewaySource).get(key);
  if (other === undefined) return [];
  return [
    {
      path: "metadata.name",
      message: `Gateway ${key} of ${other.apiVersion} has this name already, and weft gateway ${candidate.metadata.name} opens one; delete that one, or take another name`,
    },
  ];
}
