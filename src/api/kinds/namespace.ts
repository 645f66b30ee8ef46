// Owns: v1 Namespace. Namespaces come into being with the first object in them; the server makes the object.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import { show } from "../schema.ts";
import { outboundModes, outboundSwitch } from "./sidecar-spec.ts";

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
  notes: [
    "Comes into being with the first object in it; one that holds objects cannot be deleted.",
    `The label \`${outboundSwitch}\` (${Object.keys(outboundModes).join(", ")}) says whether its callers reach hosts outside that nobody has made known; on \`weft-system\` it speaks for namespaces without the label.`,
  ],
  rules: (object) => {
    const word = object.metadata.labels?.[outboundSwitch];
    return word === undefined || Object.hasOwn(outboundModes, word)
      ? []
      : [
          {
            path: `metadata.labels["${outboundSwitch}"]`,
            message: `must be ${Object.keys(outboundModes).join(" or ")}, got ${show(word)}`,
          },
        ];
  },
  fields: { spec: { type: "object", properties: { finalizers: { type: "array", items: { type: "string" } } } } },
  columns: [
    textColumn("Status", "Active, or Terminating.", (object) =>
      object.metadata.deletionTimestamp === undefined ? "Active" : "Terminating",
    ),
    ageColumn,
  ],
});
