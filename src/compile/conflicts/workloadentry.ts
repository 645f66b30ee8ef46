// Owns: two WorkloadEntries that claim one address and port: callers would take one for the other. An entry that is known to be down claims nothing.

import { isHealthy, type WorkloadEntryObject } from "../../api/kinds/workloadentry.ts";
import type { Violation } from "../../api/meta.ts";
import { workloadSource } from "../sources.ts";
import { keyOf, type World } from "../world.ts";

export function entryConflicts(world: World, candidate: WorkloadEntryObject): readonly Violation[] {
  const { address } = candidate.spec;
  if (address === undefined || !isHealthy(candidate)) return [];
  const out: Violation[] = [];
  for (const [name, port] of Object.entries(candidate.spec.ports ?? {})) {
    const same = Object.entries(candidate.spec.ports ?? {}).find(([other, theirs]) => other < name && theirs === port);
    if (same !== undefined)
      out.push({ path: `spec.ports.${name}`, message: `${port} is spec.ports.${same[0]} already; a sidecar listens once on a port` });
    for (const key of world.objects(workloadSource).keys("address", address)) {
      const other = world.workloads.get(key);
      if (other === undefined || key === keyOf(candidate) || !other.healthy) continue;
      const theirs = Object.entries(other.entry.spec.ports ?? {}).find(([, number]) => number === port);
      if (theirs === undefined) continue;
      out.push({
        path: `spec.ports.${name}`,
        message: `${address}:${port} is claimed by WorkloadEntry ${other.key} (spec.ports.${theirs[0]}) already; choose another port, or delete that entry if its workload is gone`,
      });
    }
  }
  return out;
}
