// Owns: whether a DestinationRule demands the mesh's mutual TLS of callers in so many words. Sidecars use it unasked; the difference is only what may be done
// while a caller has no sidecar. Any word of it for the port or the subset counts.

import type { World } from "../world.ts";
import { rulesOf, subsetOf } from "./destinationrule.ts";

export function demandsMutualTls(world: World, host: string, port: number, subset: string): boolean {
  const rules = rulesOf(world, host);
  for (const policy of [rules?.policy, subsetOf(rules, subset)?.trafficPolicy]) {
    if (policy?.tls?.mode === "ISTIO_MUTUAL") return true;
    if (policy?.portLevelSettings?.some((each) => each.port?.number === port && each.tls?.mode === "ISTIO_MUTUAL")) return true;
  }
  return false;
}
