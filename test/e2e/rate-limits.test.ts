// RateLimitPolicy and OverloadPolicy as users meet them: applied with `weft`, enforced by real sidecars, judged by the clients' counts; and with the control
// plane gone, which counts what is limited for all proxies together.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let front: Running;
let other: Running;
const instances: Running[] = [];

const services = ["api", "open", "web", "batch"]
  .map(
    (name) =>
      `---\napiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop}\nspec: {selector: {app: ${name}}, ports: [{name: http, port: 80}]}\n`,
  )
  .join("");

/** `timeout` is long: a busy machine is no broken one. */
const policies = `---
apiVersion: weft.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: api, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules:
  - {name: quota, scope: Global, match: {path: {value: /quota}}, by: [{type: Identity}], requests: 7, per: 24h}
  - {name: burst, match: {path: {value: /local}}, by: [{type: Header, header: x-user}], requests: 1, per: 1h, burst: 2}
  whenServiceFails: Deny
  timeout: 5s
---
apiVersion: weft.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: open, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: open}]
  rules: [{name: total, scope: Global, requests: 1000000, per: 24h}]
  timeout: 200ms
---
apiVersion: weft.dev/v1alpha1
kind: OverloadPolicy
metadata: {name: open, namespace: shop}
spec: {targetRefs: [{kind: Service, name: open}], concurrency: 1, queue: {max: 1, targetDelay: 30s}}
`;

interface Policy {
  readonly status?: {
    readonly ancestors: readonly {
      readonly conditions: readonly { readonly type: string; readonly status: string; readonly reason: string }[];
    }[];
  };
}
/** The policy is in force at an instance when its answers tell of it. */
async function inForce(): Promise<number> {
  const told = new Set<string>();
  for (let n = 0; n < 10; n++) {
    const answer = await get(front, "http://api/local", { "x-user": crypto.randomUUID() });
    const { instance } = (await answer.json()) as { instance: string };
    if (answer.headers.has("x-ratelimit-limit")) told.add(instance);
  }
  return told.size;
}
const reasons = async (kind: string, name: string) =>
  ((await mesh.processes.weftJson<Policy>(["get", kind, name, "-n", "shop"])).status?.ancestors ?? []).flatMap(({ conditions }) =>
    conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`),
  );

beforeAll(async () => {
  mesh = await TestMesh.start();
  await mesh.apply(services);
  const echo = app("echo.ts");
  const started = await Promise.all(
    ["web", "batch", "open", "api"].map((service) => mesh.run({ service, name: `${service}-1`, command: echo })),
  );
  [front, other] = started as [Running, Running];
  instances.push(started[3] as Running);
  // After the first: instances of one service are told apart by who came first.
  instances.push(await mesh.run({ service: "api", name: "api-2", command: echo }));
  await mesh.apply(policies);
  const enforced = ["Accepted True Accepted", "Enforced True Enforced"];
  expect(
    await eventually(
      10_000,
      () => reasons("ratelimitpolicies", "api"),
      (found) => found.length === 2,
    ),
  ).toEqual(enforced);
  expect(
    await eventually(
      10_000,
      () => reasons("overloadpolicies", "open"),
      (found) => found.length === 2,
    ),
  ).toEqual(enforced);
  expect(await eventually(20_000, inForce, (count) => count === 2)).toBe(2);
}, 90_000);
afterAll(async () => {
  await mesh?.stop();
}, 20_000);

async function get(from: Running, url: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, { proxy: from.httpProxy, headers, signal: AbortSignal.timeout(20_000) });
}

async function statuses(count: number, ask: () => Promise<Response>): Promise<Record<number, number>> {
  const found: Record<number, number> = {};
  for (let n = 0; n < count; n++) {
    const { status } = await ask();
    found[status] = (found[status] ?? 0) + 1;
  }
  return found;
}

test("a count for all instances together, and for each client its own", async () => {
  const before = Number((await get(front, "http://api/quota")).headers.get("x-ratelimit-remaining"));
  expect(await statuses(before + 5, () => get(front, "http://api/quota?x=1"))).toEqual({ 200: before, 429: 5 });
  const refused = await get(front, "http://api//quota/./a");
  expect(refused.status).toBe(429);
  expect(refused.headers.get("x-ratelimit-limit")).toBe('7, 7;w=86400;name="shop/api/quota"');
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await statuses(9, () => get(other, "http://api/quota"))).toEqual({ 200: 7, 429: 2 });
  expect((await get(front, "http://api/else")).status).toBe(200);
  // Both instances were asked, so that the count is no one's alone.
  for (const each of instances) expect(await metricSum(each, "weft_global_rate_limit_requests_total")).toBeGreaterThan(0);
}, 40_000);

test("a bucket for each value of a header at each instance", async () => {
  const found = await statuses(10, () => get(front, "http://api/local", { "x-user": "ann" }));
  // Two instances of two each.
  expect(found).toEqual({ 200: 4, 429: 6 });
  expect((await get(front, "http://api/local", { "x-user": "bob" })).status).toBe(200);
}, 40_000);

test("one at a time, one waits, the others are refused before the application sees them", async () => {
  const codes = await Promise.all(Array.from({ length: 6 }, async () => (await get(front, "http://open/?delay=1500")).status));
  expect(codes.sort()).toEqual([200, 200, 503, 503, 503, 503]);
}, 40_000);

test("with the control plane gone it is as each policy says", async () => {
  mesh.processes.controlPlane?.kill("SIGKILL");
  await mesh.processes.controlPlane?.exited;
  expect(
    await eventually(
      10_000,
      async () => (await get(front, "http://api/quota")).status,
      (status) => status === 500,
    ),
  ).toBe(500);
  expect((await get(front, "http://open/")).status).toBe(200);
  expect((await get(front, "http://api/else")).status).toBe(200);
}, 40_000);
