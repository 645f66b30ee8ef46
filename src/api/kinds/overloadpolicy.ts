// Owns: weft.dev OverloadPolicy: how many requests an instance is given at once, and what becomes of the others. What it compiles to stands in
// compile/policies/limits.ts.

import { acceptedColumn, ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { notImplemented, show } from "../schema.ts";
import { type Add, durationMs, gatewayDuration, gather } from "./gateway-refs.ts";
import type { OverloadPolicyObject } from "./overloadpolicy-spec.ts";
import { checkShared, checkStatus, checkTargets, headerName, refusalStatus, targetNames, targetRefs } from "./policy-targets.ts";

/** Of one instance; what waits and what is under way is held in its sidecar's memory. */
const mostConcurrency = 100_000;
const longestDelayMs = 60_000;

const policy = (object: KubeObject) => object as OverloadPolicyObject;

export const overloadPolicyKind = defineKind({
  group: "weft.dev",
  versions: ["v1alpha1"],
  kind: "OverloadPolicy",
  plural: "overloadpolicies",
  shortNames: ["olp"],
  categories: ["weft"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: {
    spec: {
      type: "object",
      description: "How many requests each instance is given at once, and what becomes of the others.",
      required: ["targetRefs"],
      properties: {
        targetRefs,
        concurrency: {
          type: "integer",
          minimum: 1,
          maximum: mostConcurrency,
          description: "Requests that an instance is given at once. Absent: found by measuring.",
        },
        maxConcurrency: {
          type: "integer",
          minimum: 2,
          maximum: mostConcurrency,
          description: "Most requests at once that measuring may come to; 1000 by default.",
        },
        queue: {
          type: "object",
          description: "Where requests wait that find no place.",
          properties: {
            max: {
              type: "integer",
              minimum: 1,
              maximum: mostConcurrency,
              description: "Most requests that wait. Absent: as many as the application is given at once.",
            },
            targetDelay: {
              ...gatewayDuration,
              description:
                "How long one may wait while the queue does not drain, 1ms to 60s. Absent: a quarter of what the idle application takes.",
            },
          },
        },
        criticalityHeader: {
          ...headerName,
          description: "Header whose values critical, default and sheddable say who goes first and who is put out first.",
        },
        shareBy: {
          type: "object",
          required: ["type"],
          description: "Who takes turns while the queue is not empty.",
          properties: {
            type: {
              type: "string",
              enum: ["Identity", "Header", "RemoteAddress"],
              description: "Identity: each client by its certificate. Header: each value of a header.",
            },
            header: { ...headerName, description: "Name of the header, for type Header." },
          },
        },
        status: { ...refusalStatus, default: 503 },
      },
    },
  },
  notes: [
    "Attached to a `Service` of its own namespace (`sectionName`: one port of it) and enforced by the sidecar of each instance, for its application alone.",
    "With nothing but targets it needs no tuning: how many requests the application is given at once is found by measuring how long it takes (`maxConcurrency` bounds it, default 1000). `concurrency` fixes the number instead.",
    "Who finds no place waits: in a queue of at most `queue.max` (default: as many as the application is given at once), and while the queue does not drain for no longer than `queue.targetDelay` (default: a quarter of what the idle application takes). Then the answer is `status`, before the application has seen the request.",
    "`criticalityHeader` names the header whose values `critical`, `default` and `sheddable` say who goes first and who is put out first; clients without a certificate of the mesh are `default`, whatever they say.",
    "`shareBy` lets clients (`Identity`) or tenants (`Header`) take turns while the queue is not empty, and takes the queue's room from whoever has most of it: nobody's flood takes what others need.",
    "Upgrades and CONNECT are let through uncounted.",
    "It compiles to Envoy's `adaptive_concurrency` and, beside it, an optional filter of Weft's: an Envoy in the place of a sidecar measures and sheds, but has neither queue, criticality nor shares; the status says so where one serves.",
    "Of several for the same target the oldest decides, then the first by name; the others are told `Conflicted`. One with `sectionName` goes before one for the whole Service.",
  ],
  rules: (object): Violation[] => gather((add) => checkPolicy(policy(object), add)),
  columns: [
    textColumn("Targets", "What it is for.", (object) => targetNames(policy(object).spec?.targetRefs)),
    textColumn("Concurrency", "Requests that an instance is given at once.", (object) => {
      const { concurrency, maxConcurrency } = policy(object).spec ?? {};
      return concurrency === undefined
        ? `adaptive${maxConcurrency === undefined ? "" : `, at most ${maxConcurrency}`}`
        : String(concurrency);
    }),
    acceptedColumn,
    ageColumn,
  ],
});

function checkPolicy({ spec }: OverloadPolicyObject, add: Add): void {
  checkStatus(spec.status, add);
  checkTargets(spec.targetRefs, ["Service"], "name the Service whose instances are to be protected", add);
  const { concurrency, maxConcurrency, queue, shareBy } = spec;
  if (concurrency !== undefined && maxConcurrency !== undefined)
    add("spec.maxConcurrency", "bounds what is found by measuring, and spec.concurrency fixes it; remove one of them");
  if (queue?.targetDelay !== undefined) {
    const ms = durationMs(queue.targetDelay);
    if (ms < 1 || ms > longestDelayMs) add("spec.queue.targetDelay", `${show(queue.targetDelay)} is not from 1ms to 60s`);
  }
  if (shareBy === undefined) return;
  checkShared(shareBy, "spec.shareBy", add);
  if (shareBy.type === "RemoteAddress")
    add(
      "spec.shareBy.type",
      notImplemented('value "RemoteAddress"', "behind a sidecar clients have identities: use Identity, or a Header"),
    );
}
