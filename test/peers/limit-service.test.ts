// Judge: envoyproxy/ratelimit, with Redis behind it, as a rate limit service that its owner has: named by RateLimitPolicies, in the mesh by mutual TLS and as a
// host outside it, asked by our sidecar and gateway and by Envoy in the place of both. It counts; what becomes of requests without it is the policy's word.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import type { Condition } from "../../src/api/meta.ts";
import { goProgram } from "../support/go-program.ts";
import { app, eventually, type Running, TestMesh } from "../support/mesh.ts";
import { findPeer, needsPeers } from "../support/peers.ts";

/** As its owner has written it; nothing in it knows of Weft. */
const configuration = `
domain: shop
descriptors:
- key: route
  value: search
  descriptors:
  - key: user
    rate_limit: {unit: day, requests_per_unit: 2}
- key: kind
  value: clients
  descriptors:
  - key: client
    rate_limit: {unit: day, requests_per_unit: 3}
  - key: client
    value: spiffe://cluster.local/ns/shop/sa/nobody
    rate_limit: {unit: day, requests_per_unit: 1}
- key: edge
  value: search
  rate_limit: {unit: day, requests_per_unit: 4}
- key: edge
  value: all
  rate_limit: {unit: day, requests_per_unit: 7}
`;

/** \`timeout\` is long: a busy machine is no broken one. */
const policy = (name: string, targets: string, backendRef: string, rules: string, stance: string) => `---
apiVersion: weft.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: ${name}, namespace: shop}
spec:
  targetRefs: [${targets}]
  service: {backendRef: {${backendRef}}, domain: shop}
  rules: [${rules}]
  whenServiceFails: ${stance}
  timeout: 5s
`;
const search =
  "{scope: Global, match: {path: {value: /search}}, descriptor: [{key: route, value: search}, {key: user, type: Header, header: x-user}]}";
const clients =
  "{scope: Global, match: {path: {value: /clients}}, descriptor: [{key: kind, value: clients}, {key: client, type: Identity}]}";

const ready = needsPeers("test/peers/limit-service.test.ts", "go", "redis", "envoy");
describe.skipIf(!ready)("a rate limit service of somebody else's", () => {
  let mesh: TestMesh;
  let front: Running;
  let redis: Bun.Subprocess | undefined;
  let limits: Running;
  let envoyApp: Bun.Server<undefined>;
  const envoys: Bun.Subprocess[] = [];
  const ports = { grpc: 0, envoy: 0, gateway: 0 };
  const at = (...words: string[]) => join(mesh.dataDir, ...words);

  async function envoy(name: string, folder: string): Promise<void> {
    const made = await mesh.processes.weft(["bootstrap", "-n", "shop", "--name", name, "--envoy", "--dir", at(folder)]);
    expect(made.err).toBe("");
    writeFileSync(at(`${name}.json`), made.out);
    const log = Bun.file(at(`${name}.log`));
    const words = ["-c", at(`${name}.json`), "--use-dynamic-base-id", "-l", "warning", "--concurrency", "1"];
    envoys.push(Bun.spawn([findPeer("envoy") as string, ...words], { stdin: "ignore", stdout: log, stderr: log }));
  }

  beforeAll(async () => {
    const program = await goProgram(join(import.meta.dir, "go-ratelimit"), "go-ratelimit");
    mesh = await TestMesh.start();
    mkdirSync(at("runtime", "config"), { recursive: true });
    writeFileSync(at("runtime", "config", "shop.yaml"), configuration);
    const socket = at("redis.sock");
    const words = ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", mesh.dataDir];
    redis = Bun.spawn([findPeer("redis") as string, ...words], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    await mesh.processes.waitFor("Redis is there", 15_000, async () => existsSync(socket));

    const service = (name: string, port: string) =>
      `---\napiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop}\nspec: {selector: {app: ${name}}, ports: [{name: ${port}, port: 80}]}\n`;
    await mesh.apply(["api", "api-envoy", "web"].map((name) => service(name, "http")).join("") + service("limits", "grpc"));
    [ports.grpc, ports.envoy, ports.gateway] = [await freePort(), await freePort(), await freePort()];
    const [http, debug] = [await freePort(), await freePort()];
    limits = await mesh.run({
      service: "limits",
      name: "limits-1",
      protocol: "grpc",
      port: ports.grpc,
      command: [program],
      env: {
        GRPC_HOST: "127.0.0.1",
        GRPC_PORT: String(ports.grpc),
        HOST: "127.0.0.1",
        PORT: String(http),
        DEBUG_HOST: "127.0.0.1",
        DEBUG_PORT: String(debug),
        RUNTIME_ROOT: mesh.dataDir,
        RUNTIME_SUBDIRECTORY: "runtime",
        RUNTIME_WATCH_ROOT: "false",
        USE_STATSD: "false",
        REDIS_SOCKET_TYPE: "unix",
        REDIS_URL: socket,
      },
    });
    await mesh.run({ service: "api", name: "api-1", command: app("echo.ts") });
    front = await mesh.run({ service: "web", name: "web-1", command: app("echo.ts") });

    envoyApp = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("ok") });
    mesh.processes.startWeft(["gateway", "edge", "-n", "shop"]);
    for (const name of ["api-envoy", "edge-envoy"])
      mesh.processes.startWeft(["agent", "--dir", at(name), "-n", "shop", "--service-account", name]);
    await mesh.apply(`---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: api-envoy-1
  namespace: shop
  labels: {app: api-envoy, security.istio.io/tlsMode: istio}
  annotations: {weft.dev/inbound: "http=${envoyApp.port}"}
spec: {address: 127.0.0.1, ports: {http: ${ports.envoy}}, serviceAccount: api-envoy}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: edge-envoy-1, namespace: shop, annotations: {weft.dev/gateway: edge}}
spec: {address: 127.0.0.2, serviceAccount: edge-envoy}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: limits, namespace: shop}
spec:
  hosts: [limits.example.com]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
  ports: [{number: 8081, name: grpc, protocol: GRPC, targetPort: ${ports.grpc}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: limits, namespace: shop}
spec: {selector: {matchLabels: {app: limits}}, mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: limits, namespace: shop}
spec:
  selector: {matchLabels: {app: limits}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/api, cluster.local/ns/shop/sa/api-envoy]}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: web, port: ${ports.gateway}, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - {name: search, matches: [{path: {value: /search}}], backendRefs: [{name: web, port: 80}]}
  - {name: local, matches: [{path: {value: /local}}], backendRefs: [{name: web, port: 80}]}
  - {name: rest, backendRefs: [{name: web, port: 80}]}
`);
    await mesh.processes.waitFor("both agents have a certificate", 20_000, async () =>
      ["api-envoy", "edge-envoy"].every((name) => existsSync(at(name, "roots.pem")) && existsSync(at(name, "agent.sock"))),
    );
    await envoy("api-envoy-1", "api-envoy");
    await envoy("edge-envoy-1", "edge-envoy");
    const target = (kind: string, name: string) => `{group: gateway.networking.k8s.io, kind: ${kind}, name: ${name}}`;
    const outside = "group: networking.istio.io, kind: Hostname, name: limits.example.com, port: 8081";
    await mesh.apply(`---
apiVersion: weft.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: local, namespace: shop}
spec:
  targetRefs: [${target("HTTPRoute", "api").replace("}", ", sectionName: local}")}]
  rules: [{requests: 2, per: 24h}]
`);
    await mesh.apply(
      policy("api", "{kind: Service, name: api}", "name: limits, port: 80", `${search}, ${clients}`, "Deny") +
        policy("api-envoy", "{kind: Service, name: api-envoy}", "name: limits, port: 80", `${search}, ${clients}`, "Deny") +
        policy(
          "edge",
          target("Gateway", "edge"),
          outside,
          "{scope: Global, match: {method: GET}, descriptor: [{key: edge, value: all}]}",
          "Allow",
        ) +
        policy(
          "search",
          target("HTTPRoute", "api").replace("}", ", sectionName: search}"),
          outside,
          "{scope: Global, descriptor: [{key: edge, value: search}]}",
          "Allow",
        ),
    );
    for (const name of ["api", "api-envoy"]) await settled(name, "Enforced");
    for (const name of ["edge", "search"]) await settled(name, "ResolvedRefs");
  }, 300_000);
  afterAll(async () => {
    for (const each of envoys) each.kill();
    await Promise.all(envoys.map((each) => each.exited));
    await mesh?.stop();
    redis?.kill();
    await redis?.exited;
    await envoyApp?.stop(true);
  }, 30_000);

  interface Policy {
    readonly status?: {
      readonly ancestors: readonly { readonly conditions: readonly Condition[] }[];
    };
  }
  const conditions = async (name: string): Promise<readonly Condition[]> =>
    ((await mesh.processes.weftJson<Policy>(["get", "ratelimitpolicies", name, "-n", "shop"])).status?.ancestors ?? []).flatMap(
      (each) => each.conditions,
    );
  async function settled(name: string, type: string): Promise<void> {
    const said = await eventually(
      15_000,
      () => conditions(name),
      (all) => all.some((each) => each.type === type && each.status === "True"),
    );
    expect(said.filter(({ status }) => status !== "True")).toEqual([]);
    expect(said.map((each) => each.type)).toContain(type);
  }

  const get = (service: string, path: string, user = "ann") =>
    fetch(`http://${service}${path}`, { proxy: front.httpProxy, headers: { "x-user": user }, signal: AbortSignal.timeout(15_000) });
  const enter = (address: string, path: string, method = "GET") =>
    fetch(`http://${address}:${ports.gateway}${path}`, { method, signal: AbortSignal.timeout(15_000) });
  const statuses = async (count: number, ask: () => Promise<Response>) => {
    const found: number[] = [];
    for (let n = 0; n < count; n++) found.push((await ask()).status);
    return found;
  };
  const serves = (service: string) =>
    eventually(
      20_000,
      async () => (await get(service, "/").catch(() => undefined))?.status,
      (status) => status === 200,
    );

  test("our sidecar and Envoy ask it over mutual TLS: one count for both", async () => {
    expect(await serves("api")).toBe(200);
    expect(await serves("api-envoy"), readFileSync(at("api-envoy-1.log"), "utf8")).toBe(200);
    const first = await get("api", "/search?q=x");
    expect([first.status, first.headers.get("x-ratelimit-limit"), first.headers.get("x-ratelimit-remaining")]).toEqual([
      200,
      "2, 2;w=86400",
      "1",
    ]);
    expect(await statuses(2, () => get("api-envoy", "/search"))).toEqual([200, 429]);
    expect(await statuses(1, () => get("api", "/search"))).toEqual([429]);
    expect(await statuses(3, () => get("api", "/search", "bob"))).toEqual([200, 200, 429]);
    expect(await statuses(2, () => get("api", "/elsewhere"))).toEqual([200, 200]);
    expect(await statuses(2, () => get("api", "/clients"))).toEqual([200, 200]);
    expect(await statuses(2, () => get("api-envoy", "/clients"))).toEqual([200, 429]);
  }, 60_000);

  test("a gateway of ours and one of Envoy's ask it as a host outside: a Gateway's limit and a route's hold together", async () => {
    for (const address of ["127.0.0.1", "127.0.0.2"]) {
      const up = () =>
        enter(address, "/", "HEAD")
          .then(({ status }) => status)
          .catch(() => 0);
      expect(await eventually(20_000, up, (status) => status === 200)).toBe(200);
    }
    expect(await statuses(3, () => enter("127.0.0.1", "/search"))).toEqual([200, 200, 200]);
    expect(await statuses(2, () => enter("127.0.0.2", "/search"))).toEqual([200, 429]);
    expect(await statuses(1, () => enter("127.0.0.1", "/search"))).toEqual([429]);
    // What the route's limit refused the Gateway's has counted too: both are asked in one question.
    expect(await statuses(1, () => enter("127.0.0.2", "/"))).toEqual([200]);
    expect(await statuses(1, () => enter("127.0.0.1", "/"))).toEqual([429]);
  }, 60_000);

  test("a rule of a route is limited by each process for itself", async () => {
    for (const address of ["127.0.0.1", "127.0.0.2"]) {
      expect(await statuses(3, () => enter(address, "/local", "POST"))).toEqual([200, 200, 429]);
      expect(await statuses(3, () => enter(address, "/", "POST"))).toEqual([200, 200, 200]);
    }
  }, 60_000);

  test("without it the stance decides", async () => {
    limits.workload.child.kill("SIGTERM");
    await limits.workload.child.exited;
    for (const service of ["api", "api-envoy"]) {
      expect(await statuses(1, () => get(service, "/elsewhere"))).toEqual([200]);
      expect(
        await eventually(
          10_000,
          () => get(service, "/search", "cat").then(({ status }) => status),
          (status) => status === 500,
        ),
      ).toBe(500);
    }
    // The Gateway's policies say Allow.
    for (const address of ["127.0.0.1", "127.0.0.2"])
      expect(
        await eventually(
          10_000,
          () => enter(address, "/search").then(({ status }) => status),
          (status) => status === 200,
        ),
      ).toBe(200);
  }, 60_000);

  test("a reference that leads nowhere is told, and both proxies go by the stance", async () => {
    await mesh.apply(
      ["api", "api-envoy"]
        .map((name) => policy(name, `{kind: Service, name: ${name}}`, "name: nobody, port: 80", search, "Allow"))
        .join(""),
    );
    for (const service of ["api", "api-envoy"]) {
      const refs = () => conditions(service).then((all) => all.find(({ type }) => type === "ResolvedRefs"));
      expect(await eventually(10_000, refs, (found) => found?.status === "False")).toMatchObject({ reason: "BackendNotFound" });
      const status = () => get(service, "/search", "dan").then((answer) => answer.status);
      expect(await eventually(10_000, status, (found) => found === 200)).toBe(200);
    }
  }, 60_000);
});
