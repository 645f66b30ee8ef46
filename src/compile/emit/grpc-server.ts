// Owns: the listener of a gRPC server without a proxy (gRFC A36): mutual TLS by its own certificate, authorization as HTTP filters (A41). The same plan
// as a sidecar's inbound port; what gRPC cannot hold of it is told.

import { create } from "@bufbuild/protobuf";
import { TrafficDirection } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import { type Listener, ListenerSchema } from "../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { type RBAC, RBAC_Action, RBACSchema as RulesSchema } from "../../wire/gen/envoy/config/rbac/v3/rbac_pb.ts";
import { RouteSchema } from "../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { RBACSchema } from "../../wire/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import { RouterSchema } from "../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { HttpConnectionManagerSchema } from "../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { CertificateValidationContextSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts";
import { CommonTlsContextSchema, DownstreamTlsContextSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import type { InboundPlan, TokenRulePlan } from "../plan/plan.ts";
import { address, any } from "./common.ts";
import type { Shortfall } from "./grpc.ts";
import { putNonForwarding, putOwnCertificate, putRoots } from "./grpc-fields.ts";
import { rbacRules } from "./rbac.ts";

/** `listenAddress`: as the server says it, `0.0.0.0` and `[::]` among them; gRPC compares. */
export function grpcServerListener(name: string, listenAddress: string, plan: InboundPlan): Listener {
  const rules = [...withoutTokens(plan.authz.tokens ?? []), ...rbacRules(plan.authz)].map((each, n) => ({
    name: `envoy.filters.http.rbac.${n}`,
    configType: { case: "typedConfig" as const, value: any(RBACSchema, { rules: each }) },
  }));
  const route = putNonForwarding(create(RouteSchema, { name: "default", match: { pathSpecifier: { case: "prefix", value: "/" } } }));
  const manager = any(HttpConnectionManagerSchema, {
    statPrefix: name,
    routeSpecifier: { case: "routeConfig", value: { name, virtualHosts: [{ name, domains: ["*"], routes: [route] }] } },
    httpFilters: [...rules, { name: "envoy.filters.http.router", configType: { case: "typedConfig", value: any(RouterSchema, {}) } }],
  });
  return create(ListenerSchema, {
    name,
    address: address(listenAddress, plan.port),
    trafficDirection: TrafficDirection.INBOUND,
    filterChains: [
      {
        name: "inbound",
        filters: [{ name: "envoy.filters.network.http_connection_manager", configType: { case: "typedConfig", value: manager } }],
        ...(plan.mutualTls === "DISABLE" ? {} : { transportSocket: mutualTls() }),
      },
    ],
  });
}

/** gRPC checks no tokens of users. A call that shows one where they are looked for is refused, as if it were bad: it could be. */
function withoutTokens(tokens: readonly TokenRulePlan[]): RBAC[] {
  if (tokens.length === 0) return [];
  const names = new Set(
    tokens.flatMap(({ fromHeaders, fromParams, fromCookies }) =>
      fromHeaders.length + fromParams.length + fromCookies.length === 0
        ? ["authorization"]
        : [...fromHeaders.map(({ name }) => name), ...(fromCookies.length > 0 ? ["cookie"] : [])],
    ),
  );
  if (names.size === 0) return [];
  const permissions = [...names].sort().map((name) => ({
    rule: { case: "header" as const, value: { name, headerMatchSpecifier: { case: "presentMatch" as const, value: true } } },
  }));
  const policies = { tokens: { permissions, principals: [{ identifier: { case: "any" as const, value: true } }] } };
  return [create(RulesSchema, { action: RBAC_Action.DENY, policies })];
}

function mutualTls() {
  // Who may call is the filters' affair: gRPC's servers know no match by name here (A29). The roots are this mesh's alone.
  const roots = putRoots(create(CertificateValidationContextSchema, {}));
  const context = create(CommonTlsContextSchema, { validationContextType: { case: "validationContext", value: roots } });
  const value = any(DownstreamTlsContextSchema, { requireClientCertificate: true, commonTlsContext: putOwnCertificate(context) });
  return { name: "envoy.transport_sockets.tls", configType: { case: "typedConfig" as const, value } };
}

/** What a gRPC server makes otherwise than a sidecar would. */
export function serverShortfalls(plan: InboundPlan): readonly Shortfall[] {
  const subject = `port ${plan.name}`;
  const plain: Shortfall = {
    subject,
    message: "a gRPC server without a proxy cannot take mutual TLS and plain text on one port: it takes mutual TLS only (as STRICT)",
    refused: true,
  };
  const tokens: Shortfall = {
    subject,
    message:
      "a gRPC server without a proxy cannot check tokens (RequestAuthentication): calls that show one are refused, and nobody is known by one",
    refused: true,
  };
  return [...(plan.mutualTls === "PERMISSIVE" ? [plain] : []), ...(plan.authz.tokens === undefined ? [] : [tokens])];
}
