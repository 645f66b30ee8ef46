// Owns: envoy.extensions.filters.http.fault.v3.HTTPFault, and our weft.fault.v1.Fault around it, to FaultConfig. Never injects one.

import type { HTTPFault } from "../../../wire/gen/envoy/extensions/filters/http/fault/v3/fault_pb.ts";
import type { FractionalPercent } from "../../../wire/gen/envoy/type/v3/percent_pb.ts";
import type { Fault } from "../../../wire/gen/weft/fault/v1/fault_pb.ts";
import type { FaultConfig } from "../../config.ts";
import { at, type Gate, millis } from "./gate.ts";
import { fraction, headerMatch, stringMatch } from "./match.ts";

/** Envoy: without a percentage nothing is injected. */
function share(gate: Gate, percent: FractionalPercent | undefined, path: string): number {
  return percent === undefined ? 0 : fraction(gate, percent, at(path, "percentage"));
}

/** null: it asks for nothing (an empty message stands in a chain for routes that have one). */
export function decodeFault(gate: Gate, fault: HTTPFault, path: string): FaultConfig | null {
  if (fault.upstreamCluster !== "")
    gate.add(at(path, "upstream_cluster"), "is not supported: put the fault at the route that leads to the cluster");
  const delay = delayOf(gate, fault, at(path, "delay"));
  const abort = abortOf(gate, fault, at(path, "abort"));
  const rate = rateOf(gate, fault, at(path, "response_rate_limit"));
  if (delay === null && abort === null && rate === null) return null;
  return {
    delay,
    abort,
    reset: 0,
    rate,
    headers: fault.headers.map((header, n) => headerMatch(gate, `${path}.headers[${n}]`, header)),
    clients: [],
    maxActive: fault.maxActiveFaults ?? Number.POSITIVE_INFINITY,
  };
}

export function decodeOwnFault(gate: Gate, fault: Fault, path: string): FaultConfig | null {
  const http = fault.http === undefined ? null : decodeFault(gate, fault.http, at(path, "http"));
  const reset = fault.reset === undefined ? 0 : fraction(gate, fault.reset, at(path, "reset"));
  if (http === null && reset === 0) return null;
  const headers = fault.http?.headers.map((header, n) => headerMatch(gate, `${path}.http.headers[${n}]`, header)) ?? [];
  return {
    ...(http ?? { delay: null, abort: null, rate: null, maxActive: fault.http?.maxActiveFaults ?? Number.POSITIVE_INFINITY }),
    headers,
    reset,
    clients: fault.clients.map((client, n) => stringMatch(gate, `${path}.clients[${n}]`, client)),
  };
}

function delayOf(gate: Gate, { delay }: HTTPFault, path: string): FaultConfig["delay"] {
  if (delay === undefined) return null;
  const specifier = delay.faultDelaySecifier;
  if (specifier.case === undefined) {
    gate.add(path, "needs one of fixed_delay, header_delay");
    return null;
  }
  const ms = specifier.case === "fixedDelay" ? millis(gate, at(path, "fixed_delay"), specifier.value, 0) : null;
  if (ms === 0) gate.add(at(path, "fixed_delay"), "must be above 0");
  return { ms, fraction: share(gate, delay.percentage, path) };
}

function abortOf(gate: Gate, { abort }: HTTPFault, path: string): FaultConfig["abort"] {
  if (abort === undefined) return null;
  const fractionOf = share(gate, abort.percentage, path);
  const specifier = abort.errorType;
  switch (specifier.case) {
    case "httpStatus":
      if (specifier.value < 200 || specifier.value > 599) gate.add(at(path, "http_status"), `${specifier.value} is not from 200 to 599`);
      return { kind: "http", status: specifier.value, fraction: fractionOf };
    case "grpcStatus":
      if (specifier.value > 16) gate.add(at(path, "grpc_status"), `${specifier.value} is not a gRPC status (0 to 16)`);
      return { kind: "grpc", status: specifier.value, fraction: fractionOf };
    case "headerAbort":
      return { kind: "header", status: 0, fraction: fractionOf };
    case undefined:
      gate.add(path, "needs one of http_status, grpc_status, header_abort");
      return null;
  }
}

function rateOf(gate: Gate, { responseRateLimit: rate }: HTTPFault, path: string): FaultConfig["rate"] {
  if (rate === undefined) return null;
  const specifier = rate.limitType;
  if (specifier.case === undefined) {
    gate.add(path, "needs one of fixed_limit, header_limit");
    return null;
  }
  const kilobytesPerSecond = specifier.case === "fixedLimit" ? Number(specifier.value.limitKbps) : null;
  if (kilobytesPerSecond === 0) gate.add(at(path, "fixed_limit.limit_kbps"), "must be at least 1");
  return { kilobytesPerSecond, fraction: share(gate, rate.percentage, path) };
}
