// Owns: gateway.networking.k8s.io ReferenceGrant: who may refer to objects of the grant's own namespace.

import { ageColumn, defineKind } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { type Schema, show } from "../schema.ts";
import published from "../schemas/referencegrant.json" with { type: "json" };
import { listenerSetGroups } from "./gateway-refs.ts";
import type { ReferenceGrantObject } from "./gateway-spec.ts";

/** What Weft ever asks a grant for: from these kinds, to these. */
const askers = new Map([
  ...["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "Gateway"].map((kind) => [kind, "gateway.networking.k8s.io"] as const),
  ...Object.entries(listenerSetGroups),
  ["RateLimitPolicy", "weft.dev"] as const,
]);
const targets = new Map([
  ["Service", ""],
  ["Secret", ""],
]);

export const referenceGrantKind = defineKind({
  group: "gateway.networking.k8s.io",
  versions: ["v1beta1", "v1"],
  kind: "ReferenceGrant",
  plural: "referencegrants",
  shortNames: ["refgrant"],
  categories: ["gateway-api"],
  namespaced: true,
  hasStatus: false,
  requiredFields: ["spec"],
  fields: { spec: published as Schema },
  notes: [
    "Allows routes of the namespaces under `from` to name Services of its own namespace as backends, Gateways and ListenerSets to name Secrets, and RateLimitPolicies to name rate limit services. Taking it away takes the backend away: its share of the traffic is answered with 500.",
    "Refused: kinds that Weft never asks about, since such a grant would grant nothing.",
  ],
  rules: (object: KubeObject): Violation[] => {
    const { spec } = object as ReferenceGrantObject;
    const out: Violation[] = [];
    for (const [at, { group, kind }] of spec.from.entries())
      if (askers.get(kind) !== group)
        out.push({
          path: `spec.from[${at}]`,
          message: `nothing of kind ${show(kind)} in group ${show(group)} refers to other namespaces; known are ${[...askers].map(([known, of]) => `${known}.${of}`).join(", ")}`,
        });
    for (const [at, { group, kind }] of spec.to.entries())
      if (targets.get(kind) !== group)
        out.push({
          path: `spec.to[${at}]`,
          message: `nothing may refer to ${show(kind)} in group ${show(group)}; known are ${[...targets.keys()].join(", ")} in group ""`,
        });
    return out;
  },
  columns: [ageColumn],
});
