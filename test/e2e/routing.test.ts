// A VirtualService in a mesh of real processes: subsets by header and by weight, rewrites, redirects, mirrors, CORS, and faults, which the mesh must allow
// first. The client is curl through the sidecar's forward proxy. The objects are those of docs/routing.md and docs/fault-injection.md.

import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Condition, KubeObject } from "../../src/api/meta.ts";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let front: Running;

interface Answer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

async function curl(url: string, ...more: readonly string[]): Promise<Answer> {
  const child = Bun.spawn(["curl", "-s", "-i", "-m", "10", "-x", front.httpProxy, ...more, url], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  const end = out.indexOf("\r\n\r\n");
  const head = end < 0 ? out : out.slice(0, end);
  return { status: Number(/^HTTP\/[0-9.]+ (\d+)/.exec(head)?.[1] ?? 0), head: head.toLowerCase(), body: end < 0 ? "" : out.slice(end + 4) };
}

interface Echo {
  readonly instance: string;
  readonly path: string;
  readonly host: string;
  readonly headers: Record<string, string>;
}

const echo = ({ body }: Answer): Echo => JSON.parse(body) as Echo;

const subsets = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
`;

const routes = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http:
    - name: testers
      match: [{headers: {x-tester: {exact: "yes"}}}]
      route: [{destination: {host: reviews, subset: v2}}]
    - name: old-paths
      match: [{uri: {exact: /old}}]
      redirect: {uri: /new, redirectCode: 308}
    - name: users
      match: [{uri: {regex: "/user/[^/]+/reviews"}}]
      rewrite: {uriRegexRewrite: {match: "^/user/([^/]+)/reviews$", rewrite: '/reviews/of/\\1'}}
      route: [{destination: {host: reviews, subset: v1}}]
      headers: {request: {set: {x-via: users}}}
    - name: copies
      match: [{uri: {prefix: /copied}}]
      mirrors: [{destination: {host: reviews, subset: v2}, percentage: {value: 100}}]
      route: [{destination: {host: reviews, subset: v1}}]
    - name: everyone
      corsPolicy: {allowOrigins: [{exact: "https://shop.example"}], allowMethods: [GET], maxAge: 1h}
      route:
        - {destination: {host: reviews, subset: v1}, weight: 75}
        - {destination: {host: reviews, subset: v2}, weight: 25}
`;

const chaos = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings, namespace: shop}
spec:
  hosts: [ratings]
  http:
    - name: late
      match: [{headers: {x-test: {exact: late}}}]
      fault: {delay: {fixedDelay: 400ms, percentage: {value: 100}}}
      route: [{destination: {host: ratings}}]
    - name: broken
      match: [{headers: {x-test: {exact: broken}}}]
      fault: {abort: {httpStatus: 503, percentage: {value: 100}}}
      route: [{destination: {host: ratings}}]
    - name: fine
      route: [{destination: {host: ratings}}]
`;

const allowed = `
apiVersion: v1
kind: Namespace
metadata: {name: weft-system, labels: {weft.dev/fault-injection: enabled}}
`;

beforeAll(async () => {
  mesh = await TestMesh.start();
  [front] = await Promise.all([
    mesh.run({ service: "front", name: "front", command: app("echo.ts") }),
    mesh.run({ service: "reviews", name: "reviews-1", version: "v1", command: app("echo.ts"), env: { INSTANCE: "v1" } }),
    mesh.run({ service: "reviews", name: "reviews-2", version: "v2", command: app("echo.ts"), env: { INSTANCE: "v2" } }),
    mesh.run({ service: "ratings", name: "ratings-1", command: app("echo.ts") }),
  ]);
}, 60_000);

afterAll(async () => {
  await mesh?.stop();
}, 30_000);

async function conditions(name: string): Promise<Record<string, string>> {
  const object = await mesh.processes.weftJson<KubeObject>(["get", "virtualservices", name, "-n", "shop"]);
  const list = (object.status as { conditions?: Condition[] } | undefined)?.conditions ?? [];
  return Object.fromEntries(list.map((one) => [one.type, `${one.status} ${one.reason}`]));
}

test("requests go by header, weight and path; paths, hosts and headers change on the way", async () => {
  await mesh.apply(subsets);
  await mesh.apply(routes);
  const moved = await eventually(
    15_000,
    () => curl("http://reviews/old"),
    ({ status }) => status === 308,
  );
  expect(moved.status).toBe(308);
  expect((await curl("http://reviews/old?a=1")).head).toContain("location: http://reviews/new?a=1");
  expect(await conditions("reviews")).toEqual({
    Accepted: "True Accepted",
    ResolvedRefs: "True ResolvedRefs",
    SubsetsResolved: "True SubsetsResolved",
  });
  for (let n = 0; n < 5; n++) expect(echo(await curl("http://reviews/", "-H", "x-tester: yes")).instance).toBe("v2");
  const user = echo(await curl("http://reviews/user/ann/reviews"));
  expect([user.instance, user.path, user.headers["x-via"]]).toEqual(["v1", "/reviews/of/ann", "users"]);
  const seen: Record<string, number> = { v1: 0, v2: 0 };
  for (let n = 0; n < 60; n++) {
    const { instance } = echo(await curl("http://reviews/"));
    seen[instance] = (seen[instance] ?? 0) + 1;
  }
  expect(seen.v1).toBeGreaterThan(25);
  expect(seen.v2).toBeGreaterThan(2);
}, 60_000);

test("copies go to the mirror and are counted", async () => {
  expect(echo(await curl("http://reviews/copied", "-d", "body")).instance).toBe("v1");
  const copies = await eventually(
    5_000,
    () => metricSum(front, "weft_mirrored_requests_total", { outcome: "answered" }),
    (count) => count === 1,
  );
  expect(copies).toBe(1);
}, 20_000);

test("preflights are answered by the sidecar", async () => {
  const ask = (origin: string) =>
    curl("http://reviews/", "-X", "OPTIONS", "-H", `origin: ${origin}`, "-H", "access-control-request-method: GET");
  expect((await ask("https://shop.example")).head).toContain("access-control-allow-origin: https://shop.example");
  expect((await ask("https://evil.example")).head).not.toContain("access-control-allow-origin");
}, 20_000);

test("faults are refused until the mesh allows them, then seen by client, metrics and nobody else", async () => {
  const { code, err, out } = await mesh.processes.weft(["apply", "-f", "-"], chaos);
  expect(code).not.toBe(0);
  expect(err + out).toContain("faults are switched off in this mesh");
  await mesh.apply(allowed);
  await mesh.apply(chaos);
  await eventually(
    15_000,
    () => curl("http://ratings/", "-H", "x-test: broken"),
    ({ status }) => status === 503,
  );
  const began = performance.now();
  expect((await curl("http://ratings/", "-H", "x-test: late")).status).toBe(200);
  expect(performance.now() - began).toBeGreaterThan(390);
  expect((await curl("http://ratings/")).status).toBe(200);
  expect((await conditions("ratings")).FaultInjection).toBe("True Allowed");
  expect(await metricSum(front, "weft_faults_injected_total", { kind: "abort" })).toBeGreaterThan(0);
  expect(await metricSum(front, "weft_faults_injected_total", { kind: "delay" })).toBe(1);
  expect(await metricSum(front, "istio_requests_total", { response_flags: "FI", destination_service_name: "ratings" })).toBeGreaterThan(0);
  // The switch is turned off: the objects stay, the faults go, the status says so.
  await mesh.apply(allowed.replace("enabled", "disabled"));
  await eventually(
    15_000,
    () => curl("http://ratings/", "-H", "x-test: broken"),
    ({ status }) => status === 200,
  );
  const last = await eventually(
    10_000,
    () => conditions("ratings"),
    (now) => now.FaultInjection === "False SwitchedOff",
  );
  expect(last.FaultInjection).toBe("False SwitchedOff");
}, 60_000);
