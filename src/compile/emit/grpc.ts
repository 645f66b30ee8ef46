// Owns: what a proxyless gRPC client needs to call a service (gRFC A27, A28, A29): an API listener for each name it may dial, its route table, the
// cluster and its endpoints. Beside each it says what of the mesh's policies such a client cannot do. Where leaving it out would change what the
// callee sees or who is called, the calls are refused; nothing is dropped in silence.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Cluster, Cluster_DiscoveryType, ClusterSchema } from "../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../wire/gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import { type Listener, ListenerSchema } from "../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import type { HeaderMatcherSchema, RouteMatchSchema, RouteSchema } from "../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../wire/gen/envoy/config/route/v3/route_pb.ts";
import { RouterSchema } from "../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { HttpConnectionManagerSchema } from "../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { CertificateValidationContextSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts";
import { CommonTlsContextSchema, UpstreamTlsContextSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import type { EndpointPlan, PortPlan } from "../plan/plan.ts";
import type { ForwardPlan, HeaderEditsPlan, MatchPlan, RoutePlan, ValueMatchPlan } from "../plan/routes.ts";
import { address, any, duration, overAds, stringMatcher } from "./common.ts";
import { putApiListener, putLoadReports, putOwnCertificate, putPeerNames, putRoots } from "./grpc-fields.ts";

/** Something that proxyless gRPC cannot do as the mesh's objects have it. */
export interface Shortfall {
  /** Which policy or rule: `HTTPRoute shop/reviews rule 1`, `Service shop/cart port 80`. */
  readonly subject: string;
  readonly message: string;
  /** The calls concerned are refused; otherwise they go without what is named. */
  readonly refused: boolean;
}

/** A cluster without endpoints: what leads there fails with UNAVAILABLE in every gRPC, at once. */
export const refusedCluster = "weft-refused";

const router = { name: "envoy.filters.http.router", configType: { case: "typedConfig" as const, value: any(RouterSchema, {}) } };

/** `dialled`: what stands behind `xds:///`. */
export function apiListener(dialled: string, routeConfigName: string): Listener {
  const manager = any(HttpConnectionManagerSchema, {
    statPrefix: dialled,
    routeSpecifier: { case: "rds", value: { configSource: overAds, routeConfigName } },
    httpFilters: [router],
  });
  return putApiListener(create(ListenerSchema, { name: dialled }), manager);
}

// ---- clusters and endpoints -------------------------------------------------------------------------------------------------

type Reach = Pick<PortPlan, "cluster" | "identities" | "endpoints" | "traffic">;

/** Whether callers of this cluster speak the mesh's mutual TLS. */
function speaksMutualTls({ identities, traffic }: Reach): boolean {
  return identities.length > 0 && traffic.tls === undefined;
}

/** gRPC knows one transport for a whole cluster: with mutual TLS for some, those without get nothing. Nobody gets calls by files beside a sidecar, or by a Secret. */
export function grpcEndpoints(plan: Reach): readonly EndpointPlan[] {
  if (plan.traffic.tls !== undefined && plan.traffic.tls.kind !== "plain") return [];
  if (plan.traffic.backendTls !== undefined) return plan.endpoints.filter((each) => each.mutualTls);
  return speaksMutualTls(plan) ? plan.endpoints.filter((each) => each.mutualTls) : plan.endpoints;
}

/** Words of a TrafficPlan that are put into effect here; any other is told. */
const knownOfTraffic = ["tls", "backendTls", "balancer", "limits"];

/** What of a DestinationRule such a client goes without. */
export function trafficShortfalls(plan: Reach & Pick<PortPlan, "service" | "port">): readonly Shortfall[] {
  const { traffic } = plan;
  const subject = `Service ${plan.service.key} port ${plan.port.port}`;
  const out: Shortfall[] = [];
  const tell = (message: string) => out.push({ subject, message, refused: false });
  if (traffic.tls !== undefined && traffic.tls.kind !== "plain")
    out.push({
      subject,
      message: "a gRPC client without a proxy has no TLS by files or by a Secret of its DestinationRule",
      refused: true,
    });
  if (traffic.backendTls !== undefined)
    out.push({
      subject,
      message: "a gRPC client without a proxy cannot follow its BackendTLSPolicy, and gets no instances without a sidecar",
      refused: true,
    });
  const kind = traffic.balancer?.kind ?? "round_robin";
  if (kind !== "round_robin") tell(`a gRPC client without a proxy balances round robin, not by ${kind}`);
  for (const limit of Object.keys(traffic.limits ?? {}))
    if (limit !== "requests") tell(`a gRPC client without a proxy has no limit of ${limit}`);
  unknown(traffic, knownOfTraffic, (message) => tell(message));
  return out;
}

export function grpcCluster(plan: Reach): Cluster {
  const requests = plan.traffic.limits?.requests;
  const cluster = create(ClusterSchema, {
    ...(requests === undefined ? {} : { circuitBreakers: { thresholds: [{ maxRequests: requests }] } }),
    name: plan.cluster,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: overAds, serviceName: plan.cluster },
  });
  if (speaksMutualTls(plan)) {
    const roots = putRoots(create(CertificateValidationContextSchema, {}));
    putPeerNames(
      roots,
      plan.identities.map((value) => stringMatcher({ kind: "exact", value })),
    );
    const context = create(CommonTlsContextSchema, { validationContextType: { case: "validationContext", value: roots } });
    const tls = any(UpstreamTlsContextSchema, { commonTlsContext: putOwnCertificate(context) });
    cluster.transportSocket = {
      $typeName: "envoy.config.core.v3.TransportSocket",
      name: "envoy.transport_sockets.tls",
      configType: { case: "typedConfig", value: tls },
    };
  }
  return putLoadReports(cluster);
}

export function grpcLoadAssignment(plan: Reach): ClusterLoadAssignment {
  const endpoints = grpcEndpoints(plan);
  return create(ClusterLoadAssignmentSchema, {
    clusterName: plan.cluster,
    endpoints:
      endpoints.length === 0
        ? []
        : [
            {
              // A locality must be named, and have a weight, or gRPC takes nothing of it (A27).
              locality: {},
              loadBalancingWeight: 1,
              lbEndpoints: endpoints.map((each) => ({
                hostIdentifier: { case: "endpoint" as const, value: { address: address(each.address, each.port) } },
                loadBalancingWeight: each.weight,
              })),
            },
          ],
  });
}

export function refusingCluster(): Cluster {
  return create(ClusterSchema, {
    name: refusedCluster,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: overAds, serviceName: refusedCluster },
  });
}

export function refusingLoadAssignment(): ClusterLoadAssignment {
  return create(ClusterLoadAssignmentSchema, { clusterName: refusedCluster });
}

// ---- routes -----------------------------------------------------------------------------------------------------------------

type RouteInit = MessageInitShape<typeof RouteSchema>;

export interface GrpcTable {
  readonly config: RouteConfiguration;
  readonly shortfalls: readonly Shortfall[];
  /** Clusters it leads to. */
  readonly clusters: readonly string[];
}

/** `routes` undefined: no route object speaks about the service, everything goes to it. */
export function grpcTable(name: string, target: PortPlan, routes: readonly RoutePlan[] | undefined): GrpcTable {
  const shortfalls: Shortfall[] = [];
  const clusters = new Set<string>();
  const out: RouteInit[] = [];
  for (const route of routes ?? []) out.push(...oneRoute(route, shortfalls, clusters));
  if (routes === undefined) {
    clusters.add(target.cluster);
    out.push({ name: "default", match: everything, action: { case: "route", value: to(target.cluster) } });
  }
  const config = create(RouteConfigurationSchema, { name, virtualHosts: [{ name, domains: ["*"], routes: out }] });
  return { config, shortfalls, clusters: [...clusters].sort() };
}

const everything = { pathSpecifier: { case: "prefix" as const, value: "/" } };

function to(cluster: string) {
  return { clusterSpecifier: { case: "cluster" as const, value: cluster } };
}

function oneRoute(route: RoutePlan, shortfalls: Shortfall[], clusters: Set<string>): RouteInit[] {
  const note = (refused: boolean) => (message: string) => shortfalls.push({ subject: route.name, message, refused });
  const before = shortfalls.length;
  // A match that cannot be told is wider without it: what it then fits is refused.
  const matches = matchesOf(route.match, note(true));
  if (matches.length === 0) return [];
  const value = actionOf(route, note(true), note(false));
  const refused = shortfalls.slice(before).some((each) => each.refused);
  const taken = refused || value === undefined ? to(refusedCluster) : value;
  if (taken.clusterSpecifier?.case === "cluster") clusters.add(taken.clusterSpecifier.value as string);
  else for (const each of (value as WeightedAction).clusterSpecifier.value.clusters) clusters.add(each.name);
  return matches.map((match) => ({ name: route.name, match, action: { case: "route" as const, value: taken } }));
}

type Note = (message: string) => unknown;
type WeightedAction = { clusterSpecifier: { case: "weightedClusters"; value: { clusters: { name: string; weight: number }[] } } };

/** Fields of the plan that are put into effect here or have none for gRPC; any other that says something is a shortfall. */
const knownOfRoute = ["name", "match", "action", "requestHeaders", "responseHeaders"];
const knownOfForward = ["kind", "backends", "timeoutMs", "retry", "prefixRewrite", "regexRewrite", "hostRewrite", "hash"];
const knownOfBackend = ["cluster", "weight", "missing", "requestHeaders", "responseHeaders"];
const knownOfRetry = ["attempts", "on", "onlyOn", "codes", "perTryTimeoutMs", "backoff"];
const knownOfMatch = ["path", "method", "headers", "query", "belowMillionth"];

function actionOf(route: RoutePlan, refuse: Note, tell: Note) {
  const { action } = route;
  unknown(route, knownOfRoute, refuse);
  edits(route, refuse, tell);
  if (action.kind !== "forward") {
    refuse(`a gRPC client without a proxy knows no ${action.kind === "redirect" ? "redirects" : `route action "${action.kind}"`}`);
    return undefined;
  }
  return forward(action, refuse, tell);
}

function edits(
  of: { readonly requestHeaders?: HeaderEditsPlan; readonly responseHeaders?: HeaderEditsPlan },
  refuse: Note,
  tell: Note,
): void {
  if (doesEdit(of.requestHeaders)) refuse("a gRPC client without a proxy cannot edit request headers");
  if (doesEdit(of.responseHeaders)) tell("a gRPC client without a proxy cannot edit response headers: they come as the server sends them");
}

function doesEdit(edit: HeaderEditsPlan | undefined): boolean {
  return edit !== undefined && edit.set.length + edit.add.length + edit.remove.length > 0;
}

function forward(plan: ForwardPlan, refuse: Note, tell: Note) {
  unknown(plan, knownOfForward, refuse);
  if (plan.prefixRewrite !== undefined || plan.regexRewrite !== undefined) refuse("a gRPC client without a proxy cannot rewrite paths");
  if (plan.hostRewrite !== undefined) refuse("a gRPC client without a proxy cannot rewrite the host");
  const backends = plan.backends.filter(({ weight }) => weight > 0);
  for (const backend of backends) {
    unknown(backend, knownOfBackend, refuse);
    edits(backend, refuse, tell);
  }
  if (plan.hash !== undefined) tell("a gRPC client without a proxy sends calls round robin, whatever they carry");
  const retryPolicy = retries(plan.retry, tell);
  const clusters = backends.map(({ cluster, weight, missing }) => ({ name: missing ? refusedCluster : cluster, weight }));
  const [first] = clusters;
  if (first === undefined) return undefined;
  return {
    clusterSpecifier:
      clusters.length === 1 ? { case: "cluster" as const, value: first.name } : { case: "weightedClusters" as const, value: { clusters } },
    ...(plan.timeoutMs > 0 ? { maxStreamDuration: { maxStreamDuration: duration(plan.timeoutMs) } } : {}),
    ...(retryPolicy === undefined ? {} : { retryPolicy }),
  };
}

/** Envoy's words for gRPC answers that A44 knows too. */
const grpcWords = ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"];
/** Words for what certainly reached no application, which gRPC tries again by itself. */
const transparent = ["connect-failure", "refused-stream", "reset-before-request"];

/** What certainly reached no application gRPC tries again by itself; anything more only where a route asks for it. */
function retries(plan: ForwardPlan["retry"], tell: Note) {
  unknown(plan, knownOfRetry, tell);
  if (plan.attempts === 0) return undefined;
  if (plan.perTryTimeoutMs > 0) tell("a gRPC client without a proxy has no timeout for one try: only that of the whole call holds");
  const { codes, rest } = retryCodes(plan.codes);
  if (rest.length > 0) tell(`a gRPC client without a proxy cannot retry on HTTP status ${rest.join(", ")}`);
  const words = new Set(codes);
  for (const word of plan.on ?? []) {
    if (grpcWords.includes(word)) words.add(word);
    else if (!transparent.includes(word)) tell(`a gRPC client without a proxy cannot retry on "${word}"`);
  }
  if (words.size === 0) return undefined;
  const { backoff } = plan;
  return {
    retryOn: [...words].sort().join(","),
    numRetries: plan.attempts,
    ...(backoff === undefined
      ? {}
      : {
          retryBackOff: {
            baseInterval: duration(Math.max(1, backoff.baseMs)),
            maxInterval: duration(Math.max(backoff.baseMs, backoff.maxMs ?? backoff.baseMs * 10)),
          },
        }),
  };
}

/** The codes that HTTP statuses become in gRPC (http-grpc-status-mapping), of those that A44 can retry on. */
function retryCodes(statuses: readonly number[]): { readonly codes: readonly string[]; readonly rest: readonly number[] } {
  const unavailable = [429, 502, 503, 504];
  return {
    codes: statuses.some((status) => unavailable.includes(status)) ? ["unavailable"] : [],
    rest: statuses.filter((status) => !unavailable.includes(status)),
  };
}

/** Empty: no gRPC call fits. */
function matchesOf(match: MatchPlan, refuse: Note): MessageInitShape<typeof RouteMatchSchema>[] {
  unknown(match, knownOfMatch, refuse);
  if (match.belowMillionth !== undefined) refuse("a gRPC client without a proxy cannot treat the calls of a single backend apart");
  // A gRPC call is a POST to a path without a query.
  if ((match.method !== undefined && match.method !== "POST") || match.query.length > 0) return [];
  for (const header of match.headers) if (header.name.startsWith(":")) refuse(`a gRPC client without a proxy cannot match ${header.name}`);
  const headers = match.headers.filter((header) => !header.name.startsWith(":")).map(headerMatch);
  const { kind, value, ignoreCase } = match.path;
  const rest = { headers, ...(ignoreCase === true ? { caseSensitive: false } : {}) };
  switch (kind) {
    case "exact":
      return [{ pathSpecifier: { case: "path", value }, ...rest }];
    case "prefix":
      return [{ pathSpecifier: { case: "prefix", value }, ...rest }];
    case "separated-prefix":
      return [
        { pathSpecifier: { case: "path", value }, ...rest },
        { pathSpecifier: { case: "prefix", value: `${value}/` }, ...rest },
      ];
    case "regex":
      return [{ pathSpecifier: { case: "safeRegex", value: { regex: value } }, ...rest }];
    default:
      refuse(`a gRPC client without a proxy knows no path match of kind "${String(kind)}"`);
      return [{ ...everything, headers }];
  }
}

function headerMatch(match: ValueMatchPlan): MessageInitShape<typeof HeaderMatcherSchema> {
  const { name, kind, value, ignoreCase = false, invert = false } = match;
  if (kind === "present") return { name, headerMatchSpecifier: { case: "presentMatch", value: true }, invertMatch: invert };
  const pattern = kind === "regex" ? { case: "safeRegex" as const, value: { regex: value } } : { case: kind, value };
  return { name, headerMatchSpecifier: { case: "stringMatch", value: { matchPattern: pattern, ignoreCase } }, invertMatch: invert };
}

/** What plans may come to hold and this file does not know of must not be passed over. */
function unknown(plan: object, known: readonly string[], refuse: Note): void {
  for (const [field, value] of Object.entries(plan)) {
    if (known.includes(field) || isNothing(value)) continue;
    refuse(`a gRPC client without a proxy knows nothing of "${field}"`);
  }
}

function isNothing(value: unknown): boolean {
  return (
    value === undefined || value === null || value === false || value === 0 || value === "" || (Array.isArray(value) && value.length === 0)
  );
}
