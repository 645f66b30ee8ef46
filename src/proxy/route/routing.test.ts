// Matching, rewriting, editing and redirecting through a whole engine, and through the compiled table alone.

import { afterEach, expect, test } from "bun:test";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { ClusterSlot } from "../balance/cluster.ts";
import type { RouteConfig, RouteMatchConfig } from "../config.ts";
import { latin1 } from "../http/bytes.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { defaultLimits } from "../http1/limits.ts";
import { cluster, endpoint, forward, hop, type Running, route, start, table } from "../testing/fixture.ts";
import { foldEdits } from "./edit.ts";
import { compileTable, findHost, findRoute } from "./table.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

const slotOf = (name: string): ClusterSlot => ({ name, current: null });

/** The name of the route that takes a request; the routes are named by their place. */
function winner(routes: readonly Partial<RouteMatchConfig>[], request: string, random = () => 0.5): string {
  const configs = routes.map((match, n): RouteConfig => {
    return route(forward("c"), { name: String(n), match: { path: { kind: "prefix", value: "/" }, headers: [], query: [], ...match } });
  });
  const compiled = compileTable(table([{ name: "h", domains: ["*"], routes: configs }]), slotOf);
  const bytes = latin1(request);
  const head = new Head();
  head.limits = defaultLimits;
  if (parseRequest(bytes, 0, bytes.length, head) <= 0) throw new Error("no request");
  const question = bytes.indexOf(63, head.pathFrom);
  const pathTo = question < 0 || question > head.pathTo ? head.pathTo : question;
  const host = findHost(compiled, bytes, head.authorityFrom, head.authorityTo);
  if (host === null) return "no host";
  return findRoute(host, bytes, head, bytes, head.pathFrom, pathTo, head.pathTo, false, random)?.name ?? "none";
}

function get(path: string, headers = ""): string {
  return `GET ${path} HTTP/1.1\r\nHost: a\r\n${headers}\r\n`;
}

test("paths: exact, prefix, separated prefix, expression, each with and without regard to case", () => {
  const routes: Partial<RouteMatchConfig>[] = [
    { path: { kind: "exact", value: "/exact" } },
    { path: { kind: "exact", value: "/Folded", ignoreCase: true } },
    { path: { kind: "separated-prefix", value: "/sep" } },
    { path: { kind: "separated-prefix", value: "/SEPI", ignoreCase: true } },
    { path: { kind: "prefix", value: "/pre" } },
    { path: { kind: "prefix", value: "/Prei", ignoreCase: true } },
    { path: { kind: "regex", value: "/v[0-9]+/(a|b)" } },
    { path: { kind: "regex", value: "(?i)/shout" } },
  ];
  const cases: readonly (readonly [string, string])[] = [
    ["/exact", "0"],
    ["/exact?q=1", "0"],
    ["/exact/", "none"],
    ["/EXACT", "none"],
    ["/fOLDED", "1"],
    ["/sep", "2"],
    ["/sep/x", "2"],
    ["/sept", "none"],
    ["/sepi/X", "3"],
    ["/prefix", "4"],
    ["/PREIX", "5"],
    ["/v12/b", "6"],
    ["/v12/b?x", "6"],
    ["/v12/c", "none"],
    ["/SHOUT", "7"],
  ];
  for (const [path, expected] of cases) expect([path, winner(routes, get(path))]).toEqual([path, expected]);
});

test("headers: every matcher of Envoy's", () => {
  const one = (header: RouteMatchConfig["headers"][number]) => (lines: string) => winner([{ headers: [header] }], get("/", lines)) === "0";
  const range = one({ name: "n", match: null, invert: false, range: { start: -5, end: 10 } });
  expect(["-5", "9", "10", "-6", "1x", "", "+3", "00", "1.5"].map((value) => range(`n: ${value}\r\n`))).toEqual([
    true,
    true,
    false,
    false,
    false,
    false,
    false,
    true,
    false,
  ]);
  expect(range("")).toBe(false);
  const absent = one({ name: "n", match: null, invert: true });
  expect([absent(""), absent("n: 1\r\n")]).toEqual([true, false]);
  const exact = { kind: "exact", value: "", ignoreCase: false } as const;
  const empty = one({ name: "n", match: exact, invert: false, missingIsEmpty: true });
  expect([empty(""), empty("n:\r\n"), empty("n: 1\r\n")]).toEqual([true, true, false]);
  const not = one({ name: "n", match: { kind: "exact", value: "1", ignoreCase: false }, invert: true });
  expect([not(""), not("n: 1\r\n"), not("n: 2\r\n")]).toEqual([true, false, true]);
  const notEmpty = one({ name: "n", match: exact, invert: true, missingIsEmpty: true });
  expect([notEmpty(""), notEmpty("n: 1\r\n")]).toEqual([false, true]);
  const twice = one({ name: "n", match: { kind: "exact", value: "1,2", ignoreCase: false }, invert: false });
  expect([twice("n: 1\r\nN: 2\r\n"), twice("n: 1\r\n")]).toEqual([true, false]);
  const method = one({ name: ":method", match: { kind: "exact", value: "GET", ignoreCase: false }, invert: false });
  expect(method("")).toBe(true);
});

test("query, gRPC and chance; the first that fits wins", () => {
  const routes: Partial<RouteMatchConfig>[] = [
    { query: [{ name: "v", match: { kind: "regex", value: "[0-9]+", ignoreCase: false } }] },
    { grpc: true },
    { fraction: 0.25 },
  ];
  expect(winner(routes, get("/?a=1&v=22"))).toBe("0");
  expect(winner(routes, get("/?v=x"), () => 0.3)).toBe("none");
  expect(winner(routes, get("/", "content-type: application/grpc+proto\r\n"))).toBe("1");
  expect(winner(routes, get("/"), () => 0.24)).toBe("2");
  expect(winner(routes, get("/"), () => 0.25)).toBe("none");
});

test("a request has one draw for all routes, so that fractions add up", () => {
  let draws = 0;
  const at = (value: number) =>
    winner([{ fraction: 0.25 }, { fraction: 0.75 }, {}], get("/"), () => {
      draws++;
      return value;
    });
  expect([at(0.24), at(0.25), at(0.74), at(0.75)]).toEqual(["0", "1", "1", "2"]);
  expect(draws).toBe(4);
  expect(winner([{}], get("/"), () => expect.unreachable())).toBe("0");
});

test("a host of many routes keeps the order of its list", () => {
  const routes: Partial<RouteMatchConfig>[] = Array.from({ length: 60 }, (_, n) => ({ path: { kind: "prefix", value: `/p${n}` } }));
  routes[7] = { path: { kind: "regex", value: "/p5[0-9]/special" } };
  routes[20] = { path: { kind: "prefix", value: "/" }, headers: [{ name: "x", match: null, invert: false }] };
  expect(winner(routes, get("/p55/special"))).toBe("5");
  expect(winner(routes, get("/p8"))).toBe("8");
  expect(winner(routes, get("/p45"))).toBe("4");
  expect(winner(routes, get("/p30", "x: 1\r\n"))).toBe("3");
  expect(winner(routes, get("/other", "x: 1\r\n"))).toBe("20");
  expect(winner(routes, get("/other"))).toBe("none");
});

test("hosts: exact, then the longest suffix, the longest prefix, then *", () => {
  const host = (domain: string) => ({ name: domain, domains: [domain], routes: [] });
  const domains = ["*", "a.shop", "*.shop", "*-x.shop", "*.b.shop", "cart.*", "cart.b.*"];
  const compiled = compileTable(table(domains.map(host)), slotOf);
  const find = (name: string) => {
    const bytes = latin1(name);
    return findHost(compiled, bytes, 0, bytes.length)?.name;
  };
  expect(["a.shop", "A.SHOP", "c.shop", "c-x.shop", "c.b.shop", ".shop", "cart.org", "cart.b.org", "else"].map(find)).toEqual([
    "a.shop",
    "a.shop",
    "*.shop",
    "*-x.shop",
    "*.b.shop",
    "*",
    "cart.*",
    "cart.b.*",
    "*",
  ]);
  expect(() => compileTable(table([host("*.a"), { ...host("*.A"), name: "other" }]), slotOf)).toThrow("both claim");
});

test("edits of an inner level come first, and an outer one has the last word", () => {
  const none = { remove: [], set: [], add: [] };
  const value = (name: string, text: string) => ({ name, value: text });
  expect(
    foldEdits({ ...none, set: [value("a", "1")], add: [value("b", "1")] }, { ...none, set: [value("A", "2")], add: [value("b", "2")] }),
  ).toEqual({
    remove: [],
    set: [value("A", "2")],
    add: [value("b", "1"), value("b", "2")],
  });
  expect(foldEdits({ ...none, add: [value("a", "1")] }, { ...none, remove: ["a"] })).toEqual({ ...none, remove: ["a"] });
  expect(foldEdits({ ...none, add: [value("a", "1")] }, { ...none, addIfAbsent: [value("a", "2")] }).addIfAbsent).toBeUndefined();
  expect(foldEdits({ ...none, add: [value("a", "1")] }, { ...none, setIfPresent: [value("a", "2")] }).set).toEqual([value("a", "2")]);
});

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

async function origin(headers: Record<string, string> = {}): Promise<{ port: number; seen: Seen[] }> {
  const seen: Seen[] = [];
  const server: Server = createServer((request, response) => {
    seen.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers });
    response.writeHead(200, headers).end("ok");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => server.close());
  return { port: (server.address() as AddressInfo).port, seen };
}

function run(routes: readonly RouteConfig[], clusters: Parameters<typeof hop>[0]): Running {
  const running = start(hop(clusters, table([{ name: "all", domains: ["*"], routes }])));
  stops.push(() => running.engine.close());
  return running;
}

function ask(running: Running, path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`http://127.0.0.1:${running.port()}${path}`, { redirect: "manual", ...init });
}

test("paths and hosts are rewritten by expression, header and endpoint", async () => {
  const up = await origin();
  const to = [cluster("app", [endpoint(up.port, { hostname: "app-1.example" })])];
  const running = run(
    [
      route(forward("app", { regexRewrite: { pattern: "^/user/([^/]+)", substitution: "/u/\\1/of-\\1" } }), {
        match: { path: { kind: "prefix", value: "/user/" }, headers: [], query: [] },
      }),
      route(forward("app", { hostFrom: { kind: "path", pattern: "^/tenant/([a-z]+)/.*$", substitution: "\\1.example" } }), {
        match: { path: { kind: "prefix", value: "/tenant/" }, headers: [], query: [] },
      }),
      route(forward("app", { hostFrom: { kind: "header", name: "x-host" } }), {
        match: { path: { kind: "exact", value: "/by-header" }, headers: [], query: [] },
      }),
      route(forward("app", { hostFrom: { kind: "endpoint" } })),
    ],
    to,
  );
  await ask(running, "/user/ann/list?q=/user/x");
  await ask(running, "/tenant/red/x");
  expect((await ask(running, "/tenant/RED/x")).status).toBe(400);
  await ask(running, "/by-header", { headers: { "x-host": "other.example:81" } });
  expect((await ask(running, "/by-header", { headers: { "x-host": "a b" } })).status).toBe(400);
  await ask(running, "/else");
  expect(up.seen.map((one) => `${one.headers.host?.replace(/127.*/, "-")} ${one.url}`)).toEqual([
    "- /u/ann/of-ann/list?q=/user/x",
    "red.example /tenant/red/x",
    "other.example:81 /by-header",
    "app-1.example /else",
  ]);
});

test("each cluster of a route has its own edits and host; commands and conditions are worked out for each message", async () => {
  const up = await origin({ "x-there": "old", "x-gone": "1" });
  const clusters = ["a", "b"].map((name) => cluster(name, [endpoint(up.port)]));
  const edits = (value: string) => ({ remove: [], set: [{ name: "x-cluster", value }], add: [] });
  const running = run(
    [
      route(
        forward("a", {
          clusters: [
            { cluster: "a", weight: 1, requestHeaders: edits("is a"), hostRewrite: "a.example" },
            { cluster: "b", weight: 1, requestHeaders: edits("is b"), responseHeaders: edits("was b") },
          ],
        }),
        { match: { path: { kind: "prefix", value: "/weighted" }, headers: [], query: [] } },
      ),
      route(forward("a"), {
        name: "edited",
        requestHeaders: {
          remove: ["x-drop"],
          set: [{ name: "x-from", value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %% %REQ(X-A?X-B)%" }],
          add: [
            { name: "x-route", value: "%ROUTE_NAME%" },
            { name: "x-nothing", value: "%REQ(x-missing)%" },
            { name: "x-short", value: "%REQ(:path):4%" },
          ],
          addIfAbsent: [
            { name: "x-b", value: "new" },
            { name: "x-c", value: "new" },
          ],
          setIfPresent: [
            { name: "x-b", value: "replaced" },
            { name: "x-d", value: "never" },
          ],
        },
        responseHeaders: {
          remove: ["x-gone"],
          set: [{ name: "x-was", value: "%REQ(:METHOD)% %RESPONSE_CODE% %RESP(x-there)%" }],
          add: [],
          addIfAbsent: [{ name: "x-there", value: "new" }],
        },
      }),
    ],
    clusters,
  );
  const answers = await Promise.all(Array.from({ length: 40 }, () => ask(running, "/weighted")));
  const words = up.seen.map((one) => `${one.headers["x-cluster"]}@${one.headers.host?.replace(/127.*/, "-")}`);
  expect([...new Set(words)].sort()).toEqual(["is a@a.example", "is b@-"]);
  expect(answers.filter((one) => one.headers.get("x-cluster") === "was b").length).toBe(
    words.filter((word) => word.startsWith("is b")).length,
  );

  const answer = await ask(running, "/path", { headers: { "x-b": "B", "x-drop": "1" } });
  const got = up.seen.at(-1)?.headers ?? {};
  expect(got["x-from"]).toBe("127.0.0.1 % B");
  expect(got["x-route"]).toBe("edited");
  expect(got["x-short"]).toBe("/pat");
  expect("x-nothing" in got || "x-drop" in got || "x-d" in got).toBe(false);
  expect([got["x-b"], got["x-c"]]).toEqual(["replaced", "new"]);
  expect(answer.headers.get("x-was")).toBe("GET 200 old");
  expect(answer.headers.get("x-there")).toBe("old");
  expect(answer.headers.get("x-gone")).toBeNull();
});

test("redirects: every status, expression, stripped query", async () => {
  const none = { kind: "redirect", scheme: null, host: null, port: null, path: null } as const;
  const at = (path: string, action: RouteConfig["action"]) =>
    route(action, { match: { path: { kind: "prefix", value: path }, headers: [], query: [] } });
  const statuses = [301, 302, 303, 307, 308] as const;
  const running = run(
    [
      ...statuses.map((status) => at(`/${status}`, { ...none, status, host: "new.example" })),
      at("/strip", { ...none, status: 302, scheme: "https", stripQuery: true }),
      at("/regex", { ...none, status: 302, path: { kind: "regex", pattern: "/regex/(.*)", substitution: "/r/\\1" } }),
      at("/prefix", { ...none, status: 302, path: { kind: "prefix", value: "/p" }, port: 81 }),
    ],
    [],
  );
  const location = async (path: string) => {
    const answer = await ask(running, path, { headers: { host: "old.example" } });
    return `${answer.status} ${answer.headers.get("location")}`;
  };
  for (const status of statuses) expect(await location(`/${status}?a`)).toBe(`${status} http://new.example/${status}?a`);
  expect(await location("/strip/x?a=1")).toBe("302 https://old.example/strip/x");
  expect(await location("/regex/x?a=1")).toBe("302 http://old.example/r/x?a=1");
  expect(await location("/prefix/x")).toBe("302 http://old.example:81/p/x");
});

test("what cannot be compiled is refused with a sentence", () => {
  const refuse = (action: Partial<ReturnType<typeof forward>>) => () =>
    compileTable(table([{ name: "h", domains: ["*"], routes: [route(forward("c", action))] }]), slotOf);
  expect(refuse({ regexRewrite: { pattern: "(", substitution: "" } })).toThrow("RE2 syntax");
  expect(refuse({ regexRewrite: { pattern: "a", substitution: "\\1" } })).toThrow('names the group "\\1"');
  expect(refuse({ regexRewrite: { pattern: "a", substitution: "a b" } })).toThrow("holds what no path may");
  const edit = (value: string) => () =>
    compileTable(
      table([
        {
          name: "h",
          domains: ["*"],
          routes: [route(forward("c"), { requestHeaders: { remove: [], set: [{ name: "a", value }], add: [] } })],
        },
      ]),
      slotOf,
    );
  expect(edit("%FILTER_STATE(x)%")).toThrow("%FILTER_STATE(x)% is not supported");
  expect(edit("50%")).toThrow("no closing %");
});
