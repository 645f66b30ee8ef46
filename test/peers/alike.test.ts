// Judge: Envoy with the same configuration, made by our own compiler, answers as our proxy does. One Gateway with routes of every sort; each request goes to
// both, and what the client and the instance saw is compared. What differs stands in `differences`, with its reason; nothing else may.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { needsPeers } from "../support/peers.ts";
import { Alike, type Ask, ofCors, type Seen, told, words } from "./alike.ts";

const ready = needsPeers("alike.test.ts", "envoy");

const objects = (ports: Readonly<Record<string, number>>) => `
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: shop}, spec: {gatewayClassName: weft, listeners: [{name: web, port: 80, protocol: HTTP}]}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: edge-1, namespace: shop, labels: {app: edge}, annotations: {weft.dev/gateway: edge}}, spec: {address: 127.0.0.1}}
${Object.entries(ports)
  .filter(([name]) => name !== "dead")
  .map(
    ([name, port]) => `---
{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: shop}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: ${name}, namespace: shop, labels: {kubernetes.io/service-name: ${name}}}, addressType: IPv4, endpoints: [{addresses: [127.0.0.1]}], ports: [{name: http, port: ${port}}]}`,
  )
  .join("\n")}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  hostnames: [a.example.com, "*.wild.example.com"]
  rules:
    - {matches: [{path: {type: Exact, value: /exact}}], backendRefs: [{name: one, port: 80}]}
    - {matches: [{path: {value: /prefix}}], backendRefs: [{name: two, port: 80}]}
    - {matches: [{path: {value: /prefix/longer}}], backendRefs: [{name: one, port: 80}]}
    - {matches: [{path: {type: RegularExpression, value: "/re/[0-9]+(/x)?"}}], backendRefs: [{name: one, port: 80}]}
    - {matches: [{path: {value: /by}, method: POST}], backendRefs: [{name: one, port: 80}]}
    - {matches: [{path: {value: /by}, headers: [{name: X-Who, value: ann}]}], backendRefs: [{name: two, port: 80}]}
    - {matches: [{path: {value: /by}, headers: [{name: X-Who, type: RegularExpression, value: "b.*"}]}], backendRefs: [{name: one, port: 80}]}
    - {matches: [{path: {value: /by}, queryParams: [{name: v, value: "2"}]}], backendRefs: [{name: two, port: 80}]}
    - matches: [{path: {value: /edit}}]
      filters:
        - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: new}], add: [{name: x-add, value: more}], remove: [x-gone]}}
        - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-answer, value: 50%}], remove: [x-instance]}}
      backendRefs: [{name: one, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-backend, value: one}]}}]}]
    - {matches: [{path: {value: /swap}}], filters: [{type: URLRewrite, urlRewrite: {hostname: inner.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}], backendRefs: [{name: one, port: 80}]}
    - {matches: [{path: {value: /strip}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}], backendRefs: [{name: one, port: 80}]}
    - {matches: [{path: {value: /whole}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /all}}}], backendRefs: [{name: one, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: rest, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  hostnames: [a.example.com]
  rules:
    - {matches: [{path: {value: /r301}}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301, scheme: https}}]}
    - {matches: [{path: {value: /r303}}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 303, hostname: b.example.com, path: {type: ReplaceFullPath, replaceFullPath: /there}}}]}
    - {matches: [{path: {value: /r307}}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 307, port: 8080}}]}
    - {matches: [{path: {value: /r308}}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 308, path: {type: ReplacePrefixMatch, replacePrefixMatch: /moved}}}]}
    - {matches: [{path: {value: /none}}]}
    - {matches: [{path: {value: /gone}}], backendRefs: [{name: gone, port: 80}]}
    - {matches: [{path: {value: /cors}}], filters: [{type: CORS, cors: {allowOrigins: ["https://*.example.org", "https://exact.example"], allowMethods: [GET, PUT], allowHeaders: [x-a], exposeHeaders: [x-b], maxAge: 60, allowCredentials: true}}], backendRefs: [{name: one, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: any, namespace: shop}
spec: {parentRefs: [{name: edge}], hostnames: ["*.wild.example.com"], rules: [{matches: [{path: {value: /wild}}], backendRefs: [{name: two, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: shop}
spec: {parentRefs: [{name: edge}], hostnames: [grpc.example.com], rules: [{matches: [{method: {service: shop.v1.Cart, method: Add}}], backendRefs: [{name: one, port: 80}]}, {matches: [{method: {service: shop.v1.Cart}}, {method: {method: Ping}}], backendRefs: [{name: two, port: 80}]}]}
`;

const paths = [
  ...[
    "/exact",
    "/exact/",
    "/exact?a=b",
    "/prefix",
    "/prefix/",
    "/prefix/a",
    "/prefixes",
    "/prefix/longer",
    "/prefix/longer/x",
    "/prefix/longest",
  ],
  ...["/re/1", "/re/12/x", "/re/x", "/re/1/y", "/by", "/by/more", "/by?v=2", "/by?v=3", "/by?w=1&v=2", "/edit", "/edit/x?y"],
  ...["/swap", "/swap/a", "/swap/a?q=1", "/swapped", "/strip", "/strip/", "/strip/a/b", "/whole", "/whole/a?q=1"],
  ...[
    "/r301",
    "/r301/x?y=z",
    "/r303",
    "/r303/x?y=z",
    "/r307",
    "/r307/x",
    "/r308",
    "/r308/x?y=z",
    "/none",
    "/gone",
    "/",
    "/nowhere",
    "/wild",
    "/wild/x",
  ],
];

const asks: Ask[] = [];
for (const path of paths) {
  const base = { host: "a.example.com", path };
  asks.push(
    { ...base, method: "GET", headers: {} },
    { ...base, method: "POST", headers: { "x-who": "bob", "x-gone": "1", "x-add": "first" } },
  );
  if (path.startsWith("/by"))
    asks.push({ ...base, method: "GET", headers: { "x-who": "ann" } }, { ...base, method: "PUT", headers: { "x-who": "cy" } });
}
for (const host of [
  "x.wild.example.com",
  "x.y.wild.example.com",
  "wild.example.com",
  "b.example.com",
  "A.EXAMPLE.COM",
  "a.example.com:8080",
])
  for (const path of ["/exact", "/wild", "/nowhere"]) asks.push({ method: "GET", host, path, headers: {} });
for (const path of ["/shop.v1.Cart/Add", "/shop.v1.Cart/Remove", "/other.Service/Ping", "/other.Service/Pong", "/shop.v1.CartX/Add"])
  asks.push({ method: "POST", host: "grpc.example.com", path, headers: { te: "trailers" } });
for (const origin of [
  "https://a.example.org",
  "https://a.b.example.org",
  "https://exact.example",
  "https://evil.example",
  "http://a.example.org",
])
  for (const more of [{}, { "access-control-request-method": "PUT" }])
    asks.push({
      method: "access-control-request-method" in more ? "OPTIONS" : "GET",
      host: "a.example.com",
      path: "/cors",
      headers: { origin, ...more },
    });

describe.skipIf(!ready)("our proxy and Envoy with one configuration of Gateway API", () => {
  let alike: Alike;
  let seen: (readonly [Seen, Seen])[] = [];

  beforeAll(async () => {
    alike = await Alike.start(["one", "two"], objects, "shop/edge-1");
    seen = await alike.all("gateway|80", asks);
  }, 60_000);

  afterAll(async () => {
    await alike?.stop();
  }, 15_000);

  for (const [n, ask] of asks.entries())
    test(words(ask), () => {
      const [ours, theirs] = seen[n] as readonly [Seen, Seen];
      expect(told(ours, ask, ofCors)).toEqual(told(theirs, ask, ofCors));
    });
});
