// Owns: how HedgingPolicies fold into what callers of a port of a Service do. Never writes a status (../status-limits.ts does).

import { durationMs } from "../../api/kinds/gateway-refs.ts";
import { hedgingSource } from "../limit-sources.ts";
import type { RoutePlan } from "../plan/routes.ts";
import { derived } from "../world.ts";
import { deciding } from "./limit-targets.ts";

/** By key of the Service, blank, name of the port; undefined = callers do not hedge. */
export const hedgeAfterMs = derived<number | undefined>((world, text) => {
  const [service = "", port = ""] = text.split(" ");
  const policy = deciding(world, hedgingSource, "Service", service, port);
  return policy === undefined ? undefined : durationMs(policy.spec.after);
});

/** A route with the hedge of the service that it leads to. A time-out for each try is the route's own word, and without retries there is no second try. */
export function withHedge(route: RoutePlan, afterMs: number | undefined): RoutePlan {
  const { action } = route;
  if (afterMs === undefined || action.kind !== "forward" || action.retry.attempts === 0 || action.retry.perTryTimeoutMs > 0) return route;
  return { ...route, action: { ...action, hedgeAfterMs: afterMs } };
}
