// Owns: coordination.k8s.io Lease: who among several programs does something, as the leader election of client-go and of other clients keeps it.
// The mesh itself reads none; its control planes have a lease of their own in the store.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject } from "../meta.ts";
import type { Schema } from "../schema.ts";

export interface LeaseObject extends KubeObject {
  spec?: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    /** RFC 3339 with microseconds, as `renewTime` is. */
    acquireTime?: string;
    renewTime?: string;
    leaseTransitions?: number;
  };
}

const microTime: Schema = { type: "string", pattern: "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,9})?(Z|[+-]\\d\\d:\\d\\d)$" };
const noCoordinator = "nobody chooses holders here: leave it out, and the first to write the lease has it";

export const leaseKind = defineKind({
  group: "coordination.k8s.io",
  versions: ["v1"],
  kind: "Lease",
  plural: "leases",
  namespaced: true,
  hasStatus: false,
  // Written every few seconds, and worth nothing when its holder is gone: neither configuration nor part of its history.
  transient: true,
  fields: {
    spec: {
      type: "object",
      properties: {
        holderIdentity: { type: "string", maxLength: 1024 },
        leaseDurationSeconds: { type: "integer", minimum: 1, maximum: 2_147_483_647 },
        acquireTime: microTime,
        renewTime: microTime,
        leaseTransitions: { type: "integer", minimum: 0, maximum: 2_147_483_647 },
      },
    },
  },
  unimplemented: { "spec.strategy": noCoordinator, "spec.preferredHolder": noCoordinator },
  notes: [
    "For programs that choose a leader among themselves (client-go's and controller-runtime's leader election): of two that write at once one is refused with 409, by `metadata.resourceVersion`. The mesh itself reads none.",
    "Not part of the configuration: not exported, never rolled back, and gone with its namespace. Renewals are not in the audit log.",
    "Each renewal is a revision of the store, but none of the 10 000 that it keeps for `weft history` and `weft rollback`, as long as there are no more than 100 000 of all sorts: of one holder that renews every 2 s (client-go's default) 55 hours, of ten five and a half. Let them renew more seldom (`RetryPeriod`) where that is too short.",
  ],
  columns: [textColumn("Holder", "Who has it.", (object) => (object as LeaseObject).spec?.holderIdentity ?? ""), ageColumn],
});
