// Owns: envoy.config.listener.v3.Listener to ListenerConfig. Never binds anything.

import type { FilterChain, FilterChainMatch } from "../../../wire/gen/envoy/config/listener/v3/listener_components_pb.ts";
import type { Listener } from "../../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import { checkMatches } from "../../chain/select.ts";
import type {
  AddressPrefix,
  Direction,
  DownstreamTlsConfig,
  FilterChainConfig,
  HttpManagerConfig,
  ListenerConfig,
  RbacConfig,
  TcpProxyConfig,
} from "../../config.ts";
import { networkFilters } from "./filters.ts";
import { at, choose, decodeExtension, type Gate, hostPort } from "./gate.ts";
import { ipFamily } from "./ip.ts";
import { decodeListenerFilters } from "./listener-filters.ts";
import { downstreamTransportSockets } from "./tls.ts";
import { decodeUdpListener, isUdpAddress } from "./udp.ts";

const directions: Readonly<Record<string, Direction>> = { UNSPECIFIED: "unspecified", INBOUND: "inbound", OUTBOUND: "outbound" };

export function decodeListener(gate: Gate, listener: Listener, path: string): ListenerConfig {
  const direction = choose<Direction>(
    gate,
    at(path, "traffic_direction"),
    "envoy.config.core.v3.TrafficDirection",
    listener.trafficDirection,
    directions,
    "unspecified",
  );
  if (isUdpAddress(listener.address)) return decodeUdpListener(gate, listener, direction, path);
  const address = hostPort(gate, at(path, "address"), listener.address, true);
  if (listener.udpListenerConfig !== undefined) gate.add(at(path, "udp_listener_config"), "needs an address with protocol: UDP");
  const { inspectTls, before } = decodeListenerFilters(gate, listener, path);
  const chains = listener.filterChains.map((chain, n) => decodeChain(gate, chain, `${at(path, "filter_chains")}[${n}]`));
  if (listener.defaultFilterChain !== undefined) {
    const where = at(path, "default_filter_chain");
    const fallback = decodeChain(gate, listener.defaultFilterChain, where);
    if (listener.defaultFilterChain.filterChainMatch !== undefined)
      gate.add(at(where, "filter_chain_match"), "has no meaning on a default chain");
    chains.push({ ...fallback, fallback: true });
  }
  if (chains.length === 0) gate.add(at(path, "filter_chains"), "needs at least one");
  // Not in our form, and no policy: metadata and stat_prefix (nobody reads them), enable_reuse_port (one worker), and
  // per_connection_buffer_limit_bytes (our watermarks are fixed and below Envoy's default).
  const config: ListenerConfig = {
    name: listener.name === "" ? `${address.host}:${address.port}` : listener.name,
    address,
    direction,
    chains,
    // Envoy puts the inspector in by itself where a chain needs it.
    inspectTls: inspectTls || chains.some(needsInspector),
    ...(before === undefined ? {} : { before }),
  };
  if (chains.length > 0) {
    try {
      checkMatches(config);
    } catch (error) {
      gate.add(at(path, "filter_chains"), (error as Error).message);
    }
  }
  return config;
}

function needsInspector({ match }: FilterChainConfig): boolean {
  return match.transport !== null || match.serverNames.length > 0 || match.alpn.length > 0;
}

function decodeChain(gate: Gate, chain: FilterChain, path: string): FilterChainConfig {
  const networkRbac: RbacConfig[] = [];
  let terminal: HttpManagerConfig | TcpProxyConfig | undefined;
  let refused = false;
  chain.filters.forEach((filter, n) => {
    const where = `${path}.filters[${n}]`;
    const decoded = decodeExtension(gate, networkFilters, "network filter", filter.name, filter.configType, where);
    if (decoded === undefined) {
      refused = true;
      return;
    }
    if (decoded.kind === "rbac") {
      if (decoded.rbac !== null) networkRbac.push(decoded.rbac);
      return;
    }
    if (n !== chain.filters.length - 1) gate.add(where, "a terminal filter must be the last of its chain");
    terminal = decoded.terminal;
  });
  if (terminal === undefined && !refused) {
    gate.add(at(path, "filters"), "must end in a terminal filter: HttpConnectionManager or TcpProxy");
  }
  const tls = downstreamTls(gate, chain, path);
  if (terminal?.kind === "http" && terminal.codec === "http1" && tls?.alpn.includes("h2")) {
    gate.add(
      at(path, "transport_socket.typed_config.common_tls_context.alpn_protocols"),
      '"h2" is offered, but codec_type of the HttpConnectionManager is HTTP1',
    );
  }
  return {
    name: chain.name,
    match: chainMatch(gate, chain.filterChainMatch, at(path, "filter_chain_match")),
    tls,
    networkRbac,
    terminal: terminal ?? { kind: "tcp", statPrefix: "", clusters: [], accessLogs: [], idleTimeoutMs: 0 },
  };
}

function downstreamTls(gate: Gate, chain: FilterChain, path: string): DownstreamTlsConfig | null {
  const socket = chain.transportSocket;
  if (socket === undefined) return null;
  const decoded = decodeExtension(
    gate,
    downstreamTransportSockets,
    "transport socket",
    socket.name,
    socket.configType,
    at(path, "transport_socket"),
  );
  return decoded === undefined || decoded === "plain" ? null : decoded;
}

function chainMatch(gate: Gate, match: FilterChainMatch | undefined, path: string): FilterChainConfig["match"] {
  if (match === undefined) return { transport: null, alpn: [], serverNames: [] };
  const port = match.destinationPort;
  if (port !== undefined && (port < 1 || port > 65_535)) gate.add(at(path, "destination_port"), `${port} is not a port (1 to 65535)`);
  const transport = match.transportProtocol;
  if (transport !== "" && transport !== "tls" && transport !== "raw_buffer") {
    gate.add(at(path, "transport_protocol"), `"${transport}" is not supported; supported: tls, raw_buffer`);
  }
  match.sourcePorts.forEach((one, n) => {
    if (one < 1 || one > 65_535) gate.add(at(path, `source_ports[${n}]`), `${one} is not a port (1 to 65535)`);
  });
  const sourceType = choose<"local" | "external" | null>(
    gate,
    at(path, "source_type"),
    "envoy.config.listener.v3.FilterChainMatch.ConnectionSourceType",
    match.sourceType,
    { ANY: null, SAME_IP_OR_LOOPBACK: "local", EXTERNAL: "external" },
    null,
  );
  return {
    transport: transport === "tls" || transport === "raw_buffer" ? transport : null,
    alpn: match.applicationProtocols,
    serverNames: match.serverNames.map((name) => name.toLowerCase()),
    ...(port === undefined ? {} : { destinationPort: port }),
    ...(match.prefixRanges.length === 0 ? {} : { destinationPrefixes: prefixes(gate, match.prefixRanges, at(path, "prefix_ranges")) }),
    ...(sourceType === null ? {} : { sourceType }),
    ...(match.sourcePrefixRanges.length === 0
      ? {}
      : { sourcePrefixes: prefixes(gate, match.sourcePrefixRanges, at(path, "source_prefix_ranges")) }),
    ...(match.sourcePorts.length === 0 ? {} : { sourcePorts: match.sourcePorts }),
  };
}

function prefixes(gate: Gate, ranges: FilterChainMatch["prefixRanges"], path: string): readonly AddressPrefix[] {
  return ranges.map((range, n) => {
    const length = range.prefixLen ?? 0;
    const family = ipFamily(range.addressPrefix);
    if (family === 0) gate.add(`${path}[${n}].address_prefix`, `"${range.addressPrefix}" is not an IP address`);
    else if (length > (family === 4 ? 32 : 128)) gate.add(`${path}[${n}].prefix_len`, `${length} is too long for ${range.addressPrefix}`);
    return { prefix: range.addressPrefix, length };
  });
}
