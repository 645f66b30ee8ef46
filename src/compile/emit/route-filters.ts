// Owns: what a route says to the HTTP filters of its listener (Envoy's `typed_per_filter_config`): CORS, faults, sticky sessions.
// The names are those under which the listener has the filters; a route that speaks to a filter that is not there would not be heard.

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { HeaderMatcherSchema } from "../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { CorsPolicySchema } from "../../wire/gen/envoy/extensions/filters/http/cors/v3/cors_pb.ts";
import { ExtAuthzPerRouteSchema } from "../../wire/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.ts";
import { HTTPFaultSchema } from "../../wire/gen/envoy/extensions/filters/http/fault/v3/fault_pb.ts";
import { StatefulSessionPerRouteSchema } from "../../wire/gen/envoy/extensions/filters/http/stateful_session/v3/stateful_session_pb.ts";
import { CookieBasedSessionStateSchema } from "../../wire/gen/envoy/extensions/http/stateful_session/cookie/v3/cookie_pb.ts";
import { HeaderBasedSessionStateSchema } from "../../wire/gen/envoy/extensions/http/stateful_session/header/v3/header_pb.ts";
import { FaultSchema } from "../../wire/gen/weft/fault/v1/fault_pb.ts";
import type { CorsPlan, ExternalAuthPlan, FaultPlan, SessionPlan, ValueMatchPlan } from "../plan/routes.ts";
import { any, duration, perMillion, stringMatcher } from "./common.ts";

export const corsName = "envoy.filters.http.cors";
export const faultName = "envoy.filters.http.fault";
export const authName = "envoy.filters.http.ext_authz";
export const sessionName = "envoy.filters.http.stateful_session";

export function corsPolicy(plan: CorsPlan): Any {
  return any(CorsPolicySchema, {
    allowOriginStringMatch: plan.origins.map((origin) => stringMatcher(origin)),
    allowMethods: plan.methods,
    allowHeaders: plan.headers,
    exposeHeaders: plan.expose,
    maxAge: plan.maxAgeSeconds === undefined ? "" : String(plan.maxAgeSeconds),
    allowCredentials: plan.credentials,
    // Envoy's default is true.
    ...(plan.forwardUnmatched ? {} : { forwardNotMatchingPreflights: false }),
  });
}

export function faultPolicy(plan: FaultPlan, header: (match: ValueMatchPlan) => MessageInitShape<typeof HeaderMatcherSchema>): Any {
  const { delay, abort, bandwidth, headers = [], resetPerMillion, clients = [] } = plan;
  const http: MessageInitShape<typeof HTTPFaultSchema> = {
    ...(delay === undefined
      ? {}
      : {
          delay: {
            faultDelaySecifier: { case: "fixedDelay", value: duration(delay.ms) },
            percentage: perMillion(delay.perMillion),
          },
        }),
    ...(abort === undefined
      ? {}
      : {
          abort: {
            errorType: { case: abort.status.kind === "http" ? "httpStatus" : "grpcStatus", value: abort.status.value },
            percentage: perMillion(abort.perMillion),
          },
        }),
    ...(bandwidth === undefined
      ? {}
      : {
          responseRateLimit: {
            limitType: { case: "fixedLimit", value: { limitKbps: BigInt(bandwidth.kibPerSecond) } },
            percentage: perMillion(bandwidth.perMillion),
          },
        }),
    headers: headers.map(header),
  };
  if (resetPerMillion === undefined && clients.length === 0) return any(HTTPFaultSchema, http);
  // A proxy that does not know it refuses the routes, rather than inject into everybody's requests.
  return any(FaultSchema, {
    http,
    ...(resetPerMillion === undefined ? {} : { reset: perMillion(resetPerMillion) }),
    clients: clients.map((client) => stringMatcher(client)),
  });
}

/** How long a request waits for the service: what takes longer holds up every request. */
export const authTimeoutMs = 1_000;

export function authPolicy(plan: ExternalAuthPlan): Any {
  const names = (list: readonly string[]) => ({ patterns: list.map((value) => stringMatcher({ kind: "exact", value }, true)) });
  const body =
    plan.bodyBytes === 0
      ? { disableRequestBodyBuffering: true }
      : { withRequestBody: { maxRequestBytes: plan.bodyBytes, allowPartialMessage: true, packAsBytes: plan.kind === "grpc" } };
  return any(ExtAuthzPerRouteSchema, {
    override: {
      case: "checkSettings",
      value: {
        ...body,
        serviceOverride:
          plan.kind === "grpc"
            ? {
                case: "grpcService",
                value: {
                  targetSpecifier: { case: "envoyGrpc", value: { clusterName: plan.cluster, authority: plan.host } },
                  timeout: duration(authTimeoutMs),
                },
              }
            : {
                case: "httpService",
                value: {
                  serverUri: {
                    uri: `http://${plan.host}`,
                    httpUpstreamType: { case: "cluster", value: plan.cluster },
                    timeout: duration(authTimeoutMs),
                  },
                  pathPrefix: plan.pathPrefix,
                  ...(plan.tellHeaders.length === 0 ? {} : { authorizationRequest: { allowedHeaders: names(plan.tellHeaders) } }),
                  ...(plan.takeHeaders.length === 0 ? {} : { authorizationResponse: { allowedUpstreamHeaders: names(plan.takeHeaders) } }),
                },
              },
      },
    },
  });
}

export function sessionPolicy(plan: SessionPlan): Any {
  const state =
    plan.kind === "cookie"
      ? {
          name: "envoy.http.stateful_session.cookie",
          typedConfig: any(CookieBasedSessionStateSchema, {
            cookie: { name: plan.name, path: plan.path, ...(plan.ttlMs > 0 ? { ttl: duration(plan.ttlMs) } : {}) },
          }),
        }
      : { name: "envoy.http.stateful_session.header", typedConfig: any(HeaderBasedSessionStateSchema, { name: plan.name }) };
  return any(StatefulSessionPerRouteSchema, { override: { case: "statefulSession", value: { sessionState: state } } });
}
