// Envoy's ext_authz filter and its entries at routes, from the bytes that a control plane sends: what is taken, and that what is not enforced is refused
// by its path.

import { describe, expect, test } from "bun:test";
import { createRegistry, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { ListenerSchema } from "../../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { FilterConfigSchema } from "../../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { CorsSchema } from "../../../wire/gen/envoy/extensions/filters/http/cors/v3/cors_pb.ts";
import { ExtAuthzPerRouteSchema, ExtAuthzSchema } from "../../../wire/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.ts";
import { RBACSchema } from "../../../wire/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import { RouterSchema } from "../../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { HttpConnectionManagerSchema } from "../../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import type { HttpManagerConfig, RouteStages } from "../../config.ts";
import { clustersOf } from "./references.ts";
import { decodeResource } from "./resource.ts";

const registry = createRegistry(
  CorsSchema,
  ExtAuthzPerRouteSchema,
  ExtAuthzSchema,
  FilterConfigSchema,
  HttpConnectionManagerSchema,
  RBACSchema,
  RouterSchema,
);
const world = {
  readFile: (): Uint8Array => {
    throw new Error("no files");
  },
  staticSecrets: new Map(),
  controlClusters: new Set<string>(),
};

type Json = Record<string, JsonValue>;
const types = "type.googleapis.com/envoy.extensions.filters.http";

function decode(filters: readonly Json[], perRoute: Json = {}) {
  const json: JsonValue = {
    name: "l",
    address: { socketAddress: { address: "127.0.0.1", portValue: 0 } },
    filterChains: [
      {
        filters: [
          {
            name: "hcm",
            typedConfig: {
              "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
              statPrefix: "x",
              routeConfig: {
                name: "r",
                virtualHosts: [
                  {
                    name: "h",
                    domains: ["*"],
                    routes: [{ match: { prefix: "/" }, route: { cluster: "c" }, typedPerFilterConfig: perRoute }],
                  },
                ],
              },
              httpFilters: [...filters, { name: "router", typedConfig: { "@type": `${types}.router.v3.Router` } }],
            },
          },
        ],
      },
    ],
  };
  return decodeResource("listener", toBinary(ListenerSchema, fromJson(ListenerSchema, json, { registry })), world);
}

const filter = (more: Json = {}, around: Json = {}): Json => ({
  name: "envoy.filters.http.ext_authz",
  typedConfig: {
    "@type": `${types}.ext_authz.v3.ExtAuthz`,
    transportApiVersion: "V3",
    ...("httpService" in more ? {} : { grpcService: { envoyGrpc: { clusterName: "auth" } } }),
    ...more,
  },
  ...around,
});
const atRoute = (entry: Json): Json => ({
  "envoy.filters.http.ext_authz": { "@type": `${types}.ext_authz.v3.ExtAuthzPerRoute`, ...entry },
});

function taken(filters: readonly Json[], perRoute: Json = {}): { manager: HttpManagerConfig; route: RouteStages; clusters: string[] } {
  const decoded = decode(filters, perRoute);
  if ("violations" in decoded) throw new Error(JSON.stringify(decoded.violations));
  const terminal = decoded.config.chains[0]?.terminal as HttpManagerConfig;
  const table = "inline" in terminal.routes ? terminal.routes.inline : undefined;
  return { manager: terminal, route: table?.virtualHosts[0]?.routes[0]?.stages ?? {}, clusters: [...clustersOf(decoded.config)].sort() };
}

function refused(filters: readonly Json[], perRoute: Json = {}): string[] {
  const decoded = decode(filters, perRoute);
  if (!("violations" in decoded)) throw new Error("it was taken");
  return decoded.violations.map(({ path, message }) => `${path.slice(path.indexOf("typed_config.") + 13)}: ${message}`);
}

test("a filter with Envoy's defaults: closed, 403, 200 ms", () => {
  const { manager, clusters } = taken([filter()]);
  expect(manager.stages?.extAuthz).toEqual({
    filter: {
      service: { kind: "grpc", cluster: "auth", authority: "", metadata: [], timeoutMs: 200 },
      allowed: null,
      disallowed: [],
      body: null,
      failureAllow: false,
      failureHeader: false,
      statusOnError: 403,
      enabled: 1,
    },
    off: false,
    route: null,
  });
  expect(clusters).toEqual(["auth", "c"]);
});

test("routes switch it off, or on, add to what is told, and name a service of their own", () => {
  expect(taken([filter()], atRoute({ disabled: true })).route.extAuthz).toBe("off");
  const { manager, route, clusters } = taken(
    [filter({}, { disabled: true })],
    atRoute({
      checkSettings: {
        contextExtensions: { a: "b" },
        withRequestBody: { maxRequestBytes: 5, packAsBytes: true },
        httpService: { serverUri: { uri: "http://x", cluster: "other", timeout: "1s" }, pathPrefix: "/p" },
      },
    }),
  );
  expect(manager.stages?.extAuthz?.off).toBe(true);
  expect(route.extAuthz).toMatchObject({
    route: {
      context: { a: "b" },
      body: { maxBytes: 5, partial: false, asBytes: true },
      service: { kind: "http", cluster: "other", timeoutMs: 1_000, pathPrefix: "/p", client: null },
    },
  });
  expect(clusters).toEqual(["c", "other"]);
  const none = taken([filter()], atRoute({ checkSettings: { disableRequestBodyBuffering: true } })).route.extAuthz;
  expect(none).toMatchObject({ route: { body: null, service: null } });
});

describe("refused by its path", () => {
  const rbac: Json = { name: "rbac", typedConfig: { "@type": `${types}.rbac.v3.RBAC`, rules: { action: "DENY" } } };
  const cors: Json = { name: "cors", typedConfig: { "@type": `${types}.cors.v3.Cors` } };
  const cases: readonly (readonly [what: string, filters: readonly Json[], perRoute: Json, wanted: RegExp])[] = [
    ["no service", [filter({ grpcService: null })], {}, /typed_config: needs one of grpc_service, http_service/],
    [
      "a time-out of nothing",
      [filter({ grpcService: { envoyGrpc: { clusterName: "a" }, timeout: "0s" } })],
      {},
      /grpc_service\.timeout: must be above 0s/,
    ],
    ["another route after it", [filter({ clearRouteCache: true })], {}, /clear_route_cache: true is not supported/],
    ["the certificate", [filter({ includePeerCertificate: true })], {}, /include_peer_certificate: true is not supported/],
    [
      "a body of any size",
      [filter({ withRequestBody: { maxRequestBytes: 5_000_000 } })],
      {},
      /max_request_bytes: 5000000 is not from 1 to 1048576/,
    ],
    ["two of them", [filter(), filter()], {}, /stands in the list twice/],
    ["rules after it", [filter(), rbac], {}, /must stand before envoy\.filters\.http\.ext_authz/],
    ["another order", [filter(), cors], {}, /must stand in this order: cors, fault, extAuthz/],
    ["another filter switched off", [{ ...rbac, disabled: true }], {}, /disabled: is supported for envoy\.filters\.http\.ext_authz only/],
    ["cors switched off", [{ ...cors, disabled: true }], {}, /disabled: is not supported for cors/],
    ["nothing at a route", [filter()], atRoute({}), /needs one of disabled, check_settings/],
    [
      "both at a route",
      [filter()],
      atRoute({ checkSettings: { disableRequestBodyBuffering: true, withRequestBody: { maxRequestBytes: 1 } } }),
      /exclude each other/,
    ],
    [
      "a service without a cluster",
      [filter({ httpService: { serverUri: { uri: "http://x", timeout: "1s" } } })],
      {},
      /http_service\.server_uri\.cluster: must not be empty/,
    ],
  ];
  for (const [what, filters, perRoute, wanted] of cases)
    test(what, () => {
      expect(refused(filters, perRoute).join("\n")).toMatch(wanted);
    });
});
