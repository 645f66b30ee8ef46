// Owns: fields of Envoy's that our subset lacks and that a control plane is likely to send: their names, and what to do instead. They are refused as every
// unknown field is; here is only what is said. Never lets anything pass.

/** By message and number. */
const words: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter": {
    5: "config_discovery (ECDS) is not supported: send the filter's configuration in typed_config, with its listener",
  },
  "envoy.config.listener.v3.Filter": {
    5: "config_discovery (ECDS) is not supported: send the filter's configuration in typed_config, with its listener",
  },
  "envoy.config.listener.v3.ListenerFilter": {
    5: "config_discovery (ECDS) is not supported: send the filter's configuration in typed_config, with its listener",
  },
  "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": {
    31: "scoped_routes (SRDS) is not supported: send one table by rds, or the routes in route_config",
  },
  "envoy.extensions.filters.http.jwt_authn.v3.JwtProvider": {
    3: "remote_jwks is not supported: keys are not fetched by this proxy; send them in local_jwks",
    14: "header_in_metadata is not supported: rules know the payload alone",
    16: "failed_status_in_metadata is not supported: rules know good tokens alone",
    17: "clear_route_cache is not supported: the route is found once, before tokens are looked at",
    19: "subjects is not supported: say who may call in a policy on the claim sub",
    20: "require_expiration is not supported",
    21: "max_lifetime is not supported",
  },
  "envoy.extensions.filters.http.jwt_authn.v3.JwtRequirement": {
    2: "provider_and_audiences is not supported: name a provider with these audiences",
    5: "allow_missing_or_failed is not supported: a bad token would pass",
  },
  "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication": {
    3: "filter_state_rules is not supported: give one rule for every request",
    5: "requirement_map is not supported: give one rule for every request",
    6: "strip_failure_response is not supported",
  },
};

/** What is said of an unknown field. */
export function unservedField(message: string, field: number): string {
  return words[message]?.[field] ?? `field ${field} of ${message} is not supported`;
}
