// Judge: Envoy with the same configuration, made by our own compiler, answers as our proxy does. One Gateway with routes of every sort; each request goes to
// both, and what the client and the instance saw is compared. What differs stands in `differences`, with its reason; nothing else may.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseAllDocuments } from "yaml";
import { kindOf } from "../../src/api/kinds.ts";
import type { KubeObject } from "../../src/api/meta.ts";
import { buildWorld, compileAll } from "../../src/compile/compile.ts";
import { snapshotToJson } from "../../src/compile/decode.ts";
import { needsPeers } from "../support/peers.ts";
import { ProxyProcess } from "../support/proxy.ts";

type Json = Record<string, unknown>;

const ready = needsPeers("alike.test.ts", "envoy");

const objects = (ports: Readonly<Record<string, number>>) => `
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: shop}, spec: {gatewayClassName: weft, listeners: [{name: web, port: 80, protocol: HTTP}]}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: edge-1, namespace: shop, labels: {app: edge}, annotations: {weft.dev/gateway: edge}}, spec: {address: 127.0.0.1}}
${Object.entries(ports)
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

interface Ask {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

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

/** What the client saw, and in its body what the instance saw. */
interface Seen {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
}

/** Headers of answers that routes are about. */
const compared = /^(location|x-answer|x-instance|access-control-.*)$/;

/** Sends exactly this request line and Host; `fetch` would rewrite both. */
async function send(port: number, ask: Ask): Promise<Seen> {
  const lines = [
    `${ask.method} ${ask.path} HTTP/1.1`,
    `Host: ${ask.host}`,
    "Connection: close",
    ...Object.entries(ask.headers).map(([name, value]) => `${name}: ${value}`),
  ];
  if (ask.method === "POST" || ask.method === "PUT") lines.push("Content-Length: 0");
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let text = "";
  await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: (socket) => void socket.write(`${lines.join("\r\n")}\r\n\r\n`),
      data: (_socket, bytes) => {
        text += bytes.toString("latin1");
      },
      close: () => resolve(text),
      error: (_socket, error) => reject(error),
    },
  });
  const answer = await promise;
  const end = answer.indexOf("\r\n\r\n");
  const [first = "", ...fields] = answer.slice(0, end).split("\r\n");
  const headers = fields.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()] as const);
  const json = /\{.*\}/s.exec(answer.slice(end))?.[0];
  return {
    status: Number(first.split(" ")[1]),
    headers: Object.fromEntries(headers.filter(([name]) => compared.test(name)).sort()),
    body: json === undefined ? null : JSON.parse(json),
  };
}

/** What is different, and why that is right; each leaves out of both answers what it speaks of, and nothing else. */
const differences: readonly { readonly why: string; readonly without: (seen: Seen, ask: Ask) => Seen }[] = [
  {
    why: "Envoy tells instances the host before a rewrite in x-envoy-original-host, a header of its own; Gateway API asks for none",
    without: (seen) => {
      const body = seen.body as { headers?: [string, string][] } | null;
      if (body?.headers === undefined) return seen;
      return { ...seen, body: { ...body, headers: body.headers.filter(([name]) => name !== "x-envoy-original-host") } };
    },
  },
  {
    why: "Envoy says access-control-expose-headers in preflights too; the Fetch standard reads it in the answer proper only",
    without: (seen, ask) => (ask.method === "OPTIONS" ? { ...seen, headers: omit(seen.headers, ["access-control-expose-headers"]) } : seen),
  },
  {
    why: "to a preflight of an origin that may not, Envoy says methods and headers without the origin, which allows nothing; we say nothing",
    without: (seen, ask) =>
      ask.method === "OPTIONS" && seen.headers["access-control-allow-origin"] === undefined
        ? {
            ...seen,
            headers: omit(
              seen.headers,
              Object.keys(seen.headers).filter((name) => name.startsWith("access-control-")),
            ),
          }
        : seen,
  },
];

function omit(headers: Seen["headers"], names: readonly string[]): Seen["headers"] {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !names.includes(name)));
}

function told(seen: Seen, ask: Ask): Seen {
  return differences.reduce((left, { without }) => without(left, ask), seen);
}

function bootstrapOf(ports: Readonly<Record<string, number>>): string {
  const list = parseAllDocuments(objects(ports)).map((document) => document.toJS() as KubeObject);
  for (const object of list) {
    const kind = kindOf(object);
    kind?.applyDefaults(object);
    expect(kind?.validate(object)).toEqual([]);
  }
  const snapshot = compileAll(buildWorld(list, "cluster.local")).snapshots.get("shop/edge-1");
  if (snapshot === undefined) throw new Error("the gateway has no snapshot");
  const json = snapshotToJson(snapshot);
  const clusters = Object.values(json.cluster).map((cluster) => {
    const { eds_cluster_config: _eds, transport_socket_matches: _sockets, ...rest } = cluster as Json;
    return { ...rest, type: "STATIC", load_assignment: json.endpoint[String(rest.name)] };
  });
  const inlined = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(inlined);
    if (typeof value !== "object" || value === null) return value;
    const out: Json = {};
    for (const [key, child] of Object.entries(value)) {
      if (key === "access_log") continue;
      if (key === "rds")
        out.route_config = { ...json.route[(child as { route_config_name: string }).route_config_name], validate_clusters: false };
      else if (key === "port_value") out[key] = 0;
      else out[key] = inlined(child);
    }
    return out;
  };
  return JSON.stringify({
    node: { id: "gateway", cluster: "gateway" },
    admin: { address: { socket_address: { address: "127.0.0.1", port_value: 0 } } },
    static_resources: { listeners: Object.values(json.listener).map(inlined), clusters },
  });
}

describe.skipIf(!ready)("our proxy and Envoy with one configuration", () => {
  const instances: ReturnType<typeof Bun.serve>[] = [];
  let weft: ProxyProcess;
  let envoy: ProxyProcess;

  beforeAll(async () => {
    for (const instance of ["one", "two"])
      instances.push(
        Bun.serve({
          hostname: "127.0.0.1",
          port: 0,
          fetch: (request) => {
            const url = new URL(request.url);
            const own = [...request.headers]
              .filter(([name]) => /^(x-set|x-add|x-gone|x-backend|x-who|host|x-envoy-original-host)$/.test(name))
              .sort();
            return Response.json(
              { instance, method: request.method, path: `${url.pathname}${url.search}`, headers: own },
              { headers: { "x-instance": instance } },
            );
          },
        }),
      );
    const bootstrap = bootstrapOf({ one: instances[0]!.port!, two: instances[1]!.port! });
    [weft, envoy] = await Promise.all([ProxyProcess.start("weft", bootstrap), ProxyProcess.start("envoy", bootstrap)]);
  }, 30_000);

  afterAll(async () => {
    await Promise.all([weft?.stop(), envoy?.stop(), ...instances.map((each) => each.stop(true))]);
  }, 15_000);

  test("the table has more than a hundred requests", () => expect(asks.length).toBeGreaterThan(100));

  for (const ask of asks) {
    const words = `${ask.method} ${ask.host}${ask.path} ${JSON.stringify(ask.headers)}`;
    test(words, async () => {
      const [ours, theirs] = await Promise.all([send(weft.port("gateway|80"), ask), send(envoy.port("gateway|80"), ask)]);
      expect(told(ours, ask)).toEqual(told(theirs, ask));
    });
  }
});
