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
};

/** What is said of an unknown field. */
export function unservedField(message: string, field: number): string {
  return words[message]?.[field] ?? `field ${field} of ${message} is not supported`;
}
