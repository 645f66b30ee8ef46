// Owns: the Envoy bootstraps of the bench, made once and given to Weft and to Envoy alike. Only fields that both implement; only ports
// differ between two subjects of a run, as they listen at the same time.
import type { Certificates, Identity } from "../certs.ts";
import { HOST } from "./subject.ts";

export type Json = { readonly [key: string]: unknown } | readonly unknown[] | string | number | boolean;

export const ANY = "type.googleapis.com/envoy.";

export const address = (port: number): Json => ({ socket_address: { address: "127.0.0.1", port_value: port } });

/** One endpoint on this machine. */
export function cluster(name: string, port: number, extra: Readonly<Record<string, Json>> = {}): Json {
  return {
    name,
    type: "STATIC",
    connect_timeout: "5s",
    lb_policy: "LEAST_REQUEST",
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }] },
    ...extra,
  };
}

/** Istio's shape: a DENY filter before an ALLOW filter; the ALLOW one denies what none of its policies matches. */
export function rbac(action: "ALLOW" | "DENY", permissions: Readonly<Record<string, Json>>, principal: Json): Json {
  const policies = Object.fromEntries(
    Object.entries(permissions).map(([name, permission]) => [name, { permissions: [permission], principals: [principal] }]),
  );
  return {
    name: "envoy.filters.http.rbac",
    typed_config: { "@type": `${ANY}extensions.filters.http.rbac.v3.RBAC`, rules: { action, policies } },
  };
}

export const method = (value: string): Json => ({ header: { name: ":method", string_match: { exact: value } } });
export const path = (prefix: string): Json => ({ url_path: { path: { prefix } } });
export const READ_API: Json = { and_rules: { rules: [{ or_rules: { rules: [method("GET"), method("HEAD")] } }, path("/api/")] } };

const policies = (principal: Json): readonly Json[] => [
  rbac("DENY", { "no-admin": path("/api/admin") }, { any: true }),
  rbac("ALLOW", { "read-api": READ_API }, principal),
];

export const route = (match: Json, name: string): Json => ({ match, route: { cluster: name } });

/** A listener with one HTTP filter chain. */
export function listener(
  name: string,
  port: number,
  direction: "INBOUND" | "OUTBOUND",
  hosts: readonly Json[],
  filters: readonly Json[],
  tls: Json | null,
): { readonly [key: string]: unknown } {
  return {
    name,
    address: address(port),
    traffic_direction: direction,
    filter_chains: [
      {
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: {
              "@type": `${ANY}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
              stat_prefix: name,
              codec_type: "AUTO",
              generate_request_id: true,
              route_config: { name, virtual_hosts: hosts },
              http_filters: [
                ...filters,
                { name: "envoy.filters.http.router", typed_config: { "@type": `${ANY}extensions.filters.http.router.v3.Router` } },
              ],
            },
          },
        ],
        ...(tls === null ? {} : { transport_socket: { name: "envoy.transport_sockets.tls", typed_config: tls } }),
      },
    ],
  };
}

/** A whole bootstrap with everything in it. */
export function bootstrap(id: string, adminPort: number, listeners: readonly Json[], clusters: readonly Json[]): string {
  return JSON.stringify(
    { node: { id, cluster: "bench" }, admin: { address: address(adminPort) }, static_resources: { listeners, clusters } },
    null,
    1,
  );
}

export const virtualHost = (name: string, domain: string, routes: readonly Json[]): Json => ({ name, domains: [domain], routes });

export interface HopPorts {
  readonly listen: number;
  readonly admin: number;
  readonly origin: number;
}

/** One hop over plain HTTP/1.1: two hosts, four routes, a DENY and an ALLOW policy. */
export function hopBootstrap(ports: HopPorts): string {
  const hosts = [
    virtualHost("other", "other.example", [route({ prefix: "/" }, "nowhere")]),
    virtualHost("shop", HOST, [
      route({ path: "/api/health" }, "nowhere"),
      route({ path_separated_prefix: "/static" }, "nowhere"),
      route({ path_separated_prefix: "/api" }, "origin"),
    ]),
  ];
  const clusters = [cluster("origin", ports.origin), cluster("nowhere", ports.origin)];
  return bootstrap("hop", ports.admin, [listener("hop", ports.listen, "INBOUND", hosts, policies({ any: true }), null)], clusters);
}

/** TLS 1.3 only. `caFile` null, downstream: no certificate is asked of the client. */
export function tlsContext(
  kind: "Upstream" | "Downstream",
  own: Identity,
  caFile: string | null,
  peerId: string,
  alpn: readonly string[],
): Json {
  return {
    "@type": `${ANY}extensions.transport_sockets.tls.v3.${kind}TlsContext`,
    ...(kind === "Upstream" ? { sni: "server" } : caFile === null ? {} : { require_client_certificate: true }),
    common_tls_context: {
      tls_params: { tls_minimum_protocol_version: "TLSv1_3", tls_maximum_protocol_version: "TLSv1_3" },
      tls_certificates: [{ certificate_chain: { filename: own.certFile }, private_key: { filename: own.keyFile } }],
      ...(caFile === null
        ? {}
        : {
            validation_context: {
              trusted_ca: { filename: caFile },
              // The server's name is checked here; the client's by the ALLOW policy of B, as Istio does.
              ...(kind === "Upstream" ? { match_typed_subject_alt_names: [{ san_type: "URI", matcher: { exact: peerId } }] } : {}),
            },
          }),
      alpn_protocols: alpn,
    },
  };
}

/** Of a cluster: HTTP/2 to its endpoints. */
export const HTTP2: Json = {
  "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": `${ANY}extensions.upstreams.http.v3.HttpProtocolOptions`,
    explicit_http_config: { http2_protocol_options: {} },
  },
};

export interface PairPorts {
  readonly listen: number;
  readonly middle: number;
  readonly adminA: number;
  readonly adminB: number;
  readonly origin: number;
  /** Put behind the names of files, where a subject has several of one kind. */
  readonly tag?: string;
  /** TLS servers that A must refuse: wrong CA, wrong name. */
  readonly impostor: number;
  readonly stranger: number;
}

/** A: plain in, mutual TLS out, checks the server's SPIFFE ID. */
export function pairClientBootstrap(ports: PairPorts, certs: Certificates, middle: "http1" | "http2"): string {
  const alpn = middle === "http2" ? ["h2"] : ["http/1.1"];
  const socket: Json = {
    name: "envoy.transport_sockets.tls",
    typed_config: tlsContext("Upstream", certs.client, certs.caFile, certs.server.spiffeId, alpn),
  };
  const extra = { transport_socket: socket, ...(middle === "http2" ? { typed_extension_protocol_options: HTTP2 } : {}) };
  const hosts = [
    virtualHost("other", "other.example", [route({ prefix: "/" }, "server")]),
    virtualHost("shop", HOST, [
      route({ path: "/impostor" }, "impostor"),
      route({ path: "/stranger" }, "stranger"),
      route({ path_separated_prefix: "/api" }, "server"),
    ]),
  ];
  const clusters = [
    cluster("server", ports.middle, extra),
    cluster("impostor", ports.impostor, extra),
    cluster("stranger", ports.stranger, extra),
  ];
  return bootstrap("a", ports.adminA, [listener("outbound", ports.listen, "OUTBOUND", hosts, [], null)], clusters);
}

/** B: mutual TLS in, client certificate required, policy by SPIFFE ID, method and path, plain out. */
export function pairServerBootstrap(ports: PairPorts, certs: Certificates, middle: "http1" | "http2"): string {
  const alpn = middle === "http2" ? ["h2", "http/1.1"] : ["http/1.1"];
  const tls = tlsContext("Downstream", certs.server, certs.caFile, certs.client.spiffeId, alpn);
  const principal = { authenticated: { principal_name: { exact: certs.client.spiffeId } } };
  const hosts = [virtualHost("all", "*", [route({ prefix: "/" }, "origin")])];
  return bootstrap(
    "b",
    ports.adminB,
    [listener("inbound", ports.middle, "INBOUND", hosts, policies(principal), tls)],
    [cluster("origin", ports.origin)],
  );
}
