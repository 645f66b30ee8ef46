// Owns: global rate limits (Envoy's `envoy.filters.http.ratelimit`): the descriptors of a request go to a rate limit service, and the request is held until it has
// answered, or until the deadline. Holds that request alone; what becomes of it without an answer is the configuration's word.

import type { Permit } from "../authz/permit.ts";
import type { GlobalRateLimitConfig, RateAction, RouteRateLimits } from "../config.ts";
import { latin1 } from "../http/bytes.ts";
import type { Exchange } from "../http/exchange.ts";
import { type Failure, failures } from "../http/failure.ts";
import { reply } from "../http/finish.ts";
import { addAnswerLines, addRequestLines } from "../http/staged.ts";
import type { Head } from "../http1/head.ts";
import { encodeRequest, type LimitAnswer, type LimitAsker, type LimitCall, LimitCalls, limitService } from "../resilience/limit-calls.ts";
import type { BuildContext } from "../runtime/build.ts";
import { stateOf } from "../runtime/stage-state.ts";
import { compileLimits, describe, type Entry, type Maker } from "./descriptors.ts";
import { type Stage, type StageFamily, type Verdict, verdict } from "./stage.ts";

type Filter = NonNullable<GlobalRateLimitConfig["filter"]>;

/** What becomes of an answer: `go`, or `replied`. Of the stage, for all its requests. */
type Told = (x: Exchange, asked: AskedLimit, answer: LimitAnswer | string) => Verdict;

/** The question of one request. */
export class AskedLimit implements LimitAsker {
  /** null: it is over, or was never made. */
  call: LimitCall | null = null;
  over = false;
  answer: LimitAnswer | null = null;
  readonly #x: Exchange;
  readonly #serial: number;
  readonly #told: Told;

  constructor(x: Exchange, told: Told) {
    this.#x = x;
    this.#serial = x.serial;
    this.#told = told;
  }

  limitKnown(answer: LimitAnswer | string): void {
    const x = this.#x;
    this.call = null;
    if (x.serial !== this.#serial || x.askedLimit !== this || !x.held) return;
    if (this.#told(x, this, answer) === verdict.go) x.resume(this.#serial);
  }
}

export const globalRateLimitFamily: StageFamily<GlobalRateLimitConfig> = {
  build(config, where, context): Stage | null {
    const { filter } = config;
    if (filter === null || filter.enabled === 0) return null;
    const limits = limitsOf(config, filter.stage);
    if (limits.length === 0) return null;
    return askStage(filter, config.route?.domain ?? filter.domain, limits, where, context);
  },
};

/** Envoy's order: the route's RateLimitPerRoute, then the filter's own, then those of route and virtual host. */
function limitsOf({ route, limits }: GlobalRateLimitConfig, stage: number): readonly (readonly RateAction[])[] {
  const ofStage = (all: RouteRateLimits["limits"]) => all.filter((one) => one.stage === stage).map(({ actions }) => actions);
  if (route?.instead != null) return ofStage(route.instead);
  if (limits.length > 0) return limits;
  if (route === null) return [];
  const own = ofStage(route.limits);
  switch (route.hostMode) {
    case "include":
      return [...own, ...ofStage(route.host)];
    case "ignore":
      return own;
    case "override":
      return own.length > 0 ? own : ofStage(route.host);
  }
}

function askStage(filter: Filter, domain: string, limits: readonly (readonly RateAction[])[], where: string, context: BuildContext): Stage {
  // Of the process: the bound is one for all listeners.
  const calls = stateOf(context, "calls to rate limit services", null, () => new LimitCalls());
  const makersOf = compileLimits(limits, context.source);
  const service = limitService(context.clusterSlot(filter.cluster), filter.authority, filter.metadata, filter.timeoutMs);
  const over: Failure = {
    ...failures.overGlobalLimit,
    status: filter.status,
    grpc: filter.resourceExhausted ? 8 : failures.overGlobalLimit.grpc,
  };
  const unknown: Failure = { ...failures.limitUnknown, status: filter.failureStatus };

  const told: Told = (x, asked, answer) => {
    const { shedding, log } = x.down.core;
    if (typeof answer === "string") {
      shedding.asked(where, filter.denyOnFailure ? "error_denied" : "error_allowed");
      if (x.down.core.mayLog()) log.debug({ listener: where, reason: answer }, "A rate limit service could not be asked.");
      if (!filter.denyOnFailure) return verdict.go;
      x.held = false;
      reply(x, unknown, answer);
      return verdict.replied;
    }
    asked.answer = answer;
    const enforced = filter.enforced >= 1 || x.down.core.random() < filter.enforced;
    shedding.asked(where, answer.over ? "over_limit" : "ok");
    if (!answer.over || !enforced) {
      if (answer.requestLines !== "") addRequestLines(x, latin1(answer.requestLines));
      return verdict.go;
    }
    asked.over = true;
    x.held = false;
    reply(x, over, "");
    return verdict.replied;
  };

  return {
    early: null,
    request(x, bytes, head) {
      if (filter.enabled < 1 && x.down.core.random() >= filter.enabled) return verdict.go;
      const descriptors = descriptorsOf(makersOf(x), x, bytes, head);
      if (descriptors === null) return verdict.go;
      const asked = new AskedLimit(x, told);
      x.askedLimit = asked;
      const started = calls.ask(x.down.core, service, x.permit as Permit, encodeRequest(domain, descriptors), asked);
      if (typeof started === "string") return told(x, asked, started);
      asked.call = started;
      return verdict.held;
    },
    answer(x, bytes) {
      const asked = x.askedLimit;
      const answer = asked?.answer ?? null;
      if (asked === null || answer === null) return;
      let lines = answer.answerLines;
      // Of a local limit and this one the nearer is told (chain/rate-limit.ts asks the same).
      const local = x.rateBucket;
      if (filter.tellHeaders && (local === null || answer.remaining < local.left(x.down.core.ticker.nowMs))) lines += answer.limitLines;
      if (asked.over && bytes === null) {
        lines += filter.refusalLines;
        if (filter.tellLimited) lines += "x-envoy-ratelimited: true\r\n";
        // RFC 6585 4.
        if (answer.resetSeconds > 0) lines += `retry-after: ${answer.resetSeconds}\r\n`;
      }
      if (lines !== "") addAnswerLines(x, latin1(lines));
    },
    end(x) {
      x.askedLimit?.call?.giveUp();
      x.askedLimit = null;
    },
  };
}

function descriptorsOf(
  makers: readonly (readonly Maker[])[],
  x: Exchange,
  bytes: Uint8Array,
  head: Head,
): readonly (readonly Entry[])[] | null {
  let out: Entry[][] | null = null;
  for (const actions of makers) {
    const entries = describe(actions, x, bytes, head);
    if (entries === null) continue;
    // An entry without a value is none to Envoy's services, which refuse it.
    if (entries.some(({ value }) => value === "")) continue;
    if (out === null) out = [entries];
    else out.push(entries);
  }
  return out;
}
