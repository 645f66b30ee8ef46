// Owns: what an HttpConnectionManager says of limits, to HttpLimits and Http2Config. A value that the engine's buffers cannot honour is refused, never
// clipped.

import type {
  HttpProtocolOptions as PbCommon,
  Http2ProtocolOptions as PbHttp2,
  KeepaliveSettings as PbKeepalive,
} from "../../../wire/gen/envoy/config/core/v3/protocol_pb.ts";
import type { HttpConnectionManager as PbManager } from "../../../wire/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts";
import type { Http2Config, Http2Keepalive } from "../../config.ts";
import { defaultLimits, type HttpLimits } from "../../http1/limits.ts";
import { at, type Gate, millis } from "./gate.ts";

/** What the engine's head buffer holds; Envoy's default is 60. */
const maxHeadKiB = 72;
/** Offsets of a head live in arrays that grow with it; no client needs more. */
const maxFields = 1_000;

export function httpLimits(gate: Gate, manager: PbManager, path: string): HttpLimits {
  const common: PbCommon | undefined = manager.commonHttpProtocolOptions;
  const inCommon = (field: string): string => at(path, `common_http_protocol_options.${field}`);
  const headKiB = manager.maxRequestHeadersKb ?? 60;
  if (headKiB < 1 || headKiB > maxHeadKiB) gate.add(at(path, "max_request_headers_kb"), `${headKiB} is not from 1 to ${maxHeadKiB}`);
  const fields = common?.maxHeadersCount ?? defaultLimits.fields;
  if (fields < 1 || fields > maxFields) gate.add(inCommon("max_headers_count"), `${fields} is not from 1 to ${maxFields}`);
  return {
    ...defaultLimits,
    headBytes: headKiB * 1024,
    fields,
    requestsPerConnection: common?.maxRequestsPerConnection ?? 0,
    headTimeoutMs: millis(gate, at(path, "request_headers_timeout"), manager.requestHeadersTimeout, defaultLimits.headTimeoutMs),
    requestTimeoutMs: millis(gate, at(path, "request_timeout"), manager.requestTimeout, 0),
    streamIdleTimeoutMs: millis(gate, at(path, "stream_idle_timeout"), manager.streamIdleTimeout, defaultLimits.streamIdleTimeoutMs),
    streamDurationMs: millis(gate, inCommon("max_stream_duration"), common?.maxStreamDuration, 0),
    idleTimeoutMs: millis(gate, inCommon("idle_timeout"), common?.idleTimeout, defaultLimits.idleTimeoutMs),
    connectionDurationMs: millis(gate, inCommon("max_connection_duration"), common?.maxConnectionDuration, 0),
  };
}

/** `mostStreams`: on a listener what we can bear; on a cluster the instance says what it bears, and a larger number means nothing. */
export function http2Options(gate: Gate, options: PbHttp2 | undefined, path: string, mostStreams = 10_000): Http2Config {
  const within = (field: string, value: number | undefined, least: number, most: number): number | undefined => {
    if (value !== undefined && (value < least || value > most)) gate.add(at(path, field), `${value} is not from ${least} to ${most}`);
    return value;
  };
  const maxConcurrentStreams = within("max_concurrent_streams", options?.maxConcurrentStreams, 1, mostStreams);
  // Envoy's own bounds: RFC 9113 6.9.2's default to 2^31 - 1; ours end where a connection's memory has to.
  const initialStreamWindow = within("initial_stream_window_size", options?.initialStreamWindowSize, 65_535, 16_777_216);
  const initialConnectionWindow = within("initial_connection_window_size", options?.initialConnectionWindowSize, 65_535, 67_108_864);
  return {
    ...(maxConcurrentStreams === undefined ? {} : { maxConcurrentStreams }),
    ...(initialStreamWindow === undefined ? {} : { initialStreamWindow }),
    ...(initialConnectionWindow === undefined ? {} : { initialConnectionWindow }),
    ...(options?.connectionKeepalive === undefined
      ? {}
      : { keepalive: keepalive(gate, options.connectionKeepalive, at(path, "connection_keepalive")) }),
  };
}

function keepalive(gate: Gate, options: PbKeepalive, path: string): Http2Keepalive {
  const intervalMs = millis(gate, at(path, "interval"), options.interval, 0);
  const idleMs = millis(gate, at(path, "connection_idle_interval"), options.connectionIdleInterval, 0);
  const timeoutMs = millis(gate, at(path, "timeout"), options.timeout, 0);
  // As Envoy asks: nobody can answer in no time, and an interval of no time is a flood.
  if (timeoutMs < 1) gate.add(at(path, "timeout"), "must be at least 1 ms");
  if (options.interval !== undefined && intervalMs < 1) gate.add(at(path, "interval"), "must be at least 1 ms; leave it out for none");
  if (options.connectionIdleInterval !== undefined && idleMs < 1)
    gate.add(at(path, "connection_idle_interval"), "must be at least 1 ms; leave it out for none");
  const percent = options.intervalJitter?.value ?? 15;
  if (!(percent >= 0 && percent <= 100)) gate.add(at(path, "interval_jitter"), `${percent} is not from 0 to 100`);
  return { intervalMs, timeoutMs, jitter: percent / 100, idleMs };
}

/** A Via pseudonym (RFC 9110 7.6.3): what may stand there without breaking the field. */
export function viaName(gate: Gate, via: string, path: string): string | null {
  if (via === "") return null;
  if (!/^[A-Za-z0-9!#$%&'*+.^_`|~:[\]-]+$/.test(via))
    gate.add(at(path, "via"), `${JSON.stringify(via)} is no pseudonym (RFC 9110 7.6.3): a token, or host:port`);
  return via;
}
