// Owns: RouteConfiguration resources: for each service port a virtual host with its routes, and tables made of them.
// Virtual hosts are encoded once and joined as bytes: a table of a namespace differs from the next only in a few names.

import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { HeaderValueOption_HeaderAppendAction } from "../../wire/gen/envoy/config/core/v3/base_pb.ts";
import {
  type HeaderMatcherSchema,
  type QueryParameterMatcherSchema,
  RedirectAction_RedirectResponseCode,
  RouteAction_ClusterNotFoundResponseCode,
  type RouteActionSchema,
  type RouteMatchSchema,
  type RouteSchema,
  VirtualHostSchema,
} from "../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { RouteConfigurationSchema } from "../../wire/gen/envoy/config/route/v3/route_pb.ts";
import { FractionalPercent_DenominatorType } from "../../wire/gen/envoy/type/v3/percent_pb.ts";
import { clusterDomain, passthroughCluster, reasonHeader, routeMetadata } from "../../wire/names.ts";
import type { TargetPlan } from "../plan/plan.ts";
import {
  type BackendPlan,
  defaultRetry,
  defaultRetryOn,
  type ExternalAuthPlan,
  type ForwardPlan,
  type HashPlan,
  type HeaderEditsPlan,
  type MatchPlan,
  matchesEverything,
  noEdits,
  type RedirectPlan,
  type RetryPlan,
  type RoutePlan,
  type ValueMatchPlan,
} from "../plan/routes.ts";
import { duration, overAds, perMillion, stringMatcher } from "./common.ts";
import { authName, authPolicy, corsName, corsPolicy, faultName, faultPolicy, sessionName, sessionPolicy } from "./route-filters.ts";

type RouteInit = MessageInitShape<typeof RouteSchema>;
type ActionInit = Exclude<MessageInitShape<typeof RouteActionSchema>, { $typeName: string }>;

/** Hop-by-hop upgrades that pass through, besides CONNECT. */
export const upgrades = ["websocket"] as const;

export interface VirtualHostPlan {
  readonly name: string;
  readonly domains: readonly string[];
  readonly target: TargetPlan;
  /** undefined = no HTTPRoute speaks about it: everything goes to the service. */
  readonly routes: readonly RoutePlan[] | undefined;
}

export function virtualHostBytes(plan: VirtualHostPlan): Uint8Array {
  return toBinary(VirtualHostSchema, create(VirtualHostSchema, { name: plan.name, domains: [...plan.domains], routes: routesOf(plan) }));
}

const nameForms =
  "Names are SERVICE, SERVICE.NAMESPACE or SERVICE.NAMESPACE.svc.cluster.local, with a port the service has; a host outside the mesh is made known by a ServiceEntry.";

/** A host of a gateway's table: what no rule of its routes matches is answered with 404, as Gateway API has it. Tunnels end nowhere. */
export function gatewayHostBytes(domain: string, routes: readonly RoutePlan[]): Uint8Array {
  const all = routes.map(routeInit);
  if (!routes.some((route) => matchesEverything(route.match))) {
    const what =
      routes.length === 0 ? `No route is attached for host ${domain}.` : `No rule of the routes for host ${domain} matches this request.`;
    all.push(direct("no-match", { pathSpecifier: { case: "prefix", value: "/" } }, 404, what));
  }
  return toBinary(VirtualHostSchema, create(VirtualHostSchema, { name: domain, domains: [domain], routes: all }));
}

/** What the forward proxy says about names that are no service. Last in its table. */
export const unknownHostBytes: Uint8Array = unknownHost("The host of this request is no service of the mesh.");

/** The same where the table holds only what a workload uses. */
export const unusedHostBytes: Uint8Array = unknownHost(
  "The host of this request is none of the services that this workload is said to use (weft run --uses).",
);

/** Where callers may reach hosts that nobody has made known: in the place of `unknownHostBytes`. `domain`: `*`, or the one host that is asked for. */
export function passthroughHostBytes(name: string, domain: string): Uint8Array {
  const backends: BackendPlan[] = [{ cluster: passthroughCluster, weight: 1, missing: false }];
  const action = { kind: "forward" as const, backends, timeoutMs: 0, retry: defaultRetry };
  const match: MatchPlan = { path: { kind: "prefix", value: "/" }, method: undefined, headers: [], query: [] };
  const rest = routeInit({ name: "passthrough", match, action, requestHeaders: noEdits, responseHeaders: noEdits });
  return toBinary(VirtualHostSchema, create(VirtualHostSchema, { name, domains: [domain], routes: [tunnelInit(backends), rest] }));
}

/** Names of the mesh's own domain that no service has stay unknown, whoever may be reached outside. */
export const unknownServiceBytes: Uint8Array = unknownHost(
  "The host of this request is no service of the mesh.",
  "unknown-service",
  `*.${clusterDomain}`,
);

/** The same where a Sidecar says which services its callers know. */
export const hiddenHostBytes: Uint8Array = unknownHost("The host of this request is none of those that a Sidecar lets this workload know.");

function unknownHost(what: string, name = "unknown-host", domain = "*"): Uint8Array {
  const words = `${what} ${nameForms}`;
  return toBinary(
    VirtualHostSchema,
    create(VirtualHostSchema, {
      name,
      domains: [domain],
      routes: [
        direct("unknown-host-connect", { pathSpecifier: { case: "connectMatcher", value: {} } }, 502, words),
        direct("unknown-host", { pathSpecifier: { case: "prefix", value: "/" } }, 502, words),
      ],
    }),
  );
}

/** Envoy holds a listener up until its first virtual host has come, or for so long: there is none before somebody asks. */
const hostsOverAds = { ...overAds, initialFetchTimeout: duration(50) };

/**
 * A RouteConfiguration: protobuf joins repeated fields by concatenation, so encoded virtual hosts follow the encoded rest. `onDemand`: hosts that are not
 * in it are asked for one by one (VHDS).
 */
export function routeTableBytes(name: string, virtualHosts: readonly Uint8Array[], ignorePort = false, onDemand = false): Uint8Array {
  const head = toBinary(
    RouteConfigurationSchema,
    create(RouteConfigurationSchema, {
      name,
      ignorePortInHostMatching: ignorePort,
      ...(onDemand ? { vhds: { configSource: hostsOverAds } } : {}),
    }),
  );
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
  const auth = plan.routes?.find((route) => matchesEverything(route.match))?.auth;
  const out: RouteInit[] = [
    auth === undefined && (plan.routes ?? []).some((route) => route.auth !== undefined)
      ? closedTunnel
      : tunnelInit(tunnelBackends(plan.routes) ?? whole, auth),
  ];
  if (plan.routes === undefined) {
    out.push(
      routeInit({
        name: "default",
        match: { path: { kind: "prefix", value: "/" }, method: undefined, headers: [], query: [] },
        action: {
          kind: "forward",
          backends: whole,
          timeoutMs: 0,
          retry: defaultRetry,
          ...(plan.target.hash === undefined ? {} : { hash: [plan.target.hash] }),
          ...(plan.target.hedgeAfterMs === undefined ? {} : { hedgeAfterMs: plan.target.hedgeAfterMs }),
        },
        requestHeaders: noEdits,
        responseHeaders: noEdits,
      }),
    );
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

/** A CONNECT that ends here: its payload goes on as opaque bytes. */
function tunnelInit(backends: readonly BackendPlan[], auth?: ExternalAuthPlan): RouteInit {
  return {
    name: "connect",
    match: { pathSpecifier: { case: "connectMatcher", value: {} } },
    action: {
      case: "route",
      value: {
        ...forwardInit({ kind: "forward", backends, timeoutMs: 0, retry: defaultRetry }),
        upgradeConfigs: [{ upgradeType: "CONNECT", connectConfig: {} }],
      },
    },
    ...(auth === undefined ? {} : { typedPerFilterConfig: { [authName]: authPolicy(auth) } }),
  };
}

/** Some requests must be asked about, and nobody sees those within a tunnel. */
const closedTunnel = direct(
  "connect",
  { pathSpecifier: { case: "connectMatcher", value: {} } },
  403,
  "Requests here are subject to external authorization, which cannot look into a tunnel.",
);

/** A tunnel shows no path and no headers: it follows the rule that matches everything, if that one forwards. Edits of headers have nothing to edit. */
function tunnelBackends(routes: readonly RoutePlan[] | undefined): readonly BackendPlan[] | undefined {
  const last = routes?.find((route) => matchesEverything(route.match));
  // Backends with filters of their own have routes of their own, before the last.
  const backends = (routes ?? []).flatMap(({ name, match: { belowMillionth: _, ...match }, action }) =>
    name === last?.name && matchesEverything(match) && action.kind === "forward" ? action.backends : [],
  );
  return backends.length === 0 ? undefined : backends.map(({ cluster, weight, missing }) => ({ cluster, weight, missing }));
}

export function routeInit(route: RoutePlan): RouteInit {
  const filters = filtersInit(route);
  const { action, limits } = route;
  const words = {
    ...(action.kind !== "forward" || action.hedgeAfterMs === undefined ? {} : { [routeMetadata.hedgeAfterMs]: action.hedgeAfterMs }),
    ...(limits === undefined ? {} : { [routeMetadata.limits]: limits }),
  };
  return {
    name: route.name,
    match: matchInit(route.match),
    action: actionInit(route),
    ...editsInit(route.requestHeaders, route.responseHeaders),
    ...(Object.keys(words).length === 0 ? {} : { metadata: { filterMetadata: { [routeMetadata.filter]: words } } }),
    ...(Object.keys(filters).length === 0 ? {} : { typedPerFilterConfig: filters }),
  };
}

function filtersInit(route: RoutePlan): Record<string, Any> {
  return {
    ...(route.cors === undefined ? {} : { [corsName]: corsPolicy(route.cors) }),
    ...(route.fault === undefined ? {} : { [faultName]: faultPolicy(route.fault, headerMatcher) }),
    ...(route.auth === undefined ? {} : { [authName]: authPolicy(route.auth) }),
    ...(route.session === undefined ? {} : { [sessionName]: sessionPolicy(route.session) }),
  };
}

function actionInit(route: RoutePlan): NonNullable<RouteInit["action"]> {
  const { action } = route;
  switch (action.kind) {
    case "forward":
      return { case: "route", value: forwardInit(action) };
    case "redirect":
      return { case: "redirect", value: redirectInit(action) };
    case "direct":
      return {
        case: "directResponse",
        value: { status: action.status, body: { specifier: { case: "inlineString", value: `${action.body}\n` } } },
      };
  }
}

function forwardInit(plan: ForwardPlan): ActionInit {
  const { backends, prefixRewrite, regexRewrite, mirrors = [], hash = [] } = plan;
  const [first] = backends;
  // A weighted list also of one where the backend has edits of its own: only there Envoy has a place for them.
  const single = backends.length === 1 && first !== undefined && first.requestHeaders === undefined && first.responseHeaders === undefined;
  const hostRewrite = (single ? first.hostRewrite : undefined) ?? plan.hostRewrite;
  return {
    clusterSpecifier: single
      ? { case: "cluster" as const, value: first.cluster }
      : { case: "weightedClusters" as const, value: { clusters: backends.map(weightInit) } },
    // Gateway API: the share of a backend that cannot be resolved is answered with 500.
    ...(backends.some((backend) => backend.missing)
      ? { clusterNotFoundResponseCode: RouteAction_ClusterNotFoundResponseCode.INTERNAL_SERVER_ERROR }
      : {}),
    timeout: duration(plan.timeoutMs),
    retryPolicy: retryInit(plan.retry),
    ...(prefixRewrite === undefined ? {} : { prefixRewrite }),
    ...(regexRewrite === undefined
      ? {}
      : { regexRewrite: { pattern: { regex: regexRewrite.regex }, substitution: regexRewrite.substitution } }),
    ...(hostRewrite === undefined ? {} : { hostRewriteSpecifier: { case: "hostRewriteLiteral" as const, value: hostRewrite } }),
    ...(mirrors.length === 0
      ? {}
      : {
          requestMirrorPolicies: mirrors.map((mirror) => ({
            cluster: mirror.cluster,
            ...(mirror.perMillion === 1_000_000 ? {} : { runtimeFraction: { defaultValue: perMillion(mirror.perMillion) } }),
          })),
        }),
    ...(hash.length === 0 ? {} : { hashPolicy: hash.map(hashInit) }),
  };
}

function weightInit({ cluster, weight, requestHeaders = noEdits, responseHeaders = noEdits, hostRewrite }: BackendPlan) {
  return {
    name: cluster,
    weight,
    ...editsInit(requestHeaders, responseHeaders),
    ...(hostRewrite === undefined ? {} : { hostRewriteSpecifier: { case: "hostRewriteLiteral" as const, value: hostRewrite } }),
  };
}

function retryInit(plan: RetryPlan): ActionInit["retryPolicy"] {
  const on = plan.onlyOn ? [] : [...defaultRetryOn];
  const words = [...new Set([...on, ...(plan.on ?? []), ...(plan.codes.length > 0 ? ["retriable-status-codes"] : [])])];
  return {
    retryOn: words.join(","),
    numRetries: plan.attempts,
    ...(plan.perTryTimeoutMs > 0 ? { perTryTimeout: duration(plan.perTryTimeoutMs) } : {}),
    retriableStatusCodes: [...plan.codes],
    ...(plan.backoff === undefined
      ? {}
      : {
          retryBackOff: {
            baseInterval: duration(plan.backoff.baseMs),
            ...(plan.backoff.maxMs === undefined ? {} : { maxInterval: duration(plan.backoff.maxMs) }),
          },
        }),
    ...(plan.avoidTried
      ? {
          retryHostPredicate: [
            {
              name: "envoy.retry_host_predicates.previous_hosts",
              configType: {
                case: "typedConfig" as const,
                value: {
                  typeUrl: "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                  value: new Uint8Array(),
                },
              },
            },
          ],
          hostSelectionRetryMaxAttempts: hostSelections,
        }
      : {}),
  };
}

/** How often a balancer is asked again for an instance that was not tried yet; Istio's number. */
const hostSelections = 5n;

function hashInit(plan: HashPlan): NonNullable<ActionInit["hashPolicy"]>[number] {
  const terminal = plan.terminal ? { terminal: true } : {};
  switch (plan.kind) {
    case "header":
      return { policySpecifier: { case: "header", value: { headerName: plan.name } }, ...terminal };
    case "query":
      return { policySpecifier: { case: "queryParameter", value: { name: plan.name } }, ...terminal };
    case "source":
      return { policySpecifier: { case: "connectionProperties", value: { sourceIp: true } }, ...terminal };
    case "cookie": {
      const value = {
        name: plan.name,
        ...(plan.ttlMs === undefined ? {} : { ttl: duration(plan.ttlMs) }),
        ...(plan.path === undefined ? {} : { path: plan.path }),
      };
      return { policySpecifier: { case: "cookie", value }, ...terminal };
    }
  }
}

const redirectCodes: Readonly<Record<RedirectPlan["status"], RedirectAction_RedirectResponseCode>> = {
  301: RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY,
  302: RedirectAction_RedirectResponseCode.FOUND,
  303: RedirectAction_RedirectResponseCode.SEE_OTHER,
  307: RedirectAction_RedirectResponseCode.TEMPORARY_REDIRECT,
  308: RedirectAction_RedirectResponseCode.PERMANENT_REDIRECT,
};

function redirectInit(plan: RedirectPlan) {
  return {
    responseCode: redirectCodes[plan.status],
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
  const headers = match.headers.map(headerMatcher);
  if (match.method !== undefined) headers.push(headerMatcher({ name: ":method", kind: "exact", value: match.method }));
  return {
    pathSpecifier:
      path.kind === "regex" ? { case: "safeRegex", value: { regex: path.value } } : { case: pathCases[path.kind], value: path.value },
    ...(path.ignoreCase ? { caseSensitive: false } : {}),
    headers,
    queryParameters: match.query.map(queryMatcher),
    ...(match.belowMillionth === undefined ? {} : { runtimeFraction: { defaultValue: drawn(match.belowMillionth) } }),
  };
}

/** Envoy takes the rest of one number by the denominator: two of a kind would be two draws. */
function drawn(numerator: number) {
  return { numerator, denominator: FractionalPercent_DenominatorType.MILLION };
}

function headerMatcher(match: ValueMatchPlan): MessageInitShape<typeof HeaderMatcherSchema> {
  return {
    name: match.name,
    headerMatchSpecifier:
      match.kind === "present"
        ? { case: "presentMatch", value: true }
        : { case: "stringMatch", value: stringMatcher({ kind: match.kind, value: match.value }, match.ignoreCase) },
    ...(match.invert ? { invertMatch: true } : {}),
  };
}

function queryMatcher(match: ValueMatchPlan): MessageInitShape<typeof QueryParameterMatcherSchema> {
  return {
    name: match.name,
    queryParameterMatchSpecifier:
      match.kind === "present"
        ? { case: "presentMatch", value: true }
        : { case: "stringMatch", value: stringMatcher({ kind: match.kind, value: match.value }, match.ignoreCase) },
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
    // A percent sign begins a command of Envoy's formatter, unless it is doubled.
    header: { key: each.name, value: each.value.replaceAll("%", "%%") },
    appendAction: action,
  });
  return [
    ...edits.set.map(option(HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD)),
    ...edits.add.map(option(HeaderValueOption_HeaderAppendAction.APPEND_IF_EXISTS_OR_ADD)),
  ];
}
