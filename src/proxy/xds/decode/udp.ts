// Owns: a Listener with a UDP address, and the listener filters that may stand in it: network RBAC (judged for each new session), then one UDP proxy.
// Envoy has no RBAC for UDP and rejects such a listener, which is the safe side: nobody forwards what a policy would refuse.

import type { Address } from "../../../wire/gen/envoy/config/core/v3/address_pb.ts";
import type { UdpSocketConfig } from "../../../wire/gen/envoy/config/core/v3/udp_socket_config_pb.ts";
import type { Listener } from "../../../wire/gen/envoy/config/listener/v3/listener_pb.ts";
import type { UdpProxyConfig as PbUdpProxy } from "../../../wire/gen/envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy_pb.ts";
import type { Direction, HostPort, ListenerConfig, Permission, Principal, RbacConfig, UdpProxyConfig } from "../../config.ts";
import { NetworkRbac, UdpProxy, UdpRoute } from "../proto/types.ts";
import { decodeAccessLog } from "./access-log.ts";
import { at, decodeExtension, type Extension, extension, type Gate, hostPort, millis, present } from "./gate.ts";
import { decodeRbac } from "./rbac.ts";

/** What a UDP datagram can hold over IPv4: 65 535 less the headers of IP and UDP. */
const largestDatagram = 65_507;

type UdpFilter =
  | { readonly kind: "rbac"; readonly rbac: RbacConfig | null }
  | { readonly kind: "proxy"; readonly proxy: Omit<UdpProxyConfig, "rbac" | "maxRequestBytes"> };

const udpListenerFilters: readonly Extension<UdpFilter>[] = [
  extension(UdpProxy, (gate, proxy, path): UdpFilter => ({ kind: "proxy", proxy: udpProxy(gate, proxy, path) })),
  extension(NetworkRbac, (gate, rbac, path): UdpFilter => {
    if (rbac.rules === undefined) return { kind: "rbac", rbac: null };
    const decoded = decodeRbac(gate, rbac.rules, at(path, "rules"));
    for (const policy of decoded.policies) {
      const foreign = policy.permissions
        .map(unjudgeable)
        .concat(policy.principals.map(unjudgeable))
        .find((kind) => kind !== null);
      if (foreign === undefined) continue;
      gate.add(
        at(path, `rules.policies["${policy.name}"]`),
        `has a rule on "${foreign}", which no datagram can be judged by: UDP carries neither a certificate nor HTTP here; match on direct_remote_ip or destination_port`,
      );
    }
    return { kind: "rbac", rbac: decoded };
  }),
];

/** Is it a UDP listener? Everything else is TCP. */
export function isUdpAddress(address: Address | undefined): boolean {
  return address?.address.value?.protocol === 1;
}

export function decodeUdpListener(gate: Gate, listener: Listener, direction: Direction, path: string): ListenerConfig {
  const address = udpAddress(gate, at(path, "address"), listener.address);
  if (listener.filterChains.length > 0) gate.add(at(path, "filter_chains"), filterChainsSay);
  if (listener.defaultFilterChain !== undefined) gate.add(at(path, "default_filter_chain"), filterChainsSay);
  const rbac: RbacConfig[] = [];
  let proxy: Omit<UdpProxyConfig, "rbac" | "maxRequestBytes"> | undefined;
  let refused = false;
  listener.listenerFilters.forEach((filter, n) => {
    const where = `${at(path, "listener_filters")}[${n}]`;
    const decoded = decodeExtension(gate, udpListenerFilters, "UDP listener filter", filter.name, filter.configType, where);
    if (decoded === undefined) {
      refused = true;
      return;
    }
    if (decoded.kind === "rbac") {
      if (decoded.rbac !== null) rbac.push(decoded.rbac);
      return;
    }
    if (n !== listener.listenerFilters.length - 1) gate.add(where, "the UDP proxy must be the last listener filter");
    proxy = decoded.proxy;
  });
  if (proxy === undefined && !refused) gate.add(at(path, "listener_filters"), "must end in a UdpProxyConfig on a UDP address");
  const downstream = at(path, "udp_listener_config.downstream_socket_config");
  return {
    name: listener.name === "" ? `${address.host}:${address.port}` : listener.name,
    address,
    direction,
    chains: [],
    inspectTls: false,
    udp: {
      ...(proxy ?? { statPrefix: "", cluster: "", accessLogs: [], idleTimeoutMs: 0, maxAnswerBytes: 0 }),
      rbac,
      maxRequestBytes: datagramLimit(gate, listener.udpListenerConfig?.downstreamSocketConfig, downstream),
    },
  };
}

const filterChainsSay = "are for connections; a UDP listener has listener_filters only";

function udpProxy(gate: Gate, proxy: PbUdpProxy, path: string): Omit<UdpProxyConfig, "rbac" | "maxRequestBytes"> {
  if (proxy.useOriginalSrcIp) {
    gate.add(at(path, "use_original_src_ip"), "true is not supported: datagrams leave from the proxy's own address; leave it out");
  }
  if (proxy.usePerPacketLoadBalancing) {
    gate.add(
      at(path, "use_per_packet_load_balancing"),
      "true is not supported: a session keeps its endpoint; shorten idle_timeout to move sooner",
    );
  }
  if (proxy.sessionFilters.length > 0) gate.add(at(path, "session_filters"), "are not supported; leave them out");
  if (proxy.hashPolicies.length > 1) gate.add(at(path, "hash_policies"), "must be at most one");
  // A hash policy is read by hashing balancers only (as in Envoy), and a cluster that asks for one of those is refused by its own decoder.
  proxy.hashPolicies.forEach((policy, n) => {
    if (policy.policySpecifier.case === undefined) gate.add(`${at(path, "hash_policies")}[${n}]`, "needs one of source_ip, key");
  });
  const idle = at(path, "idle_timeout");
  const idleTimeoutMs = millis(gate, idle, proxy.idleTimeout, 60_000);
  if (idleTimeoutMs < 1) gate.add(idle, "must be above 0: a session has no other end");
  return {
    statPrefix: present(gate, at(path, "stat_prefix"), proxy.statPrefix),
    cluster: target(gate, proxy, path),
    accessLogs: proxy.accessLog.map((log, n) => decodeAccessLog(gate, log, `${path}.access_log[${n}]`)),
    idleTimeoutMs,
    maxAnswerBytes: datagramLimit(gate, proxy.upstreamSocketConfig, at(path, "upstream_socket_config")),
  };
}

/** `cluster`, or a matcher that has one answer for everything, as Envoy's documentation writes it. */
function target(gate: Gate, proxy: PbUdpProxy, path: string): string {
  const specifier = proxy.routeSpecifier;
  if (specifier.case === "cluster") return present(gate, at(path, "cluster"), specifier.value);
  if (specifier.case === undefined) {
    gate.add(path, "needs one of cluster, matcher");
    return "";
  }
  const where = at(path, "matcher.on_no_match.action");
  const action = specifier.value.onNoMatch?.onMatch.value;
  if (action === undefined) {
    gate.add(where, "is missing; a matcher must name one route for everything here");
    return "";
  }
  const config = action.typedConfig === undefined ? undefined : { case: "typedConfig", value: action.typedConfig };
  return decodeExtension(gate, routes, "UDP route", action.name, config, where) ?? "";
}

const routes: readonly Extension<string>[] = [
  extension(UdpRoute, (gate, route, path): string => present(gate, at(path, "cluster"), route.cluster)),
];

/** Our default is any size: Envoy's 1500 would drop large DNS answers. `prefer_gro` is about speed alone. */
function datagramLimit(gate: Gate, socket: UdpSocketConfig | undefined, path: string): number {
  const size = socket?.maxRxDatagramSize;
  if (size === undefined) return largestDatagram;
  if (size < 1 || size > 65_535) gate.add(at(path, "max_rx_datagram_size"), `${size} is not from 1 to 65535`);
  return Math.min(size, largestDatagram);
}

function udpAddress(gate: Gate, path: string, address: Address | undefined): HostPort {
  const socket = address?.address.value;
  if (address === undefined || socket === undefined) return hostPort(gate, path, address, true);
  return hostPort(gate, path, { ...address, address: { case: "socketAddress", value: { ...socket, protocol: 0 } } }, true);
}

/** The kind of the first rule that cannot hold for a datagram; null when all can be judged. Under `not` such a rule would let everybody in. */
function unjudgeable(rule: Permission | Principal): string | null {
  switch (rule.kind) {
    case "any":
    case "port":
    case "remote_ip":
    case "client_ip":
      return null;
    case "and":
    case "or":
      for (const inner of rule.rules) {
        const found = unjudgeable(inner);
        if (found !== null) return found;
      }
      return null;
    case "not":
      return unjudgeable(rule.rule);
    default:
      return rule.kind;
  }
}
