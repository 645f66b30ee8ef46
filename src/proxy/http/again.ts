// Owns: whether a failed attempt is made again, and when: what its route says, what was sent, whether an earlier hop retries already, and what the budget of
// its cluster has left. Everything here runs after a failure only; a request that goes well pays for one count (attempt.ts).

import type { Cluster } from "../balance/cluster.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import type { HttpChain } from "../chain/chain.ts";
import { Head, parseRequest } from "../http1/head.ts";
import { http2Failures } from "../http2/failures.ts";
import type { LimitName } from "../resilience/breakers.ts";
import { attemptCount, requestIdOf } from "../resilience/marks.ts";
import { askedWaitMs, asksAgain, backOffMs, type CompiledRetry, isRead, retryOn } from "../resilience/retry.ts";
import { attempt, retryBudgetOf } from "./attempt.ts";
import type { Exchange } from "./exchange.ts";
import { type Failure, failures } from "./failure.ts";
import { reply } from "./finish.ts";
import { dropAttempt, leaveEndpoint } from "./flow.ts";
import type { UpstreamHalf } from "./halves.ts";
import { park } from "./hedge.ts";
import { sawFailure } from "./observe.ts";
import { phase } from "./phase.ts";

/** Of the request that is to be made again. */
const requestHead = new Head();

/** An attempt ended without an answer: again, or tell the client. */
export function failed(x: Exchange, failure: Failure, why: string): void {
  const last = x.endpoint;
  // Not a failure of anybody: ALPN has said which version it is, and nothing was sent.
  if (failure === http2Failures.http1Only) {
    x.attempts--;
    attempt(x, x.down.core.ticker.nowMs, null, null);
    return;
  }
  if (last !== null && last.observer !== null) sawFailure(x, last, failure);
  const retry = x.forward?.retry ?? null;
  if (retry === null || x.retriesLeft === 0 || !x.bodyKept || x.state !== phase.waiting || !wantsFailure(x, retry, failure)) {
    reply(x, failure, why);
    return;
  }
  // What was never sent is no load for anybody, and goes to another endpoint at once.
  const free = !x.sent && failure.retry === "safe";
  if (!mayAgain(x, retry, free)) reply(x, failure, why);
  else again(x, last, free ? 0 : backOffMs(retry, x.attempts, x.down.core.random()));
}

function wantsFailure(x: Exchange, retry: CompiledRetry, failure: Failure): boolean {
  if (failure.retry === "safe") {
    const on = retryOn.connectFailure | retryOn.refusedStream | (x.sent ? 0 : retryOn.resetBeforeRequest);
    return (retry.on & on) !== 0;
  }
  if (failure.retry !== "idempotent") return false;
  if (!x.sent && (retry.on & retryOn.resetBeforeRequest) !== 0) return true;
  return (x.idempotent || retry.anyMethod) && (retry.on & retryOn.reset) !== 0;
}

/** Does this answer ask for another attempt? Then the half is given back (or up) and the attempt made; false: the answer is to go on to the client. */
export function retryAnswer(x: Exchange, retry: CompiledRetry, half: UpstreamHalf, bytes: Uint8Array, head: Head, done: boolean): boolean {
  if (x.retriesLeft === 0 || !x.bodyKept) return false;
  const core = x.down.core;
  // Only a sidecar whose certificate was seen is believed that nobody has had the request.
  const undelivered = head.notDelivered >= 0 && half.peer !== null && (retry.on & retryOn.connectFailure) !== 0;
  if (!undelivered) {
    const asks = asksAgain(retry, bytes, head, x.grpc !== null);
    if (asks === "no" || (asks === "idempotent" && !x.idempotent && !retry.anyMethod)) return false;
  }
  const askedMs = askedWaitMs(retry, bytes, head, core.wallMs(), core.random());
  const waitMs = askedMs > 0 ? askedMs : backOffMs(retry, x.attempts, core.random());
  // Who asks to be left alone for longer than the client waits has given the answer that there will be.
  if (askedMs === Number.POSITIVE_INFINITY || core.ticker.nowMs + waitMs >= x.timeoutAtMs) return false;
  if (!mayAgain(x, retry, false)) return false;
  const last = x.endpoint;
  if (undelivered) last?.connectFailed(core.ticker.nowMs);
  leaveEndpoint(x);
  if (done) half.release(x.requestDone, core.ticker.nowMs);
  else {
    half.owner = null;
    half.dispose();
  }
  again(x, last, waitMs);
  return true;
}

/** Everything that is not about the failure itself. Takes from the budget when it says yes. */
function mayAgain(x: Exchange, retry: CompiledRetry, free: boolean): boolean {
  const core = x.down.core;
  const cluster = x.cluster as Cluster;
  requestHead.limits = (x.chain.terminal as HttpChain).limits;
  parseRequest(x.bytes, x.headFrom, x.headTo, requestHead);
  if (retry.requestHeaders !== null && !retry.requestHeaders.some((matches) => matches(x.bytes, requestHead))) return false;
  if (free) return true;
  if (isRetryOfOthers(x)) {
    core.retriesMarked.value++;
    return false;
  }
  const { limits, endpointLimits } = cluster.config;
  if (endpointLimits !== undefined && cluster.usable.every((one) => one.activeRetries >= endpointLimits.maxRetries))
    return denied(x, "instances");
  const budget = limits.retryBudget;
  if (!x.retrying) {
    if (budget !== undefined) {
      if (cluster.activeRetries >= Math.max(budget.minConcurrency, (cluster.activeRequests * budget.percent) / 100))
        return denied(x, "retry_budget");
      // Three is Envoy's default, and taken for "not set" (Istio lifts it too): three would turn the end of one busy instance into errors.
    } else if (limits.maxRetries !== 3 && cluster.activeRetries >= limits.maxRetries) return denied(x, "max_retries");
  }
  cluster.retryBudget ??= retryBudgetOf(cluster);
  return cluster.retryBudget.take(core.ticker.nowMs) || denied(x, "retry_budget");
}

function denied(x: Exchange, limit: LimitName): false {
  (x.cluster as Cluster).refused(limit);
  x.down.core.retriesDenied.value++;
  return false;
}

/** An earlier hop makes this request again already; another layer of retries would multiply it. */
function isRetryOfOthers(x: Exchange): boolean {
  if (attemptCount(x.bytes, requestHead) > 1) return true;
  const { retried } = x.down.core;
  return !x.chain.inbound && retried.size > 0 && retried.has(requestIdOf(x.bytes, requestHead));
}

function again(x: Exchange, last: Endpoint | null, waitMs: number): void {
  const { core } = x.down;
  x.retriesLeft--;
  if (!x.retrying) {
    x.retrying = true;
    (x.cluster as Cluster).activeRetries++;
  }
  core.retries.value++;
  x.sent = false;
  x.tryAtMs = Number.POSITIVE_INFINITY;
  if (last !== null) {
    if (x.tried === null) x.tried = [last];
    else x.tried.push(last);
  }
  if (waitMs <= 0) {
    attempt(x, core.ticker.nowMs, last, null);
    return;
  }
  x.backOff = core.ticker.after(waitMs, () => {
    x.backOff = null;
    attempt(x, core.ticker.now(), last, null);
  });
}

/** An attempt takes longer than one may. */
export function tryTimedOut(x: Exchange): void {
  const retry = x.forward?.retry ?? null;
  if (retry?.hedge === true && x.up !== null && x.sent) {
    // It goes on; another one may start beside it.
    if (mayHedge(x, retry)) {
      const { core } = x.down;
      const last = x.endpoint as Endpoint;
      core.hedges.value++;
      x.retriesLeft--;
      if (x.tried === null) x.tried = [last];
      else x.tried.push(last);
      park(x);
      attempt(x, core.ticker.nowMs, last, null);
    }
    return;
  }
  dropAttempt(x);
  failed(x, failures.tryTimeout, "");
}

function mayHedge(x: Exchange, retry: CompiledRetry): boolean {
  if (x.retriesLeft === 0 || !x.bodyKept || !x.requestDone || x.state !== phase.waiting) return false;
  const cluster = x.cluster as Cluster;
  requestHead.limits = (x.chain.terminal as HttpChain).limits;
  parseRequest(x.bytes, x.headFrom, x.headTo, requestHead);
  if (!retry.anyMethod && !isRead(x.bytes, requestHead.from, requestHead.methodTo)) return false;
  if (retry.requestHeaders !== null && !retry.requestHeaders.some((matches) => matches(x.bytes, requestHead))) return false;
  if (cluster.usable.length < 2 || isRetryOfOthers(x)) return false;
  return cluster.hedgeBudget?.take(x.down.core.ticker.nowMs) === true;
}
