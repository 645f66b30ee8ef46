// Owns: the tables of network and HTTP filters, and what each is decoded to. Never knows listeners or routes beyond their decoders.

import type { HttpConnectionManager as PbManager } from "../../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { stageOrder } from "../../chain/stages.ts";
import type { HttpManagerConfig, JwtConfig, RbacConfig, StageConfigs, StageName, TcpProxyConfig } from "../../config.ts";
import type { AnyValue } from "../proto/message.ts";
import {
  AdaptiveConcurrency,
  Admission,
  Cors,
  DynamicForwardProxy,
  ExtAuthz,
  GlobalRateLimit,
  GrpcWeb,
  HttpConnectionManager,
  HttpFault,
  HttpRbac,
  JwtAuthn,
  LocalRateLimit,
  NetworkRbac,
  OnDemand,
  Router,
  StatefulSession,
  TcpProxy,
} from "../proto/types.ts";
import { decodeAccessLog } from "./access-log.ts";
import { at, choose, decodeExtension, type Extension, extension, type Gate, present } from "./gate.ts";
import { http2Options, httpLimits, viaName } from "./http-limits.ts";
import { decodeRbac } from "./rbac.ts";
import { decodeRoutes, emptyRoutes } from "./route.ts";
import { adsSource } from "./sources.ts";
import { decodeTcpProxy } from "./tcp.ts";

/** What a network filter is to its chain. */
export type NetworkFilter =
  | { readonly kind: "rbac"; readonly rbac: RbacConfig | null }
  | { readonly kind: "terminal"; readonly terminal: HttpManagerConfig | TcpProxyConfig };

export const networkFilters: readonly Extension<NetworkFilter>[] = [
  extension(
    HttpConnectionManager,
    (gate, manager, path): NetworkFilter => ({ kind: "terminal", terminal: httpManager(gate, manager, path) }),
  ),
  extension(TcpProxy, (gate, proxy, path): NetworkFilter => ({ kind: "terminal", terminal: decodeTcpProxy(gate, proxy, path) })),
  // Without rules the filter enforces nothing (Envoy: "If absent, no enforcing RBAC policy will be applied").
  extension(NetworkRbac, (gate, rbac, path): NetworkFilter => {
    return { kind: "rbac", rbac: rbac.rules === undefined ? null : decodeRbac(gate, rbac.rules, at(path, "rules")) };
  }),
];

type HttpFilter =
  | { readonly kind: "rbac"; readonly rbac: RbacConfig | null }
  | { readonly kind: "jwt"; readonly jwt: JwtConfig }
  /** `quiet`: no x-envoy headers are added. */
  | { readonly kind: "router"; readonly quiet: boolean }
  | { readonly kind: "grpc-web" }
  | { readonly kind: "nothing" }
  | { readonly kind: "on-demand" }
  /** One of chain/stages.ts: its name, and `config` as the only member of `stages`. */
  | { readonly kind: "stage"; readonly name: StageName; readonly stages: Partial<StageConfigs> };

/** Loaded with the first filter of their kind: most proxies have none. */
const faults = () => require("./fault.ts") as typeof import("./fault.ts");
const extAuthz = () => require("./ext-authz.ts") as typeof import("./ext-authz.ts");
const sessions = () => require("./session.ts") as typeof import("./session.ts");
const globalLimits = () => require("./global-limit.ts") as typeof import("./global-limit.ts");
const names = () => require("./dynamic.ts") as typeof import("./dynamic.ts");
const tokens = () => require("./jwt.ts") as typeof import("./jwt.ts");
const overload = () => require("./overload.ts") as typeof import("./overload.ts");

const httpFilters: readonly Extension<HttpFilter>[] = [
  extension(HttpRbac, (gate, rbac, path): HttpFilter => {
    return { kind: "rbac", rbac: rbac.rules === undefined ? null : decodeRbac(gate, rbac.rules, at(path, "rules")) };
  }),
  extension(JwtAuthn, (gate, filter, path): HttpFilter => ({ kind: "jwt", jwt: tokens().decodeJwt(gate, filter, path) })),
  // CORS has no policy of its own in a chain: routes have.
  extension(Cors, (): HttpFilter => ({ kind: "stage", name: "cors", stages: { cors: null } })),
  extension(
    HttpFault,
    (gate, fault, path): HttpFilter => ({ kind: "stage", name: "fault", stages: { fault: faults().decodeFault(gate, fault, path) } }),
  ),
  extension(
    ExtAuthz,
    (gate, filter, path): HttpFilter => ({
      kind: "stage",
      name: "extAuthz",
      stages: { extAuthz: extAuthz().decodeExtAuthz(gate, filter, path) },
    }),
  ),
  extension(
    StatefulSession,
    (gate, session, path): HttpFilter => ({
      kind: "stage",
      name: "session",
      stages: { session: sessions().decodeSession(gate, session, path) },
    }),
  ),
  extension(
    LocalRateLimit,
    (gate, limit, path): HttpFilter => ({
      kind: "stage",
      name: "rateLimit",
      stages: { rateLimit: overload().decodeRateLimit(gate, limit, path) },
    }),
  ),
  extension(
    GlobalRateLimit,
    (gate, limit, path): HttpFilter => ({
      kind: "stage",
      name: "globalRateLimit",
      stages: { globalRateLimit: globalLimits().decodeGlobalLimit(gate, limit, path) },
    }),
  ),
  extension(
    AdaptiveConcurrency,
    (gate, filter, path): HttpFilter => ({
      kind: "stage",
      name: "admission",
      stages: { admission: overload().decodeAdaptive(gate, filter, path) },
    }),
  ),
  extension(
    Admission,
    (gate, filter, path): HttpFilter => ({
      kind: "stage",
      name: "admission",
      stages: { admission: overload().decodeAdmission(gate, filter, path) },
    }),
  ),
  extension(GrpcWeb, (): HttpFilter => ({ kind: "grpc-web" })),
  // Envoy looks names up in a filter, we do in the cluster.
  extension(DynamicForwardProxy, (gate, filter, path): HttpFilter => {
    names().decodeNamesFilter(gate, filter, path);
    return { kind: "nothing" };
  }),
  extension(OnDemand, (gate, filter, path): HttpFilter => {
    if (filter.odcds !== undefined)
      gate.add(at(path, "odcds"), "is not supported: clusters come with the virtual hosts that are asked for (vhds)");
    return { kind: "on-demand" };
  }),
  extension(Router, (_gate, router): HttpFilter => ({ kind: "router", quiet: router.suppressEnvoyHeaders })),
];

/** A filter that stands there for routes alone. */
function switchedOff(gate: Gate, off: boolean, { name, stages }: HttpFilter & { kind: "stage" }, path: string): Partial<StageConfigs> {
  if (!off) return stages;
  if (stages.extAuthz !== undefined) return { extAuthz: { ...stages.extAuthz, off: true } };
  gate.add(at(path, "disabled"), `is not supported for ${name}; leave the filter out`);
  return stages;
}

/** A filter that is optional may be one that nobody here knows: whoever wrote it asked for that. */
function passedOver(config: { readonly value?: AnyValue | undefined }): boolean {
  const typeUrl = config.value?.typeUrl ?? "";
  const typeName = typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
  return typeName !== "" && !httpFilters.some((one) => one.typeName === typeName);
}

function httpManager(gate: Gate, manager: PbManager, path: string): HttpManagerConfig {
  const codec = choose<HttpManagerConfig["codec"]>(
    gate,
    at(path, "codec_type"),
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.CodecType",
    manager.codecType,
    { AUTO: "auto", HTTP1: "http1", HTTP2: "http2" },
    "auto",
    "this version speaks HTTP/1.1 and HTTP/2",
  );
  const filters = httpFilterChain(gate, manager, path);
  if (manager.httpProtocolOptions?.allowAbsoluteUrl === false) {
    gate.add(
      at(path, "http_protocol_options.allow_absolute_url"),
      "false is not supported (RFC 9112 section 3.2.2 has servers accept the absolute form)",
    );
  }
  const normal = normalForm(gate, manager, filters.rbac.length > 0, path);
  return {
    kind: "http",
    statPrefix: present(gate, at(path, "stat_prefix"), manager.statPrefix),
    routes: routeSource(gate, manager, path),
    rbac: filters.rbac,
    grpcWeb: filters.grpcWeb,
    ...(manager.useRemoteAddress ? { forwards: true as const } : {}),
    ...(manager.xffNumTrustedHops > 0 ? { trustedHops: manager.xffNumTrustedHops } : {}),
    ...(manager.skipXffAppend ? { appends: false as const } : {}),
    ...(normal ? { normalForm: true as const } : {}),
    ...(filters.jwt === null ? {} : { jwt: filters.jwt }),
    ...(filters.onDemand ? { onDemand: true as const } : {}),
    ...(filters.quiet ? { tellsDeadline: false as const } : {}),
    ...(filters.stages === null ? {} : { stages: filters.stages }),
    codec,
    http2: http2Options(gate, manager.http2ProtocolOptions, at(path, "http2_protocol_options")),
    accessLogs: manager.accessLog.map((log, n) => decodeAccessLog(gate, log, `${path}.access_log[${n}]`)),
    generateRequestId: manager.generateRequestId ?? true,
    upgrades: manager.upgradeConfigs.flatMap((upgrade, n) => {
      if (upgrade.upgradeType === "") gate.add(`${path}.upgrade_configs[${n}].upgrade_type`, "must not be empty");
      if (upgrade.enabled === false) return [];
      return [upgrade.upgradeType.toUpperCase() === "CONNECT" ? "CONNECT" : upgrade.upgradeType.toLowerCase()];
    }),
    limits: httpLimits(gate, manager, path),
    via: viaName(gate, manager.via, path),
  };
}

/** Policies judge the normal form of a path, always, and it is routed and goes on in that form. True: so it is without policies that read paths. */
function normalForm(gate: Gate, { normalizePath, mergeSlashes }: PbManager, judged: boolean, path: string): boolean {
  if (normalizePath === false && judged)
    gate.add(at(path, "normalize_path"), "false is not supported: policies judge the normal form of a path");
  if (normalizePath !== true && !mergeSlashes) return false;
  if (normalizePath !== true || !mergeSlashes)
    gate.add(at(path, normalizePath === true ? "normalize_path" : "merge_slashes"), "normalize_path and merge_slashes come together here");
  return true;
}

function routeSource(gate: Gate, manager: PbManager, path: string): HttpManagerConfig["routes"] {
  const source = manager.routeSpecifier;
  switch (source.case) {
    case "rds":
      adsSource(gate, source.value.configSource, at(path, "rds.config_source"));
      return { rds: present(gate, at(path, "rds.route_config_name"), source.value.routeConfigName) };
    case "routeConfig":
      return { inline: decodeRoutes(gate, source.value, at(path, "route_config")) };
    case undefined:
      gate.add(path, "needs one of route_config, rds");
      return { inline: emptyRoutes };
  }
}

function httpFilterChain(
  gate: Gate,
  manager: PbManager,
  path: string,
): {
  readonly rbac: readonly RbacConfig[];
  readonly jwt: JwtConfig | null;
  readonly grpcWeb: boolean;
  readonly onDemand: boolean;
  readonly quiet: boolean;
  readonly stages: Partial<StageConfigs> | null;
} {
  const rbac: RbacConfig[] = [];
  let jwt: JwtConfig | null = null;
  let stages: Partial<StageConfigs> | null = null;
  let last = -1;
  let grpcWeb = false;
  let onDemand = false;
  let quiet = false;
  const count = manager.httpFilters.length;
  let ended = false;
  manager.httpFilters.forEach((filter, n) => {
    const where = `${path}.http_filters[${n}]`;
    if (filter.isOptional && passedOver(filter.configType)) return;
    const decoded = decodeExtension(gate, httpFilters, "HTTP filter", filter.name, filter.configType, where);
    if (decoded?.kind === "router") {
      ended = true;
      quiet = decoded.quiet;
      if (n !== count - 1) gate.add(where, "the router must be the last filter");
    } else if (decoded?.kind === "jwt") {
      if (jwt !== null) gate.add(where, "stands in the list twice");
      if (rbac.length > 0) gate.add(where, "must stand before envoy.filters.http.rbac");
      if (onDemand || Object.keys(stages ?? {}).some((name) => name !== "cors"))
        gate.add(where, "must stand before the other filters, but for envoy.filters.http.cors and envoy.filters.http.grpc_web");
      jwt = decoded.jwt;
    } else if (decoded?.kind === "grpc-web") grpcWeb = true;
    else if (decoded?.kind === "on-demand") {
      onDemand = true;
      if (jwt !== null) gate.add(where, "is not supported beside envoy.filters.http.jwt_authn");
    } else if (decoded?.kind === "stage") {
      const place = stageOrder.indexOf(decoded.name);
      const twice = stages !== null && Object.hasOwn(stages, decoded.name);
      // Ours beside Envoy's, for proxies that know only that one.
      if (twice && !(decoded.name === "admission" && filter.isOptional)) gate.add(where, "stands in the list twice");
      else if (place < last) gate.add(where, `must stand in this order: ${stageOrder.join(", ")}`);
      last = place;
      if (decoded.name === "cors" && jwt !== null && !jwt.bypassPreflights)
        gate.add(where, "must stand before envoy.filters.http.jwt_authn without bypass_cors_preflight: preflights are answered first here");
      stages = { ...stages, ...switchedOff(gate, filter.disabled, decoded, where) };
      return;
    } else if (decoded?.kind === "rbac" && decoded.rbac !== null) {
      rbac.push(decoded.rbac);
      // Rules are judged first here, and must not read what the service would have written.
      if (stages !== null && Object.hasOwn(stages, "extAuthz")) gate.add(where, "must stand before envoy.filters.http.ext_authz");
    }
    if (filter.disabled) gate.add(at(where, "disabled"), "is supported for envoy.filters.http.ext_authz only; leave the filter out");
  });
  if (!ended) gate.add(at(path, "http_filters"), "must end in envoy.extensions.filters.http.router.v3.Router");
  return { rbac, jwt, grpcWeb, onDemand, quiet, stages };
}
