// Owns: asking a rate limit service (`envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`) by the proxy's own unary calls (http/unary-call.ts), and
// reading what it says. Each question ends exactly once, with an answer or a sentence, and not more of them are under way than the bound. Decides nothing.
// rule 3: an answer is read with the generic decoder and told in text, since each has cost a round trip by then.

import type { RateLimitResponse } from "../../wire/gen/envoy/service/ratelimit/v3/rls_pb.ts";
import type { Permit } from "../authz/permit.ts";
import type { ClusterSlot } from "../balance/cluster.ts";
import { type Call, callUnary, type UnaryEnd, type UnaryMethod, unaryMethod } from "../http/unary-call.ts";
import type { Core } from "../runtime/core.ts";
import { decodeBinary } from "../xds/proto/binary.ts";
import { encodeBinary } from "../xds/proto/encode.ts";
import { RateLimitRequest, RateLimitResponse as ResponseType } from "../xds/proto/types.ts";

/** Calls under way in one process: at 20 ms each that is 50 000 requests a second. More are not made, and count as failures. */
export const mostLimitCalls = 1_024;
/** Of an answer: a status a descriptor, and some headers. */
export const mostAnswerBytes = 65_536;

export interface LimitAnswer {
  readonly over: boolean;
  /** `x-ratelimit-…` (draft-polli-ratelimit-headers-03); empty = the service named no limit. */
  readonly limitLines: string;
  /** Of the limit that is nearest; Infinity = the service named none. */
  readonly remaining: number;
  /** Until the limit that is nearest begins anew; 0 = not told. */
  readonly resetSeconds: number;
  /** What the service adds to the answer and to the request. */
  readonly answerLines: string;
  readonly requestLines: string;
}

const path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/** A service as a stage asks it. */
export function limitService(
  slot: ClusterSlot,
  authority: string,
  metadata: readonly { readonly name: string; readonly value: string }[],
  timeoutMs: number,
): UnaryMethod {
  return unaryMethod(slot, path, authority, "rate-limits", metadata, timeoutMs, mostAnswerBytes);
}

/** A RateLimitRequest. */
export function encodeRequest(
  domain: string,
  descriptors: readonly (readonly { readonly key: string; readonly value: string }[])[],
): Uint8Array {
  return encodeBinary(RateLimitRequest, { domain, descriptors: descriptors.map((entries) => ({ entries })) });
}

/** Who asks: told once, later than the call that asked. A sentence: there is no answer, and why. */
export interface LimitAsker {
  limitKnown(answer: LimitAnswer | string): void;
}

/** The questions of one process. */
export class LimitCalls {
  #under = 0;

  /** The question that is under way, or why there is none. */
  ask(core: Core, service: UnaryMethod, permit: Permit, message: Uint8Array, asker: LimitAsker): LimitCall | string {
    if (this.#under >= mostLimitCalls) return `${mostLimitCalls} requests wait for a rate limit service already`;
    this.#under++;
    const asked: LimitCall = new LimitCall(
      callUnary(core, permit, service, message, (end) => {
        asked.end();
        asker.limitKnown(judge(end));
      }),
      () => this.#under--,
    );
    return asked;
  }
}

/** One question. It ends by itself, or is given up. */
export class LimitCall {
  readonly #call: Call;
  readonly #ended: () => void;
  #over = false;

  constructor(call: Call, ended: () => void) {
    this.#call = call;
    this.#ended = ended;
  }

  /** For `LimitCalls`. */
  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#ended();
  }

  /** Ends it without a word. Idempotent. */
  giveUp(): void {
    this.end();
    this.#call.abandon();
  }
}

function judge(end: UnaryEnd): LimitAnswer | string {
  if (!end.ok) return end.sentence;
  try {
    return readAnswer(decodeBinary(ResponseType, end.message, ignore));
  } catch (error) {
    return `its answer is no RateLimitResponse: ${error instanceof Error ? error.message : String(error)}`;
  }
}

const ignore = (): void => {};

const overLimit = 2;
/** Seconds by RateLimit.Unit. */
const unitSeconds = [0, 1, 60, 3_600, 86_400, 2_592_000, 31_536_000, 604_800];

function readAnswer(response: RateLimitResponse): LimitAnswer {
  let nearest: RateLimitResponse["statuses"][number] | null = null;
  let windows = "";
  for (const status of response.statuses) {
    const limit = status.currentLimit;
    if (limit === undefined) continue;
    if (nearest === null || status.limitRemaining < nearest.limitRemaining) nearest = status;
    const seconds = unitSeconds[limit.unit] ?? 0;
    if (seconds > 0) windows += `, ${limit.requestsPerUnit};w=${seconds}${limit.name === "" ? "" : `;name="${clean(limit.name)}"`}`;
  }
  const reset = nearest?.durationUntilReset;
  const resetSeconds = reset === undefined ? 0 : Number(reset.seconds) + (reset.nanos > 0 ? 1 : 0);
  return {
    over: response.overallCode === overLimit,
    limitLines:
      nearest === null
        ? ""
        : `x-ratelimit-limit: ${nearest.currentLimit?.requestsPerUnit ?? 0}${windows}\r\nx-ratelimit-remaining: ${nearest.limitRemaining}\r\nx-ratelimit-reset: ${resetSeconds}\r\n`,
    remaining: nearest === null ? Number.POSITIVE_INFINITY : nearest.limitRemaining,
    resetSeconds,
    answerLines: linesOf(response.responseHeadersToAdd),
    requestLines: linesOf(response.requestHeadersToAdd),
  };
}

function linesOf(headers: readonly { readonly key: string; readonly value: string }[]): string {
  let out = "";
  // What could break out of its line, or says how the message is framed, is not passed on.
  for (const { key, value } of headers)
    if (headerName.test(key) && !framing.has(key.toLowerCase())) out += `${key.toLowerCase()}: ${clean(value)}\r\n`;
  return out;
}

const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const framing = new Set(["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"]);

function clean(value: string): string {
  let out = "";
  for (let i = 0; i < value.length && out.length < 1_024; i++) {
    const code = value.charCodeAt(i);
    out += code < 32 || code > 126 ? "?" : value[i];
  }
  return out;
}
