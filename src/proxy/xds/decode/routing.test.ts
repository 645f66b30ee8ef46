// What routes decode to beyond the basics: matchers, edits at every level, rewrites, mirrors, and per-route configuration of filters.

import { expect, test } from "bun:test";
import { createRegistry, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { FilterConfigSchema } from "../../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { RouteConfigurationSchema } from "../../../wire/gen/envoy/config/route/v3/route_pb.ts";
import { CorsPolicySchema } from "../../../wire/gen/envoy/extensions/filters/http/cors/v3/cors_pb.ts";
import { HTTPFaultSchema } from "../../../wire/gen/envoy/extensions/filters/http/fault/v3/fault_pb.ts";
import { RouterSchema } from "../../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { FaultSchema } from "../../../wire/gen/weft/fault/v1/fault_pb.ts";
import type { ForwardAction, RouteConfig, RouteTableConfig } from "../../config.ts";
import { decodeResource } from "./resource.ts";

const registry = createRegistry(CorsPolicySchema, HTTPFaultSchema, FilterConfigSchema, FaultSchema, RouterSchema);
const world = {
  readFile: (): Uint8Array => {
    throw new Error("no files");
  },
  staticSecrets: new Map(),
  controlClusters: new Set<string>(),
};

function decode(json: JsonValue): ReturnType<typeof decodeResource<"route">> {
  return decodeResource("route", toBinary(RouteConfigurationSchema, fromJson(RouteConfigurationSchema, json, { registry })), world);
}

function table(json: JsonValue): RouteTableConfig {
  const decoded = decode(json);
  if ("violations" in decoded) throw new Error(JSON.stringify(decoded.violations));
  return decoded.config;
}

function routes(list: JsonValue[], host: Record<string, JsonValue> = {}, more: Record<string, JsonValue> = {}): RouteConfig[] {
  return [
    ...(table({ name: "t", virtualHosts: [{ name: "h", domains: ["*"], routes: list, ...host }], ...more }).virtualHosts[0]?.routes ?? []),
  ];
}

function wrong(route: Record<string, JsonValue>): string[] {
  const decoded = decode({ name: "t", virtualHosts: [{ name: "h", domains: ["*"], routes: [route] }] });
  if (!("violations" in decoded)) throw new Error("it was taken");
  return decoded.violations.map(({ path, message }) => `${path.replace("virtual_hosts[0].routes[0].", "")}: ${message}`);
}

const all = { prefix: "/" };
const to = { cluster: "c" };

test("matches: every form of header, share, case, gRPC", () => {
  const [route] = routes([
    {
      match: {
        prefix: "/A",
        caseSensitive: false,
        grpc: {},
        runtimeFraction: { defaultValue: { numerator: 25, denominator: "TEN_THOUSAND" } },
        headers: [
          { name: "a", exactMatch: "1" },
          { name: "b", prefixMatch: "1" },
          { name: "c", suffixMatch: "1" },
          { name: "d", containsMatch: "1" },
          { name: "e", safeRegexMatch: { regex: "1+" } },
          { name: "f", rangeMatch: { start: "-5", end: "10" }, invertMatch: true },
          { name: "g", presentMatch: false },
          { name: "h", stringMatch: { exact: "X", ignoreCase: true }, treatMissingHeaderAsEmpty: true },
          { name: ":scheme", stringMatch: { exact: "http" } },
        ],
      },
      route: to,
    },
  ]);
  expect(route?.match.path).toEqual({ kind: "prefix", value: "/A", ignoreCase: true });
  expect([route?.match.grpc, route?.match.fraction]).toEqual([true, 0.0025]);
  expect(
    route?.match.headers.map((header) => [header.match?.kind ?? null, header.invert, header.range ?? null, header.missingIsEmpty ?? false]),
  ).toEqual([
    ["exact", false, null, false],
    ["prefix", false, null, false],
    ["suffix", false, null, false],
    ["contains", false, null, false],
    ["regex", false, null, false],
    [null, true, { start: -5, end: 10 }, false],
    [null, true, null, false],
    ["exact", false, null, true],
    ["exact", false, null, false],
  ]);
});

test("edits: cluster, route, virtual host, table, folded from the inside out", () => {
  const add = (key: string, value: string, appendAction = "OVERWRITE_IF_EXISTS_OR_ADD") => ({ header: { key, value }, appendAction });
  const [route] = routes(
    [
      {
        match: all,
        requestHeadersToAdd: [add("x", "route"), add("r", "%REQ(:PATH)%", "ADD_IF_ABSENT")],
        route: {
          weightedClusters: {
            clusters: [
              { name: "a", weight: 1, requestHeadersToAdd: [add("x", "cluster"), add("y", "cluster")], hostRewriteLiteral: "a.example" },
              { name: "b", weight: 1 },
            ],
          },
        },
      },
    ],
    { requestHeadersToAdd: [add("x", "host")], responseHeadersToRemove: ["z"] },
    { requestHeadersToAdd: [add("w", "table", "OVERWRITE_IF_EXISTS")] },
  );
  const first = (route?.action as ForwardAction | undefined)?.clusters[0];
  expect(first?.hostRewrite).toBe("a.example");
  expect(first?.requestHeaders?.set).toEqual([
    { name: "y", value: "cluster" },
    { name: "x", value: "host" },
  ]);
  expect(route?.requestHeaders).toEqual({
    remove: [],
    set: [{ name: "x", value: "host" }],
    add: [],
    addIfAbsent: [{ name: "r", value: "%REQ(:PATH)%" }],
    setIfPresent: [{ name: "w", value: "table" }],
  });
  expect(route?.responseHeaders.remove).toEqual(["z"]);
});

test("rewrites, hosts, mirrors, redirects", () => {
  const rewrite = { pattern: { regex: "^/a/(.*)" }, substitution: "/\\1" };
  const decoded = routes([
    { match: all, route: { ...to, regexRewrite: rewrite, autoHostRewrite: true } },
    { match: all, route: { ...to, autoHostRewrite: false } },
    { match: all, route: { ...to, hostRewriteHeader: "X-Host" } },
    { match: all, route: { ...to, hostRewritePathRegex: rewrite } },
    {
      match: all,
      route: {
        ...to,
        requestMirrorPolicies: [
          { cluster: "m", runtimeFraction: { defaultValue: { numerator: 5 } } },
          { cluster: "n", disableShadowHostSuffixAppend: true },
        ],
      },
    },
    { match: all, redirect: { httpsRedirect: true, stripQuery: true, regexRewrite: rewrite, responseCode: "SEE_OTHER" } },
  ]);
  const action = (n: number) => decoded[n]?.action as ForwardAction;
  const both = { pattern: "^/a/(.*)", substitution: "/\\1" };
  expect([action(0).regexRewrite, action(0).hostFrom, action(1).hostFrom]).toEqual([both, { kind: "endpoint" }, undefined]);
  expect([action(2).hostFrom, action(3).hostFrom]).toEqual([
    { kind: "header", name: "x-host" },
    { kind: "path", ...both },
  ]);
  expect(action(4).mirrors).toEqual([
    { cluster: "m", fraction: 0.05, shadowHost: true },
    { cluster: "n", fraction: 1, shadowHost: false },
  ]);
  expect(decoded[5]?.action).toMatchObject({ status: 303, scheme: "https", stripQuery: true, path: { kind: "regex", ...both } });
});

test("filters: a route's entry replaces its virtual host's, and can switch one off", () => {
  const type = (name: string, value: Record<string, JsonValue>) => ({ "@type": `type.googleapis.com/${name}`, ...value });
  const cors = type("envoy.extensions.filters.http.cors.v3.CorsPolicy", {
    allowOriginStringMatch: [{ exact: "*" }],
    allowCredentials: true,
  });
  const fault = { abort: { httpStatus: 503, percentage: { numerator: 50 } } };
  const own = type("weft.fault.v1.Fault", {
    http: { headers: [{ name: "x" }] },
    reset: { numerator: 1 },
    clients: [{ prefix: "spiffe://" }],
  });
  const [first, second, third] = routes(
    [
      {
        match: all,
        route: to,
        typedPerFilterConfig: { "envoy.filters.http.fault": type("envoy.extensions.filters.http.fault.v3.HTTPFault", fault) },
      },
      {
        match: all,
        route: to,
        typedPerFilterConfig: { "envoy.filters.http.cors": type("envoy.config.route.v3.FilterConfig", { disabled: true }) },
      },
      { match: all, route: to, typedPerFilterConfig: { "envoy.filters.http.fault": own } },
    ],
    { typedPerFilterConfig: { "envoy.filters.http.cors": cors } },
  );
  expect(first?.stages?.cors).toMatchObject({ origins: [{ kind: "prefix", value: "" }], credentials: true, forwardUnmatched: true });
  expect(first?.stages?.fault).toMatchObject({ abort: { kind: "http", status: 503, fraction: 0.5 }, delay: null, reset: 0 });
  expect(second?.stages).toEqual({ cors: "off" });
  expect(third?.stages?.fault).toMatchObject({ abort: null, reset: 0.01, clients: [{ kind: "prefix" }], headers: [{ name: "x" }] });
});

test("what cannot be done is refused by its path", () => {
  const type = (name: string, value: Record<string, JsonValue> = {}) => ({ "@type": `type.googleapis.com/${name}`, ...value });
  const [filter] = wrong({
    match: all,
    route: to,
    typedPerFilterConfig: { other: type("envoy.extensions.filters.http.router.v3.Router") },
  });
  expect(filter).toStartWith(
    'typed_per_filter_config["other"]: envoy.extensions.filters.http.router.v3.Router is not supported at a route; known types: ',
  );
  expect(wrong({ match: all, route: { ...to, prefixRewrite: "/", regexRewrite: { pattern: { regex: "a" } } } })[0]).toContain(
    "exclude each other",
  );
  expect(wrong({ match: { safeRegex: { regex: "(" } }, route: to })[0]).toContain("match.safe_regex.regex: ");
  expect(wrong({ match: all, route: { ...to, regexRewrite: { pattern: { regex: "a" }, substitution: "\\2" } } })[0]).toContain(
    'names the group "\\2"',
  );
  expect(wrong({ match: { prefix: "/", headers: [{ name: "a", rangeMatch: { start: "5", end: "5" } }] }, route: to })[0]).toContain(
    "holds no number",
  );
  expect(wrong({ match: all, route: to, requestHeadersToAdd: [{ header: { key: "a", value: "%FOO%" } }] })[0]).toContain(
    "%FOO% is not supported",
  );
  const fault = (value: Record<string, JsonValue>) =>
    wrong({ match: all, route: to, typedPerFilterConfig: { f: type("envoy.extensions.filters.http.fault.v3.HTTPFault", value) } })[0];
  expect(fault({ abort: { httpStatus: 99 } })).toContain("99 is not from 200 to 599");
  expect(fault({ delay: {} })).toContain("needs one of fixed_delay, header_delay");
  expect(fault({ upstreamCluster: "c" })).toContain("upstream_cluster: is not supported");
});

test("a line end never becomes part of a request", () => {
  const line = "/a\r\nx: y";
  expect(wrong({ match: all, route: { ...to, prefixRewrite: line } })).toEqual([
    expect.stringContaining("route.prefix_rewrite: must not contain"),
  ]);
  expect(wrong({ match: all, route: { ...to, hostRewriteLiteral: line } })).toEqual([
    expect.stringContaining("route.host_rewrite_literal: must not contain"),
  ]);
  const clusters = [{ name: "c", weight: 1, hostRewriteLiteral: line }];
  expect(wrong({ match: all, route: { weightedClusters: { clusters } } })).toEqual([
    expect.stringContaining("clusters[0].host_rewrite_literal: must not contain"),
  ]);
});
