// Owns: the counters of requests whose tokens were looked at, under the names that Envoy's have. Series are made with the first of their kind.

import type { Family, MetricRegistry, Series } from "../../base/metric.ts";

export type TokenResult = "allowed" | "denied" | "cors_preflight_bypassed";

export class TokenMetrics {
  readonly #families: Readonly<Record<TokenResult, Family<Series>>>;

  constructor(metrics: MetricRegistry) {
    const labels = ["envoy_http_conn_manager_prefix"];
    this.#families = {
      allowed: metrics.counter(
        "envoy_http_jwt_authn_allowed",
        "Requests without a bad token, at listeners that look at tokens (JWT); without one counts too.",
        labels,
      ),
      denied: metrics.counter("envoy_http_jwt_authn_denied", "Requests refused for their token (JWT).", labels),
      cors_preflight_bypassed: metrics.counter(
        "envoy_http_jwt_authn_cors_preflight_bypassed",
        "CORS preflights that passed without a look at tokens (JWT).",
        labels,
      ),
    };
  }

  count(listener: string, result: TokenResult): void {
    this.#families[result].with([listener]).value++;
  }
}
