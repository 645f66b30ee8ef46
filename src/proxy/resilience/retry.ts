// Owns: what a route says about retries, compiled, and the questions that can be answered from it alone: does this answer ask for another attempt, how
// long is the wait before it. Who may ask at all (what was sent, budgets, marks of earlier hops) stands in http/again.ts.

import type { RetryCondition, RetryConfig } from "../config.ts";
import { equals, latin1, text } from "../http/bytes.ts";
import { fieldNamed, grpcStatusOf } from "../http/grpc.ts";
import type { Head } from "../http1/head.ts";
import { compileHeader, type HeadPredicate } from "../route/header.ts";

/** A RetryConfig with its words turned into bits. */
export interface CompiledRetry {
  readonly attempts: number;
  readonly on: number;
  readonly statusCodes: readonly number[];
  readonly perTryTimeoutMs: number;
  /** Back-off before the n-th retry: anything below `min(maxMs, baseMs * 2^(n-1))` (full jitter). */
  readonly baseMs: number;
  readonly maxMs: number;
  /** Headers of an answer that say when to come back. */
  readonly resetHeaders: readonly { readonly name: Uint8Array; readonly unix: boolean }[];
  /** Longer waits than this are not believed. */
  readonly resetMaxMs: number;
  /** Any of them: the answer asks for another attempt (`retriable-headers`). */
  readonly answerHeaders: readonly HeadPredicate[];
  /** Requests that may be retried; null = all. */
  readonly requestHeaders: readonly HeadPredicate[] | null;
  /** `requestHeaders` names methods, and so decides in place of their idempotence. */
  readonly anyMethod: boolean;
  /** Largest body that is kept for another attempt. */
  readonly bodyBytes: number;
  /** Not null: after `perTryTimeoutMs` another attempt starts beside the first, which goes on. */
  readonly hedge: boolean;
}

export const retryOn = {
  connectFailure: 1,
  reset: 2,
  refusedStream: 4,
  gatewayError: 8,
  serverError: 16,
  statusCodes: 32,
  resetBeforeRequest: 64,
  retriable4xx: 128,
  headers: 256,
  rateLimited: 512,
  cancelled: 1_024,
  deadlineExceeded: 2_048,
  internal: 4_096,
  resourceExhausted: 8_192,
  unavailable: 16_384,
} as const;

const words: Readonly<Record<RetryCondition, number>> = {
  "connect-failure": retryOn.connectFailure,
  reset: retryOn.reset,
  "reset-before-request": retryOn.resetBeforeRequest,
  "refused-stream": retryOn.refusedStream,
  // Envoy: both include connect failures, refused streams and resets.
  "gateway-error": retryOn.gatewayError | retryOn.connectFailure | retryOn.reset | retryOn.refusedStream,
  "5xx": retryOn.serverError | retryOn.connectFailure | retryOn.reset | retryOn.refusedStream,
  "retriable-4xx": retryOn.retriable4xx,
  "retriable-status-codes": retryOn.statusCodes,
  "retriable-headers": retryOn.headers,
  "envoy-ratelimited": retryOn.rateLimited,
  cancelled: retryOn.cancelled,
  "deadline-exceeded": retryOn.deadlineExceeded,
  internal: retryOn.internal,
  "resource-exhausted": retryOn.resourceExhausted,
  unavailable: retryOn.unavailable,
};

/** The conditions there are, as Envoy's `retry_on` names them. */
export const retryConditions = Object.keys(words) as readonly RetryCondition[];

const grpcBits: Readonly<Record<number, number>> = {
  1: retryOn.cancelled,
  4: retryOn.deadlineExceeded,
  8: retryOn.resourceExhausted,
  13: retryOn.internal,
  14: retryOn.unavailable,
};
const anyGrpc = retryOn.cancelled | retryOn.deadlineExceeded | retryOn.internal | retryOn.resourceExhausted | retryOn.unavailable;

/** Reasons in docs/reference/defaults.md. */
export const retryDefaults = { baseMs: 25, maxMs: 250, resetMaxMs: 300_000, bodyBytes: 65_536 } as const;

const retryAfter = { name: latin1("retry-after"), unix: false };

/** Throws a sentence on a header that cannot be matched. */
export function compileRetry(config: RetryConfig): CompiledRetry {
  let on = 0;
  for (const word of config.on) on |= words[word];
  const baseMs = config.backOff?.baseMs ?? retryDefaults.baseMs;
  const named = config.requestHeaders ?? [];
  return {
    attempts: config.attempts,
    on,
    statusCodes: config.statusCodes,
    perTryTimeoutMs: config.perTryTimeoutMs,
    baseMs,
    // Envoy: ten times the base.
    maxMs: config.backOff?.maxMs ?? baseMs * 10,
    resetHeaders: config.resetHeaders?.map(({ name, unix }) => ({ name: latin1(name.toLowerCase()), unix })) ?? [retryAfter],
    resetMaxMs: config.resetMaxMs ?? retryDefaults.resetMaxMs,
    answerHeaders: (config.answerHeaders ?? []).map(compileHeader),
    requestHeaders: named.length === 0 ? null : named.map(compileHeader),
    anyMethod: named.some((header) => header.name === ":method"),
    bodyBytes: config.bodyBytes ?? retryDefaults.bodyBytes,
    hedge: config.hedge === true,
  };
}

const rateLimitedName = latin1("x-envoy-ratelimited");

/**
 * Does an answer ask for another attempt? `no`; `idempotent`: for methods that may be repeated, as the application may have acted; `told`: the route
 * names this very code of gRPC, whose methods are all POST.
 */
export function asksAgain(retry: CompiledRetry, bytes: Uint8Array, head: Head, isGrpc: boolean): "no" | "idempotent" | "told" {
  const status = head.status;
  const on = retry.on;
  if (isGrpc && status === 200) {
    if ((on & anyGrpc) !== 0) {
      // In the head of an answer: trailers-only, so nothing has gone to the client yet.
      const code = grpcStatusOf(bytes, head);
      if (code > 0 && (on & (grpcBits[code] ?? 0)) !== 0) return "told";
    }
  } else if (status >= 500) {
    if ((on & retryOn.serverError) !== 0) return "idempotent";
    if ((on & retryOn.gatewayError) !== 0 && (status === 502 || status === 503 || status === 504)) return "idempotent";
  } else if (status === 409 && (on & retryOn.retriable4xx) !== 0) return "idempotent";
  if ((on & retryOn.statusCodes) !== 0 && retry.statusCodes.includes(status)) return "idempotent";
  if ((on & retryOn.rateLimited) !== 0 && fieldNamed(bytes, head, rateLimitedName) >= 0) return "idempotent";
  if ((on & retryOn.headers) !== 0) {
    for (let i = 0; i < retry.answerHeaders.length; i++) if ((retry.answerHeaders[i] as HeadPredicate)(bytes, head)) return "idempotent";
  }
  return "no";
}

/** The wait before the `nth` retry (from 1), in ms: full jitter, so that clients which failed together do not come back together. */
export function backOffMs(retry: CompiledRetry, nth: number, random: number): number {
  const most = retry.baseMs * 2 ** (nth - 1);
  return random * (most < retry.maxMs ? most : retry.maxMs);
}

const pushback = latin1("grpc-retry-pushback-ms");

/**
 * How long an answer asks to be left alone, in ms; 0: it does not say; Infinity: for good (gRPC's negative pushback). Up to half as much again is added by
 * chance, as Envoy does. RFC 9110 10.2.3: Retry-After is a date or seconds; a date is read as well as seconds are.
 */
export function askedWaitMs(retry: CompiledRetry, bytes: Uint8Array, head: Head, wallMs: number, random: number): number {
  const told = fieldNamed(bytes, head, pushback);
  if (told >= 0) {
    const value = text(bytes, head.valueFrom[told] as number, head.valueTo[told] as number);
    return /^\d{1,9}$/.test(value) ? Number(value) : Number.POSITIVE_INFINITY;
  }
  for (const { name, unix } of retry.resetHeaders) {
    const i = fieldNamed(bytes, head, name);
    if (i < 0) continue;
    const value = text(bytes, head.valueFrom[i] as number, head.valueTo[i] as number);
    let waitMs: number;
    if (/^\d{1,12}$/.test(value)) waitMs = unix ? Number(value) * 1_000 - wallMs : Number(value) * 1_000;
    else waitMs = unix ? Number.NaN : Date.parse(value) - wallMs;
    if (waitMs > 0 && waitMs <= retry.resetMaxMs) return waitMs * (1 + random / 2);
  }
  return 0;
}

const idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].map(latin1);

/** RFC 9110 9.2.2. */
export function isIdempotent(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = 0; i < idempotent.length; i++) if (equals(bytes, from, to, idempotent[i] as Uint8Array)) return true;
  return false;
}

/** The safe ones of them (RFC 9110 9.2.1): reads, which may be asked twice at once. */
export function isRead(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = 0; i < 4; i++) if (equals(bytes, from, to, idempotent[i] as Uint8Array)) return true;
  return false;
}
