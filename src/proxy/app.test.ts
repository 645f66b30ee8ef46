// The proxy as its users meet it: a process with a file, a socket or two, and signals.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { create, createRegistry, fromJson, toBinary } from "@bufbuild/protobuf";
import { ListenerSchema } from "../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { RouterSchema } from "../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { HttpConnectionManagerSchema } from "../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { DownstreamTlsContextSchema } from "../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import {
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from "../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { typeUrl } from "../wire/xds-types.ts";
import { until as eventually } from "./process/testing.ts";
import { createTestAuthority, type FakeStream, startFakeControlPlane, type TestAuthority, until } from "./xds/testing.ts";

const mainPath = new URL("../main.ts", import.meta.url).pathname;
const at = (name: string): string => `type.googleapis.com/${name}`;

let folder: string;
let authority: TestAuthority;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "weft-app-"));
  authority = createTestAuthority();
});
afterAll(() => {
  rmSync(folder, { recursive: true });
  authority.close();
});

interface Running {
  readonly process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  /** Lines on stderr so far. */
  readonly lines: string[];
}
const running: Running[] = [];
const stops: (() => void)[] = [];
afterEach(async () => {
  for (const one of running.splice(0)) {
    one.process.kill("SIGKILL");
    await one.process.exited;
  }
  for (const stop of stops.splice(0)) stop();
});

function start(...args: string[]): Running {
  const process = Bun.spawn([Bun.argv[0] as string, mainPath, "proxy", ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    cwd: folder,
  });
  const lines: string[] = [];
  void (async () => {
    let rest = "";
    for await (const chunk of process.stderr) {
      rest += new TextDecoder().decode(chunk);
      const parts = rest.split("\n");
      rest = parts.pop() as string;
      lines.push(...parts);
    }
  })();
  const one = { process, lines };
  running.push(one);
  return one;
}

interface ReadyLine {
  readonly msg: string;
  readonly admin: string;
  readonly listeners: readonly { readonly name: string; readonly address: string }[];
}
async function ready(one: Running): Promise<ReadyLine> {
  const line = await until(() => one.lines.find((text) => text.includes('"msg":"ready"')), `readiness; said: ${one.lines.join("\n")}`);
  return JSON.parse(line) as ReadyLine;
}

const write = (name: string, value: unknown): string => {
  const path = join(folder, name);
  writeFileSync(path, typeof value === "string" ? value : JSON.stringify(value));
  return path;
};

const address = (portValue: number) => ({ socket_address: { address: "127.0.0.1", port_value: portValue } });
const manager = (action: object, extra: object = {}) => ({
  "@type": at(HttpConnectionManagerSchema.typeName),
  stat_prefix: "x",
  route_config: { virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, ...action }] }] },
  http_filters: [{ name: "router", typed_config: { "@type": at(RouterSchema.typeName) } }],
  ...extra,
});
const staticFile = (action: object, extra: object = {}, clusters: object[] = []) => ({
  admin: { address: address(0) },
  static_resources: {
    listeners: [{ name: "l", address: address(0), filter_chains: [{ filters: [{ name: "http", typed_config: manager(action, extra) }] }] }],
    clusters,
  },
});

/** Waits until nobody listens there any more. */
async function refused(port: string): Promise<void> {
  const deadline = performance.now() + 4_000;
  for (;;) {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port: Number(port), socket: { data() {} } }).catch(() => null);
    if (socket === null) return;
    socket.terminate();
    if (performance.now() > deadline) throw new Error("the port is still open");
    await Bun.sleep(10);
  }
}

describe("a static bootstrap", () => {
  test("serves, tells of itself, and drains at SIGTERM", async () => {
    const log = {
      name: "file",
      typed_config: {
        "@type": at("envoy.extensions.access_loggers.file.v3.FileAccessLog"),
        path: "/dev/stdout",
        log_format: { json_format: { s: "%RESPONSE_CODE%", p: "%REQ(:PATH)%" } },
      },
    };
    const one = start(
      "--bootstrap",
      write("a.json", staticFile({ direct_response: { status: 203, body: { inline_string: "hello" } } }, { access_log: [log] })),
      "--log-level",
      "silent",
    );
    const line = await ready(one);
    const answer = await fetch(`http://${line.listeners[0]?.address}/x`);
    expect([answer.status, await answer.text()]).toEqual([203, "hello"]);
    expect((await fetch(`http://${line.admin}/ready`)).status).toBe(200);
    expect(await (await fetch(`http://${line.admin}/metrics`)).text()).toContain('response_code="203"');
    one.process.kill("SIGTERM");
    expect(await one.process.exited).toBe(0);
    expect(await new Response(one.process.stdout).text()).toBe('{"s":203,"p":"/x"}\n');
    expect(one.lines.length).toBe(1);
  });

  test("a request in flight may end; a second signal does not wait for it", async () => {
    const held: (() => void)[] = [];
    const slow = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () => new Promise<Response>((resolve) => held.push(() => resolve(new Response("late")))),
    });
    stops.push(() => void slow.stop(true));
    const file = write(
      "b.json",
      staticFile({ route: { cluster: "c" } }, {}, [
        {
          name: "c",
          load_assignment: { cluster_name: "c", endpoints: [{ lb_endpoints: [{ endpoint: { address: address(slow.port as number) } }] }] },
        },
      ]),
    );
    const one = start("--bootstrap", file);
    const url = `http://${(await ready(one)).listeners[0]?.address}/`;
    const first = fetch(url);
    await until(() => held.length === 1, "the request upstream");
    one.process.kill("SIGTERM");
    await until(() => one.lines.some((text) => text.includes("Stopping")));
    // What had begun to connect is still taken for a moment; then the port is closed.
    await refused(new URL(url).port);
    held[0]?.();
    expect(await (await first).text()).toBe("late");
    expect(await one.process.exited).toBe(0);

    const two = start("--bootstrap", file, "--drain-seconds=60");
    const other = fetch(`http://${(await ready(two)).listeners[0]?.address}/`).catch(() => "cut");
    await until(() => held.length === 2, "the request upstream");
    two.process.kill("SIGINT");
    await until(() => two.lines.some((text) => text.includes("Stopping")));
    two.process.kill("SIGINT");
    expect(await two.process.exited).toBe(0);
    expect(await other).toBe("cut");
  });

  test("names are looked up before it is ready", async () => {
    const upstream = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("found") });
    stops.push(() => void upstream.stop(true));
    const endpoint = { endpoint: { address: { socket_address: { address: "localhost", port_value: upstream.port } } } };
    const file = staticFile({ route: { cluster: "c" } }, {}, [
      { name: "c", type: "STRICT_DNS", load_assignment: { cluster_name: "c", endpoints: [{ lb_endpoints: [endpoint] }] } },
    ]);
    const line = await ready(start("--bootstrap", write("dns.json", file)));
    const clusters = (await (await fetch(`http://${line.admin}/clusters?format=json`)).json()) as {
      clusters: { endpoints: { address: { host: string } }[] }[];
    };
    expect(clusters.clusters[0]?.endpoints.map((e) => e.address.host)).toContain("127.0.0.1");
    expect(await (await fetch(`http://${line.listeners[0]?.address}/`)).text()).toBe("found");
  });

  test("POST /quitquitquit ends it", async () => {
    const one = start("--bootstrap", write("q.json", staticFile({ direct_response: { status: 200 } })));
    const line = await ready(one);
    expect((await fetch(`http://${line.admin}/quitquitquit`, { method: "POST" })).status).toBe(200);
    expect(await one.process.exited).toBe(0);
  });
});

describe("what cannot start says why", () => {
  const failing = async (...args: string[]): Promise<{ status: number; text: string }> => {
    const one = start(...args);
    const status = await one.process.exited;
    await until(() => one.lines.length > 0);
    return { status, text: one.lines.join("\n") };
  };

  test("bad flags and bad files: status 2", async () => {
    const table: [string[], RegExp][] = [
      [[], /--bootstrap is missing\nweft proxy: usage: /],
      [["--bootstrap"], /--bootstrap needs a value/],
      [["--bootstrap", "x", "--bootstrap", "y"], /given twice/],
      [["--what"], /unknown argument --what/],
      [["--bootstrap", "x", "--drain-seconds", "-1"], /--drain-seconds -1 is not/],
      [["--bootstrap", "x", "--workers", "0"], /--workers 0 is not a number of processes from 1 to 128, nor auto/],
      [["--bootstrap", "x", "--workers", "many"], /--workers many is not/],
      [["--bootstrap", "x", "--log-level", "loud"], /--log-level loud is not one of debug, info, warn, error, silent/],
      [["--bootstrap", join(folder, "none")], /cannot read the bootstrap file .*none/],
      [
        ["--bootstrap", write("bad.json", { static_resources: { listeners: [{ name: "l" }] }, x: 1 })],
        /bad\.json: x: is not supported[\s\S]*listeners\[0\]\.address\.socket_address: is missing/,
      ],
    ];
    const found = await Promise.all(table.map(([args]) => failing(...args)));
    for (const [n, [, wanted]] of table.entries()) {
      expect(found[n]?.status).toBe(2);
      expect(found[n]?.text).toMatch(wanted);
    }
  });

  test("a taken port, for traffic and for admin: status 1", async () => {
    const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    stops.push(() => taken.stop(true));
    const file = staticFile({ direct_response: { status: 200 } });
    const listener = file.static_resources.listeners[0] as { address: object };
    listener.address = address(taken.port);
    const traffic = await failing("--bootstrap", write("t.json", file));
    expect(traffic.status).toBe(1);
    expect(traffic.text).toMatch(new RegExp(`listener l: .*${taken.port}`));
    const admin = await failing("--bootstrap", write("u.json", { admin: { address: address(taken.port) } }));
    expect([admin.status, admin.text]).toEqual([1, expect.stringContaining(`cannot open the admin address 127.0.0.1:${taken.port}`)]);
  });

  test("a token file without anybody to be: status 1", async () => {
    const found = await failing("--bootstrap", write("n.json", {}), "--token-file", write("token", "x"));
    expect(found).toMatchObject({
      status: 1,
      text: expect.stringContaining("node.metadata of the bootstrap does not say whose: NAMESPACE"),
    });
  });
});

describe("with a control plane", () => {
  const serverName = "spiffe://cluster.local/ns/weft-system/sa/weft";
  const sidecar = (port: number) => ({
    node: {
      id: "sidecar~shop~cart",
      metadata: { NAMESPACE: "shop", WORKLOAD_NAME: "cart", SERVICE_ACCOUNT: "cart", LABELS: { app: "cart" }, MESH_ID: "cluster.local" },
    },
    admin: { address: address(0) },
    dynamic_resources: {
      ads_config: { api_type: "DELTA_GRPC", transport_api_version: "V3", grpc_services: [{ envoy_grpc: { cluster_name: "xds-grpc" } }] },
      cds_config: { ads: {}, resource_api_version: "V3" },
      lds_config: { ads: {}, resource_api_version: "V3" },
    },
    static_resources: {
      clusters: [
        {
          name: "xds-grpc",
          load_assignment: { cluster_name: "xds-grpc", endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }] },
          typed_extension_protocol_options: {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
              "@type": at("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          transport_socket: {
            name: "tls",
            typed_config: {
              "@type": at("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
              common_tls_context: {
                alpn_protocols: ["h2"],
                validation_context: {
                  trusted_ca: { inline_string: authority.caPem },
                  match_typed_subject_alt_names: [{ san_type: "URI", matcher: { exact: serverName } }],
                },
              },
            },
          },
        },
      ],
    },
    stats_sinks: [
      {
        name: "envoy.stat_sinks.metrics_service",
        typed_config: {
          "@type": at("envoy.config.metrics.v3.MetricsServiceConfig"),
          transport_api_version: "V3",
          grpc_service: { envoy_grpc: { cluster_name: "xds-grpc" } },
        },
      },
    ],
  });

  /** Names in the certificate that a port shows. */
  const peerNames = (port: number): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().subjectaltname ?? "");
        socket.destroy();
      });
      socket.on("error", reject);
    });

  const registry = createRegistry(HttpConnectionManagerSchema, RouterSchema, DownstreamTlsContextSchema);
  let nonce = 0;
  function push(
    stream: FakeStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>,
    type: "cluster" | "listener",
    items: Record<string, object>,
  ): string {
    const id = `n${++nonce}`;
    const resources = Object.entries(items).map(([name, value]) => ({
      name,
      version: id,
      resource: {
        typeUrl: typeUrl[type],
        value: toBinary(ListenerSchema, fromJson(ListenerSchema, JSON.parse(JSON.stringify(value)), { registry })),
      },
    }));
    stream.send(create(DeltaDiscoveryResponseSchema, { typeUrl: typeUrl[type], nonce: id, resources }));
    return id;
  }
  const listener = (status: number, extra: object = {}) => ({
    name: "l",
    address: address(0),
    filter_chains: [{ filters: [{ name: "h", typed_config: manager({ direct_response: { status } }, extra) }] }],
  });

  /** Every worker serves it: connections are spread over them. */
  const serves = (url: string, status: number): Promise<boolean> =>
    eventually(async () => {
      for (let n = 0; n < 8; n++) if ((await fetch(url, { keepalive: false })).status !== status) return false;
      return true;
    }, `status ${status} of all workers`);

  for (const workers of ["1", "2"]) {
    test(`configured, identified, updated, refused, left alone and found again (${workers} workers)`, async () => {
      const tls = { ca: authority.caPem, ...authority.issue(`URI:${serverName}`) };
      const server = await startFakeControlPlane({ tls });
      stops.push(() => server.stop());
      server.sign = (request) => [authority.signRequest(request.csr), authority.caPem];
      const one = start(
        "--bootstrap",
        write("s.json", sidecar(server.port)),
        "--token-file",
        write("join", "join-token\n"),
        "--log-level",
        "debug",
        "--workers",
        workers,
      );
      const stream = await until(() => server.delta[0], "the discovery stream");
      expect(stream.metadata.get("authorization")).toEqual(["Bearer join-token"]);
      push(stream, "cluster", {});
      await Bun.sleep(30);
      expect(one.lines.some((text) => text.includes('"msg":"ready"'))).toBe(false);
      push(stream, "listener", { l: listener(201) });
      const line = await ready(one);
      const url = `http://${line.listeners[0]?.address}/`;
      await serves(url, 201);
      const certificates = (await (await fetch(`http://${line.admin}/certs`)).json()) as { certificates: { uri: string }[] };
      expect(certificates.certificates[0]?.uri).toBe("spiffe://cluster.local/ns/shop/sa/cart");
      expect(await (await fetch(`http://${line.admin}/config_dump`)).text()).not.toContain("PRIVATE KEY");

      const good = push(stream, "listener", { l: listener(202) });
      await until(() => stream.requests.some((r) => r.responseNonce === `n${nonce}`), "the acknowledgement");
      await serves(url, 202);

      const bad = push(stream, "listener", { l: listener(203, { codec_type: "HTTP3" }) });
      const refusal = await until(() => stream.requests.find((r) => r.responseNonce === bad), "the rejection");
      expect(refusal.errorDetail?.message).toContain("codec_type: HTTP3 is not supported");
      await serves(url, 202);
      const dump = (await (await fetch(`http://${line.admin}/config_dump`)).json()) as {
        xds: { types: { type: string; resources: { state: string; reason?: string }[] }[] };
      };
      expect(dump.xds.types.find((t) => t.type === "listener")?.resources.map((r) => r.state)).toEqual(["accepted", "rejected"]);

      const metrics = await until(
        () => server.metrics[0]?.requests.flatMap((r) => r.envoyMetrics).find((f) => f.name === "istio_requests_total"),
        "metrics",
      );
      expect(metrics.metric[0]?.label.find((l) => l.name === "source_app")?.value).toBe("cart");

      server.stop();
      await until(() => one.lines.some((text) => text.includes("Lost the control plane")), "the loss");
      await serves(url, 202);
      expect((await fetch(`http://${line.admin}/ready`)).status).toBe(200);
      const back = await startFakeControlPlane({ tls, port: server.port });
      stops.push(() => back.stop());
      const again = await until(() => back.delta[0], "the new stream");
      expect(again.metadata.get("authorization")).toEqual([]);
      await until(() => again.requests.length === 2);
      expect(again.requests[1]?.initialResourceVersions).toEqual({ l: good });
      push(again, "listener", { l: listener(204) });
      await until(() => again.requests.some((r) => r.responseNonce === `n${nonce}`));
      await serves(url, 204);

      // What only the processes that listen can find out is told too, if later than an acknowledgement.
      const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
      stops.push(() => taken.stop(true));
      push(again, "listener", { other: { ...listener(205), name: "other", address: address(taken.port) } });
      const complaint = await until(() => again.requests.find((r) => r.errorDetail !== undefined), "the rejection");
      expect(complaint.errorDetail?.message).toContain(`listener other: 127.0.0.1:${taken.port} is in use by another process`);
      await serves(url, 204);

      // The certificate is where the handshakes are; the address stays, though the sockets' handlers change.
      const secret = { name: "default", sds_config: { ads: {}, resource_api_version: "V3" } };
      const transport = {
        name: "tls",
        typed_config: {
          "@type": at(DownstreamTlsContextSchema.typeName),
          common_tls_context: { tls_certificate_sds_secret_configs: [secret] },
        },
      };
      const plain = listener(206);
      push(again, "listener", {
        l: { ...plain, filter_chains: plain.filter_chains.map((chain) => ({ ...chain, transport_socket: transport })) },
      });
      await eventually(async () => {
        const names = await Promise.all(Array.from({ length: 8 }, () => peerNames(Number(new URL(url).port)).catch(() => "")));
        return names.every((name) => name === "URI:spiffe://cluster.local/ns/shop/sa/cart");
      }, "the proxy's certificate from every worker");
      one.process.kill("SIGTERM");
      expect(await one.process.exited).toBe(0);
    }, 20_000);
  }

  test("a successor has its own identity before it takes over; counts go on", async () => {
    const tls = { ca: authority.caPem, ...authority.issue(`URI:${serverName}`) };
    const server = await startFakeControlPlane({ tls });
    stops.push(() => server.stop());
    let refusing = false;
    server.sign = (request) => {
      if (refusing) throw Object.assign(new Error("not yet"), { code: 14 });
      return [authority.signRequest(request.csr), authority.caPem];
    };
    const args = [
      "--bootstrap",
      write("h.json", sidecar(server.port)),
      "--token-file",
      write("join3", "x"),
      "--handover",
      join(folder, "h.sock"),
    ];
    const one = start(...args);
    const stream = await until(() => server.delta[0], "the discovery stream");
    push(stream, "cluster", {});
    push(stream, "listener", { l: listener(201) });
    const url = `http://${(await ready(one)).listeners[0]?.address}/`;
    await serves(url, 201);
    refusing = true;
    const two = start(...args);
    const second = await until(() => server.delta[1], "the successor's stream");
    push(second, "cluster", {});
    push(second, "listener", { l: listener(202) });
    await until(() => two.lines.some((text) => text.includes("not yet")), "a refused certificate");
    // It has all of the configuration, but could not answer a handshake: the first one serves.
    await serves(url, 201);
    expect(one.process.exitCode).toBe(null);
    refusing = false;
    const line = await ready(two);
    expect(line.listeners[0]?.address).toBe(new URL(url).host);
    await serves(url, 202);
    expect(await one.process.exited).toBe(0);
    const counted = await eventually(async () => {
      const text = await (await fetch(`http://${line.admin}/metrics`)).text();
      return /istio_requests_total\{[^\n]*response_code="201"[^\n]*\} (\d+)/.exec(text)?.[1];
    }, "the predecessor's counts");
    expect(Number(counted)).toBeGreaterThanOrEqual(16);
    two.process.kill("SIGTERM");
    expect(await two.process.exited).toBe(0);
  }, 20_000);

  test("while the control plane cannot be reached, it says so and stops when told", async () => {
    const one = start(
      "--bootstrap",
      write("w.json", { ...sidecar(1), admin: { address: address(0) } }),
      "--token-file",
      write("join2", "x"),
    );
    const refusal = await until(() => one.lines.find((text) => text.includes("Cannot reach the control plane")), "a warning");
    expect(JSON.parse(refusal)).toMatchObject({ level: "warn", address: { host: "127.0.0.1", port: 1 } });
    one.process.kill("SIGTERM");
    expect(await one.process.exited).toBe(0);
  });
});
