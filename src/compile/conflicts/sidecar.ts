// Owns: two Sidecars that speak for the same workloads: which of them would count would depend on their age.

import type { SidecarObject } from "../../api/kinds/sidecar-spec.ts";
import type { Violation } from "../../api/meta.ts";
import { sidecarSource } from "../route-sources.ts";
import { keyOf, namespaceOf, type World } from "../world.ts";
import { canonical } from "./canonical.ts";

export function sidecarConflicts(world: World, candidate: SidecarObject): readonly Violation[] {
  const own = candidate.spec?.workloadSelector?.labels;
  const other = world
    .objects(sidecarSource)
    .in(namespaceOf(candidate))
    .find((each) => keyOf(each) !== keyOf(candidate) && canonical(each.spec?.workloadSelector?.labels ?? {}) === canonical(own ?? {}));
  if (other === undefined) return [];
  return own === undefined
    ? [
        {
          path: "spec.workloadSelector",
          message: `is missing, and Sidecar ${keyOf(other)} speaks for the whole namespace already; put both into that one, or select workloads here`,
        },
      ]
    : [
        {
          path: "spec.workloadSelector.labels",
          message: `are those of Sidecar ${keyOf(other)} too, and one would never count; put both into that one`,
        },
      ];
}
