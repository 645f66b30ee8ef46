// Mirrors, CORS and faults through a whole engine: what each client and each instance sees, what is counted, and that one never harms the other.

import { afterEach, expect, test } from "bun:test";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { connect, createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import type { CorsConfig, FaultConfig, ForwardAction, HttpManagerConfig, RouteStages } from "../config.ts";
import { cluster, endpoint, forward, hop, RawPeer, type Running, rawOrigin, route, start, table, until } from "../testing/fixture.ts";
import { mostMirrors } from "./mirror.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0).reverse()) stop();
});

interface Seen {
  readonly line: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

async function origin(body = "ok", headers: Record<string, string> = {}): Promise<{ port: number; seen: Seen[] }> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (piece) => {
      text += piece;
    });
    request.on("end", () => {
      seen.push({ line: `${request.method} ${request.url}`, headers: request.headers, body: text });
      response.writeHead(200, headers).end(body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, seen };
}

function run(
  clusters: Parameters<typeof hop>[0],
  action: Partial<ForwardAction>,
  stages: RouteStages = {},
  manager: Partial<HttpManagerConfig> = { stages: { cors: null, fault: null } },
): Running {
  const routes = [route(forward("app", action), { name: "the-route", stages })];
  const records = [{ sink: { kind: "file", path: "x", format: {} }, filter: null }] as const;
  const running = start(hop(clusters, table([{ name: "all", domains: ["*"], routes }]), { accessLogs: records, ...manager }));
  stops.push(() => running.engine.close());
  return running;
}

function ask(running: Running, init: RequestInit = {}, path = "/"): Promise<Response> {
  return fetch(`http://127.0.0.1:${running.port()}${path}`, { redirect: "manual", ...init });
}

// ---- mirrors -------------------------------------------------------------------------------------------------------------

test("a request goes to its cluster and, whole, to every mirror; the host of a copy says that it is one", async () => {
  const app = await origin("from the app");
  const first = await origin("x".repeat(100_000));
  const second = await origin("ignored");
  const running = run(
    [cluster("app", [endpoint(app.port)]), cluster("m1", [endpoint(first.port)]), cluster("m2", [endpoint(second.port)])],
    {
      mirrors: [
        { cluster: "m1", fraction: 1, shadowHost: true },
        { cluster: "m2", fraction: 1, shadowHost: false },
      ],
      prefixRewrite: "/q",
    },
  );
  const answer = await ask(running, { method: "POST", body: "the body", headers: { host: "reviews:80", "x-a": "1" } }, "/p?q");
  expect(await answer.text()).toBe("from the app");
  await until(() => running.count("weft_mirrored_requests_total", "answered") === 2, "both mirrors");
  for (const one of [app, first, second])
    expect([one.seen[0]?.line, one.seen[0]?.body, one.seen[0]?.headers["x-a"]]).toEqual(["POST /q/p?q", "the body", "1"]);
  expect([app, first, second].map((one) => one.seen[0]?.headers.host)).toEqual(["reviews:80", "reviews-shadow:80", "reviews:80"]);
  expect(app.seen[0]?.headers["x-request-id"]).toBe(first.seen[0]?.headers["x-request-id"] as string);
  // Connections are kept and used again.
  await (await ask(running)).text();
  await until(() => running.count("weft_mirrored_requests_total", "answered") === 4, "two more");
  expect(running.count("weft_mirrored_requests_active")).toBe(0);
});

test("the share of a mirror is drawn for each request", async () => {
  const app = await origin();
  const copy = await origin();
  const running = run([cluster("app", [endpoint(app.port)]), cluster("m", [endpoint(copy.port)])], {
    mirrors: [{ cluster: "m", fraction: 0.3, shadowHost: true }],
  });
  for (let n = 0; n < 200; n++) await (await ask(running)).arrayBuffer();
  await until(() => running.count("weft_mirrored_requests_total", "answered") === copy.seen.length);
  expect(copy.seen.length).toBeGreaterThan(30);
  expect(copy.seen.length).toBeLessThan(95);
});

test("a mirror that hangs, refuses or is full never slows or fails the request", async () => {
  const app = await origin();
  const hangs = rawOrigin(() => {});
  stops.push(() => hangs.stop());
  const running = run(
    [
      cluster("app", [endpoint(app.port)]),
      cluster("hangs", [endpoint(hangs.port)], { limits: { maxConnections: 1024, maxPending: 1, maxRequests: 5, maxRetries: 3 } }),
      cluster("narrow", [endpoint(hangs.port)], { limits: { maxConnections: 1, maxPending: 1, maxRequests: 100, maxRetries: 3 } }),
      cluster("single", [endpoint(hangs.port)], { endpointLimits: { maxConnections: 1024, maxRequests: 1, maxRetries: 3 } }),
      cluster("refuses", [endpoint(1)]),
      cluster("empty", []),
    ],
    {
      // A mirror that held a request up would cost each of the twenty as much.
      timeoutMs: 1_000,
      mirrors: ["hangs", "narrow", "single", "refuses", "empty", "nowhere"].map((name) => ({
        cluster: name,
        fraction: 1,
        shadowHost: true,
      })),
    },
  );
  const began = performance.now();
  for (let n = 0; n < 20; n++) expect((await ask(running, { method: "POST", body: `${n}` })).status).toBe(200);
  expect(performance.now() - began).toBeLessThan(8_000);
  const count = (outcome: string, name: string) => running.count("weft_mirrored_requests_total", outcome, name);
  expect(count("no_endpoint", "empty")).toBe(20);
  expect(count("no_cluster", "nowhere")).toBe(20);
  await until(() => count("failed", "refuses") === 20, "the refusals");
  await until(() => count("timeout", "hangs") >= 5, "the time-outs");
  expect(count("overflow", "hangs")).toBeGreaterThan(0);
  for (const name of ["hangs", "narrow", "single"]) await until(() => running.count("weft_mirrored_requests_total", name) === 20);
  // What a limit has refused is told like a request's own.
  for (const [name, limit] of [
    ["hangs", "max_requests"],
    ["narrow", "max_connections"],
    ["single", "instances"],
  ] as const) {
    expect(count("overflow", name)).toBeGreaterThan(0);
    expect(running.count("weft_circuit_breaker_refused_total", name, limit)).toBe(count("overflow", name));
  }
  expect(app.seen.length).toBe(20);
  expect(mostMirrors).toBe(256);
});

test("a streamed body is mirrored when it is whole, and not at all beyond the bound", async () => {
  const app = await origin();
  const copy = await origin();
  const running = run([cluster("app", [endpoint(app.port)]), cluster("m", [endpoint(copy.port)])], {
    mirrors: [{ cluster: "m", fraction: 1, shadowHost: true }],
  });
  const peer = await RawPeer.connect(running.port());
  peer.send("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
  await Bun.sleep(20);
  expect(copy.seen.length).toBe(0);
  await peer.ask("6\r\n world\r\n0\r\n\r\n");
  await until(() => copy.seen.length === 1, "the copy");
  expect(copy.seen[0]?.body).toBe("hello world");
  peer.close();
  const big = "b".repeat(100_000);
  expect((await ask(running, { method: "POST", body: big })).status).toBe(200);
  expect(app.seen.at(-1)?.body.length).toBe(big.length);
  expect(running.count("weft_mirrored_requests_total", "too_large")).toBe(1);
  expect(copy.seen.length).toBe(1);
});

// ---- CORS ----------------------------------------------------------------------------------------------------------------

const cors: CorsConfig = {
  origins: [
    { kind: "exact", value: "https://shop.example", ignoreCase: false },
    { kind: "regex", value: "https://[a-z]+\\.dev\\.example", ignoreCase: false },
  ],
  methods: "GET,POST",
  headers: "x-a",
  expose: "x-b",
  maxAge: "600",
  credentials: true,
  privateNetwork: false,
  forwardUnmatched: true,
};

function preflight(from: string): RequestInit {
  return { method: "OPTIONS", headers: { origin: from, "access-control-request-method": "POST" } };
}

test("a preflight is answered here; other origins' go to the application", async () => {
  const app = await origin();
  const running = run([cluster("app", [endpoint(app.port)])], {}, { cors });
  for (const from of ["https://shop.example", "https://red.dev.example"]) {
    const answer = await ask(running, preflight(from));
    expect(answer.status).toBe(200);
    expect(Object.fromEntries([...answer.headers].filter(([name]) => name.startsWith("access-control") || name === "vary"))).toEqual({
      "access-control-allow-origin": from,
      "access-control-allow-credentials": "true",
      "access-control-allow-methods": "GET,POST",
      "access-control-allow-headers": "x-a",
      "access-control-max-age": "600",
      vary: "origin",
    });
  }
  expect(app.seen.length).toBe(0);
  const other = await ask(running, preflight("https://shop.example.evil"));
  expect(other.headers.get("access-control-allow-origin")).toBeNull();
  expect(app.seen.length).toBe(1);
  // OPTIONS that is no preflight.
  await ask(running, { method: "OPTIONS", headers: { origin: "https://shop.example" } });
  expect(app.seen.length).toBe(2);
  expect(running.records[0]?.details).toBe("cors_response");
});

test("a preflight of another origin can be ended here", async () => {
  const app = await origin();
  const running = run([cluster("app", [endpoint(app.port)])], {}, { cors: { ...cors, forwardUnmatched: false } });
  const answer = await ask(running, preflight("https://evil.example"));
  expect([answer.status, answer.headers.get("access-control-allow-origin"), app.seen.length]).toEqual([200, null, 0]);
});

test("answers to allowed origins get their headers in place of the application's", async () => {
  const app = await origin("ok", { "access-control-allow-origin": "*", "access-control-expose-headers": "x-all" });
  const running = run([cluster("app", [endpoint(app.port)])], {}, { cors });
  const answer = await ask(running, { headers: { origin: "https://shop.example" } });
  expect(answer.headers.get("access-control-allow-origin")).toBe("https://shop.example");
  expect(answer.headers.get("access-control-expose-headers")).toBe("x-b");
  expect(answer.headers.get("access-control-allow-credentials")).toBe("true");
  expect((await ask(running)).headers.get("access-control-allow-origin")).toBe("*");
});

// ---- faults --------------------------------------------------------------------------------------------------------------

const fault: FaultConfig = {
  delay: null,
  abort: null,
  reset: 0,
  rate: null,
  headers: [],
  clients: [],
  maxActive: Number.POSITIVE_INFINITY,
};

async function withFault(more: Partial<FaultConfig>, body = "ok"): Promise<{ running: Running; app: { seen: Seen[] } }> {
  const app = await origin(body);
  return { running: run([cluster("app", [endpoint(app.port)])], {}, { fault: { ...fault, ...more } }), app };
}

test("an abort answers in the application's place, is flagged and counted", async () => {
  const { running, app } = await withFault({ abort: { kind: "http", status: 418, fraction: 1 } });
  const answer = await ask(running);
  expect([answer.status, await answer.text(), app.seen.length]).toEqual([418, "fault filter abort\n", 0]);
  expect(running.records[0]).toMatchObject({ status: 418, flags: ["FI"], details: "fault_filter_abort" });
  expect(running.count("weft_faults_injected_total", "abort", "the-route")).toBe(1);
  expect(running.count("istio_requests_total", "418", "FI")).toBe(1);
  // Of the service that was meant, not of one without a name.
  expect(running.records[0]?.upstreamCluster).toBe("app");
});

test("a gRPC abort is HTTP's equivalent for calls that are not gRPC", async () => {
  const { running } = await withFault({ abort: { kind: "grpc", status: 14, fraction: 1 } });
  expect((await ask(running)).status).toBe(503);
});

test("a delay holds the request with its body, then lets it go on", async () => {
  const { running, app } = await withFault({ delay: { ms: 200, fraction: 1 } });
  const began = performance.now();
  const answer = await ask(running, { method: "POST", body: "kept" });
  const took = performance.now() - began;
  expect([answer.status, app.seen[0]?.body]).toEqual([200, "kept"]);
  expect(took).toBeGreaterThanOrEqual(195);
  expect(took).toBeLessThan(1_000);
  await until(() => running.records.length === 1);
  expect(running.records[0]).toMatchObject({ status: 200, flags: ["DI"] });
  expect(running.count("weft_faults_injected_total", "delay")).toBe(1);
});

test("a client that leaves while it is delayed frees its place; only so many are active", async () => {
  const { running, app } = await withFault({ delay: { ms: 60_000, fraction: 1 }, maxActive: 1 });
  const held = await RawPeer.connect(running.port());
  held.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await until(() => running.count("weft_faults_injected_total", "delay") === 1);
  expect((await ask(running)).status).toBe(200);
  expect(running.count("weft_faults_injected_total", "overflow")).toBe(1);
  held.close();
  await until(() => running.records.some((one) => one.flags.includes("DI") || one.flags.includes("DC")), "the end of the delayed one");
  const next = await RawPeer.connect(running.port());
  next.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await until(() => running.count("weft_faults_injected_total", "delay") === 2, "its place");
  next.close();
  expect(app.seen.length).toBe(1);
});

test("delay and abort together: first late, then no", async () => {
  const { running } = await withFault({ delay: { ms: 100, fraction: 1 }, abort: { kind: "http", status: 503, fraction: 1 } });
  const began = performance.now();
  expect((await ask(running)).status).toBe(503);
  expect(performance.now() - began).toBeGreaterThanOrEqual(95);
  expect(running.records[0]?.flags).toEqual(["FI"]);
});

test("shares are drawn, and headers decide who is meant", async () => {
  const { running } = await withFault({
    abort: { kind: "http", status: 500, fraction: 0.5 },
    headers: [{ name: "x-chaos", match: null, invert: false }],
  });
  const statuses: number[] = [];
  for (let n = 0; n < 100; n++) statuses.push((await ask(running, { headers: { "x-chaos": "1" } })).status);
  const failed = statuses.filter((one) => one === 500).length;
  expect(failed).toBeGreaterThan(25);
  expect(failed).toBeLessThan(75);
  for (let n = 0; n < 20; n++) expect((await ask(running)).status).toBe(200);
});

test("faults for a client's identity: on the way out it is the workload's own", async () => {
  const abort = { kind: "http", status: 500, fraction: 1 } as const;
  const status = async (value: string) =>
    (await ask((await withFault({ abort, clients: [{ kind: "exact", value, ignoreCase: false }] })).running)).status;
  expect(await status("spiffe://cluster.local/ns/shop/sa/front")).toBe(500);
  expect(await status("spiffe://cluster.local/ns/shop/sa/other")).toBe(200);
});

test("headers ask for delay and abort, within what is configured", async () => {
  const { running } = await withFault({
    delay: { ms: null, fraction: 1 },
    abort: { kind: "header", status: 0, fraction: 1 },
  });
  expect((await ask(running)).status).toBe(200);
  expect((await ask(running, { headers: { "x-envoy-fault-abort-request": "429" } })).status).toBe(429);
  expect((await ask(running, { headers: { "x-envoy-fault-abort-grpc-request": "5" } })).status).toBe(404);
  expect(
    (await ask(running, { headers: { "x-envoy-fault-abort-request": "429", "x-envoy-fault-abort-request-percentage": "0" } })).status,
  ).toBe(200);
  expect((await ask(running, { headers: { "x-envoy-fault-abort-request": "99" } })).status).toBe(200);
  const began = performance.now();
  await ask(running, { headers: { "x-envoy-fault-delay-request": "120" } });
  expect(performance.now() - began).toBeGreaterThanOrEqual(115);
});

test("a reset breaks the connection without an answer", async () => {
  const { running, app } = await withFault({ reset: 1 });
  const peer = await RawPeer.connect(running.port());
  peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n");
  await until(() => peer.closed || peer.ended, "the reset");
  expect([peer.text, app.seen.length]).toEqual(["", 0]);
  expect(running.count("weft_faults_injected_total", "reset")).toBe(1);
  expect(running.records[0]).toMatchObject({ status: 0, flags: ["FI"], details: "fault_filter_reset", upstreamCluster: "app" });
});

test("an answer is slowed to its rate, also a small one, and the connection serves on", async () => {
  const body = "y".repeat(20_000);
  const { running } = await withFault({ rate: { kilobytesPerSecond: 40, fraction: 1 } }, body);
  const peer = await RawPeer.connect(running.port());
  const began = performance.now();
  peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await until(() => peer.text.includes(`${body}\r\n0\r\n\r\n`), "the answer");
  const took = performance.now() - began;
  expect(took).toBeGreaterThan(350);
  expect(took).toBeLessThan(1_500);
  peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await until(() => peer.text.split(body).length === 3, "a second answer");
  expect(running.count("weft_faults_injected_total", "rate")).toBe(2);
  peer.close();
});

test("a slow answer to a client that leaves is dropped", async () => {
  const { running } = await withFault({ rate: { kilobytesPerSecond: 1, fraction: 1 } }, "z".repeat(300_000));
  const peer = await RawPeer.connect(running.port());
  peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await until(() => peer.text.length > 300, "its beginning");
  peer.close();
  await until(() => running.engine.stats().activeRequests === 0 && running.records.length === 1, "its end");
});

test("a chain without the filter has no faults, whatever its routes say; a route can switch the chain's off", async () => {
  const app = await origin();
  const abort: FaultConfig = { ...fault, abort: { kind: "http", status: 500, fraction: 1 } };
  const without = run([cluster("app", [endpoint(app.port)])], {}, { fault: abort }, {});
  expect((await ask(without)).status).toBe(200);
  const chainWide = run([cluster("app", [endpoint(app.port)])], {}, {}, { stages: { fault: abort } });
  expect((await ask(chainWide)).status).toBe(500);
  const off = run([cluster("app", [endpoint(app.port)])], {}, { fault: "off" }, { stages: { fault: abort } });
  expect((await ask(off)).status).toBe(200);
});

// ---- HTTP/2 --------------------------------------------------------------------------------------------------------------

interface Http2Answer {
  readonly headers: Record<string, unknown>;
  readonly body: string;
  readonly reset: boolean;
}

/** One request over HTTP/2 with prior knowledge. */
async function ask2(running: Running, headers: Record<string, string>, body: readonly string[] = []): Promise<Http2Answer> {
  const client = connect(`http://127.0.0.1:${running.port()}`);
  const done = Promise.withResolvers<Http2Answer>();
  let answered: Record<string, unknown> = {};
  let text = "";
  let reset = false;
  client.on("error", () => {});
  const stream = client.request({ ":path": "/", ...headers }, { endStream: body.length === 0 });
  stream.on("response", (fields) => {
    answered = { ...fields };
  });
  stream.on("data", (piece) => {
    text += piece;
  });
  stream.on("error", () => {
    reset = true;
  });
  stream.on("close", () => done.resolve({ headers: answered, body: text, reset }));
  for (const piece of body) stream.write(piece);
  if (body.length > 0) stream.end();
  const answer = await done.promise;
  client.destroy();
  return answer;
}

test("over HTTP/2: copies to HTTP/1 instances, resets of one stream, slow answers, gRPC's own words", async () => {
  const app = await origin("y".repeat(8_000));
  const copy = await origin();
  const mirrored = run([cluster("app", [endpoint(app.port)]), cluster("m", [endpoint(copy.port)])], {
    mirrors: [{ cluster: "m", fraction: 1, shadowHost: true }],
  });
  expect((await ask2(mirrored, { ":method": "POST" }, ["one ", "two"])).headers[":status"]).toBe(200);
  await until(() => copy.seen.length === 1, "the copy");
  expect(copy.seen[0]?.body).toBe("one two");

  const one = (more: Partial<FaultConfig>): Running => run([cluster("app", [endpoint(app.port)])], {}, { fault: { ...fault, ...more } });
  const reset = await ask2(one({ reset: 1 }), {});
  expect([reset.headers[":status"], reset.body]).toEqual([undefined, ""]);

  const began = performance.now();
  const slow = await ask2(one({ rate: { kilobytesPerSecond: 20, fraction: 1 } }), {});
  expect(slow.body.length).toBe(8_000);
  expect(performance.now() - began).toBeGreaterThan(250);

  const call = { ":method": "POST", "content-type": "application/grpc", te: "trailers" };
  const grpc = await ask2(one({ abort: { kind: "grpc", status: 8, fraction: 1 } }), call, ["\0\0\0\0\0"]);
  expect([grpc.headers[":status"], grpc.headers["grpc-status"]]).toEqual([200, "8"]);
  const http = await ask2(one({ abort: { kind: "http", status: 503, fraction: 1 } }), call, ["\0\0\0\0\0"]);
  expect([http.headers[":status"], http.headers["grpc-status"]]).toEqual([200, "14"]);
});

test("a request over HTTP/2 is copied to an HTTP/2 instance", async () => {
  const app = await origin();
  const bodies: string[] = [];
  const server = createHttp2Server();
  server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    let text = "";
    stream.on("data", (piece) => {
      text += piece;
    });
    stream.on("end", () => {
      bodies.push(`${headers[":authority"]} ${text}`);
      stream.respond({ ":status": 200 });
      stream.end("dropped");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => server.close());
  const running = run(
    [cluster("app", [endpoint(app.port)]), cluster("m", [endpoint((server.address() as AddressInfo).port)], { protocol: "http2" })],
    { mirrors: [{ cluster: "m", fraction: 1, shadowHost: true }] },
  );
  expect((await ask2(running, { ":method": "POST", ":authority": "reviews" }, ["whole"])).headers[":status"]).toBe(200);
  await until(() => running.count("weft_mirrored_requests_total", "answered") === 1, "the copy");
  expect(bodies).toEqual(["reviews-shadow whole"]);
});
