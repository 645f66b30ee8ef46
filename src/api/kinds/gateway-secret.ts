// Owns: v1 Secret, for the certificates of Gateways, and what DestinationRules call servers outside with. What it holds is shown to nobody who may not read it, and never written to a log.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { isRecord, show } from "../schema.ts";

export interface SecretObject extends KubeObject {
  type?: string;
  /** Base64. */
  data?: Record<string, string>;
}

export const tlsSecretType = "kubernetes.io/tls";

export const secretKind = defineKind({
  group: "",
  versions: ["v1"],
  kind: "Secret",
  plural: "secrets",
  namespaced: true,
  hasStatus: false,
  fields: {
    type: { type: "string", maxLength: 253, default: "Opaque" },
    data: { type: "object", additionalProperties: { type: "string" } },
    stringData: { type: "object", additionalProperties: { type: "string" } },
    immutable: { type: "boolean" },
  },
  unimplemented: { immutable: "remove it" },
  notes: [
    "Read by Gateways: type kubernetes.io/tls with tls.crt and tls.key. `stringData` becomes `data` when it is written.",
    "Read by DestinationRules of its namespace (`tls.credentialName`), whatever its type: ca.crt or cacert, tls.crt and tls.key or cert and key.",
    "A private key is kept in the store as it is given, and sent to the processes that serve the Gateway, or to callers of the Secret's namespace to whom a DestinationRule with MUTUAL speaks, only.",
    "A change after which a DestinationRule that goes by it could not is refused.",
  ],
  moreDefaults: foldText,
  rules: secretRules,
  columns: [
    textColumn("Type", "What the secret holds.", (object) => (object as SecretObject).type ?? ""),
    {
      name: "Data",
      type: "integer",
      description: "Number of entries.",
      priority: 0,
      value: (object) => Object.keys((object as SecretObject).data ?? {}).length,
    },
    ageColumn,
  ],
});

function foldText(object: KubeObject): void {
  const text = object.stringData;
  if (!isRecord(text)) return;
  const data = isRecord(object.data) ? object.data : {};
  for (const [key, value] of Object.entries(text)) {
    // What is no text stays, so that validation can name it.
    if (typeof value !== "string") return;
    data[key] = Buffer.from(value).toString("base64");
  }
  object.data = data;
  delete object.stringData;
}

/** Kubernetes's limit for a Secret. */
const mostBytes = 1_048_576;

function secretRules(object: KubeObject): Violation[] {
  const { data = {}, type } = object as SecretObject;
  const out: Violation[] = [];
  let bytes = 0;
  for (const [key, value] of Object.entries(data)) {
    const path = `data["${key}"]`;
    bytes += value.length;
    if (!/^[-._a-zA-Z0-9]{1,253}$/.test(key)) out.push({ path, message: `${show(key)} is no key: letters, digits, '-', '_' and '.'` });
    if (!/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(value)) out.push({ path, message: "is not base64; use stringData for text" });
  }
  if (bytes > (mostBytes * 4) / 3) out.push({ path: "data", message: `has more than ${mostBytes} bytes` });
  if (type === tlsSecretType)
    for (const [key, begins] of [
      ["tls.crt", "-----BEGIN CERTIFICATE-----"],
      ["tls.key", "-----BEGIN "],
    ] as const) {
      const text = data[key] === undefined ? undefined : Buffer.from(data[key], "base64").toString("latin1");
      if (text === undefined) out.push({ path: `data["${key}"]`, message: `is required for type ${tlsSecretType}` });
      else if (!text.includes(begins)) out.push({ path: `data["${key}"]`, message: "is not PEM" });
    }
  return out;
}
