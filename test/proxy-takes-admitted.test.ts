// What is admitted is taken: whatever passes validation, proxies accept as well. One route that a proxy refuses holds up the whole table it stands in, and
// with it every change of everybody who calls through that table; so each of these is refused where it is written, or makes a table that is taken.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { KubeObject } from "../src/api/meta.ts";
import { admit } from "../src/compile/admit.ts";
import { buildWorld, compileAll } from "../src/compile/compile.ts";
import { violationsOf } from "../src/compile/testing/objects.ts";
import { decodeResource } from "../src/proxy/xds/decode/resource.ts";
import { pushOrder } from "../src/wire/xds-types.ts";

const input = readFileSync(join(import.meta.dir, "../src/compile/testdata/virtual-bound/input.yaml"), "utf8");
const decodeWorld = { readFile: () => new Uint8Array(), staticSecrets: new Map(), controlClusters: new Set<string>() };

/** A mesh with a Service, its callers and a Gateway, without anything that routes. */
function mesh(): KubeObject[] {
  const all = parseAllDocuments(input).map((document) => document.toJS() as KubeObject | null);
  const plain = all.filter(
    (each) => each !== null && !["VirtualService", "DestinationRule", "HTTPRoute"].includes(each.kind),
  ) as KubeObject[];
  for (const object of plain) expect(violationsOf(object)).toEqual([]);
  return plain;
}

/** Paths that are refused; none = every proxy takes what is made of it, which is checked. */
function judge(object: KubeObject): string[] {
  const refused = violationsOf(object);
  if (refused.length > 0) return refused.map(({ path }) => path);
  const objects = [...mesh(), object];
  const contradictions = admit(buildWorld(mesh(), "cluster.local"), object);
  if (contradictions.length > 0) return contradictions.map(({ path }) => path);
  taken(objects);
  return [];
}

function taken(objects: readonly KubeObject[]): void {
  let made = 0;
  for (const snapshot of compileAll(buildWorld(objects, "cluster.local")).snapshots.values())
    for (const type of pushOrder)
      for (const { value, name } of snapshot.resources[type].values()) {
        const decoded = decodeResource(type, value, decodeWorld);
        expect("violations" in decoded ? decoded.violations : [], `${type} ${name}`).toEqual([]);
        made++;
      }
  expect(made).toBeGreaterThan(20);
}

const object = (apiVersion: string, kind: string, spec: object): KubeObject =>
  ({ apiVersion, kind, metadata: { name: "t", namespace: "shop" }, spec }) as KubeObject;

const virtual = (http: object) =>
  object("networking.istio.io/v1", "VirtualService", { hosts: ["reviews"], gateways: ["mesh", "edge"], http: [http] });
const gatewayRoute = (kind: string) => (rule: object) =>
  object("gateway.networking.k8s.io/v1", kind, { parentRefs: [{ group: "", kind: "Service", name: "reviews" }], rules: [rule] });
const http = gatewayRoute("HTTPRoute");
const grpc = gatewayRoute("GRPCRoute");
const balanced = (loadBalancer: object) =>
  object("networking.istio.io/v1", "DestinationRule", { host: "reviews", trafficPolicy: { loadBalancer } });
const entry = (spec: object) =>
  object("networking.istio.io/v1", "ServiceEntry", { ports: [{ number: 80, name: "http", protocol: "HTTP" }], ...spec });

const limited = (spec: object) =>
  object("weft.dev/v1alpha1", "RateLimitPolicy", { targetRefs: [{ kind: "Service", name: "reviews" }], ...spec });
const question = {
  scope: "Global",
  match: { path: { value: "/search" } },
  descriptor: [
    { key: "a", value: "b" },
    { key: "route", value: "ü\n" },
    { key: "user", type: "Header", header: "X-User" },
    { key: "who", type: "Identity" },
    { key: "remote_address", type: "RemoteAddress" },
  ],
};
const service = (name: string) => ({ backendRef: { name, port: 80 }, domain: "d" });

const route = [{ destination: { host: "reviews" } }];
const backendRefs = [{ name: "reviews", port: 80 }];
const large = "((a|bc){100}){10}";
const line = "a\r\nb";

const tokenKey = { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" };
const offCurve = { kty: "EC", crv: "P-256", x: "A".repeat(43), y: "A".repeat(43) };
const tokens = (more: object, key: object = tokenKey) =>
  object("security.istio.io/v1", "RequestAuthentication", {
    jwtRules: [{ issuer: "https://issuer.test", ...("jwksUri" in more ? {} : { jwks: JSON.stringify({ keys: [key] }) }), ...more }],
  });
const claimed = (key: string, values: string[]) =>
  object("security.istio.io/v1", "AuthorizationPolicy", { rules: [{ when: [{ key, values }] }] });
const users = (requestPrincipals: string[]) =>
  object("security.istio.io/v1", "AuthorizationPolicy", { rules: [{ from: [{ source: { requestPrincipals } }] }] });

const cases: readonly (readonly [what: string, object: KubeObject, paths: readonly string[]])[] = [
  ["tokens", tokens({ fromHeaders: [{ name: "X-A", prefix: "\u0009 " }], fromParams: ["ü"], outputPayloadToHeader: "X_Payload" }), []],
  ["tokens whose keys are still to come", tokens({ jwksUri: "https://issuer.test/keys" }), []],
  ["a key that is none", tokens({}, offCurve), ["spec.jwtRules[0].jwks"]],
  ["a header that HTTP reads", tokens({ outputPayloadToHeader: "TE" }), ["spec.jwtRules[0].outputPayloadToHeader"]],
  ["a prefix with a line end", tokens({ fromHeaders: [{ name: "a", prefix: line }] }), ["spec.jwtRules[0].fromHeaders[0].prefix"]],
  ["claims", claimed("request.auth.claims[a b][ü].x]", ["*", "a*", "*b", "c"]), ["spec.rules[0].when[0].key"]],
  ["nested claims", claimed("request.auth.claims[a b][ü.x]", ["*", "a*", "*b", "c"]), []],
  ["users", users(["*", "https://a.test/*", "*/b", "/", "a/b"]), ["spec.rules[0].from[0].source.requestPrincipals[3]"]],
  ["users in every form", users(["*", "https://a.test/*", "*/", "//a//", "a/b", "x*", "*y"]), []],
  ["an expression that is too large", virtual({ match: [{ uri: { regex: large } }], route }), ["spec.http[0].match[0].uri.regex"]],
  ["one that is too long", virtual({ match: [{ uri: { regex: "a".repeat(5000) } }], route }), ["spec.http[0].match[0].uri.regex"]],
  [
    "a large one for origins",
    virtual({ corsPolicy: { allowOrigins: [{ regex: large }] }, route }),
    ["spec.http[0].corsPolicy.allowOrigins[0].regex"],
  ],
  [
    "an empty prefix of a header",
    virtual({ match: [{ headers: { x: { prefix: "" } } }], route }),
    ["spec.http[0].match[0].headers.x.prefix"],
  ],
  [
    "a parameter without a name",
    virtual({ match: [{ queryParams: { "": { exact: "a" } } }], route }),
    ["spec.http[0].match[0].queryParams"],
  ],
  ["an empty prefix of the path", virtual({ match: [{ uri: { prefix: "" } }], route }), []],
  [
    "a group that there is not",
    virtual({ rewrite: { uriRegexRewrite: { match: "^/a$", rewrite: "/b/\\1" } }, route }),
    ["spec.http[0].rewrite.uriRegexRewrite"],
  ],
  [
    "a blank in a substitution",
    virtual({ rewrite: { uriRegexRewrite: { match: "^/a$", rewrite: "/b c" } }, route }),
    ["spec.http[0].rewrite.uriRegexRewrite"],
  ],
  [
    "a substitution of nothing",
    virtual({ rewrite: { uriRegexRewrite: { rewrite: "/b" } }, route }),
    ["spec.http[0].rewrite.uriRegexRewrite"],
  ],
  ["a line end in a path", virtual({ rewrite: { uri: `/${line}` }, route }), ["spec.http[0].rewrite.uri"]],
  ["a line end in a host", virtual({ rewrite: { authority: line }, route }), ["spec.http[0].rewrite.authority"]],
  [
    "a line end in a redirect",
    virtual({ redirect: { uri: `/${line}`, authority: line } }),
    ["spec.http[0].redirect.uri", "spec.http[0].redirect.authority"],
  ],
  ["a port that is none", virtual({ redirect: { port: 99_999 } }), ["spec.http[0].redirect.port"]],
  ["a line end in a header", virtual({ headers: { request: { set: { a: line } } }, route }), ["spec.http[0].headers.request.set.a"]],
  ["an empty header", virtual({ headers: { response: { add: { a: "" } } }, route }), ["spec.http[0].headers.response.add.a"]],
  [
    "framing",
    virtual({ headers: { request: { add: { "content-length": "3" } } }, route }),
    ["spec.http[0].headers.request.add.content-length"],
  ],
  ["a pseudo-header", virtual({ headers: { request: { set: { ":path": "/" } } }, route }), ["spec.http[0].headers.request.set.:path"]],
  ["the host, which is rewritten", virtual({ headers: { request: { set: { Host: "a.example" } } }, route }), []],
  ["taking the host out", virtual({ headers: { request: { remove: ["host"] } }, route }), ["spec.http[0].headers.request.remove[0]"]],
  [
    "edits of a destination",
    virtual({ route: [{ ...route[0], headers: { request: { set: { te: "x" } } } }] }),
    ["spec.http[0].route[0].headers.request.set.te"],
  ],
  ["more attempts than anybody wants", virtual({ retries: { attempts: 21 }, route }), ["spec.http[0].retries.attempts"]],
  ["a method that is none", virtual({ corsPolicy: { allowMethods: [line] }, route }), ["spec.http[0].corsPolicy.allowMethods[0]"]],
  [
    "an answer of too many bytes",
    virtual({ directResponse: { status: 200, body: { string: "ü".repeat(4000) } } }),
    ["spec.http[0].directResponse.body.string"],
  ],
  [
    "of an HTTPRoute a large expression",
    http({ matches: [{ path: { type: "RegularExpression", value: large } }], backendRefs }),
    ["spec.rules[0].matches[0].path.value"],
  ],
  [
    "edits of what is the proxy's",
    http({ filters: [{ type: "ResponseHeaderModifier", responseHeaderModifier: { remove: ["keep-alive", "te"] } }], backendRefs }),
    ["spec.rules[0].filters[0].responseHeaderModifier.remove[0]", "spec.rules[0].filters[0].responseHeaderModifier.remove[1]"],
  ],
  ["a time-out of years", http({ timeouts: { request: "99999h" }, backendRefs }), ["spec.rules[0].timeouts.request"]],
  [
    "a session in a header of the proxy",
    http({ sessionPersistence: { type: "Header", sessionName: "Content-Length" }, backendRefs }),
    ["spec.rules[0].sessionPersistence.sessionName"],
  ],
  [
    "a cookie of months",
    http({ sessionPersistence: { absoluteTimeout: "2160h", cookieConfig: { lifetimeType: "Permanent" } }, backendRefs }),
    [],
  ],
  [
    "two expressions that are too large together",
    grpc({ matches: [{ method: { type: "RegularExpression", service: "(a|bc){300}", method: "(a|bc){300}" } }], backendRefs }),
    ["spec.rules[0].matches[0].method"],
  ],
  [
    "a cookie's name",
    balanced({ consistentHash: { httpCookie: { name: "a b", ttl: "1s" } } }),
    ["spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name"],
  ],
  [
    "a cookie's path",
    balanced({ consistentHash: { httpCookie: { name: "a", path: "/;x", ttl: "1s" } } }),
    ["spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.path"],
  ],
  [
    "no parameter",
    balanced({ consistentHash: { httpQueryParameterName: "" } }),
    ["spec.trafficPolicy.loadBalancer.consistentHash.httpQueryParameterName"],
  ],
  [
    "an address that is none",
    entry({ hosts: ["a.example"], resolution: "STATIC", endpoints: [{ address: ":::::" }] }),
    ["spec.endpoints[0].address"],
  ],
  [
    "an address of one link",
    object("networking.istio.io/v1", "WorkloadEntry", { address: "fe80::1%eth0", serviceAccount: "x" }),
    ["spec.address"],
  ],
  ["a name of a Service", entry({ hosts: ["reviews.shop"], resolution: "DNS" }), ["spec.hosts[0]"]],
  ["a host of its own", entry({ hosts: ["a.example"], resolution: "DNS" }), []],
  ["a rate limit service that is not there", limited({ service: service("nobody"), rules: [question] }), []],
  [
    "one that would be asked about its own questions",
    limited({ service: service("reviews"), rules: [question] }),
    ["spec.service.backendRef"],
  ],
  [
    "limits of a route of a Gateway",
    limited({
      targetRefs: [{ group: "gateway.networking.k8s.io", kind: "HTTPRoute", name: "taken" }],
      service: service("reviews"),
      rules: [{ requests: 5, per: "1s", by: [{ type: "RemoteAddress" }] }, question],
    }),
    [],
  ],
];

describe("refused where it is written, or taken by proxies", () => {
  for (const [what, candidate, paths] of cases) test(what, () => expect(judge(candidate)).toEqual([...paths]));
});

test("a Service that comes after a ServiceEntry with one of its names has the name, and the entry is told", () => {
  const candidate = entry({ hosts: ["reviews.shop"], resolution: "DNS" });
  expect(violationsOf(candidate)).toEqual([]);
  taken([...mesh(), candidate]);
  const told = compileAll(buildWorld([...mesh(), candidate], "cluster.local")).statuses.find((each) => each.name === "t");
  expect(JSON.stringify(told)).toContain("reviews.shop (it is a name of Service shop/reviews)");
});
