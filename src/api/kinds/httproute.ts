// Owns: gateway.networking.k8s.io HTTPRoute attached to Services (GAMMA). Never: Gateways as parents (refused until ingress is built).

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject } from "../meta.ts";
import { extendSchema, type Schema } from "../schema.ts";
import httpRouteSchema from "../schemas/httproute.json" with { type: "json" };
import { httpRouteRules } from "./httproute-rules.ts";

export interface ParentRef {
  readonly group?: string;
  readonly kind?: string;
  readonly namespace?: string;
  readonly name: string;
  readonly port?: number;
  readonly sectionName?: string;
}

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

export interface BackendRef {
  readonly group?: string;
  readonly kind?: string;
  readonly namespace?: string;
  readonly name: string;
  readonly port?: number;
  readonly weight?: number;
}

export interface RouteRetry {
  readonly codes?: readonly number[];
  readonly attempts?: number;
}

export interface RouteRule {
  readonly name?: string;
  readonly matches?: readonly RouteMatch[];
  readonly filters?: readonly RouteFilter[];
  readonly backendRefs?: readonly BackendRef[];
  readonly timeouts?: { readonly request?: string; readonly backendRequest?: string };
  readonly retry?: RouteRetry;
}

export interface HTTPRouteObject extends KubeObject {
  spec: { parentRefs?: ParentRef[]; hostnames?: string[]; rules?: RouteRule[] };
}

/** Gateway API duration (GEP-2257): `1h30m`, `500ms`. The schema's pattern has held. */
export function durationMs(text: string): number {
  const unitMs = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const;
  let total = 0;
  for (const [, digits, unit] of text.matchAll(/(\d+)(ms|h|m|s)/g)) total += Number(digits) * unitMs[unit as keyof typeof unitMs];
  return total;
}

/** Newer than the schema that the package publishes: rule names (Gateway API 1.2) and retries (GEP-1731). */
const schema = extendSchema(httpRouteSchema as Schema, "rules[]", {
  name: { type: "string", minLength: 1, maxLength: 253, pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" },
  retry: {
    type: "object",
    properties: {
      codes: { type: "array", items: { type: "integer", minimum: 400, maximum: 599 }, maxItems: 16 },
      attempts: { type: "integer", minimum: 1, maximum: 10 },
    },
  },
});

export const httpRouteKind = defineKind({
  group: "gateway.networking.k8s.io",
  versions: ["v1", "v1beta1"],
  kind: "HTTPRoute",
  plural: "httproutes",
  categories: ["gateway-api"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: schema },
  unimplemented: {
    "spec.hostnames":
      "a route on a Service takes every name of that Service; match on headers instead (Gateway API ignores hostnames here, so they would do nothing)",
    "spec.useDefaultGateways": "Gateways are not built; name a Service in spec.parentRefs",
    "spec.rules[].filters[].requestMirror": "remove the filter",
    "spec.rules[].filters[].extensionRef": "remove the filter",
    "spec.rules[].filters[].cors": "remove the filter",
    "spec.rules[].filters[].externalAuth": "remove the filter; use an AuthorizationPolicy",
    "spec.rules[].filters[].type=RequestMirror": "remove the filter",
    "spec.rules[].filters[].type=ExtensionRef": "remove the filter",
    "spec.rules[].filters[].type=CORS": "remove the filter",
    "spec.rules[].filters[].type=ExternalAuth": "remove the filter; use an AuthorizationPolicy",
    "spec.rules[].backendRefs[].filters": "put the filters on the rule",
    "spec.rules[].sessionPersistence": "remove it",
    "spec.rules[].retry.backoff": "retries go to another endpoint at once; remove it",
  },
  rules: httpRouteRules,
  columns: [
    textColumn("Hostnames", "Host names of the route; always empty for routes on Services.", (object) => {
      const names = (object as HTTPRouteObject).spec?.hostnames ?? [];
      return names.length === 0 ? "" : JSON.stringify(names);
    }),
    textColumn("Parents", "Services the route is attached to.", parents, 1),
    ageColumn,
  ],
});

function parents(object: KubeObject): string {
  return ((object as HTTPRouteObject).spec?.parentRefs ?? [])
    .map((ref) => `${ref.name}${ref.port === undefined ? "" : `:${ref.port}`}`)
    .join(",");
}

/** What the schema leaves open and code must not: filled in on reading, so that objects written before a default existed still work. */
export function matchesOf(rule: RouteRule): readonly RouteMatch[] {
  return rule.matches === undefined || rule.matches.length === 0 ? [{}] : rule.matches;
}
