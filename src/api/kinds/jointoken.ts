// Owns: weft.dev JoinToken: that a join token was given out, to whom, until when, and whether it was used. The token itself is never kept.
// Deleting the object revokes the token.

import { ageColumn, defineKind, dnsSubdomain, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { show } from "../schema.ts";

export interface JoinTokenObject extends KubeObject {
  spec: {
    /** Whom the holder may join as, in the object's namespace. */
    serviceAccount: string;
    /** RFC 3339; the token is good until then. */
    expiresAt: string;
    /** `Once`: good for one certificate. */
    use: "Once" | "Reusable";
  };
  status?: {
    /** When a certificate was got with it last. */
    usedAt?: string;
    uses?: number;
    /** Of a token for once: SHA-256 of the public key that was certified (SubjectPublicKeyInfo, hexadecimal); the same key may ask again for a while. */
    keySha256?: string;
  };
}

/** Thirty days: it can be revoked, but somebody must think of it. */
export const longestJoinTokenSeconds = 30 * 86_400;

const token = (object: KubeObject) => object as JoinTokenObject;

export const joinTokenKind = defineKind({
  group: "weft.dev",
  versions: ["v1alpha1"],
  kind: "JoinToken",
  plural: "jointokens",
  shortNames: ["jt"],
  categories: ["weft"],
  namespaced: true,
  hasStatus: true,
  transient: true,
  strictOnly: true,
  requiredFields: ["spec"],
  fields: {
    spec: {
      type: "object",
      description: "Whom the holder of the token may join as, and until when.",
      required: ["serviceAccount", "expiresAt"],
      properties: {
        serviceAccount: {
          type: "string",
          minLength: 1,
          maxLength: 253,
          description: "Service account, in the own namespace, that the holder joins as.",
        },
        expiresAt: {
          type: "string",
          pattern: "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$",
          description: "When the token ends, RFC 3339 in UTC.",
        },
        use: {
          type: "string",
          enum: ["Once", "Reusable"],
          default: "Once",
          description: "Once (default): good for one certificate. Reusable: for any number.",
        },
      },
    },
  },
  rules: (object) => {
    const { serviceAccount, expiresAt } = token(object).spec;
    const out: Violation[] = [];
    if (!dnsSubdomain.test(serviceAccount))
      out.push({ path: "spec.serviceAccount", message: `${show(serviceAccount)} is no service account name` });
    if (Number.isNaN(Date.parse(expiresAt))) out.push({ path: "spec.expiresAt", message: `${show(expiresAt)} is no time` });
    return out;
  },
  notes: [
    "Made by `weft token create`, which also prints the token; the token is not kept anywhere.",
    "Deleting it revokes the token, for the API and for certificates, and ends what is open by it within a second or two; certificates got with it live on (a day at most) and renew themselves with themselves.",
    "`use: Once` is good for one certificate. The holder may go on managing what it registered until the token expires.",
    "Where the answer is lost, the same key may ask again for ten minutes (`status.keySha256`); another key is refused.",
    "Forgotten an hour after it expired.",
  ],
  columns: [
    textColumn("ServiceAccount", "Whom the holder joins as.", (object) => token(object).spec?.serviceAccount ?? ""),
    textColumn("Use", "Once or Reusable.", (object) => token(object).spec?.use ?? ""),
    textColumn("Expires", "Until when it is good.", (object) => token(object).spec?.expiresAt ?? ""),
    textColumn("Used", "When a certificate was got with it last; empty: never.", (object) => token(object).status?.usedAt ?? ""),
    {
      name: "Uses",
      type: "integer",
      description: "Certificates got with it.",
      priority: 1,
      value: (object) => token(object).status?.uses ?? 0,
    },
    ageColumn,
  ],
});
