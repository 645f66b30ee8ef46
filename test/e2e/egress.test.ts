// Hosts outside the mesh with real processes: what a ServiceEntry makes known is reached by name through the sidecar, what none names is answered with 502
// and a sentence that names the way out, and two entries for one host are refused. Then hosts that nobody has named: by a wildcard, and by the switch of
// the namespace, over which a Sidecar goes; what a Sidecar hides, through the forward proxy and at explicit ports.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { freePort } from "../../demo/cast.ts";
import { app, eventually, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let client: Running;
let outside: ReturnType<typeof Bun.serve>;
// Bun's fetch keeps hosts named there from the proxy, also from one that it is told; commands that ran in this process name 127.0.0.1.
const bypass = { NO_PROXY: process.env.NO_PROXY, no_proxy: process.env.no_proxy };

beforeAll(async () => {
  for (const name of Object.keys(bypass)) delete process.env[name];
  outside = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) => Response.json({ host: request.headers.get("host"), path: new URL(request.url).pathname }),
  });
  mesh = await TestMesh.start();
  client = await mesh.run({ service: "client", name: "client", command: app("echo.ts") });
}, 60_000);

afterAll(async () => {
  for (const [name, value] of Object.entries(bypass)) if (value !== undefined) process.env[name] = value;
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

/** Asks until an answer has this status; the answer. */
const until = (host: string, status: number) =>
  eventually(
    10_000,
    () => ask(host),
    (answer) => answer.status === status,
  );

/** The first line of an answer to CONNECT. */
function tunnel(authority: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect(Number(new URL(client.httpProxy).port), "127.0.0.1", () => {
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  });
  let text = "";
  socket.on("data", (bytes) => {
    text += bytes.toString("latin1");
    if (!text.includes("\r\n")) return;
    socket.destroy();
    resolve(text.slice(0, text.indexOf("\r\n")));
  });
  socket.on("error", reject);
  return promise;
}

const localhostNames = await Bun.dns.lookup("any.localhost").then(
  () => true,
  () => false,
);

test.skipIf(!localhostNames)(
  "a wildcard leads to whatever host a request says, on the ports of the entry",
  async () => {
    const { port } = outside;
    await mesh.apply(
      `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: any, namespace: shop}, spec: {hosts: ["*.localhost"], resolution: NONE, ports: [{number: ${port}, name: http, protocol: HTTP}]}}`,
    );
    const { body } = await until(`one.localhost:${port}`, 200);
    expect(JSON.parse(body)).toEqual({ host: `one.localhost:${port}`, path: "/some/path" });
    expect((await ask(`two.localhost:${port}`)).status).toBe(200);
    expect((await ask("two.localhost:81")).status).toBe(502);
    expect(await tunnel(`three.localhost:${port}`)).toStartWith("HTTP/1.1 200 ");
  },
  60_000,
);

const shop = (labels: string) => `{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: ${labels}}}`;

test("a namespace lets calls out to hosts that nobody has named, but not under the mesh's own names", async () => {
  const host = `127.0.0.1:${outside.port}`;
  expect((await ask(host)).status).toBe(502);
  expect(await tunnel(host)).toStartWith("HTTP/1.1 502 ");
  await mesh.apply(shop("{weft.dev/outbound: allow-any}"));
  expect(JSON.parse((await until(host, 200)).body)).toEqual({ host, path: "/some/path" });
  expect(await tunnel(host)).toStartWith("HTTP/1.1 200 ");
  expect((await ask("nobody.shop.svc.cluster.local")).status).toBe(502);
  const { status, body } = await ask("no-such-host.invalid");
  expect([status, body]).toEqual([503, expect.stringContaining("the name no-such-host.invalid has no address that can be found")]);
  const { code, err } = await mesh.processes.weft(["apply", "-f", "-"], shop("{weft.dev/outbound: maybe}"));
  expect([code === 0, err]).toEqual([false, expect.stringContaining('must be registry-only or allow-any, got "maybe"')]);
}, 60_000);

test("a Sidecar goes before the namespace, and hides services from the forward proxy and from explicit ports", async () => {
  const port = await freePort();
  await mesh.run({ service: "cart", name: "cart", command: app("echo.ts") });
  const caller = await mesh.run({ service: "caller", name: "caller", command: app("echo.ts"), upstreams: [`cart=${port}`] });
  const explicit = () =>
    fetch(`http://127.0.0.1:${port}/`).then(
      (answer) => answer.status,
      () => 0,
    );
  const named = async () => (await fetch("http://cart/", { proxy: caller.httpProxy })).status;
  await eventually(10_000, explicit, (status) => status === 200);
  expect(await named()).toBe(200);
  const sidecar = (spec: string) =>
    mesh.apply(`{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: default, namespace: shop}, spec: ${spec}}`);
  await sidecar('{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ["./client.shop.svc.cluster.local"]}]}');
  await until(`127.0.0.1:${outside.port}`, 502);
  await eventually(10_000, explicit, (status) => status === 0);
  await eventually(10_000, named, (status) => status === 502);
  expect((await fetch("http://client/", { proxy: caller.httpProxy })).status).toBe(200);
  await sidecar('{egress: [{hosts: ["./*"]}]}');
  await eventually(10_000, explicit, (status) => status === 200);
  await until(`127.0.0.1:${outside.port}`, 200);
}, 60_000);
