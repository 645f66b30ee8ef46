// Hosts outside the mesh with real processes: what a ServiceEntry makes known is reached by name through the sidecar, what none names is answered with 502
// and a sentence that names the way out, and two entries for one host are refused.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { app, eventually, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let client: Running;
let outside: ReturnType<typeof Bun.serve>;

beforeAll(async () => {
  outside = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) => Response.json({ host: request.headers.get("host"), path: new URL(request.url).pathname }),
  });
  mesh = await TestMesh.start();
  client = await mesh.run({ service: "client", name: "client", command: app("echo.ts") });
}, 60_000);

afterAll(async () => {
  await mesh?.stop();
  await outside?.stop(true);
}, 30_000);

const entry = (name: string, host: string, rest: string) =>
  `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: ${name}, namespace: shop}, spec: {hosts: [${host}], ports: [{number: 80, name: http, protocol: HTTP, targetPort: ${outside.port}}], ${rest}}}`;

const ask = async (host: string) => {
  const answer = await fetch(`http://${host}/some/path`, { proxy: client.httpProxy });
  return { status: answer.status, body: await answer.text() };
};

test("an unknown host is answered with 502 and the way out", async () => {
  const { status, body } = await ask("api.example.com");
  expect(status).toBe(502);
  expect(body).toContain("ServiceEntry");
});

test("a host with addresses of its own is reached by its name", async () => {
  await mesh.apply(entry("api", "api.example.com", "resolution: STATIC, endpoints: [{address: 127.0.0.1}]"));
  const { status, body } = await eventually(
    5000,
    () => ask("api.example.com"),
    (answer) => answer.status === 200,
  );
  expect([status, JSON.parse(body)]).toEqual([200, { host: "api.example.com", path: "/some/path" }]);
});

test("a host that DNS knows is asked for there", async () => {
  await mesh.apply(entry("local", "dns.example.com", "resolution: DNS, endpoints: [{address: localhost}]"));
  expect(
    (
      await eventually(
        5000,
        () => ask("dns.example.com"),
        (answer) => answer.status === 200,
      )
    ).status,
  ).toBe(200);
});

test("two entries for one host are refused, naming the other", async () => {
  const { code, err } = await mesh.processes.weft(
    ["apply", "-f", "-"],
    entry("again", "api.example.com", "resolution: STATIC, endpoints: [{address: 127.0.0.1}]"),
  );
  expect(code).not.toBe(0);
  expect(err).toContain("ServiceEntry shop/api has host api.example.com already");
});

test("a host that goes is unknown again", async () => {
  expect((await mesh.processes.weft(["delete", "serviceentry", "api", "-n", "shop"])).code).toBe(0);
  expect(
    (
      await eventually(
        5000,
        () => ask("api.example.com"),
        (answer) => answer.status === 502,
      )
    ).status,
  ).toBe(502);
});
