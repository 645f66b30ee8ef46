// Global rate limits through a whole engine, with a rate limit service of another gRPC library and of Envoy's own proto files.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { resolve } from "node:path";
import { loadPackageDefinition, Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import type { Permit } from "../authz/permit.ts";
import { Cluster } from "../balance/cluster.ts";
import type { GlobalRateLimitConfig, RateAction, StageConfigs } from "../config.ts";
import { encodeRequest, type LimitCall, LimitCalls, limitService, mostLimitCalls } from "../resilience/limit-calls.ts";
import { buildTransports } from "../runtime/build.ts";
import { Core } from "../runtime/core.ts";
import {
  catchAll,
  cluster,
  endpoint,
  forward,
  hop,
  localWorkload,
  noSecrets,
  RawPeer,
  type Running,
  rawOrigin,
  route,
  start,
  table,
  until,
} from "../testing/fixture.ts";
import { mostValue } from "./descriptors.ts";

interface Request {
  domain: string;
  descriptors: { entries: { key: string; value: string }[] }[];
}
type Answer = Record<string, unknown>;

const deps = resolve(import.meta.dir, "../../../node_modules/@grpc/grpc-js-xds/deps");
const definition = loadSync(resolve(deps, "envoy-api/envoy/service/ratelimit/v3/rls.proto"), {
  enums: String,
  includeDirs: ["envoy-api", "googleapis", "protoc-gen-validate", "xds"].map((name) => resolve(deps, name)),
});
const asked: Request[] = [];
let respond: (request: Request, reply: (answer: Answer) => void) => void = (_request, reply) => reply({ overallCode: "OK" });
let server: Server;
let port = 0;

beforeAll(async () => {
  // biome-ignore lint/suspicious/noExplicitAny: what the loader makes has no type.
  const { envoy } = loadPackageDefinition(definition) as any;
  server = new Server();
  server.addService(envoy.service.ratelimit.v3.RateLimitService.service, {
    ShouldRateLimit: (call: ServerUnaryCall<Request, Answer>, reply: sendUnaryData<Answer>) => {
      asked.push(call.request);
      respond(call.request, (answer) => reply(null, answer));
    },
  });
  port = await new Promise<number>((done, fail) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? fail(error) : done(bound))),
  );
});
afterAll(() => server.forceShutdown());

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
  asked.length = 0;
  respond = (_request, reply) => reply({ overallCode: "OK" });
});

const filter: NonNullable<GlobalRateLimitConfig["filter"]> = {
  domain: "shop",
  cluster: "limits",
  authority: "",
  metadata: [],
  timeoutMs: 5_000,
  denyOnFailure: false,
  status: 429,
  failureStatus: 500,
  resourceExhausted: false,
  tellHeaders: true,
  tellLimited: true,
  refusalLines: "x-plan: basic\r\n",
  stage: 0,
  enabled: 1,
  enforced: 1,
};
const byUser: RateAction = { kind: "header", key: "user", name: "x-user", skipIfAbsent: false };

let seen = 0;
function through(
  more: Partial<typeof filter> = {},
  limits: GlobalRateLimitConfig["limits"] = [[byUser]],
  routes = catchAll("c"),
  others: Partial<StageConfigs> = {},
): Running {
  seen = 0;
  const origin = rawOrigin((text, write) => {
    seen += text.split("GET ").length - 1;
    write(`HTTP/1.1 200 OK\r\nx-got: ${/x-quota: (\S+)/.exec(text)?.[1] ?? "-"}\r\ncontent-length: 2\r\n\r\nok`);
  });
  open.push(() => origin.stop());
  const clusters = [
    cluster("c", [endpoint(origin.port)]),
    cluster("limits", [endpoint(port)], { protocol: "http2" }),
    cluster("dead", [endpoint(1)], { protocol: "http2" }),
    cluster("old", [endpoint(port)]),
  ];
  const running = start(
    hop(clusters, routes, { stages: { ...others, globalRateLimit: { filter: { ...filter, ...more }, route: null, limits } } }),
  );
  open.push(() => running.engine.close());
  return running;
}

async function ask(running: Running, lines = "x-user: ann\r\n", path = "/"): Promise<string> {
  const peer = await RawPeer.connect(running.port());
  open.push(() => peer.close());
  return peer.ask(`GET ${path} HTTP/1.1\r\nHost: a\r\n${lines}\r\n`);
}

test("what the service says decides, and its words reach both sides", async () => {
  const running = through();
  const status = {
    currentLimit: { requestsPerUnit: 2, unit: "MINUTE", name: "per-user" },
    limitRemaining: 1,
    durationUntilReset: { seconds: 30, nanos: 1 },
  };
  respond = (_request, reply) =>
    reply({
      overallCode: "OK",
      statuses: [{ code: "OK", ...status }],
      responseHeadersToAdd: [{ key: "X-Tier", value: "gold\r\nx-evil: 1" }],
      requestHeadersToAdd: [{ key: "x-quota", value: "7" }],
    });
  const passed = await ask(running);
  expect(passed).toMatch(/^HTTP\/1.1 200/);
  expect(passed).toContain('x-ratelimit-limit: 2, 2;w=60;name="per-user"\r\nx-ratelimit-remaining: 1\r\nx-ratelimit-reset: 31\r\n');
  expect(passed).toContain("x-got: 7\r\n");
  expect(passed).toContain("x-tier: gold??x-evil: 1\r\n");
  expect(asked).toEqual([{ domain: "shop", descriptors: [{ entries: [{ key: "user", value: "ann" }] }] }] as never);
  respond = (_request, reply) => reply({ overallCode: "OVER_LIMIT", statuses: [{ code: "OVER_LIMIT", ...status, limitRemaining: 0 }] });
  const refused = await ask(running);
  expect(refused).toMatch(/^HTTP\/1.1 429/);
  for (const line of ["x-envoy-ratelimited: true", "x-plan: basic", "retry-after: 31", "x-ratelimit-remaining: 0"])
    expect(refused).toContain(`${line}\r\n`);
  expect(seen).toBe(1);
  expect(running.count("weft_global_rate_limit_requests_total", "ok")).toBe(1);
  expect(running.count("weft_global_rate_limit_requests_total", "over_limit")).toBe(1);
  // Without a descriptor nobody is asked.
  expect(await ask(running, "")).toMatch(/^HTTP\/1.1 200/);
  expect(asked).toHaveLength(2);
});

test("a request that waits for its answer holds up no other, and a client that leaves ends its call", async () => {
  const running = through();
  const waiting: (() => void)[] = [];
  respond = ({ descriptors }, reply) => {
    if (descriptors[0]?.entries[0]?.value === "slow") waiting.push(() => reply({ overallCode: "OK" }));
    else reply({ overallCode: "OK" });
  };
  const slow = await RawPeer.connect(running.port());
  const gone = await RawPeer.connect(running.port());
  open.push(() => slow.close());
  slow.send("GET / HTTP/1.1\r\nHost: a\r\nx-user: slow\r\n\r\n");
  gone.send("GET / HTTP/1.1\r\nHost: a\r\nx-user: slow\r\n\r\n");
  await until(() => waiting.length === 2);
  expect(await ask(running)).toMatch(/^HTTP\/1.1 200/);
  expect(slow.text).toBe("");
  gone.close();
  await until(() => running.engine.stats().activeRequests === 1);
  for (const go of waiting) go();
  await until(() => slow.text.startsWith("HTTP/1.1 200"));
  expect(seen).toBe(2);
});

test("without an answer in time, or without a service, it is as the configuration says", async () => {
  respond = () => {};
  expect(await ask(through({ timeoutMs: 30 }))).toMatch(/^HTTP\/1.1 200/);
  const strict = through({ timeoutMs: 30, denyOnFailure: true, failureStatus: 503 });
  expect(await ask(strict)).toMatch(/^HTTP\/1.1 503 [\s\S]*RLSE/);
  expect(strict.count("weft_global_rate_limit_requests_total", "error_denied")).toBe(1);
  for (const cluster of ["dead", "old", "missing"]) {
    expect(await ask(through({ cluster }))).toMatch(/^HTTP\/1.1 200/);
    expect(await ask(through({ cluster, denyOnFailure: true }))).toMatch(/^HTTP\/1.1 500/);
  }
});

test("no more calls are under way than the bound, and each ends when its time is over", async () => {
  respond = () => {};
  const core = new Core({
    clock: systemClock,
    log: silentLogger,
    metrics: new MetricRegistry(),
    random: Math.random,
    secrets: noSecrets,
    local: localWorkload,
    accessLog: () => ({ write() {} }),
  });
  const config = cluster("limits", [endpoint(port)], { protocol: "http2" });
  const limits = new Cluster(config, undefined);
  limits.setEndpoints([endpoint(port)], buildTransports(config, noSecrets), core.ticker.now());
  const service = limitService({ name: "limits", current: limits }, "", [], 3_000);
  const calls = new LimitCalls();
  const answers: unknown[] = [];
  const message = encodeRequest("d", [[{ key: "k", value: "v" }]]);
  const question = () => calls.ask(core, service, {} as Permit, message, { limitKnown: (answer) => void answers.push(answer) });
  const asked = Array.from({ length: mostLimitCalls }, question);
  expect(asked.filter((one) => typeof one === "string")).toEqual([]);
  expect(question()).toBe("1024 requests wait for a rate limit service already");
  (asked[0] as LimitCall).giveUp();
  (asked[0] as LimitCall).giveUp();
  expect(typeof question()).toBe("object");
  expect(limits.activeRequests).toBe(mostLimitCalls);
  await until(() => answers.length === mostLimitCalls, "every call's end", 20_000);
  expect(new Set(answers)).toEqual(new Set(["no answer within 3000 ms"]));
  expect([limits.activeRequests, limits.endpoints[0]?.active]).toEqual([0, 0]);
  for (const one of limits.endpoints) for (const connection of [...one.shared]) connection.dispose();
}, 30_000);

test("routes and virtual hosts add descriptors, by the filter's stage, and may name another domain", async () => {
  const generic = (value: string): RateAction => ({ kind: "generic", key: "at", value });
  const own = {
    limits: [
      { stage: 0, actions: [generic("route")] },
      { stage: 1, actions: [generic("other")] },
    ],
    host: [{ stage: 0, actions: [generic("host")] }],
  };
  const of = (path: string, more: object) =>
    route(forward("c"), {
      match: { path: { kind: "prefix", value: path }, headers: [], query: [] },
      stages: {
        globalRateLimit: { filter: null, limits: [], route: { ...own, instead: null, hostMode: "override", domain: null, ...more } },
      },
    });
  const routes = table([
    {
      name: "all",
      domains: ["*"],
      routes: [
        of("/both", { hostMode: "include" }),
        of("/host", { limits: [] }),
        of("/none", { limits: [], hostMode: "ignore" }),
        of("/instead", { instead: [{ stage: 0, actions: [{ kind: "destination" }, { kind: "source" }] }], domain: "other" }),
        route(forward("c"), {
          match: { path: { kind: "prefix", value: "/off" }, headers: [], query: [] },
          stages: { globalRateLimit: "off" },
        }),
        of("/", {}),
      ],
    },
  ]);
  const running = through({}, [], routes);
  const values = async (path: string) => {
    asked.length = 0;
    await ask(running, "", path);
    return asked.map(({ domain, descriptors }) =>
      [domain, ...descriptors.map(({ entries }) => entries.map(({ value }) => value).join("+"))].join(" "),
    );
  };
  expect(await values("/")).toEqual(["shop route"]);
  expect(await values("/both")).toEqual(["shop route host"]);
  expect(await values("/host")).toEqual(["shop host"]);
  expect(await values("/none")).toEqual([]);
  expect(await values("/instead")).toEqual(["other c+front.shop"]);
  expect(await values("/off")).toEqual([]);
});

test("a rule for some routes is asked about for those that say so in their metadata", async () => {
  const at = (value: string, metadata?: Record<string, unknown>) =>
    route(forward("c"), {
      match: { path: { kind: "prefix", value }, headers: [], query: [] },
      ...(metadata === undefined ? {} : { metadata }),
    });
  const routes = table([
    { name: "all", domains: ["*"], routes: [at("/a", { shop: { rule: "one" } }), at("/b", { shop: { rule: { deep: 1 } } }), at("/")] },
  ]);
  const rule = (value: string, skipIfAbsent: boolean): RateAction => ({
    kind: "route",
    key: "rule",
    path: ["shop", "rule"],
    value,
    skipIfAbsent,
  });
  const running = through(
    {},
    [
      [rule("", false), byUser],
      [rule("", true), byUser],
    ],
    routes,
  );
  const user = { key: "user", value: "ann" };
  const both = [{ key: "rule", value: "one" }, user];
  for (const path of ["/a", "/b", "/"]) expect(await ask(running, "x-user: ann\r\n", path)).toMatch(/^HTTP\/1.1 200/);
  expect(asked.map(({ descriptors }) => descriptors.map(({ entries }) => entries))).toEqual([[both, both], [[user]], [[user]]]);
  expect(await ask(through({}, [[rule("else", false)]], routes), "", "/b")).toMatch(/^HTTP\/1.1 200/);
  expect(asked.at(-1)?.descriptors).toEqual([{ entries: [{ key: "rule", value: "else" }] }] as never);
});

test("another spelling of a path is no way around a limit by path", async () => {
  const headers = [{ name: ":path", match: { kind: "regex", value: "/api(/[^?]*)?(\\?.*)?", ignoreCase: false }, invert: false }] as const;
  const running = through({}, [[{ kind: "match", key: "rule", value: "api", expect: true, headers: [...headers] }]]);
  for (const path of ["/api/x", "/x/../api", "/%61pi?y=1", "//api"]) await ask(running, "", path);
  expect(asked).toHaveLength(4);
  await ask(running, "", "/apis");
  expect(asked).toHaveLength(4);
});

test("a long value goes by its digest, and an empty one is none", async () => {
  const running = through({}, [[{ kind: "generic", key: "rule", value: "r" }, { ...byUser, skipIfAbsent: true } as RateAction]]);
  const value = async (user: string) => {
    asked.length = 0;
    await ask(running, `x-user: ${user}\r\n`);
    return asked[0]?.descriptors[0]?.entries.map((entry) => entry.value);
  };
  const long = "u".repeat(mostValue + 1);
  expect(await value(long)).toEqual(["r", `sha256:${new Bun.CryptoHasher("sha256").update(long).digest("hex")}`]);
  expect(await value("u".repeat(mostValue))).toEqual(["r", "u".repeat(mostValue)]);
  expect(await value("")).toEqual(["r"]);
});

test("of a local and a global limit the nearer is told", async () => {
  const running = through({}, [[byUser]], catchAll("c"), {
    rateLimit: {
      bucket: { maxTokens: 3, perFill: 1, fillMs: 60_000 },
      descriptors: [],
      limits: [],
      status: 429,
      resourceExhausted: false,
      tellHeaders: true,
      alwaysDefault: true,
      enabled: 1,
      enforced: 1,
      maxDynamic: 2,
    },
  });
  let left = 1;
  respond = (_request, reply) =>
    reply({ overallCode: "OK", statuses: [{ code: "OK", currentLimit: { requestsPerUnit: 9, unit: "HOUR" }, limitRemaining: left }] });
  const told = async () => (await ask(running)).match(/x-ratelimit-limit: \d+/g);
  expect(await told()).toEqual(["x-ratelimit-limit: 9"]);
  left = 5;
  expect(await told()).toEqual(["x-ratelimit-limit: 3"]);
});
