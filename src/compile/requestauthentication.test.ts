// RequestAuthentications: whom they reach, that rules add up, that keys which are not known are nobody's, and what those are told who ask for tokens in vain.

import { expect, test } from "bun:test";
import { createRegistry, toJson } from "@bufbuild/protobuf";
import { fetchedKeysName } from "../api/kinds/fetched-keys.ts";
import type { Condition } from "../api/meta.ts";
import { ListenerSchema } from "../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { RBACSchema as HttpRbacSchema } from "../wire/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import { RouterSchema } from "../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { HttpConnectionManagerSchema } from "../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { DownstreamTlsContextSchema } from "../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { keysOfNobody } from "../wire/key-set.ts";
import { compileAll } from "./compile.ts";
import { snapshotToJson } from "./decode.ts";
import { grpcServerListener, serverShortfalls } from "./emit/grpc-server.ts";
import type { InboundPlan } from "./plan/plan.ts";
import { foldAuthorization } from "./policies/authorizationpolicy.ts";
import { foldTokens } from "./policies/requestauthentication.ts";
import { statuses } from "./status.ts";
import { objectsOf } from "./testing/objects.ts";
import { buildWorld, type World } from "./world.ts";

const key = '{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}';
const inline = `jwks: '{"keys":[${key}]}'`;

const authentication = (name: string, namespace: string, selector: string, ...rules: string[]): string => `
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: ${name}, namespace: ${namespace}}
spec: {${selector}jwtRules: [${rules.join(", ")}]}
---`;
const policy = (action: string, rule: string): string => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {action: ${action}, rules: [${rule}]}
---`;
const rule = (issuer: string, more = inline): string => `{issuer: "${issuer}", ${more}}`;
const cart = { namespace: "shop", labels: { app: "cart" } };
const worldOf = (yaml: string): World => buildWorld(objectsOf(yaml), "cluster.local");
const issuers = (yaml: string, workload = cart): string[] => foldTokens(worldOf(yaml), workload).map(({ issuer }) => issuer);

test("they reach whom their selector fits, in their namespace or from the root; rules add up by issuer", () => {
  const all =
    authentication("a", "shop", "selector: {matchLabels: {app: cart}}, ", rule("z"), rule("m")) +
    authentication("b", "shop", "selector: {matchLabels: {app: stock}}, ", rule("no")) +
    authentication("c", "bank", "", rule("no")) +
    authentication("d", "weft-system", "", rule("b"));
  expect(issuers(all)).toEqual(["b", "m", "z"]);
  expect(issuers(all, { namespace: "bank", labels: { app: "cart" } })).toEqual(["b", "no"]);
});

test("keys that were never fetched, or for another place, are nobody's", () => {
  const uri = "https://issuer.test/keys";
  const asks = authentication("a", "shop", "", rule("i", `jwksUri: "${uri}"`));
  const kept = (of: string) => `
apiVersion: v1
kind: ConfigMap
metadata: {name: ${fetchedKeysName(uri)}, namespace: weft-system}
data: {uri: "${of}", jwks.json: '{"keys":[${key}]}'}
---`;
  const keysIn = (yaml: string) => foldTokens(worldOf(yaml), cart)[0]?.keys;
  expect(keysIn(asks)).toBe(keysOfNobody);
  expect(keysIn(asks + kept("https://else.test/keys"))).toBe(keysOfNobody);
  expect(keysIn(asks + kept(uri))).toBe(`{"keys":[${key}]}`);
  expect(keysIn(asks + kept(uri).replace(key, '{"kty":"oct","k":"AA"}'))).toBe(keysOfNobody);
});

test("on opaque ports nobody looks for tokens: what asks for one allows nothing and denies the rest", () => {
  const port = { protocol: "tcp", appPort: 7000 } as const;
  const fold = (action: string, text: string) => {
    const world = worldOf(authentication("a", "shop", "", rule("i")) + policy(action, text));
    return foldAuthorization(world, cart, port);
  };
  const asks = '{from: [{source: {requestPrincipals: ["*"]}}]}';
  expect(fold("ALLOW", asks)).toEqual({ deny: [], allow: [] });
  expect(fold("ALLOW", '{from: [{source: {requestPrincipals: ["*"]}}, {source: {namespaces: [shop]}}]}').allow?.[0]?.sources).toHaveLength(
    1,
  );
  expect(fold("ALLOW", '{when: [{key: "request.auth.claims[a]", values: [b]}]}').allow).toEqual([]);
  // Nothing is left of its condition: it denies everybody.
  expect(fold("DENY", '{from: [{source: {notRequestPrincipals: ["*"]}}]}').deny[0]?.sources).toEqual([]);
  expect(fold("DENY", '{from: [{source: {notRequestPrincipals: ["*"], namespaces: [shop]}}]}').deny[0]?.sources).toHaveLength(1);
});

test("at a gateway tokens are checked before policies", () => {
  const world = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: web, port: 8080, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: edge-1, namespace: shop, labels: {app: edge}, annotations: {weft.dev/gateway: edge}}
spec: {address: 127.0.0.1, serviceAccount: edge}
---${authentication("a", "shop", "selector: {matchLabels: {app: edge}}, ", rule("i"))}${policy("ALLOW", '{from: [{source: {requestPrincipals: ["i/*"]}}]}')}`;
  const snapshot = compileAll(buildWorld(objectsOf(world), "cluster.local")).snapshots.get("shop/edge-1");
  if (snapshot === undefined) throw new Error("no snapshot");
  const text = JSON.stringify(snapshotToJson(snapshot).listener);
  const [first, second] = [text.indexOf("jwt_authn.v3.JwtAuthentication"), text.indexOf("rbac.v3.RBAC")];
  expect(first).toBeGreaterThan(0);
  expect(second).toBeGreaterThan(first);
});

test("a policy that asks for tokens where nobody checks any is told so", () => {
  const entry = `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: cart-1, namespace: shop, labels: {app: cart}, annotations: {weft.dev/inbound: "http=8000"}}
spec: {address: 127.0.0.1, ports: {http: 40001}}
---`;
  const asks = policy("ALLOW", '{from: [{source: {requestPrincipals: ["*"]}}]}');
  const told = (yaml: string): Condition[] => {
    const found = statuses(worldOf(yaml)).find(({ resource }) => resource.startsWith("authorizationpolicies"));
    return ((found?.status as { conditions: Condition[] } | undefined)?.conditions ?? []).filter(({ type }) => type === "TokensChecked");
  };
  expect(told(entry + asks).map(({ status, reason }) => [status, reason])).toEqual([["False", "NobodyChecks"]]);
  expect(told(entry + asks + authentication("a", "shop", "", rule("i")))).toEqual([]);
});

test("a gRPC server without a proxy cannot check tokens: calls that show one are refused, and it is told", () => {
  const tokens = foldTokens(
    worldOf(authentication("a", "shop", "", rule("i"), rule("j", `${inline}, fromHeaders: [{name: X-Token}], fromCookies: [c]`))),
    cart,
  );
  const plan: InboundPlan = {
    name: "grpc",
    address: "127.0.0.1",
    port: 1,
    appPort: 1,
    protocol: "http",
    mutualTls: "STRICT",
    services: [],
    authz: { deny: [], allow: null, tokens },
  };
  const registry = createRegistry(HttpConnectionManagerSchema, HttpRbacSchema, RouterSchema, DownstreamTlsContextSchema);
  const text = JSON.stringify(toJson(ListenerSchema, grpcServerListener("l", "0.0.0.0", plan), { registry }));
  expect(text).not.toContain("jwt_authn");
  for (const name of ["authorization", "cookie", "x-token"]) expect(text).toContain(`"name":"${name}","presentMatch":true`);
  expect(text).toContain('"action":"DENY"');
  expect(serverShortfalls(plan).map(({ refused }) => refused)).toEqual([true]);
  const { tokens: _none, ...authz } = plan.authz;
  expect(serverShortfalls({ ...plan, authz })).toEqual([]);
});
