// Envoy as a sidecar of our mesh, with nothing of ours beside it but a handful of lines that give it its certificate (SDS, as Istio's agent does).
// Both variants of xDS: it gets everything, follows a route change, speaks mutual TLS with another Envoy, and comes back after a restart.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { ProxyObject } from "../../src/api/live.ts";
import { type ControlPlane, startControlPlane } from "../../src/control/plane.ts";
import { SecretSchema } from "../../src/wire/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts";
import {
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from "../../src/wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from "../../src/wire/gen/security/v1/istioca_pb.ts";
import { findPeer, needsPeers } from "../support/peers.ts";

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

async function until<T>(what: string, look: () => T | undefined | false | Promise<T | undefined | false>, withinMs = 15_000): Promise<T> {
  const end = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await Bun.sleep(10);
  }
}

const enabled = needsPeers("envoy-sidecar.test.ts", "envoy", "openssl");

describe.skipIf(!enabled)("Envoy as a sidecar", () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-envoy-"));
  const cleanups: (() => unknown)[] = [];
  const backends = ["v1", "v2"].map((body) => Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(body) }));
  let plane: ControlPlane;
  let ca = "";
  let bearer = "";

  async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(plane.apiUrl + path, {
      method,
      tls: { ca },
      headers: {
        authorization: `Bearer ${bearer}`,
        "content-type": method === "PATCH" ? "application/merge-patch+json" : "application/json",
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as T;
  }

  const ports = () => [{ name: "http", port: 80, protocol: "TCP" }];
  const route = (v1: number) => ({
    parentRefs: [{ group: "", kind: "Service", name: "reviews" }],
    rules: [
      {
        backendRefs: [
          { name: "reviews-v1", port: 80, weight: v1 },
          { name: "reviews-v2", port: 80, weight: 100 - v1 },
        ],
      },
    ],
  });

  beforeAll(async () => {
    plane = await startControlPlane({ dataDir: join(dir, "mesh"), apiPort: 0, xdsPort: 0, dashboardPort: 0 });
    ca = readFileSync(join(dir, "mesh", "ca.crt"), "utf8");
    bearer = readFileSync(join(dir, "mesh", "admin.token"), "utf8").trim();
    const namespace = "/namespaces/shop";
    for (const name of ["reviews", "reviews-v1", "reviews-v2"]) {
      await call("POST", `/api/v1${namespace}/services`, {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name, namespace: "shop" },
        spec: { ports: ports() },
      });
    }
    for (const [at, backend] of backends.entries()) {
      const name = `reviews-v${at + 1}`;
      await call("POST", `/apis/discovery.k8s.io/v1${namespace}/endpointslices`, {
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        metadata: { name, namespace: "shop", labels: { "kubernetes.io/service-name": name } },
        addressType: "IPv4",
        ports: [{ name: "http", port: backend.port }],
        endpoints: [{ addresses: ["127.0.0.1"] }],
      });
    }
    await call("POST", `/apis/gateway.networking.k8s.io/v1${namespace}/httproutes`, {
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "HTTPRoute",
      metadata: { name: "reviews", namespace: "shop" },
      spec: route(100),
    });
    await call("POST", `/api/v1${namespace}/services`, {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "echo", namespace: "shop" },
      spec: { selector: { app: "echo" }, ports: ports() },
    });
  });

  afterAll(async () => {
    for (const run of cleanups.reverse()) await run();
    await plane.stop();
    for (const backend of backends) await backend.stop(true);
    rmSync(dir, { recursive: true, force: true });
  });

  async function token(account: string): Promise<string> {
    const issued = await call<{ status: { token: string } }>("POST", `/api/v1/namespaces/shop/serviceaccounts/${account}/token`, {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: {},
    });
    return issued.status.token;
  }

  /** The certificate for a workload, by the way every sidecar goes: key here, request there. */
  async function identity(account: string, jwt: string): Promise<{ key: string; chain: string }> {
    const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "pem", type: "pkcs8" }).toString();
    const [keyPath, csrPath] = [join(dir, `${account}.key`), join(dir, `${account}.csr`)];
    writeFileSync(keyPath, key);
    const made = Bun.spawnSync([
      findPeer("openssl") as string,
      "req",
      "-new",
      "-key",
      keyPath,
      "-subj",
      "/",
      "-addext",
      `subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/${account}`,
      "-out",
      csrPath,
    ]);
    if (made.exitCode !== 0) throw new Error(made.stderr.toString());
    const client = new Client(plane.xdsAddress, credentials.createSsl(Buffer.from(ca)), {
      "grpc.ssl_target_name_override": "weft",
      "grpc.default_authority": "weft",
    });
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${jwt}`);
    const chain = await new Promise<string[]>((resolve, reject) => {
      client.makeUnaryRequest(
        "/istio.v1.auth.IstioCertificateService/CreateCertificate",
        (csr: string) => Buffer.from(toBinary(IstioCertificateRequestSchema, create(IstioCertificateRequestSchema, { csr }))),
        (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes).certChain,
        readFileSync(csrPath, "utf8"),
        metadata,
        (error, answer) => (error ? reject(error) : resolve(answer ?? [])),
      );
    });
    client.close();
    return { key, chain: chain.join("") };
  }

  /** Istio's agent in twenty lines: answers SDS for `default` and `ROOTCA`. */
  async function secrets(own: { key: string; chain: string }): Promise<number> {
    const server = new Server();
    const secret = (name: string): MessageInitShape<typeof SecretSchema> =>
      name === "ROOTCA"
        ? { name, type: { case: "validationContext", value: { trustedCa: { specifier: { case: "inlineString", value: ca } } } } }
        : {
            name,
            type: {
              case: "tlsCertificate",
              value: {
                certificateChain: { specifier: { case: "inlineString", value: own.chain } },
                privateKey: { specifier: { case: "inlineString", value: own.key } },
              },
            },
          };
    server.addService(
      {
        streamSecrets: {
          path: "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
          requestStream: true,
          responseStream: true,
          requestSerialize: () => Buffer.alloc(0),
          requestDeserialize: (bytes: Buffer) => fromBinary(DiscoveryRequestSchema, bytes),
          responseSerialize: (bytes: Buffer) => bytes,
          responseDeserialize: (bytes: Buffer) => bytes,
        },
      },
      {
        streamSecrets: (stream: ServerDuplexStream<DiscoveryRequest, Buffer>) => {
          stream.on("data", (request: DiscoveryRequest) => {
            if (request.responseNonce !== "") return;
            const resources = request.resourceNames.map((name) => anyPack(SecretSchema, create(SecretSchema, secret(name))));
            stream.write(
              Buffer.from(
                toBinary(
                  DiscoveryResponseSchema,
                  create(DiscoveryResponseSchema, { versionInfo: "1", nonce: "1", typeUrl: secretType, resources }),
                ),
              ),
            );
          });
          stream.on("end", () => stream.end());
        },
      } as UntypedServiceImplementation,
    );
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
    );
    cleanups.push(() => server.forceShutdown());
    return port;
  }

  let bases = 0;

  async function envoy(name: string, account: string, variant: "GRPC" | "DELTA_GRPC") {
    const jwt = await token(account);
    const sds = await secrets(await identity(account, jwt));
    const http2 = {
      "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
      explicit_http_config: { http2_protocol_options: {} },
    };
    const cluster = (clusterName: string, port: number, tls: object) => ({
      name: clusterName,
      type: "STATIC",
      typed_extension_protocol_options: { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2 },
      load_assignment: {
        cluster_name: clusterName,
        endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } } }] }],
      },
      ...tls,
    });
    const upstreamTls = {
      transport_socket: {
        name: "envoy.transport_sockets.tls",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
          sni: "weft",
          common_tls_context: {
            validation_context: {
              trusted_ca: { inline_string: ca },
              match_typed_subject_alt_names: [{ san_type: "DNS", matcher: { exact: "weft" } }],
            },
          },
        },
      },
    };
    const bootstrap = {
      node: { id: `sidecar~shop~${name}`, cluster: "shop" },
      dynamic_resources: {
        ads_config: {
          api_type: variant,
          transport_api_version: "V3",
          grpc_services: [
            { envoy_grpc: { cluster_name: "xds-grpc" }, initial_metadata: [{ key: "authorization", value: `Bearer ${jwt}` }] },
          ],
        },
        cds_config: { ads: {}, resource_api_version: "V3" },
        lds_config: { ads: {}, resource_api_version: "V3" },
      },
      static_resources: {
        clusters: [cluster("xds-grpc", Number(plane.xdsAddress.split(":")[1]), upstreamTls), cluster("sds-grpc", sds, {})],
      },
    };
    const path = join(dir, `${name}.json`);
    const log = join(dir, `${name}.log`);
    writeFileSync(path, JSON.stringify(bootstrap));
    bases++;
    const child = Bun.spawn(
      [
        findPeer("envoy") as string,
        "-c",
        path,
        "--base-id",
        String((process.pid % 5000) * 10 + bases),
        "--concurrency",
        "1",
        "-l",
        "warning",
      ],
      {
        stdout: Bun.file(log),
        stderr: Bun.file(log),
      },
    );
    cleanups.push(async () => {
      child.kill("SIGKILL");
      await child.exited;
    });
    return { child, log: () => readFileSync(log, "utf8") };
  }

  function freePort(): number {
    const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
    const { port } = server;
    void server.stop(true);
    return port as number;
  }

  async function register(name: string, app: string, proxyPort: number, inbound?: { port: number; appPort: number }): Promise<void> {
    await call("POST", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries", {
      apiVersion: "networking.istio.io/v1",
      kind: "WorkloadEntry",
      metadata: {
        name,
        namespace: "shop",
        labels: { app, ...(inbound === undefined ? {} : { "security.istio.io/tlsMode": "istio" }) },
        annotations: {
          "weft.dev/http-proxy-port": String(proxyPort),
          ...(inbound === undefined ? {} : { "weft.dev/inbound": `http=${inbound.appPort}` }),
        },
      },
      spec: { serviceAccount: app, ...(inbound === undefined ? {} : { address: "127.0.0.1", ports: { http: inbound.port } }) },
    });
  }

  const shown = async (name: string) => (await call<ProxyObject>("GET", `/apis/weft.dev/v1alpha1/namespaces/shop/proxies/${name}`)).status;

  for (const [variant, mode] of [
    ["GRPC", "sotw"],
    ["DELTA_GRPC", "delta"],
  ] as const) {
    test(`${mode}: everything arrives, a route change follows, mutual TLS between two sidecars, and back after a restart of the control plane`, async () => {
      const app = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: (request) => new Response(`echo ${new URL(request.url).pathname}`) });
      cleanups.push(() => app.stop(true));
      const [clientPort, serverPort, inboundPort] = [freePort(), freePort(), freePort()];
      await register(`client-${mode}`, "client", clientPort);
      const client = await envoy(`client-${mode}`, "client", variant);
      const get = (url: string) =>
        fetch(url, { proxy: `http://127.0.0.1:${clientPort}` }).then(
          async (r) => `${r.status} ${await r.text()}`,
          () => "no answer",
        );
      await until("the first answer", async () => (await get("http://reviews.shop/")) === "200 v1").catch((e: Error) => {
        throw new Error(`${e.message}\n${client.log()}`);
      });
      await until("in step", async () => (await shown(`client-${mode}`)).synced);
      expect(await shown(`client-${mode}`)).toMatchObject({
        connected: true,
        mode,
        lastRejection: null,
        identity: "spiffe://cluster.local/ns/shop/sa/client",
      });
      expect((await shown(`client-${mode}`)).agent).toMatch(/^envoy\/1\./);

      await call("PATCH", "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/reviews", { spec: route(0) });
      await until("the shifted route", async () => (await get("http://reviews.shop/")) === "200 v2", 200);
      await call("PATCH", "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/reviews", { spec: route(100) });
      await until("the route shifted back", async () => (await get("http://reviews.shop/")) === "200 v1", 200);

      // A second sidecar appears: cluster, endpoints and routes for it reach the first one while it runs.
      await register(`echo-${mode}`, "echo", serverPort, { port: inboundPort, appPort: app.port as number });
      const server = await envoy(`echo-${mode}`, "echo", variant);
      await until("mutual TLS between the two", async () => (await get("http://echo.shop/hello")) === "200 echo /hello").catch(
        (e: Error) => {
          throw new Error(`${e.message}\n${client.log()}\n${server.log()}`);
        },
      );
      // Nobody gets in without a certificate of the mesh.
      await expect(fetch(`http://127.0.0.1:${inboundPort}/hello`)).rejects.toThrow();

      await plane.stop();
      expect(await get("http://echo.shop/still")).toBe("200 echo /still");
      plane = await startControlPlane({ dataDir: join(dir, "mesh") });
      await until("both are back", async () => {
        const states = await Promise.all([`client-${mode}`, `echo-${mode}`].map((name) => shown(name).catch(() => undefined)));
        return states.every((s) => s?.connected && s.synced);
      });
      await call("DELETE", `/apis/networking.istio.io/v1/namespaces/shop/workloadentries/echo-${mode}`);
      await until("the endpoint is gone", async () => (await get("http://echo.shop/gone")).startsWith("503"), 1000);
    }, 60_000);
  }
});
