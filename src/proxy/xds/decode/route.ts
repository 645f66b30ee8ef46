// Owns: envoy.config.route.v3.RouteConfiguration to RouteTableConfig. Never matches a request.

import type { HeaderValueOption } from "../../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type {
  DirectResponseAction,
  RedirectAction as PbRedirect,
  Route,
  RouteAction,
  RouteAction_RequestMirrorPolicy,
  RouteMatch,
  VirtualHost,
} from "../../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import type { RouteConfiguration } from "../../../wire/gen/envoy/config/route/v3/route_pb.ts";
import { routeMetadata } from "../../../wire/names.ts";
import type {
  DirectAction,
  ForwardAction,
  HeaderEdits,
  MirrorConfig,
  RedirectAction,
  RetryConfig,
  RouteCluster,
  RouteConfig,
  RouteMatchConfig,
  RouteTableConfig,
  VirtualHostConfig,
} from "../../config.ts";
import { foldEdits } from "../../route/edit.ts";
import { at, choose, dataSource, type Gate, millis, present } from "./gate.ts";
import { hashPolicies } from "./hash.ts";
import { hasControl, headerEdits, noEdits } from "./header-edits.ts";
import { checkRegex, fraction, headerMatch, queryMatch, substitution } from "./match.ts";
import { type PerRoute, perRouteStages } from "./per-route.ts";
import { refineRetry, retryPolicy } from "./retry.ts";
import { adsSource } from "./sources.ts";
import { refuseUnbuilt, unbuilt } from "./unbuilt.ts";

export const emptyRoutes: RouteTableConfig = { name: "", ignorePort: false, virtualHosts: [] };

export function decodeRoutes(gate: Gate, routes: RouteConfiguration, path: string): RouteTableConfig {
  if (routes.mostSpecificHeaderMutationsWins) {
    gate.add(
      at(path, "most_specific_header_mutations_wins"),
      "true is not supported: edits of a route come first, then those of its virtual host, then the table's",
    );
  }
  const table = edits(gate, routes, path);
  const hosts = routes.virtualHosts.map((host, n) => virtualHost(gate, host, table, `${at(path, "virtual_hosts")}[${n}]`));
  const owners = new Map<string, string>();
  const names = new Set<string>();
  hosts.forEach((host, n) => {
    const where = `${at(path, "virtual_hosts")}[${n}]`;
    if (names.has(host.name)) gate.add(at(where, "name"), `"${host.name}" is used twice`);
    names.add(host.name);
    host.domains.forEach((domain, d) => {
      const owner = owners.get(domain);
      if (owner === undefined) owners.set(domain, host.name);
      else gate.add(`${where}.domains[${d}]`, `"${domain}" belongs to virtual host "${owner}" already`);
    });
  });
  const onDemand = routes.vhds === undefined ? {} : hostsOnDemand(gate, routes, table, path);
  // validate_clusters: whether the clusters exist is checked where the whole is put together.
  return { name: routes.name, ignorePort: routes.ignorePortInHostMatching, virtualHosts: hosts, ...onDemand };
}

/** VHDS. What Envoy could also do with it is refused: hosts that come later would lack it. */
function hostsOnDemand(gate: Gate, routes: RouteConfiguration, table: Edits, path: string): Pick<RouteTableConfig, "onDemand"> {
  const where = at(path, "vhds");
  adsSource(gate, routes.vhds?.configSource, at(where, "config_source"));
  if (path !== "") gate.add(where, "needs a table that comes by rds: one that stands in the listener has all of its hosts");
  if (gate.world.delta === false) gate.add(where, "needs the delta variant of the discovery stream (api_type DELTA_GRPC)");
  if (!isEmpty(table)) gate.add(where, "is not supported beside edits of requests or answers of the whole table");
  if (routes.ignorePortInHostMatching) gate.add(where, "is not supported beside ignore_port_in_host_matching");
  return { onDemand: { absent: [] } };
}

/** A virtual host by itself, as VHDS brings it. */
export function decodeHost(gate: Gate, host: VirtualHost): VirtualHostConfig {
  return virtualHost(gate, host, { request: noEdits, response: noEdits }, "");
}

/** Edits of requests and answers; where they are folded, the inner first. */
interface Edits {
  readonly request: HeaderEdits;
  readonly response: HeaderEdits;
}

interface EditFields {
  readonly requestHeadersToAdd: readonly HeaderValueOption[];
  readonly requestHeadersToRemove: readonly string[];
  readonly responseHeadersToAdd: readonly HeaderValueOption[];
  readonly responseHeadersToRemove: readonly string[];
}

function edits(gate: Gate, from: EditFields, path: string): Edits {
  return {
    request: headerEdits(gate, from.requestHeadersToAdd, from.requestHeadersToRemove, path, "request_headers"),
    response: headerEdits(gate, from.responseHeadersToAdd, from.responseHeadersToRemove, path, "response_headers"),
  };
}

function fold(inner: Edits, outer: Edits): Edits {
  return { request: foldEdits(inner.request, outer.request), response: foldEdits(inner.response, outer.response) };
}

function isEmpty(one: Edits): boolean {
  return one.request === noEdits && one.response === noEdits;
}

/** What a virtual host's routes take from it. */
interface Around {
  readonly retry: RetryConfig | null;
  readonly edits: Edits;
  readonly stages: PerRoute;
  readonly host: VirtualHost;
}

function virtualHost(gate: Gate, host: VirtualHost, table: Edits, path: string): VirtualHostConfig {
  present(gate, at(path, "name"), host.name);
  if (host.domains.length === 0) gate.add(at(path, "domains"), "needs at least one");
  const domains = host.domains.map((domain, n) => {
    const inner = domain === "*" ? "" : domain.startsWith("*") ? domain.slice(1) : domain.endsWith("*") ? domain.slice(0, -1) : domain;
    if (domain === "" || inner.includes("*")) {
      gate.add(`${path}.domains[${n}]`, `"${domain}" is not a domain; use a name, *.suffix, prefix.* or *`);
    }
    return domain.toLowerCase();
  });
  const retry = host.retryPolicy === undefined ? null : retryPolicy(gate, host.retryPolicy, at(path, "retry_policy"));
  const around: Around = {
    retry,
    edits: fold(edits(gate, host, path), table),
    stages: perRouteStages(gate, host.typedPerFilterConfig, at(path, "typed_per_filter_config")),
    host,
  };
  return { name: host.name, domains, routes: host.routes.map((one, n) => route(gate, one, around, `${path}.routes[${n}]`)) };
}

function route(gate: Gate, one: Route, around: Around, path: string): RouteConfig {
  const match = routeMatch(gate, one.match, at(path, "match"));
  const all = fold(edits(gate, one, path), around.edits);
  const action = hedged(gate, one, routeAction(gate, one, around.retry, all, path), path);
  const written = { ...around.stages, ...perRouteStages(gate, one.typedPerFilterConfig, at(path, "typed_per_filter_config")) };
  const stages = limited(one, around.host) ? limits().withRateLimits(gate, one, around.host, written, path) : written;
  if (action.kind === "forward" && action.terminateConnect && match.path.kind !== "connect") {
    gate.add(at(path, "match"), "connect_config needs a connect_matcher");
  }
  if (match.path.kind === "connect" && action.kind === "forward" && !action.terminateConnect) {
    gate.add(
      at(path, "route.upgrade_configs"),
      "a CONNECT is terminated here or refused: add upgrade_type CONNECT with connect_config: {}",
    );
  }
  if (
    action.kind === "redirect" &&
    action.path?.kind === "prefix" &&
    match.path.kind !== "prefix" &&
    match.path.kind !== "separated-prefix"
  ) {
    gate.add(at(path, "redirect.prefix_rewrite"), "needs a match on prefix or path_separated_prefix");
  }
  if (action.kind === "forward" && action.prefixRewrite !== null && (match.path.kind === "regex" || match.path.kind === "connect")) {
    gate.add(at(path, "route.prefix_rewrite"), "needs a match on prefix, path or path_separated_prefix");
  }
  const metadata = one.metadata?.filterMetadata;
  return {
    name: one.name,
    match,
    action,
    requestHeaders: all.request,
    responseHeaders: all.response,
    ...(Object.keys(stages).length === 0 ? {} : { stages }),
    ...(metadata === undefined || Object.keys(metadata).length === 0 ? {} : { metadata }),
  };
}

/** What our control plane says of a hedge in metadata, as Envoy's own words for it would have writes repeated too. */
function hedged(gate: Gate, one: Route, action: RouteConfig["action"], path: string): RouteConfig["action"] {
  const afterMs = one.metadata?.filterMetadata[routeMetadata.filter]?.[routeMetadata.hedgeAfterMs];
  if (afterMs === undefined || action.kind !== "forward" || action.retry === null || action.retry.perTryTimeoutMs > 0) return action;
  if (typeof afterMs !== "number" || !(afterMs > 0)) {
    gate.add(at(path, `metadata.filter_metadata["${routeMetadata.filter}"].${routeMetadata.hedgeAfterMs}`), "is not a number above 0");
    return action;
  }
  return { ...action, retry: { ...action.retry, perTryTimeoutMs: afterMs, hedge: true } };
}

/** Loaded with the first rate limit of a route. */
const limits = () => require("./global-limit.ts") as typeof import("./global-limit.ts");

function limited(one: Route, host: VirtualHost): boolean {
  return host.rateLimits.length > 0 || (one.action.case === "route" && one.action.value.rateLimits.length > 0);
}

function routeMatch(gate: Gate, match: RouteMatch | undefined, path: string): RouteMatchConfig {
  if (match === undefined) {
    gate.add(path, "is missing");
    return { path: { kind: "prefix", value: "/" }, headers: [], query: [] };
  }
  const share =
    match.runtimeFraction === undefined
      ? 1
      : fraction(gate, match.runtimeFraction.defaultValue, at(path, "runtime_fraction.default_value"));
  return {
    ...(share === 1 ? {} : { fraction: share }),
    ...(match.grpc === undefined ? {} : { grpc: true as const }),
    path: pathMatch(gate, match, path),
    headers: match.headers.map((header, n) => headerMatch(gate, `${path}.headers[${n}]`, header)),
    query: match.queryParameters.map((query, n) => queryMatch(gate, `${path}.query_parameters[${n}]`, query)),
  };
}

function pathMatch(gate: Gate, match: RouteMatch, path: string): RouteMatchConfig["path"] {
  const specifier = match.pathSpecifier;
  const folding = match.caseSensitive === false ? { ignoreCase: true as const } : {};
  switch (specifier.case) {
    case "prefix":
      return { kind: "prefix", value: specifier.value, ...folding };
    case "path":
      return { kind: "exact", value: specifier.value, ...folding };
    case "pathSeparatedPrefix":
      // Envoy's own rule for this field.
      if (!/^[^?#]+[^?#/]$/.test(specifier.value)) {
        gate.add(
          at(path, "path_separated_prefix"),
          `"${specifier.value}" must have two characters or more, no "?" or "#", and not end in "/"`,
        );
      }
      return { kind: "separated-prefix", value: specifier.value, ...folding };
    case "safeRegex":
      // Envoy: case_sensitive has no effect on safe_regex.
      checkRegex(gate, at(path, "safe_regex.regex"), specifier.value.regex);
      return { kind: "regex", value: specifier.value.regex };
    case "connectMatcher":
      return { kind: "connect" };
    case undefined:
      gate.add(path, "needs one of prefix, path, path_separated_prefix, safe_regex, connect_matcher");
      return { kind: "prefix", value: "/" };
  }
}

function routeAction(gate: Gate, one: Route, hostRetry: RetryConfig | null, outer: Edits, path: string): RouteConfig["action"] {
  switch (one.action.case) {
    case "route":
      return forward(gate, one.action.value, hostRetry, one.perRequestBufferLimitBytes, outer, at(path, "route"));
    case "redirect":
      return redirect(gate, one.action.value, at(path, "redirect"));
    case "directResponse":
      return direct(gate, one.action.value, at(path, "direct_response"));
    case undefined:
      gate.add(path, "needs one of route, redirect, direct_response");
      return { kind: "direct", status: 500, body: "" };
  }
}

function forward(
  gate: Gate,
  action: RouteAction,
  hostRetry: RetryConfig | null,
  bodyBytes: number | undefined,
  outer: Edits,
  path: string,
): ForwardAction {
  refuseUnbuilt(gate, action, unbuilt.action, path);
  const hostRewrite = action.hostRewriteSpecifier;
  if (action.regexRewrite !== undefined && action.prefixRewrite !== "")
    gate.add(at(path, "regex_rewrite"), "and prefix_rewrite exclude each other");
  if (hasControl(action.prefixRewrite)) gate.add(at(path, "prefix_rewrite"), "must not contain control characters");
  if (hostRewrite.case === "hostRewriteLiteral" && hasControl(hostRewrite.value))
    gate.add(at(path, "host_rewrite_literal"), "must not contain control characters");
  const hostFrom = hostSource(gate, action, path);
  let terminateConnect = false;
  const upgrades: string[] = [];
  action.upgradeConfigs.forEach((upgrade, n) => {
    const where = `${path}.upgrade_configs[${n}]`;
    if (upgrade.upgradeType === "") gate.add(at(where, "upgrade_type"), "must not be empty");
    if (upgrade.enabled === false)
      gate.add(at(where, "enabled"), "false is not supported on a route; leave the upgrade out of the connection manager");
    if (upgrade.upgradeType.toUpperCase() !== "CONNECT") {
      if (upgrade.connectConfig !== undefined) gate.add(at(where, "connect_config"), "belongs to upgrade_type CONNECT only");
      upgrades.push(upgrade.upgradeType.toLowerCase());
    } else if (upgrade.connectConfig === undefined) {
      gate.add(at(where, "connect_config"), "is missing: a CONNECT can be terminated here, not passed on");
    } else terminateConnect = true;
  });
  // Our form has no "off" of its own here: 0 stands for "as the connection manager says".
  if (action.idleTimeout !== undefined && millis(gate, at(path, "idle_timeout"), action.idleTimeout, 0) === 0) {
    gate.add(at(path, "idle_timeout"), "0s is not supported on a route; set stream_idle_timeout: 0s on the connection manager");
  }
  return {
    kind: "forward",
    clusters: routeClusters(gate, action, outer, path),
    timeoutMs: millis(gate, at(path, "timeout"), action.timeout, 15_000),
    idleTimeoutMs: millis(gate, at(path, "idle_timeout"), action.idleTimeout, 0),
    retry: refineRetry(
      gate,
      action.retryPolicy === undefined ? hostRetry : retryPolicy(gate, action.retryPolicy, at(path, "retry_policy")),
      action.hedgePolicy,
      bodyBytes,
      path,
    ),
    prefixRewrite: action.prefixRewrite === "" ? null : action.prefixRewrite,
    hostRewrite: hostRewrite.case === "hostRewriteLiteral" ? hostRewrite.value : null,
    ...(action.regexRewrite === undefined ? {} : { regexRewrite: substitution(gate, action.regexRewrite, at(path, "regex_rewrite")) }),
    ...(hostFrom === null ? {} : { hostFrom }),
    ...(action.requestMirrorPolicies.length === 0
      ? {}
      : { mirrors: action.requestMirrorPolicies.map((one, n) => mirror(gate, one, `${at(path, "request_mirror_policies")}[${n}]`)) }),
    ...(action.hashPolicy.length === 0 ? {} : { hash: hashPolicies(gate, action.hashPolicy, at(path, "hash_policy")) }),
    terminateConnect,
    upgrades,
    ...(action.clusterNotFoundResponseCode === 0 ? {} : { missingClusterStatus: missingClusterStatus(gate, action, path) }),
  };
}

function hostSource(gate: Gate, action: RouteAction, path: string): NonNullable<ForwardAction["hostFrom"]> | null {
  const specifier = action.hostRewriteSpecifier;
  switch (specifier.case) {
    case "autoHostRewrite":
      // protobuf-es's type has the wrapper here; our reader gives what is in it (proto/message.ts).
      return (specifier.value as unknown) === true ? { kind: "endpoint" } : null;
    case "hostRewriteHeader":
      return { kind: "header", name: specifier.value.toLowerCase() };
    case "hostRewritePathRegex":
      return { kind: "path", ...substitution(gate, specifier.value, at(path, "host_rewrite_path_regex")) };
    default:
      return null;
  }
}

function mirror(gate: Gate, policy: RouteAction_RequestMirrorPolicy, path: string): MirrorConfig {
  // trace_sampled: mirrored requests carry the headers they came with, and no trace of their own is made of them.
  return {
    cluster: present(gate, at(path, "cluster"), policy.cluster),
    fraction:
      policy.runtimeFraction === undefined
        ? 1
        : fraction(gate, policy.runtimeFraction.defaultValue, at(path, "runtime_fraction.default_value")),
    shadowHost: !policy.disableShadowHostSuffixAppend,
  };
}

function missingClusterStatus(gate: Gate, action: RouteAction, path: string): 404 | 500 | 503 {
  return choose<404 | 500 | 503>(
    gate,
    at(path, "cluster_not_found_response_code"),
    "envoy.config.route.v3.RouteAction.ClusterNotFoundResponseCode",
    action.clusterNotFoundResponseCode,
    { SERVICE_UNAVAILABLE: 503, NOT_FOUND: 404, INTERNAL_SERVER_ERROR: 500 },
    503,
  );
}

function routeClusters(gate: Gate, action: RouteAction, outer: Edits, path: string): readonly RouteCluster[] {
  const specifier = action.clusterSpecifier;
  switch (specifier.case) {
    case "cluster":
      return [{ cluster: present(gate, at(path, "cluster"), specifier.value), weight: 1 }];
    case "weightedClusters": {
      const where = at(path, "weighted_clusters.clusters");
      const clusters = specifier.value.clusters.map((one, n) => {
        if (one.weight === undefined) gate.add(`${where}[${n}].weight`, "is missing");
        const { case: rewrites, value: host } = one.hostRewriteSpecifier;
        if (rewrites !== undefined && hasControl(host))
          gate.add(`${where}[${n}].host_rewrite_literal`, "must not contain control characters");
        const own = edits(gate, one, `${where}[${n}]`);
        const all = fold(own, outer);
        return {
          cluster: present(gate, `${where}[${n}].name`, one.name),
          weight: one.weight ?? 0,
          ...(isEmpty(own) ? {} : { requestHeaders: all.request, responseHeaders: all.response }),
          ...(rewrites === undefined ? {} : { hostRewrite: host }),
        };
      });
      const sum = clusters.reduce((total, one) => total + one.weight, 0);
      if (clusters.length === 0) gate.add(where, "needs at least one");
      else if (sum === 0) gate.add(where, "needs a weight above 0");
      else if (sum > 0xffff_ffff) gate.add(where, `weights add up to ${sum}, above 4294967295`);
      return clusters;
    }
    case undefined:
      gate.add(path, "needs one of cluster, weighted_clusters");
      return [];
  }
}

function redirect(gate: Gate, action: PbRedirect, path: string): RedirectAction {
  const status = choose<RedirectAction["status"]>(
    gate,
    at(path, "response_code"),
    "envoy.config.route.v3.RedirectAction.RedirectResponseCode",
    action.responseCode,
    { MOVED_PERMANENTLY: 301, FOUND: 302, SEE_OTHER: 303, TEMPORARY_REDIRECT: 307, PERMANENT_REDIRECT: 308 },
    301,
  );
  const rewrite = action.pathRewriteSpecifier;
  const scheme = schemeOf(action);
  if (action.portRedirect > 65_535) gate.add(at(path, "port_redirect"), `${action.portRedirect} is not a port`);
  for (const [field, value] of [
    ["host_redirect", action.hostRedirect],
    ["path_redirect", rewrite.case === "pathRedirect" || rewrite.case === "prefixRewrite" ? rewrite.value : ""],
    ["scheme_redirect", scheme ?? ""],
  ] as const) {
    if (hasControl(value)) gate.add(at(path, field), "must not contain control characters");
  }
  return {
    kind: "redirect",
    status,
    scheme,
    host: action.hostRedirect === "" ? null : action.hostRedirect,
    port: action.portRedirect === 0 ? null : action.portRedirect,
    path:
      rewrite.case === "pathRedirect" || rewrite.case === "prefixRewrite"
        ? { kind: rewrite.case === "pathRedirect" ? "full" : "prefix", value: rewrite.value }
        : rewrite.case === "regexRewrite"
          ? { kind: "regex", ...substitution(gate, rewrite.value, at(path, "regex_rewrite")) }
          : null,
    ...(action.stripQuery ? { stripQuery: true as const } : {}),
  };
}

function schemeOf({ schemeRewriteSpecifier }: PbRedirect): string | null {
  if (schemeRewriteSpecifier.case === "httpsRedirect") return schemeRewriteSpecifier.value ? "https" : null;
  return schemeRewriteSpecifier.case === undefined ? null : schemeRewriteSpecifier.value;
}

function direct(gate: Gate, action: DirectResponseAction, path: string): DirectAction {
  // Envoy's range; below 200 there is no final answer (RFC 9110 section 15.2).
  if (action.status < 200 || action.status > 599) gate.add(at(path, "status"), `${action.status} is not from 200 to 599`);
  const body = dataSource(gate, at(path, "body"), action.body);
  // Envoy's limit.
  if (body !== undefined && body.length > 4096) gate.add(at(path, "body"), `has ${body.length} bytes, above 4096`);
  return { kind: "direct", status: action.status, body: body === undefined ? "" : Buffer.from(body).toString("utf8") };
}
