// External authorization through a whole engine: a service of another gRPC library with Envoy's own proto files, and one that speaks HTTP. What each is
// told, what its answers do, and that nothing passes by a failure, a time-out or a lie.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import {
  Client,
  credentials,
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { AuthService, ExtAuthzConfig, ExtAuthzFilter, ExtAuthzRoute, RouteStages } from "../config.ts";
import { cluster, endpoint, forward, hop, RawPeer, type Running, route, start, table, until } from "../testing/fixture.ts";

interface Checked {
  readonly attributes: {
    readonly source: { readonly address: { readonly socketAddress: { readonly address: string } } };
    readonly request: {
      readonly http: Readonly<Record<"method" | "path" | "host" | "scheme" | "protocol" | "body", string>> & {
        readonly headers: Readonly<Record<string, string>>;
        readonly rawBody: Buffer;
        readonly size: string;
      };
    };
    readonly contextExtensions: Readonly<Record<string, string>>;
  };
}
type Answer = Record<string, unknown>;

const deps = resolve(import.meta.dir, "../../../node_modules/@grpc/grpc-js-xds/deps");
const definition = loadSync(resolve(deps, "envoy-api/envoy/service/auth/v3/external_auth.proto"), {
  enums: String,
  longs: String,
  defaults: true,
  includeDirs: ["envoy-api", "googleapis", "protoc-gen-validate", "xds"].map((name) => resolve(deps, name)),
});
const asked: Checked[] = [];
const yes: Answer = { status: { code: 0 } };
let respond: (request: Checked) => Answer | null | Error = () => yes;
let server: Server;
let port = 0;

beforeAll(async () => {
  // biome-ignore lint/suspicious/noExplicitAny: what the loader makes has no type.
  const { envoy } = loadPackageDefinition(definition) as any;
  server = new Server();
  server.addService(envoy.service.auth.v3.Authorization.service, {
    Check: (call: ServerUnaryCall<Checked, Answer>, reply: sendUnaryData<Answer>) => {
      asked.push(call.request);
      const answer = respond(call.request);
      if (answer instanceof Error) reply(answer);
      else if (answer !== null) reply(null, answer);
    },
  });
  port = await new Promise<number>((done, fail) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? fail(error) : done(bound))),
  );
});
afterAll(() => server.forceShutdown());

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0).reverse()) stop();
  asked.length = 0;
  respond = () => yes;
});

interface Seen {
  readonly line: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

async function web(serve: (request: IncomingMessage, response: ServerResponse) => void): Promise<{ port: number; seen: Seen[] }> {
  const seen: Seen[] = [];
  const made = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => {
      body += piece;
    });
    request.on("end", () => {
      seen.push({ line: `${request.method} ${request.url}`, headers: request.headers, body });
      serve(request, response);
    });
  });
  await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
  stops.push(() => {
    made.closeAllConnections();
    made.close();
  });
  return { port: (made.address() as AddressInfo).port, seen };
}

const byGrpc: AuthService = { kind: "grpc", cluster: "auth", authority: "", metadata: [{ name: "x-meta", value: "m" }], timeoutMs: 5_000 };
const filter: ExtAuthzFilter = {
  service: byGrpc,
  allowed: null,
  disallowed: [],
  body: null,
  failureAllow: false,
  failureHeader: false,
  statusOnError: 403,
  enabled: 1,
};

interface Made {
  readonly running: Running;
  readonly app: { readonly seen: Seen[] };
  ask(init?: RequestInit, path?: string): Promise<Response>;
}

async function run(
  more: Partial<ExtAuthzFilter> = {},
  options: {
    off?: boolean;
    route?: RouteStages;
    authPort?: number;
    protocol?: "http1" | "http2";
    endpoints?: false;
    maxRequests?: number;
  } = {},
): Promise<Made> {
  const app = await web((_request, response) => void response.writeHead(200, { "x-app": "own", "x-both": "app" }).end("from the app"));
  const limits = { maxConnections: 100, maxPending: 100, maxRequests: options.maxRequests ?? 100, maxRetries: 3 };
  const clusters = [
    cluster("app", [endpoint(app.port)]),
    cluster("auth", options.endpoints === false ? [] : [endpoint(options.authPort ?? port)], {
      protocol: options.protocol ?? "http2",
      limits,
    }),
  ];
  const config: ExtAuthzConfig = { filter: { ...filter, ...more }, off: options.off ?? false, route: null };
  const routes = [route(forward("app"), { name: "the-route", ...(options.route === undefined ? {} : { stages: options.route }) })];
  const running = start(hop(clusters, table([{ name: "all", domains: ["*"], routes }]), { stages: { extAuthz: config } }));
  stops.push(() => running.engine.close());
  return {
    running,
    app,
    ask: (init = {}, path = "/a/b?c=d") => fetch(`http://127.0.0.1:${running.port()}${path}`, { redirect: "manual", ...init }),
  };
}

const count = ({ running }: Made, result: string): number => running.count("weft_external_auth_requests_total", result);
const error = (code: number): Error => Object.assign(new Error("no"), { code });

describe("by gRPC", () => {
  test("a service is told the request, and what it says yes to goes on as it says", async () => {
    respond = () => ({
      status: { code: 0 },
      okResponse: {
        headers: [
          { header: { key: "X-User", value: "ann" } },
          { header: { key: "x-list", value: "two" }, append: { value: true } },
          { header: { key: "x-there", value: "no" }, appendAction: "ADD_IF_ABSENT" },
          { header: { key: "x-new", value: "yes" }, appendAction: "ADD_IF_ABSENT" },
          { header: { key: "x-nowhere", value: "no" }, appendAction: "OVERWRITE_IF_EXISTS" },
        ],
        headersToRemove: ["x-secret", "X-Nothing"],
        responseHeadersToAdd: [
          { header: { key: "x-app", value: "replaced" } },
          { header: { key: "x-both", value: "auth" }, append: { value: true } },
        ],
      },
    });
    const made = await run();
    const answer = await made.ask({
      method: "POST",
      body: "hello",
      headers: { "x-user": "mallory", "x-list": "one", "x-there": "kept", "x-secret": "s", "x-plain": "p" },
    });
    expect([answer.status, await answer.text()]).toEqual([200, "from the app"]);
    expect([answer.headers.get("x-app"), answer.headers.get("x-both")]).toEqual(["replaced", "app, auth"]);
    const [told] = asked;
    expect(told?.attributes.request.http).toMatchObject({
      method: "POST",
      path: "/a/b?c=d",
      scheme: "http",
      protocol: "HTTP/1.1",
      body: "",
    });
    expect(told?.attributes.request.http.headers).toMatchObject({
      "x-user": "mallory",
      "x-plain": "p",
      ":method": "POST",
      ":path": "/a/b?c=d",
    });
    expect(told?.attributes.request.http.headers["content-length"]).toBeUndefined();
    expect(told?.attributes.source.address.socketAddress.address).toBe("127.0.0.1");
    const [seen] = made.app.seen;
    expect([seen?.line, seen?.body]).toEqual(["POST /a/b?c=d", "hello"]);
    expect(seen?.headers).toMatchObject({ "x-user": "ann", "x-list": "one, two", "x-there": "kept", "x-new": "yes", "x-plain": "p" });
    expect([seen?.headers["x-secret"], seen?.headers["x-nowhere"]]).toEqual([undefined, undefined]);
    expect([count(made, "ok"), count(made, "denied")]).toEqual([1, 0]);
  });

  test("a refusal is the service's own answer, and nothing reaches the application", async () => {
    respond = () => ({
      status: { code: 7 },
      deniedResponse: {
        status: { code: "Unauthorized" },
        headers: [{ header: { key: "www-authenticate", value: "Bearer" } }],
        body: "who are you?",
      },
    });
    const made = await run();
    const answer = await made.ask();
    expect([answer.status, await answer.text(), answer.headers.get("www-authenticate")]).toEqual([401, "who are you?", "Bearer"]);
    respond = () => ({ status: { code: 16 } });
    const bare = await made.ask({ method: "HEAD" });
    expect([bare.status, await bare.text()]).toEqual([403, ""]);
    expect([made.app.seen.length, count(made, "denied")]).toEqual([0, 2]);
  });

  test("every failure refuses, whatever it is, unless told otherwise", async () => {
    const failures: readonly (readonly [what: string, respond: () => Answer | null | Error, options?: Parameters<typeof run>[1]])[] = [
      ["an error", () => error(13)],
      ["no method", () => error(12)],
      ["no instance", () => yes, { endpoints: false }],
      ["no connection", () => yes, { authPort: 1 }],
      ["the wrong protocol", () => yes, { protocol: "http1" }],
      ["no room", () => yes, { maxRequests: 0 }],
      ["a header of the proxy's", () => ({ status: { code: 0 }, okResponse: { headers: [{ header: { key: "host", value: "x" } }] } })],
      ["a path", () => ({ status: { code: 0 }, okResponse: { headers: [{ header: { key: ":path", value: "/x" } }] } })],
      ["two lines", () => ({ status: { code: 0 }, okResponse: { headers: [{ header: { key: "a", value: "b\r\nc: d" } }] } })],
      ["query parameters", () => ({ status: { code: 0 }, okResponse: { queryParametersToSet: [{ key: "a", value: "b" }] } })],
      ["too much", () => ({ status: { code: 7 }, deniedResponse: { body: "x".repeat(40_000) } })],
      [
        "more than a head may have",
        () => ({
          status: { code: 0 },
          okResponse: { headers: Array(31).fill({ header: { key: "more", value: "x".repeat(1_000) }, append: { value: true } }) },
        }),
      ],
    ];
    for (const [what, answers, options] of failures) {
      respond = answers;
      const strict = await run({ statusOnError: 503 }, options);
      const refused = await strict.ask({
        headers: { filler: "f".repeat(what === "more than a head may have" ? 15_500 : 1), more: "g".repeat(15_500) },
      });
      expect([what, refused.status, refused.headers.get("x-weft-reason")?.slice(0, 4)]).toEqual([what, 503, "UAEX"]);
      expect([what, strict.app.seen.length, count(strict, "error_denied")]).toEqual([what, 0, 1]);
    }
    respond = () => error(14);
    const open = await run({ failureAllow: true, failureHeader: true });
    expect((await open.ask()).status).toBe(200);
    expect(open.app.seen[0]?.headers["x-envoy-auth-failure-mode-allowed"]).toBe("true");
    expect(count(open, "error_allowed")).toBe(1);
  });

  test("a service that hangs costs its time-out and no more; a client that leaves ends the call", async () => {
    respond = () => null;
    const made = await run({ service: { ...byGrpc, timeoutMs: 100 } });
    const began = performance.now();
    expect((await made.ask()).status).toBe(403);
    expect(performance.now() - began).toBeLessThan(3_000);
    const patient = await run();
    const peer = await RawPeer.connect(patient.running.port());
    peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => asked.length === 2, "the question");
    peer.close();
    await until(() => patient.running.engine.stats().activeRequests === 0, "the end of the request");
    expect(patient.app.seen.length).toBe(0);
  });

  test("pipelined requests are each judged alone", async () => {
    respond = ({ attributes }) => (attributes.request.http.path === "/no" ? { status: { code: 7 } } : yes);
    const made = await run();
    const peer = await RawPeer.connect(made.running.port());
    const said = await peer.ask(
      "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
      3,
    );
    expect(said.match(/HTTP\/1.1 \d+/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 403", "HTTP/1.1 200"]);
    expect(made.app.seen.map(({ line }) => line)).toEqual(["GET /1", "GET /2"]);
    peer.close();
  });

  test("the path that is judged is the one that is forwarded", async () => {
    const made = await run();
    await made.ask({}, "/public/%2e%2e/admin");
    const peer = await RawPeer.connect(made.running.port());
    await peer.ask("GET /public/../admin HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.close();
    expect(asked.map(({ attributes }) => attributes.request.http.path)).toEqual(["/admin", "/admin"]);
    expect(made.app.seen.map(({ line }) => line)).toEqual(["GET /admin", "GET /admin"]);
  });

  test("headers are told by name", async () => {
    const made = await run({
      allowed: [{ kind: "prefix", value: "x-", ignoreCase: true }],
      disallowed: [{ kind: "exact", value: "x-hidden", ignoreCase: true }],
    });
    await made.ask({ headers: { "X-Told": "1", "x-hidden": "2", other: "3" } });
    const headers = asked[0]?.attributes.request.http.headers ?? {};
    expect([headers["x-told"], headers["x-hidden"], headers.other, headers[":path"]]).toEqual(["1", undefined, undefined, undefined]);
  });
});

describe("the body", () => {
  const sizes = { maxBytes: 10, partial: false, asBytes: false };

  test("is told whole, and goes on whole, however it came", async () => {
    const made = await run({ body: sizes });
    expect((await made.ask({ method: "POST", body: "123456789" })).status).toBe(200);
    const peer = await RawPeer.connect(made.running.port());
    peer.send("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n");
    await Bun.sleep(10);
    expect(asked.length).toBe(1);
    await peer.ask("2\r\no!\r\n0\r\n\r\n");
    peer.close();
    expect(
      asked.map(({ attributes }) => [attributes.request.http.body, attributes.request.http.headers["x-envoy-auth-partial-body"]]),
    ).toEqual([
      ["123456789", "false"],
      ["hello!", "false"],
    ]);
    expect(made.app.seen.map(({ body }) => body)).toEqual(["123456789", "hello!"]);
  });

  test("is asked for where the client waits", async () => {
    const made = await run({ body: sizes });
    const peer = await RawPeer.connect(made.running.port());
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    await until(() => peer.text.includes("100 Continue"), "the invitation");
    expect(asked.length).toBe(0);
    peer.send("ok");
    await until(() => peer.text.includes("from the app"), "the answer");
    expect([asked[0]?.attributes.request.http.body, made.app.seen[0]?.body]).toEqual(["ok", "ok"]);
    peer.close();
  });

  test("beyond the limit is refused, announced or not", async () => {
    const made = await run({ body: sizes });
    expect((await made.ask({ method: "POST", body: "12345678901" })).status).toBe(413);
    const peer = await RawPeer.connect(made.running.port());
    expect(await peer.ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n")).toStartWith(
      "HTTP/1.1 413",
    );
    peer.close();
    expect([asked.length, made.app.seen.length]).toEqual([0, 0]);
  });

  test("beyond the limit is told in part, where that is allowed, and goes on whole", async () => {
    const made = await run({ body: { ...sizes, partial: true, asBytes: true } });
    const long = "abcdefghij".repeat(20_000);
    expect((await made.ask({ method: "POST", body: long })).status).toBe(200);
    expect((await made.ask({ method: "POST", body: "short" })).status).toBe(200);
    expect(
      asked.map(({ attributes }) => [
        attributes.request.http.rawBody.toString(),
        attributes.request.http.headers["x-envoy-auth-partial-body"],
      ]),
    ).toEqual([
      ["abcdefghij", "true"],
      ["short", "false"],
    ]);
    expect(made.app.seen.map(({ body }) => body.length)).toEqual([long.length, 5]);
  });

  test("larger than any window comes whole", async () => {
    const made = await run({ body: { maxBytes: 500_000, partial: false, asBytes: true } });
    const long = Buffer.alloc(300_000, "x");
    expect((await made.ask({ method: "POST", body: long })).status).toBe(200);
    expect([asked[0]?.attributes.request.http.rawBody.length, made.app.seen[0]?.body.length]).toEqual([300_000, 300_000]);
  });
});

describe("routes", () => {
  const of = (more: Partial<ExtAuthzRoute>): RouteStages => ({
    extAuthz: { filter: null, off: false, route: { context: {}, body: undefined, service: null, ...more } },
  });

  test("switch it off, or on where the chain has it off, and add to what is told", async () => {
    respond = () => ({ status: { code: 7 } });
    const off = await run({}, { route: { extAuthz: "off" } });
    expect([(await off.ask()).status, asked.length]).toEqual([200, 0]);
    const idle = await run({}, { off: true });
    expect([(await idle.ask()).status, asked.length]).toEqual([200, 0]);
    const on = await run({}, { off: true, route: of({ context: { tenant: "shop" } }) });
    expect((await on.ask()).status).toBe(403);
    expect(asked[0]?.attributes.contextExtensions).toEqual({ tenant: "shop" });
  });

  test("are refused where their listener has lost the filter", async () => {
    const app = await web((_request, response) => void response.writeHead(200).end());
    const routes = [route(forward("app"), { stages: of({ context: {} }) })];
    const clusters = [cluster("app", [endpoint(app.port)])];
    const running = start(hop(clusters, table([{ name: "all", domains: ["*"], routes }]), { stages: { cors: null } }));
    stops.push(() => running.engine.close());
    expect([(await fetch(`http://127.0.0.1:${running.port()}/`)).status, app.seen.length]).toEqual([403, 0]);
  });

  test("name a service of their own", async () => {
    const other = await web((_request, response) => void response.writeHead(418).end());
    const service: AuthService = {
      kind: "http",
      cluster: "auth",
      timeoutMs: 5_000,
      pathPrefix: "",
      addHeaders: [],
      allowed: [],
      upstreamSet: [],
      upstreamAppend: [],
      client: null,
      clientOnSuccess: [],
    };
    const made = await run(
      { service: { ...byGrpc, cluster: "nowhere" } },
      { off: true, route: of({ service }), authPort: other.port, protocol: "http1" },
    );
    expect((await made.ask()).status).toBe(418);
  });
});

describe("calls of gRPC", () => {
  const same = (bytes: Buffer): Buffer => bytes;
  const coding = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same } as const;

  async function calls(body: ExtAuthzFilter["body"]) {
    const app = new Server();
    const seen: string[] = [];
    app.addService(
      { Say: { path: "/t.Echo/Say", requestStream: false, responseStream: false, ...coding } },
      {
        Say: (call: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>) => {
          seen.push(`${call.request} ${call.metadata.get("x-user").join()}`);
          reply(null, Buffer.from(`said ${call.request}`));
        },
      },
    );
    const appPort = await new Promise<number>((done, fail) =>
      app.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? fail(error) : done(bound))),
    );
    const clusters = [cluster("app", [endpoint(appPort)], { protocol: "http2" }), cluster("auth", [endpoint(port)], { protocol: "http2" })];
    const routes = [route(forward("app"))];
    const config: ExtAuthzConfig = { filter: { ...filter, body }, off: false, route: null };
    const running = start(hop(clusters, table([{ name: "all", domains: ["*"], routes }]), { stages: { extAuthz: config } }));
    const client = new Client(`127.0.0.1:${running.port()}`, credentials.createInsecure());
    stops.push(
      () => running.engine.close(),
      () => app.forceShutdown(),
      () => client.close(),
    );
    const say = (words: string) =>
      new Promise<string>((done) =>
        client.makeUnaryRequest("/t.Echo/Say", same, same, Buffer.from(words), (error, answer) =>
          done(error === null ? String(answer) : `${error.code} ${error.details}`),
        ),
      );
    return { say, seen };
  }

  for (const body of [null, { maxBytes: 100_000, partial: false, asBytes: true }])
    test(`are refused by a status, and pass with what the service adds${body === null ? "" : ", their messages told"}`, async () => {
      respond = () => ({ status: { code: 0 }, okResponse: { headers: [{ header: { key: "x-user", value: "ann" } }] } });
      const { say, seen } = await calls(body);
      expect(await say("hello")).toBe("said hello");
      const long = "x".repeat(90_000);
      expect(await say(long)).toBe(`said ${long}`);
      respond = () => ({ status: { code: 7 }, deniedResponse: { status: { code: "Unauthorized" }, body: "who are you?" } });
      expect(await say("again")).toBe("16 who are you?");
      respond = () => error(13);
      expect((await say("again")).slice(0, 4)).toBe("7 th");
      expect(seen.map((each) => each.slice(-10))).toEqual(["hello ann", "xxxxxx ann"]);
      expect(asked[0]?.attributes.request.http).toMatchObject({ method: "POST", path: "/t.Echo/Say", protocol: "HTTP/2" });
      if (body !== null) expect(asked.map(({ attributes }) => attributes.request.http.rawBody.length)).toEqual([10, 90_005, 10, 10]);
    });
});

describe("by HTTP", () => {
  const service: AuthService = {
    kind: "http",
    cluster: "auth",
    timeoutMs: 5_000,
    pathPrefix: "/check",
    addHeaders: [{ name: "x-added", value: "yes" }],
    allowed: [{ kind: "exact", value: "cookie", ignoreCase: true }],
    upstreamSet: [{ kind: "exact", value: "x-user", ignoreCase: true }],
    upstreamAppend: [{ kind: "exact", value: "x-group", ignoreCase: true }],
    client: [{ kind: "exact", value: "x-why", ignoreCase: true }],
    clientOnSuccess: [{ kind: "exact", value: "x-session", ignoreCase: true }],
  };

  async function asking(serve: (request: IncomingMessage, response: ServerResponse) => void, more: Partial<ExtAuthzFilter> = {}) {
    const auth = await web(serve);
    return { auth, made: await run({ service, ...more }, { authPort: auth.port, protocol: "http1" }) };
  }

  test("the service sees method, host, path and the headers it may, and 200 lets pass with what it brings", async () => {
    const { auth, made } = await asking(
      (_request, response) =>
        void response.writeHead(200, { "x-user": "ann", "x-group": "admin", "x-session": "s1", "x-other": "no" }).end(),
    );
    const answer = await made.ask({
      method: "PUT",
      body: "content",
      headers: { authorization: "Bearer t", cookie: "a=b", "x-user": "mallory", "x-group": "guests", "x-private": "p" },
    });
    expect([answer.status, answer.headers.get("x-session"), answer.headers.get("x-other")]).toEqual([200, "s1", null]);
    expect(auth.seen[0]).toMatchObject({ line: "PUT /check/a/b?c=d", body: "" });
    expect(auth.seen[0]?.headers).toMatchObject({
      authorization: "Bearer t",
      cookie: "a=b",
      "x-added": "yes",
      host: `127.0.0.1:${made.running.port()}`,
    });
    expect(auth.seen[0]?.headers["x-private"]).toBeUndefined();
    expect(made.app.seen[0]?.headers).toMatchObject({ "x-user": "ann", "x-group": "guests, admin", "x-private": "p" });
    expect([made.app.seen[0]?.body, made.app.seen[0]?.headers["x-other"]]).toEqual(["content", undefined]);
  });

  test("anything else refuses, with what the client may see; 5xx is an error", async () => {
    let status = 302;
    const { made } = await asking(
      (_request, response) =>
        void response.writeHead(status, { location: "https://login.example/", "x-why": "expired", "x-internal": "secret" }).end("go there"),
    );
    const answer = await made.ask();
    expect([
      answer.status,
      answer.headers.get("location"),
      answer.headers.get("x-why"),
      answer.headers.get("x-internal"),
      await answer.text(),
    ]).toEqual([302, "https://login.example/", "expired", null, "go there"]);
    status = 500;
    const failed = await made.ask();
    expect([failed.status, failed.headers.get("x-weft-reason")?.slice(0, 4), failed.headers.get("x-why")]).toEqual([403, "UAEX", null]);
    expect([made.app.seen.length, count(made, "denied"), count(made, "error_denied")]).toEqual([0, 1, 1]);
  });

  test("the body and HEAD", async () => {
    const { auth, made } = await asking((_request, response) => void response.writeHead(200, { "content-length": "5" }).end("12345"), {
      body: { maxBytes: 4, partial: true, asBytes: false },
    });
    expect((await made.ask({ method: "HEAD" })).status).toBe(200);
    expect((await made.ask({ method: "POST", body: "123456" })).status).toBe(200);
    expect(auth.seen.map(({ line, body, headers }) => [line, body, headers["x-envoy-auth-partial-body"]])).toEqual([
      ["HEAD /check/a/b?c=d", "", undefined],
      ["POST /check/a/b?c=d", "1234", "true"],
    ]);
  });
});
