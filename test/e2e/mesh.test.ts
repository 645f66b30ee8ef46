// A small mesh of real processes: how applications reach each other, what policy and routes do to them, and what a refused update leaves behind.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { freePort } from "../../demo/cast.ts";
import { app, eventually, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let client: Running;
let echoA: Running;
let lines: Running;
let upstreamPort = 0;
let tcpUpstreamPort = 0;

beforeAll(async () => {
  mesh = await TestMesh.start();
  upstreamPort = await freePort();
  tcpUpstreamPort = await freePort();
  [echoA, lines] = await Promise.all([
    mesh.run({ service: "echo", name: "echo-a", version: "v1", command: app("echo.ts") }),
    mesh.run({ service: "lines", name: "lines", protocol: "tcp", command: app("tcp-echo.ts") }),
  ]);
  client = await mesh.run({
    service: "client",
    name: "client",
    upstreams: [`echo=${upstreamPort}`, `lines=${tcpUpstreamPort}`],
    command: app("echo.ts"),
  });
}, 60_000);

afterAll(async () => {
  await mesh?.stop();
}, 30_000);

const ask = (url: string, init: BunFetchRequestInit = {}): Promise<Response> => fetch(url, { proxy: client.httpProxy, ...init });

interface Echo {
  instance: string;
  path: string;
  method: string;
  host: string;
  bodyBytes: number;
  headers: Record<string, string>;
}

describe("an application reaches a service", () => {
  for (const name of ["echo", "echo.shop", "echo.shop.svc", "echo.shop.svc.cluster.local", "echo:80"]) {
    test(`as http://${name}/ through HTTP_PROXY`, async () => {
      const answer = await ask(`http://${name}/some/path?x=1`);
      const echo = (await answer.json()) as Echo;
      expect(answer.status).toBe(200);
      expect(echo).toMatchObject({ instance: "echo-a", path: "/some/path", method: "GET" });
      expect(echo.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
    });
  }

  test("with a body, and the body arrives whole", async () => {
    const answer = await ask("http://echo/upload", { method: "POST", body: "x".repeat(300_000) });
    expect(await answer.json()).toMatchObject({ method: "POST", bodyBytes: 300_000 });
  });

  test("through a fixed local port, with no proxy variable", async () => {
    const answer = await fetch(`http://127.0.0.1:${upstreamPort}/direct`, { proxy: "" });
    expect(await answer.json()).toMatchObject({ instance: "echo-a", path: "/direct" });
  });

  test("that speaks TCP and speaks first, through a fixed local port", async () => {
    const text = await new Promise<string>((resolve, reject) => {
      let seen = "";
      const socket = connect(tcpUpstreamPort, "127.0.0.1", () => socket.write("ping\n"));
      socket.on("data", (bytes) => {
        seen += bytes.toString();
        if (seen.includes("ping\n")) socket.end();
      });
      socket.on("close", () => resolve(seen));
      socket.on("error", reject);
    });
    expect(text).toBe("hello\nping\n");
  });

  test("and a name the mesh does not know is refused with its reason", async () => {
    const answer = await ask("http://nowhere/");
    expect(answer.status).toBeGreaterThanOrEqual(404);
    expect(await answer.text()).toContain("is no service of the mesh");
    expect(answer.headers.get("x-weft-reason")).toStartWith("NR ");
  });
});

describe("routes", () => {
  test("by header and path, and a redirect", async () => {
    await mesh.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: echo}]
  rules:
    - matches: [{path: {type: PathPrefix, value: /old}}]
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
      backendRefs: [{name: echo, port: 80}]
    - matches: [{headers: [{name: x-kind, value: canary}]}]
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-routed, value: canary}]}}]
      backendRefs: [{name: echo, port: 80}]
    - backendRefs: [{name: echo, port: 80}]
`);
    const rewritten = await eventually(
      2000,
      async () => (await (await ask("http://echo/old/thing")).json()) as Echo,
      (echo) => echo.path === "/new/thing",
    );
    expect(rewritten.path).toBe("/new/thing");
    const canary = (await (await ask("http://echo/x", { headers: { "x-kind": "canary" } })).json()) as Echo;
    expect(canary.headers["x-routed"]).toBe("canary");
    expect(((await (await ask("http://echo/x")).json()) as Echo).headers["x-routed"]).toBeUndefined();
    const { items } = await mesh.processes.weftJson<{
      items: { status: { parents: { conditions: { type: string; status: string }[] }[] } }[];
    }>(["get", "httproutes", "-n", "shop"]);
    expect(items[0]?.status.parents[0]?.conditions).toEqual(
      expect.arrayContaining([expect.objectContaining({ type: "Accepted", status: "True" })]),
    );
  });

  test("a change is in force at the sidecar within 200 ms of weft apply returning", async () => {
    const weighted = (value: string): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: echo}]
  rules:
    - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-turn, value: "${value}"}]}}]
      backendRefs: [{name: echo, port: 80}]
`;
    for (const turn of ["one", "two", "three"]) {
      await mesh.apply(weighted(turn));
      const began = performance.now();
      const seen = await eventually(
        2000,
        async () => ((await (await ask("http://echo/")).json()) as Echo).headers["x-turn"],
        (value) => value === turn,
      );
      expect(seen).toBe(turn);
      expect(performance.now() - began).toBeLessThan(200);
    }
  });

  test("a route to a Service that is missing is accepted, says so in its status, and answers 500", async () => {
    await mesh.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: echo}]
  rules: [{backendRefs: [{name: not-there, port: 80}]}]
`);
    const answer = await eventually(
      2000,
      () => ask("http://echo/"),
      (response) => response.status === 500,
    );
    expect(answer.status).toBe(500);
    const read = async (): Promise<string> => JSON.stringify(await mesh.processes.weftJson(["get", "httproute", "echo", "-n", "shop"]));
    expect(await eventually(2000, read, (text) => text.includes("BackendNotFound"))).toContain("not-there");
    expect((await mesh.processes.weft(["delete", "httproute", "echo", "-n", "shop"])).code).toBe(0);
    expect(
      (
        await eventually(
          2000,
          () => ask("http://echo/"),
          (response) => response.status === 200,
        )
      ).status,
    ).toBe(200);
  });
});

describe("policy", () => {
  test("lets through whom it names and refuses everybody else, on connections that are open already too", async () => {
    const policy = (principal: string): string => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: echo-callers, namespace: shop}
spec:
  selector: {matchLabels: {app: echo}}
  action: ALLOW
  rules: [{from: [{source: {principals: ["cluster.local/ns/shop/sa/${principal}"]}}]}]
`;
    await mesh.apply(policy("nobody"));
    const refused = await eventually(
      2000,
      () => ask("http://echo/"),
      (answer) => answer.status === 403,
    );
    expect(refused.status).toBe(403);
    expect(refused.headers.get("x-weft-reason")).toContain("RBAC");
    await mesh.apply(policy("client"));
    expect(
      (
        await eventually(
          2000,
          () => ask("http://echo/"),
          (answer) => answer.status === 200,
        )
      ).status,
    ).toBe(200);
    expect((await mesh.processes.weft(["delete", "authorizationpolicy", "echo-callers", "-n", "shop"])).code).toBe(0);
  });

  test("a TCP connection that is open when policy changes is closed", async () => {
    const socket = connect(tcpUpstreamPort, "127.0.0.1");
    await new Promise((resolve) => socket.once("data", resolve));
    const closed = new Promise<boolean>((resolve) => socket.once("close", () => resolve(true)));
    await mesh.apply(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-lines, namespace: shop}
spec:
  selector: {matchLabels: {app: lines}}
`);
    expect(await Promise.race([closed, Bun.sleep(3000).then(() => false)])).toBe(true);
    expect((await mesh.processes.weft(["delete", "authorizationpolicy", "no-lines", "-n", "shop"])).code).toBe(0);
  });
});

describe("a proxy that rejects an update", () => {
  let squatter: Server | undefined;

  afterAll(() => {
    squatter?.close();
  });

  test("serves on as it was, and weft status shows why", async () => {
    const server = createServer();
    squatter = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const taken = (server.address() as AddressInfo).port;
    const name = client.entry.metadata.name;
    const patch = {
      metadata: { annotations: { "weft.dev/upstreams": `echo=${upstreamPort},lines=${tcpUpstreamPort},echo.shop:80=${taken}` } },
    };
    const current = await mesh.processes.weftJson<Record<string, unknown> & { metadata: { annotations: Record<string, string> } }>([
      "get",
      "workloadentry",
      name,
      "-n",
      "shop",
    ]);
    current.metadata.annotations = { ...current.metadata.annotations, ...patch.metadata.annotations };
    await mesh.apply(JSON.stringify(current));
    const status = await eventually(
      4000,
      async () => (await mesh.processes.weft(["status", "-n", "shop"])).out,
      (text) => text.includes(String(taken)),
    );
    expect(status).toContain(String(taken));
    expect((await ask("http://echo/still-here")).status).toBe(200);
    expect((await fetch(`http://127.0.0.1:${upstreamPort}/still-here`, { proxy: "" })).status).toBe(200);
  });
});

test("malformed HTTP is answered 400, the connection closed, and the sidecar lives", async () => {
  const port = Number(new URL(client.httpProxy).port);
  for (const bad of [
    "GET http://echo/ HTTP/1.1\r\nHost: echo\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "GET  http://echo/ HTTP/1.1\r\n\r\n",
    "\u0000\u0001\u0002\r\n\r\n",
  ]) {
    const text = await new Promise<string>((resolve, reject) => {
      let seen = "";
      const socket = connect(port, "127.0.0.1", () => socket.write(bad));
      socket.on("data", (bytes) => {
        seen += bytes.toString("latin1");
      });
      socket.on("close", () => resolve(seen));
      socket.on("error", reject);
    });
    expect(text).toStartWith("HTTP/1.1 400 ");
  }
  expect((await ask("http://echo/")).status).toBe(200);
});

test("the port of a sidecar answers nobody in plain text", async () => {
  const { address, ports } = lines.entry.spec;
  const text = await new Promise<string>((resolve) => {
    let seen = "";
    const socket = connect(Object.values(ports)[0] as number, address, () => socket.write("ping\n"));
    socket.on("data", (bytes) => {
      seen += bytes.toString("latin1");
    });
    socket.on("close", () => resolve(seen));
    socket.on("error", () => {});
    setTimeout(() => socket.destroy(), 1500);
  });
  expect(text).not.toContain("hello");
  expect(text).not.toContain("ping");
  expect(echoA.entry.metadata.labels?.version).toBe("v1");
});
