// Owns: writing the Envoy bootstrap of one proxy for a test, in words of what the test is about. The text goes to Weft and to Envoy alike, so it may
// hold only what both know. Ports are 0: the proxy says what it got. Never starts anything.

export type Json = { readonly [key: string]: Json } | readonly Json[] | string | number | boolean;
export type JsonObject = { readonly [key: string]: Json };

/** A certificate with its key, as PEM. */
export interface KeyPair {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

export type ListenerTls =
  /** Anybody may come. */
  | { readonly kind: "server"; readonly own: KeyPair; readonly alpn: readonly string[] }
  /** Only who has a certificate of `roots` may. */
  | { readonly kind: "mutual"; readonly own: KeyPair; readonly alpn: readonly string[]; readonly roots: string };

export interface ListenerSpec {
  readonly name: string;
  readonly direction: "INBOUND" | "OUTBOUND";
  readonly tls?: ListenerTls;
  /** Fields of the connection manager beside the usual ones. */
  readonly manager?: JsonObject;
  /** HTTP filters before the router. */
  readonly filters?: readonly JsonObject[];
  /** Default: everything to cluster `origin`, without a time limit. */
  readonly routes?: readonly JsonObject[];
}

export interface ClusterSpec {
  readonly name: string;
  readonly port: number;
  readonly http2?: boolean;
  /** Fields of its protocol options. */
  readonly protocol?: JsonObject;
  /** Mutual TLS with a server of this SPIFFE ID. */
  readonly tls?: { readonly own: KeyPair; readonly roots: string; readonly serverId: string };
  /** Fields of the cluster beside the usual ones. */
  readonly more?: JsonObject;
}

const anyOf = (name: string, value: JsonObject): JsonObject => ({ "@type": `type.googleapis.com/envoy.${name}`, ...value });
const extension = (name: string, type: string, value: JsonObject): JsonObject => ({
  name: `envoy.${name}`,
  typed_config: anyOf(type, value),
});
const socketAddress = (port: number): JsonObject => ({ socket_address: { address: "127.0.0.1", port_value: port } });

/** A route of everything below `prefix` to `cluster`. */
export function routeTo(cluster: string, prefix = "/", action: JsonObject = {}): JsonObject {
  return { match: { prefix }, route: { cluster, timeout: "0s", ...action } };
}

/** Denies what begins with `prefix`. */
export function denyFilter(prefix: string): JsonObject {
  const permission = { url_path: { path: { prefix } } };
  const rules = { action: "DENY", policies: { forbidden: { permissions: [permission], principals: [{ any: true }] } } };
  return extension("filters.http.rbac", "extensions.filters.http.rbac.v3.RBAC", { rules });
}

function commonTls(own: KeyPair, alpn: readonly string[], validation: JsonObject | undefined): JsonObject {
  return {
    alpn_protocols: alpn,
    tls_certificates: [{ certificate_chain: { inline_string: own.certificatePem }, private_key: { inline_string: own.privateKeyPem } }],
    ...(validation === undefined ? {} : { validation_context: validation }),
  };
}

function listenerSocket(tls: ListenerTls): JsonObject {
  const validation = tls.kind === "mutual" ? { trusted_ca: { inline_string: tls.roots } } : undefined;
  return extension("transport_sockets.tls", "extensions.transport_sockets.tls.v3.DownstreamTlsContext", {
    common_tls_context: commonTls(tls.own, tls.alpn, validation),
    ...(tls.kind === "mutual" ? { require_client_certificate: true } : {}),
  });
}

function listener(spec: ListenerSpec): JsonObject {
  const manager: JsonObject = {
    stat_prefix: spec.name,
    codec_type: "AUTO",
    route_config: {
      name: spec.name,
      virtual_hosts: [{ name: "all", domains: ["*"], routes: spec.routes ?? [routeTo("origin")] }],
    },
    http_filters: [...(spec.filters ?? []), extension("filters.http.router", "extensions.filters.http.router.v3.Router", {})],
    ...spec.manager,
  };
  const filter = extension(
    "filters.network.http_connection_manager",
    "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    manager,
  );
  const chain: JsonObject = { filters: [filter], ...(spec.tls === undefined ? {} : { transport_socket: listenerSocket(spec.tls) }) };
  return { name: spec.name, address: socketAddress(0), traffic_direction: spec.direction, filter_chains: [chain] };
}

function clusterSocket(tls: NonNullable<ClusterSpec["tls"]>, http2: boolean): JsonObject {
  const names = [{ san_type: "URI", matcher: { exact: tls.serverId } }];
  const validation = { trusted_ca: { inline_string: tls.roots }, match_typed_subject_alt_names: names };
  return extension("transport_sockets.tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", {
    sni: "inbound",
    common_tls_context: commonTls(tls.own, [http2 ? "h2" : "http/1.1"], validation),
  });
}

function cluster(spec: ClusterSpec): JsonObject {
  const http2 = spec.http2 ?? false;
  const protocol = anyOf("extensions.upstreams.http.v3.HttpProtocolOptions", {
    explicit_http_config: { [http2 ? "http2_protocol_options" : "http_protocol_options"]: spec.protocol ?? {} },
  });
  return {
    name: spec.name,
    type: "STATIC",
    connect_timeout: "2s",
    load_assignment: { cluster_name: spec.name, endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(spec.port) } }] }] },
    typed_extension_protocol_options: { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol },
    ...(spec.tls === undefined ? {} : { transport_socket: clusterSocket(spec.tls, http2) }),
    ...spec.more,
  };
}

/** The bootstrap of one proxy, as JSON text. */
export function bootstrapText(id: string, listeners: readonly ListenerSpec[], clusters: readonly ClusterSpec[]): string {
  return JSON.stringify({
    node: { id, cluster: "test" },
    admin: { address: socketAddress(0) },
    static_resources: { listeners: listeners.map(listener), clusters: clusters.map(cluster) },
  });
}
