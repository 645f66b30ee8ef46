// Proxies as processes that end and start with their control plane gone. The whole mesh is in test/e2e/snapshot.test.ts.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { create, createRegistry, fromJson, toBinary } from "@bufbuild/protobuf";
import { ListenerSchema } from "../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { RouterSchema } from "../../wire/gen/envoy/extensions/filters/http/router/v3/router_pb.ts";
import { HttpConnectionManagerSchema } from "../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import { DownstreamTlsContextSchema } from "../../wire/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts";
import { DeltaDiscoveryResponseSchema } from "../../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { typeUrl } from "../../wire/xds-types.ts";
import { ProxyRunner, type Running, ready as readyLine, startLoad, until } from "../process/testing.ts";
import { createTestAuthority, type FakeControlPlane, startFakeControlPlane, type TestAuthority } from "../xds/testing.ts";

let runner: ProxyRunner;
let authority: TestAuthority;
const stops: (() => void)[] = [];
beforeAll(() => {
  runner = new ProxyRunner();
  authority = createTestAuthority();
});
afterEach(async () => {
  await runner.stopAll();
  for (const stop of stops.splice(0)) stop();
});
afterAll(async () => {
  await runner.close();
  authority.close();
});

const at = (name: string): string => `type.googleapis.com/${name}`;
const address = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });
const registry = createRegistry(HttpConnectionManagerSchema, RouterSchema, DownstreamTlsContextSchema);
const serverName = "spiffe://cluster.local/ns/weft-system/sa/weft";

const bootstrap = (port: number, id = "sidecar~shop~cart") => ({
  node: { id, metadata: { NAMESPACE: "shop", WORKLOAD_NAME: "cart", SERVICE_ACCOUNT: "cart", MESH_ID: "cluster.local" } },
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
});

const listener = (name: string, status: number, extra: object = {}) => ({
  name,
  address: address(0),
  filter_chains: [
    {
      filters: [
        {
          name: "h",
          typed_config: {
            "@type": at(HttpConnectionManagerSchema.typeName),
            stat_prefix: "x",
            route_config: {
              virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status } }] }],
            },
            http_filters: [{ name: "router", typed_config: { "@type": at(RouterSchema.typeName) } }],
          },
        },
      ],
      ...extra,
    },
  ],
});
const secret = { name: "default", sds_config: { ads: {}, resource_api_version: "V3" } };
const encrypted = {
  transport_socket: {
    name: "tls",
    typed_config: {
      "@type": at(DownstreamTlsContextSchema.typeName),
      common_tls_context: { tls_certificate_sds_secret_configs: [secret] },
    },
  },
};
const both = [listener("plain", 200), listener("tls", 202, encrypted)];

let nonce = 0;
type Stream = FakeControlPlane["delta"][number];
function push(
  stream: Stream,
  type: "cluster" | "listener",
  items: readonly { readonly name: string }[],
  removedResources: string[] = [],
): string {
  const id = `n${++nonce}`;
  const resources = items.map((item) => ({
    name: item.name,
    version: id,
    resource: {
      typeUrl: typeUrl[type],
      value: toBinary(ListenerSchema, fromJson(ListenerSchema, JSON.parse(JSON.stringify(item)), { registry })),
    },
  }));
  stream.send(create(DeltaDiscoveryResponseSchema, { typeUrl: typeUrl[type], nonce: id, resources, removedResources }));
  return id;
}

async function controlPlane(port?: number, days = 1): Promise<FakeControlPlane> {
  const tls = { ca: authority.caPem, ...authority.issue(`URI:${serverName}`) };
  const server = await startFakeControlPlane({ tls, ...(port === undefined ? {} : { port }) });
  stops.push(() => server.stop());
  server.sign = (request) => [authority.signRequest(request.csr, days), authority.caPem];
  return server;
}

const portOf = (line: Awaited<ReturnType<typeof ready>>, name: string): number =>
  Number(
    line.listeners
      .find((one) => one.name === name)
      ?.address.split(":")
      .at(-1),
  );
type Line = Awaited<ReturnType<typeof readyLine>> & { readonly from?: string; readonly snapshotAgeSeconds?: number };
const ready = async (one: Running): Promise<Line> => (await readyLine(one)) as Line;
const page = async (line: Line, path: string): Promise<string> => (await (await fetch(`http://${line.admin}${path}`)).text()).trim();
const status = (port: number): Promise<number> =>
  fetch(`http://127.0.0.1:${port}/`, { keepalive: false }).then(
    (answer) => answer.status,
    () => 0,
  );
/** Serial number of the certificate that a port shows; "" when it shows none. */
const serial = (port: number): Promise<string> =>
  new Promise((resolve) => {
    const socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on("error", () => resolve(""));
  });

let names = 0;
function argsFor(port: number, more: readonly string[] = [], id?: string): string[] {
  const name = `p${++names}`;
  const files = [runner.write(`${name}.json`, bootstrap(port, id)), runner.write(`${name}.token`, "join-token")];
  return [
    "--bootstrap",
    files[0] as string,
    "--token-file",
    files[1] as string,
    "--snapshot",
    join(runner.folder, `${name}.kept`),
    ...more,
  ];
}
const folderOf = (args: readonly string[]): string => args[args.indexOf("--snapshot") + 1] as string;

/** A proxy that has been given both listeners, has written them, and was killed; its control plane is gone. */
async function kept(more: readonly string[] = [], days = 1): Promise<{ args: string[]; port: number; version: string; serial: string }> {
  const server = await controlPlane(undefined, days);
  const args = argsFor(server.port, more);
  const one = runner.start(...args);
  const stream = await until(() => server.delta[0], "the discovery stream");
  push(stream, "cluster", []);
  const version = push(stream, "listener", both);
  const line = await ready(one);
  await until(async () => (await page(line, "/metrics")).includes("weft_snapshot_writes_total 1"), "the first write");
  const shown = await serial(portOf(line, "tls"));
  one.process.kill("SIGKILL");
  await one.process.exited;
  server.stop();
  return { args, port: server.port, version, serial: shown };
}

describe("with the control plane gone", () => {
  for (const workers of ["1", "2"]) {
    test(`serves what was accepted, certificate and all, and asks for what changed when it is back (${workers} workers)`, async () => {
      const before = await kept(["--workers", workers]);
      const one = runner.start(...before.args);
      const line = await ready(one);
      expect(line).toMatchObject({ from: "snapshot", snapshotAgeSeconds: expect.any(Number) });
      expect(await status(portOf(line, "plain"))).toBe(200);
      expect(await serial(portOf(line, "tls"))).toBe(before.serial);
      expect(await page(line, "/ready")).toMatch(/^LIVE: from a snapshot \d+ s old; the control plane has not answered yet$/);
      expect(await page(line, "/metrics")).toMatch(/weft_snapshot_age_seconds \d/);
      expect(await page(line, "/config_dump")).not.toContain("PRIVATE KEY");

      const back = await controlPlane(before.port);
      const stream = await until(() => back.delta[0], "the stream");
      const second = await until(() => stream.requests[1], "the subscriptions");
      expect(second.initialResourceVersions).toEqual({ plain: before.version, tls: before.version });
      expect(stream.metadata.get("authorization")).toEqual([]);
      expect(back.certificateRequests).toEqual([]);
      push(stream, "cluster", []);
      push(stream, "listener", [listener("plain", 207)], ["tls"]);
      await until(async () => (await status(portOf(line, "plain"))) === 207, "what changed");
      await until(async () => (await serial(portOf(line, "tls"))) === "", "the end of what is no longer there");
      expect(await page(line, "/ready")).toBe("LIVE");
      // And the next start has it.
      await until(async () => (await page(line, "/metrics")).includes("weft_snapshot_writes_total 1"), "the write");
      one.process.kill("SIGKILL");
      await one.process.exited;
      back.stop();
      const next = await ready(runner.start(...before.args));
      expect(next.listeners.map((each) => each.name)).toEqual(["plain"]);
      expect(await status(portOf(next, "plain"))).toBe(207);
    }, 30_000);
  }

  test("an end in good order writes what the last second brought", async () => {
    const server = await controlPlane();
    const args = argsFor(server.port);
    const one = runner.start(...args);
    const stream = await until(() => server.delta[0], "the discovery stream");
    push(stream, "cluster", []);
    push(stream, "listener", both);
    await ready(one);
    one.process.kill("SIGTERM");
    expect(await one.process.exited).toBe(0);
    server.stop();
    expect((await ready(runner.start(...args))).from).toBe("snapshot");
  }, 20_000);

  test("a successor takes over, and no request fails", async () => {
    const before = await kept(["--handover", join(runner.folder, "snap.sock")]);
    const first = runner.start(...before.args);
    const line = await ready(first);
    const load = startLoad(portOf(line, "plain"), 2, false);
    const second = runner.start(...before.args);
    expect(await ready(second)).toMatchObject({ from: "snapshot", replaced: first.process.pid });
    expect(await first.process.exited).toBe(0);
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(load.done()).toBeGreaterThan(0);
    expect(readFileSync(join(folderOf(before.args), "lock"), "utf8")).toBeOneOf(["", `${first.process.pid}\n`, `${second.process.pid}\n`]);
  }, 20_000);
});

describe("a snapshot that cannot be used is told and left alone", () => {
  test("when it is corrupted: sampled bits and lengths", async () => {
    const before = await kept();
    const file = join(folderOf(before.args), "snapshot");
    const whole = readFileSync(file);
    const turned = (byte: number): Buffer => {
      const copy = Buffer.from(whole);
      copy[byte]! ^= 1 << (byte % 8);
      return copy;
    };
    const samples = [
      ...[0, 9, 14, 30, Math.floor(whole.length / 2), whole.length - 1].map(turned),
      whole.subarray(0, 0),
      whole.subarray(0, whole.length - 1),
    ];
    for (const sample of samples) {
      writeFileSync(file, sample);
      const one = runner.start(...before.args);
      await until(() => one.lines.some((text) => text.includes("Cannot reach the control plane")), "the attempt to connect");
      const told = one.lines.find((text) => text.includes("The snapshot is not used; waiting for the control plane."));
      expect(JSON.parse(told ?? "{}").reason).toBeOneOf(["corrupt", "format"]);
      expect(one.lines.some((text) => text.includes('"msg":"ready"'))).toBe(false);
      one.process.kill("SIGKILL");
      await one.process.exited;
    }
  }, 40_000);

  test("when it is another node's, or holds what this program refuses", async () => {
    const before = await kept();
    const folder = folderOf(before.args);
    const other = argsFor(before.port, [], "sidecar~shop~stock");
    const one = runner.start(...other.map((word) => (word === folderOf(other) ? folder : word)));
    const told = await until(() => one.lines.find((text) => text.includes("The snapshot is not used")), "the refusal");
    expect(JSON.parse(told)).toMatchObject({ reason: "foreign", problem: expect.stringContaining("sidecar~shop~cart") });
    one.process.kill("SIGKILL");
    await one.process.exited;
    // Whole by its hash, and yet with a resource that the gate refuses, in the place of a good one.
    const { contentOf, decodeSnapshot, encodeSnapshot } = await import("./format.ts");
    const owner = { node: "sidecar~shop~cart", trustDomain: "cluster.local" };
    const read = decodeSnapshot(readFileSync(join(folder, "snapshot")), owner);
    if ("message" in read) throw new Error(read.message);
    const [first, second] = read.resources.listener;
    const bad = { ...read, resources: { ...read.resources, listener: [first!, { ...second!, bytes: new Uint8Array([0xff, 0xff]) }] } };
    writeFileSync(join(folder, "snapshot"), encodeSnapshot(contentOf(bad, owner, "0.0.9"), Date.now()));
    const two = runner.start(...before.args);
    const rejected = await until(() => two.lines.find((text) => text.includes("The snapshot is not used")), "the refusal");
    expect(JSON.parse(rejected)).toMatchObject({ reason: "rejected", problem: expect.stringContaining("listener tls") });
    await until(() => two.lines.some((text) => text.includes("Cannot reach the control plane")), "the attempt to connect");
    expect(two.lines.some((text) => text.includes('"msg":"ready"'))).toBe(false);
    // As if there had been none: a certificate is asked for by token.
    const back = await controlPlane(before.port);
    const stream = await until(() => back.delta[0], "the stream");
    expect(stream.metadata.get("authorization")).toEqual(["Bearer join-token"]);
    await until(() => back.certificateRequests.length === 1, "the request for a certificate");
  }, 20_000);

  test("a folder that another proxy has, or that others may write: status 1", async () => {
    const server = await controlPlane();
    const args = argsFor(server.port);
    const one = runner.start(...args);
    await until(() => server.delta[0], "the discovery stream");
    const two = runner.start(...args);
    expect(await two.process.exited).toBe(1);
    expect(two.lines.join("\n")).toContain(
      `the snapshot folder ${folderOf(args)} is in use by process ${one.process.pid}; each proxy needs its own`,
    );
    const three = runner.start(...argsFor(server.port).map((word) => (word.endsWith(".kept") ? "/tmp" : word)));
    expect(await three.process.exited).toBe(1);
    expect(three.lines.join("\n")).toContain("the snapshot folder /tmp is open to others");
    const four = runner.start("--bootstrap", runner.write("static.json", { admin: { address: address(0) } }), "--snapshot", folderOf(args));
    expect(await four.process.exited).toBe(1);
    expect(four.lines.join("\n")).toContain("--snapshot keeps what a control plane gives");
  }, 20_000);
});

describe("a certificate that has expired meanwhile", () => {
  /** As `kept`, and the certificate in it replaced by one that has just ended. */
  async function keptExpired(more: readonly string[]) {
    const before = await kept(more);
    const { contentOf, decodeSnapshot, encodeSnapshot } = await import("./format.ts");
    const { KeyPair } = await import("../identity/key-pair.ts");
    const { createKeyAndRequest } = await import("../identity/csr.ts");
    const owner = { node: "sidecar~shop~cart", trustDomain: "cluster.local" };
    const file = join(folderOf(before.args), "snapshot");
    const read = decodeSnapshot(readFileSync(file), owner);
    if ("message" in read) throw new Error(read.message);
    const key = await createKeyAndRequest("spiffe://cluster.local/ns/shop/sa/cart");
    const ended = authority.signRequest(key.csrPem, 0);
    expect(new X509Certificate(ended).validToDate.getTime()).toBeLessThanOrEqual(Date.now());
    const identity = { certificate: new KeyPair(ended, key.privateKeyPem()), rootsPem: authority.caPem };
    writeFileSync(file, encodeSnapshot(contentOf({ ...read, identity }, owner, "0.1.0"), Date.now()));
    return before;
  }

  test("keep: what is plain serves, no handshake is made with it, and renewal mends it", async () => {
    const before = await keptExpired(["--log-level", "debug"]);
    const one = runner.start(...before.args);
    const line = await ready(one);
    expect(line.from).toBe("snapshot");
    expect(await status(portOf(line, "plain"))).toBe(200);
    expect(await serial(portOf(line, "tls"))).toBe("");
    expect(one.lines.join("\n")).toContain("The certificate has expired and nobody has renewed it: no new handshakes");
    await until(
      () => one.lines.some((text) => text.includes("the certificate of this proxy expired on")),
      "the reason with the connection",
    );
    expect(await page(line, "/metrics")).toMatch(/weft_certificate_expiry_timestamp_seconds\{name="default"\} \d+/);
    await controlPlane(before.port);
    await until(async () => (await serial(portOf(line, "tls"))) !== "", "a new certificate");
    expect(await status(portOf(line, "plain"))).toBe(200);
  }, 20_000);

  test("close: nothing is open and it is not ready, until it is renewed", async () => {
    const before = await keptExpired(["--when-unrenewed", "close"]);
    const one = runner.start(...before.args);
    await until(() => one.lines.some((text) => text.includes("nobody has renewed it: every listener is closed")), "the alarm");
    await until(() => one.lines.some((text) => text.includes("Cannot reach the control plane")), "the attempt to connect");
    expect(one.lines.some((text) => text.includes('"msg":"ready"'))).toBe(false);
    await controlPlane(before.port);
    const line = await ready(one);
    expect(await status(portOf(line, "plain"))).toBe(200);
    expect(await serial(portOf(line, "tls"))).not.toBe("");
  }, 20_000);
});
