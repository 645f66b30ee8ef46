// Owns: what RequestAuthentications are told: whom they reach and whether the keys are known; and what an AuthorizationPolicy is told that asks for tokens
// where nobody looks at any. Never decides who may pass.

import type { AuthorizationPolicyObject } from "../api/kinds/authorizationpolicy.ts";
import type { Condition } from "../api/meta.ts";
import { condition } from "./condition.ts";
import { needsToken } from "./policies/authorizationpolicy.ts";
import { selectedBy } from "./policies/reach.ts";
import { fetchedKeys, tokensAskedAt } from "./policies/requestauthentication.ts";
import { requestAuthenticationSource } from "./sources.ts";
import { namespaceOf, selectableOf, type World } from "./world.ts";

export function requestAuthenticationStatus(world: World, key: string): Record<string, unknown> | undefined {
  const object = world.objects(requestAuthenticationSource).get(key);
  if (object === undefined) return undefined;
  const selected = selectedBy(world, object);
  const conditions = [
    condition(object, "Accepted", true, "Accepted", "every rule is understood"),
    selected.length > 0
      ? condition(object, "Enforced", true, "Enforced", "in the configuration of every workload it selects")
      : condition(object, "Enforced", false, "NoWorkload", "selects no workload; it takes effect when one appears"),
  ];
  const fetched = (object.spec?.jwtRules ?? []).flatMap(({ jwksUri, issuer = "" }, at) =>
    jwksUri === undefined ? [] : [{ at, uri: jwksUri, issuer, known: fetchedKeys(world, jwksUri) }],
  );
  const unknown = fetched.filter(({ known }) => known?.keys === undefined);
  const stale = fetched.filter(({ known }) => known?.keys !== undefined && known.error !== undefined);
  const words = ({ at, uri, known }: (typeof fetched)[number]) =>
    `jwtRules[${at}]: ${uri}${known?.error === undefined ? " has not been asked yet" : `: ${known.error}`}`;
  if (unknown.length > 0)
    conditions.push(
      condition(
        object,
        "KeysKnown",
        false,
        unknown.some(({ known }) => known?.error !== undefined) ? "FetchFailed" : "NotFetchedYet",
        `tokens of ${unknown.map(({ issuer }) => issuer).join(", ")} are refused until the keys are known; ${unknown.map(words).join("; ")}`,
      ),
    );
  else if (stale.length > 0)
    conditions.push(condition(object, "KeysKnown", true, "LastGoodKeys", `the last good keys are used; ${stale.map(words).join("; ")}`));
  else conditions.push(condition(object, "KeysKnown", true, "Known", "the keys of every rule are known"));
  return { observedGeneration: object.metadata.generation ?? 1, conditions };
}

/** A policy that asks for a token which nobody has checked: it takes every request for one without. */
export function tokensUnchecked(world: World, policy: AuthorizationPolicyObject, selected: readonly string[]): Condition[] {
  const rules = (policy.spec?.rules ?? []).flatMap((rule, at) => (needsToken(rule) ? [`rules[${at}]`] : []));
  if (rules.length === 0) return [];
  const blind = selected.find((key) => {
    const workload = selectableOf(world, key);
    return workload !== undefined && tokensAskedAt(world, workload).length === 0;
  });
  if (blind === undefined) return [];
  return [
    condition(
      policy,
      "TokensChecked",
      false,
      "NobodyChecks",
      `${rules.join(", ")} ask for tokens, but no RequestAuthentication reaches ${blind}: every request there counts as one without; apply one in ${namespaceOf(policy)} that selects it`,
    ),
  ];
}
