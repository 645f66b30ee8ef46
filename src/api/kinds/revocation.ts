// Owns: weft.dev Revocation: a certificate, an identity or a join token that is refused from now on, everywhere in the mesh. Deleting the object takes it back.

import { ageColumn, defineKind, dnsSubdomain, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { show } from "../schema.ts";

export interface RevocationObject extends KubeObject {
  spec: {
    /** Serial number of a certificate, hexadecimal. */
    serial?: string;
    serviceAccount?: {
      namespace: string;
      name: string;
      /** RFC 3339: only certificates issued before are refused, and others are issued to who comes with a token. Absent: all are, and none is issued. */
      issuedBefore?: string;
    };
    /** SHA-256, hexadecimal, of a join token without its signature (`HEADER.PAYLOAD`). */
    tokenSha256?: string;
    reason?: string;
    /** RFC 3339: forgotten then. */
    expiresAt?: string;
  };
}

const spec = (object: KubeObject) => (object as RevocationObject).spec;
const time = { type: "string", pattern: "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$" } as const;

export const revocationKind = defineKind({
  group: "weft.dev",
  versions: ["v1alpha1"],
  kind: "Revocation",
  plural: "revocations",
  categories: ["weft"],
  namespaced: false,
  hasStatus: false,
  // Rolling the configuration back must not let anybody in again.
  transient: true,
  strictOnly: true,
  requiredFields: ["spec"],
  fields: {
    spec: {
      type: "object",
      description: "Whom the mesh refuses: one of serial, serviceAccount and tokenSha256.",
      properties: {
        serial: { type: "string", pattern: "^[0-9A-Fa-f:]{1,60}$", description: "Serial number of a certificate, hexadecimal." },
        serviceAccount: {
          type: "object",
          description: "Every certificate of a service account.",
          required: ["namespace", "name"],
          properties: {
            namespace: { type: "string", minLength: 1, maxLength: 63, description: "Namespace of the service account." },
            name: { type: "string", minLength: 1, maxLength: 253, description: "Name of the service account." },
            issuedBefore: {
              ...time,
              description: "Only certificates issued before, RFC 3339 in UTC. Absent: all, and no more are issued.",
            },
          },
        },
        tokenSha256: {
          type: "string",
          pattern: "^[0-9a-f]{64}$",
          description: "SHA-256, hexadecimal, of a join token without its signature (HEADER.PAYLOAD).",
        },
        reason: { type: "string", maxLength: 1024, description: "Why, for people." },
        expiresAt: { ...time, description: "When it is forgotten, RFC 3339 in UTC. Absent: never." },
      },
    },
  },
  rules: (object) => {
    const { serial, serviceAccount, tokenSha256, expiresAt } = spec(object);
    const out: Violation[] = [];
    const named = [serial, serviceAccount, tokenSha256].filter((each) => each !== undefined).length;
    if (named !== 1)
      out.push({
        path: "spec",
        message: `names ${named === 0 ? "nobody" : `${named} at once`}; give one of serial, serviceAccount and tokenSha256`,
      });
    if (serial !== undefined && !/^0*[0-9A-Fa-f]{1,40}$/.test(serial.replaceAll(":", "")))
      out.push({ path: "spec.serial", message: `${show(serial)} is no serial number: 1 to 20 bytes in hexadecimal` });
    if (serviceAccount !== undefined) {
      if (!dnsSubdomain.test(serviceAccount.namespace))
        out.push({ path: "spec.serviceAccount.namespace", message: `${show(serviceAccount.namespace)} is no namespace` });
      if (!dnsSubdomain.test(serviceAccount.name))
        out.push({ path: "spec.serviceAccount.name", message: `${show(serviceAccount.name)} is no service account name` });
      if (serviceAccount.issuedBefore !== undefined && Number.isNaN(Date.parse(serviceAccount.issuedBefore)))
        out.push({ path: "spec.serviceAccount.issuedBefore", message: `${show(serviceAccount.issuedBefore)} is no time` });
    }
    if (expiresAt !== undefined && Number.isNaN(Date.parse(expiresAt)))
      out.push({ path: "spec.expiresAt", message: `${show(expiresAt)} is no time` });
    return out;
  },
  notes: [
    "Made by `weft ca revoke`. Proxies refuse whom it names at every handshake, and end connections that stand; the control plane issues nothing to them and ends their streams.",
    "`serial`: one certificate. Its holder may come back with a join token; revoke that, or the service account, as well if it must not.",
    "`serviceAccount`: with `issuedBefore` all certificates issued before; without, every one, and no more are issued until the object is deleted.",
    "`tokenSha256`: one join token, for the API and for certificates. Tokens of `weft token create` are revoked more simply by `weft token revoke`.",
    "With `expiresAt` it is forgotten then: a certificate lives for a day at most, so that one of a serial number need not be kept for longer.",
    "Not part of the configuration's history: `weft rollback` leaves it as it is.",
  ],
  columns: [
    textColumn("Refuses", "Whom it refuses.", (object) => {
      const { serial, serviceAccount, tokenSha256 } = spec(object) ?? {};
      if (serviceAccount !== undefined) return `${serviceAccount.namespace}/${serviceAccount.name}`;
      return serial !== undefined ? `certificate ${serial}` : `token ${tokenSha256?.slice(0, 12) ?? ""}`;
    }),
    textColumn(
      "IssuedBefore",
      "Only certificates issued before; empty: all.",
      (object) => spec(object)?.serviceAccount?.issuedBefore ?? "",
    ),
    textColumn("Reason", "Why.", (object) => spec(object)?.reason ?? ""),
    textColumn("Expires", "When it is forgotten; empty: never.", (object) => spec(object)?.expiresAt ?? ""),
    ageColumn,
  ],
});
