// Owns: proxies of opaque traffic for a test: one sidecar, or a pair with mutual TLS between them, in front of a server that speaks anything; and a
// proxy of datagrams. Written as Envoy's configuration; ends what it started.

import type { Json, JsonObject } from "./bootstrap.ts";
import { ProxyProcess } from "./proxy.ts";
import { meshIdentities, type Shape } from "./way.ts";

export interface OpaqueWay {
  readonly port: number;
  readonly proxies: readonly ProxyProcess[];
  stop(): Promise<void>;
}

const any = (type: string, value: JsonObject): JsonObject => ({ "@type": `type.googleapis.com/envoy.${type}`, ...value });
const at = (port: number, udp = false): JsonObject => ({
  socket_address: { address: "127.0.0.1", port_value: port, ...(udp ? { protocol: "UDP" } : {}) },
});

function cluster(port: number, more: JsonObject): JsonObject {
  return {
    name: "origin",
    type: "STATIC",
    connect_timeout: "2s",
    load_assignment: { cluster_name: "origin", endpoints: [{ lb_endpoints: [{ endpoint: { address: at(port) } }] }] },
    ...more,
  };
}

function bootstrap(id: string, listener: JsonObject, target: JsonObject): string {
  return JSON.stringify({
    node: { id, cluster: "test" },
    admin: { address: at(0) },
    static_resources: { listeners: [listener], clusters: [target] },
  });
}

function tcpListener(direction: string, chain: JsonObject, proxy: JsonObject): JsonObject {
  const typed = any("extensions.filters.network.tcp_proxy.v3.TcpProxy", { stat_prefix: "opaque", cluster: "origin", ...proxy });
  const filters: Json = [{ name: "envoy.filters.network.tcp_proxy", typed_config: typed }];
  return { name: "entry", address: at(0), traffic_direction: direction, filter_chains: [{ filters, ...chain }] };
}

export interface OpaqueOptions {
  readonly shape: Shape;
  readonly origin: number;
  /** Fields of the last TCP proxy. */
  readonly proxy?: JsonObject;
  /** Fields of the last cluster. */
  readonly cluster?: JsonObject;
}

/** TCP to `origin`: every byte as it comes. */
export async function openOpaque(options: OpaqueOptions): Promise<OpaqueWay> {
  const { shape, origin, proxy = {} } = options;
  const target = cluster(origin, options.cluster ?? {});
  if (shape === "one") {
    const only = await ProxyProcess.start("weft", bootstrap("one", tcpListener("INBOUND", {}, proxy), target));
    return { port: only.port("entry"), proxies: [only], stop: async () => void (await only.stop()) };
  }
  const { roots, client, server } = await meshIdentities();
  const common = (own: typeof client, validation: JsonObject): JsonObject => ({
    tls_certificates: [{ certificate_chain: { inline_string: own.certificatePem }, private_key: { inline_string: own.privateKeyPem } }],
    validation_context: { trusted_ca: { inline_string: roots }, ...validation },
  });
  const accept = any("extensions.transport_sockets.tls.v3.DownstreamTlsContext", {
    require_client_certificate: true,
    common_tls_context: common(server, {}),
  });
  const tls = (context: JsonObject): JsonObject => ({ transport_socket: { name: "envoy.transport_sockets.tls", typed_config: context } });
  const inbound = await ProxyProcess.start("weft", bootstrap("inbound", tcpListener("INBOUND", tls(accept), proxy), target));
  const dial = any("extensions.transport_sockets.tls.v3.UpstreamTlsContext", {
    common_tls_context: common(client, {
      match_typed_subject_alt_names: [{ san_type: "URI", matcher: { exact: "spiffe://cluster.local/ns/shop/sa/server" } }],
    }),
  });
  const toInbound = cluster(inbound.port("entry"), tls(dial));
  const outbound = await ProxyProcess.start("weft", bootstrap("outbound", tcpListener("OUTBOUND", {}, {}), toInbound)).catch(
    async (error: unknown) => {
      await inbound.stop();
      throw error;
    },
  );
  const stop = async (): Promise<void> => {
    await outbound.stop();
    await inbound.stop();
  };
  return { port: outbound.port("entry"), proxies: [outbound, inbound], stop };
}

/** Datagrams to `origin`, in sessions. */
export async function openDatagrams(origin: number, proxy: JsonObject = {}): Promise<OpaqueWay> {
  const typed = any("extensions.filters.udp.udp_proxy.v3.UdpProxyConfig", { stat_prefix: "datagrams", cluster: "origin", ...proxy });
  const listener: JsonObject = {
    name: "entry",
    address: at(0, true),
    traffic_direction: "OUTBOUND",
    listener_filters: [{ name: "envoy.filters.udp_listener.udp_proxy", typed_config: typed }],
  };
  const only = await ProxyProcess.start("weft", bootstrap("datagrams", listener, cluster(origin, {})));
  return { port: only.port("entry"), proxies: [only], stop: async () => void (await only.stop()) };
}
