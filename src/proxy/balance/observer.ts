// Owns: what is seen of one endpoint's answers, for policies that weigh it: latency (peak EWMA), rate limits, load reports (ORCA), and the counts that
// outlier detection reads. One object an endpoint, made only where its cluster asks. Never changes who may be chosen: `health/outliers.ts` does.

import type { LoadReport } from "../health/orca.ts";
import type { Endpoint } from "./endpoint.ts";

/** Finagle's: an endpoint that has not answered yet gets one request, and the next only when everybody is worse than this. */
const unknownCost = 1e9;

/** In which the share of refused requests fades. */
const limitedFadeMs = 5_000;
/** What one answer weighs in the share of refused ones. */
const limitedStep = 0.1;
/** A limit never takes more than this of an endpoint's share: who gets nothing cannot show that it is well again. */
const leastShare = 0.1;
/** Longest Retry-After that is heeded: a server that asks for a day has lost count. */
export const longestRetryAfterMs = 60_000;

/** What became of an attempt. */
export type LocalFailure = "connect" | "reset" | "timeout";

/** Hears of outcomes; outlier detection. */
export interface OutcomeSink {
  answered(endpoint: Endpoint, observer: Observer, status: number, nowMs: number): void;
  failed(endpoint: Endpoint, observer: Observer, failure: LocalFailure, nowMs: number): void;
}

export class Observer {
  readonly endpoint: Endpoint;
  /** null = no outlier detection. */
  sink: OutcomeSink | null = null;
  decayMs = 10_000;
  heedsLimits = false;
  /** Answers' load reports are wanted. */
  wantsReports = false;

  // ---- latency: decays towards small values, jumps up to any peak
  #ewmaMs = 0;
  #ewmaAtMs = 0;

  // ---- outlier detection
  consecutive5xx = 0;
  consecutiveGateway = 0;
  consecutiveLocal = 0;
  /** Of this interval. */
  total = 0;
  good = 0;
  latencySumMs = 0;
  latencyCount = 0;
  /** How often it was ejected lately; the next ejection is as many times longer. */
  ejections = 0;
  /** When it last came back. */
  returnedMs = 0;

  // ---- rate limits
  #limited = 0;
  #limitedAtMs = 0;

  // ---- load reports
  reportWeight = 0;
  reportFirstMs = 0;
  reportLastMs = 0;
  /** Finished requests and errors since the last report was weighed. */
  finished = 0;
  errors = 0;
  #rateSinceMs = 0;

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint;
  }

  /** The head of an answer is here (or, of a gRPC call, its status as HTTP would say it); `latencyMs` since the attempt began. */
  answered(status: number, latencyMs: number, nowMs: number): void {
    this.total++;
    this.finished++;
    const bad = status >= 500 || status === 429;
    if (status < 500) this.good++;
    else this.errors++;
    // An endpoint that fails at once must not look like the quickest: a failure is worth at least twice what is usual here.
    this.#observe(bad ? Math.max(latencyMs, this.#ewmaMs * 2) : latencyMs, nowMs);
    if (!bad) {
      this.latencySumMs += latencyMs;
      this.latencyCount++;
    }
    if (this.heedsLimits) this.#heed(status === 429, nowMs);
    if (this.sink !== null) this.sink.answered(this.endpoint, this, status, nowMs);
  }

  /** No answer came. */
  failed(failure: LocalFailure, latencyMs: number, nowMs: number): void {
    this.total++;
    this.errors++;
    this.finished++;
    this.#observe(Math.max(latencyMs, this.#ewmaMs * 2), nowMs);
    if (this.sink !== null) this.sink.failed(this.endpoint, this, failure, nowMs);
  }

  /** Retry-After of a 429 or 503, in ms. */
  retryAfter(ms: number, nowMs: number): void {
    if (!this.heedsLimits || ms <= 0) return;
    const until = nowMs + (ms < longestRetryAfterMs ? ms : longestRetryAfterMs);
    if (until > this.endpoint.avoidUntilMs) this.endpoint.avoidUntilMs = until;
  }

  #observe(latencyMs: number, nowMs: number): void {
    const before = this.latencyMs(nowMs);
    // Peaks count at once, better times only with time (Finagle's Peak EWMA).
    if (latencyMs > before) this.#ewmaMs = latencyMs;
    else {
      const kept = Math.exp((this.#ewmaAtMs - nowMs) / this.decayMs);
      this.#ewmaMs = this.#ewmaMs * kept + latencyMs * (1 - kept);
    }
    this.#ewmaAtMs = nowMs;
  }

  /** The smoothed latency; 0 = nothing is known. It fades while nothing comes, so that a slow one is asked again some day. */
  latencyMs(nowMs: number): number {
    const age = nowMs - this.#ewmaAtMs;
    return age <= 0 ? this.#ewmaMs : this.#ewmaMs * Math.exp(-age / this.decayMs);
  }

  /** What one more request would meet: latency times the requests there, itself among them; those under way count by `share`, mean weight over its own. */
  cost(share: number, nowMs: number): number {
    const { active } = this.endpoint;
    const latency = this.latencyMs(nowMs);
    if (latency === 0 && active > 0) return unknownCost + active * share;
    return latency * (active * share + 1);
  }

  #heed(limited: boolean, nowMs: number): void {
    this.#limited = this.#limitedShare(nowMs);
    this.#limitedAtMs = nowMs;
    this.#limited += ((limited ? 1 : 0) - this.#limited) * limitedStep;
  }

  #limitedShare(nowMs: number): number {
    return this.#limited === 0 ? 0 : this.#limited * Math.exp((this.#limitedAtMs - nowMs) / limitedFadeMs);
  }

  /** What rate limits leave of its share, 0.1 to 1. */
  limitShare(nowMs: number): number {
    const share = 1 - this.#limitedShare(nowMs);
    return share > 0.99 ? 1 : share < leastShare ? leastShare : share;
  }

  /**
   * A load report came. gRFC A58: weight = queries a second / (utilization + errors a second / queries a second); a report without utilization or
   * rate says nothing. Where the report has no rate, ours of this endpoint stands in.
   */
  reported(report: LoadReport, nowMs: number): void {
    const utilization = report.application > 0 ? report.application : report.cpu;
    const elapsed = (nowMs - this.#rateSinceMs) / 1_000;
    let rate = report.rps;
    let errorRate = report.eps;
    if (rate <= 0 && this.#rateSinceMs > 0 && elapsed > 0) {
      rate = this.finished / elapsed;
      errorRate = this.errors / elapsed;
    }
    if (this.#rateSinceMs === 0 || elapsed > 10) {
      this.#rateSinceMs = nowMs;
      this.finished = 0;
      this.errors = 0;
    }
    if (utilization <= 0 || rate <= 0) return;
    this.reportWeight = rate / (utilization + errorRate / rate);
    if (this.reportFirstMs === 0) this.reportFirstMs = nowMs;
    this.reportLastMs = nowMs;
  }

  /** The weight that its reports give it; 0 = none yet, or none any more. */
  reportedWeight(blackoutMs: number, expirationMs: number, nowMs: number): number {
    if (this.reportFirstMs === 0) return 0;
    if (nowMs - this.reportLastMs >= expirationMs) {
      // Starts anew: what it says after so long a silence is a blackout again.
      this.reportFirstMs = 0;
      return 0;
    }
    return nowMs - this.reportFirstMs < blackoutMs ? 0 : this.reportWeight;
  }

  startInterval(): void {
    this.total = 0;
    this.good = 0;
    this.latencySumMs = 0;
    this.latencyCount = 0;
  }

  /** Out of an ejection: what came before it counts no more. */
  forgive(): void {
    this.consecutive5xx = 0;
    this.consecutiveGateway = 0;
    this.consecutiveLocal = 0;
    this.#ewmaMs = 0;
    this.startInterval();
  }
}
