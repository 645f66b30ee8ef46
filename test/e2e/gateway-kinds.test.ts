// A gateway with real processes, judged by clients and servers that have nothing of ours: TLS passed through and ended, several certificates on one listener,
// TCP, UDP, gRPC, TLS to backends and its failures, redirects, sessions, mirrors, time-outs, and an authorization service.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect, createServer as createTcpServer, type Server as NetServer } from "node:net";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { freePort } from "../../demo/cast.ts";
import type { Condition, KubeObject } from "../../src/api/meta.ts";
import { eventually, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
const ports = { http: 0, calls: 0, https: 0, tls: 0, tcp: 0, udp: 0, admin: 0 };
const stops: (() => void)[] = [];

async function run(command: readonly string[], input = ""): Promise<{ readonly code: number; readonly out: string }> {
  const child = Bun.spawn([...command], { stdin: new Blob([input]), stdout: "pipe", stderr: "pipe" });
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  return { code, out: out + err };
}

interface Pair {
  readonly crt: string;
  readonly key: string;
}

/** Signed by itself, or by `by`. */
async function certificate(name: string, names: string, by?: Pair): Promise<Pair> {
  const [crt, key] = [join(mesh.dataDir, `${name}.pem`), join(mesh.dataDir, `${name}.key`)];
  const text = `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ${key} -out ${crt} -subj /CN=${name} -addext subjectAltName=${names}${by === undefined ? "" : ` -CA ${by.crt} -CAkey ${by.key} -addext basicConstraints=critical,CA:FALSE`}`;
  const made = await run(text.split(" "));
  if (made.code !== 0) throw new Error(made.out);
  return { crt, key };
}

const pem = (file: string, by = "    "): string => readFileSync(file, "utf8").trim().replaceAll(/^/gm, by);

function listen(server: Server | NetServer): Promise<number> {
  return new Promise((done) => server.listen(0, "127.0.0.1", () => done((server.address() as AddressInfo).port)));
}

interface Seen {
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
}

/** Says its name and what it was asked. */
async function web(name: string, tls?: Pair): Promise<{ readonly port: number; readonly seen: Seen[] }> {
  const seen: Seen[] = [];
  const serve = (request: IncomingMessage, response: import("node:http").ServerResponse): void => {
    seen.push({ path: request.url ?? "", headers: request.headers });
    const answer = (): void => {
      response.writeHead(200, { "content-type": "application/json", "x-backend": name });
      response.end(JSON.stringify({ name, path: request.url, headers: request.headers }));
    };
    if (request.url?.includes("slow")) setTimeout(answer, 4_000);
    else answer();
  };
  const server =
    tls === undefined ? createServer(serve) : createTlsServer({ cert: readFileSync(tls.crt), key: readFileSync(tls.key) }, serve);
  const port = await listen(server);
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port, seen };
}

const service = (name: string, port: string, number: number, at: readonly number[], protocol = "TCP"): string => `---
{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: shop}, spec: {ports: [{name: ${port}, port: ${number}, protocol: ${protocol}}]}}
${at
  .map(
    (each, n) => `---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: ${name}-${n}, namespace: shop, labels: {kubernetes.io/service-name: ${name}}}, addressType: IPv4, ports: [{name: ${port}, port: ${each}, protocol: ${protocol}}], endpoints: [{addresses: [127.0.0.1]}]}`,
  )
  .join("\n")}
`;

const secret = (name: string, pair: Pair): string => `---
apiVersion: v1
kind: Secret
metadata: {name: ${name}, namespace: shop}
type: kubernetes.io/tls
stringData:
  tls.crt: |
${pem(pair.crt)}
  tls.key: |
${pem(pair.key)}
`;

const policy = (hostname: string): string => `---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: vault, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: vault}]
  validation: {hostname: ${hostname}, caCertificateRefs: [{group: "", kind: ConfigMap, name: vault-ca}]}
`;

const authority = (crt: string): string => `---
apiVersion: v1
kind: ConfigMap
metadata: {name: vault-ca, namespace: shop}
data:
  ca.crt: |
${pem(crt)}
`;

const routes = `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all, namespace: shop}
spec:
  parentRefs: [{name: edge, sectionName: web}, {name: edge, sectionName: secure}, {name: edge, sectionName: third}]
  rules:
    - matches: [{path: {value: /see-other}}]
      filters: [{type: RequestRedirect, requestRedirect: {statusCode: 303, path: {type: ReplaceFullPath, replaceFullPath: /seen}}}]
    - matches: [{path: {value: /temporary}}]
      filters: [{type: RequestRedirect, requestRedirect: {statusCode: 307, scheme: https, port: 443}}]
    - matches: [{path: {value: /permanent}}]
      filters: [{type: RequestRedirect, requestRedirect: {statusCode: 308, hostname: new.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /now}}}]
    - matches: [{path: {value: /each}}]
      backendRefs:
        - {name: one, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-for, value: one}]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-from, value: one}]}}]}
        - {name: two, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: two.example.org}}, {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x-backend]}}]}
    - matches: [{path: {value: /shares}}]
      backendRefs:
        - {name: one, port: 80, filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: guard, port: 80}, http: {}}}]}
        - {name: two, port: 80, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /two}}}]}
        - {name: both, port: 80, filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example.com, statusCode: 307}}]}
        - {name: vault, port: 80}
    - matches: [{path: {value: /sticky}}]
      sessionPersistence: {sessionName: stay}
      backendRefs: [{name: both, port: 80}]
    - matches: [{path: {value: /copied}}]
      filters: [{type: RequestMirror, requestMirror: {backendRef: {name: two, port: 80}, fraction: {numerator: 1, denominator: 2}}}]
      backendRefs: [{name: one, port: 80}]
    - matches: [{path: {value: /limited}}]
      timeouts: {request: 1s}
      backendRefs: [{name: one, port: 80}]
    - matches: [{path: {value: /vault}}]
      backendRefs: [{name: vault, port: 80}]
    - matches: [{path: {value: /asked}}]
      filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: guard, port: 80}, http: {path: /check, allowedHeaders: [cookie], allowedResponseHeaders: [x-user]}}}]
      backendRefs: [{name: one, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: echo, namespace: shop}
spec:
  parentRefs: [{name: edge, sectionName: calls}]
  hostnames: [grpc.example.com]
  rules:
    - matches: [{method: {service: test.Echo, method: Say}}]
      backendRefs: [{name: echo, port: 9000}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {name: passed, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: passed}], hostnames: [db.example.com], rules: [{backendRefs: [{name: db, port: 5432}]}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {name: ended, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: ended}], hostnames: [lines.example.com], rules: [{backendRefs: [{name: lines, port: 7000}]}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: lines, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: raw}], rules: [{backendRefs: [{name: lines, port: 7000}]}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: UDPRoute
metadata: {name: names, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: names}], rules: [{backendRefs: [{name: names, port: 53}]}]}
`;

const same = (bytes: Buffer): Buffer => bytes;
const say = { path: "/test.Echo/Say", requestStream: false, responseStream: false } as const;
const coding = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same } as const;

let one: Awaited<ReturnType<typeof web>>;
let two: Awaited<ReturnType<typeof web>>;
let vault: Awaited<ReturnType<typeof web>>;
let certificates: Readonly<Record<"a" | "b" | "db" | "lines" | "ca" | "vault", Pair>>;

beforeAll(async () => {
  mesh = await TestMesh.start();
  for (const name of ["http", "calls", "https", "tls", "tcp", "udp", "admin"] as const) ports[name] = await freePort();
  const ca = await certificate("ca", "DNS:ca.example.com");
  const [a, b, db, lines, ofVault] = await Promise.all([
    certificate("a", "DNS:a.example.com,DNS:shared.example.com"),
    certificate("b", "DNS:b.example.com,DNS:shared.example.com,DNS:*.b.example.com"),
    certificate("db", "DNS:db.example.com"),
    certificate("lines", "DNS:lines.example.com"),
    certificate("vault", "DNS:vault.internal", ca),
  ]);
  certificates = { a, b, db, lines, ca, vault: ofVault };
  [one, two, vault] = [await web("one"), await web("two"), await web("vault", ofVault)];
  const secure = await web("db", db);
  const guard = createServer((request, response) => {
    if (request.headers.cookie === "user=ann") response.writeHead(200, { "x-user": "ann" }).end();
    else response.writeHead(401, { "www-authenticate": "Cookie" }).end(`who asks for ${request.url}?`);
  });
  const echo = createTcpServer((socket) => {
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  const [guardPort, echoPort] = [await listen(guard), await listen(echo)];
  const server = new grpc.Server();
  server.addService({ Say: { ...say, ...coding } }, {
    Say: (call: { request: Buffer }, done: (error: null, answer: Buffer) => void) => done(null, Buffer.from(`said ${call.request}`)),
  } as never);
  const grpcPort = await new Promise<number>((done, fail) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => (error ? fail(error) : done(port))),
  );
  const datagrams = await Bun.udpSocket({
    hostname: "127.0.0.1",
    socket: {
      data(socket, bytes, port, host) {
        socket.send(`answer to ${bytes}`, port, host);
      },
    },
  });
  stops.push(
    () => guard.closeAllConnections(),
    () => guard.close(),
    () => echo.close(),
    () => server.forceShutdown(),
    () => datagrams.close(),
  );
  await mesh.apply(`
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
${service("one", "http", 80, [one.port])}${service("two", "http", 80, [two.port])}${service("both", "http", 80, [one.port, two.port])}
${service("vault", "http", 80, [vault.port])}${service("guard", "http", 80, [guardPort])}${service("echo", "grpc", 9000, [grpcPort])}
${service("db", "tcp", 5432, [secure.port])}${service("lines", "tcp", 7000, [echoPort])}${service("names", "dns", 53, [datagrams.port], "UDP")}
${secret("a", a)}${secret("b", b)}${secret("lines", lines)}${authority(ca.crt)}${policy("vault.internal")}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: weft
  allowedListeners: {namespaces: {from: Selector, selector: {matchLabels: {listeners: "yes"}}}}
  listeners:
    - {name: web, port: ${ports.http}, protocol: HTTP}
    - {name: calls, port: ${ports.calls}, protocol: HTTP}
    - {name: secure, port: ${ports.https}, protocol: HTTPS, hostname: "*.example.com", tls: {certificateRefs: [{name: a}, {name: b}]}}
    - {name: third, port: ${ports.https}, protocol: HTTPS, hostname: lines.example.com, tls: {certificateRefs: [{name: a}, {name: lines}]}}
    - {name: passed, port: ${ports.tls}, protocol: TLS, hostname: db.example.com, tls: {mode: Passthrough}}
    - {name: ended, port: ${ports.tls}, protocol: TLS, hostname: lines.example.com, tls: {certificateRefs: [{name: lines}]}}
    - {name: raw, port: ${ports.tcp}, protocol: TCP}
    - {name: names, port: ${ports.udp}, protocol: UDP}
${routes}`);
  mesh.processes.startWeft(["gateway", "edge", "--namespace", "shop"]);
  await eventually(
    20_000,
    () => curl("/each"),
    ({ status }) => status === 200,
  );
}, 90_000);

afterAll(async () => {
  for (const stop of stops.reverse()) stop();
  await mesh?.stop();
}, 30_000);

interface Answer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

async function curl(path: string, ...more: readonly string[]): Promise<Answer> {
  return answerOf((await run(["curl", "-s", "-i", "-m", "5", ...more, `http://127.0.0.1:${ports.http}${path}`])).out);
}

function answerOf(out: string): Answer {
  const end = out.indexOf("\r\n\r\n");
  const head = end < 0 ? out : out.slice(0, end);
  return { status: Number(/^HTTP\/[0-9.]+ (\d+)/.exec(head)?.[1] ?? 0), head: head.toLowerCase(), body: end < 0 ? "" : out.slice(end + 4) };
}

/** Status, and who answered what path. */
async function curlless(path: string): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${ports.http}${path}`, { redirect: "manual" });
  const text = await answer.text();
  if (answer.status !== 200) return String(answer.status);
  const said = JSON.parse(text) as { name: string; path: string };
  return `200 ${said.name} ${said.path}`;
}

const header = (answer: Answer, name: string): string | undefined => new RegExp(`^${name}: (.*)$`, "m").exec(answer.head)?.[1]?.trim();

describe("HTTP at a gateway", () => {
  test("redirects with every status", async () => {
    const found = await Promise.all(["/see-other/x", "/temporary/x?a=b", "/permanent/x?a=b"].map((path) => curl(path)));
    expect(found.map((each) => [each.status, header(each, "location")])).toEqual([
      [303, `http://127.0.0.1:${ports.http}/seen`],
      [307, "https://127.0.0.1/temporary/x?a=b"],
      // The listener's port, as nothing else is said (HTTPRequestRedirectFilter.port).
      [308, `http://new.example.com:${ports.http}/now/x?a=b`],
    ]);
  }, 30_000);

  test("treats each backend as it is to be treated", async () => {
    const found = await Promise.all(Array.from({ length: 24 }, () => fetch(`http://127.0.0.1:${ports.http}/each`)));
    const bodies = (await Promise.all(found.map((each) => each.json()))) as { name: string; headers: Record<string, string> }[];
    const kinds = new Set(
      bodies.map(({ name, headers }, n) =>
        JSON.stringify([
          name,
          headers["x-for"] ?? null,
          headers.host?.includes("two.example.org"),
          found[n]?.headers.get("x-from"),
          found[n]?.headers.get("x-backend"),
        ]),
      ),
    );
    expect([...kinds].sort()).toEqual([
      JSON.stringify(["one", "one", false, "one", "one"]),
      JSON.stringify(["two", null, true, null, null]),
    ]);
  }, 30_000);

  test("gives each backend its filters, and its share", async () => {
    const found = await Promise.all(Array.from({ length: 160 }, () => curlless("/shares/x")));
    const counts = Map.groupBy(found, (each) => each);
    expect([...counts.keys()].sort()).toEqual(["200 two /two/x", "200 vault /shares/x", "307", "401"]);
    // A quarter each: 40, and less than 12 or more than 80 never happens by chance.
    for (const [kind, { length }] of counts) expect(length > 12 && length < 80, `${length} times ${kind}`).toBe(true);
  }, 30_000);

  test("keeps a client with the instance that answered first", async () => {
    const first = await fetch(`http://127.0.0.1:${ports.http}/sticky`);
    const { name } = (await first.json()) as { name: string };
    const cookie = /^stay=[^;]+/.exec(first.headers.get("set-cookie") ?? "")?.[0] ?? "";
    expect(cookie).not.toBe("");
    const names = await Promise.all(
      Array.from(
        { length: 20 },
        async () =>
          ((await (await fetch(`http://127.0.0.1:${ports.http}/sticky`, { headers: { cookie } })).json()) as { name: string }).name,
      ),
    );
    expect(new Set(names)).toEqual(new Set([name]));
    const free = await Promise.all(
      Array.from(
        { length: 20 },
        async () => ((await (await fetch(`http://127.0.0.1:${ports.http}/sticky`)).json()) as { name: string }).name,
      ),
    );
    expect(new Set(free).size).toBe(2);
  }, 30_000);

  test("copies about the share it is told to", async () => {
    await Promise.all(Array.from({ length: 80 }, async () => (await fetch(`http://127.0.0.1:${ports.http}/copied`)).arrayBuffer()));
    const copies = (): number => two.seen.filter(({ path }) => path === "/copied").length;
    await eventually(
      5_000,
      async () => copies(),
      (count) => count >= 20,
    );
    expect(one.seen.filter(({ path }) => path === "/copied").length).toBe(80);
    expect(copies()).toBeGreaterThan(15);
    expect(copies()).toBeLessThan(65);
  }, 30_000);

  test("ends what takes too long", async () => {
    const slow = await curl("/limited/slow");
    expect([slow.status, (await curl("/limited/quick")).status]).toEqual([504, 200]);
  }, 30_000);

  test("asks an authorization service", async () => {
    const refused = await curl("/asked/x");
    expect([refused.status, header(refused, "www-authenticate"), refused.body]).toEqual([401, "cookie", "who asks for /check/asked/x?"]);
    const passed = await curl("/asked/x", "-H", "Cookie: user=ann", "-H", "X-User: mallory");
    expect([passed.status, (JSON.parse(passed.body) as { headers: Record<string, string> }).headers["x-user"]]).toEqual([200, "ann"]);
  }, 30_000);
});

describe("ListenerSets", () => {
  const set = (name: string, listeners: string): string => `---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: ${name}, namespace: team}
spec: {parentRef: {name: edge, namespace: shop}, listeners: [${listeners}]}
`;
  const at = async (port: number, host: string): Promise<Answer> =>
    answerOf((await run(["curl", "-s", "-i", "-m", "5", "-H", `Host: ${host}`, `http://127.0.0.1:${port}/set`])).out);

  test("open ports of a namespace that the Gateway lets, and lead to its routes", async () => {
    const team = [
      service("team", "http", 80, [two.port]).replaceAll("namespace: shop", "namespace: team"),
      set(
        "team",
        `{name: web, port: ${ports.http}, protocol: HTTP, hostname: team.example.com}, {name: admin, port: ${ports.admin}, protocol: HTTP}`,
      ),
      `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: team, namespace: team}
spec: {parentRefs: [{kind: ListenerSet, name: team}], rules: [{backendRefs: [{name: team, port: 80}]}]}
`,
    ];
    const status = async (): Promise<readonly (readonly unknown[])[]> => {
      const found = await mesh.processes.weftJson<KubeObject>(["get", "listenersets", "team", "-n", "team"]);
      const { conditions = [] } = (found.status ?? {}) as { conditions?: Condition[] };
      return conditions.map((each) => [each.type, each.status, each.reason]);
    };
    await mesh.apply(`{apiVersion: v1, kind: Namespace, metadata: {name: team}}\n${team.join("")}`);
    const early = await eventually(10_000, status, (found) => found.length > 0);
    expect(early).toEqual([
      ["Accepted", "False", "NotAllowed"],
      ["Programmed", "False", "NotAllowed"],
    ]);
    expect((await at(ports.admin, "any")).status).toBe(0);
    await mesh.apply('{apiVersion: v1, kind: Namespace, metadata: {name: team, labels: {listeners: "yes"}}}');
    const opened = await eventually(
      20_000,
      () => at(ports.admin, "any"),
      (answer) => answer.status === 200,
    );
    expect(JSON.parse(opened.body)).toMatchObject({ name: "two", path: "/set" });
    expect(await eventually(10_000, status, (found) => found.every(([, fine]) => fine === "True"))).toEqual([
      ["Accepted", "True", "Accepted"],
      ["Programmed", "True", "Programmed"],
    ]);
    // The longest hostname: the listener of the set on the Gateway's own port, which has routes for other paths.
    expect([(await at(ports.http, "team.example.com")).status, (await at(ports.http, "other.example.com")).status]).toEqual([200, 404]);
  }, 60_000);
});

describe("TLS at a gateway", () => {
  const ask = async (name: string, root: Pair): Promise<number> => {
    const command = ["curl", "-s", "-i", "-m", "5", "--cacert", root.crt, "--resolve", `${name}:${ports.https}:127.0.0.1`];
    return answerOf((await run([...command, `https://${name}:${ports.https}/each`])).out).status;
  };

  test("several certificates on one listener: each for its names, the first for all others", async () => {
    const { a, b } = certificates;
    expect(
      await Promise.all([ask("a.example.com", a), ask("b.example.com", b), ask("x.b.example.com", b), ask("shared.example.com", a)]),
    ).toEqual([200, 200, 200, 200]);
    const command = ["curl", "-s", "-i", "-m", "5", "--cacert", a.crt, "--resolve", `a.example.com:${ports.https}:127.0.0.1`];
    const redirected = answerOf((await run([...command, `https://a.example.com:${ports.https}/see-other`])).out);
    expect(header(redirected, "location")).toBe(`https://a.example.com:${ports.https}/seen`);
    // A listener of one name has the certificate for that name, whatever the order.
    expect(await ask("lines.example.com", certificates.lines)).toBe(200);
    // Nobody has a certificate for it: the first is shown, and the client does not take it.
    expect(await ask("c.example.com", a)).toBe(0);
    expect(await ask("a.example.com", b)).toBe(0);
  }, 30_000);

  test("a TLSRoute passes TLS through: the certificate is the backend's own", async () => {
    const { out } = await run(
      `openssl s_client -connect 127.0.0.1:${ports.tls} -servername db.example.com -verify_return_error -verify_hostname db.example.com -CAfile ${certificates.db.crt} -quiet`.split(
        " ",
      ),
      "GET /passed HTTP/1.1\r\nHost: db.example.com\r\nConnection: close\r\n\r\n",
    );
    expect(out).toContain("HTTP/1.1 200 OK");
    expect(out).toContain('"path":"/passed"');
  }, 30_000);

  test("a TLSRoute ends TLS where its listener does", async () => {
    const { lines } = certificates;
    const client = Bun.spawn(
      `openssl s_client -connect 127.0.0.1:${ports.tls} -servername lines.example.com -verify_return_error -verify_hostname lines.example.com -CAfile ${lines.crt} -quiet`.split(
        " ",
      ),
      { stdin: "pipe", stdout: "pipe", stderr: "ignore" },
    );
    client.stdin.write("hello lines\n");
    client.stdin.flush();
    // It goes on until one side ends: the first bytes are the answer.
    const { value } = await client.stdout.getReader().read();
    client.kill();
    expect(new TextDecoder().decode(value)).toBe("hello lines\n");
  }, 30_000);

  test("a name that no listener has ends the handshake", async () => {
    const { code } = await run(`openssl s_client -connect 127.0.0.1:${ports.tls} -servername other.example.com`.split(" "));
    expect(code).not.toBe(0);
  }, 30_000);
});

test("a TCPRoute carries bytes", async () => {
  const echoed = await new Promise<string>((done, fail) => {
    const socket = connect(ports.tcp, "127.0.0.1", () => socket.write("by TCP"));
    socket.once("data", (bytes) => {
      done(bytes.toString());
      socket.destroy();
    });
    socket.once("error", fail);
  });
  expect(echoed).toBe("by TCP");
}, 30_000);

test("a UDPRoute carries datagrams both ways", async () => {
  const answers: string[] = [];
  const client = await Bun.udpSocket({ hostname: "127.0.0.1", socket: { data: (_socket, bytes) => void answers.push(bytes.toString()) } });
  // Datagrams may be lost: asked again until one is answered.
  await eventually(
    10_000,
    async () => {
      client.send("a question", ports.udp, "127.0.0.1");
      await Bun.sleep(50);
      return answers.length;
    },
    (count) => count > 0,
  );
  client.close();
  expect(answers[0]).toBe("answer to a question");
}, 30_000);

test("a GRPCRoute leads a client of another library by method, and refuses what it has no rule for", async () => {
  const client = new grpc.Client(`127.0.0.1:${ports.calls}`, grpc.credentials.createInsecure(), {
    "grpc.default_authority": "grpc.example.com",
  });
  const call = (path: string) =>
    new Promise<string>((done) =>
      client.makeUnaryRequest(path, same, same, Buffer.from("hi"), (error, answer) =>
        done(error === null ? String(answer) : String(error.code)),
      ),
    );
  expect([await call("/test.Echo/Say"), await call("/test.Echo/Other")]).toEqual(["said hi", "12"]);
  client.close();
}, 30_000);

describe("TLS to backends", () => {
  async function reasons(): Promise<(string | undefined)[]> {
    const object = await mesh.processes.weftJson<KubeObject>(["get", "backendtlspolicies", "vault", "-n", "shop"]);
    const status = object.status as { ancestors?: { ancestorRef: { kind: string }; conditions: Condition[] }[] } | undefined;
    return (status?.ancestors ?? []).flatMap(({ ancestorRef, conditions }) => [
      ancestorRef.kind,
      ...conditions.map(({ reason }) => reason),
    ]);
  }

  test("is spoken and checked, for the Service and the Gateway alike", async () => {
    const { status, body } = await curl("/vault/x");
    expect([status, (JSON.parse(body) as { name: string }).name]).toEqual([200, "vault"]);
    expect(await eventually(5_000, reasons, (found) => found.length === 6)).toEqual([
      "Service",
      "Accepted",
      "ResolvedRefs",
      "Gateway",
      "Accepted",
      "ResolvedRefs",
    ]);
  }, 30_000);

  test("another name or another authority ends it, and nothing is sent in its place", async () => {
    const before = vault.seen.length;
    await mesh.apply(policy("other.internal"));
    expect(
      (
        await eventually(
          10_000,
          () => curl("/vault/name"),
          ({ status }) => status !== 200,
        )
      ).status,
    ).toBe(503);
    await mesh.apply(policy("vault.internal"));
    expect(
      (
        await eventually(
          10_000,
          () => curl("/vault/back"),
          ({ status }) => status === 200,
        )
      ).status,
    ).toBe(200);
    await mesh.apply(authority(certificates.a.crt));
    expect(
      (
        await eventually(
          10_000,
          () => curl("/vault/authority"),
          ({ status }) => status !== 200,
        )
      ).status,
    ).toBe(503);
    await mesh.processes.weft(["delete", "configmaps", "vault-ca", "-n", "shop"]);
    expect((await eventually(10_000, reasons, (found) => found.includes("NoValidCACertificate"))).slice(0, 3)).toEqual([
      "Service",
      "NoValidCACertificate",
      "InvalidCACertificateRef",
    ]);
    expect((await curl("/vault/none")).status).toBe(503);
    await mesh.apply(authority(certificates.ca.crt));
    expect(
      (
        await eventually(
          10_000,
          () => curl("/vault/again"),
          ({ status }) => status === 200,
        )
      ).status,
    ).toBe(200);
    const asked = vault.seen.slice(before).map(({ path }) => path);
    expect(asked.filter((path) => path !== "/vault/back" && path !== "/vault/again").filter((path) => path === "/vault/none")).toEqual([]);
  }, 60_000);
});
