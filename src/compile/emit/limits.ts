// Owns: rate limits and overload protection as HTTP filters: Envoy's own where it has them; beside its adaptive_concurrency a filter of ours that a proxy which does
// not know it may pass over. The proxy takes the filters in the order of their stages (proxy/chain/stages.ts).

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { SharedBy } from "../../api/kinds/policy-targets.ts";
import type { LimitEntry, LimitMatch } from "../../api/kinds/ratelimitpolicy-spec.ts";
import { ApiVersion } from "../../wire/gen/envoy/config/core/v3/config_source_pb.ts";
import {
  type HeaderMatcherSchema,
  RateLimit_Action_MetaData_Source,
  type RateLimit_ActionSchema,
  type RateLimitSchema,
} from "../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import { XRateLimitHeadersRFCVersion } from "../../wire/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.ts";
import { AdaptiveConcurrencySchema } from "../../wire/gen/envoy/extensions/filters/http/adaptive_concurrency/v3/adaptive_concurrency_pb.ts";
import { LocalRateLimitSchema } from "../../wire/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts";
import {
  RateLimitSchema as GlobalSchema,
  RateLimit_XRateLimitHeadersRFCVersion,
} from "../../wire/gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.ts";
import { DescriptorSchema } from "../../wire/gen/envoy/extensions/rate_limit_descriptors/expr/v3/expr_pb.ts";
import type { StatusCode } from "../../wire/gen/envoy/type/v3/http_status_pb.ts";
import { FractionalPercent_DenominatorType } from "../../wire/gen/envoy/type/v3/percent_pb.ts";
import { Admission_ShareBy, AdmissionSchema } from "../../wire/gen/weft/extensions/v1/overload_pb.ts";
import { controlPlaneCluster, globalLimitDomain, globalRuleKey, routeMetadata } from "../../wire/names.ts";
import type { LimitsPlan, OverloadPlan, RateRulePlan, RatesPlan } from "../plan/limits.ts";
import { any, duration, stringMatcher } from "./common.ts";

type HttpFilterInit = { name: string; configType: { case: "typedConfig"; value: Any }; isOptional?: boolean };
type ActionInit = MessageInitShape<typeof RateLimit_ActionSchema>;

const always = { defaultValue: { numerator: 100, denominator: FractionalPercent_DenominatorType.HUNDRED } };

export function limitFilters(limits: LimitsPlan | undefined): HttpFilterInit[] {
  if (limits === undefined) return [];
  const { rates, overload } = limits;
  const of = (scope: RateRulePlan["scope"]) => (rates?.rules ?? []).filter((rule) => rule.scope === scope);
  const [local, global] = [of("Local"), of("Global")];
  return [
    ...(rates === undefined || local.length === 0 ? [] : [localFilter(rates, local)]),
    ...(rates === undefined || global.length === 0 ? [] : [globalFilter(rates, global)]),
    ...(overload === undefined ? [] : overloadFilters(overload)),
  ];
}

/** Some rule is for certain paths: their normal form must be what is counted, or `//search` passes a limit on `/search`. */
export function limitsReadPaths(limits: LimitsPlan | undefined): boolean {
  return limits?.rates?.rules.some(({ match }) => match?.path !== undefined) === true;
}

/** The generated names are those that Weft answers with by itself; others go by number. */
const statusInit = (status: number) => ({ code: status as StatusCode });

function filter(name: string, value: Any): HttpFilterInit {
  return { name, configType: { case: "typedConfig", value } };
}

// ---- rates ----------------------------------------------------------------------------------------------------------------

function localFilter(rates: RatesPlan, rules: readonly RateRulePlan[]): HttpFilterInit {
  return filter(
    "envoy.filters.http.local_ratelimit",
    any(LocalRateLimitSchema, {
      statPrefix: "local_rate_limit",
      filterEnabled: always,
      filterEnforced: always,
      ...(rates.status === 429 ? {} : { status: statusInit(rates.status) }),
      ...(rates.tellClients ? { enableXRatelimitHeaders: XRateLimitHeadersRFCVersion.DRAFT_VERSION_03 } : {}),
      rateLimits: rules.map(limitInit),
      descriptors: rules.flatMap((rule) =>
        combinations(rule).map((entries) => ({
          entries,
          tokenBucket: { maxTokens: rule.burst, tokensPerFill: rule.requests, fillInterval: duration(rule.perMs) },
        })),
      ),
      maxDynamicDescriptors: mostValues,
    }),
  );
}

/** Values that `by` tells apart in one proxy; the one unused for longest begins anew. */
const mostValues = 10_000;

function globalFilter(rates: RatesPlan, rules: readonly RateRulePlan[]): HttpFilterInit {
  return filter(
    "envoy.filters.http.ratelimit",
    any(GlobalSchema, {
      domain: rates.service?.domain ?? globalLimitDomain,
      timeout: duration(rates.timeoutMs),
      failureModeDeny: rates.denyOnFailure,
      ...(rates.status === 429 ? {} : { rateLimitedStatus: statusInit(rates.status) }),
      ...(rates.tellClients ? { enableXRatelimitHeaders: RateLimit_XRateLimitHeadersRFCVersion.DRAFT_VERSION_03 } : {}),
      rateLimitService: {
        grpcService: {
          targetSpecifier: {
            case: "envoyGrpc",
            value:
              rates.service === undefined
                ? { clusterName: controlPlaneCluster }
                : { clusterName: rates.service.cluster, authority: rates.service.host },
          },
        },
        transportApiVersion: ApiVersion.V3,
      },
      rateLimits: rules.map(limitInit),
    }),
  );
}

const matchKey = "weft.dev/match";

function limitInit(rule: RateRulePlan): MessageInitShape<typeof RateLimitSchema> {
  if (rule.descriptor !== undefined) return { actions: descriptorActions(rule, rule.descriptor) };
  return {
    actions: [
      rule.ofRoute === true ? routeAction(globalRuleKey, rule.id) : fixedAction(globalRuleKey, rule.id),
      ...(rule.match === undefined ? [] : [matchAction(rule.match, matchKey, "true")]),
      ...rule.by.map((by) => byAction(by, keyOf(by))),
    ],
  };
}

/** Whether a request is meant shows in entries that the descriptor has anyway: its service must find it as its configuration says. */
function descriptorActions(rule: RateRulePlan, descriptor: readonly LimitEntry[]): ActionInit[] {
  let { match, ofRoute } = rule;
  return descriptor.map(({ key, value, type, header }) => {
    if (value === undefined) return byAction({ type: type ?? "RemoteAddress", ...(header === undefined ? {} : { header }) }, key);
    if (match !== undefined) {
      const made = matchAction(match, key, value);
      match = undefined;
      return made;
    }
    if (ofRoute === undefined) return fixedAction(key, value);
    ofRoute = undefined;
    return routeAction(key, rule.id);
  });
}

function fixedAction(descriptorKey: string, descriptorValue: string): ActionInit {
  return { actionSpecifier: { case: "genericKey", value: { descriptorKey, descriptorValue } } };
}

/** An entry that routes of the rule have, with the value that they say. */
function routeAction(descriptorKey: string, id: string): ActionInit {
  const path = [routeMetadata.limits, id].map((key) => ({ segment: { case: "key" as const, value: key } }));
  return {
    actionSpecifier: {
      case: "metadata",
      value: { descriptorKey, metadataKey: { key: routeMetadata.filter, path }, source: RateLimit_Action_MetaData_Source.ROUTE_ENTRY },
    },
  };
}

/** The entries that a rule's descriptors can have: each of `by` is there or not. */
function combinations(rule: RateRulePlan): { key: string; value: string }[][] {
  const fixed = [{ key: globalRuleKey, value: rule.id }, ...(rule.match === undefined ? [] : [{ key: matchKey, value: "true" }])];
  let all = [fixed];
  for (const by of rule.by) {
    const key = keyOf(by);
    // Every request has an address.
    all = all.flatMap((entries) => [[...entries, { key, value: "" }], ...(by.type === "RemoteAddress" ? [] : [entries])]);
  }
  return all;
}

function keyOf({ type, header }: SharedBy): string {
  switch (type) {
    case "Identity":
      return "identity";
    case "Header":
      return `header:${(header ?? "").toLowerCase()}`;
    case "RemoteAddress":
      return "remote_address";
  }
}

function byAction(by: SharedBy, descriptorKey: string): ActionInit {
  switch (by.type) {
    case "Identity":
      return {
        actionSpecifier: {
          case: "extension",
          value: {
            name: "envoy.rate_limit_descriptors.expr",
            typedConfig: any(DescriptorSchema, {
              descriptorKey,
              skipIfError: true,
              exprSpecifier: { case: "text", value: "connection.uri_san_peer_certificate" },
            }),
          },
        },
      };
    case "Header":
      return {
        actionSpecifier: {
          case: "requestHeaders",
          value: { headerName: (by.header ?? "").toLowerCase(), descriptorKey, skipIfAbsent: true },
        },
      };
    case "RemoteAddress":
      return { actionSpecifier: { case: "remoteAddress", value: {} } };
  }
}

function matchAction({ path, method, headers = [] }: LimitMatch, descriptorKey: string, descriptorValue: string): ActionInit {
  const matchers: MessageInitShape<typeof HeaderMatcherSchema>[] = [];
  if (path !== undefined) matchers.push(textMatch(":path", "regex", pathExpression(path)));
  if (method !== undefined) matchers.push(textMatch(":method", "exact", method));
  for (const { name, type, value = "" } of headers)
    matchers.push(
      type === "Present"
        ? { name: name.toLowerCase(), headerMatchSpecifier: { case: "presentMatch", value: true } }
        : textMatch(name.toLowerCase(), type === "Exact" ? "exact" : type === "Prefix" ? "prefix" : "regex", value),
    );
  return { actionSpecifier: { case: "headerValueMatch", value: { descriptorKey, descriptorValue, headers: matchers } } };
}

function textMatch(name: string, kind: "exact" | "prefix" | "regex", value: string): MessageInitShape<typeof HeaderMatcherSchema> {
  return { name, headerMatchSpecifier: { case: "stringMatch", value: stringMatcher({ kind, value }) } };
}

/** `:path` has the query; what a rule says has not. */
function pathExpression({ type, value }: NonNullable<LimitMatch["path"]>): string {
  const query = "(\\?.*)?";
  if (type === "RegularExpression") return `(?:${value})${query}`;
  const plain = value.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  if (type === "Exact") return `${plain}${query}`;
  const stem = plain.endsWith("/") ? plain.slice(0, -1) : plain;
  return `${stem}(/[^?]*)?${query}`;
}

// ---- overload -------------------------------------------------------------------------------------------------------------

/** Of Envoy's measuring, where a choice must be made: as its documentation's example has it. */
const updateMs = 100;
const minRttMs = 60_000;

function overloadFilters(plan: OverloadPlan): HttpFilterInit[] {
  const most = plan.concurrency > 0 ? Math.max(2, plan.concurrency) : plan.maxConcurrency;
  const status = plan.status === 503 ? {} : { concurrencyLimitExceededStatus: statusInit(plan.status) };
  const ours = any(AdmissionSchema, {
    concurrency: plan.concurrency,
    maxConcurrency: plan.maxConcurrency ?? 0,
    maxQueue: plan.maxQueue ?? 0,
    ...(plan.targetDelayMs === undefined ? {} : { targetDelay: duration(plan.targetDelayMs) }),
    criticalityHeader: plan.criticalityHeader ?? "",
    shareBy:
      plan.shareBy === undefined
        ? Admission_ShareBy.NOTHING
        : plan.shareBy.type === "Header"
          ? Admission_ShareBy.HEADER
          : Admission_ShareBy.PEER_IDENTITY,
    shareHeader: plan.shareBy?.type === "Header" ? (plan.shareBy.header ?? "") : "",
    status: plan.status,
  });
  return [
    filter(
      "envoy.filters.http.adaptive_concurrency",
      any(AdaptiveConcurrencySchema, {
        ...status,
        concurrencyControllerConfig: {
          case: "gradientControllerConfig",
          value: {
            concurrencyLimitParams: {
              ...(most === undefined ? {} : { maxConcurrencyLimit: most }),
              concurrencyUpdateInterval: duration(updateMs),
            },
            minRttCalcParams: { interval: duration(minRttMs), requestCount: 50 },
          },
        },
      }),
    ),
    { ...filter("weft.filters.http.admission", ours), isOptional: true },
  ];
}
