// Owns: envoy.extensions.filters.http.cors.v3.CorsPolicy to CorsConfig. Never answers anybody.

import type { CorsPolicy } from "../../../wire/gen/envoy/extensions/filters/http/cors/v3/cors_pb.ts";
import type { CorsConfig } from "../../config.ts";
import { at, type Gate } from "./gate.ts";
import { hasControl } from "./header-edits.ts";
import { stringMatch } from "./match.ts";

export function decodeCorsPolicy(gate: Gate, policy: CorsPolicy, path: string): CorsConfig {
  for (const [field, value] of [
    ["allow_methods", policy.allowMethods],
    ["allow_headers", policy.allowHeaders],
    ["expose_headers", policy.exposeHeaders],
    ["max_age", policy.maxAge],
  ] as const) {
    if (hasControl(value)) gate.add(at(path, field), "must not contain control characters");
  }
  if (policy.maxAge !== "" && !/^-?\d+$/.test(policy.maxAge))
    gate.add(at(path, "max_age"), `"${policy.maxAge}" is not a number of seconds`);
  return {
    // `*` stands for any origin, as in Envoy.
    origins: policy.allowOriginStringMatch.map((one, n) =>
      one.matchPattern.case === "exact" && one.matchPattern.value === "*"
        ? { kind: "prefix", value: "", ignoreCase: false }
        : stringMatch(gate, `${at(path, "allow_origin_string_match")}[${n}]`, one),
    ),
    methods: policy.allowMethods,
    headers: policy.allowHeaders,
    expose: policy.exposeHeaders,
    maxAge: policy.maxAge,
    credentials: policy.allowCredentials ?? false,
    privateNetwork: policy.allowPrivateNetworkAccess ?? false,
    forwardUnmatched: policy.forwardNotMatchingPreflights ?? true,
  };
}
