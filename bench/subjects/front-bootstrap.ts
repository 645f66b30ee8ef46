// Owns: the Envoy bootstrap of a front: one proxy with a plain, two TLS and an opaque listener, made once and given to Weft and to Envoy alike.
// The cases about HTTP/2, gRPC, bodies, handshakes, idle and slow connections run from it. Must hold only fields that both implement.
import type { Certificates } from "../certs.ts";
import {
  ANY,
  address,
  bootstrap,
  cluster,
  HTTP2,
  type Json,
  listener,
  method,
  path,
  READ_API,
  rbac,
  route,
  tlsContext,
  virtualHost,
} from "./bootstrap.ts";
import { HOST } from "./subject.ts";

export interface FrontPorts {
  readonly plain: number;
  readonly tls: number;
  readonly mutual: number;
  readonly tcp: number;
  readonly admin: number;
  readonly originHttp1: number;
  readonly originHttp2: number;
  /** Plain-text HTTP/2 as well: where the gRPC method is. */
  readonly originGrpc: number;
}

/** What a case needs of a front: what it does not need is left out, so that it cannot fail for it. */
export interface FrontWants {
  /** HTTP/2 downstream and, for `/api/two` and gRPC, upstream. */
  readonly http2: boolean;
  readonly tls: boolean;
  readonly tcp: boolean;
  /** Watermark of each downstream connection's buffer (1 MiB without it, as in Envoy); what is above it stops the reading upstream. */
  readonly bufferBytes?: number;
}

const both = (one: Json, other: Json): Json => ({ and_rules: { rules: [one, other] } });

/** The DENY and ALLOW policies of a front: reading below /api/, calls to one gRPC service, uploads to one path. */
const frontPolicies: readonly Json[] = [
  rbac("DENY", { "no-admin": path("/api/admin") }, { any: true }),
  rbac(
    "ALLOW",
    { "read-api": READ_API, call: both(method("POST"), path("/bench.Echo/")), upload: both(method("POST"), path("/api/upload/")) },
    { any: true },
  ),
];

/** Large answers may take longer than a route's default of 15 s. */
const withoutTimeout = (prefix: string, name: string): Json => ({
  match: { path_separated_prefix: prefix },
  route: { cluster: name, timeout: "0s" },
});

function opaque(port: number): Json {
  return {
    name: "opaque",
    address: address(port),
    traffic_direction: "INBOUND",
    filter_chains: [
      {
        filters: [
          {
            name: "envoy.filters.network.rbac",
            typed_config: {
              "@type": `${ANY}extensions.filters.network.rbac.v3.RBAC`,
              stat_prefix: "opaque",
              rules: {
                action: "ALLOW",
                policies: {
                  near: {
                    permissions: [{ any: true }],
                    principals: [{ direct_remote_ip: { address_prefix: "127.0.0.0", prefix_len: 8 } }],
                  },
                },
              },
            },
          },
          {
            name: "envoy.filters.network.tcp_proxy",
            typed_config: { "@type": `${ANY}extensions.filters.network.tcp_proxy.v3.TcpProxy`, stat_prefix: "opaque", cluster: "one" },
          },
        ],
      },
    ],
  };
}

/** The front's bootstrap. Two HTTP listeners with TLS differ in asking for a client certificate. */
export function frontBootstrap(ports: FrontPorts, certs: Certificates, wants: FrontWants): string {
  const hosts = [
    virtualHost("other", "other.example", [route({ prefix: "/" }, "nowhere")]),
    virtualHost("shop", HOST, [
      route({ path: "/api/health" }, "nowhere"),
      route({ path_separated_prefix: "/static" }, "nowhere"),
      ...(wants.http2 ? [withoutTimeout("/api/two", "two"), route({ path_separated_prefix: "/bench.Echo" }, "calls")] : []),
      withoutTimeout("/api/body", "one"),
      route({ path_separated_prefix: "/api" }, "one"),
    ]),
  ];
  const limit = wants.bufferBytes === undefined ? {} : { per_connection_buffer_limit_bytes: wants.bufferBytes };
  const clusters = [
    cluster("one", ports.originHttp1),
    cluster("nowhere", ports.originHttp1),
    ...(wants.http2
      ? [
          cluster("two", ports.originHttp2, { typed_extension_protocol_options: HTTP2 }),
          cluster("calls", ports.originGrpc, { typed_extension_protocol_options: HTTP2 }),
        ]
      : []),
  ];
  const alpn = wants.http2 ? ["h2", "http/1.1"] : ["http/1.1"];
  const tls = (caFile: string | null): Json => tlsContext("Downstream", certs.server, caFile, certs.client.spiffeId, alpn);
  const listeners = [
    { ...listener("plain", ports.plain, "INBOUND", hosts, frontPolicies, null), ...limit },
    ...(wants.tls
      ? [
          listener("tls", ports.tls, "INBOUND", hosts, frontPolicies, tls(null)),
          listener("mutual", ports.mutual, "INBOUND", hosts, frontPolicies, tls(certs.caFile)),
        ]
      : []),
    ...(wants.tcp ? [opaque(ports.tcp)] : []),
  ];
  return bootstrap("front", ports.admin, listeners, clusters);
}
