// Owns: what a Cluster says of how long its connections are kept: `common_http_protocol_options` and `upstream_connection_options` to ConnectionConfig.

import type { UpstreamConnectionOptions } from "../../../wire/gen/envoy/config/cluster/v3/cluster_pb.ts";
import type { HttpProtocolOptions } from "../../../wire/gen/envoy/config/core/v3/protocol_pb.ts";
import { balanceMetadata } from "../../../wire/names.ts";
import type { ConnectionConfig, TcpKeepaliveConfig } from "../../config.ts";
import { mostKeepaliveProbes, mostKeepaliveSeconds } from "../../net/keepalive.ts";
import { at, type Gate, millis } from "./gate.ts";

/** Of a cluster's HTTP connections. */
export function httpConnections(gate: Gate, common: HttpProtocolOptions | undefined, path: string): Omit<ConnectionConfig, "keepalive"> {
  if (common === undefined) return {};
  if (common.maxHeadersCount !== undefined)
    gate.add(at(path, "max_headers_count"), "is not supported on a cluster; on a connection manager it is");
  if (common.maxStreamDuration !== undefined)
    gate.add(at(path, "max_stream_duration"), "is not supported on a cluster; use a route's timeout");
  const idleMs = common.idleTimeout === undefined ? undefined : millis(gate, at(path, "idle_timeout"), common.idleTimeout, 0);
  const maxAgeMs = millis(gate, at(path, "max_connection_duration"), common.maxConnectionDuration, 0);
  const maxRequests = common.maxRequestsPerConnection ?? 0;
  return {
    ...(idleMs === undefined ? {} : { idleMs }),
    // 0 is how Envoy spells "no limit", of both.
    ...(maxRequests === 0 ? {} : { maxRequests }),
    ...(maxAgeMs === 0 ? {} : { maxAgeMs }),
  };
}

/** Of what is no HTTP. Envoy has it on listeners alone. `own`: `filter_metadata["weft.dev"]` of the cluster. */
export function opaqueConnections(gate: Gate, own: Readonly<Record<string, unknown>>): Pick<ConnectionConfig, "opaqueMs"> {
  const most = own[balanceMetadata.connectionMs];
  if (most === undefined) return {};
  if (typeof most !== "number" || !(most >= 1)) {
    gate.add(`metadata.filter_metadata["weft.dev"].${balanceMetadata.connectionMs}`, "must be a number of at least 1");
    return {};
  }
  return { opaqueMs: most };
}

/** Of all its connections. */
export function socketConnections(
  gate: Gate,
  options: UpstreamConnectionOptions | undefined,
  path: string,
): Pick<ConnectionConfig, "keepalive"> {
  const probing = options?.tcpKeepalive;
  if (probing === undefined) return {};
  const where = at(path, "tcp_keepalive");
  if (process.platform !== "linux") gate.add(where, "is supported on Linux only");
  const within = (field: string, value: number | undefined, most: number): number | undefined => {
    if (value !== undefined && (value < 1 || value > most)) gate.add(at(where, field), `${value} is not from 1 to ${most}`);
    return value;
  };
  const probes = within("keepalive_probes", probing.keepaliveProbes, mostKeepaliveProbes);
  const timeSeconds = within("keepalive_time", probing.keepaliveTime, mostKeepaliveSeconds);
  const intervalSeconds = within("keepalive_interval", probing.keepaliveInterval, mostKeepaliveSeconds);
  const keepalive: TcpKeepaliveConfig = {
    ...(probes === undefined ? {} : { probes }),
    ...(timeSeconds === undefined ? {} : { timeSeconds }),
    ...(intervalSeconds === undefined ? {} : { intervalSeconds }),
  };
  return { keepalive };
}
