// Owns: the rate limit service of the mesh (`envoy.service.ratelimit.v3.RateLimitService`): who may ask, which RateLimitPolicy a descriptor means, and the answer.
// Counts in memory (./counters.ts). Never reads or writes the store.

import type { ServerDuplexStream, ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import { status } from "@grpc/grpc-js";
import type { RateLimitPolicyObject } from "../../api/kinds/ratelimitpolicy-spec.ts";
import { limitUnits, ruleName } from "../../api/kinds/ratelimitpolicy-spec.ts";
import type { Clock } from "../../base/clock.ts";
import type {
  RateLimitRequest,
  RateLimitResponse,
  RateLimitResponse_DescriptorStatus,
  RateLimitResponse_RateLimit_Unit,
} from "../../wire/gen/envoy/service/ratelimit/v3/rls_pb.ts";
import { globalLimitDomain, globalRuleKey } from "../../wire/names.ts";
import type { Identity } from "../../wire/spiffe.ts";
import { codeOf } from "../xds/caller.ts";
import type { Ask, Counters } from "./counters.ts";

/** Descriptors of one request: a policy has at most so many rules, and a port few policies. */
export const mostDescriptors = 64;
/** Characters of a descriptor, which is its counter's name; of a longer one (a client may send any header) the digest. */
export const mostValue = 1_024;
/** How long a certificate that was looked at is believed without another look. */
const believedMs = 10_000;
const mostBelieved = 10_000;

type AnyCall = Pick<ServerDuplexStream<unknown, unknown>, "metadata" | "getAuthContext">;
type WhoIs = { readonly ok: true; readonly identity: Identity } | { readonly ok: false; readonly reason: string; readonly away?: true };

export interface LimitDeps {
  readonly clock: Clock;
  readonly counters: Counters;
  readonly policy: (namespace: string, name: string) => RateLimitPolicyObject | undefined;
  readonly decided: (over: boolean) => void;
}

const codeOk = 1;
const codeOver = 2;

/** Answers a request of a caller. A sentence: it may not ask this. */
export function decide(deps: LimitDeps, caller: Identity, request: RateLimitRequest): RateLimitResponse | string {
  if (request.descriptors.length > mostDescriptors) return `${request.descriptors.length} descriptors are more than ${mostDescriptors}`;
  const asks: (Ask & { readonly unit: number; readonly name: string })[] = [];
  const at: (number | undefined)[] = [];
  for (const { entries } of request.descriptors) {
    const [first] = entries;
    // Other domains and descriptors are nobody's limits here, as Envoy's own service has it.
    if (request.domain !== globalLimitDomain || first?.key !== globalRuleKey) {
      at.push(undefined);
      continue;
    }
    const [namespace = "", name = "", rule = ""] = first.value.split("/");
    if (namespace !== caller.namespace)
      return `a workload of namespace ${caller.namespace} may not use up limits of namespace ${namespace}`;
    const found = deps.policy(namespace, name)?.spec.rules.find((each, n) => each.scope === "Global" && ruleName(each, n) === rule);
    const unit = limitUnits.get(found?.per ?? "");
    // Without a number it asks a service of its own.
    if (found?.requests === undefined || unit === undefined) {
      at.push(undefined);
      continue;
    }
    const key = entries.map((entry) => `${entry.key}\u0000${entry.value}`).join("\u0000");
    at.push(asks.length);
    asks.push({
      key: key.length > mostValue ? new Bun.CryptoHasher("sha256").update(key).digest("hex") : key,
      limit: found.requests,
      windowMs: unit.ms,
      unit: unit.number,
      name: first.value,
    });
  }
  const used = deps.counters.take(asks, request.hitsAddend || 1, deps.clock.now());
  const over = used.some((each) => each.over);
  deps.decided(over);
  return {
    $typeName: "envoy.service.ratelimit.v3.RateLimitResponse",
    overallCode: over ? codeOver : codeOk,
    statuses: at.map((n): RateLimitResponse_DescriptorStatus => {
      const base = { $typeName: "envoy.service.ratelimit.v3.RateLimitResponse.DescriptorStatus", code: codeOk, limitRemaining: 0 } as const;
      const ask = n === undefined ? undefined : asks[n];
      const usage = n === undefined ? undefined : used[n];
      if (ask === undefined || usage === undefined) return base;
      return {
        ...base,
        code: usage.over ? codeOver : codeOk,
        limitRemaining: usage.remaining,
        currentLimit: {
          $typeName: "envoy.service.ratelimit.v3.RateLimitResponse.RateLimit",
          requestsPerUnit: ask.limit,
          unit: ask.unit as RateLimitResponse_RateLimit_Unit,
          name: ask.name,
        },
        durationUntilReset: {
          $typeName: "google.protobuf.Duration",
          seconds: BigInt(Math.floor(usage.resetMs / 1_000)),
          nanos: Math.floor(usage.resetMs % 1_000) * 1_000_000,
        },
      };
    }),
    responseHeadersToAdd: [],
    requestHeadersToAdd: [],
  };
}

/** The call, for the server. `whoIs` looks at the caller's certificate; it costs more than all the rest, so what it says is kept for a moment. */
export function limitCall(deps: LimitDeps, whoIs: (call: AnyCall) => Promise<WhoIs>) {
  const believed = new Map<string, { readonly who: WhoIs; readonly untilMs: number }>();
  const callerOf = (call: AnyCall): WhoIs | Promise<WhoIs> => {
    const print = call.metadata.get("authorization").length > 0 ? undefined : call.getAuthContext().sslPeerCertificate?.fingerprint256;
    if (print === undefined) return whoIs(call);
    const known = believed.get(print);
    const nowMs = deps.clock.mono();
    if (known !== undefined && known.untilMs > nowMs) return known.who;
    return whoIs(call).then((who) => {
      if (believed.size >= mostBelieved) believed.clear();
      believed.set(print, { who, untilMs: nowMs + believedMs });
      return who;
    });
  };
  return (call: ServerUnaryCall<RateLimitRequest, RateLimitResponse>, reply: sendUnaryData<RateLimitResponse>): void => {
    const answer = (who: WhoIs): void => {
      if (!who.ok) {
        reply({ code: codeOf(who), details: who.reason });
        return;
      }
      const decided = decide(deps, who.identity, call.request);
      if (typeof decided === "string") reply({ code: status.PERMISSION_DENIED, details: decided });
      else reply(null, decided);
    };
    const who = callerOf(call);
    if ("then" in who) who.then(answer, () => reply({ code: status.INTERNAL, details: "who is calling could not be found out" }));
    else answer(who);
  };
}
