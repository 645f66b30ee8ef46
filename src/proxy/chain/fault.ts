// Owns: injected faults (Envoy's `envoy.filters.http.fault`, and what we add to it: resets, and clients by their identity): a delay, then an answer or a
// reset of our own, or a slow answer. By chance, header and client; bounded; each is counted and flagged. Without a configuration nothing stands here.

import type { FaultConfig } from "../config.ts";
import { latin1, text } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import { type Failure, failures } from "../http/failure.ts";
import { cut, reply } from "../http/finish.ts";
import { fieldNamed } from "../http/grpc.ts";
import { throttledHalf } from "../http/throttled-half.ts";
import type { Head } from "../http1/head.ts";
import { compileHeader } from "../route/header.ts";
import { compileString } from "../route/match.ts";
import { chooseTarget } from "../route/table.ts";
import { type Stage, type StageFamily, verdict } from "./stage.ts";

/** Bits of `Exchange.faults`. */
const state = { seen: 1, delayed: 2, counted: 4, slow: 8 } as const;

/** gRPC codes as HTTP has them (google.rpc.Code), for calls that are not gRPC; what is not listed is 500. */
const statusOfGrpc: Readonly<Record<number, number>> = {
  0: 200,
  3: 400,
  4: 504,
  5: 404,
  6: 409,
  7: 403,
  8: 429,
  9: 400,
  10: 409,
  11: 400,
  12: 501,
  14: 503,
  16: 401,
};
const grpcOfStatus: Readonly<Record<number, number>> = { 400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14 };

/** Who calls: the peer of a mutual TLS connection; on the way out the workload that this proxy stands beside. null = nobody knows. */
function callerOf(x: Exchange): string | null {
  const peer = x.down.peer;
  if (peer !== null) return peer.principal;
  const { trustDomain, namespace, serviceAccount } = x.down.core.local;
  if (x.chain.inbound || trustDomain === "" || serviceAccount === "") return null;
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
}

/** An injected answer, with Envoy's details. */
function abortFailure(status: number, grpc: number): Failure {
  return {
    kind: "fault",
    side: "self",
    retry: "never",
    flag: "FI",
    status,
    details: "fault_filter_abort",
    sentence: "fault filter abort",
    close: false,
    grpc,
  };
}

const resetFailure: Failure = {
  ...failures.reset,
  kind: "fault-reset",
  side: "self",
  retry: "never",
  flag: "FI",
  details: "fault_filter_reset",
};

const names = {
  delay: latin1("x-envoy-fault-delay-request"),
  delayShare: latin1("x-envoy-fault-delay-request-percentage"),
  abort: latin1("x-envoy-fault-abort-request"),
  abortGrpc: latin1("x-envoy-fault-abort-grpc-request"),
  abortShare: latin1("x-envoy-fault-abort-request-percentage"),
  rate: latin1("x-envoy-fault-throughput-response"),
  rateShare: latin1("x-envoy-fault-throughput-response-percentage"),
} as const;

/** Largest delay that a header may ask for: a client must not hold requests for longer than a stream may be idle. */
const longestHeaderDelayMs = 60_000;

/** A whole number in a header; -1: none. */
function headerNumber(bytes: Uint8Array, head: Head, name: Uint8Array): number {
  const i = fieldNamed(bytes, head, name);
  if (i < 0) return -1;
  const value = text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
  return /^\d{1,9}$/.test(value) ? Number(value) : -1;
}

/** The share of a header-controlled fault: what the header says, at most what is configured (Envoy). */
function headerShare(bytes: Uint8Array, head: Head, name: Uint8Array, most: number): number {
  const asked = headerNumber(bytes, head, name);
  return asked < 0 ? most : Math.min(most, asked / 100);
}

/** Counted as a call of the service that it would have gone to: a user looks for the faults there, and not at a service without a name. */
function meant(x: Exchange): void {
  const forward = x.route?.forward ?? null;
  if (forward !== null) x.refusedBy = (x.target ?? chooseTarget(forward, x.down.core.random)).slot.current;
}

export const faultFamily: StageFamily<FaultConfig | null> = {
  build(config, where): Stage | null {
    return config === null ? null : faultStage(config, where);
  },
};

export function faultStage(config: FaultConfig, where: string): Stage {
  const headers = config.headers.map(compileHeader);
  const clients = config.clients.map(compileString);
  let active = 0;

  const applies = (x: Exchange, bytes: Uint8Array, head: Head): boolean => {
    for (const header of headers) if (!header(bytes, head)) return false;
    if (clients.length > 0) {
      const principal = callerOf(x);
      if (principal === null || !clients.some((client) => client(principal))) return false;
    }
    return true;
  };
  const draw = (x: Exchange, share: number): boolean => share > 0 && (share >= 1 || x.down.core.random() < share);

  const delayOf = (x: Exchange, bytes: Uint8Array, head: Head): number => {
    const delay = config.delay;
    if (delay === null) return 0;
    if (delay.ms !== null) return draw(x, delay.fraction) ? delay.ms : 0;
    const asked = headerNumber(bytes, head, names.delay);
    if (asked <= 0 || !draw(x, headerShare(bytes, head, names.delayShare, delay.fraction))) return 0;
    return Math.min(asked, longestHeaderDelayMs);
  };

  const abortOf = (x: Exchange, bytes: Uint8Array, head: Head): Failure | null => {
    const abort = config.abort;
    if (abort === null) return null;
    if (abort.kind === "http") return draw(x, abort.fraction) ? abortFailure(abort.status, grpcOfStatus[abort.status] ?? 2) : null;
    if (abort.kind === "grpc") return draw(x, abort.fraction) ? abortFailure(statusOfGrpc[abort.status] ?? 500, abort.status) : null;
    const status = headerNumber(bytes, head, names.abort);
    const grpc = headerNumber(bytes, head, names.abortGrpc);
    const http = status >= 200 && status <= 599;
    if (!http && (grpc < 0 || grpc > 16)) return null;
    if (!draw(x, headerShare(bytes, head, names.abortShare, abort.fraction))) return null;
    return http ? abortFailure(status, grpcOfStatus[status] ?? 2) : abortFailure(statusOfGrpc[grpc] ?? 500, grpc);
  };

  /** A place among the active faults: taken until the request is over. */
  const begin = (x: Exchange): boolean => {
    if ((x.faults & state.counted) !== 0) return true;
    if (active >= config.maxActive) {
      x.down.core.faults.injected("overflow", x.route?.name ?? where);
      return false;
    }
    active++;
    x.faults |= state.counted;
    return true;
  };

  return {
    early: null,
    request(x, bytes, head, nowMs) {
      if ((x.faults & state.delayed) === 0) {
        x.faults = state.seen;
        if (!applies(x, bytes, head)) return verdict.go;
        const delayMs = delayOf(x, bytes, head);
        if (delayMs > 0 && begin(x)) {
          x.faults |= state.delayed;
          x.flag = "DI";
          x.down.core.faults.injected("delay", x.route?.name || where);
          // Asked again when the time is over: the abort comes after the delay, as Envoy has it.
          x.tryAtMs = nowMs + delayMs;
          return verdict.again;
        }
      }
      if (config.reset > 0 && draw(x, config.reset) && begin(x)) {
        x.down.core.faults.injected("reset", x.route?.name || where);
        meant(x);
        cut(x, resetFailure);
        return verdict.replied;
      }
      const failure = abortOf(x, bytes, head);
      if (failure !== null && begin(x)) {
        x.down.core.faults.injected("abort", x.route?.name || where);
        meant(x);
        reply(x, failure, "");
        return verdict.replied;
      }
      const rate = config.rate;
      if (rate !== null) {
        const kilobytes = rate.kilobytesPerSecond ?? headerNumber(bytes, head, names.rate);
        const share = rate.kilobytesPerSecond === null ? headerShare(bytes, head, names.rateShare, rate.fraction) : rate.fraction;
        if (kilobytes > 0 && draw(x, share) && begin(x)) {
          x.faults |= state.slow;
          x.slowTo = kilobytes * 1_024;
          x.down.core.faults.injected("rate", x.route?.name || where);
        }
      }
      return verdict.go;
    },
    answer(x, bytes) {
      // Answers of our own are whole and small, and no fault of the instance.
      if (bytes !== null && (x.faults & state.slow) !== 0) x.half = throttledHalf(x, x.slowTo);
    },
    end(x) {
      if ((x.faults & state.counted) !== 0) active--;
      x.faults = 0;
    },
  };
}
