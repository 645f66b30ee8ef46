// Owns: telling the balancer what became of an attempt (balance/observer.ts), in the places where that is known: an answer's head, the end of a gRPC call, a
// failure without an answer. Called only where the endpoint has an observer.

import type { Endpoint } from "../balance/endpoint.ts";
import type { LocalFailure, Observer } from "../balance/observer.ts";
import { binaryReportHeader, readBinaryReport, readTextReport, reportHeader } from "../health/orca.ts";
import type { Head } from "../http1/head.ts";
import { equalsIgnoreCase, latin1, text } from "./bytes.ts";
import type { Exchange } from "./exchange.ts";
import type { Failure } from "./failure.ts";
import { fieldNamed } from "./grpc.ts";

const retryAfterName = latin1("retry-after");
const reportName = latin1(reportHeader);
const binaryReportName = latin1(binaryReportHeader);

/** HTTP statuses of gRPC codes, for those who judge by HTTP (Envoy's mapping for outlier detection). */
const httpOfGrpc: Readonly<Record<number, number>> = { 0: 200, 2: 500, 4: 504, 8: 429, 12: 501, 13: 500, 14: 503, 15: 500 };

/** An answer's head has come. */
export function sawAnswer(x: Exchange, observer: Observer, bytes: Uint8Array, head: Head): void {
  const now = x.down.core.ticker.now();
  const latency = now - x.tryStartMs;
  // Of a gRPC call the status comes at the end; what it takes until then is the call's own business.
  if (x.grpc !== null && head.status === 200) x.tryLatencyMs = latency;
  else observer.answered(head.status, latency, now);
  if (observer.heedsLimits && (head.status === 429 || head.status === 503)) {
    const i = fieldNamed(bytes, head, retryAfterName);
    if (i >= 0)
      observer.retryAfter(retryAfterMs(text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number), x.down.core.wallMs()), now);
  }
  if (!observer.wantsReports) return;
  let i = fieldNamed(bytes, head, reportName);
  const binary = i < 0;
  if (binary) i = fieldNamed(bytes, head, binaryReportName);
  if (i >= 0) take(observer, text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number), binary, now);
}

/** A gRPC call is over, and has its status. */
export function sawGrpcEnd(x: Exchange, observer: Observer): void {
  const status = x.grpc?.status ?? -1;
  observer.answered(status < 0 ? 500 : (httpOfGrpc[status] ?? 400), x.tryLatencyMs, x.down.core.ticker.now());
}

/** Trailers, as field lines in bytes[from, to). */
export function sawReportTrailers(x: Exchange, observer: Observer, bytes: Uint8Array, from: number, to: number): void {
  for (let at = from; at < to; ) {
    let end = at;
    while (end < to && bytes[end] !== 13) end++;
    for (const name of [reportName, binaryReportName]) {
      const colon = at + name.length;
      if (colon < end && bytes[colon] === 58 && equalsIgnoreCase(bytes, at, colon, name))
        take(observer, text(bytes, colon + 1, end).trim(), name === binaryReportName, x.down.core.ticker.now());
    }
    at = end + 2;
  }
}

function take(observer: Observer, value: string, binary: boolean, nowMs: number): void {
  const report = binary ? readBinaryReport(value) : readTextReport(value);
  if (report !== null) observer.reported(report, nowMs);
}

/** RFC 9110 10.2.3: seconds, or a date. 0 = neither. */
export function retryAfterMs(value: string, wallMs: number): number {
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1_000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? 0 : Math.max(0, date - wallMs);
}

const kinds: Readonly<Record<string, LocalFailure>> = {
  connect: "connect",
  "connect-timeout": "connect",
  tls: "connect",
  reset: "reset",
  truncated: "reset",
  "upstream-malformed": "reset",
  timeout: "timeout",
  "try-timeout": "timeout",
};

/** The attempt at `endpoint` ended without an answer. Failures that are none of the endpoint's are passed over. */
export function sawFailure(x: Exchange, endpoint: Endpoint, failure: Failure): void {
  const { observer } = endpoint;
  const kind = kinds[failure.kind];
  if (observer === null || kind === undefined) return;
  const now = x.down.core.ticker.now();
  observer.failed(kind, now - x.tryStartMs, now);
}
