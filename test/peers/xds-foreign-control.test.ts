// Judge: a control plane on go-control-plane, both variants of xDS. Our proxy takes everything from it, follows changes, rejects by name what it does not
// know while the rest goes on, and lives through its absence.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { needsPeers } from "../support/peers.ts";
import { freePort, goProgram, type Lines, Mesh, until } from "./xds-setup.ts";

const node = "sidecar~shop~web-1";
const types = "type.googleapis.com/envoy.config";

interface Answer {
  readonly type: string;
  readonly version: string;
  readonly nonce: string;
  readonly error: string;
}

describe.skipIf(!needsPeers("xds-foreign-control.test.ts", "go"))("our proxy under go-control-plane", () => {
  let program = "";
  let mesh: Mesh;
  const backends = ["one", "two"].map((name) => Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(name) }));
  beforeAll(async () => {
    program = await goProgram("control");
    mesh = await Mesh.start();
  }, 600_000);
  afterAll(async () => {
    await mesh?.stop();
    for (const backend of backends) await backend.stop(true);
  });

  const cluster = (name: string, extra: object = {}) => ({
    name,
    type: "EDS",
    connect_timeout: "1s",
    eds_cluster_config: { eds_config: { ads: {}, resource_api_version: "V3" } },
    ...extra,
  });
  const endpoints = (name: string, at: number) => ({
    cluster_name: name,
    endpoints: [
      { lb_endpoints: [{ endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: backends[at]?.port } } } }] },
    ],
  });
  const router = {
    name: "envoy.filters.http.router",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
  };
  const buffer = {
    name: "envoy.filters.http.buffer",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes: 1024 },
  };
  const listener = (name: string, port: number, table: string, filters: object[] = []) => ({
    name,
    address: { socket_address: { address: "127.0.0.1", port_value: port } },
    filter_chains: [
      {
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: {
              "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
              stat_prefix: name,
              rds: { config_source: { ads: {}, resource_api_version: "V3" }, route_config_name: table },
              http_filters: [...filters, router],
            },
          },
        ],
      },
    ],
  });
  const routes = (name: string, to: string) => ({
    name,
    virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: to } }] }],
  });

  for (const variant of ["DELTA_GRPC", "GRPC"] as const) {
    test(`${variant}: everything, changes, a rejection by name, and an outage`, async () => {
      let control: Lines = mesh.program([program]);
      const port = ((await control.next("the control plane's port")) as { port: number }).port;
      const [first, second] = [freePort(), freePort()];
      const give = (version: string, snapshot: object): void => control.say(JSON.stringify({ version, node, ...snapshot }));
      const base = {
        clusters: [cluster("one"), cluster("two")],
        endpoints: [endpoints("one", 0), endpoints("two", 1)],
        listeners: [listener("first", first, "table")],
        routes: [routes("table", "one")],
      };
      give("1", base);
      const grpc = { envoy_grpc: { cluster_name: "xds-grpc" } };
      const ads = { ads: {}, resource_api_version: "V3" };
      const bootstrap = join(mesh.dir, `proxy-${variant}.json`);
      writeFileSync(
        bootstrap,
        JSON.stringify({
          node: { id: node, cluster: "shop" },
          dynamic_resources: {
            ads_config: { api_type: variant, transport_api_version: "V3", grpc_services: [grpc] },
            cds_config: ads,
            lds_config: ads,
          },
          static_resources: {
            clusters: [
              {
                name: "xds-grpc",
                type: "STATIC",
                connect_timeout: "1s",
                http2_protocol_options: {},
                load_assignment: {
                  cluster_name: "xds-grpc",
                  endpoints: [
                    { lb_endpoints: [{ endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } } }] },
                  ],
                },
              },
            ],
          },
        }),
      );
      mesh.weft(["proxy", "--bootstrap", bootstrap]);
      const get = (at: number): Promise<string> =>
        fetch(`http://127.0.0.1:${at}/`).then(
          (answer) => answer.text(),
          () => "no answer",
        );
      await until("the first answer", async () => (await get(first)) === "one").catch((error: Error) => {
        throw new Error(`${error.message}\n${control.err()}`);
      });

      give("2", { ...base, routes: [routes("table", "two")] });
      await until("the changed route", async () => (await get(first)) === "two");
      give("3", { ...base, endpoints: [endpoints("one", 1), endpoints("two", 0)], routes: [routes("table", "two")] });
      await until("the changed endpoints", async () => (await get(first)) === "one");

      // A listener with a filter we do not know, and a cluster with a field that we do not know: told by name and field; the others go on.
      const before = control.lines.length;
      give("4", {
        ...base,
        clusters: [cluster("one"), cluster("two"), cluster("odd", { dns_refresh_rate: "5s", dns_jitter: "3s" })],
        // None for "odd": go-control-plane sends no endpoints of anybody to a client that does not ask for all it has.
        listeners: [
          listener("first", first, "table"),
          listener("second", second, "table"),
          listener("strange", freePort(), "table", [buffer]),
        ],
        routes: [routes("table", "one")],
      });
      await until("the new listener", async () => (await get(second)) === "one");
      expect(await get(first)).toBe("one");
      const rejected = (type: string) =>
        control.next(
          `a rejection of a ${type}`,
          (line) => (line as Answer).type === `${types}.${type}` && (line as Answer).error !== "",
          before,
        ) as Promise<Answer>;
      const strange = await rejected("listener.v3.Listener");
      expect(strange.error).toContain("strange");
      expect(strange.error).toContain("http_filters[0].typed_config");
      expect(strange.error).toContain("envoy.extensions.filters.http.buffer.v3.Buffer");
      expect(strange.error).not.toContain("second");
      const odd = await rejected("cluster.v3.Cluster");
      expect(odd.error).toMatch(/odd: field \d+ of envoy\.config\.cluster\.v3\.Cluster is not supported|odd: .*dns/);

      // Away: what is configured serves on. Back at the same port: changes follow.
      control.child.kill("SIGKILL");
      await control.child.exited;
      expect(await get(first)).toBe("one");
      control = mesh.program([program, String(port)]);
      await control.next("the control plane again");
      give("5", { ...base, routes: [routes("table", "two")] });
      await until("a change after the outage", async () => (await get(first)) === "two");
      await until("the removal of a listener", async () => (await get(second)) === "no answer");
    }, 60_000);
  }
});
