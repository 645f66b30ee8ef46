// Owns: Envoy's `jwt_authn` filter to JwtConfig. What is not built is refused by name: keys that would have to be fetched, requirements by path, and more.

import type {
  JwtAuthentication,
  JwtProvider,
  JwtRequirement as PbRequirement,
} from "../../../wire/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.ts";
import { isForTokens } from "../../../wire/token-headers.ts";
import type { JwtConfig, JwtProviderConfig, JwtRequirement } from "../../config.ts";
import { compileKeys } from "../../tokens/keys.ts";
import { defaultSkewS } from "../../tokens/limits.ts";
import { at, dataSource, type Gate, present } from "./gate.ts";

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

export function decodeJwt(gate: Gate, filter: JwtAuthentication, path: string): JwtConfig {
  const names = Object.keys(filter.providers).sort();
  const providers = names.map((name) => provider(gate, name, filter.providers[name] as JwtProvider, at(path, `providers["${name}"]`)));
  let requires: JwtRequirement | null = null;
  if (filter.rules.length > 1)
    gate.add(`${path}.rules[1]`, 'is not supported: one rule for every request (match with prefix "/") can be given');
  for (const [n, rule] of filter.rules.slice(0, 1).entries()) {
    const where = `${path}.rules[${n}]`;
    const match = rule.match;
    const specifier = match?.pathSpecifier;
    const plain =
      specifier?.case === "prefix" && specifier.value === "/" && match?.headers.length === 0 && match.queryParameters.length === 0;
    if (!plain || match?.runtimeFraction !== undefined || match?.caseSensitive === false || match?.grpc !== undefined)
      gate.add(at(where, "match"), 'must be prefix "/" and no more: tokens are asked of every request or of none');
    requires =
      rule.requirementType.value === undefined ? null : requirement(gate, rule.requirementType.value, names, at(where, "requires"));
  }
  return { providers, requires, bypassPreflights: filter.bypassCorsPreflight };
}

function provider(gate: Gate, name: string, from: JwtProvider, path: string): JwtProviderConfig {
  if (from.jwksSourceSpecifier.case === undefined) gate.add(at(path, "local_jwks"), "is missing: keys are not fetched by this proxy");
  const bytes = dataSource(gate, at(path, "local_jwks"), from.jwksSourceSpecifier.value);
  const keys = bytes === undefined ? "" : new TextDecoder().decode(bytes);
  if (bytes !== undefined) {
    const compiled = compileKeys(keys);
    if (typeof compiled === "string") gate.add(at(path, "local_jwks"), compiled);
  }
  const anywhere = from.fromHeaders.length + from.fromParams.length + from.fromCookies.length > 0;
  const headers = from.fromHeaders.map(({ name: header, valuePrefix }, n) => ({
    name: headerName(gate, header, `${path}.from_headers[${n}].name`),
    prefix: valuePrefix,
  }));
  for (const [n, each] of from.fromParams.entries()) present(gate, `${path}.from_params[${n}]`, each);
  for (const [n, each] of from.fromCookies.entries()) present(gate, `${path}.from_cookies[${n}]`, each);
  return {
    name,
    issuer: from.issuer,
    audiences: from.audiences,
    keys,
    forward: from.forward,
    fromHeaders: anywhere ? headers : [{ name: "authorization", prefix: "Bearer " }],
    fromParams: anywhere ? from.fromParams : ["access_token"],
    fromCookies: from.fromCookies,
    payloadHeader: from.forwardPayloadHeader === "" ? "" : written(gate, from.forwardPayloadHeader, at(path, "forward_payload_header")),
    claimHeaders: from.claimToHeaders.map(({ headerName: header, claimName }, n) => ({
      header: written(gate, header, `${path}.claim_to_headers[${n}].header_name`),
      claim: present(gate, `${path}.claim_to_headers[${n}].claim_name`, claimName).split("."),
    })),
    payloadName: from.payloadInMetadata,
    skewS: from.clockSkewSeconds === 0 ? defaultSkewS : from.clockSkewSeconds,
    spaceDelimited: from.normalizePayloadInMetadata?.spaceDelimitedClaims ?? [],
  };
}

function headerName(gate: Gate, name: string, path: string): string {
  if (!token.test(name)) gate.add(path, `"${name}" is no name of a header`);
  return name.toLowerCase();
}

function written(gate: Gate, name: string, path: string): string {
  const lower = headerName(gate, name, path);
  if (!isForTokens(lower)) gate.add(path, `${lower} is not for tokens to write`);
  return lower;
}

const nothing: JwtRequirement = { kind: "any", of: [], missing: false };

function requirement(gate: Gate, from: PbRequirement, names: readonly string[], path: string): JwtRequirement {
  const type = from.requiresType;
  switch (type.case) {
    case "providerName": {
      const index = names.indexOf(type.value);
      if (index < 0) gate.add(at(path, "provider_name"), `there is no provider "${type.value}"`);
      return { kind: "provider", provider: index };
    }
    case "requiresAny": {
      const where = at(path, "requires_any");
      const all = type.value.requirements;
      const missing = all.some((each) => each.requiresType.case === "allowMissing");
      const of = all.flatMap((each, n) =>
        each.requiresType.case === "allowMissing" ? [] : [requirement(gate, each, names, `${where}.requirements[${n}]`)],
      );
      if (of.length === 0) gate.add(at(where, "requirements"), "needs a provider beside allow_missing");
      return { kind: "any", of, missing };
    }
    case "requiresAll": {
      const where = at(path, "requires_all");
      if (type.value.requirements.length === 0) gate.add(at(where, "requirements"), "needs at least one");
      return { kind: "all", of: type.value.requirements.map((each, n) => requirement(gate, each, names, `${where}.requirements[${n}]`)) };
    }
    case "allowMissing":
      gate.add(at(path, "allow_missing"), "is supported beside a provider in requires_any only");
      return nothing;
    case undefined:
      gate.add(path, "needs one of provider_name, requires_any, requires_all");
      return nothing;
  }
}
