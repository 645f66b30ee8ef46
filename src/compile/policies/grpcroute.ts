// Owns: how one match of one rule of a GRPCRoute becomes a route of the plan, and how high it ranks. Pure; knows no parents.

import type { GRPCRouteMatch, GRPCRouteRule } from "../../api/kinds/grpcroute-spec.ts";
import { quoteRegex } from "../../api/kinds/httproute-filters.ts";
import { defaultRetry, type MatchPlan, type RoutePlan } from "../plan/routes.ts";
import {
  type BackendOf,
  backendPlans,
  everyRoute,
  fittingShare,
  mirrorPlans,
  nobody,
  sessionPlan,
  sharesOf,
  valueMatches,
} from "./route-rules.ts";

/** Gateway API, GRPCRouteRule.matches: longest service, longest method, most headers; exact before regular expressions, which the standard leaves open. */
export function grpcRank(match: GRPCRouteMatch): number[] {
  const { type = "Exact", service = "", method = "" } = match.method ?? {};
  return [type === "Exact" && match.method !== undefined ? 1 : 0, service.length, method.length, match.headers?.length ?? 0, 0];
}

/** One, and one more for each backend that has mirrors of its own. */
export function planGrpcRule(name: string, rule: GRPCRouteRule, match: GRPCRouteMatch, backendOf: BackendOf): RoutePlan[] {
  const plain = matchOf(match);
  return sharesOf(rule, backendOf).map((share) => planShare(name, share.rule, fittingShare(plain, share), backendOf));
}

function planShare(name: string, rule: GRPCRouteRule, match: MatchPlan, backendOf: BackendOf): RoutePlan {
  const base = everyRoute(name, match, rule);
  const backends = backendPlans(rule.backendRefs ?? [], backendOf);
  if (backends.every((backend) => backend.missing || backend.weight === 0)) return { ...base, action: nobody("GRPCRoute", name, backends) };
  return {
    ...base,
    action: { kind: "forward", backends, timeoutMs: 0, retry: defaultRetry, ...mirrorPlans(rule.filters ?? [], backendOf) },
    ...(rule.sessionPersistence === undefined ? {} : { session: sessionPlan(name, rule.sessionPersistence) }),
  };
}

/** The path of a call is `/SERVICE/METHOD` (gRPC over HTTP/2, Requests). */
function matchOf(match: GRPCRouteMatch): MatchPlan {
  return { path: pathOf(match.method), method: undefined, headers: valueMatches(match.headers, true), query: [] };
}

function pathOf(method: GRPCRouteMatch["method"]): MatchPlan["path"] {
  if (method === undefined) return { kind: "prefix", value: "/" };
  const { type = "Exact", service, method: name } = method;
  if (type === "Exact") {
    if (service !== undefined && name !== undefined) return { kind: "exact", value: `/${service}/${name}` };
    if (service !== undefined) return { kind: "prefix", value: `/${service}/` };
    return { kind: "regex", value: `/[^/]+/${quoteRegex(name ?? "")}` };
  }
  const part = (text: string | undefined) => (text === undefined ? "[^/]+" : `(?:${text})`);
  return { kind: "regex", value: `/${part(service)}/${part(name)}` };
}
