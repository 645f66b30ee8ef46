// Judges: the SPIFFE project's Go library and Envoy, which take their identity from a sidecar's Workload API and speak mutual TLS with each other by it.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import { execute } from "../support/execute.ts";
import { goProgram } from "../support/go-program.ts";
import { eventually, TestMesh } from "../support/mesh.ts";
import { findPeer, needsPeers } from "../support/peers.ts";

const path = "test/peers/workload-api.test.ts";
const hello = (account: string): string => `hello spiffe://cluster.local/ns/shop/sa/${account}`;

describe.skipIf(!needsPeers(path, "go", "envoy"))("the Workload API", () => {
  let mesh: TestMesh;
  let program: string;
  beforeAll(async () => {
    program = await goProgram(join(import.meta.dir, "go-spiffe"), "go-spiffe");
    mesh = await TestMesh.start();
  }, 600_000);
  afterAll(() => mesh?.stop());

  /** A job with an identity that runs the Go program once. */
  const job = (account: string, ...words: string[]) =>
    mesh.processes.weft(["run", "--service", account, "-n", "shop", "--workload-api", "-q", "--", program, ...words]);

  test("two programs of go-spiffe meet over mutual TLS, each with its own name", async () => {
    const port = await freePort();
    const server = await mesh.run({
      service: "server",
      name: "server-1",
      port,
      protocol: "tcp",
      flags: ["--workload-api"],
      command: [program, "serve", `127.0.0.1:${port}`],
    });
    const { code, out, err } = await job("client", "call", `127.0.0.1:${server.appPort}`);
    expect({ code, out, err }).toEqual({ code: 0, out: `spiffe://cluster.local/ns/shop/sa/server says: ${hello("client")}\n`, err: "" });
    // Without an identity nobody gets in, not even from this machine.
    const stranger = await execute([findPeer("curl") ?? "curl", "-sk", `https://127.0.0.1:${port}/`]);
    expect(stranger.code).not.toBe(0);
  }, 60_000);

  test("the bundle endpoint gives the roots to who federates", async () => {
    const kubeconfig = readFileSync(join(mesh.dataDir, "admin.kubeconfig"), "utf8");
    const server = /server: (\S+)/.exec(kubeconfig)?.[1] ?? "";
    const url = `${server.replaceAll('"', "")}/spiffe-bundle`;
    const { code, out, err } = await execute([program, "bundle", "cluster.local", url, join(mesh.dataDir, "ca.crt")]);
    expect({ code, out, err }).toEqual({ code: 0, out: "spiffe://cluster.local 5m0s\n", err: "" });
  });

  test("Envoy takes certificate and roots by SDS from the same socket, and asks its callers for theirs", async () => {
    const port = await freePort();
    const file = join(mesh.dataDir, "envoy.json");
    const secret = (name: string) => ({
      name,
      sds_config: {
        resource_api_version: "V3",
        api_config_source: { api_type: "GRPC", transport_api_version: "V3", grpc_services: [{ envoy_grpc: { cluster_name: "agent" } }] },
      },
    });
    const manager = {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix: "in",
      route_config: {
        virtual_hosts: [
          {
            name: "all",
            domains: ["*"],
            routes: [{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: "hello from envoy" } } }],
          },
        ],
      },
      http_filters: [{ name: "router", typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    };
    writeFileSync(
      file,
      JSON.stringify({
        node: { id: "envoy", cluster: "envoy" },
        static_resources: {
          listeners: [
            {
              name: "in",
              address: { socket_address: { address: "127.0.0.1", port_value: port } },
              filter_chains: [
                {
                  transport_socket: {
                    name: "tls",
                    typed_config: {
                      "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                      require_client_certificate: true,
                      common_tls_context: {
                        tls_certificate_sds_secret_configs: [secret("default")],
                        validation_context_sds_secret_config: secret("ROOTCA"),
                      },
                    },
                  },
                  filters: [{ name: "http", typed_config: manager }],
                },
              ],
            },
          ],
          clusters: [
            {
              name: "agent",
              type: "STATIC",
              typed_extension_protocol_options: {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                  "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                  explicit_http_config: { http2_protocol_options: {} },
                },
              },
              load_assignment: {
                cluster_name: "agent",
                endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: "SOCKET" } } } }] }],
              },
            },
          ],
        },
      }),
    );
    const script = `sed "s#SOCKET#\${SPIFFE_ENDPOINT_SOCKET#unix://}#" ${file} > ${file}.made.json && exec ${findPeer("envoy")} -c ${file}.made.json --use-dynamic-base-id -l error --concurrency 1`;
    await mesh.run({ service: "edge", name: "edge-1", port, protocol: "tcp", flags: ["--workload-api"], command: ["sh", "-c", script] });
    const answer = await eventually(
      10_000,
      () => job("client", "call", `127.0.0.1:${port}`),
      (each) => each.code === 0,
    );
    expect(answer.out).toBe("spiffe://cluster.local/ns/shop/sa/edge says: hello from envoy\n");
  }, 60_000);
});
