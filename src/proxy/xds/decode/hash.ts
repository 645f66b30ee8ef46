// Owns: envoy.config.route.v3.RouteAction.hash_policy to HashConfig: which part of a request is its key where a cluster hashes.

import type { RouteAction_HashPolicy } from "../../../wire/gen/envoy/config/route/v3/route_components_pb.ts";
import type { HashConfig } from "../../config.ts";
import { at, cookieMillis, type Gate } from "./gate.ts";

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

export function hashPolicies(gate: Gate, policies: readonly RouteAction_HashPolicy[], path: string): readonly HashConfig[] {
  return policies.flatMap(({ policySpecifier: one, terminal }, n): HashConfig[] => {
    const where = `${path}[${n}]`;
    switch (one.case) {
      case "header": {
        const { headerName } = one.value;
        if (!token.test(headerName)) gate.add(at(where, "header.header_name"), "must be the name of a header field");
        return [{ kind: "header", name: headerName, terminal }];
      }
      case "cookie": {
        const { name, ttl, path: cookiePath } = one.value;
        if (!token.test(name)) gate.add(at(where, "cookie.name"), "must be the name of a cookie");
        if (/[;\r\n\0]/.test(cookiePath)) gate.add(at(where, "cookie.path"), "must have no ; or line ends");
        const ttlMs = ttl === undefined ? null : cookieMillis(gate, at(where, "cookie.ttl"), ttl, 0);
        return [{ kind: "cookie", name, ttlMs, path: cookiePath, terminal }];
      }
      case "connectionProperties":
        if (!one.value.sourceIp) gate.add(at(where, "connection_properties.source_ip"), "must be true: there is nothing else to hash");
        return [{ kind: "source", terminal }];
      case "queryParameter":
        if (one.value.name === "") gate.add(at(where, "query_parameter.name"), "must not be empty");
        return [{ kind: "query", name: one.value.name, terminal }];
      default:
        gate.add(where, "needs one of header, cookie, connection_properties, query_parameter");
        return [];
    }
  });
}
