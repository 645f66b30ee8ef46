// Owns: the shape of a RequestAuthentication's spec, and what is newer in it than the schema that the package publishes. Checks nothing.

import type { KubeObject } from "../meta.ts";
import { extendSchema, type Schema } from "../schema.ts";
import requestAuthenticationSchema from "../schemas/requestauthentication.json" with { type: "json" };

export interface JwtRule {
  readonly issuer?: string;
  readonly audiences?: readonly string[];
  /** Where the control plane fetches the keys. */
  readonly jwksUri?: string;
  /** The keys themselves. */
  readonly jwks?: string;
  readonly fromHeaders?: readonly { readonly name?: string; readonly prefix?: string }[];
  readonly fromParams?: readonly string[];
  readonly fromCookies?: readonly string[];
  readonly outputPayloadToHeader?: string;
  readonly outputClaimToHeaders?: readonly { readonly header?: string; readonly claim?: string }[];
  readonly forwardOriginalToken?: boolean;
  readonly spaceDelimitedClaims?: readonly string[];
  /** Of one fetch. */
  readonly timeout?: string;
}

export interface RequestAuthenticationObject extends KubeObject {
  spec?: {
    selector?: { matchLabels?: Record<string, string> };
    jwtRules?: readonly JwtRule[];
  };
}

const texts: Schema = { type: "array", items: { type: "string" } };
const target: Schema = {
  type: "object",
  properties: { group: { type: "string" }, kind: { type: "string" }, name: { type: "string" }, namespace: { type: "string" } },
};

export const requestAuthenticationSpec = extendSchema(
  extendSchema(requestAuthenticationSchema as Schema, "jwtRules[]", {
    fromCookies: texts,
    spaceDelimitedClaims: texts,
    timeout: { type: "string" },
  }),
  "",
  { targetRef: target, targetRefs: { type: "array", items: target } },
);
