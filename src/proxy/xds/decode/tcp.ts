// Owns: envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy to TcpProxyConfig. Never knows listeners or clusters beyond their names.

import type { TcpProxy as PbTcpProxy } from "../../../wire/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts";
import type { TcpProxyConfig, WeightedCluster } from "../../config.ts";
import { decodeAccessLog } from "./access-log.ts";
import { at, type Gate, millis, present } from "./gate.ts";

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
  };
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
