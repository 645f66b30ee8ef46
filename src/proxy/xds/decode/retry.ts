// Owns: envoy.config.route.v3.RetryPolicy and HedgePolicy to RetryConfig. Never decides about a request.

import type { HedgePolicy, RetryPolicy } from "../../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import type { RetryCondition, RetryConfig } from "../../config.ts";
import { retryConditions } from "../../resilience/retry.ts";
import { PreviousHostsPredicate } from "../proto/types.ts";
import { at, decodeExtension, type Extension, extension, type Gate, millis } from "./gate.ts";
import { headerMatch } from "./match.ts";

/** Endpoints that failed a request are always passed over while others are there, so that asking for it changes nothing. */
const hostPredicates: readonly Extension<"previous">[] = [extension(PreviousHostsPredicate, () => "previous" as const)];

/** More attempts than this is a slip of the pen; budgets would stop them anyway. */
const mostAttempts = 20;
/** Kept in memory for each request under way. */
const mostBodyBytes = 16 * 1024 * 1024;

export function retryPolicy(gate: Gate, policy: RetryPolicy, path: string): RetryConfig {
  const on: RetryCondition[] = [];
  for (const word of policy.retryOn.split(",").map((w) => w.trim())) {
    const known = retryConditions.find((condition) => condition === word);
    if (known !== undefined) {
      if (!on.includes(known)) on.push(known);
    } else if (word !== "") gate.add(at(path, "retry_on"), `"${word}" is not supported; supported: ${retryConditions.join(", ")}`);
  }
  const attempts = policy.numRetries ?? 1;
  if (attempts > mostAttempts) gate.add(at(path, "num_retries"), `${attempts} is above ${mostAttempts}`);
  policy.retriableStatusCodes.forEach((status, n) => {
    if (status < 100 || status > 599) gate.add(`${path}.retriable_status_codes[${n}]`, `${status} is not an HTTP status`);
  });
  policy.retryHostPredicate.forEach((one, n) => {
    decodeExtension(gate, hostPredicates, "retry host predicate", one.name, one.configType, `${path}.retry_host_predicate[${n}]`);
  });
  if (policy.perTryIdleTimeout !== undefined) gate.add(at(path, "per_try_idle_timeout"), "is not supported; use per_try_timeout");
  return {
    attempts,
    on,
    statusCodes: policy.retriableStatusCodes,
    perTryTimeoutMs: millis(gate, at(path, "per_try_timeout"), policy.perTryTimeout, 0),
    ...backOff(gate, policy, path),
    ...asked(gate, policy, path),
    ...(policy.retriableHeaders.length === 0
      ? {}
      : { answerHeaders: policy.retriableHeaders.map((header, n) => headerMatch(gate, `${path}.retriable_headers[${n}]`, header)) }),
    ...(policy.retriableRequestHeaders.length === 0
      ? {}
      : {
          requestHeaders: policy.retriableRequestHeaders.map((header, n) =>
            headerMatch(gate, `${path}.retriable_request_headers[${n}]`, header),
          ),
        }),
  };
}

function backOff(gate: Gate, policy: RetryPolicy, path: string): Pick<RetryConfig, "backOff"> {
  const given = policy.retryBackOff;
  if (given === undefined) return {};
  const where = at(path, "retry_back_off");
  const baseMs = millis(gate, at(where, "base_interval"), given.baseInterval, 0);
  if (baseMs === 0) gate.add(at(where, "base_interval"), "must be above 0");
  const maxMs = millis(gate, at(where, "max_interval"), given.maxInterval, baseMs * 10);
  if (maxMs < baseMs) gate.add(at(where, "max_interval"), "must not be below base_interval");
  return { backOff: { baseMs, maxMs } };
}

function asked(gate: Gate, policy: RetryPolicy, path: string): Pick<RetryConfig, "resetHeaders" | "resetMaxMs"> {
  const given = policy.rateLimitedRetryBackOff;
  if (given === undefined) return {};
  const where = at(path, "rate_limited_retry_back_off");
  if (given.resetHeaders.length === 0) gate.add(at(where, "reset_headers"), "needs at least one");
  return {
    // SECONDS is 0, UNIX_TIMESTAMP 1.
    resetHeaders: given.resetHeaders.map(({ name, format }) => ({ name, unix: format === 1 })),
    resetMaxMs: millis(gate, at(where, "max_interval"), given.maxInterval, 300_000),
  };
}

/** What a route says beside its retry policy. A hedge without a policy has nothing to hedge with, as in Envoy. */
export function refineRetry(
  gate: Gate,
  retry: RetryConfig | null,
  hedge: HedgePolicy | undefined,
  bodyBytes: number | undefined,
  path: string,
): RetryConfig | null {
  if (hedge !== undefined) checkHedge(gate, hedge, retry, at(path, "hedge_policy"));
  if (bodyBytes !== undefined && bodyBytes > mostBodyBytes)
    gate.add(at(path, "per_request_buffer_limit_bytes"), `${bodyBytes} is above ${mostBodyBytes}, which each request under way may take`);
  if (retry === null) return null;
  return {
    ...retry,
    ...(hedge?.hedgeOnPerTryTimeout === true ? { hedge: true as const } : {}),
    ...(bodyBytes === undefined ? {} : { bodyBytes }),
  };
}

function checkHedge(gate: Gate, hedge: HedgePolicy, retry: RetryConfig | null, where: string): void {
  if ((hedge.initialRequests ?? 1) !== 1)
    gate.add(at(where, "initial_requests"), "more than 1 is not supported; a hedge starts after per_try_timeout");
  if (hedge.additionalRequestChance !== undefined) gate.add(at(where, "additional_request_chance"), "is not supported");
  if (hedge.hedgeOnPerTryTimeout && (retry === null || retry.perTryTimeoutMs === 0))
    gate.add(at(where, "hedge_on_per_try_timeout"), "needs a retry_policy with per_try_timeout, after which the next attempt starts");
}
