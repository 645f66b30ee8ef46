// RequestAuthentication at admission: what is taken, and that whatever could not be enforced is refused with its path.

import { expect, test } from "bun:test";
import type { KubeObject } from "../meta.ts";
import { mostJwtRules, requestAuthenticationKind } from "./requestauthentication.ts";
import type { JwtRule } from "./requestauthentication-spec.ts";

const key = { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" };
const jwks = JSON.stringify({ keys: [key] });
const issuer = "https://issuer.test";

function violations(spec: unknown): string[] {
  const object: KubeObject = {
    apiVersion: "security.istio.io/v1",
    kind: "RequestAuthentication",
    metadata: { name: "a", namespace: "shop" },
    spec,
  };
  requestAuthenticationKind.applyDefaults(object);
  return requestAuthenticationKind.validate(object).map(({ path, message }) => `${path}: ${message}`);
}

const rule = (more: JwtRule | Record<string, unknown>): string[] => violations({ jwtRules: [{ issuer, jwks, ...more }] });

test("all that Istio has for a rule is taken", () => {
  expect(
    violations({
      selector: { matchLabels: { app: "cart" } },
      jwtRules: [
        {
          issuer,
          audiences: ["shop"],
          jwksUri: "https://issuer.test/keys",
          timeout: "3s",
          fromHeaders: [{ name: "X-Token" }, { name: "Authorization", prefix: "Bearer " }, { name: "x", prefix: "" }],
          fromParams: ["token"],
          fromCookies: ["session"],
          outputPayloadToHeader: "X-Payload",
          outputClaimToHeaders: [{ header: "x-sub", claim: "sub" }],
          forwardOriginalToken: true,
          spaceDelimitedClaims: ["roles"],
        },
        { issuer, jwks },
      ],
    }),
  ).toEqual([]);
});

test("what could not be enforced is refused", () => {
  const at = "spec.jwtRules[0]";
  expect(violations({})).toEqual(["spec.jwtRules: needs at least one rule: without any nobody looks at tokens"]);
  expect(violations({ jwtRules: Array(mostJwtRules + 1).fill({ issuer, jwks }) })).toEqual([
    `spec.jwtRules: has ${mostJwtRules + 1} rules; at most ${mostJwtRules} are taken`,
  ]);
  expect(
    violations({ targetRefs: [{ kind: "Gateway", group: "gateway.networking.k8s.io", name: "g" }], jwtRules: [{ issuer, jwks }] }),
  ).toEqual([
    'spec.targetRefs: field "targetRefs" is not implemented by this version of Weft, and is refused rather than ignored: use selector',
  ]);
  expect(rule({ jwks_uri: "https://a.test" }).join()).toContain("write jwksUri");
  expect(rule({ issuer: "" })).toEqual([`${at}.issuer: is required: whose tokens the rule is for`]);
  expect(violations({ jwtRules: [{ issuer }] }).join()).toContain("needs jwks or jwksUri");
  expect(rule({ jwksUri: "https://a.test/keys" })).toEqual([`${at}.jwksUri: cannot stand beside jwks; remove one`]);
  expect(violations({ jwtRules: [{ issuer, jwksUri: "http://a.test/keys" }] }).join()).toContain("over https only");
  expect(violations({ jwtRules: [{ issuer, jwksUri: "https://user:secret@a.test/keys" }] }).join()).toContain(
    "no user, password or fragment",
  );
  expect(violations({ jwtRules: [{ issuer, jwksUri: "https://a.test/keys", timeout: "2m" }] }).join()).toContain("no duration up to 60s");
  expect(rule({ timeout: "2s" }).join()).toContain("write it beside jwksUri");
  expect(rule({ fromHeaders: [{ name: "a b", prefix: "a\r\nb" }], fromParams: [""], fromCookies: ["a=b"] })).toHaveLength(4);
  expect(rule({ outputPayloadToHeader: "Host" })).toEqual([`${at}.outputPayloadToHeader: "Host" is not for tokens to write`]);
  expect(rule({ outputClaimToHeaders: [{ header: "x-weft-reason" }] })).toHaveLength(2);
});

test("keys are public, of a kind that is taken, and long enough", () => {
  const at = "spec.jwtRules[0].jwks";
  expect(rule({ jwks: "nonsense" })).toEqual([`${at}: is no JSON`]);
  expect(rule({ jwks: "[]" })).toEqual([`${at}: is no JSON Web Key Set: {"keys": [...]} (RFC 7517)`]);
  const secret = "holds a private key or a secret, which every proxy would have: write public keys only; HMAC is not taken";
  expect(rule({ jwks: JSON.stringify({ keys: [{ kty: "oct", k: "c2VjcmV0" }] }) })).toEqual([`${at}: ${secret}`]);
  expect(rule({ jwks: JSON.stringify({ keys: [{ ...key, d: "AA" }] }) })).toEqual([`${at}: ${secret}`]);
  const refused = (more: Record<string, unknown>) => rule({ jwks: JSON.stringify({ keys: [{ ...key, ...more }] }) }).join();
  expect(refused({ use: "enc" })).toContain("keys[0] is not for signatures");
  expect(refused({ crv: "X25519" })).toContain("keys[0] is of no curve that is taken");
  expect(refused({ alg: "HS256" })).toContain("keys[0] is for an algorithm that is not taken");
  expect(refused({ kty: "RSA", n: "AQAB", e: "AQAB" })).toContain("keys[0] is shorter than 2048 bits");
  // One that can be used is enough: issuers have keys for other purposes in the same set.
  expect(rule({ jwks: JSON.stringify({ keys: [{ kty: "RSA", use: "enc" }, key] }) })).toEqual([]);
});
