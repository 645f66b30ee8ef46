// Owns: `weft bootstrap`: the file that tells Envoy, or a gRPC program without a proxy, where the mesh is. Pure but for printing: it needs no control
// plane, only the folder of the `weft agent` that will be there.

import { join, resolve } from "node:path";
import { agentFiles, grpcNodeId, grpcServerTemplate } from "../../wire/grpc-names.ts";
import { controlPlaneCluster, httpProxyRoutes, nodeId } from "../../wire/names.ts";
import { UsageFailure } from "../failure.ts";
import type { Invocation } from "../verb.ts";

export async function run({ args, terminal }: Invocation): Promise<number> {
  const grpc = args.on("grpc");
  if (grpc === args.on("envoy")) throw new UsageFailure("weft bootstrap writes one file: give --grpc or --envoy");
  const dir = args.text("dir");
  if (dir === undefined) throw new UsageFailure("weft bootstrap needs --dir DIR, the folder of weft agent");
  const name = args.text("name");
  if (name === undefined)
    throw new UsageFailure(
      grpc
        ? "weft bootstrap --grpc needs --name NAME: of its WorkloadEntry, if it serves; else any"
        : "weft bootstrap --envoy needs --name NAME, of its WorkloadEntry",
    );
  const edge = args.text("gateway");
  if (grpc && edge !== undefined) throw new UsageFailure("--gateway is for --envoy");
  const facts = { folder: resolve(dir), namespace: args.text("namespace") ?? "default", name };
  const file = grpc
    ? grpcBootstrap(facts)
    : envoyBootstrap({ ...facts, delta: !args.on("sotw"), gateway: edge, adminPort: adminPort(args.text("admin-port")) });
  terminal.out(`${JSON.stringify(file, null, 2)}\n`);
  return 0;
}

interface Facts {
  readonly folder: string;
  readonly namespace: string;
  readonly name: string;
}

/** How soon a renewed certificate is noticed; it is renewed at half its life. */
const refresh = "10s";

/** gRFC A27 (servers, node), A29 (certificate providers), A36 (server listeners). */
export function grpcBootstrap({ folder, namespace, name }: Facts): Record<string, unknown> {
  return {
    xds_servers: [
      { server_uri: `unix://${join(folder, agentFiles.socket)}`, channel_creds: [{ type: "insecure" }], server_features: ["xds_v3"] },
    ],
    node: { id: grpcNodeId(namespace, name), cluster: namespace, locality: {} },
    certificate_providers: {
      default: {
        plugin_name: "file_watcher",
        config: {
          certificate_file: join(folder, agentFiles.certificate),
          private_key_file: join(folder, agentFiles.key),
          ca_certificate_file: join(folder, agentFiles.roots),
          refresh_interval: refresh,
        },
      },
    },
    server_listener_resource_name_template: grpcServerTemplate,
  };
}

interface EnvoyFacts extends Facts {
  readonly delta: boolean;
  /** `0.0.0.0:8080`: a listener for callers outside the mesh. */
  readonly gateway: string | undefined;
  readonly adminPort: number | undefined;
}

const http2 = {
  "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    explicit_http_config: { http2_protocol_options: {} },
  },
};

/** The name of the cluster that our resources ask for secrets at. */
const secretCluster = "sds-grpc";

export function envoyBootstrap({ folder, namespace, name, delta, gateway, adminPort: admin }: EnvoyFacts): Record<string, unknown> {
  const overAgent = (cluster: string) => ({
    name: cluster,
    type: "STATIC",
    connect_timeout: "2s",
    typed_extension_protocol_options: http2,
    load_assignment: {
      cluster_name: cluster,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: join(folder, agentFiles.socket) } } } }] }],
    },
  });
  const grpc = { envoy_grpc: { cluster_name: controlPlaneCluster } };
  const ads = { ads: {}, resource_api_version: "V3" };
  return {
    node: { id: nodeId(namespace, name), cluster: namespace },
    ...(admin === undefined ? {} : { admin: { address: { socket_address: { address: "127.0.0.1", port_value: admin } } } }),
    dynamic_resources: {
      ads_config: {
        api_type: delta ? "DELTA_GRPC" : "GRPC",
        transport_api_version: "V3",
        grpc_services: [grpc],
        set_node_on_first_message_only: true,
      },
      cds_config: ads,
      lds_config: ads,
    },
    cluster_manager: { load_stats_config: { api_type: "GRPC", transport_api_version: "V3", grpc_services: [grpc] } },
    static_resources: {
      clusters: [overAgent(controlPlaneCluster), overAgent(secretCluster)],
      ...(gateway === undefined ? {} : { listeners: [gatewayListener(gateway)] }),
    },
  };
}

/** The hosts, routes and policies that programs of the namespace have, for callers outside: as the forward proxy's table, on a port of its own. */
function gatewayListener(text: string): Record<string, unknown> {
  const at = text.lastIndexOf(":");
  const port = Number(text.slice(at + 1));
  const host = text.slice(0, Math.max(0, at)).replace(/^\[|\]$/g, "");
  if (host === "" || !Number.isInteger(port) || port < 1 || port > 65_535)
    throw new UsageFailure(`--gateway ${text} is not ADDRESS:PORT, for example 0.0.0.0:8080`);
  return {
    name: "gateway",
    address: { socket_address: { address: host, port_value: port } },
    filter_chains: [
      {
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: {
              "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
              stat_prefix: "gateway",
              rds: { config_source: { ads: {}, resource_api_version: "V3" }, route_config_name: httpProxyRoutes },
              http_filters: [
                {
                  name: "envoy.filters.http.router",
                  typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                },
              ],
            },
          },
        ],
      },
    ],
  };
}

function adminPort(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) throw new UsageFailure(`--admin-port ${text} is not a port`);
  return port;
}
