// Owns: rules on tokens of end users as Envoy's jwt_authn filter, in the form that istiod gives it: a token that is there must be good, none need be there.

import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  JwtAuthenticationSchema,
  type JwtProviderSchema,
  type JwtRequirementSchema,
} from "../../wire/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.ts";
import type { TokenRulePlan } from "../plan/plan.ts";
import { any } from "./common.ts";

export const tokenFilter = "envoy.filters.http.jwt_authn";
/** What rules know the payload of a good token by. */
export const tokenPayload = "payload";

type Requirement = MessageInitShape<typeof JwtRequirementSchema>;

export function tokenFilterOf(rules: readonly TokenRulePlan[]) {
  const names = rules.map((_rule, at) => `origins-${at}`);
  const provider = (providerName: string): Requirement => ({ requiresType: { case: "providerName", value: providerName } });
  const missing: Requirement = { requiresType: { case: "allowMissing", value: {} } };
  const optional = names.map(
    (name): Requirement => ({ requiresType: { case: "requiresAny", value: { requirements: [provider(name), missing] } } }),
  );
  // Several: a good token of any of them, for those who share a place; else none of them may be bad.
  const requires: Requirement | undefined =
    optional.length === 1
      ? optional[0]
      : {
          requiresType: {
            case: "requiresAny",
            value: { requirements: [...names.map(provider), { requiresType: { case: "requiresAll", value: { requirements: optional } } }] },
          },
        };
  return {
    name: tokenFilter,
    configType: {
      case: "typedConfig" as const,
      value: any(JwtAuthenticationSchema, {
        providers: Object.fromEntries(rules.map((rule, at) => [names[at] as string, providerOf(rule)])),
        rules: [
          {
            match: { pathSpecifier: { case: "prefix", value: "/" } },
            requirementType: requires === undefined ? { case: undefined } : { case: "requires", value: requires },
          },
        ],
        bypassCorsPreflight: true,
      }),
    },
  };
}

function providerOf(rule: TokenRulePlan): MessageInitShape<typeof JwtProviderSchema> {
  return {
    issuer: rule.issuer,
    audiences: [...rule.audiences],
    jwksSourceSpecifier: { case: "localJwks", value: { specifier: { case: "inlineString", value: rule.keys } } },
    forward: rule.forward,
    fromHeaders: rule.fromHeaders.map(({ name, prefix }) => ({ name, valuePrefix: prefix })),
    fromParams: [...rule.fromParams],
    fromCookies: [...rule.fromCookies],
    forwardPayloadHeader: rule.payloadHeader,
    payloadInMetadata: tokenPayload,
    claimToHeaders: rule.claimHeaders.map(({ header, claim }) => ({ headerName: header, claimName: claim })),
    normalizePayloadInMetadata: { spaceDelimitedClaims: [...rule.spaceDelimited] },
  };
}
