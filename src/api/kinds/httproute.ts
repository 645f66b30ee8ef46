// Owns: gateway.networking.k8s.io HTTPRoute attached to Services (GAMMA). Never: Gateways as parents (refused until ingress is built).

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject } from "../meta.ts";
import { extendSchema, type Schema } from "../schema.ts";
import httpRouteSchema from "../schemas/httproute.json" with { type: "json" };
import { httpRouteRules } from "./httproute-rules.ts";
import type { HTTPRouteObject } from "./httproute-spec.ts";

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
  notes: [
    'Parents are Services: write `group: ""`, `kind: Service`. A route in the Service\'s namespace speaks for all callers; one in another namespace for callers of that namespace, instead of the former.',
    "Precedence as in Gateway API: exact path, then regular expression, then longest prefix; then method, number of headers, number of query parameters; then the oldest route, then its name, then the order of rules.",
    "Once a Service has a route, a request that no rule matches is answered with 404. CONNECT tunnels follow the rule that matches everything, or else go to the Service.",
    "A rule without backends, or whose backends cannot be resolved, answers with 500; a backend that cannot be resolved loses its share of the traffic with 500. The route's status says which and why.",
    "Backends in other namespaces need a ReferenceGrant, which this version has not: RefNotPermitted.",
    "Every route is retried up to twice when the request certainly reached no application, or is idempotent and was cut short; `retry` changes number and adds status codes. There is no timeout unless `timeouts` says so.",
    "Regular expressions are RE2 and match the whole path or value.",
    "Refused: two rules, of one route or of two routes on a common parent, that match the same requests and do different things.",
  ],
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
