// Judge: Envoy with the same configuration, made by our own compiler of HTTPRoutes with ExternalAuth filters, asks the same authorization services the same
// things and makes the same of their answers. The services are others' too: @grpc/grpc-js with Envoy's proto files, and Node's HTTP server.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { loadPackageDefinition, Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { gatewayListener } from "../../src/wire/names.ts";
import { needsPeers } from "../support/peers.ts";
import { Alike, type Ask, type Difference, type Seen, told, words } from "./alike.ts";

const ready = needsPeers("alike-auth.test.ts", "envoy");

const differences: readonly Difference[] = [
  {
    why: "what is appended to a header we write as a line of its own, Envoy behind a comma: the same list (RFC 9110 5.2)",
    without: (seen) => edited(seen, "x-list", (value) => value.replaceAll(", ", ",")),
  },
  {
    why: "a gRPC service that a route names is told by Envoy only those headers that its filter in the listener would tell, an HTTP service's; by us all of them, as GEP-1494 wants",
    without: (seen) => edited(seen, "x-known", (value) => known({ ...JSON.parse(Buffer.from(value, "base64").toString()), ...ofClient })),
  },
  {
    why: "a refusal for want of an answer is said in our own words; Envoy says nothing",
    without: (seen, ask) => (/broken|slow|lies/.test(ask.path) ? { ...seen, body: null } : seen),
  },
  {
    why: "a service that wants a header changed which frames or addresses the message is not believed; Envoy passes over what it will not change",
    without: (seen, ask) => (ask.path.includes("lies") ? { ...seen, status: 0, headers: {}, attempts: 0 } : seen),
  },
];

/** What a service makes known of what it was told, for the instance to tell the client. */
function known(facts: Record<string, unknown>): string {
  return Buffer.from(JSON.stringify(facts)).toString("base64");
}

/** Headers of the client's that are no part of the necessary ones. */
const ofClient = { cookie: null, "x-tenant": null, "x-private": null };

const toldNames = ["authorization", "cookie", "x-tenant", "x-private", "x-envoy-auth-partial-body"];

let byHttp: HttpServer;
let byGrpc: Server;
let grpcPort = 0;

async function serveHttp(): Promise<HttpServer> {
  const made = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => {
      body += piece;
    });
    request.on("end", () => {
      const { method, url = "", headers } = request;
      if (url.includes("slow")) return;
      if (url.includes("broken")) {
        response.writeHead(503).end("not now");
        return;
      }
      if (url.includes("login")) {
        response.writeHead(302, { location: "https://login.example/", "x-answer": "yes" }).end();
        return;
      }
      if (url.includes("deny")) {
        response.writeHead(401, { "x-answer": "no", "x-more": "2", "content-type": "text/html" }).end("<p>no");
        return;
      }
      const facts = {
        method,
        url,
        host: headers.host,
        body,
        ...Object.fromEntries(toldNames.map((name) => [name, headers[name] ?? null])),
      };
      response.writeHead(200, { "x-known": known(facts), "x-user": "ann", "x-other": "never" }).end();
    });
  });
  await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
  return made;
}

interface Told {
  readonly attributes: {
    readonly request: {
      readonly http: Readonly<Record<"method" | "path" | "host" | "scheme" | "protocol" | "body", string>> & {
        readonly headers: Readonly<Record<string, string>>;
        readonly rawBody: Buffer;
      };
    };
  };
}
type Answer = Record<string, unknown>;

function judge({ attributes }: Told): Answer | null {
  const { method, path, host, scheme, protocol, headers, rawBody } = attributes.request.http;
  const option = (key: string, value: string, append = false) => ({ header: { key, value }, append: { value: append } });
  if (path.includes("slow")) return null;
  if (path.includes("lies")) return { status: { code: 0 }, okResponse: { headers: [option("host", "elsewhere.example")] } };
  if (path.includes("bare")) return { status: { code: 7 } };
  if (path.includes("deny"))
    return {
      status: { code: 16 },
      deniedResponse: {
        status: { code: "TooManyRequests" },
        headers: [option("retry-after", "7"), option("x-answer", "no")],
        body: "later",
      },
    };
  const facts = {
    method,
    path,
    host,
    scheme,
    protocol,
    body: rawBody.toString("latin1"),
    ...Object.fromEntries([...toldNames, ":method", ":path", ":authority"].map((name) => [name, headers[name] ?? null])),
  };
  return {
    status: { code: 0 },
    okResponse: {
      headers: [option("x-known", known(facts)), option("x-user", "ann"), option("x-list", "two", true)],
      headersToRemove: ["x-private"],
      responseHeadersToAdd: [option("x-answer", "seen"), option("x-more", "3", true)],
    },
  };
}

async function serveGrpc(): Promise<[Server, number]> {
  const deps = resolve(import.meta.dir, "../../node_modules/@grpc/grpc-js-xds/deps");
  const definition = loadSync(resolve(deps, "envoy-api/envoy/service/auth/v3/external_auth.proto"), {
    enums: String,
    longs: String,
    defaults: true,
    includeDirs: ["envoy-api", "googleapis", "protoc-gen-validate", "xds"].map((name) => resolve(deps, name)),
  });
  // biome-ignore lint/suspicious/noExplicitAny: what the loader makes has no type.
  const { envoy } = loadPackageDefinition(definition) as any;
  const made = new Server();
  made.addService(envoy.service.auth.v3.Authorization.service, {
    Check: (call: ServerUnaryCall<Told, Answer>, reply: sendUnaryData<Answer>) => {
      if (call.request.attributes.request.http.path.includes("broken")) {
        reply({ code: 13, details: "no" });
        return;
      }
      const answer = judge(call.request);
      if (answer !== null) reply(null, answer);
    },
  });
  const port = await new Promise<number>((done, fail) =>
    made.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? fail(error) : done(bound))),
  );
  return [made, port];
}

const service = (name: string, port: string, number: number, at: number): string => `---
{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: shop}, spec: {ports: [{name: ${port}, port: ${number}}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: ${name}, namespace: shop, labels: {kubernetes.io/service-name: ${name}}}, addressType: IPv4, ports: [{name: ${port}, port: ${at}}], endpoints: [{addresses: [127.0.0.1]}]}`;

const rule = (path: string, auth: string): string =>
  `{matches: [{path: {value: ${path}}}], filters: [{type: ExternalAuth, externalAuth: ${auth}}], backendRefs: [{name: app, port: 80}]}`;

const objects = (ports: Readonly<Record<string, number>>): string => `
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: shop}, spec: {gatewayClassName: weft, listeners: [{name: web, port: 8080, protocol: HTTP}]}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: edge-1, namespace: shop, labels: {app: edge}, annotations: {weft.dev/gateway: edge}}, spec: {address: 127.0.0.1}}
${service("app", "http", 80, ports.app ?? 0)}
${service("by-http", "http", 80, (byHttp.address() as AddressInfo).port)}
${service("by-grpc", "grpc", 9000, grpcPort)}
${service("dead", "grpc", 9000, ports.dead ?? 0)}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
    - ${rule("/http", "{protocol: HTTP, backendRef: {name: by-http, port: 80}, http: {path: /check, allowedResponseHeaders: [x-known, x-user]}}")}
    - ${rule("/body", "{protocol: HTTP, backendRef: {name: by-http, port: 80}, http: {allowedResponseHeaders: [x-known]}, forwardBody: {maxSize: 8}}")}
    - ${rule("/grpc", "{protocol: GRPC, backendRef: {name: by-grpc, port: 9000}, grpc: {}, forwardBody: {maxSize: 8}}")}
    - ${rule("/named", "{protocol: HTTP, backendRef: {name: by-http, port: 80}, http: {allowedHeaders: [cookie, X-Tenant], allowedResponseHeaders: [x-known]}}")}
    - ${rule("/dead", "{protocol: GRPC, backendRef: {name: dead, port: 9000}, grpc: {}}")}
    - ${rule("/nobody", "{protocol: GRPC, backendRef: {name: nobody, port: 9000}, grpc: {}}")}
    - {matches: [{path: {value: /old}}], filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: by-grpc, port: 9000}, grpc: {}}}, {type: RequestRedirect, requestRedirect: {statusCode: 308, path: {type: ReplaceFullPath, replaceFullPath: /new}}}]}
    - {matches: [{path: {value: /free}}], backendRefs: [{name: app, port: 80}]}
`;

const asks: Ask[] = [];
const add = (path: string, more: Partial<Ask> = {}): void =>
  void asks.push({
    method: "GET",
    host: "shop.example",
    path,
    headers: { "x-private": "p", "x-user": "mallory", "x-list": "one" },
    ...more,
  });

for (const base of ["/http", "/body", "/grpc"]) {
  for (const path of ["", "/a?b=c", "/deny", "/broken", "/a%20b"]) add(`${base}${path}`);
  add(`${base}/headers`, { headers: { authorization: "Bearer t", cookie: "a=b", "x-tenant": "t", "x-private": "p" } });
  for (const method of ["HEAD", "DELETE", "OPTIONS"]) add(`${base}/method`, { method });
  for (const sends of ["", "short", "12345678", "123456789", "x".repeat(5_000)]) add(`${base}/post`, { method: "POST", sends });
  add(`${base}/deny`, { method: "HEAD" });
  add(`${base}/deny`, { method: "POST", sends: "content" });
  add(`${base}/deny`, { text: true });
}
add("/http/login");
add("/named", { headers: { cookie: "a=b", "x-tenant": "t", "x-private": "p" } });
add("/grpc/bare", { text: true });
add("/grpc/lies");
add("/http/slow", { leastMs: 900 });
add("/grpc/slow", { leastMs: 900 });
add("/dead");
add("/dead", { method: "POST", sends: "content" });
add("/nobody");
add("/old");
add("/old/deny");
add("/free");
add("/nothing");

describe.if(ready)("external authorization", () => {
  let alike: Alike;
  beforeAll(async () => {
    byHttp = await serveHttp();
    [byGrpc, grpcPort] = await serveGrpc();
    alike = await Alike.start(["app"], objects, "shop/edge-1");
  }, 60_000);
  afterAll(async () => {
    await alike?.stop();
    byHttp?.closeAllConnections();
    byHttp?.close();
    byGrpc?.forceShutdown();
  }, 30_000);

  test(`is alike for ${asks.length} requests`, async () => {
    const found = await alike.all(gatewayListener(8080), asks);
    const wrong: unknown[] = [];
    let reached = 0;
    let refused = 0;
    for (const [n, [ours, theirs]] of found.entries()) {
      const ask = asks[n] as Ask;
      const [a, b] = [told(ours, ask, differences), told(theirs, ask, differences)];
      if (ours.attempts > 0) reached++;
      if (ours.status === 401 || ours.status === 403 || ours.status === 429) refused++;
      if (!Bun.deepEquals(a, b)) wrong.push([words(ask), opened(a), opened(b)]);
    }
    expect(wrong).toEqual([]);
    // Neither everything passes nor nothing does.
    expect([reached > 20, refused > 15]).toEqual([true, true]);
  }, 60_000);

  test("a service that lies about the message is not believed", async () => {
    const [ours] = await alike.both(gatewayListener(8080), { method: "GET", host: "shop.example", path: "/grpc/lies", headers: {} });
    expect([ours.status, ours.attempts]).toEqual([403, 0]);
  }, 30_000);
});

/** One of the headers that the instance saw, otherwise. */
function edited(seen: Seen, name: string, edit: (value: string) => string): Seen {
  const body = seen.body as { headers?: [string, string][] } | null;
  if (body?.headers === undefined) return seen;
  return { ...seen, body: { ...body, headers: body.headers.map(([key, value]) => [key, key === name ? edit(value) : value]) } };
}

/** What the service made known, readable. */
function opened(seen: ReturnType<typeof told>): unknown {
  return JSON.parse(
    JSON.stringify(seen, (_key, value: unknown) =>
      Array.isArray(value) && value[0] === "x-known" ? ["x-known", Buffer.from(String(value[1]), "base64").toString()] : value,
    ),
  );
}
