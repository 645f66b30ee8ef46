import { expect, test } from "bun:test";
import { encodeBinary } from "../proto/encode.ts";
import { GlobalRateLimit, HttpConnectionManager, RateLimitPerRoute, RouteConfiguration } from "../proto/types.ts";
import { networkFilters } from "./filters.ts";
import { decodeStrict, Gate } from "./gate.ts";
import { decodeGlobalLimit, decodePerRoute } from "./global-limit.ts";
import { decodeRoutes } from "./route.ts";

function gate(): Gate {
  return new Gate({ readFile: () => new Uint8Array(), staticSecrets: new Map(), controlClusters: new Set() });
}

const service = { grpcService: { targetSpecifier: { case: "envoyGrpc", value: { clusterName: "limits" } } }, transportApiVersion: 2 };
const generic = (descriptorValue: string) => ({ actions: [{ actionSpecifier: { case: "genericKey", value: { descriptorValue } } }] });
const seconds = (n: number) => ({ seconds: BigInt(n), nanos: 0 });

function limit(given: object, g = gate()) {
  const message = decodeStrict(g, GlobalRateLimit, encodeBinary(GlobalRateLimit, given), "");
  return { g, found: message === undefined ? undefined : decodeGlobalLimit(g, message, "f") };
}

test("Envoy's defaults", () => {
  const { g, found } = limit({ domain: "d", rateLimitService: service });
  expect(g.violations).toEqual([]);
  expect(found?.filter).toMatchObject({
    domain: "d",
    cluster: "limits",
    timeoutMs: 20,
    denyOnFailure: false,
    status: 429,
    failureStatus: 500,
    tellHeaders: false,
    tellLimited: true,
    stage: 0,
    enabled: 1,
    enforced: 1,
  });
});

test("what cannot be done or makes no sense is refused by its path", () => {
  const { g } = limit({
    requestType: "internal",
    stage: 11,
    timeout: seconds(60),
    rateLimits: [
      { actions: [] },
      { actions: [{ actionSpecifier: { case: "metadata", value: { descriptorKey: "k", metadataKey: { key: "f" } } } }] },
      { actions: [{ actionSpecifier: { case: "requestHeaders", value: { headerName: ":status", descriptorKey: "k" } } }] },
    ],
  });
  expect(g.violations.map(({ path }) => path)).toEqual([
    "f.request_type",
    "f.rate_limit_service",
    "f.rate_limit_service.grpc_service.envoy_grpc",
    "f.timeout",
    "f.domain",
    "f.stage",
    "f.rate_limits[0].actions",
    "f.rate_limits[1].actions[0].metadata.source",
    "f.rate_limits[2].actions[0].request_headers.header_name",
  ]);
});

test("an entry for a route: another domain, other limits, what becomes of the host's", () => {
  const g = gate();
  const bytes = encodeBinary(RateLimitPerRoute, { vhRateLimits: 1, domain: "other", rateLimits: [generic("x")] });
  const message = decodeStrict(g, RateLimitPerRoute, bytes, "");
  expect(decodePerRoute(g, message as never, "r").route).toEqual({
    limits: [],
    host: [],
    instead: [{ stage: 0, actions: [{ kind: "generic", key: "generic_key", value: "x" }] }],
    hostMode: "include",
    domain: "other",
  });
  expect(g.violations).toEqual([]);
});

function routes(route: object, host: object = {}) {
  const g = gate();
  const one = {
    match: { pathSpecifier: { case: "prefix", value: "/" } },
    action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: "c" }, retryPolicy: { retryOn: "5xx" } } },
    ...route,
  };
  const bytes = encodeBinary(RouteConfiguration, { name: "t", virtualHosts: [{ name: "h", domains: ["*"], routes: [one], ...host }] });
  const message = decodeStrict(g, RouteConfiguration, bytes, "");
  return { g, route: decodeRoutes(g, message as never, "").virtualHosts[0]?.routes[0] };
}

test("limits of a route and its host; a route's metadata is known with the route", () => {
  const fromRoute = (skipIfAbsent: boolean, name: string) => ({
    actions: [
      { actionSpecifier: { case: "genericKey", value: { descriptorValue: "g" } } },
      {
        actionSpecifier: {
          case: "metadata",
          value: {
            descriptorKey: "plan",
            metadataKey: { key: "shop", path: [{ segment: { case: "key", value: name } }] },
            source: 1,
            skipIfAbsent,
          },
        },
      },
    ],
  });
  const { g, route } = routes(
    {
      metadata: { filterMetadata: { shop: { plan: "gold" } } },
      action: {
        case: "route",
        value: {
          clusterSpecifier: { case: "cluster", value: "c" },
          rateLimits: [fromRoute(false, "plan"), fromRoute(true, "none"), fromRoute(false, "none")],
        },
      },
    },
    { rateLimits: [{ ...generic("host"), stage: 2 }] },
  );
  expect(g.violations).toEqual([]);
  const entry = { kind: "generic", key: "generic_key", value: "g" };
  expect(route?.stages?.globalRateLimit).toEqual({
    filter: null,
    limits: [],
    route: {
      limits: [
        { stage: 0, actions: [entry, { kind: "generic", key: "plan", value: "gold" }] },
        { stage: 0, actions: [entry] },
      ],
      host: [{ stage: 2, actions: [{ kind: "generic", key: "generic_key", value: "host" }] }],
      instead: null,
      hostMode: "override",
      domain: null,
    },
  } as never);
});

test("a filter, which is of all routes, reads the metadata of each request's", () => {
  const metadataKey = { key: "shop", path: [{ segment: { case: "key", value: "plan" } }] };
  const actions = [{ actionSpecifier: { case: "metadata", value: { descriptorKey: "k", metadataKey, source: 1 } } }];
  const { g, found } = limit({ domain: "d", rateLimitService: service, rateLimits: [{ actions }] });
  expect(g.violations).toEqual([]);
  expect(found?.limits).toEqual([[{ kind: "route", key: "k", path: ["shop", "plan"], value: "", skipIfAbsent: false }]]);
  const { route } = routes({ metadata: { filterMetadata: { shop: { plan: "gold" } } } });
  expect(route?.metadata).toEqual({ shop: { plan: "gold" } });
});

test("a hedge in a route's metadata, which leaves a route's own word about tries alone", () => {
  const metadata = (value: unknown) => ({ metadata: { filterMetadata: { "weft.dev": { hedge_after_ms: value } } } });
  expect(routes(metadata(80)).route?.action).toMatchObject({ retry: { hedge: true, perTryTimeoutMs: 80 } });
  expect(routes(metadata("soon")).g.violations.map(({ path }) => path)).toEqual([
    'virtual_hosts[0].routes[0].metadata.filter_metadata["weft.dev"].hedge_after_ms',
  ]);
});

test("filters that others have and we have not are refused by name, unless they are optional", () => {
  const filter = (name: string, isOptional: boolean) => ({
    name: "x",
    isOptional,
    configType: { case: "typedConfig", value: { typeUrl: `type.googleapis.com/${name}`, value: new Uint8Array() } },
  });
  const router = filter("envoy.extensions.filters.http.router.v3.Router", false);
  const decode = (httpFilters: object[]) => {
    const g = gate();
    const value = encodeBinary(HttpConnectionManager, {
      statPrefix: "s",
      routeSpecifier: { case: "routeConfig", value: { name: "r" } },
      httpFilters,
    });
    const found = networkFilters[0]?.decode(g, { typeUrl: `type.googleapis.com/${HttpConnectionManager.name}`, value } as never, "m");
    return { g, found };
  };
  const control = "envoy.extensions.filters.http.admission_control.v3.AdmissionControl";
  expect(decode([filter(control, false), router]).g.violations[0]).toMatchObject({
    path: "m.http_filters[0].typed_config",
    message: expect.stringContaining(`${control} is not a supported HTTP filter`) as never,
  });
  expect(decode([filter(control, true), router]).g.violations).toEqual([]);
});
