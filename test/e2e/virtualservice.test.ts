// VirtualServices over several objects and places, with real processes: routes that a team keeps in its own namespace, rules by who calls, the same
// object at a Gateway, opaque connections by who calls, a host of a ServiceEntry. The objects are those of docs/routing.md.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { freePort } from "../../demo/cast.ts";
import type { Condition, KubeObject } from "../../src/api/meta.ts";
import { app, eventually, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let front: Running;
let batch: Running;
let outside: ReturnType<typeof Bun.serve>;
const ports = { edge: 0, door: 0, frontDb: 0, batchDb: 0 };

const subsets = (host: string) => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ${host}, namespace: shop}
spec:
  host: ${host}
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
---`;

const objects = () => `${subsets("reviews")}${subsets("db")}
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: weft
  listeners: [{name: web, port: ${ports.edge}, protocol: HTTP, hostname: "*.example"}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door, namespace: shop}
spec:
  servers: [{port: {number: ${ports.door}, name: web, protocol: HTTP}, hosts: [./shop.example]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews, shop.example]
  gateways: [mesh, edge, door]
  http:
    - name: ratings
      match: [{uri: {prefix: /ratings}}]
      headers: {request: {set: {x-root: shop}}}
      delegate: {name: ratings, namespace: teams}
    - name: batch
      match: [{sourceLabels: {app: batch}, gateways: [mesh]}]
      route: [{destination: {host: reviews, subset: v1}}]
    - name: everyone
      route: [{destination: {host: reviews, subset: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings, namespace: teams}
spec:
  http:
    - match: [{uri: {exact: /ratings/none}}]
      directResponse: {status: 404, body: {string: no such rating}}
    - headers: {request: {set: {x-team: ratings}}}
      route: [{destination: {host: reviews.shop.svc.cluster.local, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: shop}
spec:
  hosts: [db]
  tcp:
    - match: [{sourceLabels: {app: batch}}]
      route: [{destination: {host: db, subset: v2}}]
    - route: [{destination: {host: db, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pay, namespace: shop}
spec:
  hosts: [pay.example]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: ${outside.port}}]
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: pay, namespace: shop}
spec:
  hosts: [pay.example]
  http:
    - {match: [{uri: {prefix: /admin}}], directResponse: {status: 403}}
    - {route: [{destination: {host: pay.example}}]}
`;

beforeAll(async () => {
  outside = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: (request) => new Response(new URL(request.url).pathname) });
  mesh = await TestMesh.start();
  for (const name of ["edge", "door", "frontDb", "batchDb"] as const) ports[name] = await freePort();
  const tcp = { service: "db", protocol: "tcp" as const, flags: ["--service-port", "7000"], command: app("tcp-echo.ts") };
  const http = { service: "reviews", command: app("echo.ts") };
  for (const version of ["v1", "v2"]) {
    await mesh.run({ ...http, name: `reviews-${version}`, version, env: { INSTANCE: version } });
    // Only v1 of the database runs: who is led to v2 is closed.
    if (version === "v1") await mesh.run({ ...tcp, name: "db-v1", version });
  }
  front = await mesh.run({ service: "front", name: "front", command: app("echo.ts"), upstreams: [`db=${ports.frontDb}`] });
  batch = await mesh.run({ service: "batch", name: "batch", command: app("echo.ts"), upstreams: [`db=${ports.batchDb}`] });
  await mesh.apply(objects());
  for (const name of ["edge", "door"]) mesh.processes.startWeft(["gateway", name, "--namespace", "shop"]);
}, 90_000);

afterAll(async () => {
  await mesh?.stop();
  await outside?.stop(true);
}, 30_000);

interface Echo {
  readonly instance: string;
  readonly headers: Readonly<Record<string, string>>;
}

const ask = async (of: Running, url: string) => {
  const answer = await fetch(url, { proxy: of.httpProxy });
  const text = await answer.text();
  return { status: answer.status, text, echo: text.startsWith("{") ? (JSON.parse(text) as Echo) : undefined };
};

async function conditions(name: string, namespace = "shop"): Promise<readonly Condition[]> {
  const object = await mesh.processes.weftJson<KubeObject>(["get", "virtualservices", name, "-n", namespace]);
  return (object.status as { conditions?: Condition[] } | undefined)?.conditions ?? [];
}

test("routes are kept by a team in its own namespace, and get what the root says", async () => {
  const { echo } = await eventually(
    15_000,
    () => ask(front, "http://reviews/ratings/7"),
    (answer) => answer.echo?.headers["x-team"] === "ratings",
  );
  expect([echo?.instance, echo?.headers["x-root"]]).toEqual(["v1", "shop"]);
  expect(await ask(front, "http://reviews/ratings/none")).toMatchObject({ status: 404, text: "no such rating\n" });
  const said = await eventually(
    10_000,
    () => conditions("ratings", "teams"),
    (all) => all.length > 0,
  );
  expect(said.find(({ type }) => type === "Accepted")?.message).toBe("VirtualService shop/reviews delegates to it");
}, 60_000);

test("rules go by who calls", async () => {
  for (const [of, instance] of [
    [front, "v2"],
    [batch, "v1"],
  ] as const)
    await eventually(
      10_000,
      () => ask(of, "http://reviews/"),
      (answer) => answer.echo?.instance === instance,
    );
}, 60_000);

test.each(["edge", "door"] as const)(
  "the same object speaks at a Gateway of either group (%s), but for what is about sidecars",
  async (door) => {
    const from = async (path: string) => {
      const answer = await fetch(`http://127.0.0.1:${ports[door]}${path}`, { headers: { host: "shop.example" } });
      return { status: answer.status, text: await answer.text() };
    };
    const { text } = await eventually(
      15_000,
      () => from("/").catch((error: unknown) => ({ status: 0, text: String(error) })),
      ({ status }) => status === 200,
    );
    expect((JSON.parse(text) as Echo).instance).toBe("v2");
    expect((JSON.parse((await from("/ratings/1")).text) as Echo).headers["x-team"]).toBe("ratings");
    const bound = await eventually(
      10_000,
      () => conditions("reviews"),
      (all) => all.some(({ type, status }) => type === "GatewaysBound" && status === "True"),
    );
    expect(bound.find(({ type }) => type === "DelegatesResolved")?.status).toBe("True");
  },
  60_000,
);

/** The first words of whoever answers at a local port; empty = it was closed. */
function greeting(port: number): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect(port, "127.0.0.1");
  socket.on("data", (bytes) => {
    resolve(bytes.toString());
    socket.destroy();
  });
  socket.on("error", () => resolve(""));
  socket.on("close", () => resolve(""));
  return promise;
}

test("connections go by who calls too, and the status says which subset nobody is in", async () => {
  await eventually(
    10_000,
    () => greeting(ports.frontDb),
    (text) => text === "hello\n",
  );
  await eventually(
    10_000,
    () => greeting(ports.batchDb),
    (text) => text === "",
  );
  const said = await eventually(
    10_000,
    () => conditions("db"),
    (all) => all.some(({ type, status }) => type === "SubsetsResolved" && status === "False"),
  );
  expect(said.find(({ type }) => type === "SubsetsResolved")?.message).toContain(
    'spec.tcp[0].route[0].destination: no instance of db.shop.svc.cluster.local fits subset "v2" of DestinationRule shop/db',
  );
}, 60_000);

test("a host of a ServiceEntry has routes as well", async () => {
  await eventually(
    10_000,
    () => ask(front, "http://pay.example/pay"),
    ({ text }) => text === "/pay",
  );
  expect((await ask(front, "http://pay.example/admin/keys")).status).toBe(403);
}, 60_000);

test("a delegate that is missing and a circle are told with both names", async () => {
  const object = (name: string, http: string) =>
    `{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: ${name}, namespace: teams}, spec: {http: [${http}]}}`;
  await mesh.apply(object("one", "{delegate: {name: two}}"));
  const said = await eventually(
    10_000,
    () => conditions("one", "teams"),
    (all) => all.some(({ type }) => type === "DelegatesResolved"),
  );
  expect(said.find(({ type }) => type === "DelegatesResolved")?.message).toContain(
    "VirtualService teams/one delegates to teams/two, and there is no such VirtualService",
  );
  const { code, err } = await mesh.processes.weft(["apply", "-f", "-"], object("two", "{delegate: {name: one}}"));
  expect(code).not.toBe(0);
  expect(err).toContain("spec.http[0].delegate: VirtualService teams/one delegates back to teams/two");
}, 60_000);
