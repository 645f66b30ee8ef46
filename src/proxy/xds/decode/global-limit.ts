// Owns: Envoy's `ratelimit` filter, and what routes and virtual hosts say for it, to GlobalRateLimitConfig. Asks nobody.

import type { Route, RateLimit as RouteLimit, VirtualHost } from "../../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import type {
  RateLimit as FilterLimit,
  RateLimitPerRoute,
} from "../../../wire/gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.ts";
import type { GlobalRateLimitConfig, RouteRateLimits, RouteStages } from "../../config.ts";
import type { RouteMetadata } from "../../route/metadata.ts";
import { at, choose, type Gate, millis, present } from "./gate.ts";
import { headerEdits } from "./header-edits.ts";
import { fraction } from "./match.ts";
import { rateActions } from "./overload.ts";
import { apiVersion, envoyGrpc } from "./sources.ts";

/** Envoy's default; a service that is asked about every request answers in less, or is none. */
const defaultTimeoutMs = 20;
/** Who waits longer holds up every request by as much. */
export const longestTimeoutMs = 10_000;
const mostStage = 10;

export function decodeGlobalLimit(gate: Gate, filter: FilterLimit, path: string): GlobalRateLimitConfig {
  if (filter.requestType !== "" && filter.requestType !== "both")
    gate.add(at(path, "request_type"), `"${filter.requestType}" is not supported: who is internal is not told here; use both`);
  const service = filter.rateLimitService;
  const where = at(path, "rate_limit_service");
  if (service === undefined) gate.add(where, "is missing");
  else apiVersion(gate, at(where, "transport_api_version"), service.transportApiVersion);
  // The filter's own time-out is the one that Envoy goes by.
  const grpc = service?.grpcService === undefined ? undefined : { ...service.grpcService, timeout: undefined };
  const target = envoyGrpc(gate, grpc as Parameters<typeof envoyGrpc>[1], at(where, "grpc_service"));
  const timeoutMs = millis(gate, at(path, "timeout"), filter.timeout, defaultTimeoutMs);
  if (timeoutMs <= 0 || timeoutMs > longestTimeoutMs)
    gate.add(at(path, "timeout"), `must be above 0s and at most ${longestTimeoutMs / 1_000}s`);
  const edits = headerEdits(gate, filter.responseHeadersToAdd, [], path, "response_headers");
  const lines = [...edits.set, ...edits.add, ...(edits.addIfAbsent ?? [])];
  for (const { value } of lines)
    if (value.includes("%")) gate.add(at(path, "response_headers_to_add"), `"${value}" has a command, which is not supported here`);
  const share = (value: FilterLimit["filterEnabled"], name: string) =>
    value?.defaultValue === undefined ? 1 : fraction(gate, value.defaultValue, at(path, `${name}.default_value`));
  const status = filter.rateLimitedStatus?.code ?? 0;
  const failureStatus = filter.statusOnError?.code ?? 0;
  return {
    filter: {
      domain: present(gate, at(path, "domain"), filter.domain),
      cluster: target.cluster,
      authority: target.authority,
      metadata: target.metadata,
      timeoutMs,
      denyOnFailure: filter.failureModeDeny,
      // Envoy: below 400 the default is taken.
      status: status < 400 ? 429 : status,
      failureStatus: failureStatus < 400 ? 500 : failureStatus,
      resourceExhausted: filter.rateLimitedAsResourceExhausted,
      tellHeaders: filter.enableXRatelimitHeaders === 1,
      tellLimited: !filter.disableXEnvoyRatelimitedHeader,
      refusalLines: lines.map(({ name, value }) => `${name}: ${value}\r\n`).join(""),
      stage: stageOf(gate, filter.stage, at(path, "stage")),
      enabled: share(filter.filterEnabled, "filter_enabled"),
      enforced: share(filter.filterEnforced, "filter_enforced"),
    },
    route: null,
    limits: filter.rateLimits.flatMap((one, n) => {
      const actions = rateActions(gate, one, `${path}.rate_limits[${n}]`);
      return actions === null ? [] : [actions];
    }),
  };
}

function stageOf(gate: Gate, stage: number, path: string): number {
  if (stage > mostStage) gate.add(path, `${stage} is above ${mostStage}`);
  return stage;
}

const nothing: RouteRateLimits = { limits: [], host: [], instead: null, hostMode: "override", domain: null };

/** What stands at a route for the filter of its chain. */
function atRoute(route: RouteRateLimits): GlobalRateLimitConfig {
  return { filter: null, route, limits: [] };
}

export function decodePerRoute(gate: Gate, limits: RateLimitPerRoute, path: string): GlobalRateLimitConfig {
  return atRoute({
    ...nothing,
    instead: limits.rateLimits.length === 0 ? null : limitList(gate, limits.rateLimits, at(path, "rate_limits"), null),
    hostMode: choose<RouteRateLimits["hostMode"]>(
      gate,
      at(path, "vh_rate_limits"),
      "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute.VhRateLimitsOptions",
      limits.vhRateLimits,
      { OVERRIDE: "override", INCLUDE: "include", IGNORE: "ignore" },
      "override",
    ),
    domain: limits.domain === "" ? null : limits.domain,
  });
}

/** `rate_limits` of a route and its virtual host, beside what `typed_per_filter_config` says of them. */
export function withRateLimits(gate: Gate, route: Route, host: VirtualHost, stages: RouteStages, path: string): RouteStages {
  const written = stages.globalRateLimit;
  const metadata = route.metadata?.filterMetadata ?? {};
  const action = route.action.case === "route" ? route.action.value : undefined;
  const own = limitList(gate, action?.rateLimits ?? [], at(path, "route.rate_limits"), metadata);
  // A virtual host's are read for each route, whose metadata they may name; what is wrong with them is said of each.
  const shared = limitList(gate, host.rateLimits, `${path.replace(/\.routes\[\d+\]$/, "")}.rate_limits`, metadata);
  if (written === "off") return stages;
  const before = written?.route ?? nothing;
  // protobuf-es's type has the wrapper here; our reader gives what is in it (proto/message.ts).
  const include = (action?.includeVhRateLimits as unknown) === true;
  return {
    ...stages,
    globalRateLimit: atRoute({ ...before, limits: own, host: shared, hostMode: include ? "include" : before.hostMode }),
  };
}

function limitList(gate: Gate, limits: readonly RouteLimit[], path: string, metadata: RouteMetadata | null): RouteRateLimits["limits"] {
  return limits.flatMap((one, n) => {
    const where = `${path}[${n}]`;
    const stage = stageOf(gate, one.stage ?? 0, at(where, "stage"));
    const actions = rateActions(gate, one, where, metadata);
    return actions === null ? [] : [{ stage, actions }];
  });
}
