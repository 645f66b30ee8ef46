// Owns: whether a failed attempt may be made again. The answer needs three facts: how it failed, whether the method is safe to repeat, what the route allows.

import type { RetryConfig } from "../config.ts";
import { equals, latin1 } from "../http/bytes.ts";

/** A RetryConfig with its words turned into bits. */
export interface CompiledRetry {
  readonly attempts: number;
  readonly on: number;
  readonly statusCodes: readonly number[];
  readonly perTryTimeoutMs: number;
}

export const retryOn = { connectFailure: 1, reset: 2, refusedStream: 4, gatewayError: 8, serverError: 16, statusCodes: 32 } as const;

export function compileRetry(config: RetryConfig): CompiledRetry {
  let on = 0;
  for (const word of config.on) {
    switch (word) {
      case "connect-failure":
        on |= retryOn.connectFailure;
        break;
      case "reset":
        on |= retryOn.reset;
        break;
      case "refused-stream":
        on |= retryOn.refusedStream;
        break;
      case "gateway-error":
        on |= retryOn.gatewayError;
        break;
      case "5xx":
        // Envoy: 5xx includes connect failures and resets.
        on |= retryOn.serverError | retryOn.connectFailure | retryOn.reset;
        break;
      case "retriable-status-codes":
        on |= retryOn.statusCodes;
        break;
    }
  }
  return { attempts: config.attempts, on, statusCodes: config.statusCodes, perTryTimeoutMs: config.perTryTimeoutMs };
}

/** Does an answer with this status ask for another attempt? Idempotent methods only, as the application may have acted. */
export function retriesStatus(retry: CompiledRetry, status: number): boolean {
  if (status < 500 && (retry.on & retryOn.statusCodes) === 0) return false;
  if ((retry.on & retryOn.serverError) !== 0 && status >= 500) return true;
  if ((retry.on & retryOn.gatewayError) !== 0 && (status === 502 || status === 503 || status === 504)) return true;
  return (retry.on & retryOn.statusCodes) !== 0 && retry.statusCodes.includes(status);
}

const idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].map(latin1);

/** RFC 9110 9.2.2. */
export function isIdempotent(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = 0; i < idempotent.length; i++) if (equals(bytes, from, to, idempotent[i] as Uint8Array)) return true;
  return false;
}
