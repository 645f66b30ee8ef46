// Owns: gateway.networking.k8s.io HTTPRoute, attached to Services (GAMMA) and to Gateways.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { Schema } from "../schema.ts";
import httpRoutePublished from "../schemas/httproute.json" with { type: "json" };
import { hostNames, parentNames } from "./gateway-refs.ts";
import { httpRouteRules } from "./httproute-rules.ts";
import { httpRouteSchema } from "./httproute-schema.ts";

export const httpRouteKind = defineKind({
  group: "gateway.networking.k8s.io",
  versions: ["v1", "v1beta1"],
  kind: "HTTPRoute",
  plural: "httproutes",
  categories: ["gateway-api"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: httpRouteSchema(httpRoutePublished as Schema) },
  unimplemented: {
    "spec.useDefaultGateways": "name a Gateway or a Service in spec.parentRefs",
    "spec.rules[].filters[].extensionRef": "remove the filter",
    "spec.rules[].filters[].type=ExtensionRef": "remove the filter",
    "spec.rules[].backendRefs[].filters[].extensionRef": "remove the filter",
    "spec.rules[].backendRefs[].filters[].type=ExtensionRef": "remove the filter",
  },
  notes: [
    'Parents are Services (`group: ""`, `kind: Service`) and Gateways. A route in the Service\'s namespace speaks for all callers; one in another namespace for callers of that namespace, instead of the former.',
    "Precedence as in Gateway API: on a Gateway the longest host first; exact path, then regular expression, then longest prefix; then method, number of headers, number of query parameters; then the oldest route, then its name, then the order of rules.",
    "Once a Service has a route, a request that no rule matches is answered with 404. CONNECT tunnels follow the rule that matches everything, or else go to the Service.",
    "A rule without backends, or whose backends cannot be resolved, answers with 500; a backend that cannot be resolved loses its share of the traffic with 500. The route's status says which and why.",
    "Backends in other namespaces need a ReferenceGrant there: else RefNotPermitted.",
    "`hostnames` belong to Gateways; on a route that has Services for parents only they would do nothing, and are refused.",
    "A GRPCRoute on the same port of a Service goes before: an HTTPRoute beside it is not accepted there (`Conflicted`).",
    "Every route is retried up to twice when the request certainly reached no application, or is idempotent and was cut short; `retry` changes number and adds status codes and a pause. There is no timeout unless `timeouts` says so.",
    "ExternalAuth holds a request until the service has answered, for at most a second, and refuses it with 403 where the service cannot be asked; a rule whose service cannot be resolved answers with 500. Of a body longer than `forwardBody.maxSize` the service is told the beginning.",
    "A filter of a backend is for that backend's share of the requests, and goes before the rule's of the same type; copies (RequestMirror) are sent for both. A share that is redirected is not forwarded. What a browser asks before a request (CORS) has a share of its own: give every backend the same policy, or put it on the rule.",
    "Regular expressions are RE2 and match the whole path or value.",
    "Refused: two rules, of one route or of two routes on a common parent, that match the same requests and do different things.",
  ],
  rules: httpRouteRules,
  columns: [
    textColumn("Hostnames", "Host names of the route; always empty for routes on Services.", hostNames),
    textColumn("Parents", "Services and Gateways the route is attached to.", parentNames, 1),
    ageColumn,
  ],
});
