// Judges: one mesh of our proxies, Envoys and gRPC programs without a proxy. Envoy as a sidecar on both sides and as a gateway for callers outside, by the
// files that `weft bootstrap` writes, with its identity from the agent (SDS); everybody calls everybody in mutual TLS, and policies hold at each.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { ClientResourceStatus } from "../../src/wire/gen/envoy/admin/v3/config_dump_shared_pb.ts";
import { ClientStatusRequestSchema, ClientStatusResponseSchema } from "../../src/wire/gen/envoy/service/status/v3/csds_pb.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { ask, freePort, goProgram, type Lines, Mesh, until } from "./xds-setup.ts";

describe.skipIf(!needsPeers("xds-mixed.test.ts", "envoy", "node", "go", "python-grpc"))("a mesh of all kinds", () => {
  let mesh: Mesh;
  let go = "";
  const python = [findPeer("python-grpc") as string, `${import.meta.dir}/xds-python.py`];
  const gateway = freePort();
  const envoyProxy = freePort();
  const local = freePort();
  /** By who calls: a client of service `echo-*` by its own way. */
  const callers = new Map<string, (service: string) => Promise<string>>();
  const services = ["weft", "envoy", "go"] as const;
  const logs: (() => string)[] = [];

  beforeAll(async () => {
    go = await goProgram("client");
    mesh = await Mesh.start();
    // A gRPC server that knows nothing of a mesh: the bootstrap is missing, its credentials fall back to plain text.
    const plain = (port: number, name: string) =>
      mesh.program([findPeer("node") as string, `${import.meta.dir}/xds-node.mjs`, "plain", String(port), name]);
    const [weftApp, envoyApp, goApp] = [freePort(), freePort(), freePort()];
    for (const name of services) await mesh.service(`echo-${name}`, 50051, "grpc");

    // Our proxy, by `weft run`.
    const node = findPeer("node") as string;
    mesh.weft([
      ...["run", "-n", "shop", "--service", "echo-weft", "--protocol", "grpc", "--port", String(weftApp)],
      ...[
        "--upstream",
        `echo-weft=${local}`,
        "--upstream",
        `echo-envoy=${freePortFor("envoy")}`,
        "--upstream",
        `echo-go=${freePortFor("go")}`,
      ],
      ...["--", node, `${import.meta.dir}/xds-node.mjs`, "plain", String(weftApp), "weft"],
    ]);

    // Envoy, delta.
    await plain(envoyApp, "envoy").next("the application behind Envoy");
    const envoyDir = await mesh.agent("echo-envoy");
    await mesh.entry(
      "echo-envoy-1",
      "echo-envoy",
      "echo-envoy",
      { name: "grpc", port: freePort(), appPort: envoyApp },
      { "weft.dev/http-proxy-port": String(envoyProxy) },
    );
    logs.push(mesh.envoy(mesh.bootstrap("echo-envoy-1", "--envoy", "--dir", envoyDir)).log);

    // Envoy at the edge, state of the world.
    const edgeDir = await mesh.agent("edge");
    await mesh.entry("edge-1", "edge", "edge", undefined, { "weft.dev/http-proxy-port": String(freePort()) });
    logs.push(mesh.envoy(mesh.bootstrap("edge-1", "--envoy", "--sotw", "--dir", edgeDir, "--gateway", `127.0.0.1:${gateway}`)).log);

    // gRPC alone.
    const goDir = await mesh.agent("echo-go");
    await mesh.entry("echo-go-1", "echo-go", "echo-go", { name: "grpc", port: goApp, appPort: goApp });
    await mesh
      .program([go, "serve", String(goApp), "go"], { GRPC_XDS_BOOTSTRAP: mesh.bootstrap("echo-go-1", "--grpc", "--dir", goDir) })
      .next("the server in Go");

    const programs = new Map<string, Lines>();
    const reuse = (key: string, make: () => Lines): Lines => {
      const found = programs.get(key) ?? make();
      programs.set(key, found);
      return found;
    };
    const said = async (program: Lines): Promise<string> => (await ask(program, "hello")).join(" ");
    for (const [who, command] of [
      ["go", [go]],
      ["python", python],
    ] as const) {
      const bootstrap = mesh.bootstrap(`caller-${who}`, "--grpc", "--dir", goDir);
      callers.set(`gRPC in ${who}`, (service) =>
        said(
          reuse(`${who} ${service}`, () =>
            mesh.program([...command, "call", `xds:///${service}.shop:50051`], { GRPC_XDS_BOOTSTRAP: bootstrap }),
          ),
        ),
      );
    }
    callers.set("a program beside our proxy", (service) =>
      said(
        reuse(`local ${service}`, () =>
          mesh.program([node, `${import.meta.dir}/xds-node.mjs`, "call", `127.0.0.1:${locals.get(service.slice(5)) ?? local}`]),
        ),
      ),
    );
    callers.set("somebody outside, at Envoy's gateway", (service) => byAuthority(gateway, `${service}.shop:50051`));
    callers.set("a program beside Envoy", (service) => byAuthority(envoyProxy, `${service}.shop:50051`));
  }, 600_000);
  afterAll(() => mesh?.stop());

  const locals = new Map<string, number>();
  function freePortFor(name: string): number {
    const port = freePort();
    locals.set(name, port);
    return port;
  }

  function byAuthority(port: number, authority: string, cluster?: string): Promise<string> {
    const headers = new Metadata();
    if (cluster !== undefined) headers.set("x-cluster", cluster);
    const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), { "grpc.default_authority": authority });
    const asIs = (bytes: Buffer): Buffer => bytes;
    return new Promise((resolve) => {
      client.makeUnaryRequest(
        "/test.Echo/Unary",
        asIs,
        asIs,
        Buffer.from("hello"),
        headers,
        { deadline: Date.now() + 8000 },
        (error, answer) => {
          client.close();
          resolve(error ? `${error.code} ${error.details}` : `OK ${answer}`);
        },
      );
    });
  }

  for (const who of [
    "gRPC in go",
    "gRPC in python",
    "a program beside our proxy",
    "somebody outside, at Envoy's gateway",
    "a program beside Envoy",
  ]) {
    test(`${who} reaches everybody`, async () => {
      for (const service of services) {
        let last = "";
        await until(`${who} to ${service}`, async () => {
          last = (await callers.get(who)?.(`echo-${service}`)) ?? "";
          return last === `OK ${service} hello`;
        }).catch((error: Error) => {
          throw new Error(`${error.message}: ${last}\n${logs.map((log) => log()).join("\n")}`);
        });
      }
    }, 60_000);
  }

  test("everybody is in step, and shown", async () => {
    for (const name of ["echo-envoy-1", "edge-1", "echo-go-1", "caller-go", "caller-python"]) {
      const status = await until(`${name} in step`, async () => {
        const found = await mesh.shown(name);
        return found?.connected && found.synced ? found : undefined;
      });
      expect({ name, rejected: status.lastRejection }).toEqual({ name, rejected: null });
    }
    expect((await mesh.shown("echo-envoy-1"))?.mode).toBe("delta");
    expect((await mesh.shown("edge-1"))?.mode).toBe("sotw");
    expect((await mesh.cli("status", "-n", "shop", "--check")).code).toBe(0);
  }, 30_000);

  test("a policy holds before our proxy, Envoy and gRPC alike", async () => {
    await mesh.create("authorizationpolicies", "security.istio.io/v1", "AuthorizationPolicy", "edge-only", {
      action: "ALLOW",
      rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/edge"] } }] }],
    });
    for (const service of services) {
      for (const [who, allowed] of [
        ["gRPC in go", false],
        ["gRPC in python", false],
        ["a program beside our proxy", false],
        ["a program beside Envoy", false],
        ["somebody outside, at Envoy's gateway", true],
      ] as const) {
        let last = "";
        const denied = /^(7|PERMISSION_DENIED) /;
        await until(`${who} to ${service}: ${allowed}`, async () => {
          last = (await callers.get(who)?.(`echo-${service}`)) ?? "";
          return allowed ? last.startsWith("OK") : denied.test(last);
        }).catch((error: Error) => {
          throw new Error(`${error.message}: ${last}`);
        });
      }
    }
    await mesh.text("/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/edge-only", "DELETE");
  }, 90_000);

  test("Envoy asks for clusters on demand: it is given those it names and what they need, and no others", async () => {
    const port = freePort();
    const folder = await mesh.agent("lazy");
    await mesh.entry("lazy-1", "lazy", "lazy", undefined);
    const file = mesh.bootstrap("lazy-1", "--envoy", "--dir", folder);
    const bootstrap = JSON.parse(readFileSync(file, "utf8"));
    bootstrap.dynamic_resources.cds_config = undefined;
    const type = "type.googleapis.com/envoy.extensions.filters";
    bootstrap.static_resources.listeners = [
      {
        name: "lazy",
        address: { socket_address: { address: "127.0.0.1", port_value: port } },
        filter_chains: [
          {
            filters: [
              {
                name: "envoy.filters.network.http_connection_manager",
                typed_config: {
                  "@type": `${type}.network.http_connection_manager.v3.HttpConnectionManager`,
                  stat_prefix: "lazy",
                  route_config: {
                    virtual_hosts: [
                      { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster_header: "x-cluster" } }] },
                    ],
                  },
                  http_filters: [
                    {
                      name: "envoy.filters.http.on_demand",
                      typed_config: {
                        "@type": `${type}.http.on_demand.v3.OnDemand`,
                        odcds: { source: { ads: {}, resource_api_version: "V3" }, timeout: "5s" },
                      },
                    },
                    { name: "envoy.filters.http.router", typed_config: { "@type": `${type}.http.router.v3.Router` } },
                  ],
                },
              },
            ],
          },
        ],
      },
    ];
    writeFileSync(file, JSON.stringify(bootstrap));
    const { log } = mesh.envoy(file);
    const wanted = "outbound|50051||echo-go.shop.svc.cluster.local";
    let last = "";
    await until("an answer", async () => {
      last = await byAuthority(port, "any", wanted);
      return last === "OK go hello";
    }).catch((error: Error) => {
      throw new Error(`${error.message}: ${last}\n${log()}`);
    });
    const status = await mesh.shown("lazy-1");
    expect(status?.types.cluster.resources).toBe(1);
    expect(status?.types.endpoint.resources).toBe(1);
    expect(await byAuthority(port, "any", "outbound|50051||nobody.shop.svc.cluster.local")).toMatch(/^14 /);
  }, 60_000);

  test("load reports of Envoy become metrics too", async () => {
    const series =
      'weft_xds_load_requests_total{source_namespace="shop",source="edge",cluster="outbound|50051||echo-go.shop.svc.cluster.local",outcome="success"}';
    await until(
      "a report",
      async () => {
        // Envoy counts from a report on, for the clusters that it had then.
        await byAuthority(gateway, "echo-go.shop:50051");
        await Bun.sleep(200);
        return (await mesh.text("/metrics")).includes(series);
      },
      30_000,
    );
  }, 40_000);

  test("client status tells what each client runs, and to nobody without a right", async () => {
    const status = (request: object, authorization?: string): Promise<ReturnType<typeof read> | string> => {
      const client = new Client(mesh.plane.xdsAddress, credentials.createSsl(Buffer.from(mesh.roots)), {
        "grpc.ssl_target_name_override": "weft",
        "grpc.default_authority": "weft",
        "grpc.max_receive_message_length": 64 * 1024 * 1024,
      });
      const metadata = new Metadata();
      if (authorization !== undefined) metadata.set("authorization", `Bearer ${authorization}`);
      return new Promise((resolve) =>
        client.makeUnaryRequest(
          "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
          (message: object) => Buffer.from(toBinary(ClientStatusRequestSchema, create(ClientStatusRequestSchema, message))),
          read,
          request,
          metadata,
          (error, answer) => {
            client.close();
            resolve(error ? error.details : (answer as ReturnType<typeof read>));
          },
        ),
      );
    };
    const all = await status({}, mesh.admin);
    if (typeof all === "string") throw new Error(all);
    const ids = all.config.map((each) => each.node?.id ?? "").sort();
    expect(ids).toEqual(
      expect.arrayContaining(["grpc~shop~caller-go", "grpc~shop~echo-go-1", "sidecar~shop~echo-envoy-1", "sidecar~shop~edge-1"]),
    );
    const one = await status({ nodeMatchers: [{ nodeId: { matchPattern: { case: "exact", value: "sidecar~shop~edge-1" } } }] }, mesh.admin);
    if (typeof one === "string") throw new Error(one);
    expect(one.config.length).toBe(1);
    const resources = one.config[0]?.genericXdsConfigs ?? [];
    const cluster = resources.find(
      (each) => each.name === "outbound|50051||echo-go.shop.svc.cluster.local" && each.typeUrl.endsWith("Cluster"),
    );
    expect(cluster?.clientStatus).toBe(ClientResourceStatus.ACKED);
    expect(cluster?.xdsConfig?.value.length).toBeGreaterThan(0);
    expect(await status({})).toContain("no credentials");
    expect(await status({}, "wrong")).toBeString();
  });

  function read(bytes: Buffer) {
    return fromBinary(ClientStatusResponseSchema, bytes);
  }
});
