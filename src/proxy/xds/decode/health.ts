// Owns: how a cluster's endpoints are judged, as Envoy's Cluster says it: outlier detection and active health checks. Defaults are Envoy's.

import type { OutlierDetection } from "../../../wire/gen/envoy/config/cluster/v3/outlier_detection_pb.ts";
import type { HealthCheck, HealthCheck_Payload } from "../../../wire/gen/envoy/config/core/v3/health_check_pb.ts";
import { balanceMetadata } from "../../../wire/names.ts";
import type { HealthCheckConfig, OutlierConfig } from "../../config.ts";
import { enumDesc } from "../proto/message.ts";
import { at, type Gate, millis } from "./gate.ts";

/** Our own: a returning endpoint grows into its share within this. */
const returnMs = 10_000;

type Words = Readonly<Record<string, unknown>>;

/** `own`: `filter_metadata["weft.dev"]` of the cluster. */
export function decodeOutliers(gate: Gate, outliers: OutlierDetection | undefined, own: Words, path: string): OutlierConfig | undefined {
  const latency = latencyRule(gate, own);
  if (outliers === undefined && latency === null) return undefined;
  const percent = (field: string, value: number | undefined, fallback: number): number => {
    if (value !== undefined && value > 100) gate.add(at(path, field), "must be at most 100");
    return value ?? fallback;
  };
  const above = (field: string, value: { readonly seconds: bigint; readonly nanos: number } | undefined, fallback: number): number => {
    const ms = millis(gate, at(path, field), value, fallback);
    if (ms === 0) gate.add(at(path, field), "must be above 0");
    return ms;
  };
  const o = outliers;
  const enforceSuccess = percent("enforcing_success_rate", o?.enforcingSuccessRate, o === undefined ? 0 : 100);
  const enforceFailures = percent("enforcing_failure_percentage", o?.enforcingFailurePercentage, 0);
  const baseEjectionMs = above("base_ejection_time", o?.baseEjectionTime, 30_000);
  return {
    consecutive5xx: o === undefined ? 0 : (o.consecutive5xx ?? 5),
    enforce5xx: percent("enforcing_consecutive_5xx", o?.enforcingConsecutive5xx, 100),
    consecutiveGateway: o === undefined ? 0 : (o.consecutiveGatewayFailure ?? 5),
    enforceGateway: percent("enforcing_consecutive_gateway_failure", o?.enforcingConsecutiveGatewayFailure, 0),
    splitLocal: o?.splitExternalLocalOriginErrors ?? false,
    consecutiveLocal: o?.consecutiveLocalOriginFailure ?? 5,
    enforceLocal: percent("enforcing_consecutive_local_origin_failure", o?.enforcingConsecutiveLocalOriginFailure, 100),
    intervalMs: above("interval", o?.interval, 10_000),
    baseEjectionMs,
    maxEjectionMs: Math.max(baseEjectionMs, above("max_ejection_time", o?.maxEjectionTime, 300_000)),
    jitterMs: millis(gate, at(path, "max_ejection_time_jitter"), o?.maxEjectionTimeJitter, 0),
    maxEjectionPercent: percent("max_ejection_percent", o?.maxEjectionPercent, 10),
    alwaysOne: o?.alwaysEjectOneHost ?? true,
    successRate:
      enforceSuccess === 0
        ? null
        : {
            enforce: enforceSuccess,
            minHosts: o?.successRateMinimumHosts ?? 5,
            volume: o?.successRateRequestVolume ?? 100,
            stdevFactor: (o?.successRateStdevFactor ?? 1_900) / 1_000,
          },
    failurePercentage:
      enforceFailures === 0
        ? null
        : {
            enforce: enforceFailures,
            minHosts: o?.failurePercentageMinimumHosts ?? 5,
            volume: o?.failurePercentageRequestVolume ?? 50,
            threshold: percent("failure_percentage_threshold", o?.failurePercentageThreshold, 85),
          },
    latency,
    returnMs,
  };
}

function latencyRule(gate: Gate, own: Words): OutlierConfig["latency"] {
  const factor = own[balanceMetadata.latencyFactor];
  if (factor === undefined) return null;
  if (typeof factor !== "number" || factor <= 1) {
    gate.add(`metadata.filter_metadata["weft.dev"].${balanceMetadata.latencyFactor}`, "must be a number above 1");
    return null;
  }
  return { minHosts: 3, volume: 20, factor, floorMs: 20 };
}

export function decodeHealthChecks(gate: Gate, checks: readonly HealthCheck[], path: string): readonly HealthCheckConfig[] {
  return checks.flatMap((check, n) => {
    const found = healthCheck(gate, check, `${path}[${n}]`);
    return found === undefined ? [] : [found];
  });
}

function healthCheck(gate: Gate, check: HealthCheck, path: string): HealthCheckConfig | undefined {
  const needed = (field: string, value: { readonly seconds: bigint; readonly nanos: number } | undefined, fallback: number): number => {
    const ms = millis(gate, at(path, field), value, fallback);
    if (ms === 0) gate.add(at(path, field), "must be above 0");
    return ms;
  };
  if (check.timeout === undefined) gate.add(at(path, "timeout"), "is missing");
  if (check.interval === undefined) gate.add(at(path, "interval"), "is missing");
  const intervalMs = needed("interval", check.interval, 5_000);
  const threshold = (field: string, value: number | undefined): number => {
    if (value === undefined || value < 1) gate.add(at(path, field), "must be at least 1");
    return value ?? 1;
  };
  const kind = checker(gate, check, path);
  if (kind === undefined) return undefined;
  return {
    kind,
    timeoutMs: needed("timeout", check.timeout, 1_000),
    intervalMs,
    unhealthyIntervalMs: needed("unhealthy_interval", check.unhealthyInterval, intervalMs),
    // Envoy: 60 s while nobody calls.
    noTrafficIntervalMs: needed("no_traffic_interval", check.noTrafficInterval, 60_000),
    jitterMs: millis(gate, at(path, "interval_jitter"), check.intervalJitter, 0),
    jitterPercent: check.intervalJitterPercent,
    initialJitterMs: millis(gate, at(path, "initial_jitter"), check.initialJitter, 0),
    unhealthyThreshold: threshold("unhealthy_threshold", check.unhealthyThreshold),
    healthyThreshold: threshold("healthy_threshold", check.healthyThreshold),
  };
}

function checker(gate: Gate, check: HealthCheck, path: string): HealthCheckConfig["kind"] | undefined {
  const which = check.healthChecker;
  switch (which.case) {
    case "httpHealthCheck": {
      const { host, path: target, requestHeadersToAdd, expectedStatuses, method } = which.value;
      const where = at(path, "http_health_check");
      if (!/^\/[\x21-\x7e]*$/.test(target)) gate.add(at(where, "path"), "must begin with / and have no spaces");
      if (!/^[\x21-\x7e]*$/.test(host)) gate.add(at(where, "host"), "must have no spaces or control characters");
      const methodName = enumDesc("envoy.config.core.v3.RequestMethod").byNumber.get(method) ?? "GET";
      if (methodName === "CONNECT") gate.add(at(where, "method"), "CONNECT cannot be a health check");
      const headers = requestHeadersToAdd.map((one, n) => {
        const { key = "", value = "" } = one.header ?? {};
        if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(key) || /[\r\n\0]/.test(value) || value.includes("%"))
          gate.add(`${at(where, "request_headers_to_add")}[${n}]`, "must be a field name and a value without line ends or % commands");
        return { name: key, value };
      });
      const statuses = expectedStatuses.map(({ start, end }, n) => {
        if (start < 100n || end > 600n || start >= end)
          gate.add(`${at(where, "expected_statuses")}[${n}]`, "must be a range within 100 to 600");
        return { first: Number(start), last: Number(end) - 1 };
      });
      return {
        type: "http",
        host,
        path: target,
        method: methodName === "METHOD_UNSPECIFIED" ? "GET" : methodName,
        statuses: statuses.length === 0 ? [{ first: 200, last: 200 }] : statuses,
        headers,
      };
    }
    case "grpcHealthCheck":
      return { type: "grpc", service: which.value.serviceName, authority: which.value.authority };
    case "tcpHealthCheck": {
      const where = at(path, "tcp_health_check");
      const { send, receive } = which.value;
      return {
        type: "tcp",
        send: payload(gate, send, at(where, "send")),
        receive: receive.map((one, n) => payload(gate, one, `${at(where, "receive")}[${n}]`)),
      };
    }
    default:
      gate.add(path, "needs one of http_health_check, tcp_health_check, grpc_health_check");
      return undefined;
  }
}

/** Text is hexadecimal, as in Envoy. */
function payload(gate: Gate, message: HealthCheck_Payload | undefined, path: string): Uint8Array {
  if (message === undefined) return new Uint8Array(0);
  if (message.payload.case === "binary") return message.payload.value;
  const text = message.payload.value ?? "";
  if (!/^([0-9a-fA-F]{2})+$/.test(text)) gate.add(at(path, "text"), "must be hexadecimal digits in pairs");
  return Buffer.from(text, "hex");
}
