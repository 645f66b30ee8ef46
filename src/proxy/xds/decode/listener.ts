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

const directions: Readonly<Record<string, Direction>> = { UNSPECIFIED: "unspecified", INBOUND: "inbound", OUTBOUND: "outbound" };

export function decodeListener(gate: Gate, listener: Listener, path: string): ListenerConfig {
  const address = hostPort(gate, at(path, "address"), listener.address, true);
  const direction = choose<Direction>(
    gate,
    at(path, "traffic_direction"),
    "envoy.config.core.v3.TrafficDirection",
    listener.trafficDirection,
    directions,
    "unspecified",
  );
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
  if (chains.some((chain) => chain.match.transport !== null || chain.match.alpn.length > 0 || chain.match.serverNames.length > 0)) {
    // Envoy puts the inspector in by itself where a chain needs it.
    inspectTls = true;
  }
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
  match.serverNames.forEach((name, n) => {
    // As Envoy: exact names and leading-label wildcards.
    if (name === "" || name.slice(name.startsWith("*.") ? 2 : 0).includes("*")) {
      gate.add(`${path}.server_names[${n}]`, `"${name}" is not supported; use a full name or *.suffix`);
    }
  });
  return {
    transport: transport === "tls" || transport === "raw_buffer" ? transport : null,
    alpn: match.applicationProtocols,
    serverNames: match.serverNames.map((name) => name.toLowerCase()),
  };
}

function matchesAll(chain: FilterChainConfig): boolean {
  return chain.match.transport === null && chain.match.alpn.length === 0 && chain.match.serverNames.length === 0;
}

function checkMatches(gate: Gate, chains: readonly FilterChainConfig[], path: string): void {
  const seen = new Map<string, number>();
  chains.forEach((chain, n) => {
    const names = chain.match.serverNames.length === 0 ? [""] : chain.match.serverNames;
    const protocols = chain.match.alpn.length === 0 ? [""] : chain.match.alpn;
    for (const name of names) {
      for (const protocol of protocols) {
        const key = [name, chain.match.transport ?? "", protocol].join("|");
        const before = seen.get(key);
        if (before === undefined) seen.set(key, n);
        else if (before !== n) {
          gate.add(`${path}[${n}].filter_chain_match`, `matches the same connections as filter_chains[${before}]`);
          return;
        }
      }
    }
  });
}

/**
 * Envoy picks the most specific chain (server name, then transport, then protocol); the engine takes the first that fits, so the order says it.
 * One difference stays: Envoy does not step back from a matching server name to a chain without one when the rest does not fit; we do.
 */
function moreSpecificFirst(a: FilterChainConfig, b: FilterChainConfig): number {
  return rank(b) - rank(a) || longestName(b) - longestName(a);
}

function rank(chain: FilterChainConfig): number {
  const names = chain.match.serverNames;
  const name = names.length === 0 ? 0 : names.every((n) => n.startsWith("*.")) ? 1 : 2;
  return name * 4 + (chain.match.transport === null ? 0 : 2) + (chain.match.alpn.length === 0 ? 0 : 1);
}

function longestName(chain: FilterChainConfig): number {
  return Math.max(0, ...chain.match.serverNames.map((n) => n.length));
}
