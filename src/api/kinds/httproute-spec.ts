// Owns: the shape of an HTTPRoute as the inside reads it, once validated. Filters are shared with GRPCRoute.

import type { KubeObject } from "../meta.ts";
import type { BackendRef, ParentRef } from "./gateway-refs.ts";

export interface HeaderValuePair {
  readonly name: string;
  readonly value: string;
}

export interface HeaderModifier {
  readonly set?: readonly HeaderValuePair[];
  readonly add?: readonly HeaderValuePair[];
  readonly remove?: readonly string[];
}

export interface PathModifier {
  readonly type: "ReplaceFullPath" | "ReplacePrefixMatch";
  readonly replaceFullPath?: string;
  readonly replacePrefixMatch?: string;
}

export interface CorsFilter {
  readonly allowOrigins?: readonly string[];
  readonly allowCredentials?: boolean;
  readonly allowMethods?: readonly string[];
  readonly allowHeaders?: readonly string[];
  readonly exposeHeaders?: readonly string[];
  /** Seconds. */
  readonly maxAge?: number;
}

export interface MirrorFilter {
  readonly backendRef: BackendRef;
  readonly percent?: number;
  readonly fraction?: { readonly numerator: number; readonly denominator?: number };
}

/** GEP-1494. */
export interface ExternalAuthFilter {
  readonly protocol: "HTTP" | "GRPC";
  readonly backendRef: BackendRef;
  readonly grpc?: { readonly allowedHeaders?: readonly string[] };
  readonly http?: {
    readonly path?: string;
    readonly allowedHeaders?: readonly string[];
    readonly allowedResponseHeaders?: readonly string[];
  };
  /** Bytes. */
  readonly forwardBody?: { readonly maxSize?: number };
}

export interface RouteFilter {
  readonly type: string;
  readonly requestHeaderModifier?: HeaderModifier;
  readonly responseHeaderModifier?: HeaderModifier;
  readonly requestRedirect?: {
    readonly scheme?: string;
    readonly hostname?: string;
    readonly port?: number;
    readonly statusCode?: number;
    readonly path?: PathModifier;
  };
  readonly urlRewrite?: { readonly hostname?: string; readonly path?: PathModifier };
  readonly requestMirror?: MirrorFilter;
  readonly cors?: CorsFilter;
  readonly externalAuth?: ExternalAuthFilter;
}

export interface ValueMatch {
  readonly type?: "Exact" | "RegularExpression";
  readonly name: string;
  readonly value: string;
}

export interface RouteMatch {
  readonly path?: { readonly type?: "Exact" | "PathPrefix" | "RegularExpression"; readonly value?: string };
  readonly headers?: readonly ValueMatch[];
  readonly queryParams?: readonly ValueMatch[];
  readonly method?: string;
}

/** What of a backend carries filters. */
export interface BackendFilters {
  readonly filters?: readonly RouteFilter[];
}

export interface RouteBackendRef extends BackendRef, BackendFilters {}

export interface RouteRetry {
  readonly codes?: readonly number[];
  readonly attempts?: number;
  readonly backoff?: string;
}

export interface SessionPersistence {
  readonly sessionName?: string;
  readonly absoluteTimeout?: string;
  readonly idleTimeout?: string;
  readonly type?: "Cookie" | "Header";
  readonly cookieConfig?: { readonly lifetimeType?: "Session" | "Permanent" };
}

export interface RouteRule {
  readonly name?: string;
  readonly matches?: readonly RouteMatch[];
  readonly filters?: readonly RouteFilter[];
  readonly backendRefs?: readonly RouteBackendRef[];
  readonly timeouts?: { readonly request?: string; readonly backendRequest?: string };
  readonly retry?: RouteRetry;
  readonly sessionPersistence?: SessionPersistence;
}

export interface HTTPRouteObject extends KubeObject {
  spec: { parentRefs?: ParentRef[]; hostnames?: string[]; rules?: RouteRule[] };
}

/** What the schema leaves open and code must not: filled in on reading, so that objects written before a default existed still work. */
export function matchesOf(rule: RouteRule): readonly RouteMatch[] {
  return rule.matches === undefined || rule.matches.length === 0 ? [{}] : rule.matches;
}
