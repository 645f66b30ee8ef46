// Owns: v1 Namespace. Namespaces come into being with the first object in them; the server makes the object.

import { ageColumn, defineKind, textColumn } from "../define.ts";

export const namespaceKind = defineKind({
  group: "",
  versions: ["v1"],
  kind: "Namespace",
  plural: "namespaces",
  shortNames: ["ns"],
  namespaced: false,
  hasStatus: true,
  nameForm: "dns-label",
  selectableFields: { "status.phase": (object) => (object.metadata.deletionTimestamp === undefined ? "Active" : "Terminating") },
  informational: ["spec.finalizers"],
  notes: ["Comes into being with the first object in it; one that holds objects cannot be deleted."],
  fields: { spec: { type: "object", properties: { finalizers: { type: "array", items: { type: "string" } } } } },
  columns: [
    textColumn("Status", "Active, or Terminating.", (object) =>
      object.metadata.deletionTimestamp === undefined ? "Active" : "Terminating",
    ),
    ageColumn,
  ],
});
