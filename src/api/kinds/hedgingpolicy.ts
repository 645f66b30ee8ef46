// Owns: weft.dev HedgingPolicy: that callers of a Service ask a second instance where the first is slow. A kind of its own and no field of OverloadPolicy, since
// it binds who calls and not who answers. What it compiles to stands in compile/policies/hedging.ts.

import { acceptedColumn, ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { show } from "../schema.ts";
import { durationMs, gatewayDuration, gather } from "./gateway-refs.ts";
import type { HedgingPolicyObject } from "./hedgingpolicy-spec.ts";
import { checkTargets, targetNames, targetRefs } from "./policy-targets.ts";

/** The clock of tries ticks every 50 ms. */
const shortestMs = 10;
const longestMs = 60_000;

const policy = (object: KubeObject) => object as HedgingPolicyObject;

export const hedgingPolicyKind = defineKind({
  group: "weft.dev",
  versions: ["v1alpha1"],
  kind: "HedgingPolicy",
  plural: "hedgingpolicies",
  shortNames: ["hedge"],
  categories: ["weft"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: {
    spec: {
      type: "object",
      description: "Callers ask a second instance where the first is slow.",
      required: ["targetRefs", "after"],
      properties: {
        targetRefs,
        after: { ...gatewayDuration, description: "How long the first instance is waited for, 10ms to 60s." },
      },
    },
  },
  notes: [
    "Attached to a `Service` of its own namespace (`sectionName`: one port of it) and followed by every caller, sidecars and gateways alike: a read (GET, HEAD, OPTIONS) that has no answer `after` it was sent goes to another instance too; the first answer that is no failure is the client's, the other is given up.",
    "Hedges have a budget: a tenth of a caller's requests to the Service, and one in any second. A request that is itself a retry is not hedged. The delay may be up to 50 ms longer.",
    "Routes with a time-out for each try of their own keep that instead, and routes that never retry are not hedged.",
    "An Envoy that calls the Service does not hedge: its own way of doing so would repeat writes too.",
    "Of several for the same target the oldest decides, then the first by name; the others are told `Conflicted`.",
  ],
  rules: (object): Violation[] =>
    gather((add) => {
      const { spec } = policy(object);
      checkTargets(spec.targetRefs, ["Service"], "name the Service whose callers are to hedge", add);
      const ms = durationMs(spec.after);
      if (ms < shortestMs || ms > longestMs) add("spec.after", `${show(spec.after)} is not from ${shortestMs}ms to ${longestMs / 1_000}s`);
    }),
  columns: [
    textColumn("Targets", "Services that it is for.", (object) => targetNames(policy(object).spec?.targetRefs)),
    textColumn("After", "How long the first instance is waited for.", (object) => policy(object).spec?.after ?? ""),
    acceptedColumn,
    ageColumn,
  ],
});
