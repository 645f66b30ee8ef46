// Owns: reading access log entries (ALS) into the lines that people read. Pure.

import type { LogLine } from "../api/live.ts";
import type {
  AccessLogCommon,
  HTTPAccessLogEntry,
  ResponseFlags,
  TCPAccessLogEntry,
} from "../wire/gen/envoy/data/accesslog/v3/accesslog_pb.ts";

/** By number of envoy.config.core.v3.RequestMethod. */
const methods = ["", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/** Whose sidecar reports. */
export interface ReportingNode {
  readonly namespace: string;
  readonly workload: string;
}

/** Envoy's letters for each flag (access log, %RESPONSE_FLAGS%). */
export function flagText(flags: ResponseFlags | undefined): string {
  if (flags === undefined) return "";
  const out: string[] = [];
  const put = (set: boolean, letters: string) => {
    if (set) out.push(letters);
  };
  put(flags.noHealthyUpstream, "UH");
  put(flags.upstreamRequestTimeout, "UT");
  put(flags.localReset, "LR");
  put(flags.upstreamRemoteReset, "UR");
  put(flags.upstreamConnectionFailure, "UF");
  put(flags.upstreamConnectionTermination, "UC");
  put(flags.upstreamOverflow, "UO");
  put(flags.noRouteFound, "NR");
  put(flags.unauthorizedDetails !== undefined, "UAEX");
  put(flags.downstreamConnectionTermination, "DC");
  put(flags.upstreamRetryLimitExceeded, "URX");
  put(flags.streamIdleTimeout, "SI");
  put(flags.downstreamProtocolError, "DPE");
  put(flags.durationTimeout, "DT");
  put(flags.rateLimited, "RL");
  put(flags.upstreamProtocolError, "UPE");
  put(flags.noClusterFound, "NC");
  return out.join(",");
}

export function httpLine(entry: HTTPAccessLogEntry, node: ReportingNode, nowMs: number): LogLine {
  const { commonProperties: common, request, response } = entry;
  const status = response?.responseCode ?? 0;
  const flags = flagText(common?.responseFlags);
  const method = methods[request?.requestMethod ?? 0] ?? "";
  const reason = common?.customTags.reason ?? response?.responseCodeDetails ?? "";
  const what = `${method} ${request?.authority ?? ""}${request?.path ?? ""}`.trim();
  return line(common, node, nowMs, {
    level: status >= 500 || status === 0 ? "error" : flags !== "" ? "warn" : "info",
    message: `${what} ${status}${flags === "" ? "" : ` ${flags}`}${reason === "" ? "" : `: ${reason}`}`,
    access: {
      method,
      authority: request?.authority ?? "",
      path: request?.path ?? "",
      status,
      flags,
      reason,
      attempts: common?.upstreamRequestAttemptCount ?? 0,
      requestId: request?.requestId ?? "",
    },
  });
}

export function tcpLine(entry: TCPAccessLogEntry, node: ReportingNode, nowMs: number): LogLine {
  const common = entry.commonProperties;
  const flags = flagText(common?.responseFlags);
  const reason = common?.customTags.reason ?? common?.connectionTerminationDetails ?? "";
  const cluster = common?.upstreamCluster ?? "";
  const { receivedBytes = 0n, sentBytes = 0n } = entry.connectionProperties ?? {};
  return line(common, node, nowMs, {
    level: flags === "" ? "info" : "warn",
    message: `connection to ${cluster === "" ? "nowhere" : cluster}, ${receivedBytes} bytes in, ${sentBytes} out${flags === "" ? "" : ` ${flags}`}${reason === "" ? "" : `: ${reason}`}`,
    access: {
      method: "",
      authority: cluster,
      path: "",
      status: 0,
      flags,
      reason,
      attempts: common?.upstreamRequestAttemptCount ?? 0,
      requestId: "",
    },
  });
}

type Access = NonNullable<LogLine["access"]>;

function line(
  common: AccessLogCommon | undefined,
  node: ReportingNode,
  nowMs: number,
  parts: {
    readonly level: LogLine["level"];
    readonly message: string;
    readonly access: Omit<Access, "reporter" | "source" | "destination" | "durationMs">;
  },
): LogLine {
  const tags = common?.customTags ?? {};
  const reporter = tags.reporter === "destination" ? "destination" : "source";
  const duration = common?.duration;
  const start = common?.startTime;
  const durationMs = duration === undefined ? 0 : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
  return {
    at: new Date(start === undefined ? nowMs : Number(start.seconds) * 1000 + Math.floor(start.nanos / 1e6)).toISOString(),
    kind: "access",
    level: parts.level,
    namespace: node.namespace,
    workload: node.workload,
    message: parts.message,
    access: {
      ...parts.access,
      reporter,
      source: tags.source ?? (reporter === "source" ? node.workload : "unknown"),
      destination: tags.destination ?? (reporter === "destination" ? node.workload : "unknown"),
      durationMs: Math.round(durationMs * 1000) / 1000,
    },
  };
}
