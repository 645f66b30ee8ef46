// Owns: v1 ConfigMap, for the authorities that a BackendTLSPolicy names. Nothing else here reads it.

import { ageColumn, defineKind } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { show } from "../schema.ts";

export interface ConfigMapObject extends KubeObject {
  data?: Record<string, string>;
  /** Base64. */
  binaryData?: Record<string, string>;
}

/** Kubernetes's limit for a ConfigMap, in bytes. */
export const mostConfigMapBytes = 1_048_576;

export const configMapKind = defineKind({
  group: "",
  versions: ["v1"],
  kind: "ConfigMap",
  plural: "configmaps",
  shortNames: ["cm"],
  namespaced: true,
  hasStatus: false,
  fields: {
    data: { type: "object", additionalProperties: { type: "string" } },
    binaryData: { type: "object", additionalProperties: { type: "string" } },
    immutable: { type: "boolean" },
  },
  unimplemented: { immutable: "remove it" },
  notes: [
    "Read by BackendTLSPolicies: certificates of authorities in PEM under `ca.crt`. Other keys are kept and say nothing to the mesh.",
  ],
  rules: (object: KubeObject): Violation[] => {
    const { data = {}, binaryData = {} } = object as ConfigMapObject;
    const out: Violation[] = [];
    let bytes = 0;
    for (const [field, entries] of Object.entries({ data, binaryData }))
      for (const [key, value] of Object.entries(entries)) {
        const path = `${field}["${key}"]`;
        bytes += field === "data" ? Buffer.byteLength(value) : (value.length * 3) / 4;
        if (!/^[-._a-zA-Z0-9]{1,253}$/.test(key)) out.push({ path, message: `${show(key)} is no key: letters, digits, '-', '_' and '.'` });
        if (field === "binaryData" && !/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(value))
          out.push({ path, message: "is not base64; use data for text" });
        if (field === "binaryData" && Object.hasOwn(data, key)) out.push({ path, message: "stands in data too; remove one" });
      }
    if (bytes > mostConfigMapBytes) out.push({ path: "data", message: `has more than ${mostConfigMapBytes} bytes` });
    return out;
  },
  columns: [
    {
      name: "Data",
      type: "integer",
      description: "Number of entries.",
      priority: 0,
      value: (object) => {
        const { data = {}, binaryData = {} } = object as ConfigMapObject;
        return Object.keys(data).length + Object.keys(binaryData).length;
      },
    },
    ageColumn,
  ],
});
