// Owns: envoy.config.listener.v3.Listener to ListenerConfig. Never binds anything.

import type { FilterChain, FilterChainMatch } from "../../../wire/gen/envoy/config/listener/v3/listener_components_pb.ts";
import type { Listener } from "../../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import type {
  Direction,
  DownstreamTlsConfig,
  FilterChainConfig,
  HttpManagerConfig,
  ListenerConfig,
  RbacConfig,
  TcpProxyConfig,
} from "../../config.ts";
import { listenerFilters, networkFilters } from "./filters.ts";
import { at, choose, decodeExtension, type Gate, hostPort, millis } from "./gate.ts";
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
  let inspectTls = false;
  listener.listenerFilters.forEach((filter, n) => {
    const where = `${at(path, "listener_filters")}[${n}]`;
    if (decodeExtension(gate, listenerFilters, "listener filter", filter.name, filter.configType, where) !== undefined) inspectTls = true;
  });
  const timeout = millis(gate, at(path, "listener_filters_timeout"), listener.listenerFiltersTimeout, 15_000);
  if (timeout !== 15_000) gate.add(at(path, "listener_filters_timeout"), "is not supported; it is 15s (Envoy's default)");
  const chains = listener.filterChains.map((chain, n) => decodeChain(gate, chain, `${at(path, "filter_chains")}[${n}]`));
  checkMatches(gate, chains, at(path, "filter_chains"));
  chains.sort(moreSpecificFirst);
  // Envoy falls back to the default chain when none matches: last, and matching everything, is the same thing.
  if (listener.defaultFilterChain !== undefined) {
    const where = at(path, "default_filter_chain");
    const fallback = decodeChain(gate, listener.defaultFilterChain, where);
    if (!matchesAll(fallback)) gate.add(at(where, "filter_chain_match"), "is not supported on a default chain");
    if (chains.some(matchesAll)) gate.add(where, "is never reached: a chain without conditions stands before it");
    chains.push(fallback);
  }
  if (chains.length === 0) gate.add(at(path, "filter_chains"), "needs at least one");
  // Not in our form, and no policy: metadata and stat_prefix (nobody reads them), enable_reuse_port (one worker), and
  // per_connection_buffer_limit_bytes (our watermarks are fixed and below Envoy's default).
  // Envoy puts the inspector in by itself where a chain needs it.
  if (!chains.every(matchesAll)) inspectTls = true;
  return { name: listener.name === "" ? `${address.host}:${address.port}` : listener.name, address, direction, chains, inspectTls };
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
  if (terminal?.kind === "http" && tls?.alpn.includes("h2")) {
    gate.add(
      at(path, "transport_socket.typed_config.common_tls_context.alpn_protocols"),
      '"h2" is not supported: this version speaks HTTP/1.1',
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
  if (match.destinationPort !== undefined) gate.add(at(path, "destination_port"), "is not supported");
  const transport = match.transportProtocol;
  if (transport !== "" && transport !== "tls" && transport !== "raw_buffer") {
    gate.add(at(path, "transport_protocol"), `"${transport}" is not supported; supported: tls, raw_buffer`);
  }
  // The engine tells chains apart by their first byte only.
  if (match.serverNames.length > 0) gate.add(at(path, "server_names"), "is not supported in this version; match on transport_protocol");
  if (match.applicationProtocols.length > 0) {
    gate.add(at(path, "application_protocols"), "is not supported in this version; match on transport_protocol");
  }
  return {
    transport: transport === "tls" || transport === "raw_buffer" ? transport : null,
    alpn: match.applicationProtocols,
    serverNames: match.serverNames,
  };
}

function matchesAll(chain: FilterChainConfig): boolean {
  return chain.match.transport === null;
}

function checkMatches(gate: Gate, chains: readonly FilterChainConfig[], path: string): void {
  const seen = new Map<string | null, number>();
  chains.forEach((chain, n) => {
    const before = seen.get(chain.match.transport);
    if (before === undefined) seen.set(chain.match.transport, n);
    else gate.add(`${path}[${n}].filter_chain_match`, `matches the same connections as filter_chains[${before}]`);
  });
}

/** Envoy picks the most specific chain; the engine takes the first that fits, so the order says it. */
function moreSpecificFirst(a: FilterChainConfig, b: FilterChainConfig): number {
  return Number(b.match.transport !== null) - Number(a.match.transport !== null);
}
