// An ingress with real processes: `weft gateway` opens the ports of a Gateway, and clients without anything of ours come in over HTTP, HTTPS, TLS and
// TCP; behind it the mesh speaks mutual TLS. What the Gateway's status says is what is so.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import type { Condition, KubeObject } from "../../src/api/meta.ts";
import { app, eventually, type Running, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
let cart: Running;
let gateway: Bun.Subprocess<"ignore", "ignore", "pipe">;
const ports = { http: 0, https: 0, tcp: 0 };
const words: string[] = [];

async function run(command: readonly string[]): Promise<{ readonly code: number; readonly out: string }> {
  const child = Bun.spawn([...command], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  return { code, out: out + err };
}

async function certificateFor(name: string): Promise<{ readonly cert: string; readonly key: string }> {
  const [cert, key] = [join(mesh.dataDir, `${name}.pem`), join(mesh.dataDir, `${name}.key`)];
  const made = await run(
    `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ${key} -out ${cert} -subj /CN=${name} -addext subjectAltName=DNS:${name}`.split(
      " ",
    ),
  );
  if (made.code !== 0) throw new Error(made.out);
  return { cert, key };
}

const indent = (text: string) => text.trim().replaceAll(/^/gm, "    ");

function objects(shop: { readonly cert: string; readonly key: string }): string {
  return `
apiVersion: v1
kind: Secret
metadata: {name: shop-cert, namespace: shop}
type: kubernetes.io/tls
stringData:
  tls.crt: |
${indent(readFileSync(shop.cert, "utf8"))}
  tls.key: |
${indent(readFileSync(shop.key, "utf8"))}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: weft
  listeners:
    - {name: web, port: ${ports.http}, protocol: HTTP, hostname: "*.example.com"}
    - {name: shop, port: ${ports.https}, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: shop-cert}]}}
    - {name: raw, port: ${ports.tcp}, protocol: TCP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example.com]
  rules:
    - matches: [{path: {value: /cart}}]
      filters:
        - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /carts}}}
        - {type: CORS, cors: {allowOrigins: ["https://*.example.org"], allowMethods: [GET, PUT]}}
      backendRefs:
        - {name: cart, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-edge, value: 100%}]}}]}
    - matches: [{path: {value: /old}}]
      filters: [{type: RequestRedirect, requestRedirect: {statusCode: 308, hostname: new.example.com}}]
    - matches: [{path: {value: /off}}]
      backendRefs: [{name: cart, port: 80, weight: 0}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: raw, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: raw}], rules: [{backendRefs: [{name: lines, port: 7000}]}]}
`;
}

beforeAll(async () => {
  mesh = await TestMesh.start();
  for (const name of ["http", "https", "tcp"] as const) ports[name] = await freePort();
  cart = await mesh.run({ service: "cart", name: "cart-a", command: app("echo.ts") });
  await mesh.run({ service: "lines", name: "lines-a", protocol: "tcp", flags: ["--service-port", "7000"], command: app("tcp-echo.ts") });
  await mesh.apply(objects(await certificateFor("shop.example.com")));
  gateway = mesh.processes.startWeft(["gateway", "edge", "--namespace", "shop"], words);
  await eventually(
    15_000,
    () => curl(`http://shop.example.com:${ports.http}/cart`),
    ({ status }) => status === 200,
  );
}, 60_000);

afterAll(async () => {
  await mesh?.stop();
}, 30_000);

/** What comes back over TCP; empty = the connection was closed, or never made. */
function sayHello(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("hello\n"));
    socket.once("data", (bytes) => {
      resolve(bytes.toString());
      socket.destroy();
    });
    socket.once("error", () => resolve(""));
    socket.once("close", () => resolve(""));
  });
}

interface Answer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** Through curl, every name leads to 127.0.0.1. */
async function curl(url: string, ...more: readonly string[]): Promise<Answer> {
  const { hostname, port } = new URL(url);
  const { out } = await run(["curl", "-s", "-i", "-m", "5", "--resolve", `${hostname}:${port}:127.0.0.1`, ...more, url]);
  const end = out.indexOf("\r\n\r\n");
  const head = end < 0 ? out : out.slice(0, end);
  return { status: Number(/^HTTP\/[0-9.]+ (\d+)/.exec(head)?.[1] ?? 0), head, body: end < 0 ? "" : out.slice(end + 4) };
}

async function gatewayStatus(): Promise<{
  addresses: { value: string }[];
  conditions: Condition[];
  listeners: { name: string; attachedRoutes: number }[];
}> {
  const object = await mesh.processes.weftJson<KubeObject>(["get", "gateways", "edge", "-n", "shop"]);
  return object.status as never;
}

describe("a gateway", () => {
  test("leads HTTP into the mesh, with rewrite and edits, over mutual TLS with its own identity", async () => {
    const { status, body } = await curl(`http://shop.example.com:${ports.http}/cart/7?a=b`);
    expect(status).toBe(200);
    const seen = JSON.parse(body) as { path: string; headers: Record<string, string> };
    expect([seen.path, seen.headers["x-edge"]]).toEqual(["/carts/7", "100%"]);
    expect([seen.headers["x-forwarded-for"], seen.headers["x-forwarded-proto"]]).toEqual(["127.0.0.1", "http"]);
    const page = await (await fetch(`http://127.0.0.1:${cart.adminPort}/stats/prometheus`)).text();
    expect(page).toContain('source_principal="spiffe://cluster.local/ns/shop/sa/edge"');
    expect(page).toContain('connection_security_policy="mutual_tls"');
  });

  test("tells hosts apart, and says what it has no route for", async () => {
    expect((await curl(`http://shop.example.com:${ports.http}/elsewhere`)).status).toBe(404);
    expect((await curl(`http://other.example.com:${ports.http}/cart`)).status).toBe(404);
    expect((await curl(`http://shop.example.net:${ports.http}/cart`)).status).toBe(404);
  });

  test("answers 500 where every backend has weight 0", async () => {
    const { status, body } = await curl(`http://shop.example.com:${ports.http}/off`);
    expect([status, body.trimEnd()]).toEqual([500, "Every backend of HTTPRoute rule shop/shop/2 has weight 0."]);
  });

  test("redirects", async () => {
    const { status, head } = await curl(`http://shop.example.com:${ports.http}/old/page`);
    expect(status).toBe(308);
    expect(head.toLowerCase()).toContain("location: http://new.example.com");
  });

  test("answers preflights for the origins that may, and for no others", async () => {
    const ask = (origin: string) =>
      curl(
        `http://shop.example.com:${ports.http}/cart`,
        "-X",
        "OPTIONS",
        "-H",
        `Origin: ${origin}`,
        "-H",
        "Access-Control-Request-Method: PUT",
      );
    const may = await ask("https://a.example.org");
    expect(may.head.toLowerCase()).toContain("access-control-allow-origin: https://a.example.org");
    expect(may.head.toLowerCase()).toContain("access-control-allow-methods: get, put");
    expect((await ask("https://evil.example")).head.toLowerCase()).not.toContain("access-control-allow-origin");
  });

  test("decrypts with the certificate of a Secret, over HTTP/2 and HTTP/1.1", async () => {
    const root = ["--cacert", join(mesh.dataDir, "shop.example.com.pem")];
    const second = await curl(`https://shop.example.com:${ports.https}/cart`, ...root, "--http2");
    expect([second.status, second.head.slice(0, 6)]).toEqual([200, "HTTP/2"]);
    expect((await curl(`https://shop.example.com:${ports.https}/cart`, ...root, "--http1.1")).status).toBe(200);
    // No listener has that name: the handshake ends.
    expect((await curl(`https://nobody.example.com:${ports.https}/cart`, "-k")).status).toBe(0);
  });

  test("carries TCP", async () => {
    expect(await sayHello(ports.tcp)).toContain("hello");
  });

  test("whose port another program has says so in its status, and serves as soon as the port is free", async () => {
    const other = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    try {
      const raw = await freePort();
      await mesh.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: side, namespace: shop}
spec:
  gatewayClassName: weft
  listeners: [{name: web, port: ${other.port}, protocol: HTTP}, {name: raw, port: ${raw}, protocol: TCP}]
`);
      mesh.processes.startWeft(["gateway", "side", "--namespace", "shop"]);
      const programmed = async () => {
        const { status } = await mesh.processes.weftJson<{
          status: { conditions: Condition[]; listeners: { name: string; conditions: Condition[] }[] };
        }>(["get", "gateways", "side", "-n", "shop"]);
        const of = (list: readonly Condition[]) => {
          const found = list.find(({ type }) => type === "Programmed");
          return `${found?.status} ${found?.reason}: ${found?.message}`;
        };
        return {
          whole: of(status.conditions),
          ...Object.fromEntries(status.listeners.map((each) => [each.name, of(each.conditions)])),
        } as Record<string, string>;
      };
      const taken = await eventually(15_000, programmed, ({ web }) => web?.startsWith("False Invalid") === true);
      expect(taken.web).toMatch(
        new RegExp(`no process has port ${other.port} open; side-\\S+ says: 127.0.0.1:${other.port} is in use by another`),
      );
      expect(taken.raw).toMatch(/^False Pending: no TCPRoute that leads somewhere is attached/);
      expect(taken.whole).toStartWith("False Invalid: no process has port");
      other.stop(true);
      // Tries come 1, 3, 7, 15 and 31 s after the first.
      const open = await eventually(40_000, programmed, ({ web }) => web?.startsWith("True") === true);
      expect(open.whole).toStartWith("True Programmed");
      expect((await curl(`http://shop.example.com:${other.port}/`)).status).toBe(404);
      // A VirtualService opens the port for connections of some networks.
      const from = (subnet: string, to: string) => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: raw, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [side]
  tcp:
    - {match: [{sourceSubnet: ${subnet}, destinationSubnets: [${to}]}], route: [{destination: {host: lines, port: {number: 7000}}}]}
`;
      await mesh.apply(from("127.0.0.0/8", "127.0.0.1"));
      await eventually(
        15_000,
        () => sayHello(raw),
        (said) => said.includes("hello"),
      );
      expect((await programmed()).raw).toStartWith("True Programmed");
      await mesh.apply(from("192.0.2.0/24", "127.0.0.1"));
      await eventually(
        15_000,
        () => sayHello(raw),
        (said) => said === "",
      );
      await mesh.apply(from("127.0.0.0/8", "192.0.2.0/24"));
      expect(await sayHello(raw)).toBe("");
    } finally {
      other.stop(true);
    }
  }, 120_000);

  test("has a status that says where it is and what is attached", async () => {
    const { addresses, conditions, listeners } = await eventually(5000, gatewayStatus, (status) => (status.addresses ?? []).length > 0);
    expect(addresses.map(({ value }) => value)).toEqual(["127.0.0.1"]);
    expect(conditions.map(({ type, status }) => [type, status])).toEqual([
      ["Accepted", "True"],
      ["Programmed", "True"],
    ]);
    expect(listeners.map(({ name, attachedRoutes }) => [name, attachedRoutes])).toEqual([
      ["web", 1],
      ["shop", 1],
      ["raw", 1],
    ]);
  });

  test("obeys policies that select it, and goes on serving what it had when a change is refused", async () => {
    await mesh.apply(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: edge, namespace: shop}
spec:
  selector: {matchLabels: {app: edge}}
  action: DENY
  rules: [{to: [{operation: {paths: [/cart/secret]}}]}]
`);
    const denied = await eventually(
      5000,
      () => curl(`http://shop.example.com:${ports.http}/cart/secret`),
      ({ status }) => status === 403,
    );
    expect(denied.status).toBe(403);
    // No other spelling gets by, and what is routed is the normal form too.
    for (const spelling of ["/x/../cart/secret", "/cart//secret", "/cart/%73ecret"])
      expect((await curl(`http://shop.example.com:${ports.http}${spelling}`, "--path-as-is")).status).toBe(403);
    expect((await curl(`http://shop.example.com:${ports.http}/elsewhere/../cart`, "--path-as-is")).status).toBe(200);
    const { code, err } = await mesh.processes.weft(
      ["apply", "-f", "-"],
      "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: shop}, spec: {gatewayClassName: weft, listeners: [{name: web, port: 80, protocol: HTTPS}]}}",
    );
    expect(code).not.toBe(0);
    expect(err).toContain("spec.listeners[0].tls");
    expect((await curl(`http://shop.example.com:${ports.http}/cart`)).status).toBe(200);
  });

  test("believes the proxies that its annotation counts, and nobody before them", async () => {
    await mesh.apply(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: edge-clients, namespace: shop}
spec: {selector: {matchLabels: {app: edge}}, action: DENY, rules: [{from: [{source: {remoteIpBlocks: [203.0.113.0/24, "2001:db8:bad::/48"]}}]}]}
`);
    const from = (addresses: string, ...more: readonly string[]) =>
      curl(`http://shop.example.com:${ports.http}/cart`, "-H", `X-Forwarded-For: ${addresses}`, ...more);
    expect((await from("203.0.113.9")).status).toBe(200);
    const pair = { cert: join(mesh.dataDir, "shop.example.com.pem"), key: join(mesh.dataDir, "shop.example.com.key") };
    const trusting = objects(pair).replace(
      "metadata: {name: edge, namespace: shop}",
      'metadata: {name: edge, namespace: shop, annotations: {weft.dev/trusted-proxies: "1"}}',
    );
    await mesh.apply(trusting);
    const refused = await eventually(
      15_000,
      () => from("203.0.113.9"),
      ({ status }) => status === 403,
    );
    expect(refused.head).toContain("edge-clients");
    expect((await from("192.0.2.1, 2001:db8:bad::7")).status).toBe(403);
    expect((await from("203.0.113.9, 192.0.2.1")).status).toBe(200);
    const { headers } = JSON.parse((await from("192.0.2.1", "-H", "X-Forwarded-Proto: https")).body) as { headers: Record<string, string> };
    expect([headers["x-forwarded-for"], headers["x-forwarded-proto"]]).toEqual(["192.0.2.1, 127.0.0.1", "https"]);
  }, 60_000);

  test("ends in good order, and its status says so", async () => {
    gateway.kill("SIGTERM");
    expect(await gateway.exited).toBe(143);
    const { conditions } = await eventually(5000, gatewayStatus, (status) => (status.addresses ?? []).length === 0);
    expect(conditions.map(({ type, reason }) => [type, reason])).toEqual([
      ["Accepted", "Accepted"],
      ["Programmed", "AddressNotAssigned"],
    ]);
  });

  test("speaks of its Gateway at its end, not of a COMMAND that nobody gave", async () => {
    await eventually(
      5000,
      async () => words.join("\n"),
      (said) => said.includes("Gateway shop/edge closes its ports here, open requests have 5 s"),
    );
    expect(words.join("\n")).not.toContain("COMMAND");
  });
});
