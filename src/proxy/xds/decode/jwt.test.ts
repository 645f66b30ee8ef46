// Envoy's jwt_authn filter and the rules on what tokens say, from the bytes that a control plane sends: what is taken, and that what is not enforced is
// refused by its path.

import { expect, test } from "bun:test";
import { createRegistry, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { ListenerSchema } from "../../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { CorsSchema } from "../../../wire/gen/envoy/extensions/filters/http/cors/v3/cors_pb.ts";
import { JwtAuthenticationSchema } from "../../../wire/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.ts";
import { OnDemandSchema } from "../../../wire/gen/envoy/extensions/filters/http/on_demand/v3/on_demand_pb.ts";
import { RBACSchema } from "../../../wire/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import { RouterSchema } from "../../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { HttpConnectionManagerSchema } from "../../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import type { HttpManagerConfig, JwtConfig, Principal } from "../../config.ts";
import { decodeResource } from "./resource.ts";

const registry = createRegistry(CorsSchema, HttpConnectionManagerSchema, JwtAuthenticationSchema, OnDemandSchema, RBACSchema, RouterSchema);
const world = {
  readFile: (): Uint8Array => {
    throw new Error("no files");
  },
  staticSecrets: new Map(),
  controlClusters: new Set<string>(),
};
type Json = Record<string, JsonValue>;
const types = "type.googleapis.com/envoy.extensions.filters.http";
const where = "filter_chains[0].filters[0].typed_config.http_filters";

function decode(filters: readonly Json[], edit: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes) {
  const json: JsonValue = {
    name: "l",
    address: { socketAddress: { address: "127.0.0.1", portValue: 0 } },
    filterChains: [
      {
        filters: [
          {
            name: "hcm",
            typedConfig: {
              "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
              statPrefix: "x",
              routeConfig: { name: "r", virtualHosts: [] },
              httpFilters: [...filters, { name: "router", typedConfig: { "@type": `${types}.router.v3.Router` } }],
            },
          },
        ],
      },
    ],
  };
  const bytes = edit(toBinary(ListenerSchema, fromJson(ListenerSchema, json, { registry })));
  return decodeResource("listener", bytes, world);
}

const key = { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" };
const keys = { inlineString: JSON.stringify({ keys: [key] }) };
const jwt = (config: Json, more: Json = {}): Json => ({
  name: "jwt",
  typedConfig: { "@type": `${types}.jwt_authn.v3.JwtAuthentication`, ...config },
  ...more,
});
const everything = (requires: Json): Json => ({ match: { prefix: "/" }, requires });
const cors: Json = { name: "cors", typedConfig: { "@type": `${types}.cors.v3.Cors` } };
const rbac = (principal: Json): Json => ({
  name: "rbac",
  typedConfig: {
    "@type": `${types}.rbac.v3.RBAC`,
    rules: { policies: { p: { permissions: [{ any: true }], principals: [principal] } } },
  },
});
const metadata = (more: Json = {}): Json => ({
  metadata: {
    filter: "envoy.filters.http.jwt_authn",
    path: [{ key: "payload" }, { key: "sub" }],
    value: { stringMatch: { exact: "ann" } },
    ...more,
  },
});

function managerOf(decoded: ReturnType<typeof decode>): HttpManagerConfig {
  if (!("config" in decoded)) throw new Error(JSON.stringify(decoded));
  return decoded.config.chains[0]?.terminal as HttpManagerConfig;
}

function violations(decoded: ReturnType<typeof decode>): string[] {
  return "violations" in decoded ? (decoded.violations as { path: string; message: string }[]).map((v) => `${v.path}: ${v.message}`) : [];
}

test("what istiod writes for one issuer, and a rule on its tokens", () => {
  const decoded = decode([
    jwt({
      providers: {
        "origins-0": {
          issuer: "https://issuer.test",
          audiences: ["shop"],
          localJwks: keys,
          forwardPayloadHeader: "X-Payload",
          payloadInMetadata: "payload",
          normalizePayloadInMetadata: { spaceDelimitedClaims: ["scope", "permission"] },
          claimToHeaders: [{ headerName: "X-Sub", claimName: "a.sub" }],
        },
      },
      rules: [everything({ requiresAny: { requirements: [{ providerName: "origins-0" }, { allowMissing: {} }] } })],
      bypassCorsPreflight: true,
    }),
    rbac(metadata()),
    cors,
  ]);
  const manager = managerOf(decoded);
  expect(manager.jwt).toEqual({
    bypassPreflights: true,
    requires: { kind: "any", missing: true, of: [{ kind: "provider", provider: 0 }] },
    providers: [
      {
        name: "origins-0",
        issuer: "https://issuer.test",
        audiences: ["shop"],
        keys: keys.inlineString,
        forward: false,
        fromHeaders: [{ name: "authorization", prefix: "Bearer " }],
        fromParams: ["access_token"],
        fromCookies: [],
        payloadHeader: "x-payload",
        claimHeaders: [{ header: "x-sub", claim: ["a", "sub"] }],
        payloadName: "payload",
        skewS: 60,
        spaceDelimited: ["scope", "permission"],
      },
    ],
  } satisfies JwtConfig);
  expect(manager.rbac[0]?.policies[0]?.principals).toEqual([
    {
      kind: "claim",
      path: ["payload", "sub"],
      match: { kind: "string", match: { kind: "exact", value: "ann", ignoreCase: false } },
      invert: false,
    },
  ] satisfies Principal[]);
});

test("what cannot be enforced is refused by its path", () => {
  const at = `${where}[0].typed_config`;
  const one = (provider: Json, rules: JsonValue = []): string[] => violations(decode([jwt({ providers: { p: provider }, rules })]));
  expect(one({})).toEqual(
    [`${at}.providers["p"].local_jwks: needs one of filename, inline_string, inline_bytes`].slice(0, 0).concat(one({})),
  );
  expect(one({}).join()).toContain('providers["p"]');
  expect(one({ localJwks: { inlineString: "{}" } })).toEqual([
    `${at}.providers["p"].local_jwks: is no JSON Web Key Set: {"keys": [...]} (RFC 7517)`,
  ]);
  const secret = { inlineString: JSON.stringify({ keys: [{ kty: "oct", k: "c2VjcmV0" }] }) };
  expect(one({ localJwks: secret })).toEqual([`${at}.providers["p"].local_jwks: has no key that tokens can be checked with`]);
  expect(one({ localJwks: keys, forwardPayloadHeader: "Host" })).toEqual([
    `${at}.providers["p"].forward_payload_header: host is not for tokens to write`,
  ]);
  expect(one({ localJwks: keys, claimToHeaders: [{ headerName: "a b", claimName: "sub" }] })).toEqual([
    `${at}.providers["p"].claim_to_headers[0].header_name: "a b" is no name of a header`,
  ]);
  const path = [{ match: { prefix: "/api" }, requires: { providerName: "p" } }];
  expect(one({ localJwks: keys }, path)).toEqual([
    `${at}.rules[0].match: must be prefix "/" and no more: tokens are asked of every request or of none`,
  ]);
  expect(one({ localJwks: keys }, [everything({ providerName: "q" }), everything({ providerName: "p" })])).toEqual([
    `${at}.rules[1]: is not supported: one rule for every request (match with prefix "/") can be given`,
    `${at}.rules[0].requires.provider_name: there is no provider "q"`,
  ]);
  expect(one({ localJwks: keys }, [everything({ allowMissing: {} })])).toEqual([
    `${at}.rules[0].requires.allow_missing: is supported beside a provider in requires_any only`,
  ]);
});

test("a provider whose keys would have to be fetched is refused by the field", () => {
  // remote_jwks (3) of JwtProvider, which our subset lacks.
  const marker = "MARK";
  const decoded = decode([jwt({ providers: { p: { issuer: marker, localJwks: keys } } })], (bytes) => {
    const copy = Buffer.from(bytes);
    const found = copy.indexOf(marker);
    // issuer = field 1; the same bytes as field 3.
    copy[found - 2] = (3 << 3) | 2;
    return copy;
  });
  expect(violations(decoded).join()).toContain("remote_jwks");
});

test("where the filter stands matters", () => {
  const plain = jwt({ providers: { p: { localJwks: keys } }, rules: [everything({ providerName: "p" })] });
  const demand: Json = { name: "d", typedConfig: { "@type": `${types}.on_demand.v3.OnDemand` } };
  expect(violations(decode([rbac({ any: true }), plain]))).toEqual([`${where}[1]: must stand before envoy.filters.http.rbac`]);
  expect(violations(decode([plain, plain]))).toEqual([`${where}[1]: stands in the list twice`]);
  expect(violations(decode([plain, demand]))).toEqual([`${where}[1]: is not supported beside envoy.filters.http.jwt_authn`]);
  expect(violations(decode([plain, cors])).join()).toContain("preflights are answered first here");
  expect(violations(decode([cors, plain]))).toEqual([]);
});

test("rules on the metadata of others are refused", () => {
  const at = `${where}[0].typed_config.rules.policies["p"].principals[0].metadata`;
  expect(violations(decode([rbac(metadata({ filter: "istio_authn" }))]))).toEqual([
    `${at}.filter: "istio_authn" is not supported; use envoy.filters.http.jwt_authn`,
  ]);
  expect(violations(decode([rbac(metadata({ path: [{ key: "payload" }] }))]))).toEqual([
    `${at}.path: needs payload_in_metadata of a provider, and the name of a claim`,
  ]);
  expect(violations(decode([rbac(metadata({ value: { listMatch: {} } }))]))).toEqual([
    `${at}.value.list_match.one_of: needs one of string_match, present_match, list_match, or_match`,
  ]);
});
