// Owns: RouteConfiguration resources: for each service port a virtual host with its routes, and tables made of them.
// Virtual hosts are encoded once and joined as bytes: a table of a namespace differs from the next only in a few names.

import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { HeaderValueOption_HeaderAppendAction } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import {
  type HeaderMatcherSchema,
  type QueryParameterMatcherSchema,
  RedirectAction_RedirectResponseCode,
  RouteAction_ClusterNotFoundResponseCode,
  type RouteMatchSchema,
  type RouteSchema,
  VirtualHostSchema,
} from "../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { RouteConfigurationSchema } from "../../wire/gen/envoy/config/route/v3/route_pb.ts";
import { reasonHeader } from "../../wire/names.ts";
import {
  type BackendPlan,
  defaultRetries,
  type ForwardPlan,
  type HeaderEditsPlan,
  type MatchPlan,
  noEdits,
  type PortPlan,
  type RedirectPlan,
  type RoutePlan,
} from "../plan/plan.ts";
import { duration, stringMatcher } from "./common.ts";

type RouteInit = MessageInitShape<typeof RouteSchema>;

/** Retried unasked: what certainly reached no application, and what an idempotent request may repeat. */
const retryOn = "connect-failure,reset,refused-stream";

/** Hop-by-hop upgrades that pass through, besides CONNECT. */
export const upgrades = ["websocket"] as const;

export interface VirtualHostPlan {
  readonly name: string;
  readonly domains: readonly string[];
  readonly target: PortPlan;
  /** undefined = no HTTPRoute speaks about it: everything goes to the service. */
  readonly routes: readonly RoutePlan[] | undefined;
}

export function virtualHostBytes(plan: VirtualHostPlan): Uint8Array {
  return toBinary(VirtualHostSchema, create(VirtualHostSchema, { name: plan.name, domains: [...plan.domains], routes: routesOf(plan) }));
}

/** What the forward proxy says about names that are no service. Last in its table. */
export const unknownHostBytes: Uint8Array = toBinary(
  VirtualHostSchema,
  create(VirtualHostSchema, {
    name: "unknown-host",
    domains: ["*"],
    routes: [
      direct("unknown-host-connect", { pathSpecifier: { case: "connectMatcher", value: {} } }, 502, unknownHost()),
      direct("unknown-host", { pathSpecifier: { case: "prefix", value: "/" } }, 502, unknownHost()),
    ],
  }),
);

function unknownHost(): string {
  return "The host of this request is no service of the mesh. Names are SERVICE, SERVICE.NAMESPACE or SERVICE.NAMESPACE.svc.cluster.local, with a port the service has.";
}

/** A RouteConfiguration: protobuf joins repeated fields by concatenation, so encoded virtual hosts follow the encoded rest. */
export function routeTableBytes(name: string, virtualHosts: readonly Uint8Array[]): Uint8Array {
  const head = toBinary(RouteConfigurationSchema, create(RouteConfigurationSchema, { name }));
  const tags = virtualHosts.map((bytes) => lengthPrefix(bytes.length));
  const out = new Uint8Array(virtualHosts.reduce((sum, bytes, at) => sum + bytes.length + tags[at]!.length, head.length));
  out.set(head);
  let end = head.length;
  for (const [at, bytes] of virtualHosts.entries()) {
    out.set(tags[at]!, end);
    out.set(bytes, end + tags[at]!.length);
    end += tags[at]!.length + bytes.length;
  }
  return out;
}

/** Tag of field 2 (`virtual_hosts`), length-delimited, and the length as a varint. */
function lengthPrefix(length: number): number[] {
  const out = [(2 << 3) | 2];
  let rest = length;
  while (rest > 0x7f) {
    out.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  out.push(rest);
  return out;
}

function routesOf(plan: VirtualHostPlan): RouteInit[] {
  const whole: BackendPlan[] = [{ cluster: plan.target.cluster, weight: 1, missing: false }];
  const out: RouteInit[] = [
    {
      name: "connect",
      match: { pathSpecifier: { case: "connectMatcher", value: {} } },
      action: {
        case: "route",
        value: {
          ...forwardTo({
            backends: tunnelBackends(plan.routes) ?? whole,
            timeoutMs: 0,
            perTryTimeoutMs: 0,
            retries: defaultRetries,
            retryCodes: [],
          }),
          upgradeConfigs: [{ upgradeType: "CONNECT", connectConfig: {} }],
        },
      },
    },
  ];
  if (plan.routes === undefined) {
    out.push({
      name: "default",
      match: { pathSpecifier: { case: "prefix", value: "/" } },
      action: {
        case: "route",
        value: forwardTo({ backends: whole, timeoutMs: 0, perTryTimeoutMs: 0, retries: defaultRetries, retryCodes: [] }),
      },
    });
    return out;
  }
  for (const route of plan.routes) out.push(routeInit(route));
  // Gateway API: once a service has routes, a request that none of them matches is answered with 404.
  if (!plan.routes.some((route) => matchesEverything(route.match))) {
    out.push(
      direct(
        "no-match",
        { pathSpecifier: { case: "prefix", value: "/" } },
        404,
        `No rule of the HTTPRoutes of ${plan.target.service.key} matches this request.`,
      ),
    );
  }
  return out;
}

/** A tunnel shows no path and no headers: it follows the rule that matches everything, if that one forwards. */
function tunnelBackends(routes: readonly RoutePlan[] | undefined): readonly BackendPlan[] | undefined {
  const rule = routes?.find((route) => matchesEverything(route.match));
  return rule?.action.kind === "forward" ? rule.action.backends : undefined;
}

function matchesEverything(match: MatchPlan): boolean {
  return (
    match.path.kind === "prefix" &&
    match.path.value === "/" &&
    match.method === undefined &&
    match.headers.length === 0 &&
    match.query.length === 0
  );
}

function routeInit(route: RoutePlan): RouteInit {
  return {
    name: route.name,
    match: matchInit(route.match),
    action: actionInit(route),
    ...editsInit(route.requestHeaders, route.responseHeaders),
  };
}

function actionInit(route: RoutePlan): NonNullable<RouteInit["action"]> {
  const { action } = route;
  switch (action.kind) {
    case "forward":
      return { case: "route", value: forwardTo(action) };
    case "redirect":
      return { case: "redirect", value: redirectInit(action) };
    case "direct":
      return {
        case: "directResponse",
        value: { status: action.status, body: { specifier: { case: "inlineString", value: `${action.body}\n` } } },
      };
  }
}

function forwardTo(
  plan: Pick<ForwardPlan, "backends" | "timeoutMs" | "perTryTimeoutMs" | "retries" | "retryCodes"> & Partial<ForwardPlan>,
) {
  const [first] = plan.backends;
  const single = plan.backends.length === 1 && first !== undefined;
  const codes = plan.retryCodes.length > 0;
  return {
    clusterSpecifier: single
      ? { case: "cluster" as const, value: first.cluster }
      : { case: "weightedClusters" as const, value: { clusters: plan.backends.map(({ cluster, weight }) => ({ name: cluster, weight })) } },
    // Gateway API: the share of a backend that cannot be resolved is answered with 500.
    ...(plan.backends.some((backend) => backend.missing)
      ? { clusterNotFoundResponseCode: RouteAction_ClusterNotFoundResponseCode.INTERNAL_SERVER_ERROR }
      : {}),
    timeout: duration(plan.timeoutMs),
    retryPolicy: {
      retryOn: codes ? `${retryOn},retriable-status-codes` : retryOn,
      numRetries: plan.retries,
      ...(plan.perTryTimeoutMs > 0 ? { perTryTimeout: duration(plan.perTryTimeoutMs) } : {}),
      retriableStatusCodes: [...plan.retryCodes],
    },
    ...(plan.prefixRewrite === undefined ? {} : { prefixRewrite: plan.prefixRewrite }),
    ...(plan.hostRewrite === undefined ? {} : { hostRewriteSpecifier: { case: "hostRewriteLiteral" as const, value: plan.hostRewrite } }),
  };
}

const redirectCodes: Readonly<Record<number, RedirectAction_RedirectResponseCode>> = {
  301: RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY,
  302: RedirectAction_RedirectResponseCode.FOUND,
};

function redirectInit(plan: RedirectPlan) {
  return {
    responseCode: redirectCodes[plan.status] ?? RedirectAction_RedirectResponseCode.FOUND,
    ...(plan.host === undefined ? {} : { hostRedirect: plan.host }),
    ...(plan.port === undefined ? {} : { portRedirect: plan.port }),
    ...(plan.scheme === undefined ? {} : { schemeRewriteSpecifier: { case: "schemeRedirect" as const, value: plan.scheme } }),
    ...(plan.path === undefined
      ? {}
      : {
          pathRewriteSpecifier: {
            case: plan.path.kind === "full" ? ("pathRedirect" as const) : ("prefixRewrite" as const),
            value: plan.path.value,
          },
        }),
  };
}

function direct(name: string, match: MessageInitShape<typeof RouteMatchSchema>, status: number, body: string): RouteInit {
  return {
    name,
    match,
    action: { case: "directResponse", value: { status, body: { specifier: { case: "inlineString", value: `${body}\n` } } } },
    // As local replies have it: the flag of Envoy's log (NR: no route), then the sentence.
    responseHeadersToAdd: [
      { header: { key: reasonHeader, value: `NR ${body}` }, appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD },
    ],
  };
}

const pathCases = { exact: "path", prefix: "prefix", "separated-prefix": "pathSeparatedPrefix" } as const;

function matchInit(match: MatchPlan): MessageInitShape<typeof RouteMatchSchema> {
  const { path } = match;
  const headers: MessageInitShape<typeof HeaderMatcherSchema>[] = match.headers.map((each) => ({
    name: each.name,
    headerMatchSpecifier: { case: "stringMatch", value: stringMatcher(each) },
  }));
  if (match.method !== undefined)
    headers.push({
      name: ":method",
      headerMatchSpecifier: { case: "stringMatch", value: stringMatcher({ kind: "exact", value: match.method }) },
    });
  const queryParameters: MessageInitShape<typeof QueryParameterMatcherSchema>[] = match.query.map((each) => ({
    name: each.name,
    queryParameterMatchSpecifier: { case: "stringMatch", value: stringMatcher(each) },
  }));
  return {
    pathSpecifier:
      path.kind === "regex" ? { case: "safeRegex", value: { regex: path.value } } : { case: pathCases[path.kind], value: path.value },
    headers,
    queryParameters,
  };
}

function editsInit(request: HeaderEditsPlan, response: HeaderEditsPlan) {
  if (request === noEdits && response === noEdits) return {};
  return {
    requestHeadersToAdd: headerOptions(request),
    requestHeadersToRemove: [...request.remove],
    responseHeadersToAdd: headerOptions(response),
    responseHeadersToRemove: [...response.remove],
  };
}

function headerOptions(edits: HeaderEditsPlan) {
  const option = (action: HeaderValueOption_HeaderAppendAction) => (each: { name: string; value: string }) => ({
    header: { key: each.name, value: each.value },
    appendAction: action,
  });
  return [
    ...edits.set.map(option(HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD)),
    ...edits.add.map(option(HeaderValueOption_HeaderAppendAction.APPEND_IF_EXISTS_OR_ADD)),
  ];
}
