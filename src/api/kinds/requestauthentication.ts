// Owns: security.istio.io RequestAuthentication: whose tokens (JWT) workloads take, and where they look for them. A request with a bad token is refused;
// whether it needs one is said by AuthorizationPolicies. Whatever cannot be enforced is refused here.

import { givesAway, readKeySet } from "../../wire/key-set.ts";
import { isForTokens } from "../../wire/token-headers.ts";
import { ageColumn, defineKind, textColumn } from "../define.ts";
import { isToken, wrongFieldValue } from "../http-words.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { type Schema, show } from "../schema.ts";
import { durationMs } from "./gateway-refs.ts";
import { type JwtRule, type RequestAuthenticationObject, requestAuthenticationSpec } from "./requestauthentication-spec.ts";

/** Each is looked for in every request of the workloads. */
export const mostJwtRules = 16;
const mostPlaces = 16;
const mostAudiences = 64;
const mostClaimHeaders = 32;
const longestIssuer = 2_048;
/** A fetch holds nobody up; one that takes longer has failed. */
export const defaultFetchMs = 5_000;
export const longestFetchMs = 60_000;

export const requestAuthenticationKind = defineKind({
  group: "security.istio.io",
  versions: ["v1", "v1beta1"],
  kind: "RequestAuthentication",
  plural: "requestauthentications",
  shortNames: ["ra"],
  categories: ["istio-io", "security-istio-io"],
  namespaced: true,
  hasStatus: true,
  strictOnly: true,
  fields: { spec: requestAuthenticationSpec as Schema },
  unimplemented: {
    "spec.targetRef": "use selector",
    "spec.targetRefs": "use selector",
    "spec.jwtRules[].jwks_uri": "write jwksUri",
  },
  notes: [
    "Reach: workloads that `selector` fits, in the object's namespace; in namespace `weft-system`, of the whole mesh. Without selector all of them. Rules of several objects add up. At a Gateway: select the labels of its process.",
    "A request with a bad token is refused with 401, or 403 where its audience is another's, and `www-authenticate` says why. A request without one passes, with nobody known: whoever must show a token is said by an AuthorizationPolicy with `requestPrincipals`.",
    "Algorithms: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA (Ed25519). Never `none`, nor HMAC. Clocks may differ by 60 s.",
    "Keys stand in `jwks`, or are fetched from `jwksUri` by the control plane, over https and every 5 minutes; the last good ones are kept (ConfigMap in `weft-system`). Until they are known tokens of the issuer are refused. One of both is needed: keys are not looked for by the issuer's name.",
    "Without `fromHeaders`, `fromParams` and `fromCookies`: header `authorization: Bearer`, parameter `access_token`. All tokens found must be good. A good one is taken out of header and query unless `forwardOriginalToken` is set; cookies stay.",
    "`outputClaimToHeaders` and `outputPayloadToHeader`: what a client itself writes there is removed. Texts, numbers and truth values are told.",
    "On ports that carry opaque TCP nobody looks for tokens; policies that ask for them allow nothing there.",
  ],
  rules: jwtRules,
  columns: [
    textColumn("Issuers", "Whose tokens are taken.", (object) =>
      [...new Set((object as RequestAuthenticationObject).spec?.jwtRules?.map(({ issuer }) => issuer ?? ""))].join(","),
    ),
    ageColumn,
  ],
});

type Add = (path: string, message: string) => void;

function jwtRules(object: KubeObject): Violation[] {
  const out: Violation[] = [];
  const add: Add = (path, message) => out.push({ path, message });
  const { selector, jwtRules: rules = [] } = (object as RequestAuthenticationObject).spec ?? {};
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {})) {
    if (key === "" || key.includes("*") || value.includes("*"))
      add(`spec.selector.matchLabels["${key}"]`, "wildcards are not allowed in labels");
  }
  if (rules.length === 0) add("spec.jwtRules", "needs at least one rule: without any nobody looks at tokens");
  if (rules.length > mostJwtRules) add("spec.jwtRules", `has ${rules.length} rules; at most ${mostJwtRules} are taken`);
  for (const [at, rule] of rules.entries()) checkRule(rule, `spec.jwtRules[${at}]`, add);
  return out;
}

function checkRule(rule: JwtRule, path: string, add: Add): void {
  const { issuer, audiences = [], jwks, jwksUri, timeout } = rule;
  if (issuer === undefined || issuer === "") add(`${path}.issuer`, "is required: whose tokens the rule is for");
  else if (issuer.length > longestIssuer) add(`${path}.issuer`, `is longer than ${longestIssuer} characters`);
  if (audiences.length > mostAudiences) add(`${path}.audiences`, `has ${audiences.length} entries; at most ${mostAudiences} are taken`);
  for (const [at, each] of audiences.entries()) if (each === "") add(`${path}.audiences[${at}]`, "must not be empty");
  if (jwks === undefined && jwksUri === undefined)
    add(path, "needs jwks or jwksUri: keys are not looked for by the issuer's name (OpenID discovery); write the jwks_uri that it names");
  if (jwks !== undefined && jwksUri !== undefined) add(`${path}.jwksUri`, "cannot stand beside jwks; remove one");
  if (jwks !== undefined) checkKeys(jwks, `${path}.jwks`, add);
  if (jwksUri !== undefined) checkUri(jwksUri, `${path}.jwksUri`, add);
  if (timeout !== undefined) {
    const ms = durationMs(timeout);
    if (!(ms > 0 && ms <= longestFetchMs))
      add(`${path}.timeout`, `${show(timeout)} is no duration up to ${longestFetchMs / 1000}s, such as 5s`);
    if (jwksUri === undefined) add(`${path}.timeout`, "is for fetching keys: write it beside jwksUri");
  }
  checkPlaces(rule, path, add);
  checkOutput(rule, path, add);
}

function checkKeys(jwks: string, path: string, add: Add): void {
  if (givesAway(jwks)) {
    add(path, "holds a private key or a secret, which every proxy would have: write public keys only; HMAC is not taken");
    return;
  }
  const set = readKeySet(jwks);
  if (typeof set === "string") add(path, set);
  else if (set.keys.length === 0)
    add(path, `has no key that tokens can be checked with${set.passedOver.map((each) => `; ${each}`).join("")}`);
}

function checkUri(text: string, path: string, add: Add): void {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || text.length > 2_048) add(path, `${show(text)} is no URL`);
  else if (url.protocol !== "https:")
    add(
      path,
      `${show(text)}: keys are fetched over https only, or whoever is on the way could write them; use https, or write the keys in jwks`,
    );
  else if (url.username !== "" || url.password !== "" || url.hash !== "") add(path, "must have no user, password or fragment");
}

function checkPlaces({ fromHeaders = [], fromParams = [], fromCookies = [] }: JwtRule, path: string, add: Add): void {
  for (const [field, list] of Object.entries({ fromHeaders, fromParams, fromCookies }))
    if (list.length > mostPlaces) add(`${path}.${field}`, `has ${list.length} entries; at most ${mostPlaces} are taken`);
  for (const [at, { name, prefix }] of fromHeaders.entries()) {
    const where = `${path}.fromHeaders[${at}]`;
    if (name === undefined || !isToken(name)) add(`${where}.name`, `${show(name)} is no name of a header`);
    const wrong = prefix === undefined || prefix === "" ? undefined : wrongFieldValue(prefix);
    if (wrong !== undefined) add(`${where}.prefix`, wrong);
  }
  for (const [at, each] of fromParams.entries()) if (each === "") add(`${path}.fromParams[${at}]`, "must not be empty");
  for (const [at, each] of fromCookies.entries())
    if (!isToken(each)) add(`${path}.fromCookies[${at}]`, `${show(each)} is no name of a cookie`);
}

function checkOutput(
  { outputPayloadToHeader, outputClaimToHeaders = [], spaceDelimitedClaims = [] }: JwtRule,
  path: string,
  add: Add,
): void {
  const header = (name: string | undefined, where: string) => {
    const lower = name?.toLowerCase() ?? "";
    if (name === undefined || !isToken(name)) add(where, `${show(name)} is no name of a header`);
    else if (!isForTokens(lower)) add(where, `${show(name)} is not for tokens to write`);
  };
  if (outputPayloadToHeader !== undefined) header(outputPayloadToHeader, `${path}.outputPayloadToHeader`);
  if (outputClaimToHeaders.length > mostClaimHeaders)
    add(`${path}.outputClaimToHeaders`, `has ${outputClaimToHeaders.length} entries; at most ${mostClaimHeaders} are taken`);
  for (const [at, each] of outputClaimToHeaders.entries()) {
    header(each.header, `${path}.outputClaimToHeaders[${at}].header`);
    if (each.claim === undefined || each.claim === "") add(`${path}.outputClaimToHeaders[${at}].claim`, "is required: which claim is told");
  }
  for (const [at, each] of spaceDelimitedClaims.entries()) if (each === "") add(`${path}.spaceDelimitedClaims[${at}]`, "must not be empty");
}
