// Owns: the shape of a GRPCRoute as the inside reads it, once validated.

import type { KubeObject } from "../meta.ts";
import type { ParentRef } from "./gateway-refs.ts";
import type { RouteBackendRef, RouteFilter, SessionPersistence, ValueMatch } from "./httproute-spec.ts";

export interface GRPCRouteMatch {
  readonly method?: { readonly type?: "Exact" | "RegularExpression"; readonly service?: string; readonly method?: string };
  readonly headers?: readonly ValueMatch[];
}

export interface GRPCRouteRule {
  readonly name?: string;
  readonly matches?: readonly GRPCRouteMatch[];
  readonly filters?: readonly RouteFilter[];
  readonly backendRefs?: readonly RouteBackendRef[];
  readonly sessionPersistence?: SessionPersistence;
}

export interface GRPCRouteObject extends KubeObject {
  spec: { parentRefs?: ParentRef[]; hostnames?: string[]; rules?: GRPCRouteRule[] };
}

export function grpcMatchesOf(rule: GRPCRouteRule): readonly GRPCRouteMatch[] {
  return rule.matches === undefined || rule.matches.length === 0 ? [{}] : rule.matches;
}
