// Owns: the Envoy bootstrap of a sidecar. Pure. Envoy itself would take the file; the join token travels beside it, never in it.

import { controlPlaneCluster, nodeId, nodeMetadata } from "../../wire/names.ts";

export interface SidecarFacts {
  readonly namespace: string;
  /** Name of the WorkloadEntry. */
  readonly entry: string;
  readonly service: string;
  readonly serviceAccount: string;
  readonly trustDomain: string;
  readonly labels: Readonly<Record<string, string>>;
  /** host:port; of several control planes separated by commas */
  readonly xdsAddress: string;
  readonly caBundle: string;
  readonly adminPort: number;
  /** `region/zone/sub-zone`; absent = not told. */
  readonly locality?: string | undefined;
}

/** DNS name that the control plane's certificate carries wherever it runs, so that an address need not be in it. */
export const controlPlaneName = "weft";

function localityOf(text: string): Record<string, string> {
  const [region = "", zone = "", ...rest] = text.split("/");
  return { region, zone, sub_zone: rest.join("/") };
}

export function bootstrapFor(facts: SidecarFacts): Record<string, unknown> {
  const addresses = facts.xdsAddress.split(",").map((text) => {
    const at = text.lastIndexOf(":");
    return { address: text.slice(0, at).replace(/^\[|\]$/g, ""), port_value: Number(text.slice(at + 1)) };
  });
  const literal = addresses.every(({ address }) => /^[0-9.]+$/.test(address) || address.includes(":"));
  const grpc = { envoy_grpc: { cluster_name: controlPlaneCluster } };
  const ads = { ads: {}, resource_api_version: "V3", initial_fetch_timeout: "0s" };
  return {
    node: {
      id: nodeId(facts.namespace, facts.entry),
      cluster: `${facts.service}.${facts.namespace}`,
      ...(facts.locality === undefined ? {} : { locality: localityOf(facts.locality) }),
      metadata: {
        [nodeMetadata.namespace]: facts.namespace,
        [nodeMetadata.workload]: facts.entry,
        [nodeMetadata.serviceAccount]: facts.serviceAccount,
        [nodeMetadata.labels]: facts.labels,
        [nodeMetadata.meshId]: facts.trustDomain,
      },
    },
    admin: { address: { socket_address: { address: "127.0.0.1", port_value: facts.adminPort } } },
    dynamic_resources: {
      ads_config: { api_type: "DELTA_GRPC", transport_api_version: "V3", grpc_services: [grpc], set_node_on_first_message_only: true },
      cds_config: ads,
      lds_config: ads,
    },
    static_resources: {
      clusters: [
        {
          name: controlPlaneCluster,
          type: literal ? "STATIC" : "STRICT_DNS",
          connect_timeout: "2s",
          load_assignment: {
            cluster_name: controlPlaneCluster,
            endpoints: [{ lb_endpoints: addresses.map((address) => ({ endpoint: { address: { socket_address: address } } })) }],
          },
          transport_socket: {
            name: "envoy.transport_sockets.tls",
            typed_config: {
              "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
              sni: controlPlaneName,
              common_tls_context: {
                alpn_protocols: ["h2"],
                validation_context: {
                  trusted_ca: { inline_string: facts.caBundle },
                  match_typed_subject_alt_names: [{ san_type: "DNS", matcher: { exact: controlPlaneName } }],
                },
              },
            },
          },
          typed_extension_protocol_options: {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
              "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
        },
      ],
    },
    stats_flush_interval: "1s",
    stats_sinks: [
      {
        name: "envoy.stat_sinks.metrics_service",
        typed_config: {
          "@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig",
          transport_api_version: "V3",
          grpc_service: grpc,
          emit_tags_as_labels: true,
        },
      },
    ],
  };
}
