// Owns: envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy to TcpProxyConfig, and the PROXY protocol that a cluster may put before its connections.
// Never knows listeners or clusters beyond their names.

import type { TransportSocket } from "../../../wire/gen/envoy/config/core/v3/base_pb.ts";
import type { TcpProxy as PbTcpProxy } from "../../../wire/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts";
import type { TcpProxyConfig, WeightedCluster } from "../../config.ts";
import { UpstreamProxyProtocol } from "../proto/types.ts";
import { decodeAccessLog } from "./access-log.ts";
import { at, choose, type Gate, millis, present, unpack } from "./gate.ts";

/** Beyond this a client waits for minutes on an edge that is down. */
const mostAttempts = 10;

export function decodeTcpProxy(gate: Gate, proxy: PbTcpProxy, path: string): TcpProxyConfig {
  if (proxy.metadataMatch !== undefined) gate.add(at(path, "metadata_match"), subsets);
  const attempts = proxy.maxConnectAttempts;
  if (attempts !== undefined && (attempts < 1 || attempts > mostAttempts)) {
    gate.add(at(path, "max_connect_attempts"), `${attempts} is not from 1 to ${mostAttempts}`);
  }
  const duration = proxy.maxDownstreamConnectionDuration;
  const maxDurationMs = millis(gate, at(path, "max_downstream_connection_duration"), duration, 0);
  if (duration !== undefined && maxDurationMs < 1) gate.add(at(path, "max_downstream_connection_duration"), "must be at least 1ms");
  return {
    kind: "tcp",
    statPrefix: present(gate, at(path, "stat_prefix"), proxy.statPrefix),
    clusters: targets(gate, proxy.clusterSpecifier, path),
    accessLogs: proxy.accessLog.map((log, n) => decodeAccessLog(gate, log, `${path}.access_log[${n}]`)),
    idleTimeoutMs: millis(gate, at(path, "idle_timeout"), proxy.idleTimeout, 3_600_000),
    ...(attempts === undefined ? {} : { maxConnectAttempts: attempts }),
    maxDurationMs,
    ...(hashesSource(gate, proxy, at(path, "hash_policy")) ? { hashesSource: true } : {}),
  };
}

/** Envoy takes at most one, and knows one more: of a filter's state, which no filter here makes. */
function hashesSource(gate: Gate, { hashPolicy: [first, ...more] }: PbTcpProxy, path: string): boolean {
  if (first === undefined) return false;
  if (more.length > 0) gate.add(`${path}[1]`, "at most one");
  if (first.policySpecifier.case !== "sourceIp") gate.add(`${path}[0]`, "needs source_ip");
  return true;
}

const subsets = "is not supported: clusters have no subsets here; give each subset its own cluster";

function targets(gate: Gate, specifier: PbTcpProxy["clusterSpecifier"], path: string): readonly WeightedCluster[] {
  if (specifier.case === "cluster") return [{ cluster: present(gate, at(path, "cluster"), specifier.value), weight: 1 }];
  if (specifier.case === "weightedClusters") {
    const clusters = specifier.value.clusters;
    const where = at(path, "weighted_clusters.clusters");
    if (clusters.length === 0) gate.add(where, "needs at least one");
    return clusters.map((one, n) => {
      // Envoy's rule: at least 1.
      if (one.weight < 1) gate.add(`${where}[${n}].weight`, "must be at least 1");
      if (one.metadataMatch !== undefined) gate.add(`${where}[${n}].metadata_match`, subsets);
      return { cluster: present(gate, `${where}[${n}].name`, one.name), weight: one.weight };
    });
  }
  gate.add(path, "needs one of cluster, weighted_clusters");
  return [];
}

/** A transport socket without its PROXY protocol wrapper, and the version of that. `path` is where the inner one stands. */
export function unwrapProxyProtocol(
  gate: Gate,
  socket: TransportSocket | undefined,
  path: string,
): { readonly socket: TransportSocket | undefined; readonly version: 1 | 2 | null; readonly path: string } {
  const typed = socket?.configType.value;
  if (typed === undefined || !typed.typeUrl.endsWith(`/${UpstreamProxyProtocol.name}`)) return { socket, version: null, path };
  const where = at(path, "typed_config");
  const wrapper = unpack(gate, UpstreamProxyProtocol, typed, where);
  const inner = at(where, "transport_socket");
  if (wrapper === undefined) return { socket: undefined, version: 1, path: inner };
  if (wrapper.transportSocket === undefined) gate.add(inner, "is missing; use raw_buffer");
  if (wrapper.config?.passThroughTlvs !== undefined) {
    gate.add(at(where, "config.pass_through_tlvs"), "is not supported: values beside the addresses are not passed on");
  }
  const version = choose<1 | 2>(
    gate,
    at(where, "config.version"),
    "envoy.config.core.v3.ProxyProtocolConfig.Version",
    wrapper.config?.version ?? 0,
    { V1: 1, V2: 2 },
    1,
  );
  return { socket: wrapper.transportSocket, version, path: inner };
}
