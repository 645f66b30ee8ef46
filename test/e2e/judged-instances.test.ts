// Instances that fall ill in a mesh of real processes: one that answers errors is ejected within two seconds, one that fails its own health check gets
// no requests until it passes again, subsets and keys lead where their DestinationRule says.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { app, eventually, metricSum, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let client: Running;
let instances: readonly Running[];

beforeAll(async () => {
  mesh = await TestMesh.start();
  const made: Running[] = [];
  for (const name of ["a", "b", "c"])
    made.push(
      await mesh.run({
        service: "moody",
        name,
        version: name === "c" ? "v2" : "v1",
        flags: ["--health-http", "/healthz", "--health-interval", "100ms", "--health-failures", "2"],
        command: app("moody.ts"),
      }),
    );
  instances = made;
  client = await mesh.run({ service: "client", name: "client", command: app("echo.ts") });
}, 90_000);
afterAll(async () => {
  await mesh?.stop();
}, 30_000);

const mood = async (of: Running | undefined, words: string) => await (await fetch(`http://127.0.0.1:${of?.appPort}/mood?${words}`)).text();
const ask = async (headers: Record<string, string> = {}): Promise<readonly [status: number, who: string]> => {
  const answer = await fetch("http://moody.shop/", { proxy: client.httpProxy, headers });
  return [answer.status, await answer.text()];
};

test("a brown-out: one of three answers half of its requests with errors, and is out within two seconds", async () => {
  await mesh.apply(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: moody, namespace: shop}
spec:
  host: moody
  trafficPolicy:
    # Peak EWMA alone would send it so little that three in a row could take long.
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 30s}
`);
  await eventually(5_000, async () => (await config()).includes('"consecutive5xx":3'), Boolean);
  await mood(instances[0], "errors=50");
  const began = performance.now();
  let [early, late, lateBad] = [0, 0, 0];
  while (performance.now() - began < 4_000) {
    const answers = await Promise.all(Array.from({ length: 8 }, () => ask()));
    for (const [status] of answers) {
      if (performance.now() - began < 2_000) early++;
      else {
        late++;
        if (status !== 200) lateBad++;
      }
    }
  }
  expect(early).toBeGreaterThan(20);
  expect(late).toBeGreaterThan(20);
  expect(lateBad / late).toBeLessThan(0.01);
  expect(await metricSum(client, "weft_endpoint_ejections_total", { reason: "consecutive_5xx" })).toBe(1);
  expect(await metricSum(client, "weft_cluster_endpoints", { state: "ejected" })).toBe(1);
  const page = await (await fetch(`http://127.0.0.1:${client.adminPort}/clusters`)).text();
  expect(page).toContain("/failed_outlier_check");
  const events = () => mesh.processes.weftJson<{ items: { reason: string; message: string }[] }>(["get", "events", "-n", "shop"]);
  const noted = await eventually(5_000, events, ({ items }) => items.some((one) => one.reason === "Ejected"));
  expect(noted.items.find((one) => one.reason === "Ejected")?.message).toContain("consecutive_5xx");
  await mood(instances[0], "errors=0");
}, 30_000);

test("an instance that fails its own health check gets no requests, and some again when it passes", async () => {
  await mood(instances[1], "health=503");
  const healthOf = async () =>
    JSON.stringify((await mesh.entries()).find((entry) => entry.metadata.name === instances[1]?.entry.metadata.name)?.status ?? {});
  expect(await eventually(10_000, healthOf, (text) => text.includes("Unhealthy"))).toMatch(
    /the application fails its health checks; .* answers 503/,
  );
  await eventually(5_000, async () => !(await config()).includes(`"port":${port(1)}`), Boolean);
  for (let i = 0; i < 20; i++) expect((await ask())[1]).not.toBe("b");
  await mood(instances[1], "health=200");
  expect(await eventually(10_000, healthOf, (text) => text.includes("Answering"))).toContain("Answering");
  const seen = await eventually(
    10_000,
    async () => (await ask())[1],
    (who) => who === "b",
  );
  expect(seen).toBe("b");
}, 40_000);

test("a route leads to a subset, and a header is the key within it", async () => {
  await mesh.apply(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: moody, namespace: shop}
spec:
  host: moody
  trafficPolicy:
    loadBalancer: {consistentHash: {httpHeaderName: x-user}}
  subsets:
    - {name: v2, labels: {version: v2}}
`);
  await eventually(5_000, async () => (await config()).includes('"ring_hash"'), Boolean);
  expect(await config()).toContain("outbound|80|v2|moody.shop.svc.cluster.local");
  // What is accepted goes into force when all that it names has come, a moment later: by turns until then.
  const answersOf = async (user: string) => await Promise.all(Array.from({ length: 12 }, () => ask({ "x-user": user })));
  for (const user of ["ann", "bob"]) {
    const answers = await eventually(
      5_000,
      () => answersOf(user),
      ([first, ...others]) => others.every(([, who]) => who === first?.[1]),
    );
    expect(answers.map(([status]) => status)).toEqual(Array.from({ length: 12 }, () => 200));
    // And it stays so.
    expect(await answersOf(user)).toEqual(answers);
  }
}, 30_000);

test("callers ask instances themselves, where an annotation of the rule says how", async () => {
  await mesh.apply(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: moody
  namespace: shop
  annotations:
    weft.dev/health-check: "http:/healthz,interval=200ms,timeout=500ms,failures=2,successes=1"
    weft.dev/load-balancer: LEAST_CONNECTIONS
    weft.dev/heed-rate-limits: "true"
    weft.dev/instance-max-requests: "50"
    weft.dev/latency-outlier-factor: "3"
spec:
  host: moody
`);
  const good = () => metricSum(client, "weft_health_checks_total", { result: "success" });
  expect(await eventually(5_000, good, (count) => count >= 3)).toBeGreaterThanOrEqual(3);
  expect((await ask())[0]).toBe(200);
  expect(await config()).toContain('"least_connections"');
}, 30_000);

const port = (i: number): number => instances[i]?.entry.spec.ports.http ?? 0;

/** What the client's sidecar holds, as one text. */
async function config(): Promise<string> {
  return JSON.stringify(await (await fetch(`http://127.0.0.1:${client.adminPort}/config_dump`)).json());
}
