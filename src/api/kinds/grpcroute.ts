// Owns: gateway.networking.k8s.io GRPCRoute, attached to Services and Gateways.

import { ageColumn, defineKind, textColumn } from "../define.ts";
import type { KubeObject, Violation } from "../meta.ts";
import { type Schema, show } from "../schema.ts";
import grpcRoutePublished from "../schemas/grpcroute.json" with { type: "json" };
import { checkBackends, checkHostnames, checkParents, checkRegex, checkRuleNames, gather, hostNames, parentNames } from "./gateway-refs.ts";
import type { GRPCRouteObject } from "./grpcroute-spec.ts";
import { checkFilters } from "./httproute-filters.ts";
import { checkEachBackend, checkSession, checkValues } from "./httproute-rules.ts";
import { grpcRouteSchema } from "./httproute-schema.ts";

export const grpcRouteKind = defineKind({
  group: "gateway.networking.k8s.io",
  versions: ["v1", "v1alpha2"],
  kind: "GRPCRoute",
  plural: "grpcroutes",
  categories: ["gateway-api"],
  namespaced: true,
  hasStatus: true,
  requiredFields: ["spec"],
  fields: { spec: grpcRouteSchema(grpcRoutePublished as Schema) },
  unimplemented: {
    "spec.useDefaultGateways": "name a Gateway or a Service in spec.parentRefs",
    "spec.rules[].filters[].extensionRef": "remove the filter",
    "spec.rules[].filters[].type=ExtensionRef": "remove the filter",
    "spec.rules[].backendRefs[].filters[].extensionRef": "remove the filter",
    "spec.rules[].backendRefs[].filters[].type=ExtensionRef": "remove the filter",
  },
  notes: [
    "Parents as of an HTTPRoute; the port of a Service must speak HTTP/2 (`appProtocol: grpc`, `h2c` or `http2`, or a name like `grpc-api`), or HTTP.",
    "Precedence as in Gateway API: on a Gateway the longest host first; the longest service, then the longest method, then the number of headers; then the oldest route, then its name, then the order of rules. Exact goes before regular expressions.",
    "On a port of a Service a GRPCRoute goes before HTTPRoutes, which are not accepted there then (`Conflicted`).",
    "A filter of a backend is for that backend's share of the calls; copies (RequestMirror) are sent for rule and backend.",
    "A call that no rule matches is answered with 404, which gRPC clients show as UNIMPLEMENTED.",
  ],
  rules: grpcRouteRules,
  columns: [
    textColumn("Hostnames", "Host names of the route; always empty for routes on Services.", hostNames),
    textColumn("Parents", "Services and Gateways the route is attached to.", parentNames, 1),
    ageColumn,
  ],
});

function grpcRouteRules(object: KubeObject): Violation[] {
  const route = object as GRPCRouteObject;
  const rules = route.spec.rules ?? [];
  return gather((add) => {
    checkParents(route, add);
    checkHostnames(route, add);
    for (const [at, rule] of rules.entries()) {
      const path = `spec.rules[${at}]`;
      for (const [which, match] of (rule.matches ?? []).entries()) {
        const where = `${path}.matches[${which}]`;
        const { type = "Exact", service, method } = match.method ?? {};
        if (match.method !== undefined && service === undefined && method === undefined)
          add(`${where}.method`, "needs a service or a method; leave it out to match every call");
        for (const [name, value] of Object.entries({ service, method })) {
          if (value === undefined) continue;
          if (type === "RegularExpression") checkRegex(value, `${where}.method.${name}`, add);
          else if (!(name === "service" ? /^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$/ : /^[A-Za-z_][A-Za-z0-9_]*$/).test(value))
            add(`${where}.method.${name}`, `${show(value)} is no name of a gRPC ${name}${name === "service" ? ", like shop.v1.Cart" : ""}`);
        }
        // Proxies look for both in one path.
        if (type === "RegularExpression" && service !== undefined && method !== undefined)
          checkRegex(`/(?:${service})/(?:${method})`, `${where}.method`, add);
        checkValues(match.headers ?? [], `${where}.headers`, true, add);
      }
      const filters = checkFilters(rule.filters ?? [], path, [], add);
      checkBackends(rule.backendRefs ?? [], path, add);
      checkEachBackend(rule.backendRefs ?? [], path, { pathTypes: [], filters }, add);
      if (rule.sessionPersistence !== undefined) checkSession(rule.sessionPersistence, rule.backendRefs ?? [], path, add);
    }
    checkRuleNames(rules, add);
  });
}
