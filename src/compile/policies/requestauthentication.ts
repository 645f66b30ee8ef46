// Owns: how RequestAuthentications fold into the plan of one inbound port: whose tokens are taken. Rules of all objects in force add up, as in Istio, in the
// order of their issuers. Where keys are to be fetched the last that were are taken; without any, keys of nobody, so that tokens are refused.

import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import { type FetchedKeys, fetchedKeysName, readFetchedKeys } from "../../api/kinds/fetched-keys.ts";
import type { JwtRule, RequestAuthenticationObject } from "../../api/kinds/requestauthentication-spec.ts";
import { keysOfNobody, readKeySet, writeKeySet } from "../../wire/key-set.ts";
import type { TokenRulePlan } from "../plan/plan.ts";
import { configMapSource } from "../route-sources.ts";
import { requestAuthenticationSource } from "../sources.ts";
import { byAge, compareText, derived, equal, type Selectable, type World } from "../world.ts";
import { appliesTo } from "./reach.ts";

/** As istiod has it. */
const alwaysDelimited = ["permission", "scope"];

const inNamespace = derived<readonly RequestAuthenticationObject[]>(
  (world, namespace) => [...world.objects(requestAuthenticationSource).in(namespace)].sort(byAge),
  (a, b) => a.length === b.length && a.every((each, at) => each === b[at]),
);

/** Those in force at a workload. */
export function tokensAskedAt(world: World, workload: Selectable): readonly RequestAuthenticationObject[] {
  const own = inNamespace(world, workload.namespace);
  const root = workload.namespace === rootNamespace ? [] : inNamespace(world, rootNamespace);
  return [...root, ...own].filter((each) => appliesTo(each, workload));
}

export function foldTokens(world: World, workload: Selectable): TokenRulePlan[] {
  const rules = tokensAskedAt(world, workload).flatMap((each) => each.spec?.jwtRules ?? []);
  return rules.map((rule) => tokenRule(world, rule)).sort((a, b) => compareText(a.issuer, b.issuer));
}

/** What was fetched from a place, by its URL; undefined: nothing is known of it yet. */
export const fetchedKeys = derived<FetchedKeys | undefined>((world, uri) => {
  const object = world.objects(configMapSource).get(`${rootNamespace}/${fetchedKeysName(uri)}`);
  return object === undefined ? undefined : readFetchedKeys(object, uri);
}, equal);

function tokenRule(world: World, rule: JwtRule): TokenRulePlan {
  return {
    issuer: rule.issuer ?? "",
    audiences: rule.audiences ?? [],
    keys: keysOf(world, rule),
    forward: rule.forwardOriginalToken === true,
    fromHeaders: (rule.fromHeaders ?? []).map(({ name = "", prefix = "" }) => ({ name: name.toLowerCase(), prefix })),
    fromParams: rule.fromParams ?? [],
    fromCookies: rule.fromCookies ?? [],
    payloadHeader: rule.outputPayloadToHeader?.toLowerCase() ?? "",
    claimHeaders: (rule.outputClaimToHeaders ?? []).map(({ header = "", claim = "" }) => ({ header: header.toLowerCase(), claim })),
    spaceDelimited: [...new Set([...alwaysDelimited, ...(rule.spaceDelimitedClaims ?? [])])].sort(compareText),
  };
}

function keysOf(world: World, { jwks, jwksUri }: JwtRule): string {
  const text = jwks ?? (jwksUri === undefined ? undefined : fetchedKeys(world, jwksUri)?.keys);
  const set = text === undefined ? "" : readKeySet(text);
  return typeof set === "string" || set.keys.length === 0 ? keysOfNobody : writeKeySet(set.keys);
}
