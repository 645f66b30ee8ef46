// Owns: `typed_per_filter_config` of a virtual host or a route: which stage of the chain each entry replaces, and by what. One table; an entry for a
// filter that is not in it is refused by name. Never knows what a stage does.

import type { RouteStages, StageName } from "../../config.ts";
import type { AnyValue } from "../proto/message.ts";
import {
  CorsPolicy,
  ExtAuthzPerRoute,
  FilterConfig,
  HttpFault,
  LocalRateLimit,
  OwnFault,
  RateLimitPerRoute,
  StatefulSessionPerRoute,
} from "../proto/types.ts";
import { type Extension, extension, type Gate, unpack } from "./gate.ts";

export type PerRoute = RouteStages;

/** Loaded with the first entry of their kind. */
const cors = () => require("./cors.ts") as typeof import("./cors.ts");
const faults = () => require("./fault.ts") as typeof import("./fault.ts");
const extAuthz = () => require("./ext-authz.ts") as typeof import("./ext-authz.ts");
const sessions = () => require("./session.ts") as typeof import("./session.ts");
const globalLimits = () => require("./global-limit.ts") as typeof import("./global-limit.ts");
const overload = () => require("./overload.ts") as typeof import("./overload.ts");

/** One line for each message that may stand at a route. */
const routeFilters: readonly Extension<RouteStages>[] = [
  extension(CorsPolicy, (gate, policy, path): RouteStages => ({ cors: cors().decodeCorsPolicy(gate, policy, path) })),
  extension(HttpFault, (gate, fault, path): RouteStages => ({ fault: faults().decodeFault(gate, fault, path) })),
  extension(ExtAuthzPerRoute, (gate, message, path): RouteStages => ({ extAuthz: extAuthz().decodePerRoute(gate, message, path) })),
  extension(
    StatefulSessionPerRoute,
    (gate, message, at): RouteStages => ({ session: sessions().decodeSessionOverride(gate, message, at) }),
  ),
  extension(LocalRateLimit, (gate, limit, path): RouteStages => ({ rateLimit: overload().decodeRateLimit(gate, limit, path) })),
  extension(
    RateLimitPerRoute,
    (gate, limits, path): RouteStages => ({ globalRateLimit: globalLimits().decodePerRoute(gate, limits, path) }),
  ),
  extension(OwnFault, (gate, fault, path): RouteStages => ({ fault: faults().decodeOwnFault(gate, fault, path) })),
];

/** Filters by the name that Envoy's documents give them, for entries that only switch one off. */
const stageOfFilter: Readonly<Record<string, StageName>> = {
  "envoy.filters.http.cors": "cors",
  "envoy.filters.http.fault": "fault",
  "envoy.filters.http.ext_authz": "extAuthz",
  "envoy.filters.http.stateful_session": "session",
  "envoy.filters.http.local_ratelimit": "rateLimit",
  "envoy.filters.http.ratelimit": "globalRateLimit",
  "envoy.filters.http.adaptive_concurrency": "admission",
  "weft.filters.http.admission": "admission",
};

export function perRouteStages(gate: Gate, entries: Readonly<Record<string, AnyValue>>, path: string): PerRoute {
  let out: RouteStages = {};
  for (const [name, typed] of Object.entries(entries)) out = { ...out, ...entry(gate, name, typed, `${path}["${name}"]`) };
  return out;
}

function entry(gate: Gate, name: string, typed: AnyValue, path: string): RouteStages {
  const typeName = typed.typeUrl.slice(typed.typeUrl.lastIndexOf("/") + 1);
  if (typeName === FilterConfig.name) return wrapped(gate, name, typed, path);
  const found = routeFilters.find((candidate) => candidate.typeName === typeName);
  if (found !== undefined) return found.decode(gate, typed, path) ?? {};
  gate.add(
    path,
    `${typeName || "(no type)"} is not supported at a route; known types: ${routeFilters.map((one) => one.typeName).join(", ")}`,
  );
  return {};
}

/** Envoy's wrapper: an entry that may be unknown, or that switches its filter off. */
function wrapped(gate: Gate, name: string, typed: AnyValue, path: string): RouteStages {
  const config = unpack(gate, FilterConfig, typed, path);
  if (config === undefined) return {};
  if (config.disabled) {
    const stage = Object.hasOwn(stageOfFilter, name) ? stageOfFilter[name] : undefined;
    if (stage !== undefined) return { [stage]: "off" };
    if (!config.isOptional)
      gate.add(path, `"${name}" cannot be switched off here; known filters: ${Object.keys(stageOfFilter).join(", ")}`);
    return {};
  }
  if (config.config === undefined) {
    gate.add(path, "needs config, or disabled: true");
    return {};
  }
  const inner = config.config;
  const innerType = inner.typeUrl.slice(inner.typeUrl.lastIndexOf("/") + 1);
  // What is optional and unknown is passed over, as whoever wrote it asked for.
  if (config.isOptional && !routeFilters.some((one) => one.typeName === innerType)) return {};
  return entry(gate, name, inner, path);
}
